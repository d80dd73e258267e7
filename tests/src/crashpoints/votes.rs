//! The votes' story: replicas vote, in many groups, and are removed; the file is rewritten.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use duramen_env::{CrashMode, Disk, Random as _, SeededRandom, SimDisk};
use duramen_raft::{GroupId, HardStateError, SavedVote, VoteStore};
use duramen_types::{ClusterId, NodeId, PartitionId, ReplicaId, Term, TopicId, TopicPartition};

use super::subject::{Expected, Found, Step, Story, Wrong, chain};

const DIR: &str = "/votes";
const CLUSTER: ClusterId = ClusterId::from_bytes([5; 16]);
/// So few that a trace rewrites the file many times.
const COMPACT_RECORDS_MIN: u64 = 24;
const REPLICAS: u64 = 5;

type Key = (GroupId, ReplicaId);

struct VoteStory {
    sim: SimDisk,
    random: SeededRandom,
    runtime: Arc<tokio::runtime::Runtime>,
    store: Option<VoteStore>,
    known: Known,
    term: u64,
}

/// What must be found.
#[derive(Clone)]
struct Known {
    /// Nodes of different seeds are different ones.
    node: NodeId,
    runtime: Arc<tokio::runtime::Runtime>,
    saved: BTreeMap<Key, SavedVote>,
    /// Votes that are being saved, or whose saving failed: they may be there instead.
    may_be: Vec<(Key, SavedVote)>,
    /// Replicas that are gone: their votes may be there or not.
    gone: BTreeMap<Key, SavedVote>,
}

fn open(sim: &SimDisk, known: &Known) -> Result<VoteStore, HardStateError> {
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let (owner, has_replicas) = ((CLUSTER, known.node), !known.saved.is_empty());
    VoteStore::open(&disk, Path::new(DIR), owner, has_replicas, COMPACT_RECORDS_MIN)
}

fn key(number: u64) -> Key {
    if number == 0 {
        return (GroupId::Metadata, ReplicaId::new(5));
    }
    let topic = TopicId::from_bytes([3; 16]);
    let partition = PartitionId::new(u32::try_from(number / 2).unwrap_or(0));
    (GroupId::Partition(TopicPartition { topic, partition }), ReplicaId::new(100 + number))
}

/// An empty vote file.
pub(super) fn begin(seed: u64) -> Box<dyn Story> {
    let sim = SimDisk::new(seed);
    sim.create_dir_all(Path::new(DIR)).expect("nothing was injected yet");
    sim.sync_dir(Path::new("/")).expect("nothing was injected yet");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = Arc::new(runtime.expect("a runtime without drivers asks nothing of the machine"));
    let known = Known {
        node: NodeId::new(1 + seed % 2),
        runtime: Arc::clone(&runtime),
        saved: BTreeMap::new(),
        may_be: Vec::new(),
        gone: BTreeMap::new(),
    };
    let random = SeededRandom::new(seed);
    Box::new(VoteStory { sim, random, runtime, store: None, known, term: 1 })
}

impl Story for VoteStory {
    fn disk(&self) -> &SimDisk {
        &self.sim
    }

    fn step(&mut self) -> Step {
        let draw = self.random.below(100);
        let number = self.random.below(REPLICAS);
        let Some(store) = self.store.take() else { return self.reopen("open") };
        match draw {
            0..80 => self.save(store, number),
            80..90 => self.forget(store, number),
            90..94 => {
                drop(store);
                self.sim.kill();
                self.reopen("kill")
            }
            _ => {
                drop(store);
                let mode = CrashMode::ALL[usize::try_from(draw % 4).unwrap_or(0)];
                self.sim.crash(mode);
                self.sim.reopen();
                self.reopen("power-cut")
            }
        }
    }
}

impl VoteStory {
    fn told(&self, operation: &'static str, during: Known, is_ok: bool) -> Step {
        Step {
            operation,
            during: Box::new(during),
            after: Box::new(self.known.clone()),
            is_over: !is_ok,
            wrong: None,
        }
    }

    fn save(&mut self, store: VoteStore, number: u64) -> Step {
        let key = key(number);
        self.term += self.random.below(2);
        let saved = self.known.saved.get(&key).or_else(|| self.known.gone.get(&key));
        let least = saved.map_or(0, |vote| vote.term.get());
        self.term = self.term.max(least);
        let vote = SavedVote {
            term: Term::new(self.term),
            voted_for: ReplicaId::new(100 + self.random.below(3)),
            committed: self.random.below(2) == 0,
        };
        let mut during = self.known.clone();
        during.may_be.push((key, vote));
        let done = self.runtime.block_on(store.save(key.0, key.1, vote));
        self.store = Some(store);
        if done.is_ok() {
            self.known.saved.insert(key, vote);
            self.known.gone.remove(&key);
        }
        self.told("save", during, done.is_ok())
    }

    fn forget(&mut self, store: VoteStore, number: u64) -> Step {
        let key = key(number);
        let Some(vote) = self.known.saved.remove(&key) else { return self.save(store, number) };
        self.known.gone.insert(key, vote);
        let during = self.known.clone();
        let done = store.forget(key.0, key.1);
        self.store = Some(store);
        self.told("forget", during, done.is_ok())
    }

    fn reopen(&mut self, operation: &'static str) -> Step {
        let during = self.known.clone();
        let opened = open(&self.sim, &self.known);
        let is_ok = opened.is_ok();
        let mut wrong = None;
        if let Ok(store) = opened {
            wrong = self.known.compare(&store).err();
            // A vote that came back is durable now.
            for (key, vote) in std::mem::take(&mut self.known.gone) {
                if store.get(key.0, key.1).is_some() {
                    self.known.saved.insert(key, vote);
                }
            }
            self.store = Some(store);
        }
        Step { wrong, ..self.told(operation, during, is_ok) }
    }
}

impl Known {
    fn compare(&self, store: &VoteStore) -> Result<String, Wrong> {
        let mut text = String::new();
        for key in (0..REPLICAS).map(key) {
            let found = store.get(key.0, key.1);
            text.push_str(&format!("{found:?} "));
            let is_saved = self.saved.get(&key).copied() == found;
            let may_be = self.may_be.iter().any(|(one, vote)| *one == key && Some(*vote) == found);
            let is_gone = self.gone.get(&key).is_some_and(|vote| found.is_none_or(|f| f == *vote));
            if !is_saved && !may_be && !is_gone {
                let saved = self.saved.get(&key);
                return Err(Wrong::lost(format!("{key:?}: {found:?} in place of {saved:?}")));
            }
        }
        Ok(text)
    }
}

impl Expected for Known {
    fn recover(&self, disk: &SimDisk) -> Result<Found, Wrong> {
        let store = open(disk, self).map_err(|error| Wrong::refused(chain(&error)))?;
        self.compare(&store)
    }

    fn carry_on(&self, disk: &SimDisk) -> Result<(), Wrong> {
        let store = open(disk, self).map_err(|error| Wrong::refused(chain(&error)))?;
        let (group, replica) = key(1);
        let (term, voted_for) = (Term::new(1 << 40), ReplicaId::new(1));
        let vote = SavedVote { term, voted_for, committed: false };
        let saved = self.runtime.block_on(store.save(group, replica, vote));
        saved.map_err(|error| Wrong::refused(chain(&error)))?;
        drop(store);
        disk.crash(CrashMode::KeepNone);
        disk.reopen();
        let store = open(disk, self).map_err(|error| Wrong::refused(chain(&error)))?;
        let found = store.get(group, replica);
        if found == Some(vote) { Ok(()) } else { Err(Wrong::lost(format!("{found:?}"))) }
    }
}
