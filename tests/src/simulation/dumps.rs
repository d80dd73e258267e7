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
    let mut wanted: BTreeMap<u32, Vec<(&Rc<Node>, PathBuf)>> = BTreeMap::new();
    let data = Path::new(DATA);
    for node in nodes {
        node.disk.kill();
        wanted.entry(METADATA_KEY).or_default().push((node, data.join("metadata")));
    }
    let witness = world.witness.borrow();
    for (key, holders) in &*world.assignment.borrow() {
        let group = world.keys.borrow()[*key as usize].group();
        for (holder, (replica, _)) in witness.replicas(&group) {
            let node = nodes.iter().find(|node| node.id() == holder);
            if let Some(node) = node.filter(|_| holders.contains(&holder)) {
                let dir = format!("partitions/{group}-{:016x}", replica.get());
                wanted.entry(*key).or_default().push((node, data.join(dir)));
            }
        }
    }
    for (key, replicas) in wanted {
        take_key(world, key, &replicas);
    }
}

fn take_key(world: &World, key: u32, replicas: &[(&Rc<Node>, PathBuf)]) {
    let mut dumps = Vec::new();
    for (node, dir) in replicas {
        let disk: Arc<dyn Disk> = Arc::new(node.disk.clone());
        match dump(&disk, dir, key, node.number) {
            Ok(dump) => dumps.push(dump),
            Err(error) => {
                let dir = dir.display();
                world.violated(format!("{dir} of {} cannot be read: {error}", node.name));
            }
        }
    }
    // All has come to rest: what every replica has is committed.
    let committed_end = dumps.iter().map(|dump| dump.committed_end).min().unwrap_or(0);
    let mut recorder = world.recorder.borrow_mut();
    for dump in dumps {
        recorder.history.dump(ReplicaDump { committed_end, ..dump });
    }
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
