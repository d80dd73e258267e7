//! Readers, a flusher and a trimmer beside an appender that also truncates, on a real disk.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{World, all, at, data_of, start_at};
use crate::boundary::Boundary;
use crate::{Log, LogError};

const FRAMES: u64 = 3000;

/// Appends in small batches; now and then cuts what is not committed and goes on in a new term.
fn append_and_cut(log: &Log) {
    let (mut index, mut term, mut cut_at) = (0, 1, 0);
    while index < FRAMES {
        let count = 1 + index % 5;
        let bytes = usize::try_from(index % 400).unwrap();
        let batch: Vec<_> = (index..index + count).map(|one| data_of(one, term, bytes)).collect();
        log.append(&batch).unwrap();
        index += count;
        if index > cut_at + 20 {
            cut_at = index;
            let end = index - 6.min(index - log.committed_index().map_or(0, |one| one.get() + 1));
            log.truncate_after(at(end).prev()).unwrap();
            (index, term) = (end, term + 1);
        }
        if index > 30 {
            log.set_committed(at(index - 20));
        }
    }
}

/// Reads stretches all over the log: each is gapless and of one history.
fn read(log: &Log, done: &AtomicBool, stride: u64) -> u64 {
    let (mut seen, mut next) = (0, 0);
    while !done.load(Ordering::Acquire) {
        match log.read(at(next), at(next + 40), 4000) {
            Ok(frames) => {
                assert_eq!(frames[0].header.index, at(next));
                for pair in frames.windows(2) {
                    let (before, after) = (&pair[0].header, &pair[1].header);
                    // A truncate between two reads of one call may join two histories, but only
                    // where the later term begins.
                    if Boundary::after(before).follow(after).is_err() {
                        assert!(before.term < after.term);
                        assert_eq!(before.index.next(), after.index);
                    }
                }
                seen += frames.len() as u64;
                next += stride;
            }
            Err(LogError::OutOfRange { start, end, .. }) => {
                assert!(at(next) < start || at(next) >= end);
                next = start.get();
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    seen
}

#[test]
fn readers_never_see_a_frame_that_is_not_whole() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::on_real_disk(dir.path());
    let log = world.create();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers = [1, 17, 61].map(|stride| {
            let (log, done) = (&log, &done);
            scope.spawn(move || read(log, done, stride))
        });
        let syncing = scope.spawn(|| {
            let mut durable = None;
            while !done.load(Ordering::Acquire) {
                durable = log.sync().unwrap();
            }
            durable
        });
        let trimming = scope.spawn(|| {
            let mut trimmed = 0;
            while !done.load(Ordering::Acquire) {
                let committed = log.committed_index().map_or(0, |index| index.get());
                let target = committed.saturating_sub(700);
                if target > trimmed {
                    log.trim_to(start_at(&log, target)).unwrap();
                    log.remove_garbage().unwrap();
                    trimmed = target;
                }
                log.shed();
            }
            trimmed
        });
        append_and_cut(&log);
        done.store(true, Ordering::Release);
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() > 0));
        assert!(syncing.join().unwrap().is_some());
        assert!(trimming.join().unwrap() > 0);
    });
    assert!(!log.is_damaged());
    let before = all(&log);
    log.close().unwrap();
    let (log, recovery) = world.open();
    assert!(recovery.clean);
    assert_eq!(all(&log), before);
}
