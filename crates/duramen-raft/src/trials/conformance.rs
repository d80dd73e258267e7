//! openraft's own suite for log stores, those of its cases that apply.
//!
//! Left out are cases that begin a log at an index other than 0 (offsets would have no meaning),
//! that apply entries which are in no log, that purge beyond the log's end without a snapshot, and
//! that take a snapshot for the state at last applied.

use std::io;
use std::path::Path;
use std::sync::Arc;

use duramen_env::{Env, SimClock, SimDisk};
use duramen_log::{Log, LogIdentity, LogOptions};
use duramen_types::{ClusterId, NodeId, ReplicaId, Timestamp};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tokio::sync::Semaphore;

use super::cluster::{PARTITION, options};
use crate::FailStop;
use crate::group_commit::{GroupCommit, Synced};
use crate::hard_state::{HardState, Owner};
use crate::machine::Machine;
use crate::replica::{Replica, ReplicaParts};
use crate::store::LogStore;
use crate::types::TypeConfig;

struct Stores(LogOptions);

type Case = Suite<TypeConfig, LogStore, Machine, Stores, ()>;

impl Stores {
    fn store(&self) -> (LogStore, Machine) {
        let dir = Path::new("/log");
        let clock = Arc::new(SimClock::new(Timestamp::from_millis(1)));
        let env = Env::sim(1, &SimDisk::new(1), clock);
        let id = ReplicaId::new(1);
        let identity = LogIdentity { cluster: ClusterId::from_bytes([1; 16]), replica: id };
        let log = Log::create(&env.disk, &env.random, dir, identity, self.0).unwrap();
        let owner = Owner { cluster: identity.cluster, node: NodeId::new(1) };
        let tasks = env.tasks.clone();
        let hard_state = HardState::open(&env.disk, dir, owner, false, tasks).unwrap();
        let syncing = Arc::clone(&log);
        let sync = move || syncing.sync().map(|_| Synced::Done).map_err(io::Error::other);
        let commit = GroupCommit::new("sync", env.tasks.clone(), Arc::new(Semaphore::new(1)), sync);
        let parts = ReplicaParts {
            env,
            group: PARTITION,
            id,
            node: NodeId::new(1),
            dir: dir.into(),
            log,
            hard_state: Arc::new(hard_state),
            commit,
            machine: None,
            fail_stop: FailStop::new(),
        };
        let (replica, opened) = Replica::open(parts).unwrap();
        let replica = Arc::new(replica);
        (LogStore::new(Arc::clone(&replica)), Machine::new(replica, opened))
    }
}

impl StoreBuilder<TypeConfig, LogStore, Machine> for Stores {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<TypeConfig>> {
        let (store, machine) = self.store();
        Ok(((), store, machine))
    }
}

macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $case() {
                // One segment, and a segment for each entry.
                for segment_bytes in [1 << 20, 256] {
                    let stores = Stores(LogOptions { segment_bytes, ..options() });
                    let (store, machine) = stores.store();
                    Case::$case(store, machine).await.unwrap();
                }
            }
        )*
    };
}

cases! {
    append_to_log,
    delete_logs_after_0,
    delete_logs_after_11,
    delete_logs_after_5,
    delete_logs_after_none,
    entries_stream,
    get_initial_state_log_ids,
    get_initial_state_without_init,
    get_log_entries,
    get_log_id,
    get_membership_initial,
    initial_logs,
    last_membership_in_log_initial,
    leader_bounded_stream,
    limited_get_log_entries,
    log_reader_reads_new_entries,
    purge_logs_upto_0,
    purge_logs_upto_5,
    save_vote,
    try_get_log_entry,
}
