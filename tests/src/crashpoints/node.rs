//! A node's story: the metadata group and partitions of one replica each, under the real Raft, so
//! that votes, logs, snapshots, checkpoints, trims, and the making and removing of replicas are all
//! written.

mod known;
mod running;

use std::collections::BTreeMap;

use bytes::Bytes;
use duramen_env::{CrashMode, Disk as _, Random as _, SeededRandom, SimDisk};
use duramen_raft::{Applied, Group, GroupId, Proposal, ProposalKind};
use duramen_record::{BatchBuilder, Compression, RecordRef};
use duramen_types::{LogIndex, NodeId, PartitionId, ReplicaId, Timestamp, TopicId, TopicPartition};

use super::subject::{Step, Story, Wrong};
use known::{Known, Partition};
use running::{Running, settle, within};

const DIR: &str = "/data";

/// A partition that is always there.
const FIRST: GroupId = partition(0);
/// A partition that comes and goes.
const SECOND: GroupId = partition(1);

const fn partition(number: u32) -> GroupId {
    let topic = TopicId::from_bytes([7; 16]);
    GroupId::Partition(TopicPartition { topic, partition: PartitionId::new(number) })
}

struct NodeStory {
    sim: SimDisk,
    random: SeededRandom,
    running: Option<Running>,
    known: Known,
    /// Numbers values and replicas.
    next: u64,
}

/// A node whose groups are to be founded by the first steps.
pub(super) fn begin(seed: u64) -> Box<dyn Story> {
    let sim = SimDisk::new(seed);
    sim.create_dir_all(DIR.as_ref()).expect("nothing was injected yet");
    sim.sync_dir("/".as_ref()).expect("nothing was injected yet");
    let random = SeededRandom::new(seed);
    Box::new(NodeStory {
        sim,
        random,
        running: None,
        known: Known::new(NodeId::new(1 + seed % 2)),
        next: 1,
    })
}

/// What an operation came to; `Err` ends the story.
type Done = Result<(), String>;

impl Story for NodeStory {
    fn disk(&self) -> &SimDisk {
        &self.sim
    }

    fn step(&mut self) -> Step {
        let mut during = self.known.clone();
        let (operation, done) = match self.running.take() {
            None => ("start", self.start(&during)),
            Some(running) => {
                let (operation, done) = self.operate(&running, &mut during);
                self.known.observe(&running);
                let stopped = running.fail_stop.reason();
                if operation != "kill" && operation != "power-cut" && operation != "shutdown" {
                    self.running = Some(running);
                }
                (operation, stopped.map_or(done, Err))
            }
        };
        match operation {
            "kill" => self.sim.kill(),
            "power-cut" => {
                let draw = usize::try_from(self.random.below(4)).unwrap_or(0);
                self.sim.crash(CrashMode::ALL[draw]);
                self.sim.reopen();
            }
            _ => {}
        }
        let wrong = match &done {
            Err(what) if self.sim.faults_hit() == 0 => Some(Wrong::refused(what)),
            _ => None,
        };
        let (during, after) = (Box::new(during), Box::new(self.known.clone()));
        Step { operation, during, after, is_over: done.is_err(), wrong }
    }
}

impl NodeStory {
    fn start(&mut self, during: &Known) -> Done {
        let (running, found) = during.start(&self.sim).map_err(|wrong| wrong.what)?;
        self.known.settle(found);
        self.running = Some(running);
        Ok(())
    }

    fn operate(&mut self, running: &Running, during: &mut Known) -> (&'static str, Done) {
        let has_first = during.partitions.contains_key(&FIRST);
        match self.random.below(100) {
            _ if !during.has_metadata => ("found", self.found(running, during, GroupId::Metadata)),
            _ if !has_first => ("found", self.found(running, during, FIRST)),
            0..50 => ("produce", self.produce(running, during)),
            50..66 => ("command", self.command(running, during)),
            66..76 => ("trim", self.trim(running, during)),
            76..80 => ("snapshot", self.snapshot(running)),
            80..84 => ("roll", self.roll(running)),
            84..90 => ("move", self.make_or_remove(running, during)),
            90..93 => ("shutdown", self.shutdown(running)),
            93..96 => ("kill", Ok(())),
            _ => ("power-cut", Ok(())),
        }
    }

    /// Makes a replica and founds its group.
    fn found(&mut self, running: &Running, during: &mut Known, id: GroupId) -> Done {
        self.next += 1;
        let replica = ReplicaId::new(self.next);
        during.begin(id, replica);
        running.block_on(running.found(id, replica))?;
        self.known.begin(id, replica);
        self.known.doubtful.clear();
        Ok(())
    }

    fn a_partition(&mut self, during: &Known) -> GroupId {
        let known: Vec<GroupId> = during.partitions.keys().copied().collect();
        let draw = usize::try_from(self.random.below(known.len() as u64)).unwrap_or(0);
        known.get(draw).copied().unwrap_or(FIRST)
    }

    fn value(&mut self) -> Bytes {
        self.next += 1;
        let len = usize::try_from(self.random.below(300)).unwrap_or(0);
        Bytes::from(format!("{:0len$}", self.next))
    }

    fn produce(&mut self, running: &Running, during: &mut Known) -> Done {
        let id = self.a_partition(during);
        let value = self.value();
        if let Some(partition) = during.partitions.get_mut(&id) {
            partition.maybe.push(value.clone());
        }
        let proposal = batch(&value)?;
        let group = running.group(id)?;
        let applied = running.block_on(propose(&group, proposal))?;
        if let Some(partition) = self.known.partitions.get_mut(&id) {
            partition.acknowledged.insert(applied.base_offset, (applied.index.get(), value));
        }
        Ok(())
    }

    fn command(&mut self, running: &Running, during: &mut Known) -> Done {
        let value = self.value();
        during.maybe_commands.push(value.clone());
        let (payload, records) = (value.clone(), 0);
        let (kind, max_timestamp) = (ProposalKind::Command, Timestamp::MIN);
        let proposal = Proposal { kind, payload, records, max_timestamp };
        let group = running.group(GroupId::Metadata)?;
        running.block_on(propose(&group, proposal))?;
        self.known.commands.push(value);
        Ok(())
    }

    fn trim(&mut self, running: &Running, during: &mut Known) -> Done {
        let id = self.a_partition(during);
        let group = running.group(id)?;
        let end = group.progress().borrow().applied_end.get();
        let target = self.random.below(end + 1);
        let raise = |known: &mut Partition| {
            known.trim_target = known.trim_target.max(known.offset_at(target));
        };
        during.partitions.get_mut(&id).map(raise);
        running.block_on(async {
            let term = group.serving_term().ok_or("the replica does not serve")?;
            let done = within(group.propose_log_start(LogIndex::new(target), term)).await?;
            settle().await;
            done.map_err(|error| error.to_string())
        })?;
        self.known.partitions.get_mut(&id).map(raise);
        Ok(())
    }

    fn snapshot(&mut self, running: &Running) -> Done {
        let group = running.group(GroupId::Metadata)?;
        let end = group.progress().borrow().applied_end;
        let keep = self.random.below(10);
        running.block_on(async {
            group.trigger_snapshot().await.map_err(|error| error.to_string())?;
            settle().await;
            if let Some(last) = end.prev().filter(|last| last.get() > keep) {
                let last = LogIndex::new(last.get() - keep);
                group.trigger_purge(last).await.map_err(|error| error.to_string())?;
                settle().await;
            }
            Ok(())
        })
    }

    fn roll(&mut self, running: &Running) -> Done {
        let group = running.group(FIRST)?;
        let far = Timestamp::from_millis(i64::MAX);
        group.roll_if_older(far).map_err(|error| error.to_string())
    }

    fn make_or_remove(&mut self, running: &Running, during: &mut Known) -> Done {
        let Some(replica) = during.partitions.get(&SECOND).map(|known| known.replica) else {
            return self.found(running, during, SECOND);
        };
        during.removing.insert(SECOND, replica);
        running.block_on(async {
            let removed = running.host.remove_replica(SECOND, replica).await;
            removed.map_err(|error| error.to_string())
        })?;
        self.known.partitions.remove(&SECOND);
        Ok(())
    }

    fn shutdown(&mut self, running: &Running) -> Done {
        running.block_on(async { within(running.host.shutdown()).await })
    }
}

async fn propose(group: &Group, proposal: Proposal) -> Result<Applied, String> {
    let term = group.serving_term().ok_or("the replica does not serve")?;
    let proposed = group.propose(proposal, term).await.map_err(|error| error.to_string())?;
    let applied = within(proposed.outcome()).await?.map_err(|error| error.to_string());
    settle().await;
    applied
}

fn batch(value: &[u8]) -> Result<Proposal, String> {
    let mut builder = BatchBuilder::new(Compression::None);
    let record = RecordRef { value: Some(value), ..RecordRef::default() };
    builder.append(record, [].into_iter()).map_err(|error| error.to_string())?;
    Ok(Proposal {
        kind: ProposalKind::Batches,
        payload: builder.finish(None).map_err(|error| error.to_string())?,
        records: 1,
        max_timestamp: Timestamp::EPOCH,
    })
}

/// Replicas by group.
type Replicas = BTreeMap<GroupId, ReplicaId>;
