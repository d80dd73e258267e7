//! TCP of a turmoil simulation: call it from inside a simulated host.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use turmoil::net::{TcpListener, TcpStream};

use super::{BoxFuture, Connection, Listener, Net};

/// TCP of the simulated host that the current task runs on.
#[derive(Debug)]
pub struct SimNet;

impl Net for SimNet {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(SimListener(listener)) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move { Ok(Box::new(TcpStream::connect(address).await?) as Connection) })
    }
}

struct SimListener(TcpListener);

impl fmt::Debug for SimListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimListener").finish_non_exhaustive()
    }
}

impl Listener for SimListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Connection, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            Ok((Box::new(stream) as Connection, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
