//! Stories of a log whose disk fails or is full, or has lost what was on it.

use duramen_env::{CrashMode, DiskCall, Fault};
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
    let before = all(&log);
    world.sim.inject(Fault::new(DiskCall::Write).path_contains(".log").partial());
    assert!(matches!(log.append(&[data(3, 1)]), Err(LogError::Io { action: "append", .. })));
    assert!(matches!(log.append(&[data(3, 1)]), Err(LogError::Poisoned)));
    assert!(matches!(log.sync(), Err(LogError::Poisoned)));
    assert_eq!(all(&log), before, "it still reads");
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

#[test]
fn a_write_that_meets_a_full_disk_half_way_changes_nothing() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..5, 1).unwrap();
    log.sync().unwrap();
    let full = std::io::ErrorKind::StorageFull;
    world.sim.inject(Fault::new(DiskCall::Write).path_contains(".log").error(full).partial());
    let error = log.append(&[data(5, 1), data(6, 1)]).unwrap_err();
    assert!(matches!(error, LogError::Full), "{error:?}");
    assert_eq!(world.sim.faults_hit(), 1);
    append(&log, 5..6, 2).unwrap();
    log.sync().unwrap();
    let before = all(&log);
    drop(log);
    let (log, recovery) = world.open();
    assert!(recovery.damaged.is_empty());
    assert_eq!(all(&log), before);
}

#[test]
fn a_frame_that_a_full_disk_refused_does_not_come_back() {
    let full = std::io::ErrorKind::StorageFull;
    for (mode, seed) in CrashMode::ALL.into_iter().flat_map(|mode| (0..8).map(move |n| (mode, n))) {
        let mut world = World::new(seed);
        world.options.segment_bytes = 1 << 16;
        let log = world.create();
        append(&log, 0..5, 1).unwrap();
        log.sync().unwrap();
        append(&log, 5..6, 1).unwrap();
        world.sim.inject(Fault::new(DiskCall::Write).path_contains(".log").error(full).partial());
        log.append(&[data_of(6, 1, 40), data_of(7, 1, 900)]).unwrap_err();
        assert_eq!(world.sim.faults_hit(), 1);
        if seed % 2 == 0 {
            log.sync().unwrap();
        }
        let other = data_of(6, 1, 300);
        log.append(std::slice::from_ref(&other)).unwrap();
        drop(log);
        world.sim.crash(mode);
        world.sim.reopen();
        let (log, recovery) = world.open();
        assert!(recovery.damaged.is_empty(), "{recovery:?}");
        let found = log.read(at(6).min(log.end_index()), log.end_index(), 1).unwrap_or_default();
        assert!(found.iter().all(|frame| frame.payload == other.payload), "{mode:?} {seed}");
    }
}
