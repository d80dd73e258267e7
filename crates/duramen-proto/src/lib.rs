//! The generated gRPC code: the public API ([`v1`]) and what nodes say to each other
//! ([`internal`]). No logic; the documentation of every message is in `proto/`. One message is written
//! by hand, [`RecordList`]: two bytes on the wire become a hundred and more in memory, so it takes no
//! more than [`limits::RECORD_ITEMS_MAX`] allows.

pub mod limits;
mod record_list;

pub use record_list::RecordList;

/// The public API, `duramen.v1`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    unreachable_pub,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("duramen.v1");

    pub use crate::RecordList;

    /// The encoded file descriptors of the public API, for the reflection service.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/public.bin"));

    /// Name of the trailer of a refused unary call that carries an encoded [`Error`].
    pub const ERROR_TRAILER: &str = "duramen-error-bin";
}

/// Between nodes, `duramen.internal.v1`: versioned with the nodes, not for clients.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    unreachable_pub,
    reason = "generated code"
)]
pub mod internal {
    tonic::include_proto!("duramen.internal.v1");
}
