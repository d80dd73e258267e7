//! The processes of the nodes: started, ordered about, frozen, killed, and heard.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::Duration;

use duramen_env::Env;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::mpsc;

use crate::error::CliError;
use crate::faults::{Order, Report};
use crate::nodes::{ClusterPlan, LogTo, NodePlan};
use crate::output;

/// Reports of nodes that wait to be counted; the nodes wait then.
const REPORTS_WAITING: usize = 1_024;

/// How long an order may take to be taken in: a frozen node has a full pipe at some time.
const ORDER_TIMEOUT: Duration = Duration::from_millis(100);

/// The end of a node's process.
pub(super) type Exit = (u64, std::io::Result<ExitStatus>);

/// The processes of all nodes. Dropped, they are killed.
pub(super) struct Processes {
    env: Env,
    plan: ClusterPlan,
    log: LogTo,
    /// A node ends when its stdin is closed.
    stdins: BTreeMap<u64, ChildStdin>,
    pids: BTreeMap<u64, u32>,
    /// How often each was started.
    starts: BTreeMap<u64, u64>,
    exits: FuturesUnordered<BoxFuture<'static, Exit>>,
    said: mpsc::Receiver<(u64, Report)>,
    say: mpsc::Sender<(u64, Report)>,
}

impl Processes {
    /// None yet.
    pub(super) fn new(env: &Env, plan: &ClusterPlan, log: LogTo) -> Self {
        let (say, said) = mpsc::channel(REPORTS_WAITING);
        Self {
            env: env.clone(),
            plan: plan.clone(),
            log,
            stdins: BTreeMap::new(),
            pids: BTreeMap::new(),
            starts: BTreeMap::new(),
            exits: FuturesUnordered::new(),
            said,
            say,
        }
    }

    /// How often a node was started.
    pub(super) fn starts(&self, id: u64) -> u64 {
        self.starts.get(&id).copied().unwrap_or(0)
    }

    /// Starts a node; gives what it is and its process id. With a seed it takes orders of faults.
    pub(super) fn start(
        &mut self,
        id: u64,
        faults_seed: Option<u64>,
    ) -> Result<(NodePlan, u32), CliError> {
        let node = self.plan.nodes.iter().find(|node| node.id == id);
        let node = node.expect("the supervisor knows the nodes of the plan").clone();
        let mut child = self.plan.spawn(&node, self.log, faults_seed)?;
        let pid = child.id().unwrap_or_default();
        *self.starts.entry(id).or_default() += 1;
        self.pids.insert(id, pid);
        if let Some(stdin) = child.stdin.take() {
            self.stdins.insert(id, stdin);
        }
        if let Some(stderr) = child.stderr.take() {
            self.env.tasks.connection("dev-log", prefix(id, stderr));
        }
        if let Some(stdout) = child.stdout.take() {
            self.env.tasks.connection("dev-reports", hear(id, stdout, self.say.clone()));
        }
        self.exits.push(Box::pin(async move { (id, child.wait().await) }));
        Ok((node, pid))
    }

    /// The next process that ended, or report of a node.
    pub(super) async fn next(&mut self) -> Heard {
        tokio::select! {
            Some((node, report)) = self.said.recv() => Heard::Report(node, report),
            Some((id, status)) = self.exits.next() => {
                self.stdins.remove(&id);
                self.pids.remove(&id);
                Heard::Exit((id, status))
            }
            else => std::future::pending().await,
        }
    }

    /// Asks a node to end in good order.
    pub(super) fn stop(&mut self, id: u64) {
        drop(self.stdins.remove(&id));
    }

    /// Kills all: dropping a process kills it.
    pub(super) fn kill_all(&mut self) {
        self.exits.clear();
    }

    /// Gives a node an order. One that does not run or does not take it in is told at its next
    /// start.
    pub(super) async fn order(&mut self, id: u64, order: &Order) {
        let Some(stdin) = self.stdins.get_mut(&id) else { return };
        let Ok(mut line) = serde_json::to_vec(order) else { return };
        line.push(b'\n');
        let written = tokio::time::timeout(ORDER_TIMEOUT, stdin.write_all(&line)).await;
        tracing::debug!(node = id, ?order, ?written, "ordered");
    }

    /// Sends a signal; whether there was a process for it.
    pub(super) fn signal(&self, id: u64, signal: Signal) -> bool {
        let pid = self.pids.get(&id).and_then(|pid| i32::try_from(*pid).ok());
        let pid = pid.and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Lets all nodes go on that stand still, so that they can end.
    pub(super) fn thaw_all(&self) {
        for id in self.pids.keys() {
            self.signal(*id, Signal::CONT);
        }
    }
}

/// What was heard of a node.
pub(super) enum Heard {
    /// Its process ended.
    Exit(Exit),
    /// It says what it did.
    Report(u64, Report),
}

/// Shows a node's log on stderr.
async fn prefix(node: u64, stderr: ChildStderr) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        output::note(&format!("node {node} | {line}"));
    }
}

/// Hears what a node says of its faults.
async fn hear(node: u64, stdout: ChildStdout, say: mpsc::Sender<(u64, Report)>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(report) => {
                if say.send((node, report)).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(node, %error, line, "a report that is none"),
        }
    }
}
