//! No network, for tests of parts that must not use one.

use std::io;

use super::{BoxFuture, Connection, Listener, Net};

/// A network where nothing can be reached.
#[derive(Debug)]
pub struct NoNet;

impl Net for NoNet {
    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async { Err(io::ErrorKind::NetworkUnreachable.into()) })
    }
}
