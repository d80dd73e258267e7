//! Addresses that nobody listens on now, below the range of outgoing connections, so that a node
//! that is started again finds its own free.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use super::Outcome;

/// Below what Linux gives to outgoing connections, apart from the ports of `duramen dev`.
const PORTS: Range<u16> = 10_000..20_000;

/// Ports of one cluster: three a node, ten nodes.
const BLOCK: u16 = 30;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Where one node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddresses {
    /// For clients.
    pub client: String,
    /// Metrics and health.
    pub http: String,
    /// For other nodes.
    pub peer: String,
}

/// Addresses of `count` nodes, at most ten, of a block that no other cluster of this process has.
///
/// # Errors
/// No block is free.
pub fn free_addresses(count: u16) -> Outcome<Vec<NodeAddresses>> {
    addresses_on(count, |_| "127.0.0.1".to_owned())
}

/// As [`free_addresses`], each node on a loopback address of its own, by which it can be told from
/// the others when it connects.
///
/// # Errors
/// No block is free.
pub fn distinct_addresses(count: u16) -> Outcome<Vec<NodeAddresses>> {
    addresses_on(count, |place| format!("127.0.0.{}", place + 11))
}

fn addresses_on(count: u16, host: impl Fn(u16) -> String) -> Outcome<Vec<NodeAddresses>> {
    let blocks = (PORTS.end - PORTS.start) / BLOCK;
    // Processes that test at the same time begin at different places.
    let begin = u16::try_from(std::process::id() % u32::from(blocks)).unwrap_or(0);
    for _ in 0..blocks {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(7);
        let first = PORTS.start + (begin.wrapping_add(turn) % blocks) * BLOCK;
        let address = |step: u16| format!("{}:{}", host(step / 3), first + step);
        let held: Result<Vec<_>, _> =
            (0..3 * count).map(|step| TcpListener::bind(address(step))).collect();
        if held.is_ok() {
            let node = |place| {
                let step = 3 * place;
                let (client, http, peer) = (address(step), address(step + 1), address(step + 2));
                NodeAddresses { client, http, peer }
            };
            return Ok((0..count).map(node).collect());
        }
    }
    Err("no block of ports is free".into())
}
