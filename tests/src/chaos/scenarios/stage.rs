//! What a scenario has: a cluster of three, a topic under load, and one aside for its own requests.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use duramen_client::{Client, NewTopic, PartitionId};
use duramen_proto::v1;
use duramen_proto::v1::fetch_response::Data;
use tokio::time::Instant;

use crate::chaos::{
    Arena, ArenaOptions, Counts, Disks, Load, LoadOptions, Network, Recorder, audit,
};
use crate::processes::{Outcome, eventually};

/// The topic under load.
pub(super) const TOPIC: &str = "chaos";

/// The topic of the scenario's own requests, with one partition.
pub(super) const ASIDE: &str = "aside";

/// A partition that does not serve within this time is dead.
const SERVING_MAX: Duration = Duration::from_secs(60);

/// What a scenario acts on.
pub(super) struct Stage {
    pub(super) arena: Arena,
    pub(super) client: Client,
    pub(super) recorder: Recorder,
    /// The longest wait for all partitions to serve.
    pub(super) slowest: Duration,
    /// How often a script is played that can be played again and again.
    pub(super) turns: usize,
    load: Option<Load>,
}

impl Stage {
    /// Three nodes, under load.
    pub(super) async fn set(program: &Path, turns: usize) -> Outcome<Self> {
        let options = ArenaOptions {
            program: program.to_owned(),
            nodes: 3,
            disks: Disks::Plain,
            network: Network::Proxies,
        };
        let arena = Arena::start(&options).await?;
        let options = LoadOptions::default();
        let client =
            arena.create_topic(NewTopic::new(TOPIC).partitions(options.partitions)).await?;
        let recorder = Recorder::default();
        let load = Load::start(&arena, &client, TOPIC, &recorder, options);
        let slowest = Duration::ZERO;
        let mut stage = Self { arena, client, recorder, slowest, turns, load: Some(load) };
        stage.serves().await?;
        Ok(stage)
    }

    /// Creates the topic aside.
    pub(super) async fn create_aside(&self, topic: NewTopic) -> Outcome {
        self.client.admin().create_topic(topic.replication_factor(3)).await?;
        self.leader(ASIDE).await.map(drop)
    }

    /// Waits until records of all partitions under load are acknowledged that were sent from now
    /// on.
    pub(super) async fn serves(&mut self) -> Outcome {
        let load = self.load.as_ref().ok_or("the load has ended")?;
        let waited = load.wait_serving(Instant::now(), SERVING_MAX).await?;
        self.slowest = self.slowest.max(waited);
        Ok(())
    }

    /// Stops the load and waits for what is under way.
    pub(super) async fn end_load(&mut self) -> Outcome {
        match self.load.take() {
            Some(load) => load.finish().await,
            None => Ok(()),
        }
    }

    /// Leader and epoch of the first partition of a topic.
    pub(super) async fn leader(&self, topic: &str) -> Outcome<(u64, u64)> {
        self.arena.cluster.leader(topic, PartitionId::new(0)).await
    }

    /// All nodes but this.
    pub(super) fn others(&self, node: u64) -> Vec<u64> {
        self.arena.ids().into_iter().filter(|id| *id != node).collect()
    }

    /// All nodes.
    pub(super) fn all(&self) -> BTreeSet<u64> {
        self.arena.ids().into_iter().collect()
    }

    /// kill -9 of all nodes at once, and their next start.
    pub(super) async fn kill_and_start_all(&mut self) -> Outcome {
        let all = self.all();
        self.arena.kill(&all).await?;
        self.arena.start_nodes(&all)?;
        self.arena.cluster.wait_ready().await
    }

    /// Sends a request to whichever node leads, until one acknowledges it.
    pub(super) async fn produce(&self, request: &v1::ProduceRequest) -> Outcome<v1::ProduceAck> {
        self.produce_at(&self.arena.ids(), request).await
    }

    /// The same, with a leader among these nodes.
    pub(super) async fn produce_at(
        &self,
        ids: &[u64],
        request: &v1::ProduceRequest,
    ) -> Outcome<v1::ProduceAck> {
        eventually("the request is acknowledged", async || {
            let mut refusals = Vec::new();
            let nodes = self.arena.cluster.nodes.iter();
            for node in nodes.filter(|node| node.is_started() && ids.contains(&node.id)) {
                match node.wire().send(request.clone()).await {
                    Ok(Ok(ack)) => return Ok(ack),
                    Ok(Err(refusal)) => refusals.push(refusal.message),
                    Err(error) => refusals.push(error.to_string()),
                }
            }
            Err(format!("{refusals:?}").into())
        })
        .await
    }

    /// Every record of the topic aside that is kept, from whichever node leads.
    pub(super) async fn read_aside(&self) -> Outcome<Vec<v1::Record>> {
        eventually("the topic aside is read", async || {
            let (leader, _) = self.leader(ASIDE).await?;
            let nodes = &self.arena.cluster.nodes;
            let node = nodes.iter().find(|node| node.id == leader).ok_or("no such node")?;
            let mut wire = node.wire();
            let topic = wire.clone().describe_topic(ASIDE).await?;
            let partition = topic.partitions.first().ok_or("a topic without partitions")?;
            let mut next = partition.log_start_offset.ok_or("no replica here")?;
            let mut records = Vec::new();
            loop {
                let answer = wire.fetch(ASIDE, 0, next).await?.map_err(|error| error.message)?;
                let Some(Data::Records(given)) = answer.data else { return Ok(records) };
                if given.records.is_empty() {
                    return Ok(records);
                }
                records.extend(given.records);
                next = answer.next_offset;
            }
        })
        .await
    }

    /// Ends the load and does the full audit.
    pub(super) async fn audit(&mut self) -> Outcome<Counts> {
        self.end_load().await?;
        let audit = audit(&mut self.arena, &self.client, TOPIC, &self.recorder).await?;
        let findings = audit.findings();
        if findings.is_empty() {
            Ok(self.recorder.counts())
        } else {
            Err(findings.join("; ").into())
        }
    }
}
