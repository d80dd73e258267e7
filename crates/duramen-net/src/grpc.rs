//! gRPC streams whose payloads are not copied, wire-compatible with every other gRPC.
//!
//! Where messages carry payloads of many kilobytes, a codec that gathers each message into one
//! buffer costs more than all the rest: [`Outgoing`] hands the connection a message's payload as
//! the memory it is in, and [`Messages`] gives out payloads as slices of what was received.
//! [`call()`] and [`respond`] put the two under a path, [`Beside`] a generated service of which
//! other paths are served.

mod beside;
mod call;
mod chunks;
mod messages;
mod outgoing;

#[cfg(test)]
mod tests;

pub use beside::{Beside, Direct};
pub use call::{call, respond};
pub use messages::Messages;
pub use outgoing::Outgoing;

/// Bytes before each message: whether it is compressed, and its length, big-endian.
const PREFIX_BYTES: usize = 5;
