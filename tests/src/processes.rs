//! Clusters of real processes on loopback: started, killed, frozen, restarted and looked at.
//!
//! A [`Cluster`] owns its processes and its directory: when it is dropped all of them are killed,
//! and the nodes' logs are shown unless the test said that it [passed](Cluster::passed). Nothing
//! here waits a fixed time: [`eventually`] asks again until it holds or a deadline has passed.

mod cluster;
mod damage;
mod history;
mod http;
mod load;
mod member;
mod node;
mod ports;
mod retry;
mod tool;
mod wire;

use std::io::Write as _;

pub use cluster::Cluster;
pub use damage::{append_garbage, flip_bit, segments};
pub use duramen_checker::{Fate, Placed};
pub use history::{Counts, History, now};
pub use http::get;
pub use load::{Load, LoadOptions};
pub use member::{Member, coordinator};
pub use node::Node;
pub use ports::{NodeAddresses, distinct_addresses, free_addresses};
pub use retry::{DEADLINE, eventually};
pub use tool::{Finding, Output, Tool, Verified};
pub use wire::{Wire, refused};

/// Any failure of a test or of what it uses.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a part of a test ends with.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Says something on stderr, past the capture of the test harness: figures and notices.
pub fn say(text: impl std::fmt::Display) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// A size of a test: the number in an environment variable, or the small one of CI.
#[must_use]
pub fn size(variable: &str, small: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(small)
}
