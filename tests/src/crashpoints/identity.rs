//! The identity's story: a node makes its directory its own and finds its way into a cluster.

use std::path::Path;

use duramen_broker::{Founder, Identity, Phase};
use duramen_env::{Disk as _, SeededRandom, SimDisk};
use duramen_types::{ClusterId, NodeId};

use super::subject::{Expected, Found, Step, Story, Wrong, chain};

const DIR: &str = "/node";

/// Nodes of different seeds are different ones.
fn node(seed: u64) -> NodeId {
    NodeId::new(4 + seed % 2)
}

struct IdentityStory {
    sim: SimDisk,
    seed: u64,
    identity: Option<Identity>,
    turn: u64,
}

/// An empty directory.
pub(super) fn begin(seed: u64) -> Box<dyn Story> {
    let sim = SimDisk::new(seed);
    sim.create_dir_all(Path::new(DIR)).expect("nothing was injected yet");
    sim.sync_dir(Path::new("/")).expect("nothing was injected yet");
    Box::new(IdentityStory { sim, seed, identity: None, turn: 0 })
}

/// What may be found: one of these, or nothing if there is none yet.
#[derive(Clone)]
struct Known {
    node: NodeId,
    identities: Vec<Identity>,
    /// There was none before: the first may not have come into being.
    may_be_new: bool,
}

impl Expected for Known {
    fn recover(&self, disk: &SimDisk) -> Result<Found, Wrong> {
        // The same draw each time: a new identity of a crashed first use is the same one.
        let random = SeededRandom::new(1);
        let opened = Identity::open(disk, &random, Path::new(DIR), self.node);
        let found = opened.map_err(|error| Wrong::refused(chain(&error)))?;
        let is_new = self.may_be_new && *found.phase() == Phase::Empty;
        if self.identities.contains(&found) || is_new {
            return Ok(format!("{found:?}"));
        }
        Err(Wrong::lost(format!("{found:?} and none of {:?}", self.identities)))
    }

    fn carry_on(&self, disk: &SimDisk) -> Result<(), Wrong> {
        let refused = |error| Wrong::refused(chain(&error));
        let random = SeededRandom::new(1);
        let opened = || Identity::open(disk, &random, Path::new(DIR), self.node);
        let mut found = opened().map_err(refused)?;
        let phase = phase(99, 0);
        found.enter(disk, Path::new(DIR), phase.clone()).map_err(refused)?;
        disk.crash(duramen_env::CrashMode::KeepNone);
        disk.reopen();
        let found = opened().map_err(refused)?;
        if *found.phase() == phase { Ok(()) } else { Err(Wrong::lost("the last phase is gone")) }
    }
}

fn phase(seed: u64, turn: u64) -> Phase {
    let cluster =
        ClusterId::from_bytes([u8::try_from(seed % 250).unwrap_or(0) + 1; 16]).to_string();
    let founder = |node| Founder {
        node,
        incarnation: seed / 2 + node,
        peer_address: format!("node-{node}:{}", 9000 + turn),
    };
    let founders = (1..=1 + turn % 5).map(founder).collect();
    match turn % 3 {
        0 => Phase::Forming { cluster, founders, first: seed.is_multiple_of(2) },
        1 => Phase::Joining { cluster, founders },
        _ => Phase::Member { cluster, founders },
    }
}

impl Story for IdentityStory {
    fn disk(&self) -> &SimDisk {
        &self.sim
    }

    fn step(&mut self) -> Step {
        self.turn += 1;
        let before: Vec<Identity> = self.identity.iter().cloned().collect();
        let may_be_new = before.is_empty();
        let (operation, done) = match &mut self.identity {
            None => {
                let random = SeededRandom::new(self.seed);
                let made = Identity::open(&self.sim, &random, Path::new(DIR), node(self.seed));
                ("first-use", made.map(|made| self.identity = Some(made)))
            }
            Some(identity) => {
                let phase = phase(self.seed, self.turn);
                let mut next = identity.clone();
                let entered = next.enter(&self.sim, Path::new(DIR), phase);
                // Also after an error it may be in force: the process would stop.
                *identity = next;
                ("enter", entered)
            }
        };
        let after: Vec<Identity> = self.identity.iter().cloned().collect();
        let node = node(self.seed);
        let both = [before, self.intended(), after.clone()].concat();
        Step {
            operation,
            during: Box::new(Known { node, identities: both, may_be_new }),
            after: Box::new(Known { node, identities: after, may_be_new: false }),
            is_over: done.is_err(),
            wrong: None,
        }
    }
}

impl IdentityStory {
    /// What the operation was to bring about, made on a disk of its own.
    fn intended(&self) -> Vec<Identity> {
        let disk = SimDisk::new(0);
        let random = SeededRandom::new(self.seed);
        let Ok(mut identity) = Identity::open(&disk, &random, Path::new(DIR), node(self.seed))
        else {
            return Vec::new();
        };
        if self.turn > 1 {
            let phase = phase(self.seed, self.turn);
            if identity.enter(&disk, Path::new(DIR), phase).is_err() {
                return Vec::new();
            }
        }
        vec![identity]
    }
}
