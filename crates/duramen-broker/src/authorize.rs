//! The one place where every call is authorized.
//!
//! Every use case names its operation and resource here before it does anything, so that a policy
//! needs no hunt through the listeners. Without a policy everything is allowed.

use std::fmt;

use crate::error::BrokerError;

/// Who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The authenticated name; empty for an anonymous caller.
    pub name: String,
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Append records.
    Produce,
    /// Read records and offsets.
    Fetch,
    /// See a topic or a group.
    Describe,
    /// Create a topic.
    Create,
    /// Change a topic, or the offsets and members of a group.
    Alter,
    /// Delete a topic or a group, or offsets of one.
    Delete,
    /// Move the topic's replicas between nodes.
    Move,
    /// See the cluster.
    DescribeCluster,
    /// Decide which replica leads.
    Lead,
    /// Be a member of a group.
    Join,
    /// Commit offsets of a group.
    Commit,
}

impl Operation {
    /// The operation in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Produce => "produce to the topic",
            Self::Fetch => "read the topic",
            Self::Describe => "describe it",
            Self::Create => "create it",
            Self::Alter => "alter it",
            Self::Delete => "delete it",
            Self::Move => "move replicas of the topic",
            Self::DescribeCluster => "describe the cluster",
            Self::Lead => "hand leadership on",
            Self::Join => "join the group",
            Self::Commit => "commit offsets of the group",
        }
    }
}

/// On what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The topic of this name.
    Topic(&'a str),
    /// The consumer group of this name.
    Group(&'a str),
    /// The cluster as a whole.
    Cluster,
}

/// A policy: says whether a call may go on.
pub trait Authorizer: Send + Sync + fmt::Debug + 'static {
    /// Whether the caller may do this. Called for every request: it must not block.
    fn allows(&self, caller: &Caller, operation: Operation, resource: Resource<'_>) -> bool;
}

/// Allows everything: security is not there yet, and the server refuses to listen beyond the
/// loopback addresses unless told that this is meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn allows(&self, _caller: &Caller, _operation: Operation, _resource: Resource<'_>) -> bool {
        true
    }
}

pub(crate) fn check(
    authorizer: &dyn Authorizer,
    caller: &Caller,
    operation: Operation,
    resource: Resource<'_>,
) -> Result<(), BrokerError> {
    if authorizer.allows(caller, operation, resource) {
        return Ok(());
    }
    let who = if caller.name.is_empty() { "an anonymous caller" } else { &caller.name };
    Err(BrokerError::Denied { who: who.to_owned(), what: operation.words() })
}
