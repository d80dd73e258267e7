//! What processes use: CPU time and memory, from `/proc`.

use std::fs::read_to_string;

/// Clock ticks of a second in `/proc/PID/stat`: a constant of Linux on every common architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds that processes have used, user and system, all threads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// The nodes together; `None` if one cannot be seen.
    pub(crate) servers: Option<f64>,
    /// This process.
    pub(crate) client: Option<f64>,
}

impl Usage {
    /// What has been used until now.
    pub(crate) fn now(pids: &[u32]) -> Self {
        let servers = pids.iter().map(|pid| cpu_seconds(&pid.to_string())).sum::<Option<f64>>();
        Self { servers: servers.filter(|_| !pids.is_empty()), client: cpu_seconds("self") }
    }
}

/// Anonymous memory of all these processes together, in megabytes.
pub(crate) fn rss_anon_mb(pids: &[u32]) -> Option<f64> {
    let sizes = pids.iter().map(|pid| {
        let status = read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
    });
    Some(sizes.sum::<Option<f64>>()? * 1024.0 / 1e6)
}

/// Fields 14 and 15, counted behind the name, which may hold anything in its parentheses.
fn cpu_seconds(pid: &str) -> Option<f64> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}
