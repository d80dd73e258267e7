//! A cluster of processes in a directory of its own.

use std::path::{Path, PathBuf};

use duramen_client::{Client, ClientOptions, NodeId, PartitionId};
use tempfile::TempDir;

use super::{Node, Outcome, Tool, eventually, free_addresses, say};

/// Lines of each node's log that are shown when a test fails.
const LINES_SHOWN: usize = 60;

/// Nodes and their directory. Dropped, it kills them all.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in the order of their numbers. Before the directory: they end first.
    pub nodes: Vec<Node>,
    program: PathBuf,
    dir: TempDir,
    passed: bool,
}

impl Cluster {
    /// Starts `count` nodes with one seed list and waits until all serve.
    ///
    /// # Errors
    /// They could not be started or did not serve in time.
    pub async fn start(program: &Path, count: u16) -> Outcome<Self> {
        let addresses = free_addresses(count)?;
        let dir = tempfile::Builder::new().prefix("duramen-cluster-").tempdir()?;
        let node = |id| Node::new(program, dir.path(), id, &addresses);
        let nodes = (1..=u64::from(count)).map(node).collect();
        Self::of(program, dir, nodes).await
    }

    /// Starts these nodes, whose data is in `dir`, and waits until all serve.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn of(program: &Path, dir: TempDir, nodes: Vec<Node>) -> Outcome<Self> {
        let mut cluster = Self { nodes, program: program.to_owned(), dir, passed: false };
        cluster.start_all()?;
        cluster.wait_ready().await?;
        Ok(cluster)
    }

    /// A node by its number.
    ///
    /// # Panics
    /// If there is none.
    pub fn node(&mut self, id: u64) -> &mut Node {
        let node = self.nodes.iter_mut().find(|node| node.id == id);
        node.expect("a test names nodes that it started")
    }

    /// A node by the number that an answer of the cluster gave.
    ///
    /// # Panics
    /// If there is none.
    pub fn node_named(&mut self, id: NodeId) -> &mut Node {
        self.node(id.get())
    }

    /// The cluster's directory, for files of the test itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves the directory where it is when this is dropped, and says where.
    pub fn keep(&mut self) -> &Path {
        self.dir.disable_cleanup(true);
        self.dir.path()
    }

    /// The program's other commands, against this cluster.
    #[must_use]
    pub fn tool(&self) -> Tool {
        Tool::new(&self.program, &self.addresses(), self.dir.path())
    }

    /// Where clients reach the nodes.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.addresses.client.clone()).collect()
    }

    /// A client that knows all nodes.
    ///
    /// # Errors
    /// No node answers.
    pub async fn client(&self) -> Outcome<Client> {
        Ok(Client::connect(ClientOptions::new(self.addresses())).await?)
    }

    /// Starts the nodes that do not run.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_all(&mut self) -> Outcome {
        self.nodes.iter_mut().filter(|node| !node.is_started()).try_for_each(Node::start)
    }

    /// Waits until every node serves and knows every other as alive.
    ///
    /// # Errors
    /// Not in time.
    pub async fn wait_ready(&self) -> Outcome {
        for node in &self.nodes {
            node.wait_ready().await?;
            let what = format!("node {} sees all {} nodes", node.id, self.nodes.len());
            eventually(&what, async || {
                let alive = node.wire().describe_cluster().await?;
                let alive = alive.nodes.iter().filter(|node| node.alive).count();
                if alive == self.nodes.len() { Ok(()) } else { Err(format!("{alive}").into()) }
            })
            .await?;
        }
        Ok(())
    }

    /// Kills all nodes in one stroke and waits until they are gone.
    ///
    /// # Errors
    /// One does not run.
    pub async fn kill_all(&mut self) -> Outcome {
        // Frozen first, so that none sees another go.
        self.nodes.iter().try_for_each(Node::freeze)?;
        self.nodes.iter().try_for_each(Node::strike)?;
        for node in &mut self.nodes {
            node.ended().await?;
        }
        Ok(())
    }

    /// Asks all nodes to end and waits until they have, without an error.
    ///
    /// # Errors
    /// One does not end, or badly.
    pub async fn terminate_all(&mut self) -> Outcome {
        self.nodes.iter().try_for_each(Node::ask_to_end)?;
        for node in &mut self.nodes {
            let status = node.ended().await?;
            if !status.success() {
                return Err(format!("node {} ended with {status}", node.id).into());
            }
        }
        Ok(())
    }

    /// The node that leads a partition and its epoch, as the node itself says.
    ///
    /// # Errors
    /// None says so in time.
    pub async fn leader(&self, topic: &str, partition: PartitionId) -> Outcome<(u64, u64)> {
        eventually(&format!("{topic}-{partition} has a leader"), async || {
            for node in self.nodes.iter().filter(|node| node.is_started()) {
                let Ok(topic) = node.wire().describe_topic(topic).await else { continue };
                let found = topic.partitions.iter().find(|found| found.id == partition.get());
                // Only a leader knows who is in sync.
                if let Some(found) = found.filter(|found| !found.in_sync.is_empty())
                    && found.leader == node.id
                {
                    return Ok((node.id, found.leader_epoch));
                }
            }
            Err("no node leads".into())
        })
        .await
    }

    /// Waits until every partition of a topic has a leader that finds `count` replicas in sync.
    ///
    /// # Errors
    /// Not in time.
    pub async fn wait_in_sync(&self, topic: &str, count: usize) -> Outcome {
        let what = format!("{count} replicas of each partition of {topic} are in sync");
        eventually(&what, async || {
            let mut in_sync = std::collections::BTreeMap::new();
            for node in self.nodes.iter().filter(|node| node.is_started()) {
                let Ok(topic) = node.wire().describe_topic(topic).await else { continue };
                for partition in topic.partitions {
                    let known = in_sync.entry(partition.id).or_insert(0);
                    *known = partition.in_sync.len().max(*known);
                }
            }
            let settled = !in_sync.is_empty() && in_sync.values().all(|known| *known >= count);
            if settled { Ok(()) } else { Err(format!("{in_sync:?}").into()) }
        })
        .await
    }

    /// The test is over and all was well: the logs need not be shown.
    pub fn passed(mut self) {
        self.passed = true;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.passed {
            return;
        }
        for node in &self.nodes {
            let log = node.log().unwrap_or_default();
            let skipped = log.lines().count().saturating_sub(LINES_SHOWN);
            say(format_args!("---- log of node {}, without its first {skipped} lines", node.id));
            log.lines().skip(skipped).for_each(say);
        }
    }
}
