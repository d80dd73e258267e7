//! What processes use: CPU time and memory, from `/proc`.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::numbers;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What was used while something ran.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    /// How long that was.
    pub(super) took: Duration,
    cpu: Cpu,
    /// At the time when it was most.
    pub(super) memory: Memory,
}

impl Used {
    /// CPU seconds of the nodes, and of this process, for so many units of what was done; `None` if
    /// nothing was, or if a process cannot be seen.
    pub(super) fn cpu_per(&self, units: f64) -> (Option<f64>, Option<f64>) {
        let per = |time: Option<Duration>| {
            let seconds = time?.as_secs_f64();
            (units > 0.0).then(|| numbers::rounded(seconds / units))
        };
        (per(self.cpu.servers), per(self.cpu.client))
    }
}

/// Runs something, and says what the nodes with these process ids and this process use meanwhile.
pub(super) async fn meter<T>(pids: &[u32], work: impl Future<Output = T>) -> (T, Used) {
    let mut work = pin!(work);
    let (before, began) = (Cpu::now(pids), Instant::now());
    let mut memory = Memory::now(pids);
    loop {
        let worked = timeout(LOOK, &mut work).await;
        if let Ok(value) = worked {
            let (took, cpu) = (began.elapsed(), Cpu::now(pids).since(before));
            return (value, Used { took, cpu, memory: memory.or_more(Memory::now(pids)) });
        }
        memory = memory.or_more(Memory::now(pids));
    }
}

/// CPU time that processes have used, user and system, all threads.
#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    /// The nodes together; `None` if one cannot be seen.
    servers: Option<Duration>,
    /// This process.
    client: Option<Duration>,
}

impl Cpu {
    /// What has been used until now.
    fn now(pids: &[u32]) -> Self {
        let servers = pids.iter().map(|pid| cpu_time(&pid.to_string())).sum::<Option<Duration>>();
        Self { servers: servers.filter(|_| !pids.is_empty()), client: cpu_time("self") }
    }

    fn since(self, earlier: Self) -> Self {
        let since =
            |now: Option<Duration>, then: Option<Duration>| Some(now?.saturating_sub(then?));
        Self {
            servers: since(self.servers, earlier.servers),
            client: since(self.client, earlier.client),
        }
    }
}

/// Memory of the node that has most, in megabytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Memory {
    /// All that is resident.
    pub(super) resident_mb: Option<f64>,
    /// Of that, what is not backed by files.
    pub(super) anonymous_mb: Option<f64>,
}

impl Memory {
    fn now(pids: &[u32]) -> Self {
        let of = |field: &str| {
            let sizes = pids.iter().map(|pid| {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
                status_kb(&status, field)
            });
            let largest = sizes.collect::<Option<Vec<u64>>>()?.into_iter().max()?;
            Some(numbers::rounded(numbers::float(largest) * 1024.0 / 1e6))
        };
        Self { resident_mb: of("VmRSS"), anonymous_mb: of("RssAnon") }
    }

    /// The larger of each; unknown if one of them is.
    fn or_more(self, other: Self) -> Self {
        let more = |a: Option<f64>, b: Option<f64>| Some(a?.max(b?));
        Self {
            resident_mb: more(self.resident_mb, other.resident_mb),
            anonymous_mb: more(self.anonymous_mb, other.anonymous_mb),
        }
    }
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

    #[tokio::test]
    async fn this_process_uses_memory_and_time_only_goes_on() {
        let me = [std::process::id()];
        let (value, used) = meter(&me, async { 7 }).await;
        let Memory { resident_mb, anonymous_mb } = used.memory;
        assert!(resident_mb.unwrap() >= anonymous_mb.unwrap());
        assert_eq!((value, used.cpu_per(1.0).0.is_some()), (7, true));
        let (_, unseen) = meter(&[], async {}).await;
        assert_eq!(unseen.cpu_per(1.0).0, None, "no process is not no time");
        assert_eq!(unseen.memory, Memory::default());
    }

    #[tokio::test(start_paused = true)]
    async fn looks_do_not_lengthen_what_is_measured() {
        let work = tokio::time::sleep(LOOK * 7 / 2);
        assert_eq!(meter(&[], work).await.1.took, LOOK * 7 / 2);
    }

    #[test]
    fn the_most_memory_counts() {
        let memory = |resident, anonymous| Memory {
            resident_mb: Some(resident),
            anonymous_mb: Some(anonymous),
        };
        assert_eq!(memory(9.0, 2.0).or_more(memory(8.0, 3.0)), memory(9.0, 3.0));
        assert_eq!(memory(9.0, 2.0).or_more(Memory::default()), Memory::default());
    }

    #[test]
    fn time_is_divided_by_what_was_done() {
        let at = |millis| Cpu {
            servers: Some(Duration::from_millis(millis)),
            client: Some(Duration::from_millis(2 * millis)),
        };
        let (took, memory) = (Duration::ZERO, Memory::default());
        let used = Used { took, cpu: at(3_000).since(at(1_000)), memory };
        assert_eq!(used.cpu_per(4.0), (Some(0.5), Some(1.0)));
        assert_eq!(used.cpu_per(0.0), (None, None));
    }
}
