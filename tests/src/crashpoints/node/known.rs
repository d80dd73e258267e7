//! What a node acknowledged, and so must still have.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};

use bytes::Bytes;
use duramen_env::{CrashMode, SimDisk};
use duramen_raft::GroupId;
use duramen_types::{NodeId, Offset, ReplicaId, Term};

use super::running::Running;
use super::{Replicas, batch, propose};
use crate::crashpoints::subject::{Expected, Found, Wrong};

/// What is known of a partition.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    pub(super) replica: ReplicaId,
    /// Acknowledged values by offset, with their log index.
    pub(super) acknowledged: BTreeMap<Offset, (u64, Bytes)>,
    /// Values that were proposed and may be there.
    pub(super) maybe: Vec<Bytes>,
    /// The log starts here or later: this much was trimmed.
    pub(super) trimmed: Offset,
    /// The log starts here or before: no more was asked for.
    pub(super) trim_target: Offset,
}

impl Partition {
    /// The offset of the first acknowledged record at or after a log index.
    pub(super) fn offset_at(&self, index: u64) -> Offset {
        let mut all = self.acknowledged.iter();
        let found = all.find(|(_, (at, _))| *at >= index).map(|(offset, _)| *offset);
        let last = self.acknowledged.keys().next_back();
        found.or_else(|| last.map(|last| last.saturating_add(1))).unwrap_or(self.trim_target)
    }
}

/// What a node must have.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Nodes of different seeds are different ones.
    node: NodeId,
    pub(super) has_metadata: bool,
    metadata: Replicas,
    pub(super) partitions: BTreeMap<GroupId, Partition>,
    /// Replicas that are being made.
    pub(super) doubtful: Replicas,
    /// Replicas that are being removed: a node that starts goes on with it.
    pub(super) removing: Replicas,
    pub(super) commands: Vec<Bytes>,
    pub(super) maybe_commands: Vec<Bytes>,
    /// The last term that each group served in.
    terms: BTreeMap<(GroupId, ReplicaId), Term>,
}

/// What a started node has.
pub(super) struct Contents {
    open: Replicas,
    records: BTreeMap<GroupId, BTreeMap<Offset, Bytes>>,
    commands: Vec<Bytes>,
}

impl Known {
    /// Nothing yet.
    pub(super) fn new(node: NodeId) -> Self {
        Self {
            node,
            has_metadata: false,
            metadata: Replicas::new(),
            partitions: BTreeMap::new(),
            doubtful: Replicas::new(),
            removing: Replicas::new(),
            commands: Vec::new(),
            maybe_commands: Vec::new(),
            terms: BTreeMap::new(),
        }
    }

    /// A replica is made.
    pub(super) fn begin(&mut self, id: GroupId, replica: ReplicaId) {
        self.doubtful.insert(id, replica);
        if id == GroupId::Metadata {
            self.has_metadata = true;
            self.metadata.insert(id, replica);
            return;
        }
        let partition = Partition {
            replica,
            acknowledged: BTreeMap::new(),
            maybe: Vec::new(),
            trimmed: Offset::ZERO,
            trim_target: Offset::ZERO,
        };
        self.partitions.insert(id, partition);
    }

    /// Notes what a running node shows and is bound by.
    pub(super) fn observe(&mut self, running: &Running) {
        for group in running.host.groups() {
            if let Some(term) = group.serving_term() {
                self.terms.insert((group.id(), group.replica()), term);
            }
            if let Some(partition) = self.partitions.get_mut(&group.id()) {
                let start = group.progress().borrow().log_start_offset;
                partition.trimmed = partition.trimmed.max(start.min(partition.trim_target));
            }
        }
    }

    /// Goes on from what was found.
    pub(super) fn settle(&mut self, found: Contents) {
        self.partitions.retain(|id, _| found.open.contains_key(id));
        self.has_metadata = found.open.contains_key(&GroupId::Metadata);
        self.metadata.retain(|id, _| found.open.contains_key(id));
        self.doubtful.clear();
        self.maybe_commands.clear();
        self.commands = found.commands;
        for (id, records) in found.records {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            partition.maybe.clear();
            for (offset, value) in records {
                // Its index is not known; none is so high that a trim would reach it.
                partition.acknowledged.entry(offset).or_insert((u64::MAX, value));
            }
        }
    }

    fn certain(&self) -> Replicas {
        let mut all = self.metadata.clone();
        all.extend(self.partitions.iter().map(|(id, known)| (*id, known.replica)));
        all.retain(|id, replica| {
            let wanted = Some(&*replica);
            self.doubtful.get(id) != wanted && self.removing.get(id) != wanted
        });
        all
    }

    /// Starts a node on a disk and compares what it has.
    pub(super) fn start(&self, sim: &SimDisk) -> Result<(Running, Contents), Wrong> {
        let running = Running::start(sim, self.node)?;
        running.block_on(running.remove_all(&self.removing))?;
        let open = running.block_on(running.open_all(&self.certain(), &self.doubtful))?;
        let mut records = BTreeMap::new();
        for (id, replica) in &open {
            let term = running.group(*id).ok().and_then(|group| group.serving_term());
            let known = self.terms.get(&(*id, *replica)).copied();
            if term.is_some() && term <= known {
                let what = format!("{id} serves in term {term:?} again, after {known:?}");
                return Err(Wrong::changed(what));
            }
            if let Some(known) = self.partitions.get(id) {
                let found = running.block_on(running.records(*id)).map_err(Wrong::refused)?;
                let start = running.group(*id).map_err(Wrong::refused)?;
                let start = start.progress().borrow().log_start_offset;
                known.compare(*id, start, &found)?;
                records.insert(*id, found);
            }
        }
        let commands = running.commands();
        self.compare_commands(&commands)?;
        Ok((running, Contents { open, records, commands }))
    }

    fn compare_commands(&self, found: &[Bytes]) -> Result<(), Wrong> {
        let Some(more) = found.strip_prefix(&self.commands[..]) else {
            let (found, known) = (found.len(), self.commands.len());
            return Err(Wrong::lost(format!("{found} commands, and not the {known} applied")));
        };
        if more.iter().all(|command| self.maybe_commands.contains(command)) {
            Ok(())
        } else {
            Err(Wrong::changed("a command that nobody gave"))
        }
    }
}

impl Partition {
    fn compare(
        &self,
        id: GroupId,
        start: Offset,
        found: &BTreeMap<Offset, Bytes>,
    ) -> Result<(), Wrong> {
        if start < self.trimmed {
            let trimmed = self.trimmed;
            return Err(Wrong::changed(format!("{id} starts at {start}, trimmed to {trimmed}")));
        }
        if start > self.trim_target {
            let target = self.trim_target;
            return Err(Wrong::lost(format!("{id} starts at {start}, asked for {target}")));
        }
        for (offset, (_, value)) in self.acknowledged.range(start..) {
            if found.get(offset) != Some(value) {
                return Err(Wrong::lost(format!("{id}: the record at {offset} is gone")));
            }
        }
        let mut more = found.iter().filter(|(offset, _)| !self.acknowledged.contains_key(offset));
        match more.find(|(_, value)| !self.maybe.contains(value)) {
            Some((offset, _)) => Err(Wrong::changed(format!("{id}: who wrote {offset}?"))),
            None => Ok(()),
        }
    }
}

impl Expected for Known {
    fn recover(&self, disk: &SimDisk) -> Result<Found, Wrong> {
        let (_, found) = self.start(disk)?;
        let mut text = format!("{:?}, {} commands", found.open, found.commands.len());
        for (id, records) in &found.records {
            let mut hasher = std::hash::DefaultHasher::new();
            let target = self.partitions.get(id).map_or(Offset::ZERO, |known| known.trim_target);
            records.range(target..).for_each(|record| record.hash(&mut hasher));
            text.push_str(&format!(", {:016x}", hasher.finish()));
        }
        Ok(text)
    }

    fn carry_on(&self, disk: &SimDisk) -> Result<(), Wrong> {
        let (running, found) = self.start(disk)?;
        let value = Bytes::from_static(b"one more");
        let mut expected = self.clone();
        expected.settle(found);
        let ids: Vec<GroupId> = expected.partitions.keys().copied().collect();
        for id in ids {
            let group = running.group(id).map_err(Wrong::refused)?;
            let proposal = batch(&value).map_err(Wrong::refused)?;
            let applied = running.block_on(propose(&group, proposal)).map_err(Wrong::refused)?;
            if let Some(known) = expected.partitions.get_mut(&id) {
                known.acknowledged.insert(applied.base_offset, (u64::MAX, value.clone()));
            }
        }
        expected.observe(&running);
        drop(running);
        disk.crash(CrashMode::KeepNone);
        disk.reopen();
        expected.start(disk).map(drop)
    }
}
