//! The program's other commands: run to their end, with their output as JSON.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use super::{Failure, Outcome};

/// What a frame has before its payload.
const FRAME_OVERHEAD_BYTES: u64 = 120;

/// A command that takes longer hangs.
const COMMAND_MAX: Duration = Duration::from_secs(120);

/// Runs the program against a cluster.
#[derive(Clone, Debug)]
pub struct Tool {
    program: PathBuf,
    servers: String,
    home: PathBuf,
}

/// What a command that has ended left.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Output {
    /// Each line of stdout as JSON.
    ///
    /// # Errors
    /// One is none.
    pub fn json_lines(&self) -> Outcome<Vec<Value>> {
        self.stdout.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    fn failure(&self, arguments: &[&str]) -> Failure {
        let Self { code, stdout, stderr } = self;
        format!("{arguments:?} ended with {code:?}: {stderr}{stdout}").into()
    }
}

impl Tool {
    /// Runs `program` against these servers; what it keeps at home is under `home`.
    #[must_use]
    pub fn new(program: &Path, servers: &[String], home: &Path) -> Self {
        Self { program: program.to_owned(), servers: servers.join(","), home: home.to_owned() }
    }

    /// A command, ready to be started: reads nothing, writes to pipes, dies with this process.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("DURAMEN_SERVERS", &self.servers)
            .env("HOME", &self.home)
            .env_remove("XDG_STATE_HOME")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts a command that the test ends itself.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, arguments: &[&str]) -> Outcome<Child> {
        Ok(self.command(arguments).spawn()?)
    }

    /// Runs a command to its end, however it ends.
    ///
    /// # Errors
    /// It cannot be started, hangs, or writes what is no text.
    pub async fn run(&self, arguments: &[&str]) -> Outcome<Output> {
        let running = self.command(arguments).output();
        let ended = tokio::time::timeout(COMMAND_MAX, running).await;
        let ended = ended.map_err(|_| format!("{arguments:?} does not end"))??;
        Ok(Output {
            code: ended.status.code(),
            stdout: String::from_utf8(ended.stdout)?,
            stderr: String::from_utf8(ended.stderr)?,
        })
    }

    /// Runs a command that must succeed.
    ///
    /// # Errors
    /// It did not.
    pub async fn succeed(&self, arguments: &[&str]) -> Outcome<Output> {
        let output = self.run(arguments).await?;
        if output.code == Some(0) { Ok(output) } else { Err(output.failure(arguments)) }
    }

    /// What `verify` says of directories, sound or not.
    ///
    /// # Errors
    /// It could not look.
    pub async fn verify(&self, dirs: &[&Path]) -> Outcome<Verified> {
        let mut arguments = vec!["verify".to_owned(), "--json".to_owned()];
        arguments.extend(dirs.iter().map(|dir| dir.display().to_string()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = self.run(&arguments).await?;
        let report = output.json_lines().ok().and_then(|mut lines| lines.pop());
        let report = report.ok_or_else(|| output.failure(&arguments))?;
        let verified = Verified::of(&report)?;
        let code = if verified.sound { Some(0) } else { Some(1) };
        assert_eq!(output.code, code, "the exit code says whether all is sound");
        Ok(verified)
    }

    /// Where the last sound frame of a segment ends, as `dump` shows it.
    ///
    /// # Errors
    /// It could not read the file, or there is none.
    pub async fn end_of_frames(&self, segment: &Path) -> Outcome<u64> {
        let path = segment.display().to_string();
        let output = self.run(&["dump", "--json", &path]).await?;
        let lines = output.json_lines()?;
        let last = lines.iter().rfind(|line| line.get("kind").is_some());
        let number = |name: &str| last.and_then(|frame| frame[name].as_u64());
        let position = number("position").ok_or("a segment without frames")?;
        let payload = number("payload_bytes").ok_or("a frame without a length")?;
        Ok((position + FRAME_OVERHEAD_BYTES + payload).next_multiple_of(8))
    }
}

/// What `verify` says.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Nothing is damaged.
    pub sound: bool,
    /// What it says of each replica.
    pub findings: Vec<Finding>,
    /// Replicas whose histories cannot both be.
    pub disagreements: Vec<String>,
}

/// What `verify` says of one replica.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Its directory.
    pub dir: PathBuf,
    /// Topic id and partition, or "metadata".
    pub partition: String,
    /// Records in it.
    pub records: u64,
    /// First index and one past the last.
    pub indexes: (u64, u64),
    /// First offset and one past the last.
    pub offsets: (u64, u64),
    /// Chain hash of the last entry.
    pub chain: String,
    /// A torn end is there.
    pub torn: bool,
    /// What is damaged.
    pub problems: Vec<String>,
}

impl Verified {
    fn of(report: &Value) -> Outcome<Self> {
        let list = |name: &str| report[name].as_array().cloned().ok_or("a list is missing");
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or("a text is missing");
        let findings = list("replicas")?.iter().map(Finding::of).collect::<Outcome<_>>()?;
        let disagreements = list("disagreements")?;
        let disagreements = disagreements.iter().map(text).collect::<Result<_, _>>()?;
        let sound = report["sound"].as_bool().ok_or("sound is missing")?;
        Ok(Self { sound, findings, disagreements })
    }

    /// Findings of one partition, by its name.
    pub fn of_partition(&self, partition: &str) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.partition == partition)
    }
}

impl Finding {
    fn of(value: &Value) -> Outcome<Self> {
        let number = |name: &str| value[name].as_u64().ok_or(format!("{name} is missing"));
        let text = |name: &str| value[name].as_str().ok_or(format!("{name} is missing"));
        let problems = value["problems"].as_array().ok_or("problems is missing")?;
        let problem = |problem: &Value| problem.as_str().map_or(String::new(), str::to_owned);
        Ok(Self {
            dir: text("dir")?.into(),
            partition: text("partition")?.to_owned(),
            records: number("records")?,
            indexes: (number("start_index")?, number("end_index")?),
            offsets: (number("start_offset")?, number("end_offset")?),
            chain: text("chain")?.to_owned(),
            torn: value["torn"].as_bool().ok_or("torn is missing")?,
            problems: problems.iter().map(problem).collect(),
        })
    }
}
