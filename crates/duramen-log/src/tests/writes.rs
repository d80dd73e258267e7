//! How frames reach their files: with direct writes and without, in small pieces and large ones.

use super::{World, all, append, at, data_of};
use crate::limits::{COVER_BYTES, WRITE_BYTES};

/// Sizes around every border between blocks and writes.
const SIZES: [usize; 10] = [
    0,
    1,
    4_096 - 120,
    4_096,
    5_000,
    COVER_BYTES,
    300_000,
    WRITE_BYTES - 120,
    WRITE_BYTES,
    2 * WRITE_BYTES + 77,
];

fn world(has_direct: bool) -> World {
    let mut world = World::new(1);
    world.options.segment_bytes = 4 << 20;
    world.options.tail_cache_bytes = 10_000;
    world.options.extent_bytes_min = 1 << 20;
    world.options.extent_bytes_max = 1 << 20;
    world.sim.set_direct(has_direct);
    world
}

#[test]
fn frames_of_all_sizes_are_in_their_files() {
    for has_direct in [true, false] {
        let world = world(has_direct);
        let log = world.create();
        let mut index = 0;
        // Each size after each other, now and then synced, so that writes begin anywhere.
        for stride in 1..SIZES.len() {
            for place in 0..SIZES.len() {
                let bytes = SIZES[(place * stride) % SIZES.len()];
                log.append(&[data_of(index, 1, bytes)]).unwrap();
                index += 1;
                if index % 3 != 0 {
                    log.sync().unwrap();
                }
            }
        }
        let before = all(&log);
        assert_eq!(before.len() as u64, index);
        log.sync().unwrap();
        drop(log);
        world.sim.kill();
        let (log, recovery) = world.open();
        assert!(recovery.torn.is_none() && recovery.damaged.is_empty(), "{recovery:?}");
        assert_eq!(all(&log), before, "direct: {has_direct}");
    }
}

#[test]
fn both_ways_write_the_same_bytes() {
    let files = [true, false].map(|has_direct| {
        let world = world(has_direct);
        let log = world.create();
        for index in 0..40 {
            append(&log, index..index + 1, 1).unwrap();
            log.sync().unwrap();
        }
        log.close().unwrap();
        world.sim.durable(&world.path(&world.segment_names()[0])).unwrap()
    });
    assert_eq!(files[0], files[1]);
}

#[test]
fn frames_that_no_sync_has_written_are_read_from_memory() {
    let world = world(true);
    let log = world.create();
    append(&log, 0..5, 1).unwrap();
    log.sync().unwrap();
    world.sim.set_trace(true);
    for index in 5..200 {
        log.append(&[data_of(index, 1, 400)]).unwrap();
    }
    assert_eq!(all(&log).len(), 200);
    let lines = world.sim.take_trace();
    assert!(!lines.iter().any(|line| line.starts_with("Write")), "{lines:?}");
    assert_eq!(log.durable_index(), Some(at(4)));
    log.shed();
    assert_eq!(all(&log).len(), 200, "what is nowhere else is not given back");
    log.sync().unwrap();
    log.shed();
    assert_eq!(all(&log).len(), 200);
}

#[test]
fn small_writes_find_blocks_that_were_written_before() {
    let world = world(true);
    let log = world.create();
    world.sim.set_trace(true);
    let mut lens: Vec<usize> = Vec::new();
    for index in 0..200 {
        append(&log, index..index + 1, 1).unwrap();
        log.sync().unwrap();
        let lines = world.sim.take_trace();
        let writes = lines.iter().filter(|line| line.starts_with("Write") && line.contains(".log"));
        let len = |line: &String| -> Option<usize> {
            line.split(" len ").nth(1)?.split(' ').next()?.parse().ok()
        };
        lens.extend(writes.filter_map(len));
    }
    let (first, later) = lens.split_first().unwrap();
    assert!(*first > COVER_BYTES, "{first}");
    assert_eq!(later.len(), 199);
    assert!(later.iter().all(|len| *len <= 8_192), "{later:?}");
}
