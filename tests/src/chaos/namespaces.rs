//! The network between nodes as the kernel makes one: every node in a network namespace of its own, all
//! on one bridge. What is cut is cut below TCP: packets are lost and sent again, and nobody is told.
//!
//! ```text
//!   clients, bridge 10.66.0.254          made by `unshare --net` for this process alone
//!      │         │         │
//!   10.66.0.1  10.66.0.2  10.66.0.3      each in the namespace of a process that does nothing else
//! ```
//! Needs root and the commands `ip`, `unshare` and `nsenter`. All of it goes with these processes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::Link;
use crate::processes::{NodeAddresses, Outcome, eventually};

/// Set in the environment of the process that is in a namespace of its own.
const INSIDE: &str = "DURAMEN_CHAOS_NAMESPACE";

/// An address of the link layer that nobody has: what is sent there is lost.
const NOBODY: &str = "02:00:00:00:ff:ff";

/// Where the peers of a bridge would listen.
const PORTS: [u16; 3] = [7650, 7651, 7652];

/// Why there can be no namespaces here, if there can be none.
///
/// # Errors
/// The reason, in words.
pub fn available() -> Result<(), String> {
    let tried = Command::new("unshare")
        .args(["--net", "--", "ip", "link", "add", "try", "type", "bridge"])
        .output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "network namespaces need root and a kernel with bridges: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("network namespaces need the command unshare: {error}")),
    }
}

/// Whether this process is in a network namespace of its own.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// This very command again, in a network namespace of its own; gives its exit code.
///
/// # Errors
/// It cannot be started.
pub fn enter() -> std::io::Result<u8> {
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// A process that keeps a namespace; it goes with this.
#[derive(Debug)]
struct Keeper(Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The namespaces of a cluster's nodes.
#[derive(Debug)]
pub(super) struct Namespaces {
    nodes: BTreeMap<u64, Keeper>,
}

impl Namespaces {
    /// A namespace for each node, and the bridge between them. This process must be in one.
    ///
    /// # Errors
    /// What a command said.
    pub(super) async fn make(ids: impl Iterator<Item = u64>) -> Outcome<Self> {
        ip(&["link", "set", "lo", "up"])?;
        ip(&["link", "add", "bridge", "type", "bridge"])?;
        ip(&["address", "add", "10.66.0.254/24", "dev", "bridge"])?;
        ip(&["link", "set", "bridge", "up"])?;
        let mut made = Self { nodes: BTreeMap::new() };
        for id in ids {
            // It ends when its stdin does, which is when this process ends.
            let keeper = Command::new("unshare")
                .args(["--net", "--", "cat"])
                .stdin(Stdio::piped())
                .spawn()?;
            let (keeper, own) = (Keeper(keeper), std::fs::read_link("/proc/self/ns/net")?);
            let namespace = namespace(&keeper);
            eventually("a namespace is made", async || {
                let is_made = std::fs::read_link(&namespace)? != own;
                if is_made { Ok(()) } else { Err("it is that of this process".into()) }
            })
            .await?;
            let (link, pid) = (format!("node{id}"), keeper.0.id().to_string());
            ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
            ip(&["link", "set", &link, "master", "bridge", "up"])?;
            made.nodes.insert(id, keeper);
            made.ip(id, &["address", "add", &format!("{}/24", address(id)), "dev", "eth0"])?;
            made.ip(id, &["link", "set", "lo", "up"])?;
            made.ip(id, &["link", "set", "eth0", "up"])?;
        }
        Ok(made)
    }

    /// The command that starts a program in a node's namespace, without the program.
    pub(super) fn launcher(&self, node: u64) -> Vec<String> {
        let namespace = self.nodes.get(&node).map(namespace).unwrap_or_default();
        vec!["nsenter".to_owned(), format!("--net={}", namespace.display()), "--".to_owned()]
    }

    /// Sets one direction.
    ///
    /// # Errors
    /// What a command said; or this network cannot do it.
    pub(super) fn set(&self, from: u64, to: u64, link: Link) -> Outcome {
        let to = address(to);
        // Whichever was there before; where none was, there is nothing to take away.
        drop(self.ip(from, &["neighbour", "del", &to, "dev", "eth0"]));
        drop(self.ip(from, &["route", "del", "unreachable", &to]));
        match link {
            Link::Open => Ok(()),
            Link::Silent => self.ip(
                from,
                &["neighbour", "replace", &to, "lladdr", NOBODY, "dev", "eth0", "nud", "permanent"],
            ),
            Link::Refused => self.ip(from, &["route", "add", "unreachable", &to]),
            Link::Slow(_) => Err("packets cannot be delayed here".into()),
        }
    }

    fn ip(&self, node: u64, arguments: &[&str]) -> Outcome {
        let launcher = self.launcher(node);
        let (program, before) = launcher.split_first().ok_or("no command")?;
        run(Command::new(program).args(before).arg("ip").args(arguments))
    }
}

fn namespace(keeper: &Keeper) -> PathBuf {
    format!("/proc/{}/ns/net", keeper.0.id()).into()
}

fn address(node: u64) -> String {
    format!("10.66.0.{node}")
}

/// Where nodes listen, each in its namespace.
pub(super) fn addresses(count: u16) -> Vec<NodeAddresses> {
    let node = |id: u64| {
        let [client, http, peer] = PORTS.map(|port| format!("{}:{port}", address(id)));
        NodeAddresses { client, http, peer }
    };
    (1..=u64::from(count)).map(node).collect()
}

fn ip(arguments: &[&str]) -> Outcome {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
