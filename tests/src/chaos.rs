//! Chaos: clusters of real processes under faults, with clients whose histories the checker judges.
//!
//! A [`run`](campaign::run) goes in rounds. In each of them a [`Nemesis`] strikes an [`Arena`] of
//! nodes under [`Load`], lets go again, and every partition must serve within a bounded time. From
//! time to time, and at the end, all is read from the beginning and checked, on disk too. Besides
//! there are [`scenarios`]: scripts that broke other logs.

mod arena;
mod audit;
pub mod campaign;
mod disk;
mod links;
mod load;
pub mod namespaces;
mod nemesis;
mod observer;
mod producer;
mod reader;
mod recorder;
pub mod scenarios;
mod strike;
mod tally;

pub use arena::{Arena, ArenaOptions, Disks, Network};
pub use audit::{Audit, audit};
pub use disk::{NodeDisk, SmallDisk};
pub use links::{Link, Links};
pub use load::{Load, LoadOptions};
pub use nemesis::Nemesis;
pub use recorder::{Counts, Recorder};
pub use strike::{Blow, strike};
pub use tally::Tally;
