//! The driver: splits the time over the decoders, starts workers and makes sense of their end.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use duramen_env::Env;
use duramen_env::fuzz::Decoder;
use serde_json::{Map, Value};
use tokio::process::Command;

use super::judge::judge;
use super::mutate::Inputs;
use super::table::{all, find};
use super::worker::Tally;
use crate::campaign::{Figures, Finding, progress};

/// A worker that is this late hangs.
const GRACE: Duration = Duration::from_secs(10);

/// After so many crashes of one decoder the driver goes on with the next.
const CRASHES_MAX: usize = 5;

/// Why fuzzing could not go on.
#[derive(Debug, thiserror::Error)]
pub enum FuzzError {
    /// There is no such decoder.
    #[error("there is no decoder {name:?}; --list shows them")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// A file or a process could not be had.
    #[error("could not {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A worker said something else than its tally.
    #[error("could not read the tally of a worker")]
    Tally(#[source] serde_json::Error),
    /// Something that coverage-guided fuzzing needs is not installed.
    #[error("coverage-guided fuzzing needs {what}, which is not here: SKIPPED")]
    NoCoverage {
        /// What is missing.
        what: &'static str,
    },
}

fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> FuzzError {
    move |source| FuzzError::Io { action, source }
}

/// How much to do.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// For all decoders together.
    pub seconds: u64,
    /// Only this decoder.
    pub target: Option<String>,
    /// The seed of the inputs.
    pub seed: u64,
}

/// Feeds the decoders and tells what was found.
///
/// # Errors
/// [`FuzzError`] if workers cannot be started.
pub async fn run(sizes: &Sizes) -> Result<(Figures, Vec<Finding>), FuzzError> {
    let decoders = match &sizes.target {
        Some(name) => vec![find(name).ok_or_else(|| FuzzError::Unknown { name: name.clone() })?],
        None => all(),
    };
    let share = Duration::from_secs(sizes.seconds) / u32::try_from(decoders.len()).unwrap_or(1);
    let mut findings = Vec::new();
    let mut tallies = Vec::new();
    let mut crashes = 0;
    for decoder in decoders {
        let mut drive = Drive::new(decoder, sizes.seed, share)?;
        drive.run().await?;
        let Tally { executions, accepted, slowest_us, .. } = drive.tally;
        progress(format_args!(
            "{}: {executions} inputs, {accepted} accepted, slowest {slowest_us} us",
            decoder.name
        ));
        crashes += drive.crashes;
        findings.extend(drive.findings);
        tallies.push((decoder.name, drive.tally));
    }
    Ok((figures(sizes.seed, crashes, &tallies), findings))
}

fn figures(seed: u64, crashes: usize, tallies: &[(&str, Tally)]) -> Figures {
    let sum = |count: fn(&Tally) -> u64| tallies.iter().map(|(_, one)| count(one)).sum::<u64>();
    let slowest = tallies.iter().max_by_key(|(_, one)| one.slowest_us);
    let executions: Map<String, Value> =
        tallies.iter().map(|(name, one)| ((*name).to_owned(), one.executions.into())).collect();
    let mut figures = Figures::default();
    figures
        .set("seed", seed)
        .set("decoders", tallies.len())
        .set("executions", sum(|one| one.executions))
        .set("accepted", sum(|one| one.accepted))
        .set("panics", crashes)
        .set("over_allocations", sum(|one| one.over_allocations))
        .set("round_trip_failures", sum(|one| one.broken))
        .set("slow", sum(|one| one.slow))
        .set("slowest_us", slowest.map_or(0, |(_, one)| one.slowest_us))
        .set("slowest", slowest.map_or("", |(name, _)| *name))
        .set("by_decoder", executions);
    figures
}

/// One decoder's turn.
struct Drive {
    decoder: Decoder,
    seed: u64,
    time: Duration,
    dir: PathBuf,
    tally: Tally,
    crashes: usize,
    findings: Vec<Finding>,
}

impl Drive {
    fn new(decoder: Decoder, seed: u64, time: Duration) -> Result<Self, FuzzError> {
        let program = std::env::current_exe().map_err(io("find this program"))?;
        let dir = program.parent().unwrap_or(Path::new(".")).join("fuzz");
        std::fs::create_dir_all(&dir).map_err(io("make a directory for findings"))?;
        let (tally, findings) = (Tally::default(), Vec::new());
        Ok(Self { decoder, seed, time, dir, tally, crashes: 0, findings })
    }

    async fn run(&mut self) -> Result<(), FuzzError> {
        let clock = Env::real().clock;
        let begin = clock.monotonic();
        let mut from = 0;
        loop {
            let left = self.time.saturating_sub(clock.monotonic().saturating_sub(begin));
            let Some(crashed) = self.worker(from, left).await? else { return Ok(()) };
            self.crashes += 1;
            self.tally.executions += crashed.saturating_sub(from) + 1;
            from = crashed + 1;
            if self.crashes >= CRASHES_MAX {
                return Ok(());
            }
        }
    }

    /// Runs one worker to its end; the number of the input that crashed it, if one did.
    async fn worker(&mut self, from: u64, time: Duration) -> Result<Option<u64>, FuzzError> {
        let program = std::env::current_exe().map_err(io("find this program"))?;
        let name = format!("{}-{}.progress", self.decoder.name, std::process::id());
        let noted = self.dir.join(name);
        let mut command = Command::new(program);
        command.args(["--target", self.decoder.name, "--seed", &self.seed.to_string()]);
        command.args(["--worker", "--from", &from.to_string()]);
        command.arg("--worker-ms").arg(time.as_millis().to_string());
        command.arg("--progress").arg(&noted);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = command.kill_on_drop(true).spawn().map_err(io("start a worker"))?;
        let ended = tokio::time::timeout(time + GRACE, running.wait_with_output()).await;
        let crash = match ended {
            Err(_) => "it hangs".to_owned(),
            Ok(output) => {
                let output = output.map_err(io("wait for a worker"))?;
                if output.status.success() {
                    self.told(&output.stdout)?;
                    std::fs::remove_file(&noted).map_err(io("remove a worker's notes"))?;
                    return Ok(None);
                }
                ended_by(output.status, &String::from_utf8_lossy(&output.stderr))
            }
        };
        let number = std::fs::read(&noted).map_err(io("read a worker's notes"))?;
        let number = number.first_chunk().map_or(from, |bytes| u64::from_le_bytes(*bytes));
        std::fs::remove_file(&noted).map_err(io("remove a worker's notes"))?;
        self.finding(number, &crash)?;
        Ok(Some(number))
    }

    fn told(&mut self, output: &[u8]) -> Result<(), FuzzError> {
        let tally: Tally = serde_json::from_slice(output).map_err(FuzzError::Tally)?;
        for (number, how) in &tally.failures {
            self.finding(*number, how)?;
        }
        self.tally.add(tally);
        Ok(())
    }

    /// Keeps the input and the command that repeats it.
    fn finding(&mut self, number: u64, how: &str) -> Result<(), FuzzError> {
        let name = self.decoder.name;
        let path = self.dir.join(format!("{name}-{}-{number}.bin", self.seed));
        let input = Inputs::new(self.decoder, self.seed).nth(number);
        std::fs::write(&path, input).map_err(io("write an input that failed"))?;
        let what = format!("{name}, input {number} of seed {}: {how}", self.seed);
        let path = path.display();
        let repeat = format!("cargo xtask fuzz --target {name} --input {path}");
        self.findings.push(Finding { what, repeat });
        Ok(())
    }
}

/// How a process ended, with the first line of what it said.
fn ended_by(status: ExitStatus, said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).take(2).collect();
    format!("{status}: {}", lines.join(" "))
}

/// Gives a decoder the bytes of a file, in this process: a crash is this program's.
///
/// # Errors
/// [`FuzzError::Unknown`], or the file cannot be read.
pub fn replay(name: &str, path: &Path) -> Result<(Figures, Vec<Finding>), FuzzError> {
    let decoder = find(name).ok_or_else(|| FuzzError::Unknown { name: name.to_owned() })?;
    let input = std::fs::read(path).map_err(io("read the input"))?;
    let judged = judge(&decoder, &input);
    let mut figures = Figures::default();
    figures
        .set("decoder", name)
        .set("input_bytes", input.len())
        .set("verdict", format!("{:?}", judged.verdict))
        .set("peak_bytes", judged.peak_bytes)
        .set("peak_bytes_max", decoder.memory.of(input.len()))
        .set("micros", judged.micros);
    let repeat = format!("cargo xtask fuzz --target {name} --input {}", path.display());
    let wrong = judged.wrong.map(|wrong| Finding { what: format!("{name}: {wrong:?}"), repeat });
    Ok((figures, wrong.into_iter().collect()))
}

/// Runs coverage-guided fuzzing of each decoder for its share of the time, from the stored corpus.
/// What it finds to be new goes to a directory of the build, not to the stored corpus.
///
/// # Errors
/// [`FuzzError::NoCoverage`] where cargo-fuzz or a nightly compiler is missing.
pub async fn coverage(sizes: &Sizes) -> Result<(Figures, Vec<Finding>), FuzzError> {
    needs(&["+nightly", "--version"], "a nightly compiler").await?;
    needs(&["+nightly", "fuzz", "--version"], "cargo-fuzz").await?;
    let decoders = match &sizes.target {
        Some(name) => vec![find(name).ok_or_else(|| FuzzError::Unknown { name: name.clone() })?],
        None => all(),
    };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let share = (sizes.seconds / decoders.len() as u64).max(1);
    let mut findings = Vec::new();
    for decoder in &decoders {
        let drive = Drive::new(*decoder, sizes.seed, Duration::ZERO)?;
        let grown = drive.dir.join("coverage").join(decoder.name);
        std::fs::create_dir_all(&grown).map_err(io("make a directory for inputs"))?;
        for (number, seed) in (decoder.seeds)().iter().enumerate() {
            std::fs::write(grown.join(format!("seed-{number}")), seed)
                .map_err(io("write an input"))?;
        }
        let mut command = Command::new("cargo");
        command.current_dir(tests.join("fuzz")).env("DURAMEN_FUZZ_TARGET", decoder.name);
        // The build's own flags take the place of those in the configuration.
        command.env("RUSTFLAGS", "--cfg tokio_unstable").env_remove("CARGO");
        command.env_remove("RUSTUP_TOOLCHAIN");
        command.args(["+nightly", "fuzz", "run", "--sanitizer", "none", "decoder"]);
        command.arg(&grown).arg(super::corpus_dir(decoder.name)).arg("--");
        command.arg(format!("-max_total_time={share}")).arg(format!("-seed={}", sizes.seed));
        command.args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        std::fs::create_dir_all(super::corpus_dir(decoder.name))
            .map_err(io("make the directory of the corpus"))?;
        let status = command.status().await.map_err(io("run cargo fuzz"))?;
        if !status.success() {
            let what = format!("{}: {status}; its output names the input", decoder.name);
            let repeat = format!("cargo xtask fuzz --coverage --target {}", decoder.name);
            findings.push(Finding { what, repeat });
        }
    }
    let mut figures = Figures::default();
    figures.set("decoders", decoders.len()).set("seconds_each", share);
    figures.set("failed", findings.len());
    Ok((figures, findings))
}

/// Whether cargo answers to these arguments.
async fn needs(arguments: &[&str], what: &'static str) -> Result<(), FuzzError> {
    let mut command = Command::new("cargo");
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN").args(arguments);
    match command.stdout(Stdio::null()).stderr(Stdio::null()).status().await {
        Ok(status) if status.success() => Ok(()),
        _ => Err(FuzzError::NoCoverage { what }),
    }
}
