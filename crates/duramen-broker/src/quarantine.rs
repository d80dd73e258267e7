//! What a node does whose own files are damaged: it puts them aside, nothing is deleted, and joins
//! its cluster anew under another incarnation.
//!
//! - A damaged or lost replica of the metadata: only that is put aside. Partition replicas have
//!   votes and ids of their own and go on.
//! - A damaged or lost vote: every vote of the directory is in doubt, so all replicas are put aside
//!   and replaced by new ones.
//!
//! Files are moved first and the identity is written last: whatever a crash leaves is found to be
//! damaged or lost again. A node that began anew never founds a cluster; it waits for a majority of
//! the members of its own, and without one it waits for the operator.

use std::io;
use std::path::{Path, PathBuf};

use duramen_env::{Disk, Env};
use duramen_raft::{GroupOpenError, HardStateError, HostError};

use crate::broker::NodeError;
use crate::identity::{Identity, IdentityError, Phase};
use crate::shared_identity::SharedIdentity;

/// Files and directories that hold votes and replicas.
const ALL: [&str; 5] = ["partitions", "metadata", "metadata.lost", "hardstate.lost", "hardstate"];

/// The node's replica of the metadata.
const METADATA: [&str; 2] = ["metadata", "metadata.lost"];

/// Why and how a node begins anew.
struct Damage {
    what: &'static str,
    names: &'static [&'static str],
}

fn damage(error: &NodeError) -> Option<Damage> {
    match error {
        NodeError::Host(HostError::HardState(
            HardStateError::LostVote { .. } | HardStateError::Missing { .. },
        ))
        | NodeError::Metadata(GroupOpenError::VoteLost { .. }) => {
            Some(Damage { what: "votes", names: &ALL })
        }
        NodeError::Metadata(error) if error.is_loss() => {
            Some(Damage { what: "replica of the metadata", names: &METADATA })
        }
        _ => None,
    }
}

/// Puts damaged files aside and begins anew, if that is what an error calls for and others can take
/// the node in; says whether it did.
///
/// # Errors
/// [`IdentityError`]; what was moved stays moved.
pub(crate) fn begin_anew(
    env: &Env,
    (dir, own_address): (&Path, &str),
    identity: &SharedIdentity,
    error: &NodeError,
) -> Result<bool, IdentityError> {
    let Some(Damage { what, names }) = damage(error) else { return Ok(false) };
    let before = identity.get();
    let is_of_cluster = matches!(before.phase(), Phase::Joining { .. } | Phase::Member { .. });
    let has_others = before.founders().iter().any(|other| other.peer_address != own_address);
    if !is_of_cluster || !has_others {
        return Ok(false);
    }
    let io = |source| IdentityError::Io { action: "put aside files of", path: dir.into(), source };
    let aside = put_aside(&*env.disk, dir, &before, names).map_err(io)?;
    before.copy_to(&*env.disk, &aside)?;
    identity.begin_anew(&*env.random)?;
    let now = identity.get();
    tracing::error!(
        reason = crate::error::with_causes(error),
        aside = %aside.display(),
        before = %before.incarnation(),
        now = %now.incarnation(),
        "this node's {what} are damaged or lost: they were put aside, nothing was deleted, and the \
         node joins its cluster anew; it serves again when a majority of the cluster takes it in"
    );
    Ok(true)
}

/// Moves files into a directory of their own.
fn put_aside(
    disk: &dyn Disk,
    dir: &Path,
    identity: &Identity,
    names: &[&str],
) -> io::Result<PathBuf> {
    let base = format!("quarantine-{:016x}", identity.incarnation().get());
    let mut aside = dir.join(&base);
    // An earlier try may have been cut short: what it moved stays where it is.
    for number in 2_u32.. {
        if !disk.exists(&aside)? {
            break;
        }
        aside = dir.join(format!("{base}-{number}"));
    }
    disk.create_dir_all(&aside)?;
    disk.sync_dir(dir)?;
    for name in names {
        if disk.exists(&dir.join(name))? {
            disk.rename(&dir.join(name), &aside.join(name))?;
        }
    }
    disk.sync_dir(&aside)?;
    disk.sync_dir(dir)?;
    Ok(aside)
}
