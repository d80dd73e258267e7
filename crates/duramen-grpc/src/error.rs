//! The one map from the broker's errors to the wire's.

use bytes::Bytes;
use duramen_broker::BrokerError;
use duramen_group::Refusal as GroupRefusal;
use duramen_metadata::{Node, PlanError, Refusal, ReplaceError};
use duramen_proto::v1;
use duramen_proto::v1::ErrorCode;
use duramen_record::BatchError;
use prost::Message as _;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// A node as clients see it.
pub(crate) fn node(node: &Node) -> v1::Node {
    v1::Node {
        id: node.id.get(),
        address: node.client_address.clone(),
        http_address: node.http_address.clone(),
        rack: node.rack.clone(),
    }
}

/// The error as it travels in streams and in the trailer of a refused call.
pub(crate) fn to_wire(error: &BrokerError) -> v1::Error {
    let mut wire = v1::Error {
        code: code(error).into(),
        message: describe(error),
        retry_after_ms: u32::try_from(error.retry_after().as_millis()).unwrap_or(u32::MAX),
        ..v1::Error::default()
    };
    match error {
        BrokerError::NotLeader { leader, leader_epoch } => {
            wire.leader = leader.as_deref().map(node);
            wire.leader_epoch = leader_epoch.get();
        }
        BrokerError::OffsetOutOfRange { log_start_offset, high_watermark, .. } => {
            wire.log_start_offset = Some(log_start_offset.get());
            wire.high_watermark = Some(high_watermark.get());
        }
        BrokerError::TopicReplaced { current, .. }
        | BrokerError::Plan(PlanError::TopicReplaced { current, .. })
        | BrokerError::Refused(Refusal::TopicReplaced { current }) => {
            wire.current_topic_id = Bytes::copy_from_slice(current.as_bytes());
        }
        _ => {}
    }
    wire
}

/// An error with its causes, on one line.
fn describe(error: &BrokerError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        let next = source.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = source.source();
    }
    text
}

fn code(error: &BrokerError) -> ErrorCode {
    match error {
        BrokerError::Starting { .. }
        | BrokerError::NoLeader
        | BrokerError::StreamReplaced
        | BrokerError::MetadataUnavailable { .. } => ErrorCode::Unavailable,
        BrokerError::ShuttingDown => ErrorCode::ShuttingDown,
        BrokerError::InvalidRequest { .. } => ErrorCode::InvalidRequest,
        BrokerError::UnknownTopic { .. } => ErrorCode::UnknownTopic,
        BrokerError::TopicReplaced { .. } => ErrorCode::UnknownTopicId,
        BrokerError::UnknownPartition { .. } => ErrorCode::UnknownPartition,
        BrokerError::NotLeader { .. } => ErrorCode::NotLeader,
        BrokerError::UnknownOutcome => ErrorCode::UnknownOutcome,
        BrokerError::Deadline(_) => ErrorCode::Deadline,
        BrokerError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        BrokerError::Batch(BatchError::UnsupportedCompression { .. }) => {
            ErrorCode::UnsupportedCompression
        }
        BrokerError::Batch(_) => ErrorCode::CorruptBatch,
        BrokerError::TooLarge { .. } | BrokerError::TooManyHeaders { .. } => {
            ErrorCode::RecordTooLarge
        }
        BrokerError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequence,
        BrokerError::ProducerFenced { .. } => ErrorCode::ProducerFenced,
        BrokerError::UnknownProducer => ErrorCode::UnknownProducer,
        BrokerError::Overloaded => ErrorCode::Overloaded,
        BrokerError::DiskFull => ErrorCode::DiskFull,
        BrokerError::CorruptReplica { .. } => ErrorCode::CorruptReplica,
        BrokerError::Storage { .. } => ErrorCode::Storage,
        BrokerError::Plan(plan) => plan_code(plan),
        BrokerError::Replace(replace) => replace_code(replace),
        BrokerError::Refused(refusal) => refusal_code(refusal),
        BrokerError::Group(refusal) => group_code(*refusal),
        BrokerError::Denied { .. } => ErrorCode::Denied,
    }
}

const fn group_code(refusal: GroupRefusal) -> ErrorCode {
    match refusal {
        GroupRefusal::UnknownGroup => ErrorCode::UnknownGroup,
        GroupRefusal::UnknownMember | GroupRefusal::OtherInstance => ErrorCode::UnknownMember,
        GroupRefusal::WrongEpoch { .. } => ErrorCode::StaleMemberEpoch,
        GroupRefusal::NotHeld => ErrorCode::PartitionNotHeld,
        GroupRefusal::Behind { .. } => ErrorCode::OffsetBehind,
        GroupRefusal::GroupChanged { .. } => ErrorCode::GroupChanged,
        GroupRefusal::HasMembers | GroupRefusal::PartitionInUse => ErrorCode::GroupInUse,
        GroupRefusal::TooMany { .. } => ErrorCode::GroupLimit,
        GroupRefusal::TooLong { .. } | GroupRefusal::BadTime => ErrorCode::InvalidRequest,
        // Between coordinator and shard only; for a client it is a reason to try again.
        GroupRefusal::StaleMetadata { .. }
        | GroupRefusal::StaleTarget { .. }
        | GroupRefusal::NotIdle
        | GroupRefusal::BadTarget
        | GroupRefusal::BadResolution => ErrorCode::Unavailable,
    }
}

/// Why one partition of a group's request was refused.
pub(crate) fn group_refusal(refusal: GroupRefusal) -> v1::Error {
    to_wire(&BrokerError::Group(refusal))
}

const fn plan_code(error: &PlanError) -> ErrorCode {
    match error {
        PlanError::NotFormed => ErrorCode::Unavailable,
        PlanError::InvalidName { .. } | PlanError::ReservedName { .. } => {
            ErrorCode::InvalidTopicName
        }
        PlanError::TopicExists { .. } => ErrorCode::TopicExists,
        PlanError::UnknownTopic { .. } => ErrorCode::UnknownTopic,
        PlanError::TopicReplaced { .. } => ErrorCode::UnknownTopicId,
        PlanError::TooManyPartitions { .. } => ErrorCode::InvalidRequest,
        PlanError::NotEnoughNodes { .. } => ErrorCode::NotEnoughNodes,
        PlanError::Config(_) => ErrorCode::InvalidConfig,
    }
}

const fn replace_code(error: &ReplaceError) -> ErrorCode {
    match error {
        ReplaceError::UnknownPartition { .. } => ErrorCode::UnknownPartition,
        ReplaceError::NoReplica { .. }
        | ReplaceError::HasReplica { .. }
        | ReplaceError::UnknownNode { .. }
        | ReplaceError::UnderWay { .. }
        | ReplaceError::NoMove { .. } => ErrorCode::InvalidRequest,
    }
}

const fn refusal_code(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::TopicExists { .. } => ErrorCode::TopicExists,
        Refusal::UnknownTopic => ErrorCode::UnknownTopic,
        Refusal::TopicReplaced { .. } => ErrorCode::UnknownTopicId,
        Refusal::NotFormed | Refusal::UnknownNode { .. } | Refusal::ReplacementUnderWay { .. } => {
            ErrorCode::Unavailable
        }
        Refusal::AlreadyFormed { .. }
        | Refusal::InvalidNode
        | Refusal::IncarnationInUse { .. }
        | Refusal::IncarnationRetired
        | Refusal::TopicIdUsed
        | Refusal::BadPlacement { .. }
        | Refusal::ProducersExhausted
        | Refusal::UnknownReplica { .. }
        | Refusal::BadReplacement
        | Refusal::NoReplacement
        | Refusal::ReplacementPromoting => ErrorCode::InvalidRequest,
    }
}

/// The gRPC status of an error code.
const fn status_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::Unspecified => Code::Unknown,
        ErrorCode::InvalidRequest
        | ErrorCode::CorruptBatch
        | ErrorCode::RecordTooLarge
        | ErrorCode::InvalidTopicName
        | ErrorCode::InvalidConfig
        | ErrorCode::UnsupportedCompression => Code::InvalidArgument,
        ErrorCode::UnknownTopic | ErrorCode::UnknownPartition | ErrorCode::UnknownGroup => {
            Code::NotFound
        }
        ErrorCode::UnknownTopicId
        | ErrorCode::OutOfOrderSequence
        | ErrorCode::ProducerFenced
        | ErrorCode::UnknownProducer
        | ErrorCode::UnknownMember
        | ErrorCode::StaleMemberEpoch
        | ErrorCode::PartitionNotHeld
        | ErrorCode::OffsetBehind
        | ErrorCode::GroupChanged
        | ErrorCode::GroupInUse
        | ErrorCode::NotEnoughNodes => Code::FailedPrecondition,
        ErrorCode::NotLeader
        | ErrorCode::Unavailable
        | ErrorCode::ShuttingDown
        | ErrorCode::CorruptReplica => Code::Unavailable,
        ErrorCode::UnknownOutcome | ErrorCode::Deadline => Code::DeadlineExceeded,
        ErrorCode::OffsetOutOfRange => Code::OutOfRange,
        ErrorCode::TopicExists => Code::AlreadyExists,
        ErrorCode::Overloaded | ErrorCode::DiskFull | ErrorCode::GroupLimit => {
            Code::ResourceExhausted
        }
        ErrorCode::Storage => Code::Internal,
        ErrorCode::Denied => Code::PermissionDenied,
    }
}

/// The status of a refused unary call, with the typed error in its trailer.
pub(crate) fn status(error: &BrokerError) -> Status {
    let wire = to_wire(error);
    let mut status = Status::new(status_code(wire.code()), wire.message.clone());
    let value = MetadataValue::from_bytes(&wire.encode_to_vec());
    status.metadata_mut().insert_bin(v1::ERROR_TRAILER, value);
    status
}

#[cfg(test)]
mod tests {
    use duramen_types::{Offset, Term};

    use super::*;

    #[test]
    fn a_refused_call_carries_its_typed_error() {
        let status = status(&BrokerError::OffsetOutOfRange {
            offset: Offset::new(9),
            log_start_offset: Offset::new(2),
            high_watermark: Offset::new(5),
        });
        assert_eq!(status.code(), Code::OutOfRange);
        let value = status.metadata().get_bin(v1::ERROR_TRAILER).unwrap();
        let wire = v1::Error::decode(value.to_bytes().unwrap()).unwrap();
        assert_eq!(wire.code(), ErrorCode::OffsetOutOfRange);
        assert_eq!((wire.log_start_offset, wire.high_watermark), (Some(2), Some(5)));
    }

    #[test]
    fn every_error_code_has_a_status_of_its_own_class() {
        for raw in 1..=33 {
            let code = ErrorCode::try_from(raw).unwrap();
            assert_ne!(status_code(code), Code::Unknown, "{code:?}");
            assert_ne!(status_code(code), Code::Ok, "{code:?}");
        }
    }

    #[test]
    fn a_redirect_names_the_leader() {
        let leader = Node {
            id: duramen_types::NodeId::new(2),
            incarnation: duramen_types::ReplicaId::new(5),
            client_address: "b:7650".to_owned(),
            peer_address: "b:7652".to_owned(),
            http_address: String::new(),
            rack: String::new(),
            version: String::new(),
        };
        let error =
            BrokerError::NotLeader { leader: Some(Box::new(leader)), leader_epoch: Term::new(4) };
        let wire = to_wire(&error);
        assert_eq!(wire.leader.unwrap().address, "b:7650");
        assert_eq!(wire.leader_epoch, 4);
    }
}
