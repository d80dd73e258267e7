//! Feeds every decoder of bytes from disk or network with damaged inputs: `duramen-fuzz`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use duramen_tests::campaign::{Figures, Finding, finish, progress};
use duramen_tests::fuzzing::{self, FuzzError, Order, Sizes};
use peak_alloc::PeakAlloc;

/// Counts what each input takes.
#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const EXAMPLES: &str = "\
Examples:
  duramen-fuzz --seconds 600                       every decoder, ten minutes together
  duramen-fuzz --seconds 60 --target log-directory --seed 7
  duramen-fuzz --target log-directory --input FILE     one input again
  duramen-fuzz --seconds 3600 --coverage           with libFuzzer, where nightly and cargo-fuzz are";

/// Feeds every decoder of bytes from disk or network with valid inputs that were damaged.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
struct Args {
    /// For all decoders together
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only this decoder
    #[arg(long)]
    target: Option<String>,
    /// Of the inputs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the figures as one JSON object
    #[arg(long)]
    json: bool,
    /// Only this file, in this process
    #[arg(long, requires = "target")]
    input: Option<PathBuf>,
    /// Guided by coverage, with libFuzzer
    #[arg(long)]
    coverage: bool,
    /// Print the names of the decoders
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    worker: WorkerArgs,
}

/// What the driver tells its workers.
#[derive(Debug, clap::Args)]
struct WorkerArgs {
    #[arg(long, hide = true, requires = "target", requires = "progress")]
    worker: bool,
    #[arg(long, hide = true, default_value_t = 0)]
    from: u64,
    #[arg(long, hide = true, default_value_t = 0)]
    worker_ms: u64,
    #[arg(long, hide = true)]
    progress: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        let names = fuzzing::all().iter().map(|one| one.name).collect::<Vec<_>>();
        let mut figures = Figures::default();
        figures.set("decoders", names.join(" "));
        return finish(&figures, &[], args.json);
    }
    if args.worker.worker {
        return work(&args);
    }
    match run(&args) {
        Ok((figures, findings)) => finish(&figures, &findings, args.json),
        Err(error @ FuzzError::NoCoverage { .. }) => {
            progress(&error);
            let mut figures = Figures::default();
            figures.set("coverage", "skipped");
            finish(&figures, &[], args.json)
        }
        Err(error) => {
            progress(format_args!("{error}: {:?}", std::error::Error::source(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(Figures, Vec<Finding>), FuzzError> {
    if let (Some(input), Some(target)) = (&args.input, &args.target) {
        return fuzzing::replay(target, input);
    }
    let sizes = Sizes { seconds: args.seconds, target: args.target.clone(), seed: args.seed };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| FuzzError::Io { action: "start a runtime", source })?;
    if args.coverage {
        runtime.block_on(fuzzing::coverage(&sizes))
    } else {
        runtime.block_on(fuzzing::run(&sizes))
    }
}

/// The worker's part: a tally on stdout, or a crash.
fn work(args: &Args) -> ExitCode {
    let decoder = args.target.as_deref().and_then(fuzzing::find);
    let (Some(decoder), Some(noted)) = (decoder, &args.worker.progress) else {
        progress("there is no such decoder");
        return ExitCode::FAILURE;
    };
    let order = Order {
        seed: args.seed,
        from: args.worker.from,
        time: Duration::from_millis(args.worker.worker_ms),
        progress: noted.clone(),
    };
    let told = fuzzing::work(decoder, &order)
        .and_then(|tally| serde_json::to_writer(std::io::stdout(), &tally).map_err(Into::into));
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(error);
            ExitCode::FAILURE
        }
    }
}
