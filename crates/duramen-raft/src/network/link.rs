//! One link to one node: a bidirectional stream that is made again whenever it is lost.
//!
//! Invariant: every request is answered, or fails when its link is lost, or times out at its
//! caller; the maps of waiting callers hold no request of an earlier connection.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duramen_env::{Env, TaskHandle};
use duramen_net::Channel;
use duramen_net::grpc::{Messages, call};
use duramen_proto::internal as pb;
use duramen_proto::internal::peer_frame::Frame;
use futures::Stream;
use tokio::sync::{mpsc, oneshot};

use super::links::LocalNode;
use super::service::LINK_PATH;
use crate::limits;

/// Why a request on a link has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LinkError {
    /// The link is down, or was lost while the request was on it.
    #[error("could not reach the node: the link is down")]
    Down,
    /// More requests wait than the link takes.
    #[error("could not reach the node: its link is saturated")]
    Saturated,
}

/// An answer to one append of a stream: its sequence and the result.
pub(super) type AppendAnswer = (u64, Option<pb::AppendResult>);

enum Outgoing {
    Call(pb::RaftCall),
    Heartbeat(pb::Heartbeat, oneshot::Sender<pb::AppendResult>),
    Append(pb::AppendRequest),
    Beat(pb::Beat),
}

#[derive(Default)]
struct Waiting {
    calls: BTreeMap<u64, oneshot::Sender<pb::RaftReply>>,
    heartbeats: BTreeMap<u64, Vec<oneshot::Sender<pb::AppendResult>>>,
    streams: BTreeMap<u64, mpsc::Sender<AppendAnswer>>,
    beats: BTreeMap<u64, oneshot::Sender<pb::BeatReply>>,
}

struct Shared {
    env: Env,
    local: LocalNode,
    class: pb::LinkClass,
    channel: Channel,
    up: AtomicBool,
    next_id: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// A link; dropping it ends it.
pub(super) struct Link {
    shared: Arc<Shared>,
    out: mpsc::Sender<Outgoing>,
    _task: TaskHandle<()>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("to", &self.shared.channel.address()).finish_non_exhaustive()
    }
}

impl Link {
    /// Starts a link to an address; it connects at once and for ever.
    pub(super) fn start(env: &Env, local: LocalNode, to: &str, class: pb::LinkClass) -> Self {
        let (out, queue) = mpsc::channel(limits::LINK_QUEUE_FRAMES);
        let shared = Arc::new(Shared {
            env: env.clone(),
            local,
            class,
            channel: Channel::new(env, to),
            up: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
            waiting: Mutex::new(Waiting::default()),
        });
        let task = env.tasks.critical("peer-link", run(Arc::clone(&shared), queue));
        Self { shared, out, _task: task }
    }

    pub(super) fn is_up(&self) -> bool {
        self.shared.up.load(Ordering::Relaxed)
    }

    /// Sends a call and waits for its reply.
    pub(super) async fn call(
        &self,
        group: pb::GroupAddress,
        call: pb::raft_call::Call,
    ) -> Result<pb::RaftReply, LinkError> {
        let id = self.shared.next_id();
        let (done, reply) = oneshot::channel();
        self.shared.lock().calls.insert(id, done);
        let _guard = RemoveCall { shared: &self.shared, id };
        let call = pb::RaftCall { id, group: Some(group), call: Some(call) };
        self.send(Outgoing::Call(call))?;
        reply.await.map_err(|_| LinkError::Down)
    }

    /// Sends a heartbeat, together with those of other groups that are sent at the same time.
    pub(super) async fn heartbeat(
        &self,
        heartbeat: pb::Heartbeat,
    ) -> Result<pb::AppendResult, LinkError> {
        let (done, result) = oneshot::channel();
        self.send(Outgoing::Heartbeat(heartbeat, done))?;
        result.await.map_err(|_| LinkError::Down)
    }

    /// Sends a beat, under an id of this link; the receiver ends with the link.
    pub(super) fn beat(
        &self,
        mut beat: pb::Beat,
    ) -> Result<oneshot::Receiver<pb::BeatReply>, LinkError> {
        let (done, reply) = oneshot::channel();
        beat.id = self.shared.next_id();
        {
            let mut waiting = self.shared.lock();
            waiting.beats.retain(|_, waiter| !waiter.is_closed());
            waiting.beats.insert(beat.id, done);
        }
        self.send(Outgoing::Beat(beat))?;
        Ok(reply)
    }

    /// Opens a stream of appends; its answers come on the receiver, which ends with the link.
    pub(super) fn open_stream(link: Arc<Self>) -> (AppendLane, mpsc::Receiver<AppendAnswer>) {
        let (answers, receiver) = mpsc::channel(limits::APPENDS_IN_FLIGHT_MAX + 1);
        let stream = link.shared.next_id();
        link.shared.lock().streams.insert(stream, answers);
        (AppendLane { link, stream }, receiver)
    }

    /// Nothing waits for a link that is down: it would be old when it arrives.
    fn send(&self, outgoing: Outgoing) -> Result<(), LinkError> {
        if !self.is_up() {
            return Err(LinkError::Down);
        }
        self.out.try_send(outgoing).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LinkError::Saturated,
            mpsc::error::TrySendError::Closed(_) => LinkError::Down,
        })
    }
}

/// Takes a call out of the waiting map however its wait ends.
struct RemoveCall<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for RemoveCall<'_> {
    fn drop(&mut self) {
        self.shared.lock().calls.remove(&self.id);
    }
}

/// The sending side of one stream of appends.
pub(super) struct AppendLane {
    link: Arc<Link>,
    stream: u64,
}

impl AppendLane {
    /// Sends one append; waits while the link's queue is full.
    pub(super) async fn send(&self, mut request: pb::AppendRequest) -> Result<(), LinkError> {
        if !self.link.is_up() {
            return Err(LinkError::Down);
        }
        request.stream = self.stream;
        let sent = self.link.out.send(Outgoing::Append(request)).await;
        sent.map_err(|_| LinkError::Down)
    }
}

impl Drop for AppendLane {
    fn drop(&mut self) {
        self.link.shared.lock().streams.remove(&self.stream);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Turns what waits in the queue into frames: all heartbeats of a wake-up become one.
    fn frames(&self, batch: Vec<Outgoing>) -> Vec<pb::PeerFrame> {
        let mut frames = Vec::with_capacity(batch.len());
        let mut heartbeats = Vec::new();
        let mut waiters = Vec::new();
        for outgoing in batch {
            match outgoing {
                Outgoing::Call(call) => frames.push(Frame::Call(call)),
                Outgoing::Append(append) => frames.push(Frame::Append(append)),
                Outgoing::Beat(beat) => frames.push(Frame::Beat(beat)),
                Outgoing::Heartbeat(heartbeat, done) => {
                    heartbeats.push(heartbeat);
                    waiters.push(done);
                }
            }
        }
        if !heartbeats.is_empty() {
            let id = self.next_id();
            self.lock().heartbeats.insert(id, waiters);
            frames.push(Frame::Heartbeats(pb::HeartbeatBatch { id, heartbeats }));
        }
        frames.into_iter().map(|frame| pb::PeerFrame { frame: Some(frame) }).collect()
    }

    fn answered(&self, frame: Frame) {
        match frame {
            Frame::Reply(reply) => {
                let waiter = self.lock().calls.remove(&reply.id);
                if let Some(waiter) = waiter {
                    // The caller may have given up.
                    drop(waiter.send(reply));
                }
            }
            Frame::HeartbeatReplies(replies) => {
                let waiters = self.lock().heartbeats.remove(&replies.id).unwrap_or_default();
                for (waiter, result) in waiters.into_iter().zip(replies.results) {
                    drop(waiter.send(result));
                }
            }
            Frame::BeatReply(reply) => {
                let waiter = self.lock().beats.remove(&reply.id);
                if let Some(waiter) = waiter {
                    // Who sent it may wait no more.
                    drop(waiter.send(reply));
                }
            }
            Frame::AppendReply(reply) => {
                let stream = self.lock().streams.get(&reply.stream).cloned();
                if let Some(stream) = stream {
                    // Never full: the window is smaller than the channel. Closed if it ended.
                    drop(stream.try_send((reply.seq, reply.result)));
                }
            }
            _ => {}
        }
    }

    /// Fails everything in flight, and what waited to be sent.
    fn fail_all(&self, queue: &mut mpsc::Receiver<Outgoing>) {
        *self.lock() = Waiting::default();
        while queue.try_recv().is_ok() {}
    }
}

async fn run(shared: Arc<Shared>, queue: mpsc::Receiver<Outgoing>) {
    let queue = Arc::new(tokio::sync::Mutex::new(queue));
    let mut wait = limits::LINK_RETRY_MIN;
    loop {
        let reason = connect_and_pump(&shared, &queue).await;
        let was_up = shared.up.swap(false, Ordering::Relaxed);
        shared.fail_all(&mut *queue.lock().await);
        let to = shared.channel.address();
        if was_up {
            tracing::info!(to, class = ?shared.class, reason, "peer link lost");
            wait = limits::LINK_RETRY_MIN;
        } else {
            tracing::debug!(to, class = ?shared.class, reason, "peer link not made");
        }
        let jitter = shared.env.random.below(10);
        tokio::time::sleep(wait + Duration::from_millis(jitter)).await;
        wait = (wait * 2).min(limits::LINK_RETRY_MAX);
    }
}

type Queue = Arc<tokio::sync::Mutex<mpsc::Receiver<Outgoing>>>;

/// Makes the link and carries it until it is lost; says why.
async fn connect_and_pump(shared: &Arc<Shared>, queue: &Queue) -> String {
    // Ends the sending side with this connection, however long that is kept open: the next one
    // needs the queue.
    let (_alive, ended) = oneshot::channel();
    let requests = outgoing(Arc::clone(shared), Arc::clone(queue), ended);
    let opened = call(&mut shared.channel.clone(), LINK_PATH, Box::pin(requests)).await;
    let mut incoming: Messages<pb::PeerFrame> = match opened {
        Ok(incoming) => incoming,
        Err(status) => return status.message().to_owned(),
    };
    match tokio::time::timeout(limits::CALL_TIMEOUT, incoming.message()).await {
        Ok(Ok(Some(pb::PeerFrame { frame: Some(Frame::Hello(hello)) }))) => {
            if hello.cluster_id[..] != shared.local.cluster.as_bytes()[..] {
                return "the node belongs to another cluster".to_owned();
            }
        }
        Ok(Ok(_)) => return "the node did not greet".to_owned(),
        Ok(Err(status)) => return status.message().to_owned(),
        Err(_) => return "the node did not greet in time".to_owned(),
    }
    shared.up.store(true, Ordering::Relaxed);
    loop {
        match incoming.message().await {
            Ok(Some(pb::PeerFrame { frame: Some(frame) })) => shared.answered(frame),
            Ok(Some(pb::PeerFrame { frame: None })) => {}
            Ok(None) => return "the node closed the link".to_owned(),
            Err(status) => return status.message().to_owned(),
        }
    }
}

/// What this side sends until `ended`: a greeting, then whatever the queue holds, as fast as the
/// connection takes it.
fn outgoing(
    shared: Arc<Shared>,
    queue: Queue,
    ended: oneshot::Receiver<()>,
) -> impl Stream<Item = pb::PeerFrame> + Send {
    use futures::StreamExt as _;
    let hello = shared.local.hello(shared.class);
    let state = (shared, queue, ended);
    let rest = futures::stream::unfold(state, |(shared, queue, mut ended)| async move {
        let mut batch = Vec::new();
        let receiving =
            async { queue.lock().await.recv_many(&mut batch, limits::LINK_QUEUE_FRAMES).await };
        let taken = tokio::select! {
            biased;
            _ = &mut ended => 0,
            taken = receiving => taken,
        };
        if taken == 0 {
            return None;
        }
        let frames = shared.frames(batch);
        Some((futures::stream::iter(frames), (shared, queue, ended)))
    });
    futures::stream::once(async move { hello }).chain(rest.flatten())
}
