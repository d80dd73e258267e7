//! Who a data directory says this node is: `identity.json`, written whole or not at all.
//!
//! ```text
//!            first use                 every seed agreed, or a formed cluster took it in
//!  (nothing) ─────────▶ empty ──┬──▶ forming ──▶ member
//!                               └──▶ joining ──▶ member
//! ```
//! An incarnation is drawn at first use: a directory that was wiped is a new incarnation, and can
//! never vote or acknowledge as the old one. A member whose metadata or votes are damaged draws
//! another one, and is joining again.

use std::io;
use std::path::{Path, PathBuf};

use duramen_env::{Disk, OpenMode, Random};
use duramen_types::{ClusterId, NodeId, ReplicaId};
use serde::{Deserialize, Serialize};

const NAME: &str = "identity.json";
const TEMPORARY: &str = "identity.json.new";
const FORMAT: u32 = 1;

/// Files and directories whose presence without an identity means that the identity was lost.
const TRACES: [&str; 3] = ["hardstate", "metadata", "partitions"];

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk answered with an error.
    #[error("could not {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be read.
    #[error(
        "could not read {path}: it is damaged or of a later version; restore it, or move the \
             data directory away and let the node join anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The directory has data but no identity.
    #[error(
        "{dir} holds data but no {NAME}: it may be half of a directory; restore the file, or \
             move the directory away and let the node join anew"
    )]
    Lost {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory belongs to another node.
    #[error("{dir} belongs to node {found}, and this is node {expected}: check --id and --dir")]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who this is.
        expected: NodeId,
    },
}

/// A member of the metadata group as it was founded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founder {
    /// The node.
    pub node: u64,
    /// Its incarnation.
    pub incarnation: u64,
    /// Where its peer listener was.
    pub peer_address: String,
}

/// How far the node is on its way into a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// It belongs to no cluster.
    Empty,
    /// It is the first seed and founds one; or it agreed to be a founder.
    Forming {
        /// The cluster's id.
        cluster: String,
        /// Who founds it.
        founders: Vec<Founder>,
        /// Whether this is the first seed, which founds.
        first: bool,
    },
    /// A formed cluster is taking it in.
    Joining {
        /// The cluster's id.
        cluster: String,
        /// Members it knows of.
        founders: Vec<Founder>,
    },
    /// It belongs to a cluster.
    Member {
        /// The cluster's id.
        cluster: String,
        /// Members it knew of when it became one; only hints of where to ask.
        founders: Vec<Founder>,
    },
}

/// The file: an identity and its checksum.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    identity: Identity,
    /// CRC-32 of the identity's compact JSON.
    checksum: u32,
}

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    format: u32,
    node: u64,
    incarnation: u64,
    #[serde(flatten)]
    phase: Phase,
}

/// Below 2^63, so that it is the same number everywhere.
fn draw_incarnation(random: &dyn Random) -> u64 {
    (random.next_u64() >> 1).max(1)
}

impl Identity {
    /// Reads the identity of a directory, or makes a new one in an empty directory. Durable when
    /// this returns.
    ///
    /// # Errors
    /// [`IdentityError`]; the node must not start.
    pub fn open(
        disk: &dyn Disk,
        random: &dyn Random,
        dir: &Path,
        node: NodeId,
    ) -> Result<Self, IdentityError> {
        let path = dir.join(NAME);
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Io { action, path, source }
        };
        disk.create_dir_all(dir).map_err(io("create", dir))?;
        let exists = disk.exists(&path).map_err(io("look for", &path))?;
        if !exists {
            for trace in TRACES {
                if disk.exists(&dir.join(trace)).map_err(io("look into", dir))? {
                    return Err(IdentityError::Lost { dir: dir.to_owned() });
                }
            }
            sync_names_above(disk, dir).map_err(io("make durable the name of", dir))?;
            let incarnation = draw_incarnation(random);
            let identity =
                Self { format: FORMAT, node: node.get(), incarnation, phase: Phase::Empty };
            identity.save(disk, dir)?;
            return Ok(identity);
        }
        // It may have been renamed by a process that ended before that was durable.
        disk.sync_dir(dir).map_err(io("sync", dir))?;
        let file = disk.open(&path, OpenMode::Read).map_err(io("open", &path))?;
        let len = file.len().map_err(io("read", &path))?.min(1 << 20);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = file.read_at(&mut bytes, 0).map_err(io("read", &path))?;
        bytes.truncate(read);
        let identity =
            Self::decode(&bytes).map_err(|source| IdentityError::Damaged { path, source })?;
        if identity.node() != node {
            let (found, dir) = (identity.node(), dir.to_owned());
            return Err(IdentityError::OtherNode { dir, found, expected: node });
        }
        Ok(identity)
    }

    fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        use serde::de::Error as _;
        let Stored { identity, checksum } = serde_json::from_slice(bytes)?;
        if identity.format != FORMAT {
            return Err(serde_json::Error::custom("the format is of a later version"));
        }
        if identity.checksum()? != checksum {
            return Err(serde_json::Error::custom("the checksum does not match"));
        }
        Ok(identity)
    }

    fn checksum(&self) -> Result<u32, serde_json::Error> {
        Ok(crc32fast::hash(&serde_json::to_vec(self)?))
    }

    /// The node's number.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        NodeId::new(self.node)
    }

    /// The life of its directory.
    #[must_use]
    pub const fn incarnation(&self) -> ReplicaId {
        ReplicaId::new(self.incarnation)
    }

    /// How far it is.
    #[must_use]
    pub const fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The cluster it belongs to, is founding or joins.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        match &self.phase {
            Phase::Empty => None,
            Phase::Forming { cluster, .. }
            | Phase::Joining { cluster, .. }
            | Phase::Member { cluster, .. } => ClusterId::parse(cluster),
        }
    }

    /// Members it knows of.
    #[must_use]
    pub fn founders(&self) -> &[Founder] {
        match &self.phase {
            Phase::Empty => &[],
            Phase::Forming { founders, .. }
            | Phase::Joining { founders, .. }
            | Phase::Member { founders, .. } => founders,
        }
    }

    /// Moves on to a phase. Durable when this returns.
    ///
    /// # Errors
    /// [`IdentityError::Io`]; the phase is unchanged then.
    pub fn enter(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        phase: Phase,
    ) -> Result<(), IdentityError> {
        let next = Self { phase, ..self.clone() };
        next.save(disk, dir)?;
        *self = next;
        Ok(())
    }

    /// Begins anew as a joiner of the same cluster, under an incarnation that was never used.
    /// Durable when this returns.
    ///
    /// # Errors
    /// [`IdentityError::Io`]; the identity is unchanged then.
    pub(crate) fn begin_anew(
        &mut self,
        disk: &dyn Disk,
        random: &dyn Random,
        dir: &Path,
    ) -> Result<(), IdentityError> {
        let (Phase::Joining { cluster, founders } | Phase::Member { cluster, founders }) =
            self.phase.clone()
        else {
            return Ok(());
        };
        let phase = Phase::Joining { cluster, founders };
        let next = Self { incarnation: draw_incarnation(random), phase, ..self.clone() };
        next.save(disk, dir)?;
        *self = next;
        Ok(())
    }

    /// Writes a copy for people into another directory.
    ///
    /// # Errors
    /// [`IdentityError::Io`].
    pub(crate) fn copy_to(&self, disk: &dyn Disk, dir: &Path) -> Result<(), IdentityError> {
        self.save(disk, dir)
    }

    fn save(&self, disk: &dyn Disk, dir: &Path) -> Result<(), IdentityError> {
        let temporary = dir.join(TEMPORARY);
        let written = || -> io::Result<()> {
            if disk.exists(&temporary)? {
                disk.remove_file(&temporary)?;
            }
            let file = disk.open(&temporary, OpenMode::CreateNew)?;
            let stored = Stored { identity: self.clone(), checksum: self.checksum()? };
            file.write_at(&serde_json::to_vec_pretty(&stored)?, 0)?;
            file.sync_data()?;
            disk.rename(&temporary, &dir.join(NAME))?;
            disk.sync_dir(dir)
        };
        written().map_err(|source| IdentityError::Io {
            action: "write",
            path: dir.join(NAME),
            source,
        })
    }
}

/// Makes the names of a new data directory and of what was made above it durable: without it a
/// power cut takes the directory with all that was acknowledged in it.
fn sync_names_above(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    for above in dir.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match disk.sync_dir(above) {
            // Nobody who may not read a directory has made a name in it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            synced => synced?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use duramen_env::{CrashMode, RealDisk, SeededRandom, SimDisk};

    use super::*;

    fn open(dir: &Path, node: u64, seed: u64) -> Result<Identity, IdentityError> {
        Identity::open(&RealDisk, &SeededRandom::new(seed), dir, NodeId::new(node))
    }

    #[test]
    fn a_power_cut_does_not_take_a_new_directory() {
        let disk = SimDisk::new(1);
        let open = |seed| {
            let dir = Path::new("/srv/duramen/data");
            Identity::open(&disk, &SeededRandom::new(seed), dir, NodeId::new(1)).unwrap()
        };
        let first = open(1);
        disk.crash(CrashMode::KeepNone);
        disk.reopen();
        assert_eq!(open(2), first);
    }

    #[test]
    fn an_identity_survives_a_restart_and_a_wiped_directory_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), 1, 1).unwrap();
        assert_eq!(open(dir.path(), 1, 2).unwrap(), first);
        std::fs::remove_file(dir.path().join(NAME)).unwrap();
        assert_ne!(open(dir.path(), 1, 3).unwrap().incarnation(), first.incarnation());
    }

    #[test]
    fn a_member_begins_anew_as_a_joiner_of_its_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let mut identity = open(dir.path(), 1, 1).unwrap();
        let random = SeededRandom::new(2);
        let before = identity.clone();
        identity.begin_anew(&RealDisk, &random, dir.path()).unwrap();
        assert_eq!(identity, before, "a node of no cluster has nothing to begin anew");
        let cluster = ClusterId::from_random([5; 16]);
        let founders = vec![Founder { node: 2, incarnation: 2, peer_address: "a:1".into() }];
        let phase = Phase::Member { cluster: cluster.to_string(), founders: founders.clone() };
        identity.enter(&RealDisk, dir.path(), phase).unwrap();
        identity.begin_anew(&RealDisk, &random, dir.path()).unwrap();
        assert_eq!(open(dir.path(), 1, 9).unwrap(), identity);
        assert_ne!(identity.incarnation(), before.incarnation());
        assert!(matches!(identity.phase(), Phase::Joining { .. }));
        assert_eq!((identity.cluster(), identity.founders()), (Some(cluster), &founders[..]));
    }

    #[test]
    fn a_directory_of_another_node_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), 1, 1).unwrap();
        assert!(matches!(open(dir.path(), 2, 1), Err(IdentityError::OtherNode { .. })));
    }

    #[test]
    fn data_without_an_identity_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("metadata")).unwrap();
        assert!(matches!(open(dir.path(), 1, 1), Err(IdentityError::Lost { .. })));
    }

    #[test]
    fn no_damaged_byte_makes_another_identity() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), 1, 1).unwrap();
        let path = dir.path().join(NAME);
        let sound = std::fs::read(&path).unwrap();
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            // White space may differ without harm.
            if let Ok(found) = open(dir.path(), 1, 1) {
                assert_eq!(found, first, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_phase_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut identity = open(dir.path(), 1, 1).unwrap();
        let cluster = ClusterId::from_random([5; 16]);
        let founders = vec![Founder { node: 1, incarnation: 2, peer_address: "a:1".into() }];
        let phase = Phase::Member { cluster: cluster.to_string(), founders };
        identity.enter(&RealDisk, dir.path(), phase).unwrap();
        let again = open(dir.path(), 1, 9).unwrap();
        assert_eq!(again.cluster(), Some(cluster));
        assert_eq!(again.founders().len(), 1);
    }
}
