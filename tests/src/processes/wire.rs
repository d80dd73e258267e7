//! The public gRPC API as it is generated, of one node: for requests that the SDK would not make.

use duramen_env::Env;
use duramen_net::Channel;
use duramen_proto::v1;
use duramen_proto::v1::admin_service_client::AdminServiceClient;
use duramen_proto::v1::discovery_service_client::DiscoveryServiceClient;
use duramen_proto::v1::group_service_client::GroupServiceClient;
use duramen_proto::v1::log_service_client::LogServiceClient;
use prost::Message as _;
use tonic::Status;

use super::Outcome;

/// Clients of one node.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Produce and fetch.
    pub log: LogServiceClient<Channel>,
    /// Topics and the cluster.
    pub admin: AdminServiceClient<Channel>,
    /// Consumer groups.
    pub groups: GroupServiceClient<Channel>,
    /// Who the node is.
    pub discovery: DiscoveryServiceClient<Channel>,
}

impl Wire {
    /// Clients of the node at an address; connected by the first call.
    #[must_use]
    pub fn new(address: &str) -> Self {
        let channel = Channel::new(&Env::real(), address);
        Self {
            log: LogServiceClient::new(channel.clone()),
            admin: AdminServiceClient::new(channel.clone()),
            groups: GroupServiceClient::new(channel.clone()),
            discovery: DiscoveryServiceClient::new(channel),
        }
    }

    /// A topic as this node sees it.
    ///
    /// # Errors
    /// What the node said.
    pub async fn describe_topic(mut self, name: &str) -> Outcome<v1::Topic> {
        let request = v1::DescribeTopicRequest { name: name.to_owned(), metadata_index: 0 };
        let reply = self.admin.describe_topic(request).await?.into_inner();
        Ok(reply.topic.ok_or("a reply without a topic")?)
    }

    /// The cluster as this node sees it.
    ///
    /// # Errors
    /// What the node said.
    pub async fn describe_cluster(mut self) -> Outcome<v1::DescribeClusterResponse> {
        let request = v1::DescribeClusterRequest { metadata_index: 0 };
        Ok(self.admin.describe_cluster(request).await?.into_inner())
    }

    /// Who the node is.
    ///
    /// # Errors
    /// What the node said.
    pub async fn identify(mut self) -> Outcome<v1::IdentifyResponse> {
        Ok(self.discovery.identify(v1::IdentifyRequest {}).await?.into_inner())
    }

    /// Produces one plain record.
    ///
    /// # Errors
    /// Why the node refused it.
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: u32,
        value: &str,
    ) -> Outcome<Result<v1::ProduceAck, v1::Error>> {
        let record = v1::Record {
            value: Some(bytes::Bytes::copy_from_slice(value.as_bytes())),
            ..v1::Record::default()
        };
        let payload = v1::produce_request::Payload::Records(v1::RecordList::new(vec![record]));
        self.send(v1::ProduceRequest {
            topic: topic.to_owned(),
            partition,
            timeout_ms: 5_000,
            payload: Some(payload),
            ..v1::ProduceRequest::default()
        })
        .await
    }

    /// Sends a produce request as it is.
    ///
    /// # Errors
    /// An answer that is none: neither acknowledged nor a typed refusal.
    pub async fn send(
        &mut self,
        request: v1::ProduceRequest,
    ) -> Outcome<Result<v1::ProduceAck, v1::Error>> {
        use v1::produce_response::Result as Answer;
        match self.log.produce(request).await {
            Err(status) => Ok(Err(refused(&status)?)),
            Ok(response) => match response.into_inner().result {
                Some(Answer::Ack(ack)) => Ok(Ok(ack)),
                Some(Answer::Error(error)) => Ok(Err(error)),
                None => Err("an answer without a result".into()),
            },
        }
    }

    /// Fetches from an offset of a partition at once, as plain records.
    ///
    /// # Errors
    /// An answer that is no typed refusal.
    pub async fn fetch(
        &mut self,
        topic: &str,
        partition: u32,
        offset: u64,
    ) -> Outcome<Result<v1::FetchResponse, v1::Error>> {
        let position = v1::fetch_position::Position::Offset(offset);
        let request = v1::FetchRequest {
            topic: topic.to_owned(),
            partition,
            position: Some(v1::FetchPosition { position: Some(position) }),
            format: v1::FetchFormat::Records.into(),
            ..v1::FetchRequest::default()
        };
        match self.log.fetch(request).await {
            Ok(response) => Ok(Ok(response.into_inner())),
            Err(status) => Ok(Err(refused(&status)?)),
        }
    }
}

/// The typed error of a refused call.
///
/// # Errors
/// The call was not refused by the node itself: the status as it came.
pub fn refused(status: &Status) -> Outcome<v1::Error> {
    let value = status.metadata().get_bin(v1::ERROR_TRAILER);
    let value = value.ok_or_else(|| format!("a status without a typed error: {status}"))?;
    Ok(v1::Error::decode(value.to_bytes()?)?)
}
