//! `duramen dev`: a cluster on this machine in one command.

mod faults;
mod processes;
mod report;
mod supervisor;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use duramen_env::Env;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::context::Context;
use crate::direct::DirectAdmin;
use crate::error::CliError;
use crate::faults::{EXAMPLE, Occurrence, Plan, Target};
use crate::nodes::{ClusterPlan, LogTo, NodePlan, wait_ready};
use crate::signals::Signals;
use crate::{limits, output};
use faults::{Blow, Faults};
use processes::{Heard, Processes};
use report::Reporter;
use supervisor::{Effect, Event, Supervisor};

/// Seeds are drawn below this, so that a person can type them.
const SEEDS_DRAWN: u64 = 1_000_000;

const EXAMPLES: &str = "\
Examples:
  duramen dev
  duramen dev --nodes 1
  duramen dev --dir data --port 9000       keeps its data in data/1, data/2, data/3
  duramen dev --faults-example > plan.toml
  duramen dev --faults plan.toml --seed 7  lost answers, slow disks, dead nodes: test your client

Node i serves clients on port + 10 (i - 1) and has metrics and health on the next port. A node that
ends is started again: try kill -9. Ctrl-C ends all. With --json, a line per event: node, exit,
ready, and with --faults: fault, faults.";

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
    /// Misbehave as this plan (TOML) says, to test clients; see --faults-example
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Decides what the faults draw: when, where, which operations; drawn itself if not given
    #[arg(long, requires = "faults")]
    seed: Option<u64>,
    /// Print a plan with every kind of fault, explained, and end
    #[arg(long)]
    faults_example: bool,
}

/// Runs the command.
pub(crate) async fn run(args: DevArgs, context: Context) -> Result<(), CliError> {
    if args.faults_example {
        return output::write(EXAMPLE.as_bytes());
    }
    let faults = read_faults(&args, &context.env)?;
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
        processes: Processes::new(&context.env, &plan, log),
        env: context.env.clone(),
        plan: plan.clone(),
        faults,
        lookups: FuturesUnordered::new(),
        failure: None,
    };
    if let Some(faults) = &dev.faults {
        dev.reporter.faults_begin(faults.seed());
    }
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

/// Reads the plan of faults, if there is one.
fn read_faults(args: &DevArgs, env: &Env) -> Result<Option<Faults>, CliError> {
    let Some(path) = &args.faults else { return Ok(None) };
    let text = std::fs::read_to_string(path).map_err(CliError::file("read", path))?;
    let plan = Plan::parse(&text).and_then(|plan| {
        plan.check_nodes(args.nodes)?;
        Ok(plan)
    });
    let plan = plan.map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?;
    let seed = args.seed.unwrap_or_else(|| env.random.below(SEEDS_DRAWN));
    Ok(Some(Faults::new(plan, seed, args.nodes)))
}

/// A running cluster.
struct Dev {
    env: Env,
    plan: ClusterPlan,
    supervisor: Supervisor,
    reporter: Reporter,
    processes: Processes,
    faults: Option<Faults>,
    /// Occurrences that wait to know who leads their partition.
    lookups: FuturesUnordered<BoxFuture<'static, (Occurrence, Option<u64>)>>,
    failure: Option<CliError>,
}

/// What the loop woke up for.
enum Woken {
    Signal,
    Heard(Heard),
    Ready(Result<(), CliError>),
    Found(Occurrence, Option<u64>),
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
        let mut event = Event::Tick;
        loop {
            let effects = self.supervisor.step(self.now(), event);
            if self.perform(effects).await? {
                self.tell_faults();
                return self.failure.take().map_or(Ok(()), Err);
            }
            self.step_faults().await;
            let due = self.next_due();
            let wait = due.map_or(Duration::MAX, |due| due.saturating_sub(self.now()));
            let woken = tokio::select! {
                () = signals.next() => Woken::Signal,
                heard = self.processes.next() => Woken::Heard(heard),
                outcome = &mut ready, if is_waiting => Woken::Ready(outcome),
                Some((occurrence, leader)) = self.lookups.next() => Woken::Found(occurrence, leader),
                () = tokio::time::sleep(wait), if due.is_some() => Woken::Due,
            };
            is_waiting &= !matches!(woken, Woken::Ready(_));
            event = self.take(woken).await;
        }
    }

    /// Takes in what happened, as far as it is not for the supervisor.
    async fn take(&mut self, woken: Woken) -> Event {
        match woken {
            Woken::Signal => {
                self.processes.thaw_all();
                Event::Stop
            }
            Woken::Due => Event::Tick,
            Woken::Heard(Heard::Exit((node, status))) => {
                self.reporter.exited(node, status.as_ref().ok());
                Event::Exited { node }
            }
            Woken::Heard(Heard::Report(node, report)) => {
                let now = self.now();
                let blows = self.faults.as_mut().map(|faults| faults.reported(now, node, report));
                self.strike(blows.unwrap_or_default()).await;
                Event::Tick
            }
            Woken::Found(occurrence, leader) => {
                let blows = self.faults.as_mut().map(|faults| faults.found(&occurrence, leader));
                self.strike(blows.unwrap_or_default()).await;
                Event::Tick
            }
            Woken::Ready(Ok(())) => {
                let now = self.now();
                if let Some(faults) = &mut self.faults {
                    faults.begin(now);
                }
                self.reporter.ready(&self.plan);
                Event::Ready
            }
            Woken::Ready(Err(error)) => {
                self.failure = Some(error);
                Event::Stop
            }
        }
    }

    fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    fn next_due(&self) -> Option<Duration> {
        let faults = self.faults.as_ref().filter(|_| !self.supervisor.is_stopping());
        let due = faults.and_then(Faults::next_due);
        self.supervisor.next_due().into_iter().chain(due).min()
    }

    /// Does what the supervisor decided; whether that was all.
    async fn perform(&mut self, effects: Vec<Effect>) -> Result<bool, CliError> {
        for effect in effects {
            match effect {
                Effect::Start { node } => self.start(node).await?,
                Effect::Announce { node, wait } => self.reporter.restarting(node, wait),
                Effect::Stop { node } => self.processes.stop(node),
                Effect::KillAll => self.processes.kill_all(),
                Effect::GiveUp { node } => {
                    self.failure = Some(self.gave_up(node));
                }
                Effect::Done => return Ok(true),
            }
        }
        Ok(false)
    }

    async fn start(&mut self, id: u64) -> Result<(), CliError> {
        let starts = self.processes.starts(id);
        let seed = self.faults.as_ref().map(|faults| faults.node_seed(id, starts));
        let (node, pid) = self.processes.start(id, seed)?;
        self.reporter.started(&node, pid);
        let orders = self.faults.as_ref().map(|faults| faults.orders_for(id)).unwrap_or_default();
        for order in orders {
            self.processes.order(id, &order).await;
        }
        Ok(())
    }

    /// Does what the plan of faults says by now.
    async fn step_faults(&mut self) {
        let now = self.now();
        if let Some(faults) = self.faults.as_mut().filter(|_| !self.supervisor.is_stopping()) {
            let blows = faults.step(now);
            self.strike(blows).await;
        }
    }

    async fn strike(&mut self, blows: Vec<Blow>) {
        for blow in blows {
            let dealt = match blow {
                Blow::Say(said) => {
                    self.reporter.fault(&said);
                    continue;
                }
                Blow::Order { node, order } => {
                    self.processes.order(node, &order).await;
                    continue;
                }
                Blow::Find { occurrence } => {
                    let finding = find_leader(self.env.clone(), self.plan.clone(), occurrence);
                    self.lookups.push(Box::pin(finding));
                    continue;
                }
                _ if self.supervisor.is_stopping() => continue,
                Blow::Kill { node, down, id } => {
                    let is_dealt = self.processes.signal(node, Signal::KILL);
                    if is_dealt {
                        self.supervisor.expect_exit(node, down);
                    }
                    (id, node, is_dealt, "kill -9")
                }
                Blow::Freeze { node, still: true, id } => {
                    (id, node, self.processes.signal(node, Signal::STOP), "SIGSTOP")
                }
                Blow::Freeze { node, still: false, .. } => {
                    self.processes.signal(node, Signal::CONT);
                    continue;
                }
            };
            self.note(dealt);
        }
    }

    /// Counts and says a blow that was dealt, or could not be.
    fn note(&mut self, (id, node, is_dealt, how): (u64, u64, bool, &str)) {
        let now = self.now();
        let Some(faults) = &mut self.faults else { return };
        let said = match is_dealt {
            true => faults.hit(now, id, node, 1, how.to_owned()),
            false => faults.missed(now, id, node),
        };
        if let Some(Blow::Say(said)) = said {
            self.reporter.fault(&said);
        }
    }

    fn tell_faults(&self) {
        if let Some(faults) = &self.faults {
            self.reporter.faults(faults.seed(), faults.counts());
        }
    }

    fn gave_up(&self, id: u64) -> CliError {
        let node = self.plan.nodes.iter().find(|node| node.id == id);
        let log = node.map(|node| node.dir.join("log"));
        let text = log.as_ref().and_then(|log| std::fs::read_to_string(log).ok());
        let last = text.as_deref().and_then(|text| text.lines().last()).unwrap_or("");
        CliError::Failed(format!("node {id} does not start: {last}"))
    }
}

/// Asks the nodes who leads the partition of an occurrence's target.
async fn find_leader(
    env: Env,
    plan: ClusterPlan,
    occurrence: Occurrence,
) -> (Occurrence, Option<u64>) {
    let Target::Leader { topic, partition } = &occurrence.target else { return (occurrence, None) };
    for node in &plan.nodes {
        let admin = DirectAdmin::new(&env, &node.grpc, limits::LEADER_LOOKUP);
        let Ok(Some(found)) = admin.describe_topic(topic).await else { continue };
        let found = found.partitions.iter().find(|found| found.id == *partition);
        // Only the leader knows who is in sync.
        if found.is_some_and(|found| found.leader == node.id && !found.in_sync.is_empty()) {
            return (occurrence, Some(node.id));
        }
    }
    (occurrence, None)
}
