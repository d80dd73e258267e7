//! The seams of Duramen: clock, randomness, disk, network and tasks, each with a real side and a
//! side for tests on which faults can be injected.
//!
//! Everything above this crate gets an [`Env`] and uses nothing else for time, randomness, files,
//! sockets and spawning, so that a whole cluster runs in one thread under one seed. Timers are
//! `tokio::time`, which the simulation pauses and drives. This is the only crate with `unsafe`
//! code: the memory maps, and the buffer that sends payloads uncopied.

mod clock;
mod disk;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod net;
pub mod planted;
mod random;
mod rope;
mod tasks;
pub mod witness;

pub use clock::{Clock, RealClock, SimClock, TokioClock};
pub use disk::{
    Corruption, CrashMode, DIRECT_BYTES, DirLock, Disk, DiskCall, DiskFaults, DiskFile, DiskImage,
    Entry, Fault, FaultyDisk, OpenMode, RealDisk, SimDisk, read_ahead,
};
#[cfg(feature = "sim")]
pub use net::SimNet;
pub use net::{Connection, Listener, Net, NoNet, RealNet};
pub use random::{Random, RealRandom, SeededRandom};
pub use rope::{Rope, UNCOPIED_BYTES_MIN};
pub use tasks::{SimDelays, TaskHandle, Tasks};

use std::sync::Arc;

/// Everything a component needs from the world, cheap to clone.
#[derive(Clone, Debug)]
pub struct Env {
    /// Wall clock and monotonic clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// Sockets.
    pub net: Arc<dyn Net>,
    /// Spawning of named tasks and of work that blocks.
    pub tasks: Tasks,
}

impl Env {
    /// The real world: the machine's clocks, its randomness, its files and its network.
    #[must_use]
    pub fn real() -> Self {
        Self {
            clock: Arc::new(RealClock::new()),
            random: Arc::new(RealRandom),
            disk: Arc::new(RealDisk),
            net: Arc::new(RealNet::default()),
            tasks: Tasks::real(),
        }
    }

    /// A simulated world: seeded randomness, this disk, this clock, blocking work in place. With
    /// the feature `sim` its network is the turmoil host that the caller runs on, without it there
    /// is none.
    #[must_use]
    pub fn sim(seed: u64, disk: &SimDisk, clock: Arc<dyn Clock>) -> Self {
        #[cfg(feature = "sim")]
        let net: Arc<dyn Net> = Arc::new(SimNet);
        #[cfg(not(feature = "sim"))]
        let net: Arc<dyn Net> = Arc::new(NoNet);
        Self {
            clock,
            random: Arc::new(SeededRandom::new(seed)),
            disk: Arc::new(disk.clone()),
            net,
            tasks: Tasks::inline(),
        }
    }
}

#[cfg(test)]
mod tests {
    use duramen_types::Timestamp;

    use super::*;

    #[test]
    fn simulated_worlds_of_one_seed_draw_alike_and_share_their_disk() {
        let disk = SimDisk::new(1);
        let world = || Env::sim(7, &disk, Arc::new(SimClock::new(Timestamp::EPOCH)));
        let (one, other) = (world(), world());
        assert_eq!(one.random.next_u64(), other.random.next_u64());
        assert_eq!(one.clock.now(), other.clock.now());
        one.disk.create_dir_all("data".as_ref()).unwrap();
        assert!(other.disk.exists("data".as_ref()).unwrap());
        assert!(one.tasks.is_inline());
    }
}
