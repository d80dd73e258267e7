//! All replicas have the same bytes over the committed prefix, and the same offsets.

use std::collections::BTreeMap;

use super::Pass;
use crate::anomaly::Anomaly;
use crate::event::{Entry, ReplicaDump};
use crate::history::Key;

/// The committed entries of a key, and whose replica is the first that has them.
type Reference = BTreeMap<u64, (Entry, u64)>;

pub(super) fn check(pass: &mut Pass<'_>) {
    let mut references = BTreeMap::<Key, Reference>::new();
    for dump in &pass.history.dumps {
        check_one(pass, dump);
        let reference = references.entry(dump.key).or_default();
        for entry in dump.entries.iter().filter(|entry| entry.index < dump.committed_end) {
            let (other, first) = *reference.entry(entry.index).or_insert((*entry, dump.replica));
            compare(pass, dump, entry, &other, first);
        }
    }
}

/// A replica has all entries from the one of its log start on, and counts offsets without a gap.
fn check_one(pass: &mut Pass<'_>, dump: &ReplicaDump) {
    let (key, replica) = (dump.key, dump.replica);
    let (Some(first), Some(last)) = (dump.entries.first(), dump.entries.last()) else { return };
    if first.base_offset > dump.log_start {
        let index = first.index.saturating_sub(1);
        pass.add(Anomaly::ReplicaHole { key, replica, index });
    }
    for pair in dump.entries.windows(2) {
        let (entry, next) = (&pair[0], &pair[1]);
        if next.index >= dump.committed_end {
            break;
        }
        let expected = entry.base_offset + u64::from(entry.records);
        if next.index != entry.index + 1 {
            pass.add(Anomaly::ReplicaHole { key, replica, index: entry.index + 1 });
        } else if next.base_offset != expected {
            let (index, base) = (next.index, next.base_offset);
            let other = replica;
            pass.add(Anomaly::OffsetMapDiffers { key, index, replica, base, other, expected });
        }
    }
    if last.index + 1 < dump.committed_end {
        pass.add(Anomaly::ReplicaHole { key, replica, index: last.index + 1 });
    }
}

fn compare(pass: &mut Pass<'_>, dump: &ReplicaDump, entry: &Entry, other: &Entry, first: u64) {
    let (key, index) = (dump.key, entry.index);
    if (entry.base_offset, entry.records) != (other.base_offset, other.records) {
        pass.add(Anomaly::OffsetMapDiffers {
            key,
            index,
            replica: dump.replica,
            base: entry.base_offset,
            other: first,
            expected: other.base_offset,
        });
    } else if entry != other {
        pass.add(Anomaly::ReplicasDiffer { key, index, first, second: dump.replica });
    }
}
