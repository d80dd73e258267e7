//! The Rust client of Duramen: [`Producer`], [`Consumer`], [`GroupConsumer`], [`Admin`] and
//! [`GroupAdmin`] over one [`Client`].
//!
//! ```no_run
//! use duramen_client::{Client, ClientOptions, ConsumerOptions, NewTopic, ProducerOptions};
//! use duramen_client::{ProducerRecord, Start};
//! use futures::StreamExt;
//!
//! # async fn example() -> Result<(), duramen_client::ClientError> {
//! let client = Client::connect(ClientOptions::new(["127.0.0.1:7650"])).await?;
//! client.admin().create_topic(NewTopic::new("orders").partitions(3)).await?;
//!
//! let producer = client.producer("orders", ProducerOptions::default()).await?;
//! let delivery = producer.send(ProducerRecord::new("a value").key("a key")).await?;
//! let metadata = delivery.await?;
//! println!("{}-{}", metadata.partition, metadata.offset);
//!
//! let options = ConsumerOptions::default().start(Start::First).until_high_watermark();
//! let mut consumer = client.consumer("orders", options).await?;
//! while let Some(record) = consumer.next().await {
//!     println!("{:?}", record?.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What the client promises:
//! - A record whose delivery is `Ok` is on the disks of a majority, once, and in the order of the
//!   `send` calls within its partition (idempotent production, the default).
//! - A delivery that failed says whether the record is certainly not stored or may be:
//!   [`ErrorKind::UnknownOutcome`].
//! - A consumer gives every record of its partitions once and in order, through leader changes and
//!   lost connections; every batch's checksum is verified.
//! - Memory is bounded: `send` waits when too much is under way, a consumer fetches only as much as
//!   its buffer takes.
//! - A topic that was deleted and created again is an error, never a mix-up.
//!
//! Everything that can wait is bounded in time by [`ClientOptions::request_timeout`] or
//! [`ProducerOptions::delivery_timeout`], except a consumer that waits for records.

mod admin;
mod client;
mod cluster;
mod consumer;
mod error;
mod failure;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod group;
mod limits;
mod metadata;
mod options;
mod producer;
mod replay;
mod retry;

#[cfg(test)]
mod fake;

pub use admin::groups::{
    Clamp, CommittedOffset, ExportedOffset, GroupAdmin, GroupDescription, GroupList, GroupMember,
    GroupOffset, GroupPartition, GroupPhase, GroupReason, GroupSubscription, ListedGroup,
    NamedPartition, RefusedPartition, ResetPlan, ResetScope, ResetStep, ResetTo, SkipReason,
};
pub use admin::{
    Admin, ClusterDescription, ConfigEntry, NewTopic, NodeDescription, PartitionDescription,
    ReplacementDescription, ReplicaMove, TopicDescription,
};
pub use client::Client;
pub use consumer::{
    Consumer, ConsumerBatch, ConsumerOptions, ConsumerRecord, ConsumerRecords, End, OutOfRange,
};
pub use duramen_proto::v1::{ErrorCode, ReplacementState};
pub use duramen_record::Compression;
pub use duramen_types::{ClusterId, NodeId, Offset, PartitionId, Term, Timestamp, TopicId};
pub use error::{ClientError, ErrorKind};
pub use group::{
    CommitMode, CommitOutcome, GroupConsumer, GroupEvent, GroupEvents, GroupOptions, GroupRecord,
    Processing, RebalanceListener, Ticket,
};
pub use options::{ClientOptions, PartitionOffsets, RecordHeader, Start};
pub use producer::{Delivery, Producer, ProducerOptions, ProducerRecord, RecordMetadata};
pub use replay::{ReplayJob, ReplayOptions};
