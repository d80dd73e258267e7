//! HTTP/2 transport under the generated gRPC code, over the network seam of `duramen-env`.
//!
//! [`Channel`] is the client side: one reconnecting connection, usable under every generated
//! client. [`serve`] is the server side. Both announce frames of 1 MiB, because with HTTP/2's
//! default of 16 KiB the framing costs more than the copy of the payload.

mod channel;
pub mod grpc;
mod incoming;
pub mod limits;
mod server;

pub use channel::{Channel, ChannelError};
pub use server::{ServerOptions, serve};
