//! A consumer group that keeps its promises.

use duramen_checker::{CommitAnswer, GroupEvent, Key};
use rand::Rng as _;

use super::clean::World;
use super::script::Step;

const GROUP: u32 = 1;

/// The question, the commit and the answer that it will have.
type Open = (usize, (u32, u64, Key, u64), CommitAnswer);

/// A group over all keys.
pub(crate) struct Members {
    generation: u64,
    /// Of each key.
    owners: Vec<u32>,
    positions: Vec<u64>,
    committed: Vec<u64>,
    /// A commit whose answer is not there yet, and whether it has taken effect.
    open: Option<Open>,
}

impl Members {
    pub(crate) fn new(world: &mut World) -> Self {
        let keys = world.script.logs.len();
        let mut members = Self {
            generation: 0,
            owners: vec![0; keys],
            positions: vec![0; keys],
            committed: vec![0; keys],
            open: None,
        };
        members.rebalance(world);
        members
    }

    pub(crate) fn act(&mut self, world: &mut World) {
        let key = world.key();
        match world.random.random_range(0..20) {
            0 => self.rebalance(world),
            1 => world.script.group(GROUP, GroupEvent::CoordinatorChanged),
            2 => self.reset(world, key),
            3..6 => {
                let offset = self.committed[key as usize];
                let offset = (offset > 0).then_some(offset);
                world.script.fetched(GROUP, key, offset);
            }
            6..14 => self.deliver(world, key),
            14 => self.commit_late(world, key),
            _ => self.commit(world, key),
        }
    }

    fn rebalance(&mut self, world: &mut World) {
        self.generation += 1;
        self.positions.clone_from(&self.committed);
        for owner in &mut self.owners {
            *owner = world.random.random_range(0..3);
        }
        for member in 0..3 {
            let keys = (0_u32..).zip(&self.owners);
            let keys = keys.filter(|(_, owner)| **owner == member).map(|(key, _)| key).collect();
            let generation = self.generation;
            world.script.group(GROUP, GroupEvent::Claimed { member, generation, keys });
        }
    }

    fn reset(&mut self, world: &mut World, key: Key) {
        let offset = world.random.random_range(0..=world.script.end(key));
        world.script.group(GROUP, GroupEvent::Reset { key, offset });
        self.committed[key as usize] = offset;
        self.positions[key as usize] = offset;
        // What was under way is of another time.
        self.answer(world);
    }

    fn deliver(&mut self, world: &mut World, key: Key) {
        let start = self.positions[key as usize].max(world.log_start(key));
        let end = world.script.end(key).min(start + world.random.random_range(1..5));
        if start < end {
            let member = self.owners[key as usize];
            world.script.group(GROUP, GroupEvent::Delivered { member, key, offsets: start..end });
            self.positions[key as usize] = end;
        }
    }

    fn commit(&mut self, world: &mut World, key: Key) {
        self.answer(world);
        let question = world.script.number();
        world.script.push(Step::Question(question));
        let (member, offset) = (self.owners[key as usize], self.positions[key as usize]);
        let commit = (member, self.generation, key, offset);
        let answer = match world.random.random_range(0..10) {
            0 => CommitAnswer::Refused,
            1 => CommitAnswer::Unknown,
            _ => CommitAnswer::Accepted,
        };
        let is_done = answer == CommitAnswer::Accepted
            || (answer == CommitAnswer::Unknown && world.random.random_bool(0.5));
        if is_done {
            self.committed[key as usize] = offset;
        }
        self.open = Some((question, commit, answer));
        if world.random.random_bool(0.7) {
            self.answer(world);
        }
    }

    /// The member is told what became of its commit.
    fn answer(&mut self, world: &mut World) {
        if let Some((question, commit, answer)) = self.open.take() {
            world.script.push(Step::Commit { group: GROUP, question, commit, answer });
        }
    }

    /// A member of an earlier generation comes too late.
    fn commit_late(&mut self, world: &mut World, key: Key) {
        let commit = (7, self.generation - 1, key, world.script.end(key));
        world.script.commit(GROUP, commit, CommitAnswer::Refused);
    }
}
