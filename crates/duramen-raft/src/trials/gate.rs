//! The simulated network with a tap on each outgoing connection, so that one of two connections
//! between the same nodes can hang while the other goes on.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use duramen_env::{Connection, Listener, Net, SimNet};
use futures::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::replica::lock;

/// The taps of one node, by the address they lead to.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    taps: Arc<Mutex<BTreeMap<String, Vec<Arc<Tap>>>>>,
}

#[derive(Debug, Default)]
struct Tap {
    written: AtomicU64,
    shut: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    /// Lets the connection to an address that has carried the most hang, in both directions.
    pub(super) fn hang_busiest(&self, address: &str) {
        let taps = lock(&self.taps);
        let busiest = taps[address].iter().max_by_key(|tap| tap.written.load(Ordering::Relaxed));
        busiest.unwrap().shut.store(true, Ordering::Relaxed);
    }

    /// Lets all connections go on.
    pub(super) fn release(&self) {
        for tap in lock(&self.taps).values().flatten() {
            tap.shut.store(false, Ordering::Relaxed);
            lock(&tap.waiting).drain(..).for_each(Waker::wake);
        }
    }
}

/// The network of a node with taps.
#[derive(Debug)]
pub(super) struct GateNet(pub(super) Gate);

impl Net for GateNet {
    fn listen<'a>(
        &'a self,
        address: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Listener>>> + Send + 'a>> {
        SimNet.listen(address)
    }

    fn connect<'a>(
        &'a self,
        address: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Connection>> + Send + 'a>> {
        async move {
            let connection = SimNet.connect(address).await?;
            let tap = Arc::new(Tap::default());
            lock(&self.0.taps).entry(address.to_owned()).or_default().push(Arc::clone(&tap));
            Ok(Box::new(Tapped { connection, tap }) as Connection)
        }
        .boxed()
    }
}

struct Tapped {
    connection: Connection,
    tap: Arc<Tap>,
}

impl Tapped {
    fn is_shut(&self, context: &Context<'_>) -> bool {
        let shut = self.tap.shut.load(Ordering::Relaxed);
        if shut {
            lock(&self.tap.waiting).push(context.waker().clone());
        }
        shut
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_shut(context) {
            return Poll::Pending;
        }
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_shut(context) {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.connection).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.tap.written.fetch_add(count as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
