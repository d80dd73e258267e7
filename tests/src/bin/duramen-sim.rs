//! Runs simulated clusters: one seed, or many, each in a process of its own.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::{Args, Parser, Subcommand};
use duramen_tests::campaign;
use duramen_tests::guard;
use duramen_tests::simulation::{self, FaultKind, Sweep};
use rustix::process::{Resource, Rlimit};
use rustix::time::ClockId;

/// A seed that computes for longer than this is ended by the system, in seconds.
const CPU_MAX_S: u64 = 300;

/// Simulates clusters under faults that a seed draws.
#[derive(Parser)]
#[command(after_help = "Examples:
  duramen-sim run 7 --trace
  duramen-sim sweep --seeds 200 --from 1 --faults kill,power-all")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed.
    Run(Run),
    /// Runs many seeds, each in a process of its own.
    Sweep(SweepArguments),
}

#[derive(Args)]
struct Run {
    /// The seed.
    seed: u64,
    /// Only faults of these kinds, by commas; `none` for no fault at all.
    #[arg(long, value_name = "LIST")]
    faults: Option<String>,
    /// Prints every event.
    #[arg(long)]
    trace: bool,
    /// Prints the figures as one JSON object.
    #[arg(long)]
    json: bool,
    /// Plants a bug first, to see that it is found; needs a build with the feature `planted`.
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
}

#[derive(Args)]
struct SweepArguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only faults of these kinds, by commas.
    #[arg(long, value_name = "LIST")]
    faults: Option<String>,
    /// Processes at a time; as many as there are cores if left out.
    #[arg(long)]
    jobs: Option<usize>,
    /// Prints the figures as one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .init();
    }
    let done = match Cli::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Sweep(arguments) => sweep(&arguments),
    };
    done.unwrap_or_else(|reason| {
        campaign::progress(reason);
        ExitCode::from(2)
    })
}

/// The kinds of a list; all without one.
fn kinds(list: Option<&str>) -> Result<Vec<FaultKind>, String> {
    let Some(list) = list else { return Ok(FaultKind::ALL.to_vec()) };
    if list == "none" {
        return Ok(Vec::new());
    }
    let known = || FaultKind::ALL.map(FaultKind::name).join(", ");
    let parse = |name: &str| {
        FaultKind::parse(name).ok_or_else(|| format!("no fault {name}; there are {}", known()))
    };
    list.split(',').map(parse).collect()
}

fn run(arguments: &Run) -> Result<ExitCode, String> {
    arguments.planted.as_deref().map_or(Ok(()), guard::plant)?;
    let limit = Rlimit { current: Some(CPU_MAX_S), maximum: Some(CPU_MAX_S + 5) };
    rustix::process::setrlimit(Resource::Cpu, limit).map_err(|error| error.to_string())?;
    let kinds = kinds(arguments.faults.as_deref())?;
    let outcome = simulation::run(arguments.seed, &kinds, arguments.trace);
    let mut out = std::io::stdout().lock();
    let mut print = |line: &str| writeln!(out, "{line}").map_err(|error| error.to_string());
    for line in &outcome.trace {
        print(line)?;
    }
    let mut json = outcome.to_json();
    json["cpu_ms"] = cpu_ms().into();
    if arguments.json || !arguments.trace {
        print(&if arguments.json { json.to_string() } else { format!("{json:#}") })?;
    }
    for finding in &outcome.findings {
        let seed = outcome.seed;
        campaign::progress(format_args!("FAILED: seed {seed}: {finding}"));
    }
    Ok(if outcome.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Stands in for the system's clock, in this program only: what libraries ask of it directly would
/// otherwise let one seed take several courses. Simulated time once a simulation runs, the real one
/// before.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "a symbol of the C library is replaced")]
extern "C" fn clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    let virtual_nanos = simulation::VIRTUAL_NANOS.load(Ordering::Relaxed);
    let now = if virtual_nanos == 0 {
        let clock = if clock == 0 { ClockId::Realtime } else { ClockId::Monotonic };
        // Not by way of the C library.
        let real = rustix::time::clock_gettime(clock);
        Timespec { seconds: real.tv_sec, nanos: real.tv_nsec }
    } else {
        let nanos = i64::try_from(virtual_nanos).unwrap_or(i64::MAX);
        let second = 1_000_000_000;
        // Later than anything that was read before the simulation began.
        Timespec { seconds: BEGIN_SECONDS + nanos / second, nanos: nanos % second }
    };
    // SAFETY: the C library's contract: the caller gives a valid place for the time.
    unsafe { time.write(now) };
    0
}

/// `struct timespec` of 64-bit Linux.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanos: i64,
}

/// Simulated time begins in 2100.
const BEGIN_SECONDS: i64 = 4_102_444_800;

/// How long this process has computed.
fn cpu_ms() -> u64 {
    let time = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanos) = (time.tv_sec.max(0).unsigned_abs(), time.tv_nsec.max(0).unsigned_abs());
    seconds * 1_000 + nanos / 1_000_000
}

fn sweep(arguments: &SweepArguments) -> Result<ExitCode, String> {
    let faults = match arguments.faults.as_deref() {
        None => Vec::new(),
        list => kinds(list)?,
    };
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let sweep = Sweep {
        program: std::env::current_exe().map_err(|error| error.to_string())?,
        seeds: arguments.seeds,
        from: arguments.from,
        faults,
        jobs: arguments.jobs.unwrap_or_else(cores),
    };
    let (figures, findings) = simulation::sweep(&sweep).map_err(|error| error.to_string())?;
    Ok(campaign::finish(&figures, &findings, arguments.json))
}
