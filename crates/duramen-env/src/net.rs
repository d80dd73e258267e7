//! The network seam: byte streams between addresses of the form `host:port`.

mod none;
mod real;
#[cfg(feature = "sim")]
mod sim;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

pub use none::NoNet;
pub use real::RealNet;
#[cfg(feature = "sim")]
pub use sim::SimNet;

/// A boxed future, as trait objects need it.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection. Dropping it closes it.
pub type Connection = Box<dyn Stream>;

/// A network.
pub trait Net: Send + Sync + fmt::Debug {
    /// Listens on `host:port`; port 0 picks a free one.
    ///
    /// # Errors
    /// `AddrInUse`, or a name that does not resolve.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;

    /// Connects to `host:port`. The caller bounds the time.
    ///
    /// # Errors
    /// `ConnectionRefused`, or a name that does not resolve.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>>;
}

/// A listening socket. Dropping it stops listening.
pub trait Listener: Send + Sync + fmt::Debug {
    /// Waits for the next connection. Cancel safe.
    ///
    /// # Errors
    /// An error of one accept (too many open files, a peer that went away) does not end the
    /// listener: wait a little and call again.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Connection, SocketAddr)>>;

    /// The address listened on.
    ///
    /// # Errors
    /// As the operating system says.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}
