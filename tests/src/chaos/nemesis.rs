//! What can strike a cluster, by name.

use std::fmt;

use clap::ValueEnum;

use super::Network;
use crate::faultfs::FaultFs;

/// One kind of fault. Which nodes it hits, how hard and how long is drawn each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Nemesis {
    /// kill -9 of any node.
    KillOne,
    /// kill -9 of a leader.
    KillLeader,
    /// kill -9 of a majority at once.
    KillMajority,
    /// kill -9 of all nodes at once.
    KillAll,
    /// SIGSTOP of a leader: in part shorter than an election takes, mostly longer.
    PauseLeader,
    /// SIGSTOP of as many nodes as the others can do without.
    PauseMinority,
    /// SIGSTOP of so many that the others can do nothing.
    PauseMajority,
    /// A minority is cut off from the others: connections are reset and refused.
    CutMinority,
    /// A leader is cut off from all others, which hear nothing from it and are not told.
    CutLeader,
    /// Every node still reaches a majority, and no two of them the same one.
    CutRing,
    /// One node's bytes reach nobody, and it hears everybody; or the other way round.
    CutOneWay,
    /// All links are slow, each differently.
    SlowLinks,
    /// Every node in turn is ended by SIGTERM and started again.
    RollingRestart,
    /// The disk of one node is full, to the last byte. Needs root.
    DiskFull,
    /// A node is killed, its data directory emptied, and it is started again.
    Wipe,
    /// A node is ended, a bit flips in one sealed segment of each of its replicas, and it is started
    /// again.
    BitFlip,
    /// One or more nodes lose their power, and with it what was not synced. Needs FUSE.
    PowerCut,
    /// All nodes lose their power at once. Needs FUSE.
    PowerCutAll,
}

impl Nemesis {
    /// All of them, whether they can be had here or not.
    #[must_use]
    pub fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// Whether every strike must hit a leader.
    #[must_use]
    pub const fn aims_at_leaders(self) -> bool {
        matches!(self, Self::KillLeader | Self::PauseLeader | Self::CutLeader)
    }

    /// Whether all nodes must be on disks whose power can be cut.
    #[must_use]
    pub const fn needs_power(self) -> bool {
        matches!(self, Self::PowerCut | Self::PowerCutAll)
    }

    /// Why it cannot be done here, on this network, if it cannot.
    #[must_use]
    pub fn hindrance(self, network: Network) -> Option<String> {
        match self {
            Self::SlowLinks if network == Network::Namespaces => {
                Some("packets are lost there, and not delayed".to_owned())
            }
            Self::DiskFull if !super::SmallDisk::is_possible() => {
                Some("only root can mount a small file system".to_owned())
            }
            Self::PowerCut | Self::PowerCutAll => FaultFs::available().err(),
            _ => None,
        }
    }
}

impl fmt::Display for Nemesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}
