//! Failing calls, a full disk, damage.

use std::collections::BTreeSet;

use super::*;

#[test]
fn the_chosen_call_on_the_chosen_path_fails() {
    let (disk, file) = disk_with_file(1);
    let other = disk.open(&path("other"), OpenMode::CreateNew).unwrap();
    let kind = io::ErrorKind::TimedOut;
    disk.inject(Fault::new(DiskCall::Write).path_contains("f").after(1).times(2).error(kind));
    other.write_at(b"x", 0).unwrap();
    file.write_at(b"1", 0).unwrap();
    assert_eq!(file.write_at(b"2", 0).unwrap_err().kind(), kind);
    assert_eq!(file.write_at(b"3", 0).unwrap_err().kind(), kind);
    file.write_at(b"4", 0).unwrap();
    assert_eq!(content(&disk, "f"), b"4");
    assert_eq!(disk.faults_hit(), 2);
}

#[test]
fn a_partial_write_leaves_a_prefix() {
    let mut lengths = BTreeSet::new();
    for seed in 0..32 {
        let (disk, file) = disk_with_file(seed);
        disk.inject(Fault::new(DiskCall::Write).partial());
        assert!(file.write_at(b"abc", 0).is_err());
        let found = content(&disk, "f");
        assert!(b"abc".starts_with(&found));
        lengths.insert(found.len());
    }
    assert_eq!(lengths, BTreeSet::from([0, 1, 2, 3]));
}

#[test]
fn a_lying_sync_fails_once_and_loses_the_bytes() {
    let (disk, file) = disk_with_file(1);
    file.write_at(b"gone", 0).unwrap();
    disk.inject(Fault::new(DiskCall::Sync).lying());
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(content(&disk, "f"), b"gone");
    disk.crash(CrashMode::KeepAll);
    disk.reopen();
    assert_eq!(content(&disk, "f"), b"");
}

#[test]
fn an_ignored_sync_of_a_directory_loses_the_name() {
    let disk = SimDisk::new(1);
    disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    disk.inject(Fault::new(DiskCall::SyncDir).ignored());
    disk.sync_dir(&path("")).unwrap();
    disk.crash(CrashMode::KeepNone);
    disk.reopen();
    assert!(!disk.exists(&path("f")).unwrap());
}

#[test]
fn a_full_disk_refuses_allocation_and_takes_writes_into_allocated_blocks() {
    let (disk, file) = disk_with_file(1);
    disk.set_capacity(Some(3 * 4096));
    file.allocate(0, 8192).unwrap();
    assert_eq!(disk.free_bytes(&path("")).unwrap(), 4096);
    assert_eq!(file.allocate(8192, 8192).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 8192);
    file.write_at(&[1; 8192], 0).unwrap();
    let full = file.write_at(&[2; 8192], 8192).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 3 * 4096, "a prefix was written");
    disk.remove_file(&path("f")).unwrap();
    assert_eq!(disk.free_bytes(&path("")).unwrap(), 0, "an open file keeps its blocks");
    drop(file);
    assert_eq!(disk.free_bytes(&path("")).unwrap(), 3 * 4096);
}

#[test]
fn damage_is_seen_at_once_and_keeps_the_length() {
    let (disk, file) = disk_with_file(1);
    file.write_at(&[1; 1500], 0).unwrap();
    file.sync_data().unwrap();
    file.write_at(&[2; 512], 0).unwrap();
    file.sync_data().unwrap();
    let name = path("f");
    disk.corrupt(&name, 3, Corruption::StaleSector).unwrap();
    disk.corrupt(&name, 600, Corruption::FlipBit(7)).unwrap();
    disk.corrupt(&name, 1100, Corruption::ZeroSectors(9)).unwrap();
    let found = content(&disk, "f");
    assert_eq!(found[..512], [1; 512]);
    assert_eq!(found[599..602], [1, 0x81, 1]);
    assert_eq!(found[1023..], [&[1][..], &[0; 476]].concat());
    assert_eq!(disk.durable(&name).unwrap(), found);
    assert!(disk.corrupt(&name, 1500, Corruption::FlipBit(0)).is_err());
    disk.replace(&name, b"other").unwrap();
    assert_eq!(content(&disk, "f"), b"other");
}

#[test]
fn an_unreadable_sector_fails_until_it_is_written() {
    let (disk, file) = disk_with_file(1);
    file.write_at(&[1; 2048], 0).unwrap();
    file.sync_data().unwrap();
    disk.corrupt(&path("f"), 700, Corruption::UnreadableSector).unwrap();
    assert_eq!(file.read_at(&mut [0; 512], 0).unwrap(), 512);
    assert!(file.read_at(&mut [0; 513], 0).is_err());
    assert!(file.map(2048).is_err());
    file.write_at(&[2; 512], 512).unwrap();
    assert_eq!(file.map(2048).unwrap()[700], 2);
}

#[test]
fn the_trace_tells_each_call() {
    let (disk, file) = disk_with_file(1);
    disk.set_trace(true);
    file.write_at(b"abc", 7).unwrap();
    disk.inject(Fault::new(DiskCall::Sync));
    assert!(file.sync_data().is_err());
    disk.crash(CrashMode::KeepNone);
    assert_eq!(disk.take_trace(), ["Write f at 7 len 3 ok", "Sync f failed", "crash KeepNone"]);
}
