//! Stories of groups, told by scripts: what is done, and what comes of it. The files in `stories/`
//! are script and expectation in one; `DURAMEN_GOLDEN=write` writes the expectations anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use duramen_types::{MetadataIndex, Offset, PartitionId, Timestamp, TopicId, TopicPartition};

use crate::{
    Action, Change, Command, Committer, Effect, ExpiryCause, GroupName, InstanceId, Join,
    MemberEpoch, MemberId, OffsetCommit, Outcome, Racks, Resolution, State, Subscription,
    UniformSticky,
};

/// A group, the topics of its cluster, and a coordinator that does at once what is due.
struct Stage {
    state: State,
    group: GroupName,
    topics: BTreeMap<String, (TopicId, u32)>,
    made: u8,
    clock: i64,
    said: String,
}

impl Stage {
    fn new() -> Self {
        Self {
            state: State::default(),
            group: GroupName::new("g").unwrap(),
            topics: BTreeMap::new(),
            made: 0,
            clock: 0,
            said: String::new(),
        }
    }

    fn say(&mut self, text: &str) {
        writeln!(self.said, "  {text}").unwrap();
    }

    /// One line of a script.
    fn play(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["topic", name, partitions] => {
                self.made += 1;
                let id = TopicId::from_bytes([self.made; 16]);
                self.topics.insert(name.to_owned(), (id, partitions.parse().unwrap()));
                self.coordinate();
            }
            ["delete", "topic", name] => {
                let (id, _) = self.topics.remove(name).unwrap();
                let index = self.index();
                self.apply(Change::ForgetTopics { index, topics: vec![id] });
                self.coordinate();
            }
            ["join", member, ref topics @ ..] => self.join(member, None, topics),
            ["join-static", member, instance, ref topics @ ..] => {
                self.join(member, Some(instance), topics);
            }
            ["give-back", member] => {
                let (member, epoch) = self.known(member);
                self.act(Action::Acknowledge { member, epoch });
            }
            ["leave", member] => self.leave(member, false),
            ["leave-for-restart", member] => self.leave(member, true),
            ["expire", member] => {
                let (member, epoch) = self.known(member);
                self.act(Action::Expire { member, epoch, cause: ExpiryCause::Session });
            }
            ["commit", member, partition, offset] => {
                let (_, epoch) = self.known(member);
                self.commit(member, epoch, partition, offset);
            }
            ["commit", member, "epoch", epoch, partition, offset] => {
                self.commit(member, MemberEpoch::new(epoch.parse().unwrap()), partition, offset);
            }
            ["reset", partition, offset] => {
                let offsets = vec![self.offset(partition, offset)];
                self.act(Action::Reset { fence: None, offsets });
            }
            ["reset", "fence", fence, partition, offset] => {
                let fence = Some(MemberEpoch::new(fence.parse().unwrap()));
                let offsets = vec![self.offset(partition, offset)];
                self.act(Action::Reset { fence, offsets });
            }
            ["offsets"] => self.offsets(),
            _ => panic!("no such line: {line}"),
        }
    }

    fn index(&self) -> MetadataIndex {
        MetadataIndex::new(u64::try_from(self.clock).unwrap() + 1)
    }

    fn join(&mut self, member: &str, instance: Option<&str>, topics: &[&str]) {
        let (patterns, names): (Vec<&str>, Vec<&str>) =
            topics.iter().copied().partition(|topic| topic.ends_with(".*"));
        let mut subscription = Subscription::to_names(names);
        subscription.pattern = patterns.first().map(|pattern| Arc::from(*pattern));
        self.act(Action::Join(Join {
            member: MemberId::new(member).unwrap(),
            instance: instance.and_then(InstanceId::new),
            client: "".into(),
            rack: "".into(),
            subscription,
            session_ms: 10_000,
            revocation_ms: 60_000,
        }));
    }

    fn leave(&mut self, member: &str, returns: bool) {
        let (member, epoch) = self.known(member);
        self.act(Action::Leave { member, epoch, returns });
    }

    /// A member and the epoch that it knows; one that is none any more names the last of all.
    fn known(&self, member: &str) -> (MemberId, MemberEpoch) {
        let id = MemberId::new(member).unwrap();
        let group = self.state.group(&self.group).unwrap();
        let epoch = group.member(&id).map_or(group.fence(), |member| member.epoch);
        (id, epoch)
    }

    fn partition(&self, text: &str) -> TopicPartition {
        let (topic, partition) = text.rsplit_once('/').unwrap();
        let (topic, _) = self.topics[topic];
        TopicPartition { topic, partition: PartitionId::new(partition.parse().unwrap()) }
    }

    fn offset(&self, partition: &str, offset: &str) -> OffsetCommit {
        OffsetCommit {
            partition: self.partition(partition),
            offset: Offset::new(offset.parse().unwrap()),
            leader_epoch: None,
            metadata: "".into(),
        }
    }

    fn commit(&mut self, member: &str, epoch: MemberEpoch, partition: &str, offset: &str) {
        let member = MemberId::new(member).unwrap();
        let offsets = vec![self.offset(partition, offset)];
        self.act(Action::Commit { committer: Committer::Member { member, epoch }, offsets });
    }

    /// Does something, and then what the coordinator does about it.
    fn act(&mut self, action: Action) {
        self.apply(Change::Group { group: self.group.clone(), action });
        self.coordinate();
    }

    fn coordinate(&mut self) {
        loop {
            let Some(group) = self.state.group(&self.group) else { return };
            let resolution = self.resolution();
            let known = group.resolution();
            let is_known = known.names == resolution.names
                && known.patterns == resolution.patterns
                && known.partitions == resolution.partitions;
            let action = if !is_known && group.members().next().is_some() {
                Action::Resolve(resolution)
            } else if let Some(action) =
                self.state.plan_assign(&self.group, &UniformSticky, &Racks::new())
            {
                action
            } else {
                return;
            };
            self.apply(Change::Group { group: self.group.clone(), action });
        }
    }

    fn resolution(&self) -> Resolution {
        let (names, patterns) = self.state.group(&self.group).unwrap().subscriptions();
        let mut resolution = Resolution { index: self.index(), ..Resolution::default() };
        for name in names {
            let found = self.topics.get(&*name);
            resolution.partitions.extend(found.copied());
            resolution.names.insert(name, found.map(|(topic, _)| *topic));
        }
        for pattern in patterns {
            let begin = pattern.trim_end_matches(".*");
            let matched = self.topics.iter().filter(|(name, _)| name.starts_with(begin));
            let matched: BTreeMap<TopicId, u32> = matched.map(|(_, topic)| *topic).collect();
            resolution.partitions.extend(&matched);
            resolution.patterns.insert(pattern, matched.into_keys().collect());
        }
        resolution
    }

    fn apply(&mut self, change: Change) {
        self.clock += 1;
        let command = Command { at: Timestamp::from_millis(self.clock), change };
        let applied = self.state.apply(&command);
        let named = self.named(&applied.outcome);
        self.say(&named);
        let mut told = BTreeSet::new();
        for effect in applied.effects {
            match effect {
                Effect::AssignmentChanged { member, .. } => drop(told.insert(member)),
                Effect::MemberRemoved { member, reason, .. } => {
                    let reason = format!("{reason:?}").to_lowercase();
                    self.say(&format!("{member} is none any more: {reason}"));
                }
                _ => {}
            }
        }
        for member in told {
            self.tell(&member);
        }
    }

    fn named(&self, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Committed { refused } | Outcome::OffsetsDeleted { refused } => {
                let refused: Vec<String> = refused
                    .iter()
                    .map(|(partition, why)| format!("{}: {why}", self.name(*partition)))
                    .collect();
                if refused.is_empty() { "done".into() } else { format!("refused {refused:?}") }
            }
            Outcome::Refused(why) => format!("refused: {why}"),
            Outcome::Joined { epoch } => format!("joined, epoch {epoch}"),
            Outcome::Resolved { epoch } => format!("resolved, group epoch {epoch}"),
            Outcome::Assigned { moving } => format!("assigned, {moving} to move"),
            Outcome::Acknowledged { freed } => format!("acknowledged, {freed} free"),
            Outcome::Reset { fence } => format!("reset, fence {fence}"),
            Outcome::TopicsForgotten { offsets } => format!("forgotten, {offsets} offsets"),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    fn name(&self, partition: TopicPartition) -> String {
        let of = self.topics.iter().find(|(_, (id, _))| *id == partition.topic);
        let name = of.map_or("(deleted)", |(name, _)| name.as_str());
        format!("{name}/{}", partition.partition)
    }

    fn tell(&mut self, member: &MemberId) {
        let group = self.state.group(&self.group).unwrap();
        let Some(assignment) = group.assignment(member) else { return };
        let reads: Vec<String> = assignment
            .granted
            .iter()
            .map(|(partition, since)| format!("{} since {since}", self.name(*partition)))
            .collect();
        let mut text =
            format!("tell {member}, epoch {}: reads [{}]", assignment.epoch, reads.join(", "));
        if !assignment.revoked.is_empty() {
            let back: Vec<String> = assignment.revoked.iter().map(|p| self.name(*p)).collect();
            write!(text, ", gives back [{}]", back.join(", ")).unwrap();
        }
        self.say(&text);
    }

    fn offsets(&mut self) {
        let group = self.state.group(&self.group).unwrap();
        let offsets: Vec<String> = group
            .offsets()
            .map(|(partition, committed)| format!("{} {}", self.name(partition), committed.offset))
            .collect();
        self.say(&format!("committed [{}]", offsets.join(", ")));
    }
}

/// Plays the script in a file and gives it with what came of it.
fn told(script: &str) -> String {
    let mut stage = Stage::new();
    for line in script.lines() {
        if line.starts_with("  ") {
            continue;
        }
        stage.said.push_str(line);
        stage.said.push('\n');
        if let Some(done) = line.strip_prefix("> ") {
            stage.play(done);
        }
    }
    stage.said
}

#[test]
fn every_story_goes_as_it_is_told() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tests/stories");
    let mut stories = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let script = std::fs::read_to_string(&path).unwrap();
        let found = told(&script);
        if std::env::var_os("DURAMEN_GOLDEN").is_some_and(|value| value == "write") {
            std::fs::write(&path, &found).unwrap();
        } else {
            assert_eq!(found, script, "{}", path.display());
        }
        stories += 1;
    }
    assert_eq!(stories, 8);
}
