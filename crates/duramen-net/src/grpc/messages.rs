//! The receiving side: a body, message by message.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use prost::Message;
use tonic::body::Body;
use tonic::{Code, Status};

use super::PREFIX_BYTES;
use super::chunks::Chunks;

/// The messages of a body. Payloads of type [`Bytes`](bytes::Bytes) share the memory in which they
/// were received.
pub struct Messages<T> {
    body: Body,
    side: Side,
    bytes_max: usize,
    chunks: Chunks,
    /// Length of the message that is under way, once its prefix is there.
    due: Option<usize>,
    ended: bool,
    _messages: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Messages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("side", &self.side).finish_non_exhaustive()
    }
}

/// Whose body it is, which decides what its end means.
#[derive(Clone, Copy, Debug)]
enum Side {
    /// A client's: it ends when the client has said everything.
    Request,
    /// A server's: it ends with a status.
    Response(StatusCode),
}

impl<T: Message + Default> Messages<T> {
    /// The messages of a client; longer ones than `bytes_max` are refused.
    #[must_use]
    pub fn of_request(body: Body, bytes_max: usize) -> Self {
        Self::new(body, Side::Request, bytes_max)
    }

    /// The messages of a server.
    pub(super) fn of_response(body: Body, status: StatusCode, bytes_max: usize) -> Self {
        Self::new(body, Side::Response(status), bytes_max)
    }

    fn new(body: Body, side: Side, bytes_max: usize) -> Self {
        let chunks = Chunks::default();
        Self { body, side, bytes_max, chunks, due: None, ended: false, _messages: PhantomData }
    }

    /// The next message; `None` when there are no more. Cancel safe.
    ///
    /// # Errors
    /// What the other side said when it ended the stream, a lost connection, or a message that is
    /// too long, compressed or malformed. Nothing follows an error.
    pub async fn message(&mut self) -> Result<Option<T>, Status> {
        poll_fn(|context| self.poll_message(context)).await
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<T>, Status>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            match self.decode() {
                Ok(Some(message)) => return Poll::Ready(Ok(Some(message))),
                Ok(None) => {}
                Err(status) => return Poll::Ready(self.end(Err(status))),
            }
            let ended = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.chunks.push(data);
                        continue;
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().ok();
                        self.over(trailers.as_ref())
                    }
                },
                Some(Err(error)) => match (self.side, Status::from_error(error.into())) {
                    (Side::Request, status) if status.code() == Code::Cancelled => Ok(()),
                    (_, status) => Err(status),
                },
                None => self.over(None),
            };
            return Poll::Ready(self.end(ended));
        }
    }

    fn end(&mut self, ended: Result<(), Status>) -> Result<Option<T>, Status> {
        self.ended = true;
        self.chunks = Chunks::default();
        ended.map(|()| None)
    }

    /// The body is at its end: whether that is a good one.
    fn over(&self, trailers: Option<&HeaderMap>) -> Result<(), Status> {
        let status = trailers.and_then(Status::from_header_map);
        match (self.side, status) {
            (Side::Response(_), Some(status)) if status.code() != Code::Ok => Err(status),
            _ if self.chunks.has_remaining() => {
                Err(Status::internal("the stream ended within a message"))
            }
            (Side::Request, _) | (_, Some(_)) => Ok(()),
            (Side::Response(status), None) => Err(Status::unknown(format!(
                "the stream ended without a status (HTTP status {})",
                status.as_u16()
            ))),
        }
    }

    /// A message, if all of it is there.
    fn decode(&mut self) -> Result<Option<T>, Status> {
        let due = match self.due {
            Some(due) => due,
            None if self.chunks.remaining() < PREFIX_BYTES => return Ok(None),
            None => {
                if self.chunks.get_u8() != 0 {
                    return Err(Status::unimplemented("compressed messages are not supported"));
                }
                let len = self.chunks.get_u32();
                let due = usize::try_from(len).ok().filter(|due| *due <= self.bytes_max);
                let limit = self.bytes_max;
                let too_long = || format!("a message of {len} bytes is longer than {limit}");
                *self.due.insert(due.ok_or_else(|| Status::out_of_range(too_long()))?)
            }
        };
        if self.chunks.remaining() < due {
            return Ok(None);
        }
        self.due = None;
        let message = T::decode((&mut self.chunks).take(due));
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
