//! Clients, a network that loses, repeats and reorders, and a coordinator.

mod judge;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use duramen_types::{MetadataIndex, Offset, PartitionId, Timestamp, TopicId, TopicPartition};

use super::client::Client;
use crate::{
    Action, Change, Command, Committer, Effect, Group, GroupName, InstanceId, Join,
    MemberAssignment, MemberEpoch, MemberId, OffsetCommit, Outcome, Racks, Refusal, Resolution,
    Sessions, State, Subscription, UniformSticky,
};

const SESSION_MS: u32 = 10_000;
const CLIENTS_MAX: usize = 12;

/// Something on its way.
#[derive(Clone, Debug)]
enum Message {
    /// From a client, or from the coordinator to Raft.
    Action(Action),
    /// From a client.
    Heartbeat(usize, MemberEpoch),
    /// To a client.
    Told(usize, MemberAssignment),
    /// To a client: it is none any more.
    Gone(usize, MemberEpoch),
}

pub(super) struct World {
    state: State,
    group: GroupName,
    sessions: Sessions,
    clients: Vec<Client>,
    network: Vec<Message>,
    /// Copies of what has arrived.
    late: Vec<Message>,
    /// Topics of the cluster: number of partitions.
    topics: BTreeMap<TopicId, u32>,
    index: u64,
    time_ms: u64,
    /// How far each partition was read by anybody, or reset to.
    delivered: BTreeMap<TopicPartition, Offset>,
    committed: BTreeMap<TopicPartition, Offset>,
    /// The fence of each partition's last reset.
    fenced: BTreeMap<TopicPartition, MemberEpoch>,
    members_made: usize,
    counts: BTreeMap<&'static str, usize>,
}

impl World {
    pub(super) fn new() -> Self {
        let topics = (0..3).map(|at| (topic(at), 2 + u32::from(at))).collect();
        Self {
            state: State::default(),
            group: GroupName::new("g").unwrap(),
            sessions: Sessions::default(),
            clients: Vec::new(),
            network: Vec::new(),
            late: Vec::new(),
            topics,
            index: 1,
            time_ms: 0,
            delivered: BTreeMap::new(),
            committed: BTreeMap::new(),
            fenced: BTreeMap::new(),
            members_made: 0,
            counts: BTreeMap::new(),
        }
    }

    /// One thing happens.
    pub(super) fn step(&mut self, kind: u8, one: usize, two: usize) {
        match kind {
            // Most of what happens is that something arrives, out of order, lost or twice.
            0..=119 => {
                self.deliver(one, kind < 8, (8..16).contains(&kind));
                (0..two % 8).for_each(|_| self.deliver(0, false, false));
            }
            120..=131 => self.start(one, two),
            132..=134 => self.crash(one),
            135..=137 => self.leave(one, two.is_multiple_of(2)),
            138..=141 => self.deliver_late(one),
            142..=171 => (0..4).for_each(|next| self.beat(one + next)),
            172..=199 => self.read_and_commit(one, two),
            200..=205 => self.change_topics(one, two),
            206..=217 => self.resolve(),
            218..=231 => self.plan(),
            232..=239 => self.pass(u64::try_from(one % 3_000).unwrap()),
            240..=243 => self.sessions = Sessions::adopt(&self.state, self.now()),
            244..=246 => self.restore(),
            247..=249 => self.reset(one, two),
            250..=253 => self.subscribe(one, two),
            254..=255 => self.delete_topic(one),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(super) fn tally(&self) -> String {
        let mut text = String::new();
        for (what, count) in &self.counts {
            write!(text, "{what} {count}, ").unwrap();
        }
        text
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.time_ms)
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.time_ms).unwrap())
    }

    fn here(&self) -> Option<&Group> {
        self.state.group(&self.group)
    }

    /// A message arrives: one of those that are longest on the way, unless it is lost; it may
    /// arrive again, much later.
    fn deliver(&mut self, which: usize, lost: bool, twice: bool) {
        if self.network.is_empty() {
            return;
        }
        let message = self.network.remove(which % self.network.len().min(6));
        if twice && self.late.len() < 30 {
            self.late.push(message.clone());
        }
        if lost {
            self.count("messages lost");
        } else {
            self.arrive(message);
        }
    }

    /// Something arrives that was on the way for long.
    fn deliver_late(&mut self, which: usize) {
        if !self.late.is_empty() {
            let message = self.late.swap_remove(which % self.late.len());
            self.count("messages late");
            self.arrive(message);
        }
    }

    fn arrive(&mut self, message: Message) {
        match message {
            Message::Action(action) => {
                self.apply(Change::Group { group: self.group.clone(), action });
            }
            Message::Heartbeat(client, epoch) => {
                let id = self.clients[client].id.clone();
                let at = (&self.group, &id);
                match self.sessions.heartbeat(&self.state, at, epoch, self.now()) {
                    Ok(_) => self.tell(&id),
                    Err(Refusal::WrongEpoch { .. } | Refusal::UnknownMember) => {
                        self.network.push(Message::Gone(client, epoch));
                    }
                    Err(_) => {}
                }
            }
            Message::Told(client, assignment) => {
                let group = self.state.group(&self.group);
                let committed = |partition| {
                    let found = group.and_then(|group| group.committed(partition));
                    found.map_or(Offset::ZERO, |committed| committed.offset)
                };
                let client = &mut self.clients[client];
                if let Some(epoch) = client.follow(&assignment, committed) {
                    let member = client.id.clone();
                    self.network.push(Message::Action(Action::Acknowledge { member, epoch }));
                }
            }
            Message::Gone(client, epoch) => {
                let client = &mut self.clients[client];
                // What was said to an earlier life does not concern this one.
                if epoch == client.epoch && epoch > MemberEpoch::ZERO {
                    client.stop();
                }
            }
        }
    }

    fn apply(&mut self, change: Change) -> Outcome {
        let before = self.state.clone();
        let command = Command { at: self.wall(), change };
        let command = Command::decode(&command.encode()).unwrap();
        let applied = self.state.apply(&command);
        assert_eq!(Outcome::decode(&applied.outcome.encode()).as_ref(), Ok(&applied.outcome));
        if matches!(applied.outcome, Outcome::Refused(_)) {
            let unchanged = State { clock: before.clock, ..self.state.clone() };
            assert_eq!(unchanged, before, "a refused command changed the state");
            self.count("commands refused");
        } else {
            self.count("commands done");
        }
        self.sessions.observe(&self.state, &applied.effects, self.now());
        for effect in &applied.effects {
            match effect {
                Effect::MemberJoined { member, .. } | Effect::AssignmentChanged { member, .. } => {
                    self.tell(member);
                }
                Effect::MemberRemoved { .. } => self.count("members removed"),
                _ => {}
            }
        }
        self.judge_command(&before, &command.change, &applied.outcome);
        self.judge_effects(&before, &applied.effects);
        applied.outcome
    }

    fn tell(&mut self, id: &MemberId) {
        let Some(at) = self.clients.iter().position(|client| client.id == *id) else { return };
        if let Some(assignment) = self.here().and_then(|group| group.assignment(id)) {
            self.network.push(Message::Told(at, assignment));
        }
    }

    fn start(&mut self, which: usize, what: usize) {
        if self.clients.iter().filter(|client| client.alive).count() >= CLIENTS_MAX {
            return;
        }
        self.members_made += 1;
        let id = MemberId::new(&format!("m{}", self.members_made)).unwrap();
        let instance = which.is_multiple_of(3).then(|| format!("i{}", which % 4));
        let instance = instance.and_then(|text| InstanceId::new(&text));
        let wants = subscription(what);
        let reading = BTreeMap::new();
        let epoch = MemberEpoch::ZERO;
        self.clients.push(Client { id, instance, alive: true, epoch, reading, wants });
        self.join(self.clients.len() - 1);
    }

    fn join(&mut self, at: usize) {
        let client = &self.clients[at];
        self.network.push(Message::Action(Action::Join(Join {
            member: client.id.clone(),
            instance: client.instance.clone(),
            client: "".into(),
            rack: "".into(),
            subscription: client.wants.clone(),
            session_ms: SESSION_MS,
            revocation_ms: 2 * SESSION_MS,
        })));
    }

    fn living(&self, which: usize) -> Option<usize> {
        let living: Vec<usize> =
            (0..self.clients.len()).filter(|at| self.clients[*at].alive).collect();
        (!living.is_empty()).then(|| living[which % living.len()])
    }

    fn crash(&mut self, which: usize) {
        if let Some(at) = self.living(which) {
            self.clients[at].stop();
            self.count("crashes");
        }
    }

    fn leave(&mut self, which: usize, returns: bool) {
        if let Some(at) = self.living(which) {
            let client = &mut self.clients[at];
            client.stop();
            let (member, epoch) = (client.id.clone(), client.epoch);
            self.network.push(Message::Action(Action::Leave { member, epoch, returns }));
        }
    }

    /// A client calls: as a member, or to become one.
    fn beat(&mut self, which: usize) {
        if let Some(at) = self.living(which) {
            self.call(at);
        }
    }

    fn call(&mut self, at: usize) {
        let epoch = self.clients[at].epoch;
        if epoch == MemberEpoch::ZERO {
            self.join(at);
        } else {
            self.network.push(Message::Heartbeat(at, epoch));
        }
    }

    fn read_and_commit(&mut self, which: usize, how: usize) {
        let Some(at) = self.living(which) else { return };
        let client = &mut self.clients[at];
        let mut offsets = Vec::new();
        for (partition, (_, position)) in &mut client.reading {
            let delivered = self.delivered.entry(*partition).or_default();
            assert!(*position <= *delivered, "{partition} is read beyond a gap");
            *position = position.saturating_add(u64::try_from(how % 3).unwrap());
            *delivered = (*delivered).max(*position);
            offsets.push(commit(*partition, *position));
        }
        let committer = Committer::Member { member: client.id.clone(), epoch: client.epoch };
        self.network.push(Message::Action(Action::Commit { committer, offsets }));
    }

    fn change_topics(&mut self, which: usize, by: usize) {
        self.index += 1;
        let number = u8::try_from(which % 5).unwrap();
        let by = u32::try_from(by % 3).unwrap();
        let count = self.topics.entry(topic(number)).or_default();
        *count = (*count + by).clamp(1, 12);
    }

    fn delete_topic(&mut self, which: usize) {
        let gone = topic(u8::try_from(which % 5).unwrap());
        self.index += 1;
        if self.topics.remove(&gone).is_some() {
            self.count("topics deleted");
            let index = MetadataIndex::new(self.index);
            self.apply(Change::ForgetTopics { index, topics: vec![gone] });
            // The id comes back here, which it does not in a cluster: what was read of it before
            // may be committed, but nothing that was committed comes back.
            self.committed.retain(|partition, _| partition.topic != gone);
        }
    }

    /// The coordinator looks up what is subscribed to.
    fn resolve(&mut self) {
        if let Some(resolution) = self.here().map(|group| self.looked_up(group)) {
            self.network.push(Message::Action(Action::Resolve(resolution)));
        }
    }

    fn looked_up(&self, group: &Group) -> Resolution {
        let (names, patterns) = group.subscriptions();
        let number = |name: &str| name.strip_prefix('t').and_then(|text| text.parse().ok());
        let existing = |name: &Arc<str>| {
            number(name).map(topic).filter(|topic| self.topics.contains_key(topic))
        };
        let names: BTreeMap<_, _> =
            names.into_iter().map(|name| (name.clone(), existing(&name))).collect();
        let all = || self.topics.keys().copied().collect();
        let patterns = patterns.into_iter().map(|text| (text, all())).collect();
        let index = MetadataIndex::new(self.index);
        Resolution { index, names, patterns, partitions: self.topics.clone() }
    }

    /// Whether a group knows all that it reads as it is. Its index alone does not say so: that
    /// moves too when a deleted topic is forgotten, whatever became of the others.
    fn is_known(&self, group: &Group) -> bool {
        let (known, now) = (group.resolution(), self.looked_up(group));
        let mut counts = known.partitions.iter();
        known.names == now.names
            && known.patterns == now.patterns
            && counts.all(|(topic, count)| now.partitions.get(topic) == Some(count))
    }

    fn plan(&mut self) {
        if let Some(action) = self.state.plan_assign(&self.group, &UniformSticky, &Racks::new()) {
            self.network.push(Message::Action(action));
            self.count("targets");
        }
    }

    fn pass(&mut self, by_ms: u64) {
        self.time_ms += by_ms;
        for proposal in self.sessions.due(&self.state, self.now(), 100) {
            self.network.push(Message::Action(proposal.action));
        }
    }

    /// A replica starts from a snapshot.
    fn restore(&mut self) {
        let restored = State::decode(&self.state.encode()).unwrap();
        assert_eq!(restored, self.state);
        self.state = restored;
        self.count("snapshots");
    }

    fn reset(&mut self, which: usize, to: usize) {
        let partitions: Vec<_> = self.committed.keys().copied().collect();
        if let Some(partition) = partitions.get(which % partitions.len().max(1)) {
            let offset = Offset::new(u64::try_from(to % 20).unwrap());
            let offsets = vec![OffsetCommit { offset, ..commit(*partition, offset) }];
            let fence = to.is_multiple_of(2).then(|| self.here().unwrap().fence());
            self.network.push(Message::Action(Action::Reset { fence, offsets }));
            self.count("resets");
        }
    }

    fn subscribe(&mut self, which: usize, what: usize) {
        if let Some(at) = self.living(which) {
            let client = &mut self.clients[at];
            client.wants = subscription(what);
            let (member, epoch) = (client.id.clone(), client.epoch);
            let subscription = client.wants.clone();
            let action = Action::Subscribe { member, epoch, subscription };
            self.network.push(Message::Action(action));
        }
    }

    /// Faults end; everything arrives. Then the group is balanced and everything is read.
    pub(super) fn calm_down(&mut self) {
        for _ in 0..100 {
            while !self.network.is_empty() {
                for message in std::mem::take(&mut self.network) {
                    self.arrive(message);
                    self.judge();
                }
            }
            if self.is_at_rest() {
                return self.judge_rest();
            }
            for at in
                (0..self.clients.len()).filter(|at| self.clients[*at].alive).collect::<Vec<_>>()
            {
                self.call(at);
            }
            self.want_what_they_want();
            self.resolve();
            self.plan();
            self.pass(1_000);
        }
        let clients: Vec<_> = self.clients.iter().filter(|client| client.alive).collect();
        panic!("the group does not come to rest: {:?} {clients:?}", self.here());
    }

    fn want_what_they_want(&mut self) {
        for client in self.clients.iter().filter(|client| client.alive) {
            let group = self.state.group(&self.group);
            let member = group.and_then(|group| group.member(&client.id));
            if member.is_some_and(|member| member.subscription != client.wants) {
                let (member, epoch) = (client.id.clone(), client.epoch);
                let subscription = client.wants.clone();
                let action = Action::Subscribe { member, epoch, subscription };
                self.network.push(Message::Action(action));
            }
        }
    }
}

fn topic(number: u8) -> TopicId {
    TopicId::from_bytes([number + 1; 16])
}

fn subscription(what: usize) -> Subscription {
    match what % 4 {
        0 => Subscription::to_names(["t0", "t1"]),
        1 => Subscription::to_names(["t1", "t2", "t9"]),
        2 => Subscription { pattern: Some("t.*".into()), ..Subscription::default() },
        _ => Subscription::to_names(["t0", "t1", "t2"]),
    }
}

fn commit(partition: TopicPartition, offset: Offset) -> OffsetCommit {
    let partition =
        TopicPartition { partition: PartitionId::new(partition.partition.get()), ..partition };
    OffsetCommit { partition, offset, leader_epoch: None, metadata: "".into() }
}
