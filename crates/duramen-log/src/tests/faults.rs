//! Stories of a log whose disk fails or is full, or has lost what was on it.

use duramen_env::{DiskCall, Fault};
use duramen_types::ClusterId;

use super::{World, all, append, at, data, data_of, identity};
use crate::{ErrorKind, Log, LogError, LogIdentity, NewFrame, OpenError};

#[test]
fn a_lost_or_foreign_log_is_never_taken_for_a_new_one() {
    let world = World::new(1);
    assert!(matches!(world.try_open(), Err(OpenError::Missing)));
    let log = world.create();
    append(&log, 0..3, 1).unwrap();
    log.close().unwrap();
    assert!(matches!(world.try_create(), Err(OpenError::Exists)));
    let open =
        |identity| Log::open(&world.disk, &world.random, &world.dir, identity, world.options);
    assert!(matches!(open(identity(8)), Err(OpenError::WrongReplica { .. })));
    let cluster = ClusterId::from_bytes([1; 16]);
    let foreign = LogIdentity { cluster, ..world.identity };
    assert!(matches!(open(foreign), Err(OpenError::WrongCluster { .. })));

    let meta = world.sim.durable(&world.path("meta")).unwrap();
    world.sim.replace(&world.path("meta"), &vec![0; meta.len()]).unwrap();
    assert!(matches!(world.try_open(), Err(OpenError::MetaLost)));
    world.disk.remove_file(&world.path("meta")).unwrap();
    assert!(matches!(world.try_open(), Err(OpenError::MetaLost)));
    assert!(matches!(world.try_create(), Err(OpenError::Exists)));
}

#[test]
fn a_lost_log_start_is_an_error() {
    let world = World::new(1);
    drop(world.create());
    world.sim.replace(&world.path("log-start"), b"DURSTART").unwrap();
    let error = world.try_open().unwrap_err();
    assert!(matches!(error, OpenError::StartLost));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn a_failed_sync_poisons_the_log_for_ever() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..3, 1).unwrap();
    log.sync().unwrap();
    append(&log, 3..5, 1).unwrap();
    world.sim.inject(Fault::new(DiskCall::Sync).path_contains(".log").lying());
    let error = log.sync().unwrap_err();
    assert!(matches!(error, LogError::Io { .. }));
    assert_eq!((error.kind(), log.durable_index()), (ErrorKind::Fatal, Some(at(2))));
    assert!(matches!(log.sync(), Err(LogError::Poisoned)));
    assert!(matches!(log.append(&[data(5, 1)]), Err(LogError::Poisoned)));
    assert!(matches!(log.truncate_after(Some(at(3))), Err(LogError::Poisoned)));
    assert!(matches!(log.close(), Err(LogError::Poisoned)));
}

#[test]
fn a_failed_write_poisons_the_log() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..3, 1).unwrap();
    log.sync().unwrap();
    let before = all(&log);
    world.sim.inject(Fault::new(DiskCall::Write).path_contains(".log").partial());
    log.append(&[data(3, 1)]).unwrap();
    assert!(matches!(log.sync(), Err(LogError::Io { action: "write a segment", .. })));
    assert!(matches!(log.append(&[data(4, 1)]), Err(LogError::Poisoned)));
    assert!(matches!(log.sync(), Err(LogError::Poisoned)));
    assert_eq!(log.durable_index(), Some(at(2)));
    let after = all(&log);
    assert_eq!(after.split_last().unwrap().1, before, "it still reads");
}

#[test]
fn a_full_disk_changes_nothing_and_passes() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..5, 1).unwrap();
    log.sync().unwrap();
    let before = all(&log);
    let names = world.segment_names();
    world.sim.set_capacity(Some(16 << 10));
    let batch: Vec<NewFrame> = (5..30).map(|index| data_of(index, 1, 900)).collect();
    let error = log.append(&batch).unwrap_err();
    assert!(matches!(error, LogError::Full), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Retry);
    assert_eq!((all(&log), world.segment_names()), (before, names));
    world.sim.set_capacity(None);
    log.append(&batch).unwrap();
    log.sync().unwrap();
    let after = all(&log);
    drop(log);
    let (log, recovery) = world.open();
    assert!(recovery.torn.is_none() && recovery.damaged.is_empty());
    assert_eq!(all(&log), after);
}
