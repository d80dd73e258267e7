//! One simulated file: what the process sees, what the medium holds, and the changes between the
//! two that no sync has made durable yet.
//!
//! After a crash each sector holds one of the contents it had since the last sync, chosen for
//! each sector on its own; the file's length is one it had since then. A cut survives or not as a
//! whole: with it nothing written before beyond the cut is seen, without it nothing written after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::content::{Content, SECTOR_BYTES, pieces};
use super::draw::Draw;

/// A change of a file.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { bytes: Arc<[u8]>, position: u64 },
    SetLen(u64),
    Allocate { position: u64, len: u64 },
}

impl Change {
    fn apply(&self, content: &mut Content) {
        match self {
            Self::Write { bytes, position } => content.write(bytes, *position),
            Self::SetLen(len) => content.set_len(*len),
            Self::Allocate { position, len } => content.allocate(*position, *len),
        }
    }

    /// The length of a file of length `len` after this change.
    fn len_after(&self, len: u64) -> u64 {
        match self {
            Self::Write { bytes, .. } if bytes.is_empty() => len,
            Self::Write { bytes, position } => len.max(position + bytes.len() as u64),
            Self::SetLen(new) => *new,
            Self::Allocate { position, len: more } => len.max(position + more),
        }
    }
}

/// A change that is not durable, with its place in the order of all changes of the disk.
#[derive(Clone, Debug)]
struct Pending {
    sequence: u64,
    change: Change,
}

/// What a crash leaves of the changes that are not durable.
#[derive(Clone, Copy, Debug)]
pub(super) enum Survival {
    Nothing,
    Everything,
    /// Changes before this one in the order of the disk, and a part of this one.
    Before(u64),
    Anything,
}

/// A file of the simulated disk.
#[derive(Clone, Debug, Default)]
pub(super) struct SimFileState {
    visible: Content,
    durable: Content,
    pending: Vec<Pending>,
    /// What a sector of the medium held before it was last overwritten.
    overwritten: BTreeMap<u64, [u8; SECTOR_BYTES]>,
    /// Sectors whose read fails until they are written again.
    unreadable: BTreeSet<u64>,
}

impl SimFileState {
    /// What the process sees.
    pub(super) fn visible(&self) -> &Content {
        &self.visible
    }

    /// What the medium holds.
    pub(super) fn durable(&self) -> &Content {
        &self.durable
    }

    /// Bytes that are not zero.
    pub(super) fn written_bytes(&self) -> u64 {
        self.visible.count_different(&Content::default())
    }

    /// Whether a read of the range meets a bad sector.
    pub(super) fn is_readable(&self, position: u64, len: usize) -> bool {
        self.unreadable.is_empty()
            || pieces(position, len, SECTOR_BYTES).all(|p| !self.unreadable.contains(&p.unit))
    }

    /// Changes what the process sees; the medium follows at the next sync.
    pub(super) fn change(&mut self, sequence: u64, change: Change) {
        if let Change::Write { bytes, position } = &change {
            for piece in pieces(*position, bytes.len(), SECTOR_BYTES) {
                self.unreadable.remove(&piece.unit);
            }
        }
        change.apply(&mut self.visible);
        self.pending.push(Pending { sequence, change });
    }

    /// Makes all changes durable.
    pub(super) fn sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            self.remember_overwritten(&pending.change);
            pending.change.apply(&mut self.durable);
        }
    }

    /// A sync that failed as kernels fail it: the pages are marked clean and stay readable, so
    /// that the next sync succeeds, but they never reach the medium. Lengths are the journal's.
    pub(super) fn forget_pending(&mut self) {
        self.pending.retain(|pending| !matches!(pending.change, Change::Write { .. }));
    }

    /// The places of all changes that are not durable in the order of the disk.
    pub(super) fn pending_sequences(&self) -> impl Iterator<Item = u64> {
        self.pending.iter().map(|pending| pending.sequence)
    }

    /// Power loss: keeps what `survival` says and shows what the medium then holds. Returns the
    /// bytes that read differently from before.
    pub(super) fn crash(&mut self, survival: Survival, draw: &mut Draw) -> u64 {
        match survival {
            Survival::Nothing => self.pending.clear(),
            Survival::Everything => self.sync(),
            Survival::Before(first_lost) => self.keep_before(first_lost, draw),
            Survival::Anything => self.keep_anything(draw),
        }
        let lost = self.visible.count_different(&self.durable);
        self.visible = self.durable.clone();
        lost
    }

    fn keep_before(&mut self, first_lost: u64, draw: &mut Draw) {
        for pending in std::mem::take(&mut self.pending) {
            if pending.sequence < first_lost {
                self.remember_overwritten(&pending.change);
                pending.change.apply(&mut self.durable);
            } else if pending.sequence == first_lost
                && let Change::Write { bytes, position } = &pending.change
            {
                let ends: Vec<usize> =
                    pieces(*position, bytes.len(), SECTOR_BYTES).map(|p| p.bytes.end).collect();
                let kept = draw.up_to(ends.len());
                let end = if kept == 0 { 0 } else { ends[kept - 1] };
                self.durable.write(&bytes[..end], *position);
            }
        }
    }

    fn keep_anything(&mut self, draw: &mut Draw) {
        let pending = std::mem::take(&mut self.pending);
        let first_lost_len = draw_first_lost_len(&pending, self.durable.len(), draw);
        let kept = draw_kept_sectors(&pending, self.durable.len(), first_lost_len, draw);
        let mut len = self.durable.len();
        for (at, pending) in pending.iter().enumerate() {
            self.remember_overwritten(&pending.change);
            let survives = at < first_lost_len;
            match &pending.change {
                Change::Write { bytes, position } => {
                    for piece in pieces(*position, bytes.len(), SECTOR_BYTES) {
                        if kept.get(&piece.unit).is_some_and(|end| at < *end) {
                            let start = position + piece.bytes.start as u64;
                            self.durable.put(&bytes[piece.bytes], start);
                        }
                    }
                }
                Change::SetLen(_) if survives => pending.change.apply(&mut self.durable),
                Change::Allocate { position, len } if survives => {
                    self.durable.allocate(*position, *len);
                }
                Change::SetLen(_) | Change::Allocate { .. } => {}
            }
            if survives {
                len = pending.change.len_after(len);
            }
        }
        self.durable.set_len(len);
    }

    /// Keeps the bytes that a change is about to overwrite, for [`SimFileState::make_stale`].
    fn remember_overwritten(&mut self, change: &Change) {
        let Change::Write { bytes, position } = change else { return };
        for piece in pieces(*position, bytes.len(), SECTOR_BYTES) {
            let before = self.durable.sector(piece.unit);
            if before != [0; SECTOR_BYTES] {
                self.overwritten.insert(piece.unit, before);
            }
        }
    }

    /// Damages both the medium and what the process sees.
    pub(super) fn damage(&mut self, position: u64, bytes: &[u8]) {
        for content in [&mut self.durable, &mut self.visible] {
            let room = content.len().saturating_sub(position);
            let end = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            content.put(&bytes[..end], position);
        }
    }

    /// Puts the bytes back that the sector held before it was last overwritten, zeros if none: a
    /// write that the drive acknowledged and lost.
    pub(super) fn make_stale(&mut self, sector: u64) {
        let before = self.overwritten.get(&sector).copied().unwrap_or([0; SECTOR_BYTES]);
        self.damage(sector * SECTOR_BYTES as u64, &before);
    }

    /// Lets every read of the sector fail until it is written again.
    pub(super) fn make_unreadable(&mut self, sector: u64) {
        self.unreadable.insert(sector);
    }

    /// Replaces the whole content behind the back of the process.
    pub(super) fn replace(&mut self, bytes: &[u8]) {
        *self =
            Self { visible: Content::of(bytes), durable: Content::of(bytes), ..Self::default() };
    }
}

/// Draws how many of the changes of the length survive: returns the place of the first lost one,
/// or the count of all changes.
fn draw_first_lost_len(pending: &[Pending], durable_len: u64, draw: &mut Draw) -> usize {
    let mut changes = Vec::new();
    let mut len = durable_len;
    for (at, pending) in pending.iter().enumerate() {
        let after = pending.change.len_after(len);
        if after != len {
            changes.push(at);
        }
        len = after;
    }
    let kept = draw.up_to(changes.len());
    changes.get(kept).copied().unwrap_or(pending.len())
}

/// Draws for each sector how many of its writes survive: the place after the last surviving one.
fn draw_kept_sectors(
    pending: &[Pending],
    durable_len: u64,
    first_lost_len: usize,
    draw: &mut Draw,
) -> BTreeMap<u64, usize> {
    // The lowest length that a lost cut went down to: what was written beyond it afterwards went
    // to blocks that the file does not have without the cut.
    let mut lost_cut = u64::MAX;
    let mut len = durable_len;
    let mut writes: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (at, pending) in pending.iter().enumerate() {
        let after = pending.change.len_after(len);
        if after < len && at >= first_lost_len {
            lost_cut = lost_cut.min(after);
        }
        len = after;
        if let Change::Write { bytes, position } = &pending.change {
            for piece in pieces(*position, bytes.len(), SECTOR_BYTES) {
                let sector_end = (piece.unit + 1) * SECTOR_BYTES as u64;
                if sector_end <= lost_cut {
                    writes.entry(piece.unit).or_default().push(at);
                }
            }
        }
    }
    let mut kept = BTreeMap::new();
    for (sector, writes) in writes {
        let count = draw.up_to(writes.len());
        if count > 0 {
            kept.insert(sector, writes[count - 1] + 1);
        }
    }
    kept
}
