//! What processes use: CPU time and memory, from `/proc`.

use std::time::Duration;

use crate::numbers;

/// CPU time that processes have used, user and system, all threads.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// The nodes together; `None` if one cannot be seen.
    pub(super) servers: Option<Duration>,
    /// This process.
    pub(super) client: Option<Duration>,
}

impl Usage {
    /// What has been used until now.
    pub(super) fn now(pids: &[u32]) -> Self {
        let servers = pids.iter().map(|pid| cpu_time(&pid.to_string())).sum::<Option<Duration>>();
        Self { servers: servers.filter(|_| !pids.is_empty()), client: cpu_time("self") }
    }

    /// CPU seconds of the nodes, and of this process, since an earlier moment, for each gigabyte.
    pub(super) fn per_gb(self, earlier: Self, bytes: u64) -> (Option<f64>, Option<f64>) {
        let per_gb = |now: Option<Duration>, then: Option<Duration>| {
            let used = now?.saturating_sub(then?).as_secs_f64();
            (bytes > 0).then(|| numbers::rounded(used / (numbers::float(bytes) / 1e9)))
        };
        (per_gb(self.servers, earlier.servers), per_gb(self.client, earlier.client))
    }
}

/// Memory of the node that has most, in megabytes: all that is resident, and of that what is not
/// backed by files.
pub(super) fn memory_mb(pids: &[u32]) -> (Option<f64>, Option<f64>) {
    let of = |field: &str| {
        let sizes = pids.iter().map(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            status_kb(&status, field)
        });
        let largest = sizes.collect::<Option<Vec<u64>>>()?.into_iter().max()?;
        Some(numbers::rounded(numbers::float(largest) * 1024.0 / 1e6))
    };
    (of("VmRSS"), of("RssAnon"))
}

/// A field of `/proc/PID/status`, in kilobytes.
fn status_kb(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn cpu_time(pid: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks_a_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(cpu_ticks(&stat)?.checked_mul(1000)?.checked_div(ticks_a_second)?))
}

/// User and system time in `/proc/PID/stat`: fields 14 and 15, counted behind the name, which may
/// hold anything in its parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    ticks()?.checked_add(ticks()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194304 100 0 0 0 250 70 0 0 20 0 3 0 500";
        assert_eq!(cpu_ticks(stat), Some(320));
        assert_eq!(cpu_ticks("12 (a) S 1"), None);
    }

    #[test]
    fn memory_is_found_by_its_field() {
        let status = "Name:\tx\nVmRSS:\t    1234 kB\nRssAnon:\t 1000 kB\n";
        assert_eq!(status_kb(status, "VmRSS"), Some(1234));
        assert_eq!(status_kb(status, "RssAnon"), Some(1000));
        assert_eq!(status_kb(status, "VmSwap"), None);
    }

    #[test]
    fn this_process_uses_memory_and_time_only_goes_on() {
        let (all, anonymous) = memory_mb(&[std::process::id()]);
        assert!(all.unwrap() >= anonymous.unwrap());
        let before = Usage::now(&[std::process::id()]);
        let after = Usage::now(&[std::process::id()]);
        assert!(after.servers.unwrap() >= before.servers.unwrap());
        assert_eq!(Usage::now(&[]).servers, None, "no process is not no time");
    }

    #[test]
    fn time_is_divided_by_gigabytes() {
        let at = |millis| Usage {
            servers: Some(Duration::from_millis(millis)),
            client: Some(Duration::from_millis(millis)),
        };
        assert_eq!(at(3_000).per_gb(at(1_000), 4_000_000_000), (Some(0.5), Some(0.5)));
        assert_eq!(at(3_000).per_gb(at(1_000), 0), (None, None));
    }
}
