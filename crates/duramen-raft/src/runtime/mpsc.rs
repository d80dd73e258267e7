//! Tokio's channels for openraft, with each message in a box.
//!
//! Tokio makes room for 32 messages with every channel. Openraft has several channels for each group,
//! and messages of some hundred bytes: on a node with thousands of groups that do nothing, room for
//! messages that never come was an eighth of its memory.

use std::future::Future;

use futures::TryFutureExt as _;
use openraft::OptionalSend;
use openraft::async_runtime::{
    Mpsc, MpscReceiver, MpscSender, MpscWeakSender, SendError, TryRecvError,
};
use tokio::sync::mpsc;

/// Bounded channels of boxes.
pub(crate) struct BoxedMpsc;

pub(crate) struct Sender<T>(mpsc::Sender<Box<T>>);
pub(crate) struct Receiver<T>(mpsc::Receiver<Box<T>>);
pub(crate) struct WeakSender<T>(mpsc::WeakSender<Box<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Mpsc for BoxedMpsc {
    type Sender<T: OptionalSend> = Sender<T>;
    type Receiver<T: OptionalSend> = Receiver<T>;
    type WeakSender<T: OptionalSend> = WeakSender<T>;

    fn channel<T: OptionalSend>(buffer: usize) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = mpsc::channel(buffer);
        (Sender(sender), Receiver(receiver))
    }
}

impl<T: OptionalSend> MpscSender<BoxedMpsc, T> for Sender<T> {
    fn send(&self, message: T) -> impl Future<Output = Result<(), SendError<T>>> + OptionalSend {
        self.0.send(Box::new(message)).map_err(|error| SendError(*error.0))
    }

    fn downgrade(&self) -> WeakSender<T> {
        WeakSender(self.0.downgrade())
    }
}

impl<T: OptionalSend> MpscReceiver<T> for Receiver<T> {
    async fn recv(&mut self) -> Option<T> {
        self.0.recv().await.map(|message| *message)
    }

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.0.try_recv().map(|message| *message).map_err(|error| match error {
            mpsc::error::TryRecvError::Empty => TryRecvError::Empty,
            mpsc::error::TryRecvError::Disconnected => TryRecvError::Disconnected,
        })
    }
}

impl<T: OptionalSend> MpscWeakSender<BoxedMpsc, T> for WeakSender<T> {
    fn upgrade(&self) -> Option<Sender<T>> {
        self.0.upgrade().map(Sender)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn messages_come_in_order_and_no_more_than_there_is_room_for() {
        let (sender, mut receiver) = BoxedMpsc::channel(2);
        for message in [1, 2] {
            assert_eq!(sender.send(message).now_or_never(), Some(Ok(())));
        }
        assert_eq!(sender.send(3).now_or_never(), None);
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(receiver.recv().await, Some(2));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    }

    #[tokio::test]
    async fn a_weak_sender_does_not_keep_a_channel_open() {
        let (sender, mut receiver) = BoxedMpsc::channel(1);
        let weak = sender.downgrade();
        let again = weak.clone().upgrade().unwrap();
        drop(sender);
        assert_eq!(again.send(7).await, Ok(()));
        drop(again);
        assert!(weak.upgrade().is_none());
        assert_eq!(receiver.recv().await, Some(7));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        let (sender, receiver) = BoxedMpsc::channel(1);
        drop(receiver);
        assert_eq!(sender.send(8).await, Err(SendError(8)));
    }
}
