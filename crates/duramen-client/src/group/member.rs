//! The task of one member: finds the coordinator, keeps a stream to it, and goes on when either
//! breaks. It never waits for whoever processes records.

use std::sync::Arc;

use duramen_env::Random;
use duramen_proto::v1::{self, ErrorCode};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::core::{Exit, Intent, LinkEnd};
use super::event::GroupEvent;
use super::shared::Shared;
use crate::cluster::{Node, of_group};
use crate::failure::Failure;
use crate::retry::{Attempts, Backoff};
use crate::{ClientError, ErrorKind, limits};

/// The task of one member.
pub(super) struct Member {
    pub(super) shared: Arc<Shared>,
    pub(super) group: Arc<str>,
    pub(super) backoff: Backoff,
    pub(super) redirects: u32,
}

/// Why a stream is over.
enum Stop {
    Left,
    /// The handle was closed or dropped.
    Ended,
    Failed(Failure),
}

/// An id that no other life of any consumer has: a version 4 UUID.
pub(super) fn random_id(random: &dyn Random) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    duramen_types::ClusterId::from_random(bytes).to_string()
}

impl Member {
    /// Runs until the consumer has left or was given up.
    pub(super) async fn run(mut self) {
        while self.is_wanted().await {
            self.run_once().await;
        }
        self.shared.abandon();
        self.shared.joined.notify_waiters();
    }

    /// Waits while there is nothing to be a member for; whether there ever will be.
    async fn is_wanted(&self) -> bool {
        loop {
            {
                let mut core = self.shared.lock();
                match core.intent {
                    Intent::Run => return true,
                    Intent::Ended => return false,
                    Intent::Leave(Exit::Close { .. } | Exit::Park) if core.epoch == 0 => {
                        core.left(self.next_id());
                        continue;
                    }
                    Intent::Leave(_) => return true,
                    Intent::Parked => {}
                }
            }
            self.shared.changed.notified().await;
        }
    }

    fn next_id(&self) -> String {
        random_id(self.shared.terms.cluster.random())
    }

    /// One coordinator and one stream, and what follows from their end.
    async fn run_once(&mut self) {
        let cluster = Arc::clone(&self.shared.terms.cluster);
        let timeout = cluster.options.request_timeout;
        let mut attempts = Attempts::new("find the coordinator", timeout);
        let node = match cluster.coordinator(&self.group, &mut attempts).await {
            Ok(node) => node,
            Err(error) => return self.cannot_find(error),
        };
        let stop = self.run_stream(&node).await;
        let (answered, over) = {
            let mut core = self.shared.lock();
            let answered = core.is_answered();
            let over = match &stop {
                Stop::Failed(failure) => failure.code().is_some_and(|code| core.is_over(code)),
                _ => false,
            };
            core.link_ended();
            (answered, over)
        };
        if answered {
            self.backoff.reset();
            self.redirects = 0;
        }
        match stop {
            Stop::Ended => {}
            Stop::Left => self.shared.lock().left(self.next_id()),
            Stop::Failed(failure) if over => self.rejoin(&failure).await,
            Stop::Failed(failure) => self.recover(&node, failure).await,
        }
    }

    fn cannot_find(&self, error: ClientError) {
        let mut core = self.shared.lock();
        match error.kind() {
            ErrorKind::Retry | ErrorKind::UnknownOutcome => {
                core.events.push(GroupEvent::Disconnected(error));
            }
            _ => core.fail(of_group(&self.group, error)),
        }
    }

    /// It is a member no more: everything is dropped, and it joins under a new id.
    async fn rejoin(&mut self, failure: &Failure) {
        let mut wait = self.backoff.next(self.shared.terms.cluster.random()).max(failure.wait());
        {
            let mut core = self.shared.lock();
            let taken = core.options.instance_id.is_some()
                && core.lease.is_sure(Instant::now())
                && core.intent == Intent::Run;
            if taken {
                // Another life of the instance has begun. It is not robbed at once: two that live
                // would take the partitions from each other for ever.
                wait = wait.max(core.options.session);
            }
            core.lost(self.next_id());
        }
        self.pause(wait).await;
    }

    /// Gets ready for another stream, or ends it all.
    async fn recover(&mut self, node: &Node, failure: Failure) {
        let cluster = Arc::clone(&self.shared.terms.cluster);
        tracing::debug!(group = %self.group, ?failure, "member stream ended");
        let moved = cluster.coordinator_failed(&self.group, node, &failure);
        if moved && self.redirects < limits::REDIRECTS_AT_ONCE {
            self.redirects += 1;
            return;
        }
        let wait = self.backoff.next(cluster.random()).max(failure.wait());
        {
            let mut core = self.shared.lock();
            let stale = failure.code() == Some(ErrorCode::StaleMemberEpoch);
            if !failure.is_transient() && !stale {
                core.fail(of_group(&self.group, failure.into_error()));
                return;
            }
            let is_joining = core.epoch == 0 && matches!(failure, Failure::Refused(_));
            if !is_joining || self.backoff.attempts() > limits::JOINS_NOT_TOLD {
                core.events.push(GroupEvent::Disconnected(failure.into_error()));
            }
        }
        self.pause(wait).await;
    }

    /// Waits, unless the consumer is to end.
    async fn pause(&self, wait: std::time::Duration) {
        let until = Instant::now() + wait;
        while self.shared.lock().intent == Intent::Run {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.shared.changed.notified() => {}
            }
        }
    }

    /// One stream, from its opening to its end.
    async fn run_stream(&self, node: &Node) -> Stop {
        let (requests, receiver) = mpsc::channel(limits::MEMBER_QUEUE);
        let join = self.shared.lock().join(Instant::now());
        if requests.try_send(join).is_err() {
            return Stop::Ended;
        }
        let options = &self.shared.terms.cluster.options;
        let timeout = options.request_timeout / limits::ATTEMPTS_PER_CALL;
        let mut client = node.group();
        let opening = client.member(ReceiverStream::new(receiver));
        match tokio::time::timeout(timeout, opening).await {
            Ok(Ok(response)) => self.talk(node, response.into_inner(), requests).await,
            Ok(Err(status)) => Stop::Failed(Failure::from_status(&status, node.address())),
            Err(_elapsed) => Stop::Failed(Failure::Lost(node.no_answer())),
        }
    }

    async fn talk(
        &self,
        node: &Node,
        mut answers: Streaming<v1::MemberResponse>,
        requests: mpsc::Sender<v1::MemberRequest>,
    ) -> Stop {
        loop {
            let (out, deadline) = {
                let now = Instant::now();
                let mut core = self.shared.lock();
                if core.intent == Intent::Ended {
                    return Stop::Ended;
                }
                if core.is_silent(now) {
                    return Stop::Failed(Failure::Lost(node.no_answer()));
                }
                let out = core.drive(now);
                (out, core.deadline(now))
            };
            for request in out {
                // A coordinator that does not take what little there is does not live.
                if requests.try_send(request).is_err() {
                    return Stop::Failed(Failure::Lost(node.stream_ended()));
                }
            }
            let answer = tokio::select! {
                answer = answers.message() => answer,
                () = tokio::time::sleep_until(deadline) => continue,
                () = self.shared.changed.notified() => continue,
            };
            match answer {
                Ok(Some(answer)) => {
                    if let Some(stop) = self.receive(answer) {
                        return stop;
                    }
                }
                Ok(None) => return Stop::Failed(Failure::Lost(node.stream_ended())),
                Err(status) => return Stop::Failed(Failure::from_status(&status, node.address())),
            }
        }
    }

    fn receive(&self, answer: v1::MemberResponse) -> Option<Stop> {
        let mut core = self.shared.lock();
        let received = core.receive(Instant::now(), answer);
        let joined = core.epoch != 0;
        drop(core);
        if joined {
            self.shared.joined.notify_waiters();
        }
        match received {
            Ok(start) => {
                self.shared.start(start);
                None
            }
            Err(LinkEnd::Left) => Some(Stop::Left),
            Err(LinkEnd::Refused(error)) => Some(Stop::Failed(Failure::Refused(error))),
        }
    }
}
