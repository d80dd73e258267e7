//! The client: one per process and cluster, cheap to clone.

use std::sync::Arc;

use duramen_env::Env;
use duramen_types::ClusterId;

use crate::admin::Admin;
use crate::admin::groups::{GroupAdmin, GroupSubscription};
use crate::cluster::Cluster;
use crate::group::{GroupConsumer, GroupOptions};
use crate::replay::{ReplayJob, ReplayOptions};
use crate::{ClientError, ClientOptions, Consumer, ConsumerOptions, Producer, ProducerOptions};

/// A client of one cluster. Clones share connections and what is known of the cluster.
///
/// ```no_run
/// # async fn example() -> Result<(), duramen_client::ClientError> {
/// use duramen_client::{Client, ClientOptions};
///
/// let client = Client::connect(ClientOptions::new(["a:7650", "b:7650"])).await?;
/// println!("cluster {}", client.cluster_id());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    cluster: Arc<Cluster>,
    cluster_id: ClusterId,
}

impl Client {
    /// Connects through some seed that answers.
    ///
    /// # Errors
    /// [`ClientError::InvalidOption`]; [`ClientError::Timeout`] if no seed answers in time.
    pub async fn connect(options: ClientOptions) -> Result<Self, ClientError> {
        Self::with_env(Env::real(), options).await
    }

    /// As [`connect`](Self::connect), with another clock, randomness and network.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn with_env(env: Env, options: ClientOptions) -> Result<Self, ClientError> {
        options.validate()?;
        let cluster = Arc::new(Cluster::new(env, options));
        let answer = cluster.describe_cluster().await?;
        Ok(Self { cluster_id: Cluster::cluster_id(&answer), cluster })
    }

    /// The cluster's id, given when it was formed.
    #[must_use]
    pub const fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// Topics and the cluster itself.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.cluster))
    }

    /// A producer for one topic.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`], [`ClientError::InvalidOption`], or no answer in time.
    pub async fn producer(
        &self,
        topic: &str,
        options: ProducerOptions,
    ) -> Result<Producer, ClientError> {
        Producer::new(Arc::clone(&self.cluster), topic, options).await
    }

    /// A consumer of partitions of one topic.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`], [`ClientError::UnknownPartition`],
    /// [`ClientError::InvalidOption`], or no answer in time.
    pub async fn consumer(
        &self,
        topic: &str,
        options: ConsumerOptions,
    ) -> Result<Consumer, ClientError> {
        Consumer::new(Arc::clone(&self.cluster), topic, options).await
    }

    /// Consumer groups, as an operator sees them.
    #[must_use]
    pub fn groups(&self) -> GroupAdmin {
        GroupAdmin::new(Arc::clone(&self.cluster))
    }

    /// A member of a consumer group, which is made if there is none.
    ///
    /// # Errors
    /// [`ClientError::InvalidOption`], what the coordinator says
    /// ([`ClientError::Refused`] with `INVALID_REQUEST`, `GROUP_LIMIT`, `DENIED`), or no answer in
    /// time.
    pub async fn group_consumer(
        &self,
        group: &str,
        subscription: GroupSubscription,
        options: GroupOptions,
    ) -> Result<GroupConsumer, ClientError> {
        GroupConsumer::new(Arc::clone(&self.cluster), group, subscription, options).await
    }

    /// A replay of a part of a topic under the name `GROUP.replay.ID`; one that was begun before
    /// goes on where it was.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`], [`ClientError::InvalidOption`], [`ClientError::Refused`], or
    /// no answer in time.
    pub async fn replay(
        &self,
        group: &str,
        id: &str,
        topic: &str,
        options: ReplayOptions,
    ) -> Result<ReplayJob, ClientError> {
        ReplayJob::new(Arc::clone(&self.cluster), (group, id, topic), options).await
    }
}
