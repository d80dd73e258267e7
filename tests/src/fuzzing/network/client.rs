//! The SDK against a server that sends any bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duramen_client::{Client, ClientOptions};
use duramen_env::fuzz::Verdict;
use duramen_env::{Connection, Env, Listener, Net, SimClock, SimDisk};
use duramen_types::Timestamp;
use tokio::sync::Notify;

use super::{Scripted, block_on};

/// How long a call may take, in the time of the simulation.
const CALL: Duration = Duration::from_secs(1);

/// Every connection meets the same server, but only the first gets an answer.
#[derive(Debug)]
struct HostileNet {
    bytes: Vec<u8>,
    used: AtomicBool,
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Net for HostileNet {
    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async {
            if self.used.swap(true, Ordering::Relaxed) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let connection: Connection =
                Box::new(Scripted::new(&self.bytes, &Arc::new(Notify::new())));
            Ok(connection)
        })
    }
}

/// Connects; the outcome is a client or an error, in time.
pub(super) fn call(bytes: &[u8]) -> Verdict {
    let net = HostileNet { bytes: bytes.to_vec(), used: AtomicBool::new(false) };
    let connected = block_on(async {
        let clock = Arc::new(SimClock::new(Timestamp::EPOCH));
        let mut env = Env::sim(1, &SimDisk::new(1), clock);
        env.net = Arc::new(net);
        let mut options = ClientOptions::new(["h:1"]);
        options.request_timeout = CALL;
        tokio::time::timeout(CALL * 10, Client::with_env(env, options)).await
    });
    match connected {
        Some(Ok(Ok(_))) => Verdict::Accepted,
        Some(Ok(Err(_))) => Verdict::Refused,
        Some(Err(_)) => Verdict::Broken("a call outlasts its time"),
        None => Verdict::Broken("there is no runtime"),
    }
}
