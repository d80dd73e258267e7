//! Damage to what was synced: found, never served, never cut.

use std::sync::Arc;

use duramen_env::{Corruption, CrashMode};
use duramen_types::Offset;

use super::{World, all, append, at, data, data_of, identity, start_at};
use crate::{
    DamagedRange, ErrorKind, FrameFault, FrameSight, Log, LogError, LogStart, OpenError,
    ProblemClass, dump_file, verify_dir,
};

/// A log of 40 synced frames in several segments, and where each frame lies.
fn closed_log(world: &World) -> Vec<(String, u64, u64)> {
    let log = world.create();
    append(&log, 0..40, 1).unwrap();
    log.close().unwrap();
    places(world)
}

/// Segment name, position and payload length of every frame.
fn places(world: &World) -> Vec<(String, u64, u64)> {
    let mut places = Vec::new();
    for name in world.segment_names() {
        let path = world.path(&name);
        dump_file(&world.disk, &path, &mut |sight: FrameSight<'_>| {
            places.push((name.clone(), sight.position, sight.payload.len() as u64));
        })
        .unwrap();
    }
    places
}

/// Reads what is there and checks that the rest is refused and nothing else.
fn check_all_but(log: &Log, sound: &[crate::Frame], lost: std::ops::RangeInclusive<u64>) {
    for frame in sound {
        let index = frame.header.index;
        match log.read(index, index.next(), 1) {
            Ok(read) => {
                assert!(!lost.contains(&index.get()), "served {index}");
                assert_eq!(&read[0], frame);
            }
            Err(error) => {
                assert!(lost.contains(&index.get()), "{index}: {error:?}");
                assert_eq!(error.kind(), ErrorKind::Corrupt);
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_a_sealed_segment_is_never_served_nor_cut() {
    for (what, offset) in [("payload", 125), ("header", 70), ("envelope", 30)] {
        let world = World::new(1);
        let places = closed_log(&world);
        let sound = all(&world.open().0);
        let (name, position, _) = &places[10];
        let path = world.path(name);
        world.sim.corrupt(&path, position + offset, Corruption::FlipBit(2)).unwrap();
        let before = world.sim.durable(&path).unwrap();

        let (log, recovery) = world.open();
        assert!(recovery.clean, "{what}: a sealed segment is trusted until it is read");
        log.set_committed(at(39));
        let error = log.read(at(10), at(11), 1).unwrap_err();
        assert!(matches!(error, LogError::Corrupt { index, .. } if index == at(10)), "{error:?}");
        assert!(log.is_damaged());
        assert_eq!(log.read(at(8), at(40), 100_000).unwrap().len(), 2, "it stops before");
        drop(log);

        // The next open scans the segment and knows the damage before anything is served.
        let (log, recovery) = world.open();
        let (first, last) = (at(10), at(10));
        assert_eq!(recovery.damaged, [DamagedRange { first, last }], "{what}");
        assert_eq!((recovery.end_lost, log.end_index()), (None, at(40)));
        check_all_but(&log, &sound, 10..=10);
        assert_eq!(log.read(at(11), at(40), 100_000).unwrap(), sound[11..]);
        append(&log, 40..45, 1).unwrap();
        log.sync().unwrap();
        assert_eq!(world.sim.durable(&path).unwrap(), before, "{what}: nothing was cut");
        drop(log);
        assert_eq!(world.open().1.damaged.len(), 1, "and again");
    }
}

#[test]
fn damage_below_the_durable_end_of_the_active_segment_is_not_torn() {
    let mut world = World::new(1);
    world.options.segment_bytes = 1 << 20;
    let log = world.create();
    append(&log, 0..6, 1).unwrap();
    log.sync().unwrap();
    append(&log, 6..7, 1).unwrap();
    log.sync().unwrap();
    let sound = all(&log);
    drop(log);
    let places = places(&world);
    let (name, position, _) = &places[3];
    world.sim.corrupt(&world.path(name), position + 60, Corruption::FlipBit(0)).unwrap();
    let (log, recovery) = world.open();
    assert_eq!(recovery.damaged, [DamagedRange { first: at(3), last: at(3) }]);
    assert_eq!((recovery.torn, log.end_index()), (None, at(7)));
    check_all_but(&log, &sound, 3..=3);
    let report = verify_dir(&world.disk, &world.dir, &mut |_| {}).unwrap();
    assert_eq!(report.problems.len(), 1);
    let problem = &report.problems[0];
    assert_eq!((problem.class, problem.index), (ProblemClass::Corrupt, at(3)));
    assert_eq!((problem.position, problem.fault), (*position, FrameFault::HeaderChecksum));
}

#[test]
fn a_lost_end_is_reported_and_takes_no_appends() {
    for keep in [0, 100] {
        let mut world = World::new(1);
        world.options.segment_bytes = 1 << 20;
        let places = closed_log(&world);
        let (name, position, _) = &places[38];
        let path = world.path(name);
        let bytes = world.sim.durable(&path).unwrap();
        let cut = usize::try_from(position + keep).unwrap();
        world.sim.replace(&path, &bytes[..cut]).unwrap();
        let (log, recovery) = world.open();
        assert_eq!(recovery.end_lost, Some(at(38)));
        assert_eq!(recovery.damaged, [DamagedRange { first: at(38), last: at(39) }]);
        assert_eq!(log.end_index(), at(38));
        let error = log.append(&[data(38, 1)]).unwrap_err();
        assert!(matches!(error, LogError::EndLost { first } if first == at(38)));
        assert_eq!(all(&log).len(), 38);
        assert_eq!(world.sim.durable(&path).unwrap(), bytes[..cut]);
        drop(log);
        assert_eq!(world.open().1.end_lost, Some(at(38)));
    }
}

#[test]
fn damage_below_the_log_start_does_not_hide_what_lay_behind_it() {
    let mut world = World::new(1);
    world.options.segment_bytes = 1 << 20;
    let log = world.create();
    append(&log, 0..6, 1).unwrap();
    log.set_committed(at(5));
    log.sync().unwrap();
    let (name, position, _) = places(&world).swap_remove(2);
    log.trim_to(start_at(&log, 4)).unwrap();
    append(&log, 6..8, 1).unwrap();
    log.sync().unwrap();
    drop(log);
    let path = world.path(&name);
    let bytes = world.sim.durable(&path).unwrap();
    world.sim.replace(&path, &bytes[..usize::try_from(position).unwrap()]).unwrap();
    for _ in 0..2 {
        let (_, recovery) = world.open();
        assert_eq!(recovery.end_lost, Some(at(4)));
        assert_eq!(recovery.damaged, [DamagedRange { first: at(4), last: at(7) }]);
    }
}

#[test]
fn the_start_of_another_history_is_noticed() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..10, 1).unwrap();
    log.set_committed(at(9));
    log.roll().unwrap();
    append(&log, 10..12, 1).unwrap();
    log.set_committed(at(11));
    log.sync().unwrap();
    log.trim_to(start_at(&log, 10)).unwrap();
    drop(log);
    let other = World::new(2);
    let log = other.create();
    append(&log, 0..10, 2).unwrap();
    log.set_committed(at(9));
    log.roll().unwrap();
    log.trim_to(start_at(&log, 10)).unwrap();
    drop(log);
    let foreign = other.sim.durable(&other.path("log-start")).unwrap();
    world.sim.replace(&world.path("log-start"), &foreign).unwrap();
    assert!(world.open().0.is_damaged());
}

#[test]
fn the_start_of_another_replica_is_refused() {
    let world = World::new(1);
    append(&world.create(), 0..10, 1).unwrap();
    let mut other = World::new(2);
    other.identity = identity(8);
    let log = other.create();
    log.reset_to(LogStart { first_index: at(40), ..start_at(&log, 0) }).unwrap();
    drop(log);
    let foreign = other.sim.durable(&other.path("log-start")).unwrap();
    world.sim.replace(&world.path("log-start"), &foreign).unwrap();
    assert!(matches!(world.try_open(), Err(OpenError::StartLost)));
}

#[test]
fn a_flipped_bit_in_what_was_written_whole_is_no_torn_write() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..3, 1).unwrap();
    log.sync().unwrap();
    let sound = all(&log);
    let (name, position, _) = places(&world).swap_remove(1);
    drop(log);
    for byte in [26, 130] {
        // Nothing but the sync says that it was synced, and the hint of that goes with the power.
        world.sim.crash(CrashMode::KeepNone);
        world.sim.reopen();
        let place = position + byte;
        world.sim.corrupt(&world.path(&name), place, Corruption::FlipBit(3)).unwrap();
        let (log, recovery) = world.open();
        assert_eq!(recovery.torn, None);
        assert!(log.is_damaged());
        check_all_but(&log, &sound, 1..=1);
        drop(log);
        world.sim.corrupt(&world.path(&name), place, Corruption::FlipBit(3)).unwrap();
    }
}

#[test]
fn damage_at_the_end_is_not_forgotten_when_the_log_is_closed() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..2, 1).unwrap();
    log.sync().unwrap();
    let (name, position, _) = places(&world).pop().unwrap();
    drop(log);
    world.sim.crash(CrashMode::KeepNone);
    world.sim.reopen();
    world.sim.corrupt(&world.path(&name), position + 26, Corruption::FlipBit(3)).unwrap();
    for _ in 0..2 {
        let (log, recovery) = world.open();
        assert_eq!(recovery.end_lost, Some(at(1)));
        log.close().unwrap();
    }
}

#[test]
fn a_frame_of_another_term_is_not_served() {
    let mut world = World::new(1);
    world.options.segment_bytes = 1 << 20;
    let log = world.create();
    append(&log, 0..8, 1).unwrap();
    log.sync().unwrap();
    let (name, position, _) = places(&world).swap_remove(5);
    let path = world.path(&name);
    let before = world.sim.durable(&path).unwrap();
    log.truncate_after(Some(at(3))).unwrap();
    append(&log, 4..8, 2).unwrap();
    log.roll().unwrap();
    append(&log, 8..9, 2).unwrap();
    log.set_committed(at(8));
    log.close().unwrap();
    let sound = all(&world.open().0);
    // The disk goes back to what the place of one frame held before it was cut.
    let mut bytes = world.sim.durable(&path).unwrap();
    let from = usize::try_from(position).unwrap();
    let until = from + usize::try_from(sound[5].header.frame_bytes()).unwrap();
    bytes[from..until].copy_from_slice(&before[from..until]);
    world.sim.replace(&path, &bytes).unwrap();
    let (log, _) = world.open();
    check_all_but(&log, &sound, 5..=5);
}

#[test]
fn a_missing_segment_is_damage() {
    let world = World::new(1);
    let places = closed_log(&world);
    let sound = all(&world.open().0);
    let names = world.segment_names();
    let lost: Vec<u64> =
        (0..40).filter(|index| places[usize::try_from(*index).unwrap()].0 == names[1]).collect();
    world.disk.remove_file(&world.path(&names[1])).unwrap();
    let (log, recovery) = world.open();
    let (first, last) = (lost[0], *lost.last().unwrap());
    assert_eq!(recovery.damaged, [DamagedRange { first: at(first), last: at(last) }]);
    check_all_but(&log, &sound, first..=last);
    let offset = Offset::new(first * 2);
    assert!(matches!(log.frame_for_offset(offset), Err(LogError::Corrupt { .. }) | Ok(None)));
}

#[test]
fn a_missing_first_segment_is_damage() {
    let world = World::new(1);
    closed_log(&world);
    let names = world.segment_names();
    world.disk.remove_file(&world.path(&names[0])).unwrap();
    let (log, recovery) = world.open();
    assert_eq!(recovery.damaged.len(), 1);
    assert_eq!(recovery.damaged[0].first, at(0));
    assert_eq!(log.end_index(), at(40));
    assert!(matches!(log.read(at(0), at(1), 1), Err(LogError::Corrupt { .. })));
}

#[test]
fn a_bad_sector_is_an_error_and_not_a_torn_write() {
    let mut world = World::new(1);
    world.options.segment_bytes = 1 << 20;
    let log = world.create();
    append(&log, 0..6, 1).unwrap();
    log.sync().unwrap();
    log.append(&[data_of(6, 1, 20_000)]).unwrap();
    let last = log.segments()[0].bytes - 10_000;
    world.sim.crash(CrashMode::KeepAll);
    world.sim.reopen();
    let path = world.path(&world.segment_names()[0]);
    world.sim.corrupt(&path, last, Corruption::UnreadableSector).unwrap();
    let (log, recovery) = world.open();
    assert_eq!(recovery.torn, None);
    assert_eq!(recovery.damaged, [DamagedRange { first: at(6), last: at(6) }]);
    assert!(log.is_damaged());
}

#[test]
fn a_frame_that_ends_beyond_the_file_is_passed_over_once() {
    let world = World::new(1);
    let places = closed_log(&world);
    let (name, position, payload) = &places[10];
    let path = world.path(name);
    let mut bytes = world.sim.durable(&path).unwrap();
    bytes.truncate(usize::try_from(position + 120 + payload - 1).unwrap());
    for damaged in [0, bytes.len() - 200] {
        let mut bytes = bytes.clone();
        bytes[damaged] ^= 1;
        world.sim.replace(&path, &bytes).unwrap();
        let mut last = None;
        dump_file(&world.disk, &path, &mut |sight: FrameSight<'_>| {
            last = Some(sight.header.index);
        })
        .unwrap();
        assert!(last < Some(at(10)), "{last:?}");
        assert!(!verify_dir(&world.disk, &world.dir, &mut |_| {}).unwrap().problems.is_empty());
    }
    assert!(world.open().0.is_damaged());
}

#[test]
fn every_flipped_byte_is_found_and_nothing_else_is_lost() {
    let reference = World::new(1);
    closed_log(&reference);
    let sound = all(&reference.open().0);
    let name = reference.segment_names()[0].clone();
    let bytes = reference.sim.durable(&reference.path(&name)).unwrap();
    for position in (0..bytes.len() as u64).step_by(13) {
        let world = World::new(1);
        let places = closed_log(&world);
        world.sim.corrupt(&world.path(&name), position, Corruption::FlipBit(6)).unwrap();
        let report = verify_dir(&world.disk, &world.dir, &mut |_| {}).unwrap();
        let hit = places.iter().position(|(file, from, len)| {
            *file == name && (*from..*from + 120 + len).contains(&position)
        });
        match hit {
            Some(hit) => {
                assert_eq!(report.problems.len(), 1, "{position}: {report:?}");
                assert_eq!(report.problems[0].index, at(hit as u64), "{position}");
            }
            None if position < 128 => assert_eq!(report.problems[0].position, 0, "the head"),
            None => assert_eq!(report.problems, [], "padding means nothing"),
        }
        let (log, _) = world.open();
        log.set_committed(at(39));
        let hit = hit.map_or(u64::MAX, |hit| hit as u64);
        for frame in &sound {
            let index = frame.header.index;
            if let Ok(read) = log.read(index, index.next(), 1) {
                assert_ne!(index.get(), hit, "{position}");
                assert_eq!(&read[0], frame);
            }
        }
        assert_eq!(log.is_damaged(), hit != u64::MAX, "{position}");
    }
}

#[test]
fn an_older_generation_proves_nothing_after_a_truncate() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..9, 1).unwrap();
    log.sync().unwrap();
    append(&log, 9..10, 1).unwrap();
    log.sync().unwrap();
    log.truncate_after(Some(at(2))).unwrap();
    append(&log, 3..5, 2).unwrap();
    world.sim.crash(CrashMode::KeepNone);
    world.sim.reopen();
    let (log, recovery) = world.open();
    assert!(recovery.damaged.is_empty(), "{recovery:?}");
    assert_eq!(log.end_index(), at(3));
}

#[test]
fn frames_of_a_cut_suffix_that_linger_prove_nothing() {
    let mut world = World::new(1);
    world.options.segment_bytes = 1 << 20;
    let log = world.create();
    for index in 0..9 {
        append(&log, index..index + 1, 1).unwrap();
        log.sync().unwrap();
    }
    let places = places(&world);
    let path = world.path(&places[0].0);
    let old = world.sim.durable(&path).unwrap();
    log.truncate_after(Some(at(2))).unwrap();
    drop(log);
    // A disk that recycles blocks may show the old frames behind a hole where new ones were lost.
    let mut lingering = old.clone();
    let hole = usize::try_from(places[3].1).unwrap()..usize::try_from(places[4].1).unwrap();
    lingering[hole].fill(0);
    world.sim.replace(&path, &lingering).unwrap();
    let (log, recovery) = world.open();
    assert_eq!((recovery.damaged, log.end_index()), (vec![], at(3)));
    assert!(recovery.torn.is_some());
}

#[test]
fn two_logs_do_not_mix() {
    let world = World::new(1);
    closed_log(&world);
    let other = World::new(2);
    closed_log(&other);
    let name = world.segment_names()[1].clone();
    let foreign = other.sim.durable(&other.path(&name)).unwrap();
    world.sim.replace(&world.path(&name), &foreign).unwrap();
    let (log, _) = world.open();
    let arc: &Arc<Log> = &log;
    // The same history in another segment: its index does not fit, a scan finds it sound.
    assert_eq!(all(arc).len(), 40);
    let diverged = World::new(3);
    let log = diverged.create();
    append(&log, 0..40, 2).unwrap();
    log.close().unwrap();
    let foreign = diverged.sim.durable(&diverged.path(&name)).unwrap();
    world.sim.replace(&world.path(&name), &foreign).unwrap();
    let (_, recovery) = world.open();
    assert!(!recovery.damaged.is_empty(), "another history is damage");
}
