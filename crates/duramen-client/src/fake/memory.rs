//! A network in memory: with paused time nothing in a test depends on how fast the machine is.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use duramen_env::{Connection, Listener, Net};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bytes that a connection takes before its writer waits.
const BUFFER_BYTES: usize = 1 << 20;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// The network.
#[derive(Debug, Default)]
pub(super) struct MemoryNet {
    listeners: Mutex<BTreeMap<String, mpsc::Sender<DuplexStream>>>,
}

#[derive(Debug)]
struct MemoryListener {
    address: SocketAddr,
    arriving: tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>,
}

impl Net for MemoryNet {
    fn listen<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let port = 10_000 + u16::try_from(listeners.len()).unwrap();
        let address = SocketAddr::new(LOOPBACK.ip(), port);
        let (sender, arriving) = mpsc::channel(64);
        listeners.insert(address.to_string(), sender);
        let arriving = tokio::sync::Mutex::new(arriving);
        let listener: Box<dyn Listener> = Box::new(MemoryListener { address, arriving });
        Box::pin(async move { Ok(listener) })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = listeners.get(address).cloned();
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let listener = listener.ok_or_else(refused)?;
            let (here, there) = tokio::io::duplex(BUFFER_BYTES);
            listener.send(there).await.map_err(|_| refused())?;
            Ok(Box::new(here) as Connection)
        })
    }
}

impl Listener for MemoryListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Connection, SocketAddr)>> {
        Box::pin(async move {
            match self.arriving.lock().await.recv().await {
                Some(stream) => Ok((Box::new(stream) as Connection, LOOPBACK)),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
