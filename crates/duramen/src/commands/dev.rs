//! `duramen dev`: a cluster on this machine in one command.

mod report;
mod supervisor;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use clap::Args;
use duramen_env::Env;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin};

use crate::context::Context;
use crate::error::CliError;
use crate::nodes::{ClusterPlan, LogTo, NodePlan, wait_ready};
use crate::signals::Signals;
use crate::{limits, output};
use report::Reporter;
use supervisor::{Effect, Event, Supervisor};

const EXAMPLES: &str = "\
Examples:
  duramen dev
  duramen dev --nodes 1
  duramen dev --dir data --port 9000       keeps its data in data/1, data/2, data/3

Node i serves clients on port + 10 (i - 1) and has metrics and health on the next port. A node that
ends is started again: try kill -9. Ctrl-C ends all. With --json, a line per event: node, exit,
ready.";

/// Options of `duramen dev`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DevArgs {
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=limits::DEV_NODES_MAX))]
    nodes: u64,
    /// Where data is kept; in a temporary directory, removed at the end, if not given
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The first node's port; 0 = any free ones
    #[arg(long, default_value_t = limits::DEV_PORT)]
    port: u16,
}

/// Runs the command.
pub(crate) async fn run(args: DevArgs, context: Context) -> Result<(), CliError> {
    let mut signals = Signals::new()?;
    let home = Home::open(&args)?;
    let plan = match args.port {
        0 => ClusterPlan::on_free_ports(&context.env, args.nodes, home.path()).await?,
        port => ClusterPlan::new(args.nodes, port, home.path())?,
    };
    for node in &plan.nodes {
        check_ports(&context.env, node).await?;
    }
    let log = if context.verbose > 0 { LogTo::Pipe } else { LogTo::File };
    let mut dev = Dev {
        supervisor: Supervisor::new(args.nodes),
        reporter: Reporter { json: context.json, is_kept: args.dir.is_some() },
        env: context.env.clone(),
        plan: plan.clone(),
        log,
        stdins: BTreeMap::new(),
        exits: FuturesUnordered::new(),
        failure: None,
    };
    let ready = wait_ready(&context, &plan, limits::READY_TIMEOUT);
    let outcome = Box::pin(dev.run(ready, &mut signals)).await;
    drop(dev);
    home.close()?;
    outcome
}

/// The directory of all nodes.
enum Home {
    Given(PathBuf),
    Temporary(TempDir),
}

impl Home {
    fn open(args: &DevArgs) -> Result<Self, CliError> {
        let Some(dir) = &args.dir else {
            let dir = tempfile::Builder::new().prefix("duramen-dev-").tempdir();
            let dir =
                dir.map_err(|source| CliError::System { action: "make a directory", source })?;
            return Ok(Self::Temporary(dir));
        };
        std::fs::create_dir_all(dir).map_err(CliError::file("create", dir))?;
        // Nodes name their directories to each other and to people.
        let dir = std::path::absolute(dir).map_err(CliError::file("find", dir))?;
        let earlier = (1..=limits::DEV_NODES_MAX).filter(|id| dir.join(id.to_string()).exists());
        let earlier = earlier.max().unwrap_or(args.nodes);
        if earlier != args.nodes {
            return Err(CliError::Usage(format!(
                "{} has the data of {earlier} nodes: give --nodes {earlier}, or another --dir",
                dir.display()
            )));
        }
        Ok(Self::Given(dir))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(dir) => dir,
            Self::Temporary(dir) => dir.path(),
        }
    }

    fn close(self) -> Result<(), CliError> {
        match self {
            Self::Given(_) => Ok(()),
            Self::Temporary(dir) => {
                let path = dir.path().to_owned();
                dir.close().map_err(CliError::file("remove", path))
            }
        }
    }
}

/// Says at once what four failed starts would say later.
async fn check_ports(env: &Env, node: &NodePlan) -> Result<(), CliError> {
    for address in [&node.grpc, &node.http, &node.peer] {
        env.net.listen(address).await.map_err(|error| {
            CliError::Failed(format!(
                "could not listen on {address}: {error}; is another cluster running? give --port"
            ))
        })?;
    }
    Ok(())
}

/// The end of a node's process.
type Exit = (u64, std::io::Result<ExitStatus>);

/// A running cluster.
struct Dev {
    supervisor: Supervisor,
    reporter: Reporter,
    env: Env,
    plan: ClusterPlan,
    log: LogTo,
    /// A node ends when its stdin is closed.
    stdins: BTreeMap<u64, ChildStdin>,
    exits: FuturesUnordered<BoxFuture<'static, Exit>>,
    failure: Option<CliError>,
}

/// What the loop woke up for.
enum Woken {
    Signal,
    Exit(Exit),
    Ready(Result<(), CliError>),
    Due,
}

impl Dev {
    async fn run(
        &mut self,
        ready: impl Future<Output = Result<(), CliError>>,
        signals: &mut Signals,
    ) -> Result<(), CliError> {
        tokio::pin!(ready);
        let mut is_waiting = true;
        let mut effects = self.supervisor.step(self.now(), Event::Tick);
        loop {
            if self.perform(effects)? {
                return self.failure.take().map_or(Ok(()), Err);
            }
            let due = self.supervisor.next_due();
            let wait = due.map_or(Duration::MAX, |due| due.saturating_sub(self.now()));
            let woken = tokio::select! {
                () = signals.next() => Woken::Signal,
                Some(exit) = self.exits.next() => Woken::Exit(exit),
                outcome = &mut ready, if is_waiting => Woken::Ready(outcome),
                () = tokio::time::sleep(wait), if due.is_some() => Woken::Due,
            };
            let event = match woken {
                Woken::Signal => Event::Stop,
                Woken::Due => Event::Tick,
                Woken::Exit((node, status)) => {
                    self.stdins.remove(&node);
                    self.reporter.exited(node, status.as_ref().ok());
                    Event::Exited { node }
                }
                Woken::Ready(outcome) => {
                    is_waiting = false;
                    match outcome {
                        Ok(()) => {
                            self.reporter.ready(&self.plan);
                            Event::Ready
                        }
                        Err(error) => {
                            self.failure = Some(error);
                            Event::Stop
                        }
                    }
                }
            };
            effects = self.supervisor.step(self.now(), event);
        }
    }

    fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    /// Does what the supervisor decided; whether that was all.
    fn perform(&mut self, effects: Vec<Effect>) -> Result<bool, CliError> {
        for effect in effects {
            match effect {
                Effect::Start { node } => self.start(node)?,
                Effect::Announce { node, wait } => self.reporter.restarting(node, wait),
                Effect::Stop { node } => drop(self.stdins.remove(&node)),
                // Dropping a process kills it.
                Effect::KillAll => self.exits.clear(),
                Effect::GiveUp { node } => {
                    self.failure = Some(self.gave_up(node));
                }
                Effect::Done => return Ok(true),
            }
        }
        Ok(false)
    }

    fn start(&mut self, id: u64) -> Result<(), CliError> {
        let node = self.plan.nodes.iter().find(|node| node.id == id);
        let node = node.expect("the supervisor knows the nodes of the plan").clone();
        let mut child = self.plan.spawn(&node, self.log)?;
        let pid = child.id().unwrap_or_default();
        if let Some(stdin) = child.stdin.take() {
            self.stdins.insert(id, stdin);
        }
        if let Some(stderr) = child.stderr.take() {
            self.env.tasks.connection("dev-log", prefix(id, stderr));
        }
        self.exits.push(Box::pin(async move { (id, child.wait().await) }));
        self.reporter.started(&node, pid);
        Ok(())
    }

    fn gave_up(&self, id: u64) -> CliError {
        let node = self.plan.nodes.iter().find(|node| node.id == id);
        let log = node.map(|node| node.dir.join("log"));
        let text = log.as_ref().and_then(|log| std::fs::read_to_string(log).ok());
        let last = text.as_deref().and_then(|text| text.lines().last()).unwrap_or("");
        CliError::Failed(format!("node {id} does not start: {last}"))
    }
}

/// Shows a node's log on stderr.
async fn prefix(node: u64, stderr: ChildStderr) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        output::note(&format!("node {node} | {line}"));
    }
}
