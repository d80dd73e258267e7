//! Changes of who takes part: nodes that join, disks that are wiped, bits that flip, leaders that hand
//! over.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use duramen_env::{Corruption, CrashMode, Disk as _, SimDisk};
use turmoil::Sim;

use super::super::fault::FaultKind;
use super::super::node::{self, DATA, HandOver, Node};
use super::super::world::Flipped;
use super::Director;

impl Director {
    /// Asks the leader of a partition to hand over to another replica.
    pub(super) fn transfer(&mut self) {
        let key = {
            let keys = self.world.keys.borrow();
            keys[self.dice.place(keys.len())].clone()
        };
        let leader = self.world.witness.borrow().leader(&key.group());
        let Some(leader) = leader.and_then(|id| self.node(id)).filter(|node| node.is_up()) else {
            return;
        };
        let topic = self.world.plan.topics[key.topic].name.clone();
        *leader.hand_over.borrow_mut() = Some(HandOver { topic, partition: key.partition });
    }

    pub(super) fn join(&mut self, sim: &mut Sim<'_>) {
        let number = self.world.members.get() + 1;
        self.world.members.set(number);
        let node = Node::new(&self.world.plan, number);
        self.network.add_host(&node.name);
        let (world, host) = (Rc::clone(&self.world), Rc::clone(&node));
        sim.host(node.name.as_str(), move || node::run(Rc::clone(&world), Rc::clone(&host)));
        self.world.tally.borrow_mut().count(FaultKind::Join, false);
        self.world.note(format_args!("{} joins", node.name));
        self.nodes.push(node);
    }

    /// A machine burns down, and a new one with an empty disk takes its place.
    pub(super) fn wipe(&mut self, sim: &mut Sim<'_>) {
        let Some(node) = self.target(50) else { return };
        let was_leader = self.leads(&node);
        self.world.tally.borrow_mut().count(FaultKind::Wipe, was_leader);
        let back = sim.elapsed() + Duration::from_millis(self.dice.of(200..=5_000));
        self.power_off(sim, &node, Some(CrashMode::KeepNone), back);
        let wiped = node
            .disk
            .remove_dir_all(DATA.as_ref())
            .and_then(|()| node.disk.sync_dir(Path::new("/")));
        self.world.note(format_args!("{} is wiped: {wiped:?}", node.name));
    }

    /// Flips a bit of what one replica of a partition had made durable.
    pub(super) fn flip_bit(&mut self) {
        let Some(node) = self.target(50) else { return };
        let logs = logs(&node.disk);
        if logs.is_empty() {
            return;
        }
        let (path, is_last) = logs[self.dice.place(logs.len())].clone();
        let durable = node.disk.durable(&path).unwrap_or_default();
        let data = durable.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        // What was synced last, and nothing durable says so yet, may be taken for a torn write if the
        // power goes as well; of a small log that may be all.
        let until = if is_last { data / 2 } else { data };
        if until < FLIPPED_MIN {
            return;
        }
        let position = u64::try_from(self.dice.place(until)).unwrap_or(0);
        let bit = u8::try_from(self.dice.of(0..=7)).unwrap_or(0);
        if node.disk.corrupt(&path, position, Corruption::FlipBit(bit)).is_err() {
            return;
        }
        let was_leader = self.leads(&node);
        self.world.tally.borrow_mut().count(FaultKind::BitFlip, was_leader);
        let (name, file) = (&node.name, path.display());
        self.world.note(format_args!("bit {bit} of byte {position} of {file} of {name} flips"));
        *self.world.flipped.borrow_mut() = Some(Flipped { disk: node.disk.clone(), file: path });
        self.flipped = Some((Rc::clone(&node), node.boots()));
    }

    /// What nobody reads is found by the scrubber alone, which reads all after a start: a process
    /// that was not started since its bit flipped is started now.
    pub(super) fn show_flip(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let Some((node, boots)) = self.flipped.take() else { return };
        if node.boots() == boots && node.is_up() {
            sim.crash(node.name.as_str());
            node.disk.kill();
            node.down_until.set(Some(now));
        }
    }
}

/// Bits are flipped in files of twice so many bytes at the least.
const FLIPPED_MIN: usize = 2048;

/// The segment files of all partitions, and whether each is the last of its log.
fn logs(disk: &SimDisk) -> Vec<(PathBuf, bool)> {
    let partitions = Path::new(DATA).join("partitions");
    let mut logs = Vec::new();
    for replica in disk.list(&partitions).unwrap_or_default() {
        let dir = partitions.join(&replica.name);
        let mut of_one: Vec<_> = disk
            .list(&dir)
            .unwrap_or_default()
            .into_iter()
            .filter(|entry| entry.name.ends_with(".log"))
            .map(|entry| (dir.join(&entry.name), false))
            .collect();
        if let Some((_, is_last)) = of_one.last_mut() {
            *is_last = true;
        }
        logs.extend(of_one);
    }
    logs
}
