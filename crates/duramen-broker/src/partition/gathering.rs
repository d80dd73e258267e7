//! What waits for the next entry of a partition.

use bytes::{Bytes, BytesMut};

use super::ProduceItem;
use crate::limits;

/// Requests gathered into the next entry, in order.
#[derive(Default)]
pub(super) struct Gathering {
    items: Vec<ProduceItem>,
    bytes: usize,
    /// What did not fit with them, for the entry after.
    carried: Option<ProduceItem>,
}

impl Gathering {
    pub(super) const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether another request may be added.
    pub(super) const fn has_room(&self) -> bool {
        self.carried.is_none() && self.bytes < limits::ENTRY_BYTES
    }

    /// Adds a request. Only where there is room.
    pub(super) fn add(&mut self, item: ProduceItem) {
        debug_assert!(self.has_room(), "a request was added to what is full");
        let bytes = self.bytes + item.bytes;
        if self.items.is_empty() || bytes <= limits::ENTRY_BYTES {
            self.bytes = bytes;
            self.items.push(item);
        } else {
            self.carried = Some(item);
        }
    }

    /// The requests of one entry; what did not fit with them begins the next.
    pub(super) fn take(&mut self) -> Vec<ProduceItem> {
        let taken = std::mem::take(self);
        if let Some(item) = taken.carried {
            self.add(item);
        }
        taken.items
    }

    /// All requests.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = ProduceItem> + use<> {
        let taken = std::mem::take(self);
        taken.items.into_iter().chain(taken.carried)
    }
}

/// Takes the batches of an entry, in one buffer. One large request's stay where they were received:
/// nobody else holds that memory any more, as a rule, so that offsets are stamped in place, and not
/// much of it is something else.
pub(super) fn payload(items: &mut [ProduceItem]) -> Bytes {
    match items {
        [one] if one.bytes >= limits::KEPT_IN_PLACE_MIN => std::mem::take(&mut one.batches),
        items => {
            let bytes = items.iter().map(|item| item.bytes).sum();
            let mut payload = BytesMut::with_capacity(bytes);
            for item in items {
                payload.extend_from_slice(&std::mem::take(&mut item.batches));
            }
            payload.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use duramen_types::Timestamp;
    use tokio::sync::oneshot;

    use super::*;

    fn item(number: u32, bytes: usize) -> ProduceItem {
        let (reply, _) = oneshot::channel();
        let batches = Bytes::from(vec![0; bytes]);
        ProduceItem {
            batches,
            bytes,
            records: number,
            max_timestamp: Timestamp::MIN,
            producer: None,
            reply,
        }
    }

    /// Sizes of the entries that requests of these sizes end up in, in order.
    fn entries(sizes: &[usize]) -> Vec<usize> {
        let mut gathering = Gathering::default();
        let (mut entries, mut expected) = (Vec::new(), 0..);
        let mut waiting = (0..).zip(sizes).peekable();
        while waiting.peek().is_some() || !gathering.is_empty() {
            while gathering.has_room()
                && let Some((number, size)) = waiting.next()
            {
                gathering.add(item(number, *size));
            }
            let mut items = gathering.take();
            assert!(items.iter().map(|item| item.records).eq(expected.by_ref().take(items.len())));
            entries.push(payload(&mut items).len());
        }
        assert_eq!(expected.next(), u32::try_from(sizes.len()).ok(), "all are in entries");
        entries
    }

    #[test]
    fn an_entry_is_no_larger_than_its_limit_unless_one_request_is() {
        let max = limits::ENTRY_BYTES;
        assert_eq!(entries(&[max / 2, max / 2, 1]), [max, 1]);
        assert_eq!(entries(&[max / 2, max / 2 + 1, 1]), [max / 2, max / 2 + 2]);
        assert_eq!(entries(&[1, max * 3, 1, max]), [1, max * 3, 1, max]);
        assert_eq!(entries(&[max - 1, max - 1, max - 1]), [max - 1; 3]);
    }

    #[test]
    fn only_one_large_request_stays_where_it_is() {
        let large = limits::KEPT_IN_PLACE_MIN;
        for (sizes, stays) in [(&[large][..], true), (&[large - 1], false), (&[large, 1], false)] {
            let mut items: Vec<_> = sizes.iter().map(|size| item(0, *size)).collect();
            let before = items[0].batches.as_ptr();
            let entry = payload(&mut items);
            assert_eq!(entry.as_ptr() == before, stays, "{sizes:?}");
            // Whoever waits for it does not hold it.
            assert!(entry.is_unique());
        }
    }

    #[test]
    fn what_is_cleared_is_everything_that_waited() {
        let mut gathering = Gathering::default();
        gathering.add(item(0, 1));
        gathering.add(item(1, limits::ENTRY_BYTES));
        assert!(!gathering.has_room());
        assert_eq!(gathering.clear().map(|item| item.records).collect::<Vec<_>>(), [0, 1]);
        assert!(gathering.is_empty() && gathering.has_room());
    }
}
