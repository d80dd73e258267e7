//! Groups without work hibernate: they cost no heartbeats of their own, and hardly a tick.
//!
//! A leader whose group has had nothing to do for a while, with every member equal to it, asks the
//! members' nodes to let their replicas hibernate. If all agree, it beats no more. In the place of
//! its heartbeats one *beat* for each pair of nodes says of all hibernating groups together: those
//! that I asked you for, I lead still. A follower's patience works as ever; beats renew it.
//!
//! - Nothing here is about safety: terms, votes and logs are Raft's alone. What is at stake is that
//!   a group without a leader notices, and that a follower does not disturb a leader.
//! - A node vouches only for what it leads in the term it asked in, looked up for every beat.
//! - A follower answers only for replicas whose *saved* vote is still the asker's: so an answer
//!   renews the leader's claim that nobody else led when it was asked, as a heartbeat's does.
//! - Beats are numbered within a link. After a lost link, a lost answer or a surprise of any kind all
//!   groups concerned wake up, that is, have heartbeats again.
//! - openraft takes no proposal from a leader that it has not heard a majority answer of late: who
//!   proposes to a hibernating group wakes it up first, and waits for one round of heartbeats.

mod follower;
mod group;
mod leader;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use duramen_types::{LogIndex, NodeId, ReplicaId};
use tokio::time::Instant;

pub(crate) use self::follower::Sleepers;
#[cfg(feature = "fuzz")]
pub(crate) use self::follower::call_from_wire;
pub(crate) use self::leader::Beats;
use crate::limits;
use crate::replica::lock;
use crate::types::{LogId, Vote};

/// How awake a leader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Heartbeats go out. What does not lead is awake, too.
    Awake = 0,
    /// The same, and members have been asked to hibernate.
    Asking = 1,
    /// No heartbeats; others vouch for it.
    Asleep = 2,
    /// Heartbeats go out again, and no majority is known to have answered one yet.
    Waking = 3,
}

/// A member's node that vouches for a hibernating leader.
#[derive(Debug)]
struct Voucher {
    is_voter: bool,
    answered: Arc<Answered>,
}

/// When the beat was sent that a node answered last.
#[derive(Debug)]
struct Answered {
    base: Instant,
    ms: AtomicU64,
}

impl Answered {
    fn new(sent: Instant) -> Self {
        Self { base: sent, ms: AtomicU64::new(0) }
    }

    fn note(&self, sent: Instant) {
        let ms = sent.saturating_duration_since(self.base).as_millis();
        self.ms.store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn elapsed(&self) -> Duration {
        let sent = Duration::from_millis(self.ms.load(Ordering::Relaxed));
        self.base.elapsed().saturating_sub(sent)
    }
}

/// What a leader asks its members' nodes.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) vote: Vote,
    pub(crate) last: LogId,
    /// All members but itself.
    pub(crate) members: Vec<Member>,
}

/// A member of the group and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) replica: ReplicaId,
    pub(crate) node: NodeId,
    pub(crate) is_voter: bool,
}

/// Hibernation of one replica.
#[derive(Debug)]
pub(crate) struct Hibernation {
    stage: AtomicU8,
    asked: Mutex<Asked>,
    idle: Mutex<Idle>,
    /// Another node vouches for its leader.
    is_vouched: AtomicBool,
    /// How much of its latest frames the log keeps; 0 since it hibernates.
    tail_share: AtomicU64,
}

/// Whom a leader asked last, and who agreed.
#[derive(Debug, Default)]
struct Asked {
    term: u64,
    members: usize,
    /// Those of them that vote.
    voters: usize,
    vouchers: BTreeMap<ReplicaId, Voucher>,
}

/// Since when a log has ended where it does.
#[derive(Debug)]
struct Idle {
    end: LogIndex,
    since: Instant,
}

impl Hibernation {
    pub(crate) fn new() -> Self {
        Self {
            stage: AtomicU8::new(Stage::Awake as u8),
            asked: Mutex::default(),
            idle: Mutex::new(Idle { end: LogIndex::ZERO, since: Instant::now() }),
            is_vouched: AtomicBool::new(false),
            tail_share: AtomicU64::new(u64::MAX),
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            1 => Stage::Asking,
            2 => Stage::Asleep,
            3 => Stage::Waking,
            _ => Stage::Awake,
        }
    }

    /// Says whether it was so.
    fn advance(&self, from: Stage, to: Stage) -> bool {
        let (from, to) = (from as u8, to as u8);
        self.stage.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether nothing was appended for long, so that it is worth while.
    pub(crate) fn is_idle(&self, end: LogIndex) -> bool {
        let mut idle = lock(&self.idle);
        if idle.end != end {
            *idle = Idle { end, since: Instant::now() };
        }
        idle.since.elapsed() >= limits::HIBERNATE_AFTER
    }

    /// The term in which members were asked.
    pub(crate) fn term(&self) -> u64 {
        lock(&self.asked).term
    }

    fn ask(&self, term: u64, members: &[Member]) {
        let voters = members.iter().filter(|member| member.is_voter).count();
        let vouchers = BTreeMap::new();
        *lock(&self.asked) = Asked { term, members: members.len(), voters, vouchers };
        self.advance(Stage::Awake, Stage::Asking);
        if members.is_empty() {
            self.advance(Stage::Asking, Stage::Asleep);
        }
    }

    /// A member agreed, perhaps again.
    fn agreed(&self, replica: ReplicaId, voucher: Voucher) {
        let mut asked = lock(&self.asked);
        asked.vouchers.insert(replica, voucher);
        if asked.vouchers.len() == asked.members {
            self.advance(Stage::Asking, Stage::Asleep);
        }
    }

    /// It has something to do, or nobody vouches for it any more. Says whether it must wait for an
    /// answer to a heartbeat first.
    pub(crate) fn wake(&self) -> bool {
        if self.advance(Stage::Asking, Stage::Awake) {
            lock(&self.idle).since = Instant::now();
        }
        self.advance(Stage::Asleep, Stage::Waking) || self.stage() == Stage::Waking
    }

    /// Heartbeats have been answered, or will not be.
    pub(crate) fn awoke(&self) {
        self.advance(Stage::Waking, Stage::Awake);
    }

    /// What was vouched for is not any more; it is left alone for a while.
    fn end(&self) {
        self.wake();
        lock(&self.asked).vouchers.clear();
        lock(&self.idle).since = Instant::now();
    }

    /// The replica does not lead any more.
    pub(crate) fn resign(&self) {
        self.end();
        self.awoke();
    }

    /// How long ago a majority of the voters, with this leader, was last asked about it by beats that
    /// were answered; `None` if it was not asked.
    pub(crate) fn vouched_ago(&self) -> Option<Duration> {
        let asked = lock(&self.asked);
        let voters = asked.vouchers.values().filter(|voucher| voucher.is_voter);
        let mut ago: Vec<_> = voters.map(|voucher| voucher.answered.elapsed()).collect();
        ago.sort_unstable();
        ago.get(asked.voters.div_ceil(2).checked_sub(1)?).copied()
    }

    /// Who agreed that the group hibernates, and how long ago each was last asked about it.
    pub(crate) fn vouchers(&self) -> BTreeMap<ReplicaId, Duration> {
        let asked = lock(&self.asked);
        asked.vouchers.iter().map(|(id, voucher)| (*id, voucher.answered.elapsed())).collect()
    }

    /// Notes how much memory the log has for its latest frames; says whether that is new.
    fn share_tail(&self, bytes: u64) -> bool {
        self.tail_share.load(Ordering::Relaxed) != bytes
            && self.tail_share.swap(bytes, Ordering::Relaxed) != bytes
    }

    /// Whether another node vouches for the leader that this replica follows.
    pub(crate) fn is_vouched(&self) -> bool {
        self.is_vouched.load(Ordering::Relaxed)
    }

    pub(crate) fn set_vouched(&self, is_vouched: bool) {
        self.is_vouched.store(is_vouched, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(voters: u64, learners: u64) -> Vec<Member> {
        let member = |number| Member {
            replica: ReplicaId::new(number),
            node: NodeId::new(number),
            is_voter: number <= voters,
        };
        (1..=voters + learners).map(member).collect()
    }

    fn agree(hibernation: &Hibernation, member: &Member, answered: &Arc<Answered>) {
        let answered = Arc::clone(answered);
        hibernation.agreed(member.replica, Voucher { is_voter: member.is_voter, answered });
    }

    #[tokio::test(start_paused = true)]
    async fn a_majority_is_one_of_all_voters_and_not_of_those_that_agreed() {
        // Beside the leader, of three, four and five voters.
        for (others, needed) in [(2, 1), (3, 2), (4, 2)] {
            let hibernation = Hibernation::new();
            let members = members(others, 1);
            hibernation.ask(7, &members);
            assert_eq!(hibernation.vouched_ago(), None);
            let learner = members.last().unwrap();
            agree(&hibernation, learner, &Arc::new(Answered::new(Instant::now())));
            for (count, member) in (1..).zip(members.iter().filter(|member| member.is_voter)) {
                tokio::time::advance(Duration::from_millis(10)).await;
                let answered = Arc::new(Answered::new(Instant::now()));
                agree(&hibernation, member, &answered);
                let ago = (count >= needed).then(|| Duration::from_millis(10) * (needed - 1));
                assert_eq!(hibernation.vouched_ago(), ago, "{count} of {others} agreed");
            }
            assert_eq!(hibernation.stage(), Stage::Asleep);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_hibernates_when_each_member_agreed_and_not_when_one_did_twice() {
        let hibernation = Hibernation::new();
        let members = members(2, 0);
        let answered = Arc::new(Answered::new(Instant::now()));
        hibernation.ask(7, &members);
        agree(&hibernation, &members[0], &answered);
        agree(&hibernation, &members[0], &answered);
        assert_eq!((hibernation.stage(), hibernation.term()), (Stage::Asking, 7));
        agree(&hibernation, &members[1], &answered);
        assert_eq!(hibernation.stage(), Stage::Asleep);
        hibernation.end();
        assert_eq!((hibernation.stage(), hibernation.vouched_ago()), (Stage::Waking, None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_had_something_to_do_while_it_asked_is_left_alone_for_a_while() {
        let hibernation = Hibernation::new();
        let end = LogIndex::new(5);
        assert!(!hibernation.is_idle(end));
        tokio::time::advance(limits::HIBERNATE_AFTER).await;
        assert!(hibernation.is_idle(end));
        hibernation.ask(7, &members(2, 0));
        assert!(!hibernation.wake(), "it has had heartbeats all the time");
        assert_eq!(hibernation.stage(), Stage::Awake);
        assert!(!hibernation.is_idle(end), "what it has to do is not in the log yet");
    }
}
