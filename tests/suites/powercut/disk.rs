//! The disk itself, used as the product uses one.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use duramen_env::{CrashMode, Disk, OpenMode, RealDisk};
use duramen_tests::faultfs::{FaultFs, FaultFsOptions};
use tempfile::TempDir;

use crate::can_mount;

/// A disk and the directory that it is mounted on.
struct Mounted {
    fs: FaultFs,
    dir: TempDir,
}

impl Mounted {
    fn new(options: FaultFsOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { fs: FaultFs::mount(dir.path(), options).unwrap(), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn cycle(&mut self, mode: CrashMode) {
        self.fs.cut_power(mode);
        self.fs.power_on().unwrap();
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(name))
    }

    /// A file whose bytes and name are synced.
    fn durable(&self, name: &str, bytes: &[u8]) -> File {
        let file = File::create_new(self.path(name)).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_data().unwrap();
        sync_dir(self.dir.path());
        file
    }
}

fn sync_dir(path: &Path) {
    RealDisk.sync_dir(path).unwrap();
}

fn is_eio(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

#[test]
fn what_was_synced_stays_and_what_was_not_vanishes() {
    if !can_mount("what_was_synced_stays_and_what_was_not_vanishes") {
        return;
    }
    let mut disk = Mounted::new(FaultFsOptions::default());
    let file = disk.durable("f", b"heartwood");
    file.write_all_at(b" and sap", 9).unwrap();
    file.write_all_at(b"H", 0).unwrap();
    // The bytes are in the page cache now, and must not be seen there later.
    assert_eq!(disk.read("f").unwrap(), b"Heartwood and sap");
    File::create_new(disk.path("nameless")).unwrap().sync_data().unwrap();
    disk.cycle(CrashMode::KeepNone);
    assert_eq!(disk.read("f").unwrap(), b"heartwood");
    assert_eq!(disk.read("nameless").unwrap_err().kind(), ErrorKind::NotFound);
    let counts = disk.fs.counts();
    assert_eq!((counts.bytes_lost, counts.name_changes_lost, counts.power_cuts), (9, 1, 1));
    // What is still open belongs to a process that the power took along.
    assert!(is_eio(&file.write_all_at(b"late", 0).unwrap_err()));
    assert!(is_eio(&file.sync_data().unwrap_err()));
    assert_eq!(disk.read("f").unwrap(), b"heartwood");
}

#[test]
fn a_cut_can_keep_everything() {
    if !can_mount("a_cut_can_keep_everything") {
        return;
    }
    let mut disk = Mounted::new(FaultFsOptions::default());
    fs::create_dir(disk.path("d")).unwrap();
    fs::write(disk.path("d/f"), b"lucky").unwrap();
    disk.cycle(CrashMode::KeepAll);
    assert_eq!(disk.read("d/f").unwrap(), b"lucky");
    assert_eq!(disk.fs.counts().bytes_lost, 0);
}

#[test]
fn a_drawn_cut_tears_and_reorders() {
    if !can_mount("a_drawn_cut_tears_and_reorders") {
        return;
    }
    let mut reordered = 0;
    for seed in 0..8 {
        let options = FaultFsOptions { seed, ..FaultFsOptions::default() };
        let mut disk = Mounted::new(options);
        let file = disk.durable("f", &[1; 8192]);
        // On the heap, so that it is in memory: where the source of a write is not, the kernel
        // splits it anywhere, and so may the cut.
        let bytes = vec![2; 8192];
        file.write_all_at(&bytes, 0).unwrap();
        disk.cycle(CrashMode::KeepRandom);
        let bytes = disk.read("f").unwrap();
        assert_eq!(bytes.len(), 8192);
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        let sectors: Vec<_> = bytes.chunks(512).map(|sector| sector[0]).collect();
        reordered += u32::from(!sectors.is_sorted_by(|earlier, later| earlier >= later));
    }
    assert!(reordered > 0, "no cut kept a later sector without an earlier one");
}

#[test]
fn a_rename_is_durable_with_its_directory() {
    if !can_mount("a_rename_is_durable_with_its_directory") {
        return;
    }
    let mut disk = Mounted::new(FaultFsOptions::default());
    disk.durable("vote", b"old");
    disk.durable("vote.tmp", b"new");
    fs::rename(disk.path("vote.tmp"), disk.path("vote")).unwrap();
    assert_eq!(disk.read("vote").unwrap(), b"new");
    disk.cycle(CrashMode::KeepNone);
    assert_eq!(disk.read("vote").unwrap(), b"old");
    assert_eq!(disk.read("vote.tmp").unwrap(), b"new");
    fs::rename(disk.path("vote.tmp"), disk.path("vote")).unwrap();
    sync_dir(disk.dir.path());
    disk.cycle(CrashMode::KeepNone);
    assert_eq!(disk.read("vote").unwrap(), b"new");
    assert_eq!(disk.read("vote.tmp").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_renamed_directory_takes_along_what_is_below() {
    if !can_mount("a_renamed_directory_takes_along_what_is_below") {
        return;
    }
    let disk = Mounted::new(FaultFsOptions::default());
    RealDisk.create_dir_all(&disk.path("a/b")).unwrap();
    let file = RealDisk.open(&disk.path("a/b/f"), OpenMode::CreateNew).unwrap();
    file.write_at(b"below", 0).unwrap();
    fs::rename(disk.path("a"), disk.path("z")).unwrap();
    assert_eq!(disk.read("z/b/f").unwrap(), b"below");
    fs::write(disk.path("z/b/g"), b"beside").unwrap();
    let names: Vec<_> = RealDisk.list(&disk.path("z/b")).unwrap().into_iter().collect();
    let names: Vec<_> = names.iter().map(|entry| (entry.name.as_str(), entry.len)).collect();
    assert_eq!(names, [("f", 5), ("g", 6)]);
    file.write_at(b"!", 5).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.read("z/b/f").unwrap(), b"below!");
    RealDisk.remove_dir_all(&disk.path("z")).unwrap();
    assert!(!RealDisk.exists(&disk.path("z")).unwrap());
    let mut bytes = [0; 6];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 6, "an open file outlives its name");
}

#[test]
fn a_full_directory_is_listed_and_removed() {
    if !can_mount("a_full_directory_is_listed_and_removed") {
        return;
    }
    let disk = Mounted::new(FaultFsOptions::default());
    fs::create_dir(disk.path("d")).unwrap();
    for number in 0..500 {
        fs::write(disk.path(&format!("d/a-rather-long-name-of-a-file-{number:05}")), b"x").unwrap();
    }
    assert_eq!(RealDisk.list(&disk.path("d")).unwrap().len(), 500);
    let error = fs::remove_dir(disk.path("d")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
    RealDisk.remove_dir_all(&disk.path("d")).unwrap();
    assert!(RealDisk.list(disk.dir.path()).unwrap().is_empty());
}

#[test]
fn a_lying_disk_says_that_it_synced_and_has_not() {
    if !can_mount("a_lying_disk_says_that_it_synced_and_has_not") {
        return;
    }
    let mut disk = Mounted::new(FaultFsOptions::default());
    let file = disk.durable("f", b"1");
    disk.fs.set_lying(true);
    file.write_all_at(b"2", 1).unwrap();
    file.sync_data().unwrap();
    fs::write(disk.path("g"), b"3").unwrap();
    sync_dir(disk.dir.path());
    disk.cycle(CrashMode::KeepNone);
    assert_eq!(disk.read("f").unwrap(), b"1");
    assert_eq!(disk.read("g").unwrap_err().kind(), ErrorKind::NotFound);
    let counts = disk.fs.counts();
    assert_eq!((counts.syncs, counts.syncs_ignored), (4, 2));
}

#[test]
fn a_sync_fails_once_and_then_lies() {
    if !can_mount("a_sync_fails_once_and_then_lies") {
        return;
    }
    let mut disk = Mounted::new(FaultFsOptions::default());
    let file = disk.durable("f", b"1");
    disk.fs.fail_sync(1);
    file.write_all_at(b"2", 1).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(b"3", 2).unwrap();
    assert!(is_eio(&file.sync_data().unwrap_err()));
    file.sync_data().unwrap();
    assert_eq!(disk.read("f").unwrap(), b"123", "the pages stay readable");
    disk.cycle(CrashMode::KeepAll);
    assert_eq!(disk.read("f").unwrap(), b"12");
    assert_eq!(disk.fs.counts().syncs_failed, 1);
}

#[test]
fn a_sealed_file_can_be_mapped_and_its_mapping_outlives_the_name() {
    if !can_mount("a_sealed_file_can_be_mapped_and_its_mapping_outlives_the_name") {
        return;
    }
    let mut disk = Mounted::new(FaultFsOptions::default());
    let path = disk.path("segment");
    let file = RealDisk.open(&path, OpenMode::CreateNew).unwrap();
    file.allocate(0, 1 << 20).unwrap();
    let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    file.write_at(&bytes, 0).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    file.sync_data().unwrap();
    sync_dir(disk.dir.path());
    let map = file.map(bytes.len() as u64).unwrap();
    assert_eq!(map, bytes);
    drop(file);
    // Also without anything of it in the page cache.
    disk.cycle(CrashMode::KeepNone);
    let file = RealDisk.open(&path, OpenMode::Read).unwrap();
    let map = file.map(bytes.len() as u64).unwrap();
    drop(file);
    RealDisk.remove_file(&path).unwrap();
    assert_eq!(map, bytes);
}

#[test]
fn a_full_disk_refuses_and_has_room_again() {
    if !can_mount("a_full_disk_refuses_and_has_room_again") {
        return;
    }
    let disk = Mounted::new(FaultFsOptions { capacity_bytes: 64 << 10, seed: 0 });
    let path = disk.path("f");
    let file = RealDisk.open(&path, OpenMode::CreateNew).unwrap();
    assert_eq!(RealDisk.free_bytes(disk.dir.path()).unwrap(), 64 << 10);
    assert_eq!(file.allocate(0, 65 << 10).unwrap_err().kind(), ErrorKind::StorageFull);
    file.allocate(0, 32 << 10).unwrap();
    assert_eq!(RealDisk.free_bytes(disk.dir.path()).unwrap(), 32 << 10);
    let error = file.write_at(&[1; 64 << 10], 4096).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(RealDisk.free_bytes(disk.dir.path()).unwrap(), 0);
    disk.fs.set_capacity(128 << 10);
    file.write_at(&[1; 64 << 10], 4096).unwrap();
}

#[test]
fn calls_fail_while_the_power_is_off() {
    if !can_mount("calls_fail_while_the_power_is_off") {
        return;
    }
    let mut disk = Mounted::new(FaultFsOptions::default());
    disk.durable("f", b"1");
    disk.fs.cut_power(CrashMode::KeepAll);
    assert!(is_eio(&File::open(disk.path("f")).unwrap_err()));
    assert!(is_eio(&File::create_new(disk.path("g")).unwrap_err()));
    assert!(is_eio(&RealDisk.list(disk.dir.path()).unwrap_err()));
    assert!(is_eio(&RealDisk.free_bytes(disk.dir.path()).unwrap_err()));
    disk.fs.power_on().unwrap();
    assert_eq!(disk.read("f").unwrap(), b"1");
}

#[test]
fn a_stalled_sync_waits_and_ends_with_the_power() {
    if !can_mount("a_stalled_sync_waits_and_ends_with_the_power") {
        return;
    }
    let disk = Mounted::new(FaultFsOptions::default());
    let file = disk.durable("f", b"1");
    disk.fs.stall_syncs(Duration::from_millis(100));
    let start = now();
    file.sync_data().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100));
    disk.fs.stall_syncs(Duration::from_secs(3600));
    std::thread::scope(|scope| {
        let stalled = scope.spawn(|| file.sync_data());
        while disk.fs.counts().syncs < 4 {
            std::thread::yield_now();
        }
        // A stalled sync holds up nobody else.
        assert_eq!(disk.read("f").unwrap(), b"1");
        disk.fs.cut_power(CrashMode::KeepNone);
        assert!(is_eio(&stalled.join().unwrap().unwrap_err()));
    });
}

#[expect(clippy::disallowed_methods, reason = "the file system runs in real time")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn one_lock_excludes_another_until_it_is_dropped() {
    if !can_mount("one_lock_excludes_another_until_it_is_dropped") {
        return;
    }
    let mut disk = Mounted::new(FaultFsOptions::default());
    let first = RealDisk.lock(&disk.path("lock")).unwrap();
    assert_eq!(RealDisk.lock(&disk.path("lock")).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(first);
    let _second = RealDisk.lock(&disk.path("lock")).unwrap();
    // Whoever holds it was killed, even if the kernel has not yet noticed.
    disk.cycle(CrashMode::KeepNone);
    RealDisk.lock(&disk.path("lock")).unwrap();
}

#[test]
fn a_dropped_disk_is_unmounted_even_in_use_and_after_a_panic() {
    if !can_mount("a_dropped_disk_is_unmounted_even_in_use_and_after_a_panic") {
        return;
    }
    let is_mounted = |path: &Path| {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.contains(path.to_str().unwrap())
    };
    let disk = Mounted::new(FaultFsOptions::default());
    let path = disk.dir.path().to_owned();
    let file = disk.durable("f", b"1");
    assert!(is_mounted(&path));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _disk = disk;
        panic!("as a failing test does");
    }));
    assert!(result.is_err());
    assert!(!is_mounted(&path) && !path.exists());
    assert!(is_eio(&file.sync_data().unwrap_err()));
}
