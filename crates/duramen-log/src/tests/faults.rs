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

/// The disk is full when frames are written, with and without a part of them on it.
#[test]
fn a_full_disk_that_a_write_meets_changes_nothing_and_passes() {
    let full = std::io::ErrorKind::StorageFull;
    for (has_direct, is_partial) in [(true, true), (true, false), (false, true), (false, false)] {
        let world = World::new(1);
        world.sim.set_direct(has_direct);
        let log = world.create();
        append(&log, 0..5, 1).unwrap();
        log.sync().unwrap();
        append(&log, 5..40, 1).unwrap();
        let before = all(&log);
        for _ in 0..2 {
            let fault = Fault::new(DiskCall::Write).path_contains(".log").after(2).error(full);
            world.sim.inject(if is_partial { fault.partial() } else { fault });
            assert!(matches!(log.sync(), Err(LogError::Full)));
            assert_eq!((log.durable_index(), all(&log)), (Some(at(4)), before.clone()));
        }
        assert_eq!(world.sim.faults_hit(), 2);
        append(&log, 40..60, 1).unwrap();
        log.sync().unwrap();
        let after = all(&log);
        assert_eq!((log.durable_index(), after.len()), (Some(at(59)), 60));
        drop(log);
        world.sim.crash(CrashMode::KeepNone);
        world.sim.reopen();
        let (log, recovery) = world.open();
        assert!(recovery.torn.is_none() && recovery.damaged.is_empty(), "{recovery:?}");
        assert_eq!(all(&log), after);
    }
}

#[test]
fn a_frame_that_a_full_disk_did_not_take_does_not_come_back() {
    let full = std::io::ErrorKind::StorageFull;
    for (mode, seed) in CrashMode::ALL.into_iter().flat_map(|mode| (0..8).map(move |n| (mode, n))) {
        let mut world = World::new(seed);
        world.options.segment_bytes = 1 << 16;
        let log = world.create();
        append(&log, 0..6, 1).unwrap();
        log.sync().unwrap();
        log.append(&[data_of(6, 1, 40), data_of(7, 1, 900)]).unwrap();
        world.sim.inject(Fault::new(DiskCall::Write).path_contains(".log").error(full).partial());
        assert!(matches!(log.sync(), Err(LogError::Full)));
        // Its leader has others for these places.
        log.truncate_after(Some(at(5))).unwrap();
        let other = data_of(6, 2, 300);
        log.append(std::slice::from_ref(&other)).unwrap();
        if seed % 2 == 0 {
            log.sync().unwrap();
        }
        drop(log);
        world.sim.crash(mode);
        world.sim.reopen();
        let (log, recovery) = world.open();
        assert!(recovery.damaged.is_empty(), "{recovery:?}");
        let found = log.read(at(6).min(log.end_index()), log.end_index(), 1).unwrap_or_default();
        assert!(found.iter().all(|frame| frame.payload == other.payload), "{mode:?} {seed}");
        assert!(seed % 2 == 1 || log.end_index() == at(7), "what was synced is there");
    }
}

#[test]
fn what_a_reader_failed_to_write_is_not_durable() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..5, 1).unwrap();
    log.sync().unwrap();
    append(&log, 5..9, 1).unwrap();
    world.sim.inject(Fault::new(DiskCall::Write).path_contains(".log"));
    log.write_out().unwrap_err();
    assert!(matches!(log.sync(), Err(LogError::Poisoned)));
    assert!(matches!(log.write_out(), Err(LogError::Poisoned)), "nothing is left to be written");
    assert_eq!(log.durable_index(), Some(at(4)));
}
