//! A vector against the real log, under random orders.

use std::sync::Arc;

use duramen_env::CrashMode;
use duramen_types::{Offset, Term, Timestamp};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::Config;

use super::{World, all, at, data_of, internal, start_at};
use crate::{Frame, Log, NewFrame};

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u16, bool, i16)>, bool),
    Sync,
    Commit(u8),
    Truncate(u8),
    Trim(u8),
    Roll,
    Shed,
    Close,
    Kill,
    Crash(CrashMode),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let frame = (0..700u16, any::<bool>(), any::<i16>());
    let frames = proptest::collection::vec(frame, 1..6);
    let crash = proptest::sample::select(CrashMode::ALL.to_vec());
    let step = prop_oneof![
        8 => (frames, proptest::bool::weighted(0.2)).prop_map(|(a, b)| Step::Append(a, b)),
        4 => Just(Step::Sync),
        2 => any::<u8>().prop_map(Step::Commit),
        2 => any::<u8>().prop_map(Step::Truncate),
        1 => any::<u8>().prop_map(Step::Trim),
        1 => Just(Step::Roll),
        1 => Just(Step::Shed),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        1 => crash.prop_map(Step::Crash),
    ];
    proptest::collection::vec(step, 1..40)
}

struct Model {
    world: World,
    log: Arc<Log>,
    /// All frames since the origin, trimmed ones included.
    frames: Vec<Frame>,
    start: usize,
    durable_end: usize,
    committed_end: usize,
    term: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let log = world.create();
        let frames = Vec::new();
        Self { world, log, frames, start: 0, durable_end: 0, committed_end: 0, term: 1 }
    }

    fn end(&self) -> usize {
        self.frames.len()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(frames, new_term) => self.append(&frames, new_term),
            Step::Sync => {
                self.log.sync().unwrap();
                self.durable_end = self.end();
            }
            Step::Commit(at_most) => {
                let end = scale(at_most, 0, self.end());
                if end > 0 {
                    self.log.set_committed(at(end as u64 - 1));
                }
                self.committed_end = self.committed_end.max(end);
            }
            Step::Truncate(to) => {
                let end = scale(to, self.committed_end.max(self.start), self.end());
                let last = (end > 0).then(|| at(end as u64 - 1));
                self.log.truncate_after(last).unwrap();
                self.frames.truncate(end);
                self.durable_end = self.durable_end.min(end);
            }
            Step::Trim(to) => {
                self.start = scale(to, self.start, self.committed_end.max(self.start));
                self.log.trim_to(start_at(&self.log, self.start as u64)).unwrap();
                self.durable_end = self.durable_end.max(self.start);
                self.log.remove_garbage().unwrap();
            }
            Step::Roll => self.log.roll().unwrap(),
            Step::Shed => self.log.shed(),
            Step::Close => {
                self.log.close().unwrap();
                self.durable_end = self.end();
                let recovery = self.reopen();
                assert!(recovery.clean);
            }
            Step::Kill => {
                self.world.sim.kill();
                self.durable_end = self.end();
                let recovery = self.reopen();
                assert!(recovery.torn.is_none());
            }
            Step::Crash(mode) => {
                self.world.sim.crash(mode);
                self.world.sim.reopen();
                self.reopen();
            }
        }
    }

    fn append(&mut self, frames: &[(u16, bool, i16)], new_term: bool) {
        self.term += u64::from(new_term);
        let end = self.end() as u64;
        let frames: Vec<NewFrame> = (end..)
            .zip(frames)
            .map(|(index, (bytes, is_internal, time))| {
                if *is_internal {
                    internal(index, self.term)
                } else {
                    let max_timestamp = Timestamp::from_millis(i64::from(*time));
                    let bytes = usize::from(*bytes);
                    NewFrame { max_timestamp, ..data_of(index, self.term, bytes) }
                }
            })
            .collect();
        self.log.append(&frames).unwrap();
        self.frames.extend(self.log.read(at(end), self.log.end_index(), u64::MAX).unwrap());
    }

    fn reopen(&mut self) -> crate::Recovery {
        let (log, recovery) = self.world.open();
        self.log = log;
        assert_eq!((&recovery.damaged, recovery.end_lost), (&vec![], None));
        let end = usize::try_from(self.log.end_index().get()).unwrap();
        assert!(end >= self.durable_end && end <= self.end());
        self.frames.truncate(end);
        self.durable_end = end;
        let committed = self.log.committed_index().map_or(0, |index| index.get() + 1);
        self.committed_end = usize::try_from(committed).unwrap();
        recovery
    }

    fn check(&self) {
        let kept = &self.frames[self.start..];
        assert_eq!(all(&self.log), kept);
        assert_eq!(self.log.end_index(), at(self.end() as u64));
        let end_offset = self.frames.last().map_or(Offset::ZERO, |one| one.header.end_offset());
        assert_eq!(self.log.end_offset(), end_offset);
        let durable = self.durable_end.checked_sub(1).map(|last| at(last as u64));
        assert!(self.log.durable_index() >= durable);
        let mut terms: Vec<(Term, _)> = Vec::new();
        for Frame { header, .. } in kept {
            if terms.last().is_none_or(|(term, _)| *term != header.term) {
                terms.push((header.term, header.index));
            }
        }
        assert_eq!(self.log.terms(), terms);
        let end = self.log.end_index();
        for Frame { header, .. } in kept.iter().step_by(3) {
            assert_eq!(self.log.header_at(header.index).unwrap(), *header);
            let found = self.log.frame_for_offset(header.base_offset).unwrap();
            let expected = kept
                .iter()
                .find(|one| one.header.is_data() && one.header.end_offset() > header.base_offset);
            assert_eq!(found, expected.map(|one| one.header));
            let time = header.max_timestamp;
            let found = self.log.find_timestamp(time, end).unwrap();
            let expected =
                kept.iter().find(|one| one.header.is_data() && one.header.max_timestamp >= time);
            assert_eq!(found, expected.map(|one| one.header));
        }
    }
}

fn scale(part: u8, from: usize, to: usize) -> usize {
    from + (to - from) * usize::from(part) / 255
}

proptest! {
    #![proptest_config(Config { cases: 192, failure_persistence: None, ..Config::default() })]
    #[test]
    fn the_log_is_a_vector_that_survives(seed: u64, steps in steps()) {
        let mut model = Model::new(seed);
        for step in steps {
            model.step(step);
            model.check();
        }
    }
}
