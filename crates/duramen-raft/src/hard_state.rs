//! Votes and terms of all groups of a node, in one append-only file with group commit.
//!
//! Invariant: a vote is durable before [`HardState::save`] returns, and Raft saves a vote before
//! it appends an entry of that term, so no entry is ever acknowledged in a term whose vote could
//! be forgotten.
//!
//! Recovery: a record never straddles a sector of 512 bytes, which a disk writes whole or not at
//! all. So a record that is not all zeros and does not check is damage, and one that is zeros at a
//! place that the head or a valid record says was durable is a loss: either way a vote is lost, and
//! the node must not start under its old identity. Zeros beyond that place were never acknowledged;
//! what follows them is cut. What this cannot see (a last record that is gone with the head that
//! counted it) the logs can: none has an entry of a later term than its replica's vote. A file
//! without a sound head is lost as a whole: it comes into being by rename, with a durable head.

pub(crate) mod format;
mod vote_store;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use duramen_env::planted::{Planted, is_planted};
use duramen_env::{Disk, DiskFile, OpenMode, Tasks};
use duramen_types::{ClusterId, NodeId, ReplicaId};
use tokio::sync::{Semaphore, oneshot};

pub(crate) use self::format::Owner;
use self::format::{HEAD_BYTES, Head, RECORD_BYTES, Record, SLOT_BYTES, Slot, Votes};
pub use self::vote_store::{SavedVote, VoteStore};
use crate::group_commit::{GroupCommit, Synced};
use crate::types::{GroupId, Vote};

const FILE: &str = "hardstate";
const TEMPORARY: &str = "hardstate.new";
const GIVEN_UP: &str = "hardstate.lost";

/// The file grows by this much at a time, so that most syncs need not record a new length.
const EXTENT_BYTES: u64 = 64 << 10;

/// The file is rewritten when it holds more than twice the live records, but not below this.
const COMPACT_RECORDS_MIN: u64 = 8_192;

/// Why the hard state could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum HardStateError {
    /// A vote that was durable cannot be read any more: every vote of this node is in doubt.
    #[error(
        "could not read the votes in {path}: record {record} of {durable} durable ones is damaged; \
         this node must not vote under its identity again: move its data directory away and let \
         it join anew"
    )]
    LostVote {
        /// The file.
        path: PathBuf,
        /// The first damaged record.
        record: u64,
        /// How many records were durable for sure.
        durable: u64,
    },
    /// The file is not there although there are replicas: it was lost, or given up.
    #[error(
        "could not find the votes in {path}, and there are replicas: this node must not vote under \
         its identity again: move its data directory away and let it join anew"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is another node's.
    #[error(
        "the votes in {path} are those of node {node} of cluster {cluster}, not this node's: put \
         its own file back, or move its data directory away and let it join anew"
    )]
    OtherOwner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        node: NodeId,
        /// The cluster of that node.
        cluster: ClusterId,
    },
    /// The disk answered with an error.
    #[error("could not {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
}

/// Votes of all groups of one data directory.
#[derive(Debug)]
pub(crate) struct HardState {
    shared: Arc<Shared>,
    commit: GroupCommit,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    owner: Owner,
    compact_records_min: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Arc<dyn DiskFile>,
    /// The slot of the head that is written next.
    next_slot: u64,
    /// records durable ≤ records written ≤ allocated / record size
    durable: u64,
    written: u64,
    allocated: u64,
    live: Votes,
    poisoned: bool,
}

/// How a vote file is opened.
#[derive(Clone, Copy, Debug)]
struct Settings {
    owner: Owner,
    /// Then there must be a file.
    has_replicas: bool,
    compact_records_min: u64,
}

impl HardState {
    /// Opens the file in a directory, or creates it if there cannot have been one.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        owner: Owner,
        has_replicas: bool,
        tasks: Tasks,
    ) -> Result<Self, HardStateError> {
        let settings = Settings { owner, has_replicas, compact_records_min: COMPACT_RECORDS_MIN };
        Self::open_with(disk, dir, settings, tasks)
    }

    fn open_with(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        settings: Settings,
        tasks: Tasks,
    ) -> Result<Self, HardStateError> {
        let path = dir.join(FILE);
        let fail = |action| {
            let path = path.clone();
            move |source| HardStateError::Io { action, path, source }
        };
        let Settings { owner, has_replicas, compact_records_min } = settings;
        if !disk.exists(&path).map_err(fail("look for"))? {
            if has_replicas {
                return Err(HardStateError::Missing { path });
            }
            drop(replace(disk.as_ref(), dir, owner, &Votes::new()).map_err(fail("create"))?);
        }
        let file = disk.open(&path, OpenMode::Write).map_err(fail("open"))?;
        // Its name may come from a process that was killed, or failed, before it was durable.
        disk.sync_dir(dir).map_err(fail("sync the directory of"))?;
        let (heads, slots) = scan(&*file).map_err(fail("read"))?;
        let sound = || heads.iter().flatten();
        if let Some(head) = sound().find(|head| head.owner != owner) {
            let Owner { cluster, node } = head.owner;
            return Err(HardStateError::OtherOwner { path, node, cluster });
        }
        let Some(durable) = sound().map(|head| head.durable).max() else {
            return Err(HardStateError::LostVote { path, record: 0, durable: 0 });
        };
        let (live, written) = match recover(&slots, durable) {
            Ok(recovered) => recovered,
            Err((record, durable)) => {
                return Err(HardStateError::LostVote { path, record, durable });
            }
        };
        let end = HEAD_BYTES + written * RECORD_BYTES;
        if file.len().map_err(fail("measure"))? > end {
            // Records behind a hole were never acknowledged: they must not come back.
            file.set_len(end).map_err(fail("cut"))?;
        }
        // What was read may not have been durable yet. It is written again first: if a sync failed
        // in the process before, the kernel took the pages for clean, and a sync alone would lie.
        rewrite(&*file, HEAD_BYTES + durable * RECORD_BYTES..end).map_err(fail("rewrite"))?;
        file.sync_data().map_err(fail("sync"))?;
        // The slot that is worse goes first.
        let next_slot = u64::from(heads[1].is_none_or(|head| head.durable < durable));
        let mut state = State {
            file,
            next_slot,
            durable,
            written,
            allocated: written * RECORD_BYTES,
            live,
            poisoned: false,
        };
        state.mark_durable(written, owner).map_err(fail("write the head of"))?;
        let (disk, dir, state) = (Arc::clone(disk), dir.into(), Mutex::new(state));
        let shared = Arc::new(Shared { disk, dir, owner, compact_records_min, state });
        let syncing = Arc::clone(&shared);
        let permits = Arc::new(Semaphore::new(1));
        let commit = GroupCommit::new("hard-state-sync", tasks, permits, move || {
            syncing.sync().map(|()| Synced::Done)
        });
        Ok(Self { shared, commit })
    }

    /// The vote of a replica, if it ever cast one.
    pub(crate) fn get(&self, group: GroupId, replica: ReplicaId) -> Option<Vote> {
        self.shared.lock().live.get(&(group, replica)).copied()
    }

    /// Saves a vote; it is durable when this returns.
    pub(crate) async fn save(
        &self,
        group: GroupId,
        replica: ReplicaId,
        vote: Vote,
    ) -> io::Result<()> {
        self.shared.write(group, replica, Some(vote))?;
        if is_planted(Planted::ForgetVote) {
            return Ok(());
        }
        self.synced().await
    }

    /// Forgets a removed replica's vote; only its space is at stake, so nothing is synced.
    pub(crate) fn forget(&self, group: GroupId, replica: ReplicaId) -> io::Result<()> {
        self.shared.write(group, replica, None)
    }

    /// Puts the file aside, durably: what it says is not to be believed, and the next start must
    /// not find it.
    pub(crate) fn give_up(&self) -> io::Result<()> {
        let Shared { disk, dir, .. } = &*self.shared;
        disk.rename(&dir.join(FILE), &dir.join(GIVEN_UP))?;
        disk.sync_dir(dir)
    }

    async fn synced(&self) -> io::Result<()> {
        let (done, outcome) = oneshot::channel();
        self.commit.request(Box::new(move |result| {
            // The replica that waits may have been closed: the vote is saved all the same.
            drop(done.send(result));
        }));
        match outcome.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(io::Error::new(error.kind(), error)),
            Err(_) => Err(io::Error::other("the vote file was closed")),
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, group: GroupId, replica: ReplicaId, vote: Option<Vote>) -> io::Result<()> {
        let mut state = self.lock();
        state.check()?;
        if state.written >= self.compact_records_min && state.written > 2 * state.live.len() as u64
        {
            self.compact(&mut state)?;
        }
        let record = Record { group, replica, vote, durable: state.durable };
        state.append(&record)?;
        record.apply(&mut state.live);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let (file, written) = {
            let state = self.lock();
            state.check()?;
            (Arc::clone(&state.file), state.written)
        };
        let outcome = file.sync_data();
        let mut state = self.lock();
        match outcome {
            // A compaction in between made all durable and counts from anew.
            Ok(()) if Arc::ptr_eq(&file, &state.file) => state.mark_durable(written, self.owner),
            Ok(()) => Ok(()),
            Err(error) => {
                state.poisoned = true;
                Err(error)
            }
        }
    }

    /// Writes the live votes to a new file and puts it in the old one's place.
    fn compact(&self, state: &mut State) -> io::Result<()> {
        let outcome = self.write_compacted(state);
        if outcome.is_err() {
            state.poisoned = true;
        }
        outcome
    }

    fn write_compacted(&self, state: &mut State) -> io::Result<()> {
        let count = state.live.len() as u64;
        state.file = replace(self.disk.as_ref(), &self.dir, self.owner, &state.live)?;
        state.next_slot = 0;
        state.durable = count;
        state.written = count;
        state.allocated = count * RECORD_BYTES;
        Ok(())
    }
}

impl State {
    fn check(&self) -> io::Result<()> {
        if self.poisoned {
            return Err(io::Error::other("an earlier write of the vote file failed"));
        }
        Ok(())
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let position = self.written * RECORD_BYTES;
        if position + RECORD_BYTES > self.allocated {
            self.file.allocate(HEAD_BYTES + position, EXTENT_BYTES)?;
            self.allocated = position + EXTENT_BYTES;
        }
        if let Err(error) = self.file.write_at(&record.encode(), HEAD_BYTES + position) {
            self.poisoned = true;
            // The next start would take half a record for a lost vote. This may fail as well.
            let cleared = self.file.write_at(&[0; 64], HEAD_BYTES + position);
            drop(cleared.and_then(|()| self.file.sync_data()));
            return Err(error);
        }
        self.written += 1;
        Ok(())
    }

    /// Notes how many records are durable, and tells a later recovery; that itself is not synced.
    fn mark_durable(&mut self, durable: u64, owner: Owner) -> io::Result<()> {
        if durable <= self.durable {
            return Ok(());
        }
        let head = Head { owner, durable };
        if let Err(error) = self.file.write_at(&head.encode(), self.next_slot * SLOT_BYTES) {
            self.poisoned = true;
            return Err(error);
        }
        self.durable = durable;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}

/// Writes live votes to a new file and puts it in the old one's place, durably.
fn replace(
    disk: &dyn Disk,
    dir: &Path,
    owner: Owner,
    live: &Votes,
) -> io::Result<Arc<dyn DiskFile>> {
    let temporary = dir.join(TEMPORARY);
    if disk.exists(&temporary)? {
        disk.remove_file(&temporary)?;
    }
    let file = disk.open(&temporary, OpenMode::CreateNew)?;
    let durable = live.len() as u64;
    let head = Head { owner, durable }.encode();
    let mut bytes = [head, head].concat();
    for ((group, replica), vote) in live {
        let (group, replica, vote) = (*group, *replica, Some(*vote));
        bytes.extend(Record { group, replica, vote, durable }.encode());
    }
    file.write_at(&bytes, 0)?;
    file.sync_data()?;
    disk.rename(&temporary, &dir.join(FILE))?;
    disk.sync_dir(dir)?;
    Ok(file)
}

/// The live votes and how many records hold them; or the first lost record and how many records
/// were durable for sure.
pub(crate) fn recover(slots: &[Slot], durable: u64) -> Result<(Votes, u64), (u64, u64)> {
    let records = || slots.iter().filter_map(Slot::record);
    let durable = records().map(|record| record.durable).fold(durable, u64::max);
    let mut live = Votes::new();
    let mut written = 0;
    for slot in slots {
        match slot {
            Slot::Valid(record) => record.apply(&mut live),
            Slot::Empty => break,
            Slot::Damaged => return Err((written, durable.max(written + 1))),
        }
        written += 1;
    }
    if written < durable || slots.iter().any(|slot| matches!(slot, Slot::Damaged)) {
        return Err((written, durable));
    }
    Ok((live, written))
}

/// Writes bytes again that are there already.
fn rewrite(file: &dyn DiskFile, range: Range<u64>) -> io::Result<()> {
    let len = range.end.saturating_sub(range.start);
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let read = file.read_at(&mut bytes, range.start)?;
    bytes.truncate(read);
    file.write_at(&bytes, range.start)
}

/// Reads the whole file: the head's slots and the places for records.
pub(crate) fn scan(file: &dyn DiskFile) -> io::Result<([Option<Head>; 2], Vec<Slot>)> {
    let len = file.len()?;
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let size = |bytes: u64| usize::try_from(bytes).map_err(io::Error::other);
    let (slot_bytes, record_bytes) = (size(SLOT_BYTES)?, size(RECORD_BYTES)?);
    let first = Head::decode(&bytes);
    let second = bytes.get(slot_bytes..).and_then(Head::decode);
    let mut records = bytes.split_off(bytes.len().min(2 * slot_bytes));
    records.resize(records.len().div_ceil(record_bytes) * record_bytes, 0);
    Ok(([first, second], records.chunks_exact(record_bytes).map(Slot::read).collect()))
}

#[cfg(test)]
mod tests;
