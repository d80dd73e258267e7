//! What power loss leaves, against what the model allows.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A change of the one file, or a sync of it.
#[derive(Clone, Debug)]
enum Op {
    Write(u64, u8, usize),
    SetLen(u64),
    Sync,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..6000u64, 1..=255u8, 1..3000usize).prop_map(|(p, b, l)| Op::Write(p, b, l)),
        1 => (0..9000u64).prop_map(Op::SetLen),
        1 => Just(Op::Sync),
    ]
}

/// Every content of the file since the last sync, the synced one first.
fn run(file: &dyn DiskFile, ops: &[Op]) -> Vec<Vec<u8>> {
    let mut versions = vec![Vec::new()];
    for op in ops {
        let mut now: Vec<u8> = versions.last().cloned().unwrap();
        match op {
            Op::Write(position, byte, len) => {
                file.write_at(&vec![*byte; *len], *position).unwrap();
                let start = usize::try_from(*position).unwrap();
                now.resize(now.len().max(start + len), 0);
                now[start..start + len].fill(*byte);
                versions.push(now);
            }
            Op::SetLen(len) => {
                file.set_len(*len).unwrap();
                now.resize(usize::try_from(*len).unwrap(), 0);
                versions.push(now);
            }
            Op::Sync => {
                file.sync_data().unwrap();
                versions = vec![now];
            }
        }
    }
    versions
}

fn after_crash(seed: u64, ops: &[Op], mode: CrashMode) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (disk, file) = disk_with_file(seed);
    let versions = run(&*file, ops);
    disk.crash(mode);
    disk.reopen();
    (content(&disk, "f"), versions)
}

fn sector(bytes: &[u8], at: usize) -> [u8; SECTOR_BYTES] {
    let mut sector = [0; SECTOR_BYTES];
    let rest = bytes.get(at * SECTOR_BYTES..).unwrap_or_default();
    let len = rest.len().min(SECTOR_BYTES);
    sector[..len].copy_from_slice(&rest[..len]);
    sector
}

proptest! {
    #[test]
    fn keeping_none_gives_the_synced_content(seed: u64, ops in vec(op(), 0..20)) {
        let (found, versions) = after_crash(seed, &ops, CrashMode::KeepNone);
        prop_assert_eq!(&found, &versions[0]);
    }

    #[test]
    fn keeping_all_gives_the_latest_content(seed: u64, ops in vec(op(), 0..20)) {
        let (found, versions) = after_crash(seed, &ops, CrashMode::KeepAll);
        prop_assert_eq!(Some(&found), versions.last());
    }

    #[test]
    fn keeping_a_prefix_gives_a_moment_torn_at_a_sector(seed: u64, ops in vec(op(), 0..20)) {
        let (found, versions) = after_crash(seed, &ops, CrashMode::KeepPrefix);
        let torn = versions.windows(2).any(|pair| {
            let (before, after) = (&pair[0], &pair[1]);
            let sectors = after.len().max(before.len()).div_ceil(SECTOR_BYTES);
            (0..=sectors).any(|cut| (0..sectors).all(|at| {
                // The sectors up to the cut are new, those behind it old.
                let from = if at < cut { after } else { before };
                sector(&found, at) == sector(from, at)
            }))
        });
        prop_assert!(torn || versions.contains(&found));
    }

    #[test]
    fn keeping_at_random_gives_each_sector_one_of_its_contents(
        seed: u64,
        ops in vec(op(), 0..20),
    ) {
        let (found, versions) = after_crash(seed, &ops, CrashMode::KeepRandom);
        prop_assert!(versions.iter().any(|version| version.len() == found.len()));
        for at in 0..found.len().div_ceil(SECTOR_BYTES) {
            let end = found.len();
            let allowed = versions.iter().any(|version| {
                // The file may end within a sector that was written before or after.
                let cut = &version[..version.len().min(end)];
                sector(cut, at) == sector(&found, at)
            });
            prop_assert!(allowed || has_cut(&versions), "sector {}", at);
        }
        for (at, byte) in found.iter().enumerate() {
            let allowed = versions.iter().any(|version| version.get(at) == Some(byte));
            prop_assert!(allowed || *byte == 0, "byte {}", at);
        }
    }

    #[test]
    fn one_seed_gives_one_outcome(seed: u64, ops in vec(op(), 0..20)) {
        for mode in CrashMode::ALL {
            prop_assert_eq!(after_crash(seed, &ops, mode).0, after_crash(seed, &ops, mode).0);
        }
    }

    #[test]
    fn names_survive_a_crash_as_far_as_they_were_synced(
        seed: u64,
        ops in vec((0..4usize, 0..4usize, 0..4u8), 0..20),
    ) {
        let disk = SimDisk::new(seed);
        let names = ["a", "b", "c", "d"];
        let mut versions = vec![BTreeMap::<usize, u8>::new()];
        for (at, other, what) in ops {
            let mut now = versions.last().cloned().unwrap();
            match what {
                0 => {
                    let Ok(file) = disk.open(&path(names[at]), OpenMode::CreateNew) else {
                        continue;
                    };
                    let label = u8::try_from(disk.mutations()).unwrap();
                    file.write_at(&[label], 0).unwrap();
                    file.sync_data().unwrap();
                    now.insert(at, label);
                }
                1 => {
                    if disk.rename(&path(names[at]), &path(names[other])).is_err() {
                        continue;
                    }
                    let label = now.remove(&at).unwrap();
                    now.insert(other, label);
                }
                2 => {
                    if disk.remove_file(&path(names[at])).is_err() {
                        continue;
                    }
                    now.remove(&at);
                }
                _ => {
                    disk.sync_dir(&path("")).unwrap();
                    versions = vec![now];
                    continue;
                }
            }
            versions.push(now);
        }
        disk.crash(CrashMode::KeepRandom);
        disk.reopen();
        let found: BTreeMap<usize, u8> = (0..4)
            .filter(|at| disk.exists(&path(names[*at])).unwrap())
            .map(|at| (at, content(&disk, names[at])[0]))
            .collect();
        prop_assert!(versions.contains(&found), "{:?} of {:?}", found, versions);
    }
}

/// Whether the file was cut since the last sync: then a surviving cut zeroes part of a sector
/// that keeps an older version of the rest, and only single bytes can be told.
fn has_cut(versions: &[Vec<u8>]) -> bool {
    versions.windows(2).any(|pair| pair[1].len() < pair[0].len())
}

#[test]
fn a_random_crash_tears_and_reorders_somewhere() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..64 {
        let (disk, file) = disk_with_file(seed);
        file.write_at(&[0; 1024], 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(&[1; 512], 0).unwrap();
        file.write_at(&[2; 512], 512).unwrap();
        disk.crash(CrashMode::KeepRandom);
        disk.reopen();
        let bytes = content(&disk, "f");
        outcomes.insert((bytes[0], bytes[512]));
    }
    assert_eq!(outcomes, BTreeSet::from([(0, 0), (1, 0), (0, 2), (1, 2)]));
}

#[test]
fn a_file_without_a_synced_name_is_gone() {
    let disk = SimDisk::new(3);
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    file.write_at(b"kept?", 0).unwrap();
    file.sync_data().unwrap();
    disk.crash(CrashMode::KeepNone);
    disk.reopen();
    assert!(!disk.exists(&path("f")).unwrap());
}

#[test]
fn a_rename_over_a_file_is_atomic() {
    for seed in 0..32 {
        let (disk, file) = disk_with_file(seed);
        file.write_at(b"old", 0).unwrap();
        file.sync_data().unwrap();
        let new = disk.open(&path("f.new"), OpenMode::CreateNew).unwrap();
        new.write_at(b"new", 0).unwrap();
        new.sync_data().unwrap();
        disk.rename(&path("f.new"), &path("f")).unwrap();
        disk.crash(CrashMode::KeepRandom);
        disk.reopen();
        let found = content(&disk, "f");
        assert!(found == b"old" || found == b"new");
        assert!(found == b"old" || !disk.exists(&path("f.new")).unwrap());
    }
}

#[test]
fn handles_and_locks_die_with_the_power() {
    let (disk, file) = disk_with_file(1);
    let lock = disk.lock(&path("lock")).unwrap();
    assert_eq!(disk.lock(&path("lock")).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    disk.crash(CrashMode::KeepAll);
    assert!(disk.open(&path("f"), OpenMode::Read).is_err());
    assert!(file.len().is_err());
    disk.reopen();
    assert!(file.len().is_err(), "the handle is of the dead process");
    let again = disk.lock(&path("lock")).unwrap();
    drop(lock);
    assert!(disk.lock(&path("lock")).is_err(), "the old guard does not release the new lock");
    drop(again);
    disk.lock(&path("lock")).unwrap();
}

#[test]
fn a_killed_process_loses_nothing_and_syncs_nothing() {
    let (disk, file) = disk_with_file(1);
    file.write_at(b"cached", 0).unwrap();
    disk.kill();
    assert!(file.len().is_err());
    assert_eq!(content(&disk, "f"), b"cached");
    disk.crash(CrashMode::KeepNone);
    disk.reopen();
    assert_eq!(content(&disk, "f"), b"");
}

#[test]
fn the_power_goes_after_the_chosen_call() {
    let (disk, file) = disk_with_file(1);
    let before = disk.mutations();
    disk.crash_after(2, CrashMode::KeepNone);
    file.write_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    assert!(disk.is_down());
    assert!(file.write_at(b"y", 0).is_err());
    assert_eq!(disk.mutations(), before + 2);
    disk.reopen();
    assert_eq!(content(&disk, "f"), b"x");
}

#[test]
fn an_image_is_the_disk_at_one_call_and_no_later() {
    let (disk, file) = disk_with_file(1);
    disk.set_images(true);
    file.write_at(b"one", 0).unwrap();
    file.sync_data().unwrap();
    file.write_at(b"two", 0).unwrap();
    let images = disk.take_images();
    let seen = |at: usize, mode| content(&images[at].crashed(mode, 1), "f");
    assert_eq!(seen(0, CrashMode::KeepNone), b"");
    assert_eq!(seen(0, CrashMode::KeepAll), b"one");
    assert_eq!(seen(1, CrashMode::KeepNone), b"one");
    assert_eq!(seen(2, CrashMode::KeepNone), b"one");
    assert_eq!(seen(2, CrashMode::KeepAll), b"two");
    assert_eq!(content(&disk, "f"), b"two", "the disk itself went on");
    let fork = disk.fork(1);
    fork.open("f".as_ref(), OpenMode::Write).unwrap().write_at(b"six", 0).unwrap();
    assert_eq!((content(&disk, "f"), content(&fork, "f")), (b"two".into(), b"six".into()));
    assert_eq!(disk.durable_files().into_values().collect::<Vec<_>>(), [b"one"]);
}

#[test]
fn what_a_crash_took_is_counted() {
    let disk = SimDisk::new(1);
    let path = Path::new("/f");
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_at(b"synced", 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_at(b"forgotten", 6).unwrap();
    disk.open(Path::new("/nameless"), OpenMode::CreateNew).unwrap().write_at(b"gone", 0).unwrap();
    disk.crash(CrashMode::KeepNone);
    assert_eq!((disk.bytes_lost(), disk.name_changes_lost()), (9 + 4, 1));
    disk.reopen();
    disk.crash(CrashMode::KeepNone);
    assert_eq!((disk.bytes_lost(), disk.name_changes_lost()), (9 + 4, 1));
}
