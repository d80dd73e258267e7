//! The control plane service: topics and the cluster.

use std::sync::Arc;

use async_trait::async_trait;
use duramen_broker::{Broker, BrokerError, MoveRequest};
use duramen_proto::v1;
use duramen_proto::v1::admin_service_server::AdminService;
use duramen_types::{MetadataIndex, NodeId, PartitionId};
use tonic::{Request, Response, Status};

use crate::error::status;
use crate::service::caller;
use crate::translate;

/// The control plane of one node.
pub(crate) struct AdminApi {
    broker: Arc<Broker>,
}

impl AdminApi {
    pub(crate) const fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }
}

fn answered<T>(answer: Result<T, BrokerError>) -> Result<Response<T>, Status> {
    answer.map(Response::new).map_err(|error| status(&error))
}

#[async_trait]
impl AdminService for AdminApi {
    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::TopicReply>, Status> {
        let request = request.into_inner();
        let only = request.validate_only;
        let topic = translate::topic_request(request);
        let created = self.broker.create_topic(&caller(), topic, only).await;
        answered(created.map(|(topic, index)| translate::topic_reply(topic, index)))
    }

    async fn alter_topic(
        &self,
        request: Request<v1::AlterTopicRequest>,
    ) -> Result<Response<v1::TopicReply>, Status> {
        let request = request.into_inner();
        let set = request.set.into_iter().collect();
        let (name, only) = (&request.name, request.validate_only);
        let altered = self.broker.alter_topic(&caller(), name, &set, &request.unset, only).await;
        answered(altered.map(|(topic, index)| translate::topic_reply(topic, index)))
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        let request = request.into_inner();
        let deleted = async {
            let id = translate::topic_id(&request.id)?;
            self.broker.delete_topic(&caller(), &request.name, id).await
        };
        let response =
            |index: MetadataIndex| v1::DeleteTopicResponse { metadata_index: index.get() };
        answered(deleted.await.map(response))
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        let index = MetadataIndex::new(request.into_inner().metadata_index);
        let listed = self.broker.list_topics(&caller(), index).await;
        answered(listed.map(|(topics, index)| v1::ListTopicsResponse {
            topics: topics.into_iter().map(translate::topic).collect(),
            metadata_index: index.get(),
        }))
    }

    async fn describe_topic(
        &self,
        request: Request<v1::DescribeTopicRequest>,
    ) -> Result<Response<v1::TopicReply>, Status> {
        let request = request.into_inner();
        let index = MetadataIndex::new(request.metadata_index);
        let described = self.broker.describe_topic(&caller(), &request.name, index).await;
        answered(described.map(|(topic, index)| translate::topic_reply(topic, index)))
    }

    async fn move_replica(
        &self,
        request: Request<v1::MoveReplicaRequest>,
    ) -> Result<Response<v1::TopicReply>, Status> {
        let request = request.into_inner();
        let request = MoveRequest {
            topic: request.topic,
            partition: PartitionId::new(request.partition),
            from: NodeId::new(request.from),
            to: NodeId::new(request.to),
            cancel: request.cancel,
            metadata_index: MetadataIndex::new(request.metadata_index),
        };
        let moved = self.broker.move_replica(&caller(), &request).await;
        answered(moved.map(|(topic, index)| translate::topic_reply(topic, index)))
    }

    async fn describe_cluster(
        &self,
        request: Request<v1::DescribeClusterRequest>,
    ) -> Result<Response<v1::DescribeClusterResponse>, Status> {
        let index = MetadataIndex::new(request.into_inner().metadata_index);
        let described = self.broker.describe_cluster(&caller(), index).await;
        answered(described.map(|cluster| translate::cluster(&cluster)))
    }
}
