//! The messages of a stream, as their body is cut into pieces.
//!
//! An input is two bytes, `a` and `b`, and a body, whose pieces are in turn `1 + a` and `1 + 64 b`
//! bytes long.

use bytes::Bytes;
use duramen_env::fuzz::Verdict;
use duramen_net::grpc::{Messages, Outgoing};
use duramen_net::limits::MESSAGE_BYTES_MAX;
use duramen_proto::v1;
use futures::{FutureExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tonic::Status;
use tonic::body::Body;

/// Reads a body whole and in pieces: the messages must be the same, and survive being sent.
pub(super) fn read(bytes: &[u8]) -> Verdict {
    let Some(([short, long], body)) = bytes.split_first_chunk() else { return Verdict::Refused };
    let lengths = [1 + usize::from(*short), 1 + 64 * usize::from(*long)];
    let body = Bytes::copy_from_slice(body);
    let mut pieces = messages(pieces(body.clone(), lengths));
    let mut whole = messages(Body::new(http_body_util::Full::new(body)));
    let mut verdict = Verdict::Refused;
    loop {
        let (Some(one), Some(other)) =
            (whole.message().now_or_never(), pieces.message().now_or_never())
        else {
            return Verdict::Broken("a message that is there does not come");
        };
        match (one, other) {
            (Ok(Some(one)), Ok(Some(other))) if one == other => {
                drop(other);
                if !survives(one) {
                    return Verdict::Broken("a message does not survive being sent");
                }
                verdict = Verdict::Accepted;
            }
            (Ok(None), Ok(None)) => return verdict,
            (Err(one), Err(other)) if one.code() == other.code() => return Verdict::Refused,
            _ => return Verdict::Broken("a message depends on the pieces in which it came"),
        }
    }
}

/// A body that comes in pieces of these lengths, in turn.
fn pieces(mut body: Bytes, lengths: [usize; 2]) -> Body {
    let pieces = lengths.into_iter().cycle().map_while(move |length| {
        let piece = body.split_to(length.min(body.len()));
        (!piece.is_empty()).then(|| Ok::<_, Status>(Frame::data(piece)))
    });
    Body::new(StreamBody::new(stream::iter(pieces)))
}

fn messages(body: Body) -> Messages<v1::ProduceRequest> {
    Messages::of_request(body, MESSAGE_BYTES_MAX)
}

/// What the sending side makes of messages.
fn sent(list: Vec<v1::ProduceRequest>) -> Body {
    Body::new(Outgoing::client(stream::iter(list.into_iter().map(Ok))))
}

fn survives(message: v1::ProduceRequest) -> bool {
    let mut read = messages(sent(vec![message.clone()]));
    matches!(read.message().now_or_never(), Some(Ok(Some(read))) if read == message)
}

/// Some messages, in one run and cut, with payloads that are copied and that are not.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let request = |payload| v1::ProduceRequest {
        topic: "t".into(),
        payload: Some(payload),
        ..v1::ProduceRequest::default()
    };
    let batches = |len| v1::produce_request::Payload::Batches(vec![7; len].into());
    let record = v1::Record { value: Some(b"value".as_slice().into()), ..v1::Record::default() };
    let list = v1::RecordList::new(vec![record.clone(), record]);
    let records = v1::produce_request::Payload::Records(list);
    let requests = vec![request(batches(5_000)), request(records), request(batches(3))];
    let sent = sent(requests).collect().now_or_never().and_then(Result::ok);
    let body = sent.map(|sent| sent.to_bytes()).unwrap_or_default();
    [[u8::MAX; 2], [0, 0], [2, 70], [100, 30]].map(|lengths| [&lengths, &body[..]].concat()).into()
}
