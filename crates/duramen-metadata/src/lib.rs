//! The metadata of a cluster: nodes, topics, partitions, placement and configuration.
//!
//! A pure state machine. Planning (the `plan_*` functions) checks a request against the state and
//! draws a [`Command`]; Raft orders commands; [`State::apply`] executes them, the same on every
//! node. Nothing here does I/O, reads a clock or draws a random number: times and random numbers
//! are arguments of planning and travel in the command.
//!
//! ```text
//!  request ──plan──▶ Command ──Raft──▶ State::apply ──▶ Outcome (done, or refused)
//! ```
//!
//! Planning and applying may see different states, so apply checks again whatever another command
//! can have changed in between. It does not judge settings: which keys and values are known may
//! differ between versions of Duramen, and apply must not.

mod command;
mod config;
mod error;
mod format;
mod limits;
mod outcome;
mod placement;
mod plan;
mod replace;
mod state;
mod topic;

pub use command::{
    AdvanceReplacement, Command, FormedMark, NewTopic, ReplaceReplica, ReplacementStep, TopicChange,
};
pub use config::{ConfigKey, Settings, TopicConfig};
pub use error::{ConfigError, DecodeError, ErrorKind, PlanError};
pub use limits::{
    DELETED_TOPICS_MAX, GROUP_SHARDS, GROUPS_TOPIC, NAME_BYTES_MAX, PARTITIONS_MAX,
    REMOVED_REPLICAS_MAX, REPLICATION_FACTOR_DEFAULT, RESERVED_PREFIX, RETIRED_INCARNATIONS_MAX,
};
pub use outcome::{Outcome, Refusal};
pub use placement::{Candidate, place};
pub use plan::{
    TopicRequest, plan_alter_topic, plan_create_groups_topic, plan_create_topic, plan_delete_topic,
    plan_register_node,
};
pub use replace::{ReplaceError, plan_cancel_move, plan_move_replica, plan_repair};
pub use state::State;
pub use topic::{Node, Partition, Replacement, Replica, Topic};
