//! How far a replay into a topic is: a small file, written whole or not at all.
//!
//! Invariant: every record of a range before its `next` is stored in the target; every later one
//! that was written is in its target partition at or behind the noted watermark.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use duramen_client::{ClusterId, TopicId};
use duramen_env::{Disk, OpenMode};
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::error::CliError;

/// The version of the file that this program writes and reads.
const FORMAT: u32 = 1;

/// A state is a few numbers a partition; anything larger is not one.
const BYTES_MAX: u64 = 64 << 20;

/// What was asked for, as it was written on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Selection {
    pub(super) partitions: Vec<u32>,
    pub(super) from_offset: Option<u64>,
    pub(super) to_offset: Option<u64>,
    pub(super) since: Option<String>,
    pub(super) until: Option<String>,
    pub(super) by_key: bool,
}

/// How far a replay is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    format: u32,
    cluster: String,
    source: String,
    target: String,
    selection: Selection,
    /// The ranges and how far each is.
    pub(super) plan: Plan,
    /// The offset of each target partition from which on to look for what was written later.
    pub(super) watermarks: BTreeMap<u32, u64>,
    /// Records written so far.
    pub(super) written: u64,
    /// Nothing was written beyond this note.
    pub(super) is_exact: bool,
}

impl State {
    /// The state before the first record.
    pub(super) fn new(
        cluster: ClusterId,
        (source, target): (TopicId, TopicId),
        selection: Selection,
        plan: Plan,
        watermarks: BTreeMap<u32, u64>,
    ) -> Self {
        Self {
            format: FORMAT,
            cluster: cluster.to_string(),
            source: source.to_string(),
            target: target.to_string(),
            selection,
            plan,
            watermarks,
            written: 0,
            is_exact: true,
        }
    }

    /// A record is stored: of this source partition, before this offset, there is nothing to do
    /// any more, and what follows in this target partition lies behind that offset.
    pub(super) fn stored(&mut self, source: (u32, u64), target: (u32, u64)) {
        if let Some(range) = self.plan.ranges.get_mut(&source.0) {
            range.next = range.next.max(source.1);
        }
        let watermark = self.watermarks.entry(target.0).or_default();
        *watermark = (*watermark).max(target.1);
        self.written += 1;
    }

    /// Whether this is the state of the same replay.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) fn check(
        &self,
        cluster: ClusterId,
        (source, target): (TopicId, TopicId),
        selection: &Selection,
        path: &Path,
    ) -> Result<(), CliError> {
        let same = self.cluster == cluster.to_string()
            && self.source == source.to_string()
            && self.target == target.to_string();
        let path = path.display();
        if !same {
            return Err(CliError::Failed(format!(
                "{path} is about other topics, or about topics that were deleted and created \
                 again: give another --state, or --restart to forget it"
            )));
        }
        if self.selection != *selection {
            return Err(CliError::Failed(format!(
                "a replay between these topics with other options was interrupted (see {path}): \
                 run that again to finish it, or add --restart to forget it"
            )));
        }
        Ok(())
    }

    /// Reads a state; `None` if there is none.
    pub(super) fn load(disk: &dyn Disk, path: &Path) -> Result<Option<Self>, CliError> {
        let file = match disk.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CliError::file("open", path)(error)),
        };
        let len = file.len().map_err(CliError::file("read", path))?.min(BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = file.read_at(&mut bytes, 0).map_err(CliError::file("read", path))?;
        bytes.truncate(read);
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(state) if state.format == FORMAT => Ok(Some(state)),
            Ok(state) => Err(unreadable(path, &format!("format {}", state.format))),
            Err(error) => Err(unreadable(path, &error.to_string())),
        }
    }

    /// Writes the state; durable when this returns.
    pub(super) fn save(&self, disk: &dyn Disk, path: &Path) -> Result<(), CliError> {
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| CliError::file("write", path)(error.into()))?;
        let temporary = path.with_extension("new");
        let write = || {
            let file = disk.open(&temporary, OpenMode::OpenOrCreate)?;
            file.set_len(0)?;
            file.write_at(&bytes, 0)?;
            file.sync_data()?;
            disk.rename(&temporary, path)?;
            disk.sync_dir(parent(path))
        };
        write().map_err(CliError::file("write", path))
    }
}

fn unreadable(path: &Path, why: &str) -> CliError {
    CliError::Failed(format!(
        "{} is no state of a replay ({why}): give another --state, or --restart",
        path.display()
    ))
}

/// The directory of a file.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The state's place if nobody says: below the user's directory for states, by cluster and topics.
pub(super) fn default_path(
    cluster: ClusterId,
    source: TopicId,
    target: TopicId,
) -> Result<PathBuf, CliError> {
    let dir = |name: &str| std::env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let base = dir("XDG_STATE_HOME").or_else(|| Some(dir("HOME")?.join(".local/state")));
    let base = base.ok_or_else(|| {
        CliError::Usage("there is no HOME to keep the replay's state in: give --state FILE".into())
    })?;
    let name = format!("{source}-{target}.json");
    Ok(base.join("duramen").join("replay").join(cluster.to_string()).join(name))
}

/// The state file, for the fuzzer.
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz {
    use super::super::plan::Range;
    use super::{ClusterId, Path, Plan, Selection, State, TopicId};
    use duramen_env::{Disk as _, OpenMode, SimDisk};

    /// Loads a file of these bytes; if it is a state, goes on with it, saves it and loads it
    /// again. Says whether it came back; `None` if it is no state.
    pub(crate) fn reload(bytes: &[u8]) -> Option<bool> {
        let (disk, path) = (SimDisk::new(1), Path::new("/replay.json"));
        let file = disk.open(path, OpenMode::CreateNew).ok()?;
        file.write_at(bytes, 0).ok()?;
        let mut state = State::load(&disk, path).ok()??;
        state.stored((3, 15), (3, 107));
        let saved = state.save(&disk, path).and_then(|()| State::load(&disk, path));
        Some(saved.is_ok_and(|again| again.as_ref() == Some(&state)))
    }

    /// A state as it is written.
    pub(crate) fn seed() -> Vec<u8> {
        let range = Range { start: 10, end: 20, next: 10 };
        let plan = Plan { ranges: [(3, range)].into(), since_ms: Some(5), until_ms: None };
        let topics = (TopicId::NIL, TopicId::NIL);
        let watermarks = [(3, 100)].into();
        let state = State::new(ClusterId::NIL, topics, Selection::default(), plan, watermarks);
        serde_json::to_vec_pretty(&state).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Range;
    use super::*;
    use duramen_env::RealDisk;

    fn state() -> State {
        let range = Range { start: 10, end: 20, next: 10 };
        let plan = Plan { ranges: [(3, range)].into(), ..Plan::default() };
        State::new(
            ClusterId::NIL,
            (TopicId::NIL, TopicId::NIL),
            Selection::default(),
            plan,
            [(3, 100)].into(),
        )
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay.json");
        assert_eq!(State::load(&RealDisk, &path).unwrap(), None);
        let mut state = state();
        state.save(&RealDisk, &path).unwrap();
        state.stored((3, 12), (3, 105));
        state.save(&RealDisk, &path).unwrap();
        assert_eq!(State::load(&RealDisk, &path).unwrap(), Some(state));
    }

    #[test]
    fn progress_never_goes_back() {
        let mut state = state();
        state.stored((3, 15), (3, 107));
        state.stored((3, 12), (1, 4));
        assert_eq!(state.plan.ranges[&3].next, 15);
        assert_eq!(state.watermarks, [(1, 4), (3, 107)].into());
        assert_eq!(state.written, 2);
    }

    #[test]
    fn a_state_of_another_replay_is_not_taken_up() {
        let (state, path, topics) = (state(), Path::new("s"), (TopicId::NIL, TopicId::NIL));
        let same = Selection::default();
        state.check(ClusterId::NIL, topics, &same, path).unwrap();
        let other = Selection { by_key: true, ..same.clone() };
        assert!(state.check(ClusterId::NIL, topics, &other, path).is_err());
        let again = (TopicId::NIL, TopicId::from_bytes([1; 16]));
        assert!(state.check(ClusterId::NIL, again, &same, path).is_err());
    }

    #[test]
    fn bytes_that_are_no_state_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay.json");
        for bytes in ["", "{}", "null", "{\"format\":1}"] {
            std::fs::write(&path, bytes).unwrap();
            assert!(State::load(&RealDisk, &path).is_err(), "{bytes}");
        }
    }
}
