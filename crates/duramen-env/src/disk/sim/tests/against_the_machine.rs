//! The simulated disk without faults against the disk of the machine.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::RealDisk;

#[derive(Clone, Debug)]
enum Op {
    Open(usize, OpenMode),
    CreateDirs(usize),
    List(usize),
    Rename(usize, usize),
    RemoveFile(usize),
    RemoveDirs(usize),
    Exists(usize),
    SyncDir,
    Len(usize),
    Read(usize, u64, usize),
    Write(usize, u64, Vec<u8>),
    Sync(usize),
    Allocate(usize, u64, u64),
    SetLen(usize, u64),
    Map(usize, u64),
}

const MODES: [OpenMode; 4] =
    [OpenMode::Read, OpenMode::Write, OpenMode::CreateNew, OpenMode::OpenOrCreate];

/// Names that collide as files, directories and parents of each other.
const NAMES: [&str; 7] = ["a", "b", "a/a", "a/b", "b/a", "a/b/c", "c"];

fn op() -> impl Strategy<Value = Op> {
    let name = 0..NAMES.len();
    let handle = 0..4usize;
    let at = 0..10_000u64;
    prop_oneof![
        4 => (name.clone(), proptest::sample::select(&MODES)).prop_map(|(n, m)| Op::Open(n, m)),
        2 => name.clone().prop_map(Op::CreateDirs),
        1 => name.clone().prop_map(Op::List),
        2 => (name.clone(), name.clone()).prop_map(|(a, b)| Op::Rename(a, b)),
        1 => name.clone().prop_map(Op::RemoveFile),
        1 => name.clone().prop_map(Op::RemoveDirs),
        1 => name.prop_map(Op::Exists),
        1 => Just(Op::SyncDir),
        1 => handle.clone().prop_map(Op::Len),
        2 => (handle.clone(), at.clone(), 0..6000usize).prop_map(|(h, p, l)| Op::Read(h, p, l)),
        4 => (handle.clone(), at.clone(), vec(any::<u8>(), 0..6000))
            .prop_map(|(h, p, b)| Op::Write(h, p, b)),
        1 => handle.clone().prop_map(Op::Sync),
        1 => (handle.clone(), at.clone(), at.clone()).prop_map(|(h, p, l)| Op::Allocate(h, p, l)),
        1 => (handle.clone(), at.clone()).prop_map(|(h, l)| Op::SetLen(h, l)),
        1 => (handle, at).prop_map(|(h, l)| Op::Map(h, l)),
    ]
}

/// Applies an operation and gives what it said, in a form that both disks share.
fn run(
    disk: &dyn Disk,
    root: &Path,
    handles: &mut Vec<Arc<dyn DiskFile>>,
    op: &Op,
) -> Result<String, io::ErrorKind> {
    let at = |name: &usize| root.join(NAMES[*name]);
    let file = |handle: &usize| handles.get(*handle).cloned().ok_or(io::ErrorKind::Other);
    let said = match op {
        Op::Open(name, mode) => {
            // What opening a directory does differs and matters to nobody.
            if disk.list(&at(name)).is_ok() {
                return Ok("directory".into());
            }
            disk.open(&at(name), *mode).map(|file| {
                handles.insert(0, file);
                handles.truncate(4);
                String::new()
            })
        }
        Op::CreateDirs(name) => disk.create_dir_all(&at(name)).map(|()| String::new()),
        Op::List(name) => disk.list(&at(name)).map(|mut entries| {
            entries.iter_mut().for_each(|e| e.len *= u64::from(!e.is_dir));
            format!("{entries:?}")
        }),
        Op::Rename(from, to) => disk.rename(&at(from), &at(to)).map(|()| String::new()),
        Op::RemoveFile(name) => disk.remove_file(&at(name)).map(|()| String::new()),
        Op::RemoveDirs(name) => disk.remove_dir_all(&at(name)).map(|()| String::new()),
        Op::Exists(name) => disk.exists(&at(name)).map(|found| found.to_string()),
        Op::SyncDir => disk.sync_dir(root).map(|()| String::new()),
        Op::Len(handle) => file(handle)?.len().map(|len| len.to_string()),
        Op::Read(handle, position, len) => {
            let mut buffer = vec![0; *len];
            let read = file(handle)?.read_at(&mut buffer, *position);
            read.map(|read| format!("{:?}", &buffer[..read]))
        }
        Op::Write(handle, position, bytes) => {
            file(handle)?.write_at(bytes, *position).map(|()| String::new())
        }
        Op::Sync(handle) => file(handle)?.sync_data().map(|()| String::new()),
        Op::Allocate(handle, position, len) => {
            file(handle)?.allocate(*position, *len).map(|()| String::new())
        }
        Op::SetLen(handle, len) => file(handle)?.set_len(*len).map(|()| String::new()),
        Op::Map(handle, len) => file(handle)?.map(*len).map(|bytes| format!("{bytes:?}")),
    };
    said.map_err(|error| error.kind())
}

proptest! {
    #[test]
    fn without_faults_both_disks_say_the_same(ops in vec(op(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let sim = SimDisk::new(1);
        let root = path("root");
        sim.create_dir_all(&root).unwrap();
        let (mut real_handles, mut sim_handles) = (Vec::new(), Vec::new());
        for op in &ops {
            let real = run(&RealDisk, dir.path(), &mut real_handles, op);
            let simulated = run(&sim, &root, &mut sim_handles, op);
            prop_assert_eq!(real, simulated, "{:?}", op);
        }
    }
}
