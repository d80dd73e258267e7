//! The machine behind a simulated disk: power, faults, capacity, locks, and the count and trace of
//! calls. Every call goes through [`Machine::begin`] and [`Machine::end`].

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::SimDisk;
use super::content::BLOCK_BYTES;
use super::draw::Draw;
use super::fault::{CrashMode, DiskCall, Effect, Fault, eio};
use super::file::{Change, Survival};
use super::tree::{Inode, Losses, Tree};

/// What `free_bytes` says of a disk without a capacity.
const UNLIMITED_BYTES: u64 = 1 << 40;

/// How far a call is to be carried out.
#[derive(Debug)]
pub(super) enum Verdict {
    Proceed,
    /// Do a part, then fail with this.
    Partial(io::Error),
    /// Pretend that it failed in the way that later calls hide.
    Lie(io::Error),
    /// Do nothing, say that it worked.
    Ignore,
}

/// The state of a simulated disk.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) tree: Tree,
    pub(super) faults: Vec<Fault>,
    pub(super) faults_hit: u64,
    /// What all power losses together took.
    pub(super) losses: Losses,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) has_direct: bool,
    /// Calls so far that change the disk.
    pub(super) mutations: u64,
    /// The process that runs; handles and locks of earlier ones are dead.
    pub(super) process: u64,
    pub(super) is_down: bool,
    pub(super) crash_at: Option<(u64, CrashMode)>,
    pub(super) trace: Option<Vec<String>>,
    /// The disk after each mutating call, while images are taken.
    pub(super) images: Option<Vec<DiskImage>>,
    pub(super) draw: Draw,
    locks: BTreeMap<Inode, u64>,
    next_lock: u64,
    next_sequence: u64,
}

impl Machine {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            tree: Tree::new(),
            faults: Vec::new(),
            faults_hit: 0,
            losses: Losses::default(),
            capacity_bytes: None,
            has_direct: true,
            mutations: 0,
            process: 0,
            is_down: false,
            crash_at: None,
            trace: None,
            images: None,
            draw: Draw::new(seed),
            locks: BTreeMap::new(),
            next_lock: 0,
            next_sequence: 0,
        }
    }

    /// The disk as it is, without what tests wish to happen to it.
    pub(super) fn image(&self) -> Self {
        Self {
            tree: self.tree.clone(),
            faults: Vec::new(),
            crash_at: None,
            trace: None,
            images: None,
            draw: self.draw.clone(),
            locks: self.locks.clone(),
            ..*self
        }
    }

    /// Starts a call: fails it if the power is off or a fault hits it.
    pub(super) fn begin(&mut self, call: DiskCall, path: &Path) -> io::Result<Verdict> {
        if self.is_down {
            return Err(eio());
        }
        let Some(fault) = self.faults.iter_mut().find_map(|fault| {
            let hit = fault.strike(call, path);
            hit.then(|| fault.clone())
        }) else {
            return Ok(Verdict::Proceed);
        };
        self.faults.retain(|fault| !fault.is_spent());
        self.faults_hit += 1;
        match fault.effect() {
            Effect::Refuse => Err(fault.to_error()),
            Effect::Partial => Ok(Verdict::Partial(fault.to_error())),
            Effect::Lie => Ok(Verdict::Lie(fault.to_error())),
            Effect::Ignore => Ok(Verdict::Ignore),
        }
    }

    /// Ends a call: counts it, records it, and cuts the power if this was the moment.
    pub(super) fn end(&mut self, call: DiskCall, path: &Path, details: &Details, ok: bool) {
        if let Some(trace) = &mut self.trace {
            let mut line = format!("{call:?} {}", path.display());
            for (name, value) in [("at", details.position), ("len", details.len)] {
                if let Some(value) = value {
                    line.push_str(&format!(" {name} {value}"));
                }
            }
            line.push_str(if ok { " ok" } else { " failed" });
            trace.push(line);
        }
        if details.mutates && !self.is_down {
            self.mutations += 1;
            if self.images.is_some() {
                let image = DiskImage { call, machine: Box::new(self.image()) };
                self.images.iter_mut().for_each(|images| images.push(image.clone()));
            }
            if let Some((at, mode)) = self.crash_at
                && self.mutations >= at
            {
                self.crash(mode);
            }
        }
    }

    /// The place of the next change in the order of the disk.
    pub(super) fn sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }

    /// Cuts the power.
    pub(super) fn crash(&mut self, mode: CrashMode) {
        let survival = match mode {
            CrashMode::KeepNone => Survival::Nothing,
            CrashMode::KeepAll => Survival::Everything,
            CrashMode::KeepRandom => Survival::Anything,
            CrashMode::KeepPrefix => {
                let sequences = self.tree.pending_sequences();
                let at = self.draw.up_to(sequences.len());
                Survival::Before(sequences.get(at).copied().unwrap_or(u64::MAX))
            }
        };
        let losses = self.tree.crash(survival, &mut self.draw);
        self.losses.bytes += losses.bytes;
        self.losses.name_changes += losses.name_changes;
        self.end_process();
        self.is_down = true;
        self.crash_at = None;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("crash {mode:?}"));
        }
    }

    /// Ends the process: its handles and locks are dead, the page cache stays.
    pub(super) fn end_process(&mut self) {
        self.process += 1;
        self.locks.clear();
        self.tree.close_all();
    }

    /// Whether a handle's process still runs.
    ///
    /// # Errors
    /// EIO while the power is off, ESTALE for a handle of an earlier process.
    pub(super) fn check_process(&self, process: u64) -> io::Result<()> {
        if self.is_down {
            Err(eio())
        } else if process == self.process {
            Ok(())
        } else {
            Err(Errno::STALE.into())
        }
    }

    /// Writes, as far as the space goes.
    pub(super) fn write(&mut self, inode: Inode, bytes: &[u8], position: u64) -> io::Result<()> {
        let wanted = bytes.len() as u64;
        check_range(position, wanted)?;
        let content = self.tree.file(inode)?.visible();
        let fits = content.writable(position, wanted, self.free_bytes() / BLOCK_BYTES as u64);
        let fits = usize::try_from(fits).unwrap_or(usize::MAX).min(bytes.len());
        if fits > 0 {
            let change = Change::Write { bytes: bytes[..fits].into(), position };
            self.change(inode, change)?;
        }
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Allocates all blocks of the range or none.
    pub(super) fn allocate(&mut self, inode: Inode, position: u64, len: u64) -> io::Result<()> {
        check_range(position, len)?;
        if len == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let content = self.tree.file(inode)?.visible();
        let fits = content.writable(position, len, self.free_bytes() / BLOCK_BYTES as u64);
        if fits < len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.change(inode, Change::Allocate { position, len })
    }

    pub(super) fn set_len(&mut self, inode: Inode, len: u64) -> io::Result<()> {
        check_range(0, len)?;
        self.change(inode, Change::SetLen(len))
    }

    fn change(&mut self, inode: Inode, change: Change) -> io::Result<()> {
        let sequence = self.sequence();
        self.tree.file_mut(inode)?.change(sequence, change);
        Ok(())
    }

    /// Bytes that can still be allocated.
    pub(super) fn free_bytes(&self) -> u64 {
        match self.capacity_bytes {
            None => UNLIMITED_BYTES,
            Some(capacity) => capacity.saturating_sub(self.tree.allocated_bytes()),
        }
    }

    /// Takes the lock of a file; returns its number, or `None` if it is taken.
    pub(super) fn take_lock(&mut self, inode: Inode) -> Option<u64> {
        if self.locks.contains_key(&inode) {
            return None;
        }
        self.next_lock += 1;
        self.locks.insert(inode, self.next_lock);
        self.tree.opened(inode);
        Some(self.next_lock)
    }

    /// Releases a lock, if it is still this one.
    pub(super) fn release_lock(&mut self, inode: Inode, number: u64) {
        if self.locks.get(&inode) == Some(&number) {
            self.locks.remove(&inode);
            self.tree.closed(inode);
        }
    }
}

/// A simulated disk as it was at one moment: what is visible, what is durable, and what lies
/// between the two.
#[derive(Clone, Debug)]
pub struct DiskImage {
    call: DiskCall,
    machine: Box<Machine>,
}

impl DiskImage {
    /// The mutating call that it was taken after.
    #[must_use]
    pub fn call(&self) -> DiskCall {
        self.call
    }

    /// A disk like it whose power was cut and is on again; the seed decides what a crash keeps.
    #[must_use]
    pub fn crashed(&self, mode: CrashMode, seed: u64) -> SimDisk {
        let mut machine = self.machine.image();
        machine.draw = Draw::new(seed);
        machine.crash(mode);
        machine.is_down = false;
        SimDisk::of(machine)
    }
}

/// What the trace and the count need to know of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Details {
    pub(super) mutates: bool,
    pub(super) position: Option<u64>,
    pub(super) len: Option<u64>,
}

impl Details {
    pub(super) const READS: Self = Self { mutates: false, position: None, len: None };
    pub(super) const MUTATES: Self = Self { mutates: true, position: None, len: None };

    pub(super) fn range(mut self, position: u64, len: u64) -> Self {
        self.position = Some(position);
        self.len = Some(len);
        self
    }
}

/// Files end below 2^63, as on Linux.
fn check_range(position: u64, len: u64) -> io::Result<()> {
    match position.checked_add(len) {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        Some(_) | None => Err(io::ErrorKind::FileTooLarge.into()),
    }
}
