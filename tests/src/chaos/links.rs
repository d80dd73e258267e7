//! The network between nodes: a TCP proxy before each node's peer listener, which tells nodes apart
//! by the loopback address that they connect from and does with each direction what it is told.
//!
//! A [`Link`] is a direction, from one node to another, whoever opened the connection: what is
//! silent holds back requests of connections one way and answers of those the other way, as packets
//! that are dropped and sent again do. Bytes that were held are delivered when the link is open.
//!
//! Where nodes are in network namespaces there is no proxy, and packets are really dropped.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::namespaces::Namespaces;
use crate::campaign::progress;
use crate::processes::Outcome;

/// Chunks under way in one direction of a connection; beyond, the sender waits.
const CHUNKS_MAX: usize = 64;

/// The largest chunk, bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// What happens to bytes from one node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// They pass.
    #[default]
    Open,
    /// They pass, so much later.
    Slow(Duration),
    /// They are held back, and nobody is told.
    Silent,
    /// Connections are reset, new ones too.
    Refused,
}

/// A direction: from a node, to a node.
type Direction = (u64, u64);

#[derive(Debug)]
struct Way {
    link: watch::Sender<Link>,
    /// Chunks and connections that felt that the link is not open.
    felt: AtomicU64,
}

/// All directed links between the nodes of a cluster. Dropped, it ends all connections.
#[derive(Debug)]
pub struct Links {
    ways: Arc<BTreeMap<Direction, Way>>,
    addresses: BTreeMap<u64, String>,
    namespaces: Option<Namespaces>,
    _tasks: JoinSet<()>,
}

impl Links {
    /// Starts a proxy before each of these nodes, given with where its peers reach it: the host must
    /// be an address of its own, which it connects from, too.
    ///
    /// # Errors
    /// An address is no IP address with a port, or no proxy can listen.
    pub async fn start(nodes: &[(u64, String)]) -> Outcome<Self> {
        let mut sources = BTreeMap::new();
        for (id, address) in nodes {
            sources.insert(address.parse::<SocketAddr>()?.ip(), *id);
        }
        let (ways, sources) = (Arc::new(ways_of(nodes)), Arc::new(sources));
        let mut addresses = BTreeMap::new();
        let mut tasks = JoinSet::new();
        for (id, address) in nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            addresses.insert(*id, listener.local_addr()?.to_string());
            let door = Door {
                to: *id,
                target: address.parse()?,
                sources: Arc::clone(&sources),
                ways: Arc::clone(&ways),
            };
            tasks.spawn(door.serve(listener));
        }
        Ok(Self { ways, addresses, namespaces: None, _tasks: tasks })
    }

    /// The links between nodes that are each in a namespace.
    pub(super) fn of_namespaces(namespaces: Namespaces, nodes: &[(u64, String)]) -> Self {
        Self {
            ways: Arc::new(ways_of(nodes)),
            addresses: nodes.iter().cloned().collect(),
            namespaces: Some(namespaces),
            _tasks: JoinSet::new(),
        }
    }

    /// The command that starts a node's program where the node belongs, if there is one.
    pub(super) fn launcher(&self, node: u64) -> Vec<String> {
        self.namespaces.as_ref().map_or_else(Vec::new, |all| all.launcher(node))
    }

    /// Where a node's peers reach it: its proxy, or itself. It is what the node advertises.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn address(&self, node: u64) -> &str {
        self.addresses.get(&node).expect("every node of the cluster has a proxy")
    }

    /// Sets one direction.
    pub fn set(&self, from: u64, to: u64, link: Link) {
        let Some(way) = self.ways.get(&(from, to)) else { return };
        if let Some(namespaces) = &self.namespaces {
            match namespaces.set(from, to, link) {
                // Nodes send each other something all the time.
                Ok(()) => way.felt.fetch_add(u64::from(link != Link::Open), Ordering::Relaxed),
                Err(error) => return progress(format_args!("link {from} to {to}: {error}")),
            };
        }
        way.link.send_replace(link);
    }

    /// Sets both directions between two nodes.
    pub fn set_both(&self, one: u64, other: u64, link: Link) {
        self.set(one, other, link);
        self.set(other, one, link);
    }

    /// Opens all links. Says how many chunks and connections felt what they were before.
    pub fn open_all(&self) -> u64 {
        let mut felt = 0;
        for ((from, to), way) in &*self.ways {
            if *way.link.borrow() != Link::Open {
                self.set(*from, *to, Link::Open);
            }
            felt += way.felt.swap(0, Ordering::Relaxed);
        }
        felt
    }
}

/// Every direction, open.
fn ways_of(nodes: &[(u64, String)]) -> BTreeMap<Direction, Way> {
    let pairs = nodes.iter().flat_map(|(from, _)| nodes.iter().map(|(to, _)| (*from, *to)));
    pairs
        .map(|direction| {
            (direction, Way { link: watch::Sender::new(Link::Open), felt: AtomicU64::new(0) })
        })
        .collect()
}

/// The proxy of one node.
struct Door {
    to: u64,
    target: SocketAddr,
    sources: Arc<BTreeMap<IpAddr, u64>>,
    ways: Arc<BTreeMap<Direction, Way>>,
}

impl Door {
    async fn serve(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, peer)) = accepted else { continue };
                    // Only nodes come here; whoever else does is sent away.
                    let Some(from) = self.sources.get(&peer.ip()) else { continue };
                    let ways = Arc::clone(&self.ways);
                    connections.spawn(carry(ways, (*from, self.to), stream, self.target));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Carries one connection to its end.
async fn carry(
    ways: Arc<BTreeMap<Direction, Way>>,
    (from, to): Direction,
    near: TcpStream,
    target: SocketAddr,
) {
    let (Some(there), Some(back)) = (ways.get(&(from, to)), ways.get(&(to, from))) else { return };
    // Set before anything can end it: dropped, the connection is reset.
    drop(near.set_zero_linger());
    drop(near.set_nodelay(true));
    let connected = async {
        there.is_not(Link::Silent).await;
        TcpStream::connect(target).await
    };
    let far = tokio::select! {
        connected = connected => connected,
        () = there.refused() => return,
        () = back.refused() => return,
    };
    let Ok(far) = far else { return };
    drop(far.set_zero_linger());
    drop(far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        _ = async { tokio::join!(pump(there, near_read, far_write), pump(back, far_read, near_write)) } => {}
        () = there.refused() => {}
        () = back.refused() => {}
    }
}

impl Way {
    fn feel(&self) {
        self.felt.fetch_add(1, Ordering::Relaxed);
    }

    /// Completes when the link is refused.
    async fn refused(&self) {
        drop(self.link.subscribe().wait_for(|link| *link == Link::Refused).await);
        self.feel();
    }

    /// Completes when the link is not this one.
    async fn is_not(&self, unwanted: Link) {
        let mut link = self.link.subscribe();
        if *link.borrow() == unwanted {
            self.feel();
            drop(link.wait_for(|link| *link != unwanted).await);
        }
    }

    /// When bytes that come now are to arrive.
    fn due(&self) -> Instant {
        let link = *self.link.borrow();
        match link {
            Link::Slow(by) => {
                self.feel();
                Instant::now() + by
            }
            Link::Open | Link::Silent | Link::Refused => Instant::now(),
        }
    }
}

/// Carries one direction of a connection to its end; what is held back is not read further.
async fn pump(way: &Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_MAX);
    let reading = async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK_BYTES);
            let read = from.read_buf(&mut buffer).await;
            way.is_not(Link::Silent).await;
            if !matches!(read, Ok(bytes) if bytes > 0) {
                return;
            }
            if sender.send((way.due(), buffer.split().freeze())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, chunk)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            way.is_not(Link::Silent).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        // The other direction may go on.
        drop(to.shutdown().await);
    };
    tokio::join!(reading, writing);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpSocket;

    /// Two nodes with an echo behind the second, and a connection of the first to it.
    async fn linked() -> (Links, TcpStream, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.22:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let mut echoes = JoinSet::new();
        echoes.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                open.spawn(async move {
                    let (mut read, mut write) = stream.split();
                    drop(tokio::io::copy(&mut read, &mut write).await);
                });
            }
        });
        let nodes = [(1, "127.0.0.21:1".to_owned()), (2, target)];
        let links = Links::start(&nodes).await.unwrap();
        let stream = connect(&links).await;
        (links, stream, echoes)
    }

    async fn connect(links: &Links) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.21:0".parse().unwrap()).unwrap();
        socket.connect(links.address(2).parse().unwrap()).await.unwrap()
    }

    async fn echo(stream: &mut TcpStream) -> std::io::Result<[u8; 2]> {
        stream.write_all(b"hi").await?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.map(|_| answer)
    }

    async fn is_held(stream: &mut TcpStream) -> bool {
        tokio::time::timeout(Duration::from_millis(200), echo(stream)).await.is_err()
    }

    #[tokio::test]
    async fn an_open_link_passes_bytes_and_a_slow_one_later() {
        let (links, mut stream, _echoes) = linked().await;
        assert_eq!(&echo(&mut stream).await.unwrap(), b"hi");
        assert_eq!(links.open_all(), 0);
        links.set(1, 2, Link::Slow(Duration::from_millis(80)));
        let begin = Instant::now();
        assert_eq!(&echo(&mut stream).await.unwrap(), b"hi");
        assert!(begin.elapsed() >= Duration::from_millis(80));
        assert!(links.open_all() > 0);
    }

    #[tokio::test]
    async fn what_is_silent_one_way_is_held_until_it_opens() {
        for (from, to) in [(1, 2), (2, 1)] {
            let (links, mut stream, _echoes) = linked().await;
            links.set(from, to, Link::Silent);
            assert!(is_held(&mut stream).await);
            assert!(links.open_all() > 0);
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"hi", "what was held is delivered");
        }
    }

    #[tokio::test]
    async fn what_is_refused_is_reset_and_new_connections_too() {
        let (links, mut stream, _echoes) = linked().await;
        echo(&mut stream).await.unwrap();
        links.set(2, 1, Link::Refused);
        assert!(stream.read_u8().await.is_err());
        let mut next = connect(&links).await;
        assert!(echo(&mut next).await.is_err());
        assert!(links.open_all() > 0);
        let mut next = connect(&links).await;
        assert_eq!(&echo(&mut next).await.unwrap(), b"hi");
    }
}
