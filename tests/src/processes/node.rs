//! One node as a process: started, asked to end, killed, frozen, looked at.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use super::{NodeAddresses, Outcome, Wire, eventually, get};

/// A node ends itself within this time, or it hangs.
const END_MAX: Duration = Duration::from_secs(30);

/// Free bytes of the disk that a node under test insists on: the machines of CI have little.
const DISK_RESERVE_BYTES: &str = "1048576";

/// One node; its process is killed when this is dropped.
#[derive(Debug)]
pub struct Node {
    /// Its number.
    pub id: u64,
    /// Where it listens.
    pub addresses: NodeAddresses,
    /// Its data directory.
    pub dir: PathBuf,
    log: PathBuf,
    program: PathBuf,
    /// A command that starts the program, if there is one.
    launcher: Vec<String>,
    /// What else stands on its command line.
    arguments: Vec<String>,
    child: Option<Child>,
    /// Held open while the process is to run: it ends by itself when this process does.
    stdin: Option<ChildStdin>,
}

impl Node {
    /// A node that does not run yet, with its data and its log under `home`.
    #[must_use]
    pub fn new(program: &Path, home: &Path, id: u64, all: &[NodeAddresses]) -> Self {
        let place = usize::try_from(id - 1).unwrap_or(usize::MAX);
        let addresses = all[place].clone();
        let seeds: Vec<_> = all.iter().map(|node| node.client.as_str()).collect();
        let dir = home.join(id.to_string());
        let arguments = [
            ("--id", id.to_string()),
            ("--dir", dir.display().to_string()),
            ("--listen", addresses.client.clone()),
            ("--http-listen", addresses.http.clone()),
            ("--peer-listen", addresses.peer.clone()),
            ("--seed", seeds.join(",")),
            ("--disk-reserve-bytes", DISK_RESERVE_BYTES.to_owned()),
        ];
        let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        Self::with_arguments(program, home, (id, addresses), arguments.collect())
    }

    /// As [`new`](Self::new), with another command line behind `server`.
    #[must_use]
    pub fn with_arguments(
        program: &Path,
        home: &Path,
        (id, addresses): (u64, NodeAddresses),
        arguments: Vec<String>,
    ) -> Self {
        Self {
            id,
            addresses,
            dir: home.join(id.to_string()),
            log: home.join(format!("node-{id}.log")),
            program: program.to_owned(),
            launcher: Vec::new(),
            arguments,
            child: None,
            stdin: None,
        }
    }

    /// Sets an option on the command line, instead of what it was: the next start has it.
    pub fn set_option(&mut self, flag: &str, value: &str) {
        let place = self.arguments.iter().position(|argument| argument == flag);
        match place.and_then(|place| self.arguments.get_mut(place + 1)) {
            Some(argument) => value.clone_into(argument),
            None => self.arguments.extend([flag.to_owned(), value.to_owned()]),
        }
    }

    /// Adds a switch to the command line: the next start has it.
    pub fn add_switch(&mut self, switch: &str) {
        self.arguments.push(switch.to_owned());
    }

    /// Starts the program by another command, which must become it; an empty one is none.
    pub fn set_launcher(&mut self, launcher: Vec<String>) {
        self.launcher = launcher;
    }

    /// Starts the process; it ends by itself if this one does.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start(&mut self) -> Outcome {
        if self.child.is_some() {
            return Err(format!("node {} runs already", self.id).into());
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = match self.launcher.split_first() {
            None => Command::new(&self.program),
            Some((first, others)) => {
                let mut command = Command::new(first);
                command.args(others).arg(&self.program);
                command
            }
        };
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"DURAMEN_") {
                command.env_remove(variable);
            }
        }
        command
            .env_remove("RUST_LOG")
            .arg("server")
            .args(&self.arguments)
            .arg("--exit-with-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        self.stdin = child.stdin.take();
        self.child = Some(child);
        Ok(())
    }

    /// Whether a process was started and has not been seen to end.
    #[must_use]
    pub const fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Whether the process was started and has ended without being asked to.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn has_died(&mut self) -> Outcome<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// The process id.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Outcome<u32> {
        let pid = self.child.as_ref().and_then(Child::id);
        pid.ok_or_else(|| format!("node {} does not run", self.id).into())
    }

    fn signal(&self, signal: Signal) -> Outcome {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?).ok_or("no process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// kill -9, and waits until the process is gone.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&mut self) -> Outcome {
        self.strike()?;
        self.ended().await.map(drop)
    }

    /// kill -9 without waiting, to hit several at once; [`ended`](Self::ended) waits.
    ///
    /// # Errors
    /// It does not run.
    pub fn strike(&self) -> Outcome {
        self.signal(Signal::KILL)
    }

    /// Asks the node to end in good order, and waits until it has.
    ///
    /// # Errors
    /// It does not run, does not end, or ends with an error.
    pub async fn terminate(&mut self) -> Outcome {
        self.ask_to_end()?;
        let status = self.ended().await?;
        if status.success() {
            return Ok(());
        }
        Err(format!("node {} ended with {status}", self.id).into())
    }

    /// SIGTERM without waiting.
    ///
    /// # Errors
    /// It does not run.
    pub fn ask_to_end(&self) -> Outcome {
        self.signal(Signal::TERM)
    }

    /// Closes the process's stdin, which asks it to end, too.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    /// It does not run, or not end.
    pub async fn ended(&mut self) -> Outcome<ExitStatus> {
        let mut child = self.child.take().ok_or("the node does not run")?;
        let ended = tokio::time::timeout(END_MAX, child.wait()).await;
        self.stdin = None;
        Ok(ended.map_err(|_| format!("node {} does not end", self.id))??)
    }

    /// Stops the process where it is, until it is [thawed](Self::thaw).
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> Outcome {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen process go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> Outcome {
        self.signal(Signal::CONT)
    }

    /// Whether the node says that it serves, and otherwise why not.
    ///
    /// # Errors
    /// No answer.
    pub async fn health(&self) -> Outcome<Result<(), String>> {
        match get(&self.addresses.http, "/health/ready").await? {
            (200, _) => Ok(Ok(())),
            (_, reason) => Ok(Err(reason)),
        }
    }

    /// Waits until the node says that it serves.
    ///
    /// # Errors
    /// It did not in time.
    pub async fn wait_ready(&self) -> Outcome {
        let what = format!("node {} is ready", self.id);
        eventually(&what, async || Ok(self.health().await??)).await
    }

    /// All of its metrics, as they are served.
    ///
    /// # Errors
    /// No answer.
    pub async fn metrics(&self) -> Outcome<String> {
        Ok(get(&self.addresses.http, "/metrics").await?.1)
    }

    /// The sum of a metric over its labels; `None` if the node does not have it.
    ///
    /// # Errors
    /// No answer.
    pub async fn metric(&self, name: &str) -> Outcome<Option<f64>> {
        let page = self.metrics().await?;
        let mut sum = None;
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((labels, value)) = line.rsplit_once(' ') else { continue };
            if labels.split('{').next() == Some(name) {
                sum = Some(sum.unwrap_or(0.0) + value.parse::<f64>()?);
            }
        }
        Ok(sum)
    }

    /// Bytes of memory that the process holds.
    ///
    /// # Errors
    /// It does not run.
    pub fn resident_bytes(&self) -> Outcome<u64> {
        self.memory("VmRSS:")
    }

    /// The most memory that the process ever had resident.
    ///
    /// # Errors
    /// As [`Self::resident_bytes`].
    pub fn peak_bytes(&self) -> Outcome<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let text = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no such line")?;
        Ok(text.trim().parse::<u64>()? * 1024)
    }

    /// The generated gRPC client of this very node.
    #[must_use]
    pub fn wire(&self) -> Wire {
        Wire::new(&self.addresses.client)
    }

    /// What the node has logged, over all its starts.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn log(&self) -> Outcome<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// Replaces the log by an empty one, so that what is found in it later is new.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn clear_log(&self) -> Outcome {
        Ok(File::options().write(true).open(&self.log)?.set_len(0)?)
    }

    /// The directories of this node's partition replicas, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn replica_dirs(&self) -> Outcome<Vec<PathBuf>> {
        let entries = std::fs::read_dir(self.dir.join("partitions"))?;
        let mut dirs = Vec::new();
        for entry in entries {
            dirs.push(entry?.path());
        }
        dirs.sort();
        Ok(dirs)
    }
}
