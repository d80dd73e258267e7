//! Calls to one node and no other. The SDK asks whichever node answers; who wants to know what a
//! certain node says asks here.

use std::future::Future;
use std::time::Duration;

use duramen_env::Env;
use duramen_net::{Channel, limits};
use duramen_proto::v1;
use duramen_proto::v1::admin_service_client::AdminServiceClient;
use tonic::{Code, Response, Status};

/// The admin service of one node.
#[derive(Clone, Debug)]
pub(crate) struct DirectAdmin {
    client: AdminServiceClient<Channel>,
    timeout: Duration,
}

impl DirectAdmin {
    /// Connects at the first call. No call takes longer than `timeout`.
    pub(crate) fn new(env: &Env, address: &str, timeout: Duration) -> Self {
        let client = AdminServiceClient::new(Channel::new(env, address))
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
        Self { client, timeout }
    }

    /// The cluster as the node sees it.
    pub(crate) async fn describe_cluster(&self) -> Result<v1::DescribeClusterResponse, String> {
        let mut client = self.client.clone();
        let request = v1::DescribeClusterRequest::default();
        said(self.within(client.describe_cluster(request)).await)
    }

    /// A topic as the node sees it.
    pub(crate) async fn describe_topic(&self, name: &str) -> Result<Option<v1::Topic>, String> {
        let mut client = self.client.clone();
        let request = v1::DescribeTopicRequest { name: name.to_owned(), metadata_index: 0 };
        said(self.within(client.describe_topic(request)).await).map(|reply| reply.topic)
    }

    /// Whether the node could create such a topic now; creates nothing.
    pub(crate) async fn could_create(&self, partitions: u32, replicas: u32) -> Result<(), String> {
        let mut client = self.client.clone();
        let request = v1::CreateTopicRequest {
            name: "readiness".to_owned(),
            partitions,
            replication_factor: replicas,
            validate_only: true,
            ..v1::CreateTopicRequest::default()
        };
        match self.within(client.create_topic(request)).await {
            // Somebody has created one of that name.
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            created => said(created).map(|_| ()),
        }
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Status> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded("no answer")),
        }
    }
}

/// The answer, or why there is none, in words.
fn said<T>(answer: Result<Response<T>, Status>) -> Result<T, String> {
    answer.map(Response::into_inner).map_err(|status| status.message().to_owned())
}
