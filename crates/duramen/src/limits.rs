//! Limits and timings of the commands, each with its reason.

use std::time::Duration;

/// Where clients look for a node if nobody says.
pub(crate) const DEFAULT_SERVER: &str = "127.0.0.1:7650";

/// The first node's port of a cluster for development.
pub(crate) const DEV_PORT: u16 = 7650;

/// Distance between the ports of two such nodes: room for gRPC, HTTP and peers.
pub(crate) const DEV_PORT_STEP: u16 = 10;

/// The HTTP port lies this far behind the gRPC port, unless it is given.
pub(crate) const HTTP_PORT_STEP: u16 = 1;

/// The port for other nodes lies this far behind the gRPC port, unless it is given.
pub(crate) const PEER_PORT_STEP: u16 = 2;

/// Nodes of a cluster for development at most.
pub(crate) const DEV_NODES_MAX: u64 = 9;

/// Where free ports are sought: below the range that the system gives to outgoing connections.
pub(crate) const FREE_PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How long a new cluster may take until it is usable.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is looked at.
pub(crate) const READY_INTERVAL: Duration = Duration::from_millis(100);

/// How long one look may take.
pub(crate) const READY_CALL: Duration = Duration::from_secs(2);

/// First wait before a node that ended is started again.
pub(crate) const RESTART_MIN: Duration = Duration::from_millis(200);

/// The longest such wait.
pub(crate) const RESTART_MAX: Duration = Duration::from_secs(5);

/// A node that ran this long is no longer failing: its next wait is the first again.
pub(crate) const RESTART_FORGET: Duration = Duration::from_secs(10);

/// A node that never ran and ended this often in a row will not run.
pub(crate) const STARTS_MAX: u32 = 4;

/// How long nodes may take to shut down before they are killed.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a description waits for what only leaders know.
pub(crate) const DESCRIBE_LEADER: Duration = Duration::from_secs(2);

/// How often a command that waits for a move looks how far it is.
pub(crate) const MOVE_INTERVAL: Duration = Duration::from_millis(500);

/// Bytes read from an input at a time.
pub(crate) const INPUT_BYTES: usize = 256 << 10;

/// How often a person sees that a measurement goes on.
pub(crate) const SPINNER_TICK: Duration = Duration::from_millis(250);

/// How long one pass over everything that was written may take.
pub(crate) const BENCH_PASS: Duration = Duration::from_secs(3600);

/// Deliveries that may be waited for at a time: more would only take memory.
pub(crate) const DELIVERIES: usize = 64 << 10;

/// The largest value of a record that is read from an input, in bytes.
pub(crate) const RECORD_BYTES_MAX: usize = 16 << 20;

/// Bytes gathered before they are written to stdout.
pub(crate) const OUTPUT_BYTES: usize = 64 << 10;

/// The most that one batch may decompress to.
pub(crate) const DECOMPRESSED_BYTES: usize = 128 << 20;

/// How often a replay writes down how far it is.
pub(crate) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// After an interruption, a replay waits until the target has not grown for this long: what was
/// under way when it was interrupted has arrived then.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);

/// Connections that the HTTP listener serves at a time.
pub(crate) const HTTP_CONNECTIONS: usize = 64;

/// How long an HTTP client may take for its request head.
pub(crate) const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a node may take to say who leads, when a fault is to hit the leader.
pub(crate) const LEADER_LOOKUP: Duration = Duration::from_millis(500);

/// Records of a group that are gathered before they are written: all of them come again if it is
/// killed before.
pub(crate) const GROUP_RECORDS: usize = 1_000;

/// How often a member looks whether it has read all that it is given.
pub(crate) const GROUP_LOOK: Duration = Duration::from_millis(200);

/// How often a reset is planned anew because the group has changed.
pub(crate) const RESET_ATTEMPTS: u32 = 5;

/// Wait before a reset is planned anew: members come and go a few at a time.
pub(crate) const RESET_WAIT: Duration = Duration::from_millis(300);

/// How long it need not be said again that a coordinator is not reached.
pub(crate) const DISCONNECTED_AGAIN: Duration = Duration::from_secs(10);

/// Says how many threads run what never blocks: the name that tokio gave it.
pub(crate) const THREADS_VARIABLE: &str = "TOKIO_WORKER_THREADS";

/// So many of them at most, far more than the cores of any machine: what is beyond is a mistake,
/// and would fail later and less clearly.
pub(crate) const THREADS_MAX: usize = 1_024;

/// How many windows of batches a benchmark's producer takes in ahead of what is acknowledged.
pub(crate) const WINDOWS_AHEAD: usize = 4;
