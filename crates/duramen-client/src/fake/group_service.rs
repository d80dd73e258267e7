//! The group service of a fake node.

use duramen_proto::v1::group_service_server::GroupService;
use duramen_proto::v1::{self, ErrorCode};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::State;
use super::groups::{FakeGroup, serve};
use super::service::{FakeNode, Reply, refusal};

impl FakeNode {
    /// Does a call's work if this is the group's coordinator and there is such a group.
    fn on_group<T>(
        &self,
        name: &str,
        make: bool,
        work: impl FnOnce(&mut FakeGroup) -> Result<T, ErrorCode>,
    ) -> Reply<T> {
        {
            let mut state = self.shared.lock();
            let coordinator = state.groups.get(name).map_or(1, |group| group.coordinator);
            if coordinator != self.id {
                return Err(refusal(&state.not_coordinator(coordinator)));
            }
            if make {
                state.group(name);
            }
        }
        let reply =
            self.admin(|state| work(state.groups.get_mut(name).ok_or(ErrorCode::UnknownGroup)?));
        self.shared.changed.notify_waiters();
        reply
    }
}

fn check_fence(group: &FakeGroup, fence: Option<u64>) -> Result<(), ErrorCode> {
    match fence {
        Some(fence) if fence != group.fence => Err(ErrorCode::GroupChanged),
        _ => Ok(()),
    }
}

fn describe(state: &mut State, name: &str) -> Option<v1::DescribeGroupResponse> {
    let topic = state.topics.get("t")?;
    let (id, bounds): (Vec<u8>, Vec<(u64, u64)>) = (
        topic.id.to_vec(),
        topic.partitions.iter().map(|partition| (partition.log_start, partition.next)).collect(),
    );
    let group = state.groups.get(name)?;
    let partitions = group.committed.iter().map(|(partition, committed)| {
        let (log_start, next) = bounds.get(*partition as usize).copied().unwrap_or_default();
        v1::GroupPartition {
            partition: Some(v1::TopicPartition {
                topic_id: id.clone().into(),
                topic: "t".into(),
                partition: *partition,
            }),
            committed: Some(committed.clone()),
            log_start_offset: Some(log_start),
            high_watermark: Some(next),
            lag_records: Some(next.saturating_sub(committed.offset)),
            ..v1::GroupPartition::default()
        }
    });
    let partitions: Vec<_> = partitions.collect();
    let members = group.members.keys().map(|id| v1::GroupMember {
        member_id: id.clone(),
        session_ms: 10_000,
        ..v1::GroupMember::default()
    });
    Some(v1::DescribeGroupResponse {
        group: name.to_owned(),
        phase: v1::GroupPhase::Stable.into(),
        fence: group.fence,
        coordinator: Some(state.node(group.coordinator)),
        lag_records: partitions.iter().filter_map(|partition| partition.lag_records).sum(),
        members: members.collect(),
        partitions,
        ..v1::DescribeGroupResponse::default()
    })
}

#[tonic::async_trait]
impl GroupService for FakeNode {
    type MemberStream = ReceiverStream<Result<v1::MemberResponse, Status>>;

    async fn find_coordinator(
        &self,
        request: Request<v1::FindCoordinatorRequest>,
    ) -> Reply<v1::FindCoordinatorResponse> {
        let name = request.into_inner().group;
        self.admin(|state| {
            state.coordinator_questions += 1;
            let coordinator = state.group(&name).coordinator;
            Ok(v1::FindCoordinatorResponse { coordinator: Some(state.node(coordinator)), shard: 3 })
        })
    }

    async fn member(
        &self,
        request: Request<Streaming<v1::MemberRequest>>,
    ) -> Reply<Self::MemberStream> {
        let (answers, receiver) = mpsc::channel(256);
        let serving = serve(self.clone(), request.into_inner(), answers);
        self.env.tasks.connection("fake-member", serving);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Reply<v1::CommitOffsetsResponse> {
        let request = request.into_inner();
        self.on_group(&request.group, request.fence.is_none(), |group| {
            if !group.members.is_empty() {
                return Err(ErrorCode::GroupInUse);
            }
            check_fence(group, request.fence)?;
            let mut refused = Vec::new();
            for offset in request.offsets {
                let partition = offset.partition.unwrap();
                let at = partition.partition;
                if group.committed_offset(at).is_some_and(|before| before > offset.offset) {
                    let code = ErrorCode::OffsetBehind.into();
                    let error = Some(v1::Error { code, ..v1::Error::default() });
                    refused.push(v1::PartitionError { partition: Some(partition), error });
                    continue;
                }
                let committed = v1::CommittedOffset {
                    offset: offset.offset,
                    leader_epoch: offset.leader_epoch,
                    metadata: offset.metadata,
                    committed_at: 1,
                };
                group.committed.insert(at, committed);
            }
            Ok(v1::CommitOffsetsResponse { refused })
        })
    }

    async fn list_groups(
        &self,
        _request: Request<v1::ListGroupsRequest>,
    ) -> Reply<v1::ListGroupsResponse> {
        self.admin(|state| {
            let groups = state.groups.iter().filter(|(_, group)| group.coordinator == self.id);
            let groups = groups.map(|(name, group)| v1::ListedGroup {
                group: name.clone(),
                phase: v1::GroupPhase::Stable.into(),
                members: u32::try_from(group.members.len()).unwrap(),
                offsets: u32::try_from(group.committed.len()).unwrap(),
            });
            let groups = groups.collect();
            let shards = vec![u32::try_from(self.id).unwrap() - 1];
            Ok(v1::ListGroupsResponse { groups, shards, shard_count: state.shard_count })
        })
    }

    async fn describe_group(
        &self,
        request: Request<v1::DescribeGroupRequest>,
    ) -> Reply<v1::DescribeGroupResponse> {
        let name = request.into_inner().group;
        let mut state = self.shared.lock();
        let coordinator = state.groups.get(&name).map_or(1, |group| group.coordinator);
        if coordinator != self.id {
            return Err(refusal(&state.not_coordinator(coordinator)));
        }
        let unknown = || {
            let code = ErrorCode::UnknownGroup.into();
            refusal(&v1::Error { code, ..v1::Error::default() })
        };
        describe(&mut state, &name).map(Response::new).ok_or_else(unknown)
    }

    async fn reset_offsets(
        &self,
        request: Request<v1::ResetOffsetsRequest>,
    ) -> Reply<v1::ResetOffsetsResponse> {
        let request = request.into_inner();
        self.on_group(&request.group, request.fence.is_none(), |group| {
            check_fence(group, request.fence)?;
            group.fence += 1;
            for offset in request.offsets {
                group.commit(offset.partition.unwrap().partition, offset.offset);
            }
            Ok(v1::ResetOffsetsResponse { fence: group.fence })
        })
    }

    async fn delete_offsets(
        &self,
        request: Request<v1::DeleteOffsetsRequest>,
    ) -> Reply<v1::DeleteOffsetsResponse> {
        let request = request.into_inner();
        self.on_group(&request.group, false, |group| {
            let mut refused = Vec::new();
            for partition in request.partitions {
                let at = partition.partition;
                if group.members.values().any(|member| member.granted.contains_key(&at)) {
                    let code = ErrorCode::GroupInUse.into();
                    let error = Some(v1::Error { code, ..v1::Error::default() });
                    refused.push(v1::PartitionError { partition: Some(partition), error });
                } else {
                    group.committed.remove(&at);
                }
            }
            Ok(v1::DeleteOffsetsResponse { refused })
        })
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Reply<v1::DeleteGroupResponse> {
        let name = request.into_inner().group;
        self.admin(|state| {
            let group = state.groups.get(&name).ok_or(ErrorCode::UnknownGroup)?;
            if !group.members.is_empty() {
                return Err(ErrorCode::GroupInUse);
            }
            state.groups.remove(&name);
            Ok(v1::DeleteGroupResponse {})
        })
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Reply<v1::RemoveMemberResponse> {
        let request = request.into_inner();
        self.on_group(&request.group, false, |group| {
            let removed = group.members.remove(&request.member_id);
            removed.map(|_| v1::RemoveMemberResponse {}).ok_or(ErrorCode::UnknownMember)
        })
    }
}
