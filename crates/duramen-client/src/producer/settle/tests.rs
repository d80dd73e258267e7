//! The rules, one story a test: batches of ten records at sequences 0, 10, 20 …

use duramen_proto::v1;
use duramen_record::{Batch, BatchBuilder, Compression, ProducerStamp, RecordRef};
use duramen_types::{ProducerEpoch, ProducerId, Timestamp, TopicId};
use futures::FutureExt;
use tokio::time::Instant;

use super::*;
use crate::ErrorKind;
use crate::producer::accumulator::Open;
use crate::producer::delivery::{Completer, Delivery};
use crate::producer::sealed::Permits;

const RECORDS: u32 = 10;

/// A batch at the given place, and the delivery of its first record.
fn batch(place: u32, maybe_stored: bool) -> (Sealed, Delivery) {
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in 0..RECORDS {
        builder.append(RecordRef::default(), [].into_iter()).unwrap();
    }
    let open = Open {
        builder,
        completer: Completer::default(),
        permits: Permits::default(),
        since: Instant::now(),
    };
    let delivery = Delivery {
        outcome: Arc::clone(open.completer.outcome()),
        partition: PartitionId::ZERO,
        index: 0,
        timestamp: Timestamp::EPOCH,
        waker: None,
    };
    let stamp = ProducerStamp {
        id: ProducerId::new(1),
        epoch: ProducerEpoch::ZERO,
        base_sequence: Sequence::new(place * RECORDS),
    };
    let mut sealed = Sealed::seal(open, Some(stamp), Instant::now()).unwrap();
    sealed.maybe_stored = maybe_stored;
    sealed.alone = true;
    (sealed, delivery)
}

fn refused(code: ErrorCode) -> Failure {
    Failure::Refused(Box::new(v1::Error { code: code.into(), ..v1::Error::default() }))
}

fn lost() -> Failure {
    Failure::Lost(ClientError::Closed { what: "stream" })
}

/// What becomes of batches that failed so: each one's error kind, or its new sequence.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Failed(ErrorKind),
    At(u32),
}

use Fate::{At, Failed as Gone};

fn fates(failures: Vec<(bool, Failure)>) -> (Vec<Fate>, Settled) {
    let topic = PinnedTopic { name: "t".into(), id: TopicId::NIL, partitions: 1 };
    let terms = Terms {
        topic: &topic,
        partition: PartitionId::ZERO,
        delivery_timeout: Duration::from_secs(1),
        last: None,
    };
    let mut deliveries = Vec::new();
    let mut failed = Vec::new();
    for (place, (maybe_stored, failure)) in failures.into_iter().enumerate() {
        let (batch, delivery) = batch(u32::try_from(place).unwrap(), maybe_stored);
        deliveries.push(delivery);
        failed.push(Failed { batch, failure });
    }
    let settled = settle(failed, &terms);
    let mut kept = settled.retry.iter();
    let fates = deliveries.into_iter().map(|delivery| match delivery.now_or_never() {
        Some(result) => Gone(result.unwrap_err().kind()),
        None => {
            let batch = kept.next().unwrap();
            let header = Batch::parse(batch.bytes.clone()).unwrap().header().clone();
            assert_eq!(header.producer, batch.stamp, "the bytes say what the batch says");
            At(batch.stamp.unwrap().base_sequence.get())
        }
    });
    let fates = fates.collect();
    assert!(kept.next().is_none());
    (fates, settled)
}

#[test]
fn what_may_help_again_is_sent_again_as_it_is() {
    let (fates, settled) = fates(vec![
        (false, lost()),
        (true, refused(ErrorCode::NotLeader)),
        (false, refused(ErrorCode::OutOfOrderSequence)),
        (false, refused(ErrorCode::UnknownProducer)),
    ]);
    assert_eq!(fates, [At(0), At(10), At(20), At(30)]);
    assert!(!settled.renew && settled.next_sequence.is_none() && settled.dead.is_none());
    let flags: Vec<bool> = settled.retry.iter().map(|batch| batch.maybe_stored).collect();
    assert_eq!(flags, [true, true, false, false]);
}

#[test]
fn what_fails_for_good_leaves_a_hole_that_later_batches_fill() {
    let (fates, settled) = fates(vec![
        (false, refused(ErrorCode::Overloaded)),
        (false, refused(ErrorCode::RecordTooLarge)),
        (true, refused(ErrorCode::OutOfOrderSequence)),
        (false, Failure::Expired),
        (false, refused(ErrorCode::OutOfOrderSequence)),
    ]);
    let expected = [At(0), Gone(ErrorKind::Invalid), At(10), Gone(ErrorKind::Retry), At(20)];
    assert_eq!(fates, expected);
    assert_eq!(settled.next_sequence, Some(Sequence::new(30)));
    assert!(!settled.renew);
}

#[test]
fn a_batch_that_may_be_stored_and_is_given_up_ends_the_producer_id() {
    let (fates, settled) = fates(vec![
        (true, Failure::Expired),
        (false, lost()),
        (false, refused(ErrorCode::OutOfOrderSequence)),
    ]);
    // The second may be stored under the old id, so it cannot go on under a new one.
    let unknown = || Gone(ErrorKind::UnknownOutcome);
    assert_eq!(fates, [unknown(), unknown(), At(20)]);
    assert!(settled.renew);
}

#[test]
fn a_forgotten_producer_begins_anew_unless_something_may_be_stored() {
    let (first, settled) = fates(vec![
        (false, refused(ErrorCode::UnknownProducer)),
        (false, refused(ErrorCode::UnknownProducer)),
    ]);
    assert_eq!(first, [At(0), At(10)]);
    assert!(settled.renew);
    let (second, settled) = fates(vec![
        (true, refused(ErrorCode::UnknownProducer)),
        (false, refused(ErrorCode::UnknownProducer)),
    ]);
    assert_eq!(second, [Gone(ErrorKind::UnknownOutcome), At(10)]);
    assert!(settled.renew);
}

#[test]
fn a_sequence_refused_at_the_head_is_an_error_and_ends_the_producer_id() {
    let (fates, settled) = fates(vec![
        (false, refused(ErrorCode::OutOfOrderSequence)),
        (false, refused(ErrorCode::OutOfOrderSequence)),
    ]);
    assert_eq!(fates, [Gone(ErrorKind::Invalid), At(10)]);
    assert!(settled.renew);
}

#[test]
fn a_fenced_producer_fails_everything_and_says_what_may_be_stored() {
    let (fates, settled) = fates(vec![
        (false, refused(ErrorCode::Unavailable)),
        (false, refused(ErrorCode::ProducerFenced)),
        (true, refused(ErrorCode::ProducerFenced)),
        (false, lost()),
    ]);
    let fenced = || Gone(ErrorKind::Fenced);
    let unknown = || Gone(ErrorKind::UnknownOutcome);
    assert_eq!(fates, [fenced(), fenced(), unknown(), unknown()]);
    assert!(settled.dead.is_some());
}
