//! A running `duramen dev`: its events, and its end.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use duramen_tests::processes::{Outcome, Tool, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::program;

/// A running `duramen dev`.
pub(crate) struct Dev {
    child: Child,
    /// Its events, a line each.
    pub(crate) events: Lines<BufReader<ChildStdout>>,
}

impl Dev {
    /// Starts it on free ports, without any `DURAMEN_SERVERS`.
    pub(crate) fn start(home: &Path, arguments: &[&str]) -> Outcome<Self> {
        let tool = Tool::new(&program(), &[], home);
        let arguments = [&["dev", "--json", "--port", "0"], arguments].concat();
        let mut command = tool.command(&arguments);
        let mut child = command.env_remove("DURAMEN_SERVERS").spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        Ok(Self { child, events: BufReader::new(stdout).lines() })
    }

    /// The next event of this kind; those in between are passed over.
    pub(crate) async fn event(&mut self, kind: &str) -> Outcome<Value> {
        let found = async {
            while let Some(line) = self.events.next_line().await? {
                let event: Value = serde_json::from_str(&line)?;
                if event["event"] == kind {
                    return Ok(event);
                }
            }
            Err("dev ended".into())
        };
        tokio::time::timeout(Duration::from_secs(60), found).await?
    }

    pub(crate) fn signal(&self, signal: Signal) -> Outcome {
        let pid = self.child.id().ok_or("dev has ended")?;
        kill(pid.into(), signal)
    }

    /// Waits until its process has ended.
    pub(crate) async fn ended(&mut self) -> Outcome<ExitStatus> {
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        Ok(ended.map_err(|_| "dev does not end")??)
    }

    /// Asks it to end, and waits until it has, in good order.
    pub(crate) async fn end(&mut self) -> Outcome {
        self.signal(Signal::TERM)?;
        let status = self.ended().await?;
        if status.success() { Ok(()) } else { Err(format!("dev ended with {status}").into()) }
    }
}

/// Sends a signal to a process.
pub(crate) fn kill(pid: u64, signal: Signal) -> Outcome {
    let pid = Pid::from_raw(i32::try_from(pid)?).ok_or("no process id")?;
    Ok(kill_process(pid, signal)?)
}

/// Waits until a process is gone. One that has ended and was not waited for is gone, too.
pub(crate) async fn wait_gone(pid: u64) -> Outcome {
    eventually(&format!("process {pid} is gone"), async || {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) if !stat.contains(") Z ") => Err("it runs".into()),
            _ => Ok(()),
        }
    })
    .await
}

/// The process id that an event of a node has.
pub(crate) fn pid(event: &Value) -> u64 {
    event["pid"].as_u64().expect("an event of a node has its process id")
}
