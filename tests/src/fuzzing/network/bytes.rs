//! Valid bytes of HTTP/2 connections, written by hand: they must be the same in every process, and
//! a real server's carry the time of day.
//!
//! ```text
//! +-------------+------+-------+-----------+---------+
//! | length, u24 | type | flags | stream id | payload |      big-endian
//! +-------------+------+-------+-----------+---------+
//! ```

use duramen_proto::v1;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let head = [&len[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head, payload.to_vec()].concat()
}

/// A header field that is not in any table (RFC 7541, 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [vec![u8::try_from(text.len()).unwrap_or(0)], text.into()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// A gRPC message: not compressed, its length, its bytes.
fn message(message: &impl prost::Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let len = u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
    [vec![0], len.to_vec(), bytes].concat()
}

/// One call on a stream: static table entries for POST and http, then the rest.
fn call(stream: u32, path: &str, messages: &[Vec<u8>]) -> Vec<u8> {
    let headers = [
        vec![0x83, 0x86],
        field(":path", path),
        field(":authority", "h:1"),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ];
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &headers.concat());
    for message in messages {
        bytes.extend(frame(DATA, 0, stream, message));
    }
    bytes.extend(frame(DATA, END_STREAM, stream, &[]));
    bytes
}

/// What clients send.
pub(super) fn requests() -> Vec<Vec<u8>> {
    let begin = || [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, ACK, 0, &[])].concat();
    let record = v1::Record { value: Some(b"value".as_slice().into()), ..v1::Record::default() };
    let list = v1::RecordList::new(vec![record]);
    let produce = message(&v1::ProduceRequest {
        topic: "t".into(),
        payload: Some(v1::produce_request::Payload::Records(list)),
        ..v1::ProduceRequest::default()
    });
    let fetch = v1::FetchRequest { topic: "t".into(), ..v1::FetchRequest::default() };
    let streamed = message(&v1::FetchStreamRequest { start: Some(fetch.clone()), credit_bytes: 9 });
    let cut: Vec<_> = produce.chunks(3).map(<[u8]>::to_vec).collect();
    let cut = call(1, "/duramen.v1.LogService/ProduceStream", &cut);
    let one = call(1, "/duramen.v1.LogService/Produce", std::slice::from_ref(&produce));
    let many = [
        call(1, "/duramen.v1.LogService/ProduceStream", &[produce.clone(), produce]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]),
        call(3, "/duramen.v1.LogService/Fetch", &[message(&fetch)]),
        frame(PING, 0, 0, &[7; 8]),
        call(5, "/duramen.v1.LogService/FetchStream", &[streamed.clone(), streamed]),
        call(
            7,
            "/duramen.v1.LogService/ListOffsets",
            &[message(&v1::ListOffsetsRequest::default())],
        ),
        call(9, "/duramen.v1.LogService/InitProducer", &[message(&v1::InitProducerRequest {})]),
    ];
    vec![[begin(), one].concat(), [begin(), many.concat()].concat(), [begin(), cut].concat()]
}
