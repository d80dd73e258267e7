//! Power cuts at every point of a story, with everything a power cut may do.

use bytes::Bytes;
use duramen_env::{CrashMode, DiskCall, Fault};
use duramen_types::Offset;

use super::{World, all, append, at, data, internal};
use crate::{Frame, Log, LogError, LogStart, NewFrame, OpenError};

/// What may and what must be there after a crash.
#[derive(Default)]
struct Expected {
    /// The frames of the log, trimmed ones included, as the story has them.
    frames: Vec<Frame>,
    /// One past the last index that must be there.
    durable_end: usize,
    /// The frames before a truncate that is under way.
    before_cut: Option<Vec<Frame>>,
    /// The log starts that may be in force.
    starts: Vec<LogStart>,
    /// The index of `frames[0]`.
    first: usize,
    /// Where a reset that is under way leads: to an empty log.
    resetting: Option<LogStart>,
    /// What an append that failed may have left.
    pending: Vec<NewFrame>,
}

impl Expected {
    fn append(&mut self, log: &Log, frames: &[NewFrame]) -> Result<(), LogError> {
        self.pending = frames.to_vec();
        log.append(frames)?;
        let from = frames[0].index;
        self.frames.extend(log.read(from, log.end_index(), u64::MAX)?);
        self.pending.clear();
        Ok(())
    }

    fn sync(&mut self, log: &Log) -> Result<(), LogError> {
        log.sync()?;
        self.durable_end = self.first + self.frames.len();
        Ok(())
    }

    fn truncate(&mut self, log: &Log, end: usize) -> Result<(), LogError> {
        self.before_cut = Some(self.frames.clone());
        self.frames.truncate(end - self.first);
        self.durable_end = self.durable_end.min(end);
        log.truncate_after(Some(at(end as u64 - 1)))?;
        self.before_cut = None;
        Ok(())
    }

    fn trim(&mut self, log: &Log, index: u64) -> Result<(), LogError> {
        let state = Bytes::from(format!("state at {index}"));
        let start = LogStart { state, ..log.log_start_at(at(index))? };
        self.starts.push(start.clone());
        log.trim_to(start)?;
        self.starts.drain(..self.starts.len() - 1);
        log.remove_garbage().map(drop)
    }

    fn reset(&mut self, log: &Log, start: LogStart) -> Result<(), LogError> {
        self.starts.push(start.clone());
        self.resetting = Some(start.clone());
        log.reset_to(start.clone())?;
        let first = usize::try_from(start.first_index.get()).unwrap();
        *self = Self { starts: vec![start], first, durable_end: first, ..Self::default() };
        Ok(())
    }

    /// Compares with what recovery made of it.
    fn check(&self, log: &Log) {
        let start = log.start();
        assert!(self.starts.contains(&start), "{start:?}");
        let first = usize::try_from(start.first_index.get()).unwrap();
        let found = all(log);
        if self.resetting.as_ref() == Some(&start) {
            assert_eq!(found, [], "a frame of before the reset");
            return;
        }
        let end = first + found.len();
        assert!(end >= self.durable_end, "synced {} but found {end}", self.durable_end);
        let is_prefix = |frames: &[Frame]| {
            let Some(rest) = frames.get(first - self.first..) else { return false };
            let known = rest.len().min(found.len());
            let (found, more) = found.split_at(known);
            let matches = |(one, new): (&Frame, &NewFrame)| {
                one.header.index == new.index
                    && one.header.term == new.term
                    && one.payload == new.payload
            };
            rest.starts_with(found)
                && more.len() <= self.pending.len()
                && more.iter().zip(&self.pending).all(matches)
        };
        assert!(
            is_prefix(&self.frames) || self.before_cut.as_deref().is_some_and(is_prefix),
            "the log is not one that there ever was"
        );
    }
}

/// Everything a log does, in little.
fn story(log: &Log, expected: &mut Expected) -> Result<(), LogError> {
    let batch = |range: std::ops::Range<u64>, term| {
        range.map(|index| data(index, term)).collect::<Vec<_>>()
    };
    expected.append(log, &[internal(0, 1)])?;
    expected.append(log, &batch(1..4, 1))?;
    expected.sync(log)?;
    expected.append(log, &batch(4..6, 1))?;
    expected.append(log, &batch(6..16, 1))?;
    expected.sync(log)?;
    expected.append(log, &batch(16..19, 1))?;
    log.set_committed(at(9));
    expected.truncate(log, 17)?;
    expected.append(log, &batch(17..26, 2))?;
    expected.truncate(log, 11)?;
    expected.append(log, &batch(11..14, 3))?;
    log.roll()?;
    expected.append(log, &batch(14..20, 3))?;
    expected.sync(log)?;
    log.set_committed(at(19));
    expected.trim(log, 9)?;
    expected.append(log, &batch(20..22, 3))?;
    expected.trim(log, 13)?;
    expected.sync(log)?;
    expected.append(log, &batch(22..23, 3))?;
    log.close()
}

fn world_and_log(seed: u64) -> (World, std::sync::Arc<Log>, Expected) {
    let world = World::new(seed);
    let log = world.create();
    let expected = Expected { starts: vec![LogStart::origin()], ..Expected::default() };
    (world, log, expected)
}

/// Cuts the power at each mutating call of a story and checks what is left, twice.
fn at_every_point(seeds: u64, tell: &dyn Fn(&Log, &mut Expected) -> Result<(), LogError>) {
    let (world, log, mut expected) = world_and_log(0);
    let before = world.sim.mutations();
    tell(&log, &mut expected).unwrap();
    let calls = world.sim.mutations() - before;
    assert!(calls > 5, "{calls}");
    for mode in CrashMode::ALL {
        for (seed, call) in (0..seeds).flat_map(|seed| (0..calls).map(move |call| (seed, call))) {
            let (world, log, mut expected) = world_and_log(seed);
            world.sim.crash_after(call, mode);
            let told = tell(&log, &mut expected);
            if !world.sim.is_down() {
                world.sim.crash(mode);
            }
            drop(told);
            drop(log);
            world.sim.cancel_crash();
            world.sim.reopen();
            recover_twice(&world, &expected, (mode, seed, call));
        }
    }
}

fn recover_twice(world: &World, expected: &Expected, point: (CrashMode, u64, u64)) {
    let (log, recovery) = world.open();
    assert_eq!((&recovery.damaged, recovery.end_lost), (&vec![], None), "{point:?}");
    expected.check(&log);
    let (found, start) = (all(&log), log.start());
    drop(log);
    world.sim.crash(CrashMode::KeepNone);
    world.sim.reopen();
    let (log, recovery) = world.open();
    assert_eq!((recovery.torn, &recovery.damaged), (None, &vec![]), "{point:?}");
    assert_eq!((all(&log), log.start()), (found.clone(), start), "{point:?}");
    let end = log.end_index().get();
    append(&log, end..end + 12, 9).unwrap();
    log.sync().unwrap();
    let after = all(&log);
    assert_eq!(after[..found.len()], found);
    drop(log);
    world.sim.crash(CrashMode::KeepNone);
    world.sim.reopen();
    assert_eq!(all(&world.open().0), after, "{point:?}");
}

#[test]
fn what_was_synced_survives_a_power_cut_at_every_point() {
    at_every_point(4, &story);
}

#[test]
fn a_reset_is_all_or_nothing() {
    at_every_point(4, &|log, expected| {
        let batch: Vec<_> = (0..12).map(|index| data(index, 1)).collect();
        expected.append(log, &batch)?;
        expected.sync(log)?;
        // Into the log as it is, but with another history.
        log.set_committed(at(3));
        let start = LogStart {
            base_offset: Offset::new(99),
            prev_chain: 1,
            state: Bytes::from_static(b"one"),
            ..log.log_start_at(at(8))?
        };
        expected.reset(log, start)?;
        expected.append(log, &[data(8, 1), data(9, 1)])?;
        expected.sync(log)?;
        // And far beyond it.
        let state = Bytes::from_static(b"two");
        let start = LogStart { first_index: at(50), state, ..log.log_start_at(at(10))? };
        expected.reset(log, start)?;
        expected.append(log, &[data(50, 1)])?;
        expected.sync(log)
    });
}

#[test]
fn a_call_that_fails_loses_nothing_that_was_synced() {
    use DiskCall::{Allocate, Open, Read, Remove, Rename, SetLen, Sync, SyncDir, Write};
    for call in [Allocate, Open, Read, Remove, Rename, SetLen, Sync, SyncDir, Write] {
        for (number, power_cut) in (0..400).flat_map(|number| [(number, true), (number, false)]) {
            let (world, log, mut expected) = world_and_log(number);
            let fault = Fault::new(call).after(number);
            let fault = if call == Sync && power_cut { fault.lying() } else { fault.partial() };
            world.sim.inject(fault);
            let told = story(&log, &mut expected);
            if world.sim.faults_hit() == 0 {
                assert!(told.is_ok() && number > 0, "{call:?} {number}");
                break;
            }
            assert!(number < 399);
            world.sim.clear_faults();
            if told.is_err() {
                // Nothing that was left in doubt may be undone or repeated by this process.
                let end = log.end_index();
                if log.append(&[data(end.get(), 9)]).is_ok() {
                    log.truncate_after(end.prev()).unwrap();
                }
            }
            drop(log);
            if power_cut {
                world.sim.crash(CrashMode::KeepNone);
                world.sim.reopen();
            } else {
                world.sim.kill();
            }
            recover_twice(&world, &expected, (CrashMode::KeepNone, number, number));
        }
    }
}

#[test]
fn a_log_is_created_or_not() {
    for mode in CrashMode::ALL {
        for (seed, call) in (0..4).flat_map(|seed| (0..20).map(move |call| (seed, call))) {
            let world = World::new(seed);
            world.sim.crash_after(call, mode);
            let created = world.try_create().is_ok();
            if !world.sim.is_down() {
                world.sim.crash(mode);
            }
            world.sim.cancel_crash();
            world.sim.reopen();
            match world.try_open() {
                Ok((log, _)) => assert_eq!(log.end_index(), at(0)),
                Err(OpenError::Missing) => {
                    // Above `/logs` nothing was synced: the caller owns those names.
                    assert!(!created || !world.disk.exists(&world.dir).unwrap(), "{mode:?} {call}");
                    drop(world.create());
                }
                Err(error) => panic!("{error:?} {mode:?} {seed} {call}"),
            }
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    let (world, log, mut expected) = world_and_log(3);
    story(&log, &mut expected).unwrap();
    let (log, _) = world.open();
    append(&log, 23..30, 3).unwrap();
    log.write_out().unwrap();
    let before = all(&log);
    world.sim.kill();
    let (log, recovery) = world.open();
    assert!(recovery.torn.is_none());
    assert_eq!((all(&log), log.durable_index()), (before, Some(at(29))));
}

#[test]
fn a_truncate_whose_last_sync_failed_is_over_once_the_log_was_opened() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..20, 1).unwrap();
    log.sync().unwrap();
    world.sim.inject(Fault::new(DiskCall::Sync).path_contains("meta").after(1));
    log.truncate_after(Some(at(9))).unwrap_err();
    assert_eq!(world.sim.faults_hit(), 1);
    drop(log);
    world.sim.kill();
    drop(world.open());
    world.sim.crash(CrashMode::KeepNone);
    world.sim.reopen();
    let record = crate::meta::peek(world.disk.as_ref(), &world.dir).unwrap();
    assert_eq!((record.cut_end, record.durable_end), (None, at(10)));
}

#[test]
fn what_a_failed_sync_left_in_memory_is_made_durable_by_the_next_process() {
    for synced in [0, 7, 30] {
        let world = World::new(5);
        let log = world.create();
        append(&log, 0..synced, 1).unwrap();
        log.sync().unwrap();
        append(&log, synced..60, 1).unwrap();
        let fault = Fault::new(DiskCall::Sync).path_contains(".log").times(u64::MAX);
        world.sim.inject(fault.lying());
        assert!(log.sync().is_err());
        drop(log);
        world.sim.kill();
        world.sim.clear_faults();
        let (log, _) = world.open();
        let frames = all(&log);
        assert_eq!(frames.len(), 60, "the page cache has what was written");
        world.sim.crash(CrashMode::KeepNone);
        world.sim.reopen();
        let (log, recovery) = world.open();
        assert!(recovery.damaged.is_empty());
        assert_eq!(all(&log), frames);
    }
}

#[test]
fn a_torn_tail_is_cut_and_reported() {
    let mut world = World::new(1);
    world.options.segment_bytes = 1 << 20;
    let log = world.create();
    append(&log, 0..5, 1).unwrap();
    log.sync().unwrap();
    append(&log, 5..8, 1).unwrap();
    log.write_out().unwrap();
    let path = world.path(&world.segment_names()[0]);
    world.sim.crash(CrashMode::KeepAll);
    world.sim.reopen();
    // The last bytes were never written.
    let end = usize::try_from(log.segments()[0].bytes).unwrap();
    let mut bytes = world.sim.durable(&path).unwrap();
    bytes[end - 10..end].fill(0);
    world.sim.replace(&path, &bytes).unwrap();
    let (log, recovery) = world.open();
    let torn = recovery.torn.unwrap();
    assert_eq!((torn.index, recovery.durable), (at(7), Some(at(6))));
    assert_eq!(log.end_index(), at(7));
    assert!(recovery.damaged.is_empty() && !recovery.clean);
    drop(log);
    assert_eq!(world.open().1.torn, None);
}

#[test]
fn an_interrupted_truncate_is_finished_at_open() {
    for call in [DiskCall::Remove, DiskCall::SetLen, DiskCall::Sync] {
        let (world, log, _) = world_and_log(1);
        append(&log, 0..40, 1).unwrap();
        log.sync().unwrap();
        let fault =
            if call == DiskCall::Sync { Fault::new(call).after(1) } else { Fault::new(call) };
        world.sim.inject(fault);
        log.truncate_after(Some(at(7))).unwrap_err();
        assert_eq!(world.sim.faults_hit(), 1);
        assert!(matches!(log.append(&[data(8, 2)]), Err(LogError::Poisoned)));
        drop(log);
        world.sim.kill();
        let (log, recovery) = world.open();
        assert_eq!((log.end_index(), recovery.torn), (at(8), None), "{call:?}");
        append(&log, 8..20, 2).unwrap();
        log.sync().unwrap();
        let before = all(&log);
        drop(log);
        assert_eq!(all(&world.open().0), before);
    }
}

#[test]
fn no_record_says_that_frames_are_committed_that_a_power_cut_may_take() {
    let world = World::new(1);
    let log = world.create();
    append(&log, 0..5, 1).unwrap();
    log.sync().unwrap();
    append(&log, 5..8, 1).unwrap();
    log.set_committed(at(5));
    // Its record is synced, the frame before it is not.
    log.truncate_after(Some(at(6))).unwrap();
    drop(log);
    for _ in 0..2 {
        world.sim.crash(CrashMode::KeepNone);
        world.sim.reopen();
        let (log, _) = world.open();
        let committed = log.committed_index();
        assert!(committed <= Some(at(4)), "{committed:?}");
        // Others at the same indexes; the hint of their sync goes with the power.
        append(&log, log.end_index().get()..8, 2).unwrap();
        log.sync().unwrap();
    }
}

#[test]
fn hints_never_cost_the_metadata() {
    for seed in 0..60 {
        let (world, log, _) = world_and_log(seed);
        append(&log, 0..1, 1).unwrap();
        log.sync().unwrap();
        drop(log);
        world.sim.kill();
        let (log, _) = world.open();
        append(&log, 1..2, 1).unwrap();
        log.sync().unwrap();
        append(&log, 2..3, 1).unwrap();
        log.sync().unwrap();
        drop(log);
        world.sim.crash(CrashMode::KeepRandom);
        world.sim.reopen();
        assert_eq!(world.open().0.end_index(), at(3));
    }
}
