//! Votes and terms of all groups of a node, in one append-only file with group commit.
//!
//! Invariant: a vote is durable before [`HardState::save`] returns, and Raft saves a vote before
//! it appends an entry of that term, so no entry is ever acknowledged in a term whose vote could
//! be forgotten.
//!
//! Recovery: a record never straddles a sector of 512 bytes, which a disk writes whole or not at
//! all. So a record that is not all zeros and does not check is damage, and one that is zeros at a
//! place that a valid record says was durable is a loss: either way a vote is lost, and the node
//! must not start under its old identity. Zeros beyond that place were never acknowledged; what
//! follows them is cut. What this cannot see (a last record that is gone) the logs can: none has an
//! entry of a later term than its replica's vote.

pub(crate) mod format;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use duramen_env::planted::{Planted, is_planted};
use duramen_env::{Disk, DiskFile, OpenMode, Tasks};
use duramen_types::ReplicaId;
use tokio::sync::{Semaphore, oneshot};

use self::format::{RECORD_BYTES, Record, Slot, Votes};
use crate::group_commit::GroupCommit;
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
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Arc<dyn DiskFile>,
    /// records durable ≤ records written ≤ allocated / record size
    durable: u64,
    written: u64,
    allocated: u64,
    live: Votes,
    poisoned: bool,
}

impl HardState {
    /// Opens the file in a directory, or creates it if there cannot have been one.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        has_replicas: bool,
        tasks: Tasks,
    ) -> Result<Self, HardStateError> {
        let path = dir.join(FILE);
        let fail = |action| {
            let path = path.clone();
            move |source| HardStateError::Io { action, path, source }
        };
        if has_replicas && !disk.exists(&path).map_err(fail("look for"))? {
            return Err(HardStateError::Missing { path });
        }
        let file = disk.open(&path, OpenMode::OpenOrCreate).map_err(fail("open"))?;
        disk.sync_dir(dir).map_err(fail("sync the directory of"))?;
        let slots = scan(&*file).map_err(fail("read"))?;
        let (live, written) = match recover(&slots) {
            Ok(recovered) => recovered,
            Err((record, durable)) => {
                return Err(HardStateError::LostVote { path, record, durable });
            }
        };
        if file.len().map_err(fail("measure"))? > written * RECORD_BYTES {
            // Records behind a hole were never acknowledged: they must not come back.
            file.set_len(written * RECORD_BYTES).map_err(fail("cut"))?;
        }
        // What was read may not have been durable yet. If a sync of it failed, the kernel counts it
        // as written and another sync would do nothing: it is written once more.
        rewrite_tail(&*file, &slots, written).map_err(fail("write"))?;
        file.sync_data().map_err(fail("sync"))?;
        let allocated = written * RECORD_BYTES;
        let state = State { file, durable: written, written, allocated, live, poisoned: false };
        let shared = Shared { disk: Arc::clone(disk), dir: dir.into(), state: Mutex::new(state) };
        let shared = Arc::new(shared);
        let syncing = Arc::clone(&shared);
        let permits = Arc::new(Semaphore::new(1));
        let commit = GroupCommit::new("hard-state-sync", tasks, permits, move || syncing.sync());
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
        if state.written >= COMPACT_RECORDS_MIN && state.written > 2 * state.live.len() as u64 {
            self.compact(&mut state)?;
        }
        let record = Record { group, replica, vote, durable: state.durable };
        record.apply(&mut state.live);
        state.append(&record)
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
            Ok(()) if Arc::ptr_eq(&file, &state.file) => state.durable = state.durable.max(written),
            Ok(()) => {}
            Err(error) => {
                state.poisoned = true;
                return Err(error);
            }
        }
        Ok(())
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
        let temporary = self.dir.join(TEMPORARY);
        if self.disk.exists(&temporary)? {
            self.disk.remove_file(&temporary)?;
        }
        let file = self.disk.open(&temporary, OpenMode::CreateNew)?;
        let count = state.live.len() as u64;
        let mut bytes = Vec::new();
        for ((group, replica), vote) in &state.live {
            let (group, replica, vote) = (*group, *replica, Some(*vote));
            bytes.extend(Record { group, replica, vote, durable: count }.encode());
        }
        file.write_at(&bytes, 0)?;
        file.sync_data()?;
        self.disk.rename(&temporary, &self.dir.join(FILE))?;
        self.disk.sync_dir(&self.dir)?;
        state.file = file;
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
            self.file.allocate(position, EXTENT_BYTES)?;
            self.allocated = position + EXTENT_BYTES;
        }
        if let Err(error) = self.file.write_at(&record.encode(), position) {
            self.poisoned = true;
            return Err(error);
        }
        self.written += 1;
        Ok(())
    }
}

/// The live votes and how many records hold them; or the first lost record and how many records
/// were durable for sure.
pub(crate) fn recover(slots: &[Slot]) -> Result<(Votes, u64), (u64, u64)> {
    let records = || slots.iter().filter_map(Slot::record);
    let durable = records().map(|record| record.durable).max().unwrap_or(0);
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

/// Writes the records that are not known to be durable as they are.
fn rewrite_tail(file: &dyn DiskFile, slots: &[Slot], written: u64) -> io::Result<()> {
    let durable = slots.iter().filter_map(Slot::record).map(|record| record.durable).max();
    let from = durable.unwrap_or(0).min(written) * RECORD_BYTES;
    let len = usize::try_from(written * RECORD_BYTES - from).map_err(io::Error::other)?;
    let mut tail = vec![0; len];
    let read = file.read_at(&mut tail, from)?;
    file.write_at(tail.get(..read).unwrap_or_default(), from)
}

/// Reads the whole file, record by record.
pub(crate) fn scan(file: &dyn DiskFile) -> io::Result<Vec<Slot>> {
    let len = file.len()?;
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let record_bytes = usize::try_from(RECORD_BYTES).map_err(io::Error::other)?;
    bytes.resize(read.div_ceil(record_bytes) * record_bytes, 0);
    Ok(bytes.chunks_exact(record_bytes).map(Slot::read).collect())
}

#[cfg(test)]
mod tests;
