//! The service of consumer groups.

mod member;
pub(crate) mod translate;

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use duramen_broker::{Broker, BrokerError};
use duramen_env::Env;
use duramen_group::MemberEpoch;
use duramen_proto::v1;
use duramen_proto::v1::group_service_server::GroupService;
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use self::translate::{group_name, member_id, partition_from_wire};
use crate::error::{node, status};
use crate::service::caller;

/// The groups of one node.
pub(crate) struct GroupApi {
    env: Env,
    broker: Arc<Broker>,
}

impl GroupApi {
    pub(crate) const fn new(env: Env, broker: Arc<Broker>) -> Self {
        Self { env, broker }
    }

    async fn coordinator(
        &self,
        request: v1::FindCoordinatorRequest,
    ) -> Result<v1::FindCoordinatorResponse, BrokerError> {
        let group = group_name(&request.group)?;
        let found = self.broker.find_coordinator(&caller(), &group).await?;
        let coordinator = Some(node(&found.node));
        Ok(v1::FindCoordinatorResponse { coordinator, shard: found.shard.get() })
    }

    async fn commit(
        &self,
        request: v1::CommitOffsetsRequest,
    ) -> Result<v1::CommitOffsetsResponse, BrokerError> {
        let group = group_name(&request.group)?;
        let offsets = translate::commits(&self.broker, request.offsets)?;
        let fence = request.fence.map(MemberEpoch::new);
        let refused = self.broker.commit_offsets(&caller(), &group, offsets, fence).await?;
        Ok(v1::CommitOffsetsResponse { refused: translate::refused(&self.broker, &refused) })
    }

    async fn describe(
        &self,
        request: v1::DescribeGroupRequest,
    ) -> Result<v1::DescribeGroupResponse, BrokerError> {
        let group = group_name(&request.group)?;
        let (described, own) = self.broker.describe_group(&caller(), &group).await?;
        Ok(translate::description(&described, own.as_ref().map(node)))
    }

    async fn reset(
        &self,
        request: v1::ResetOffsetsRequest,
    ) -> Result<v1::ResetOffsetsResponse, BrokerError> {
        let group = group_name(&request.group)?;
        let offsets = translate::commits(&self.broker, request.offsets)?;
        let fence = request.fence.map(MemberEpoch::new);
        let fence = self.broker.reset_offsets(&caller(), &group, offsets, fence).await?;
        Ok(v1::ResetOffsetsResponse { fence: fence.get() })
    }

    async fn delete_some(
        &self,
        request: v1::DeleteOffsetsRequest,
    ) -> Result<v1::DeleteOffsetsResponse, BrokerError> {
        let group = group_name(&request.group)?;
        let partitions = request.partitions.iter();
        let partitions = partitions.map(|partition| partition_from_wire(&self.broker, partition));
        let partitions = partitions.collect::<Result<_, _>>()?;
        let refused = self.broker.delete_offsets(&caller(), &group, partitions).await?;
        Ok(v1::DeleteOffsetsResponse { refused: translate::refused(&self.broker, &refused) })
    }

    async fn delete(
        &self,
        request: v1::DeleteGroupRequest,
    ) -> Result<v1::DeleteGroupResponse, BrokerError> {
        self.broker.delete_group(&caller(), &group_name(&request.group)?).await?;
        Ok(v1::DeleteGroupResponse {})
    }

    async fn remove(
        &self,
        request: v1::RemoveMemberRequest,
    ) -> Result<v1::RemoveMemberResponse, BrokerError> {
        let (group, member) = (group_name(&request.group)?, member_id(&request.member_id)?);
        self.broker.remove_member(&caller(), &group, member).await?;
        Ok(v1::RemoveMemberResponse {})
    }
}

fn answered<T>(answer: Result<T, BrokerError>) -> Result<Response<T>, Status> {
    answer.map(Response::new).map_err(|error| status(&error))
}

#[async_trait]
impl GroupService for GroupApi {
    type MemberStream = Pin<Box<dyn Stream<Item = Result<v1::MemberResponse, Status>> + Send>>;

    async fn find_coordinator(
        &self,
        request: Request<v1::FindCoordinatorRequest>,
    ) -> Result<Response<v1::FindCoordinatorResponse>, Status> {
        answered(self.coordinator(request.into_inner()).await)
    }

    async fn member(
        &self,
        request: Request<Streaming<v1::MemberRequest>>,
    ) -> Result<Response<Self::MemberStream>, Status> {
        let answers = member::stream(&self.env, Arc::clone(&self.broker), request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Result<Response<v1::CommitOffsetsResponse>, Status> {
        answered(self.commit(request.into_inner()).await)
    }

    async fn list_groups(
        &self,
        _request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        answered(self.broker.list_groups(&caller()).map(translate::list))
    }

    async fn describe_group(
        &self,
        request: Request<v1::DescribeGroupRequest>,
    ) -> Result<Response<v1::DescribeGroupResponse>, Status> {
        answered(self.describe(request.into_inner()).await)
    }

    async fn reset_offsets(
        &self,
        request: Request<v1::ResetOffsetsRequest>,
    ) -> Result<Response<v1::ResetOffsetsResponse>, Status> {
        answered(self.reset(request.into_inner()).await)
    }

    async fn delete_offsets(
        &self,
        request: Request<v1::DeleteOffsetsRequest>,
    ) -> Result<Response<v1::DeleteOffsetsResponse>, Status> {
        answered(self.delete_some(request.into_inner()).await)
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        answered(self.delete(request.into_inner()).await)
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        answered(self.remove(request.into_inner()).await)
    }
}
