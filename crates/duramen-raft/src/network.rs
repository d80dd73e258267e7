//! How replicas reach each other: openraft's network traits over links between nodes.
//!
//! Two links per directed node pair, each on its own connection: *urgent* for votes, heartbeats,
//! transfers and snapshots, *bulk* for entries, so that a burst of entries never delays a vote.
//! All groups of a node pair share the two. A link fails what is in flight when it is lost, and an
//! append stream ends by itself when answers stop: openraft sets no time limit of its own. A replica
//! that lost what it acknowledged is found out here, and not listened to any more.

mod acknowledged;
mod append_stream;
mod client;
mod commits;
mod link;
mod links;
mod receiver;
mod service;

pub(crate) use acknowledged::Acknowledged;
pub use acknowledged::Loss;
pub(crate) use client::{GroupNetworkFactory, Members};
pub(crate) use links::Links;
pub use links::LocalNode;
#[cfg(test)]
pub(crate) use receiver::answer;
#[cfg(feature = "fuzz")]
pub(crate) use receiver::{append_request, lost_call};
pub use service::PeerHandler;
pub(crate) use service::PeerServer;
