//! After a run: what every replica has on its disk, for the checker to compare.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use duramen_checker::{Entry, ReplicaDump};
use duramen_env::Disk;
use duramen_log::{FrameHeader, VerifyReport, verify_dir};

use super::node::{DATA, Node};
use super::world::World;

/// Stands for the metadata group, which has no key.
const METADATA_KEY: u32 = u32::MAX - 1;

/// Dumps the logs of all partitions and of the metadata into the history. Nobody may have them open.
pub(super) fn take(world: &World, nodes: &[Rc<Node>]) {
    let mut dumps: BTreeMap<u32, Vec<ReplicaDump>> = BTreeMap::new();
    for node in nodes {
        node.disk.kill();
        let disk: Arc<dyn Disk> = Arc::new(node.disk.clone());
        for (key, dir) in replicas(world, &*disk) {
            match dump(&disk, &dir, key, node.number) {
                Ok(dump) => dumps.entry(key).or_default().push(dump),
                Err(error) => {
                    let dir = dir.display();
                    world.violated(format!("{dir} of {} cannot be read: {error}", node.name));
                }
            }
        }
    }
    for (key, replication) in expected(world) {
        let found = dumps.get(&key).map_or(0, Vec::len);
        if found < replication {
            world.violated(format!("key {key} has {found} of {replication} replicas on disk"));
        }
    }
    let mut recorder = world.recorder.borrow_mut();
    for mut replicas in dumps.into_values() {
        // All has come to rest: what every replica has is committed.
        let ends = replicas.iter().map(|replica| replica.committed_end);
        let committed_end = ends.min().unwrap_or(0);
        for replica in &mut replicas {
            replica.committed_end = committed_end;
        }
        replicas.into_iter().for_each(|replica| recorder.history.dump(replica));
    }
}

fn expected(world: &World) -> Vec<(u32, usize)> {
    let keys = world.keys.borrow();
    let mut expected: Vec<(u32, usize)> =
        (0..).zip(keys.iter()).map(|(at, key)| (at, key.replication)).collect();
    expected.push((METADATA_KEY, usize::try_from(world.plan.nodes).unwrap_or(0)));
    expected
}

/// The replicas on a disk: keys and directories.
fn replicas(world: &World, disk: &dyn Disk) -> Vec<(u32, PathBuf)> {
    let data = Path::new(DATA);
    let mut found = vec![(METADATA_KEY, data.join("metadata"))];
    let partitions = data.join("partitions");
    let keys = world.keys.borrow();
    for entry in disk.list(&partitions).unwrap_or_default() {
        let of = (0..).zip(keys.iter()).find(|(_, key)| {
            let rest = entry.name.strip_prefix(&key.group());
            rest.is_some_and(|rest| rest.starts_with('-'))
        });
        if let Some((key, _)) = of {
            found.push((key, partitions.join(&entry.name)));
        }
    }
    found
}

fn dump(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    key: u32,
    replica: u64,
) -> Result<ReplicaDump, Box<dyn std::error::Error>> {
    let mut entries = Vec::new();
    let report = verify_dir(disk, dir, &mut |sight| entries.push(entry(sight.header)))?;
    if let Some(problem) = report.problems.first() {
        return Err(format!("{problem:?}").into());
    }
    entries.retain(|entry| entry.index >= report.start_index.get());
    let VerifyReport { start_offset, end_index, .. } = report;
    Ok(ReplicaDump {
        key,
        replica,
        log_start: start_offset.get(),
        committed_end: end_index.get(),
        entries,
    })
}

fn entry(header: &FrameHeader) -> Entry {
    Entry {
        index: header.index.get(),
        term: header.term.get(),
        base_offset: header.base_offset.get(),
        records: header.records,
        chain: header.chain,
        payload_crc: header.payload_crc,
    }
}
