//! The stream of one member: its requests in order, its assignment whenever it changes.

use std::collections::VecDeque;
use std::sync::Arc;

use duramen_broker::{Assignment, Broker, BrokerError, Done, GroupSession, MemberAction};
use duramen_env::Env;
use duramen_group::MemberEpoch;
use duramen_proto::v1;
use duramen_proto::v1::member_request::Request;
use duramen_proto::v1::member_response::Response;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::translate;
use crate::error;
use crate::limits;
use crate::produce::owned;
use crate::service::caller;
use crate::translate::invalid;

type Answer = Result<v1::MemberResponse, Status>;

/// Serves a stream.
pub(super) fn stream(
    env: &Env,
    broker: Arc<Broker>,
    requests: Streaming<v1::MemberRequest>,
) -> impl Stream<Item = Answer> + Send + use<> {
    let (out, answers) = mpsc::channel(limits::MEMBER_ANSWERS_WAITING);
    let task = env.tasks.critical("group-member", serve(broker, requests, out));
    owned(answers, task)
}

fn answer(response: Response) -> Answer {
    Ok(v1::MemberResponse { response: Some(response) })
}

async fn serve(
    broker: Arc<Broker>,
    mut requests: Streaming<v1::MemberRequest>,
    out: mpsc::Sender<Answer>,
) {
    if let Err(error) = serve_all(&broker, &mut requests, &out).await {
        // The client may have gone.
        drop(out.send(answer(Response::Error(error::to_wire(&error)))).await);
    }
}

async fn serve_all(
    broker: &Arc<Broker>,
    requests: &mut Streaming<v1::MemberRequest>,
    out: &mpsc::Sender<Answer>,
) -> Result<(), BrokerError> {
    let Ok(Some(v1::MemberRequest { request: Some(Request::Join(join)) })) =
        requests.message().await
    else {
        return Err(invalid("join", "the first message"));
    };
    let session = broker.join_group(&caller(), translate::join(join)?).await?;
    let mut stream = MemberStream {
        broker,
        session,
        out,
        pending: FuturesOrdered::new(),
        leaving: false,
        left: false,
    };
    stream.run(requests).await
}

/// What came of a request.
type Outcome = (Asked, Result<Done, BrokerError>);

/// How a request is answered.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// By the assignment that follows from it.
    Change,
    /// By the reply to the commit of this correlation id.
    Commit(u64),
    Leave,
}

struct MemberStream<'a> {
    broker: &'a Arc<Broker>,
    session: GroupSession,
    out: &'a mpsc::Sender<Answer>,
    pending: FuturesOrdered<BoxFuture<'static, Outcome>>,
    /// It has asked to leave: that it is no member any more is no news.
    leaving: bool,
    left: bool,
}

impl MemberStream<'_> {
    async fn run(
        &mut self,
        requests: &mut Streaming<v1::MemberRequest>,
    ) -> Result<(), BrokerError> {
        let broker = self.broker;
        let stopping = broker.stopping();
        tokio::pin!(stopping);
        let mut waiting: VecDeque<Response> = VecDeque::new();
        let mut open = true;
        loop {
            if let Some(response) = waiting.pop_front() {
                if self.out.send(answer(response)).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            if self.left || (!open && self.pending.is_empty()) {
                return Ok(());
            }
            let room = self.pending.len() < duramen_broker::limits::MEMBER_REQUESTS_MAX;
            tokio::select! {
                biased;
                () = &mut stopping => return Err(BrokerError::ShuttingDown),
                Some((asked, done)) = self.pending.next() => {
                    waiting.extend(self.settle(asked, done)?);
                }
                told = self.session.assignment(), if open && !self.leaving => {
                    waiting.push_back(assigned(&told?));
                }
                request = requests.message(), if open && room && !self.leaving => match request {
                    Ok(Some(request)) => waiting.extend(self.take(request).await?),
                    // Its session goes on: it may come back.
                    Ok(None) | Err(_) => open = false,
                },
            }
        }
    }

    /// Takes a request; what has to wait for the group is answered later.
    async fn take(&mut self, request: v1::MemberRequest) -> Result<Option<Response>, BrokerError> {
        let request = request.request.ok_or_else(|| invalid("request", "set"))?;
        let (asked, action) = match request {
            Request::Join(_) => return Err(invalid("join", "the first message only")),
            Request::Heartbeat(heartbeat) => {
                let beat = self.session.heartbeat(MemberEpoch::new(heartbeat.epoch))?;
                return Ok(Some(Response::Heartbeat(v1::HeartbeatReply {
                    sequence: heartbeat.sequence,
                    epoch: beat.epoch.get(),
                    unsure_ms: u32::try_from(beat.unsure.as_millis()).unwrap_or(u32::MAX),
                })));
            }
            Request::Acknowledge(acknowledge) => {
                (Asked::Change, MemberAction::Acknowledge(MemberEpoch::new(acknowledge.epoch)))
            }
            Request::Subscribe(subscribe) => {
                let epoch = MemberEpoch::new(subscribe.epoch);
                let subscription = translate::subscription(subscribe.subscription)?;
                (Asked::Change, MemberAction::Subscribe(epoch, subscription))
            }
            Request::Leave(leave) => {
                let epoch = MemberEpoch::new(leave.epoch);
                self.leaving = true;
                (Asked::Leave, MemberAction::Leave(epoch, leave.returns))
            }
            Request::Commit(commit) => {
                let offsets = match translate::commits(self.broker, commit.offsets) {
                    Ok(offsets) => offsets,
                    Err(error) => return Ok(Some(refused(commit.correlation_id, &error))),
                };
                let asked = Asked::Commit(commit.correlation_id);
                (asked, MemberAction::Commit(MemberEpoch::new(commit.epoch), offsets))
            }
        };
        let done = self.session.submit(action).await?;
        self.pending.push_back(async move { (asked, done.await) }.boxed());
        Ok(None)
    }

    fn settle(
        &mut self,
        asked: Asked,
        done: Result<Done, BrokerError>,
    ) -> Result<Option<Response>, BrokerError> {
        match (asked, done) {
            (Asked::Commit(correlation_id), Ok(Done::Committed(partitions))) => {
                let refused = translate::refused(self.broker, &partitions);
                Ok(Some(Response::Commit(v1::CommitReply { correlation_id, refused, error: None })))
            }
            (Asked::Commit(correlation_id), Err(error)) => {
                Ok(Some(refused(correlation_id, &error)))
            }
            (Asked::Leave, Ok(_)) => {
                self.left = true;
                Ok(Some(Response::Left(v1::Left {})))
            }
            (_, Ok(_)) => Ok(None),
            (_, Err(error)) => Err(error),
        }
    }
}

fn refused(correlation_id: u64, error: &BrokerError) -> Response {
    let error = Some(error::to_wire(error));
    Response::Commit(v1::CommitReply { correlation_id, refused: Vec::new(), error })
}

fn assigned(assignment: &Assignment) -> Response {
    Response::Assignment(translate::assignment(assignment))
}
