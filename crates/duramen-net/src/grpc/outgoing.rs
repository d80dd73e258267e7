//! The sending side: a stream of messages as a body.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes};
use duramen_env::Rope;
use futures::Stream;
use http::HeaderMap;
use http_body::Frame;
use prost::Message;
use tonic::Status;

/// Small messages are gathered up to this size before they go out.
const GATHER_BYTES: usize = 32 << 10;

/// A body that is made of messages as their stream gives them. Payloads are sent from where they
/// are.
#[derive(Debug)]
pub struct Outgoing<S> {
    /// `None` once it has ended.
    messages: Option<S>,
    rope: Rope,
    /// What the body ends with; a client's ends with nothing.
    trailers: Option<HeaderMap>,
    is_server: bool,
}

impl<S> Outgoing<S> {
    /// What a client sends.
    pub fn client(messages: S) -> Self {
        Self::new(messages, false)
    }

    /// What a server sends; it ends with a status.
    pub fn server(messages: S) -> Self {
        Self::new(messages, true)
    }

    fn new(messages: S, is_server: bool) -> Self {
        Self { messages: Some(messages), rope: Rope::default(), trailers: None, is_server }
    }

    fn end(&mut self, status: &Status) {
        self.messages = None;
        if self.is_server {
            let mut trailers = HeaderMap::new();
            // What cannot be said in a header is left out: the code is there.
            if status.add_header(&mut trailers).is_err() {
                trailers = HeaderMap::new();
                drop(Status::new(status.code(), "").add_header(&mut trailers));
            }
            self.trailers = Some(trailers);
        }
    }
}

/// Adds a message and its prefix.
fn encode<T: Message>(rope: &mut Rope, message: &T) -> Result<(), Status> {
    let len = u32::try_from(message.encoded_len())
        .map_err(|_| Status::resource_exhausted("a message is longer than 4 GiB"))?;
    rope.put_u8(0);
    rope.put_u32(len);
    message.encode_raw(rope);
    Ok(())
}

impl<S, T> http_body::Body for Outgoing<S>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
    T: Message,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        while let Some(messages) = &mut this.messages
            && this.rope.len() < GATHER_BYTES
        {
            match Pin::new(messages).poll_next(context) {
                Poll::Ready(Some(Ok(message))) => {
                    if let Err(status) = encode(&mut this.rope, &message) {
                        this.end(&status);
                    }
                }
                Poll::Ready(Some(Err(status))) => this.end(&status),
                Poll::Ready(None) => this.end(&Status::ok("")),
                Poll::Pending if this.rope.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if let Some(piece) = this.rope.pop() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.messages.is_none() && self.rope.is_empty() && self.trailers.is_none()
    }
}
