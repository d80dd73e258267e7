//! Stories of a log in good health, and of what it refuses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duramen_env::{Corruption, CrashMode};
use duramen_types::{Offset, Term, Timestamp};

use super::{World, all, append, at, data, data_of, internal, start_at};
use crate::format::segment::SEGMENT_HEAD_BYTES;
use crate::limits::FRAME_OVERHEAD_BYTES;
use crate::{ErrorKind, FrameFault, LogError, LogStart, NewFrame, verify_dir};

#[test]
fn offsets_are_dense_and_internal_frames_count_none() {
    let world = World::new(1);
    let log = world.create();
    let appended = log.append(&[internal(0, 1), data(1, 1), internal(2, 2), data(3, 2)]).unwrap();
    assert_eq!((appended.base_offset, appended.end_offset), (Offset::ZERO, Offset::new(4)));
    let offsets: Vec<u64> = all(&log).iter().map(|one| one.header.base_offset.get()).collect();
    assert_eq!(offsets, [0, 0, 2, 2]);
    assert_eq!(log.terms(), [(Term::new(1), at(0)), (Term::new(2), at(2))]);
    assert_eq!(log.last(), Some((Term::new(2), at(3))));
}

#[test]
fn a_frame_is_readable_at_once_and_durable_after_a_sync() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..3, 1).unwrap();
    assert_eq!(all(&log).len(), 3);
    assert_eq!(log.durable_index(), None);
    assert!(log.unsynced_bytes() > 0);
    assert_eq!(log.sync().unwrap(), Some(at(2)));
    assert_eq!((log.durable_index(), log.unsynced_bytes()), (Some(at(2)), 0));
}

#[test]
fn two_replicas_have_the_same_chain_or_one_of_them_notices() {
    let (one, two) = (World::new(1), World::new(2));
    let (leader, follower) = (one.create(), two.create());
    append(&leader, 0..20, 1).unwrap();
    follower.append_canonical(&all(&leader)).unwrap();
    assert_eq!(all(&leader), all(&follower));
    assert_eq!(leader.chain_at_end(), follower.chain_at_end());

    append(&leader, 20..22, 1).unwrap();
    append(&follower, 20..21, 2).unwrap();
    let frames = leader.read(at(21), at(22), 1000).unwrap();
    let error = follower.append_canonical(&frames).unwrap_err();
    assert!(matches!(error, LogError::Diverged { index, .. } if index == at(21)), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(follower.end_index(), at(21));
}

#[test]
fn a_follower_refuses_frames_that_were_changed_on_the_way() {
    let (one, two) = (World::new(1), World::new(2));
    let (leader, follower) = (one.create(), two.create());
    append(&leader, 0..1, 1).unwrap();
    let sound = all(&leader).remove(0);
    let mut cases = Vec::new();
    let mut bad = sound.clone();
    bad.payload = Bytes::from(vec![0; bad.payload.len()]);
    cases.push((bad, FrameFault::PayloadChecksum));
    let mut bad = sound.clone();
    bad.payload = bad.payload.slice(1..);
    cases.push((bad, FrameFault::PayloadLength));
    let mut bad = sound.clone();
    bad.header.records = 3;
    cases.push((bad, FrameFault::Chain));
    let mut bad = sound.clone();
    bad.header.base_offset = Offset::new(1);
    let fault = FrameFault::Offset { found: Offset::new(1), expected: Offset::ZERO };
    cases.push((bad, fault));
    for (bad, expected) in cases {
        match follower.append_canonical(&[bad]) {
            Err(LogError::Diverged { fault, .. }) => assert_eq!(fault, expected),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(follower.end_index(), at(0));
    follower.append_canonical(&[sound]).unwrap();
}

#[test]
fn a_wrong_frame_is_refused_and_nothing_changes() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..2, 5).unwrap();
    let before = all(&log);
    let error = log.append(&[data(2, 5), data(4, 5)]).unwrap_err();
    assert!(matches!(error, LogError::NotNext { expected, .. } if expected == at(3)));
    let error = log.append(&[data(2, 4)]).unwrap_err();
    assert!(matches!(error, LogError::BadFrame { fault: FrameFault::Term { .. }, .. }));
    let error = log.append(&[NewFrame { records: 1, ..internal(2, 5) }]).unwrap_err();
    assert!(matches!(error, LogError::BadFrame { fault: FrameFault::InternalRecords, .. }));
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(all(&log), before);
    assert_eq!(log.sync().unwrap(), Some(at(1)));
}

#[test]
fn the_append_time_never_goes_back() {
    let world = World::new(1);
    let log = world.create();
    let early = NewFrame { append_time: Timestamp::from_millis(5), ..data(1, 1) };
    log.append(&[data(0, 1), early]).unwrap();
    let frames = all(&log);
    assert_eq!(frames[1].header.append_time, frames[0].header.append_time);
}

#[test]
fn segments_roll_by_size_by_age_and_on_request() {
    let world = World::new(1);
    let log = world.create();
    log.append(&(0..20).map(|index| data(index, 1)).collect::<Vec<_>>()).unwrap();
    let segments = log.segments();
    assert!(segments.len() > 2, "one append may span segments");
    assert!(segments.iter().all(|one| one.bytes <= 1500));
    for pair in segments.windows(2) {
        assert_eq!(pair[0].last_index.next(), pair[1].first_index);
        assert_eq!(pair[0].end_offset, pair[1].base_offset);
        assert!(pair[0].sealed);
    }
    let count = segments.len();
    log.roll().unwrap();
    log.roll().unwrap();
    assert!(log.segments()[count - 1].sealed);
    append(&log, 20..21, 1).unwrap();
    assert_eq!(log.segments().len(), count + 1);
    let late = Timestamp::from_millis(1210 + 60_000);
    log.set_options(crate::LogOptions { segment_ms: 60_000, ..world.options });
    log.append(&[NewFrame { append_time: late, ..data(21, 1) }]).unwrap();
    assert_eq!(log.segments().len(), count + 2);
    assert_eq!(all(&log).len(), 22);
}

#[test]
fn a_frame_larger_than_a_segment_gets_its_own() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..1, 1).unwrap();
    log.append(&[data_of(1, 1, 100_000), data_of(2, 1, 10)]).unwrap();
    assert_eq!(log.segments().len(), 3);
    let read = log.read(at(1), at(3), 10).unwrap();
    assert_eq!((read.len(), read[0].payload.len()), (1, 100_000));
}

#[test]
fn reads_stay_within_their_bounds() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..30, 1).unwrap();
    assert_eq!(log.read(at(4), at(4), 1000).unwrap(), []);
    assert_eq!(log.read(at(4), at(6), 100_000).unwrap().len(), 2);
    assert_eq!(log.read(at(28), at(99), 100_000).unwrap().len(), 2);
    assert_eq!(log.read(at(3), at(30), 1).unwrap().len(), 1);
    let bytes: usize =
        log.read(at(0), at(30), 2000).unwrap().iter().map(|one| one.payload.len() + 120).sum();
    assert!(bytes <= 2000);
    let error = log.read(at(30), at(31), 1).unwrap_err();
    assert!(matches!(error, LogError::OutOfRange { end, .. } if end == at(30)));
    let headers = log.read_headers(at(2), at(30), 25).unwrap();
    assert_eq!(headers.len(), 25);
    assert_eq!(headers, all(&log)[2..27].iter().map(|one| one.header).collect::<Vec<_>>());
}

#[test]
fn an_offset_finds_its_frame_wherever_it_lies() {
    let world = World::new(1);
    let log = world.create();
    for index in 0..40 {
        let frame = if index % 3 == 0 { internal(index, 1) } else { data(index, 1) };
        log.append(&[frame]).unwrap();
    }
    log.sync().unwrap();
    for reopened in [false, true] {
        let log = if reopened { world.open().0 } else { Arc::clone(&log) };
        for offset in (0..log.end_offset().get()).map(Offset::new) {
            let header = log.frame_for_offset(offset).unwrap().unwrap();
            assert!(header.base_offset <= offset && offset < header.end_offset());
            let frames = log.read_at_offset(offset, at(40), 500, Duration::ZERO).unwrap();
            assert_eq!(frames[0].header, header);
            assert!(frames.iter().all(|one| one.header.is_data()));
        }
        assert_eq!(log.frame_for_offset(log.end_offset()).unwrap(), None);
        assert_eq!(log.read_at_offset(log.end_offset(), at(40), 500, Duration::ZERO).unwrap(), []);
        assert_eq!(log.read_at_offset(Offset::ZERO, at(1), 500, Duration::ZERO).unwrap(), []);
        let error = log.frame_for_offset(Offset::new(999)).unwrap_err();
        assert!(matches!(error, LogError::OffsetOutOfRange { .. }));
    }
}

#[test]
fn a_time_finds_the_first_frame_in_log_order() {
    let world = World::new(1);
    let log = world.create();
    let times = [5, 90, 10, 30, 95, 20, 200, 40, 150, 60, 300, 7];
    for (index, time) in times.iter().enumerate() {
        let max_timestamp = Timestamp::from_millis(*time);
        log.append(&[NewFrame { max_timestamp, ..data(index as u64, 1) }]).unwrap();
    }
    let end = log.end_index();
    for time in 0..=301 {
        let expected = times.iter().position(|one| *one >= time).map(|one| at(one as u64));
        let wanted = Timestamp::from_millis(time);
        let found = log.find_timestamp(wanted, end).unwrap();
        assert_eq!(found.map(|header| header.index), expected, "{time}");
        let below = log.find_timestamp(wanted, at(3)).unwrap();
        assert_eq!(below.map(|header| header.index), expected.filter(|one| *one < at(3)));
    }
}

#[test]
fn a_log_keeps_its_share_of_its_end_in_memory_and_all_that_is_not_written() {
    let mut world = World::new(1);
    world.options.tail_cache_bytes = 1 << 20;
    let log = world.create();
    append(&log, 0..4, 1).unwrap();
    log.share_tail(0);
    assert!(log.is_cached(at(0)), "it is nowhere else yet");
    log.sync().unwrap();
    assert!(log.is_cached(at(3)) && !log.is_cached(at(2)), "the newest is asked for next");
    log.age_tail();
    assert!(log.is_cached(at(3)), "it may have come just before");
    log.age_tail();
    assert!(!log.is_cached(at(3)));
    log.share_tail(u64::MAX);
    append(&log, 4..8, 1).unwrap();
    log.sync().unwrap();
    assert!(log.is_cached(at(4)) && !log.is_cached(at(3)));
    let frame_bytes = log.header_at(at(7)).unwrap().frame_bytes();
    log.share_tail(frame_bytes);
    assert!(log.is_cached(at(7)) && !log.is_cached(at(6)));
    log.set_options(world.options);
    append(&log, 8..9, 1).unwrap();
    log.sync().unwrap();
    assert!(!log.is_cached(at(7)), "other options are no other share");
    assert_eq!(all(&log).len(), 9);
}

#[test]
fn trimmed_frames_are_out_of_range_and_live_slices_stay() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..40, 1).unwrap();
    log.sync().unwrap();
    log.set_committed(at(39));
    log.shed();
    let slice = log.read(at(0), at(1), 1).unwrap().remove(0).payload;
    let copy = slice.to_vec();
    let error = log.trim_to(LogStart { prev_chain: 1, ..start_at(&log, 21) }).unwrap_err();
    assert!(matches!(error, LogError::BadStart { .. }));
    log.trim_to(start_at(&log, 21)).unwrap();
    assert!(log.remove_garbage().unwrap() > 0);
    assert_eq!(slice, copy);
    assert_eq!(log.start().first_index, at(21));
    assert_eq!(log.start().state, "state at 21");
    let error = log.read(at(20), at(40), 1).unwrap_err();
    assert!(matches!(error, LogError::OutOfRange { start, .. } if start == at(21)));
    let error = log.frame_for_offset(Offset::new(41)).unwrap_err();
    assert!(matches!(error, LogError::OffsetOutOfRange { .. }));
    assert_eq!(log.terms(), [(Term::new(1), at(21))]);
    let before = all(&log);
    log.close().unwrap();
    let (log, recovery) = world.open();
    assert!(recovery.clean);
    assert_eq!(all(&log), before);
    assert_eq!(log.start().state, "state at 21");
    assert_eq!(log.log_start_at(at(21)).unwrap(), log.start());
    let time = log.find_timestamp(Timestamp::MIN, at(40)).unwrap();
    assert_eq!(time.map(|header| header.index), Some(at(21)));
}

#[test]
fn everything_can_be_trimmed_and_the_log_goes_on() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..10, 1).unwrap();
    log.set_committed(at(9));
    log.roll().unwrap();
    log.trim_to(start_at(&log, 10)).unwrap();
    assert!(log.segments().is_empty() && log.terms().is_empty());
    assert_eq!((log.last(), log.durable_index()), (Some((Term::new(1), at(9))), Some(at(9))));
    drop(log);
    let (log, _) = world.open();
    assert_eq!(log.end_offset(), Offset::new(20));
    append(&log, 10..12, 2).unwrap();
    assert_eq!(log.terms(), [(Term::new(2), at(10))]);
    assert_eq!(all(&log)[0].header.base_offset, Offset::new(20));
}

#[test]
fn a_suffix_is_truncated_and_replaced() {
    for cut in 1..30 {
        let world = World::new(cut);
        let log = world.create();
        append(&log, 0..30, 1).unwrap();
        log.sync().unwrap();
        let before = all(&log);
        log.truncate_after(Some(at(cut - 1))).unwrap();
        assert_eq!(log.end_index(), at(cut));
        assert_eq!(log.durable_index(), Some(at(cut - 1)));
        assert_eq!(all(&log), before[..usize::try_from(cut).unwrap()]);
        append(&log, cut..cut + 9, 2).unwrap();
        let after = all(&log);
        let terms = log.terms();
        assert_eq!(terms, [(Term::new(1), at(0)), (Term::new(2), at(cut))]);
        log.close().unwrap();
        let (log, recovery) = world.open();
        assert!(recovery.clean);
        assert_eq!((all(&log), log.terms()), (after, terms));
    }
}

#[test]
fn a_committed_frame_is_never_truncated() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..10, 1).unwrap();
    log.set_committed(at(5));
    let error = log.truncate_after(Some(at(4))).unwrap_err();
    assert!(matches!(error, LogError::Committed { .. }));
    assert!(matches!(log.truncate_after(None), Err(LogError::Committed { .. })));
    log.truncate_after(Some(at(5))).unwrap();
    assert_eq!(log.end_index(), at(6));
    log.sync().unwrap();
    drop(log);
    let (log, recovery) = world.open();
    assert_eq!(recovery.committed, Some(at(5)));
    assert!(matches!(log.truncate_after(Some(at(4))), Err(LogError::Committed { .. })));
}

#[test]
fn a_reset_goes_on_at_the_snapshot() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..10, 1).unwrap();
    let start = LogStart {
        first_index: at(100),
        base_offset: Offset::new(700),
        prev_term: Some(Term::new(4)),
        prev_chain: 77,
        prev_append_time: Timestamp::from_millis(9000),
        state: Bytes::from_static(b"snapshot"),
    };
    log.reset_to(start.clone()).unwrap();
    assert_eq!((log.start(), log.end_index()), (start.clone(), at(100)));
    assert_eq!(log.last(), Some((Term::new(4), at(99))));
    append(&log, 100..105, 4).unwrap();
    log.sync().unwrap();
    let frames = all(&log);
    assert_eq!(frames[0].header.base_offset, Offset::new(700));
    drop(log);
    let (log, _) = world.open();
    assert_eq!((log.start(), all(&log)), (start, frames));
    let error = log.reset_to(LogStart::origin()).unwrap_err();
    assert!(matches!(error, LogError::Committed { .. }));
}

#[test]
fn a_closed_log_takes_no_more_but_reads_on() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..3, 1).unwrap();
    log.close().unwrap();
    assert!(matches!(log.append(&[data(3, 1)]), Err(LogError::Closed)));
    assert!(matches!(log.sync(), Err(LogError::Closed)));
    assert_eq!(all(&log).len(), 3);
}

#[test]
fn only_committed_sealed_segments_are_mapped() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..20, 1).unwrap();
    log.sync().unwrap();
    let maps = || {
        world.sim.set_trace(true);
        assert_eq!(all(&log).len(), 20);
        let lines = world.sim.take_trace();
        lines.iter().filter(|line| line.starts_with("Map") && line.contains(".log")).count()
    };
    assert_eq!(maps(), 0);
    let second = log.segments()[1];
    log.set_committed(second.last_index.prev().unwrap());
    assert_eq!(maps(), 1, "the second is not wholly committed");
    assert_eq!(maps(), 0, "the mapping is kept");
    log.set_committed(at(19));
    assert_eq!(maps(), log.segments().len() - 2, "and the active one never is");
}

#[test]
fn too_much_in_flight_is_synced_by_the_append() {
    let mut world = World::new(1);
    world.options.inflight_bytes_max = 2000;
    let log = world.create();
    append(&log, 0..30, 1).unwrap();
    assert!(log.durable_index() > Some(at(15)));
    assert!(log.unsynced_bytes() <= 2000);
    let error = log.append(&[data_of(30, 1, 3000)]).unwrap_err();
    assert!(matches!(error, LogError::TooLarge { bytes_max: 2000, .. }));
}

#[test]
fn the_heads_of_new_segments_are_not_in_flight() {
    let mut world = World::new(1);
    world.options.inflight_bytes_max = 2000;
    world.options.segment_bytes = 200;
    let log = world.create();
    append(&log, 0..3, 1).unwrap();
    log.sync().unwrap();
    for index in 3..13 {
        log.append(&[data_of(index, 1, 60)]).unwrap();
    }
    assert_eq!(log.durable_index(), Some(at(2)), "all of them fit");
    log.write_out().unwrap();
    drop(log);
    world.sim.crash(CrashMode::KeepAll);
    world.sim.reopen();
    let third = world.path("00000000000000000003.log");
    world.sim.corrupt(&third, 0, Corruption::ZeroSectors(1)).unwrap();
    let (log, recovery) = world.open();
    assert!(recovery.torn.is_some() && recovery.damaged.is_empty(), "{recovery:?}");
    assert_eq!(log.end_index(), at(3));
}

#[test]
fn a_damaged_index_is_rebuilt() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..40, 1).unwrap();
    log.close().unwrap();
    let before = all(&log);
    let name = world.segment_names()[0].replace(".log", ".index");
    let bytes = world.sim.durable(&world.path(&name)).unwrap();
    assert!(bytes.is_empty(), "an index is never synced");
    for garbage in [&b""[..], b"garbage", &[0; 400]] {
        world.sim.replace(&world.path(&name), garbage).unwrap();
        let (log, recovery) = world.open();
        assert!(recovery.damaged.is_empty());
        assert_eq!(all(&log), before);
        log.close().unwrap();
    }
}

#[test]
fn sealed_segments_are_not_read_at_open() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..60, 1).unwrap();
    log.close().unwrap();
    let first = world.segment_names()[0].clone();
    world.sim.set_trace(true);
    let (log, recovery) = world.open();
    assert!(recovery.clean);
    let reads = world.sim.take_trace();
    let reads =
        reads.iter().filter(|line| line.starts_with("Read") && line.contains(&first)).count();
    assert_eq!(reads, 1, "only the head is read");
    assert_eq!(all(&log).len(), 60);
}

#[test]
fn it_works_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::on_real_disk(dir.path());
    let log = world.create();
    append(&log, 0..100, 1).unwrap();
    log.append(&[data_of(100, 1, 300_000)]).unwrap();
    log.sync().unwrap();
    log.set_committed(at(70));
    log.truncate_after(Some(at(80))).unwrap();
    append(&log, 81..120, 2).unwrap();
    log.trim_to(start_at(&log, 33)).unwrap();
    log.remove_garbage().unwrap();
    log.sync().unwrap();
    log.shed();
    let before = all(&log);
    assert_eq!(before.len(), 120 - 33);
    drop(log);
    let (log, recovery) = world.open();
    assert!(!recovery.clean && recovery.torn.is_none() && recovery.damaged.is_empty());
    assert_eq!(all(&log), before);
    log.close().unwrap();
    assert!(world.open().1.clean);
    let mut frames = 0;
    let report = verify_dir(&world.disk, &world.dir, &mut |_| frames += 1).unwrap();
    assert_eq!((report.problems.len(), report.end_index, report.frames), (0, at(120), frames));
    assert_eq!(report.chain, log.chain_at_end());
}

/// What a consumer's read found sound is served without another check, but not for long, and never
/// to a replica.
#[test]
fn a_mapped_payload_is_checked_once_a_minute_for_consumers_and_always_for_replicas() {
    use std::os::unix::fs::FileExt as _;
    for is_replica in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let world = World::on_real_disk(dir.path());
        let log = world.create();
        append(&log, 0..100, 1).unwrap();
        log.sync().unwrap();
        log.set_committed(at(99));
        let read = |second| log.read_at_offset(Offset::ZERO, at(1), 1, Duration::from_secs(second));
        // The first byte of the first payload changes, as on a disk that rots.
        let sound = read(5).unwrap()[0].payload[0];
        let segment = world.dir.join(format!("{:020}.log", 0));
        let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
        let payload = SEGMENT_HEAD_BYTES + FRAME_OVERHEAD_BYTES;
        file.write_at(&[!sound], payload as u64).unwrap();
        assert_eq!(read(64).unwrap()[0].payload[0], !sound);
        let found = if is_replica { log.read(at(0), at(1), 1) } else { read(65) };
        assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn a_segment_is_warm_for_a_minute_after_consumers_read_all_of_it() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..100, 1).unwrap();
    log.sync().unwrap();
    log.set_committed(at(99));
    let (now, minute) = (Duration::from_secs(7), Duration::from_secs(60));
    assert!(!log.is_offset_warm(Offset::ZERO, now));
    let mut offset = Offset::ZERO;
    while let Some(last) = log.read_at_offset(offset, at(99), 100, now).unwrap().pop() {
        offset = last.header.end_offset();
    }
    let is_warm = |offset, now| log.is_offset_warm(Offset::new(offset), now);
    assert!(is_warm(0, now) && is_warm(offset.get() / 2, now + minute / 2));
    assert!(!is_warm(0, now + minute));
    // The segment that takes appends is not mapped.
    assert!(!is_warm(offset.get(), now));
}
