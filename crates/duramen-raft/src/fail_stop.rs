//! How a part that cannot go on stops the node: a failed sync, a lost disk.

use std::sync::Arc;

use tokio::sync::watch;

/// A switch that is thrown once, with a reason. Clones share it.
#[derive(Clone, Debug)]
pub struct FailStop {
    reason: Arc<watch::Sender<Option<String>>>,
}

impl FailStop {
    /// A switch that is not thrown.
    #[must_use]
    pub fn new() -> Self {
        Self { reason: Arc::new(watch::Sender::new(None)) }
    }

    /// Throws the switch; the first reason stays.
    pub fn fail(&self, reason: String) {
        self.reason.send_if_modified(|current| {
            if current.is_some() {
                return false;
            }
            tracing::error!(reason, "this node stops");
            *current = Some(reason);
            true
        });
    }

    /// The reason, if thrown.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    /// Waits until it is thrown.
    pub async fn failed(&self) -> String {
        let mut reason = self.reason.subscribe();
        let thrown = reason.wait_for(Option::is_some).await;
        thrown.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }
}

impl Default for FailStop {
    fn default() -> Self {
        Self::new()
    }
}
