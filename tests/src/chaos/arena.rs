//! The place where a nemesis strikes: nodes on addresses of their own, a proxy before each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use duramen_client::{Client, NewTopic};
use duramen_env::CrashMode;

use super::namespaces::{self, Namespaces};
use super::observer::Lives;
use super::{Links, NodeDisk, SmallDisk};
use crate::campaign::progress;
use crate::processes::{Cluster, Node, Outcome, Tool, distinct_addresses, eventually};

/// What an arena is made of.
#[derive(Clone, Debug)]
pub struct ArenaOptions {
    /// The program under test.
    pub program: PathBuf,
    /// Nodes, 3 to 5.
    pub nodes: u16,
    /// Where the nodes' data lie.
    pub disks: Disks,
    /// What lies between the nodes.
    pub network: Network,
}

/// What lies between the nodes of an arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// A proxy of this process before each node, all on loopback addresses.
    #[default]
    Proxies,
    /// A network namespace for each node, and a bridge: packets are really lost. Needs root.
    Namespaces,
}

/// Where the data of an arena's nodes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disks {
    /// In a directory of the machine.
    Plain,
    /// Those of the last node on a small file system. Needs root.
    SmallLast,
    /// All on disks through FUSE, whose power can be cut; what a cut keeps is drawn from the seed.
    Powered(u64),
}

/// A cluster with its links. Fields in the order in which they must go: disks are taken away from
/// under their mount points before the cluster's directory is removed.
#[derive(Debug)]
pub struct Arena {
    /// The disks of nodes that have one of their own.
    pub disks: BTreeMap<u64, NodeDisk>,
    /// The nodes.
    pub cluster: Cluster,
    /// The network between them.
    pub links: Links,
    replicas: usize,
    lives: Arc<Lives>,
    /// Directories of damaged replicas: each goes when its replica has been replaced.
    damaged: BTreeMap<u64, Vec<PathBuf>>,
}

impl Arena {
    /// Starts a cluster and waits until all nodes serve.
    ///
    /// # Errors
    /// It could not be started, or did not serve in time.
    pub async fn start(options: &ArenaOptions) -> Outcome<Self> {
        let addresses = match options.network {
            Network::Proxies => distinct_addresses(options.nodes)?,
            Network::Namespaces => namespaces::addresses(options.nodes),
        };
        let dir = tempfile::Builder::new().prefix("duramen-chaos-").tempdir()?;
        let ids = 1..=u64::from(options.nodes);
        let peers: Vec<_> =
            ids.clone().zip(addresses.iter().map(|node| node.peer.clone())).collect();
        let links = match options.network {
            Network::Proxies => Links::start(&peers).await?,
            Network::Namespaces => {
                Links::of_namespaces(Namespaces::make(ids.clone()).await?, &peers)
            }
        };
        let mut nodes = Vec::new();
        for id in ids.clone() {
            let mut node = Node::new(&options.program, dir.path(), id, &addresses);
            node.set_option("--advertise-peer", links.address(id));
            if options.network == Network::Namespaces {
                // Its addresses are not of the loopback, and yet nobody else's.
                node.add_switch("--insecure");
                node.set_launcher(links.launcher(id));
            }
            nodes.push(node);
        }
        let mut disks = BTreeMap::new();
        for node in &mut nodes {
            let disk = match options.disks {
                Disks::SmallLast if node.id == u64::from(options.nodes) => {
                    NodeDisk::Small(SmallDisk::under(node, dir.path())?)
                }
                Disks::Powered(seed) => NodeDisk::powered(node, seed)?,
                Disks::SmallLast | Disks::Plain => continue,
            };
            disks.insert(node.id, disk);
        }
        let cluster = Cluster::of(&options.program, dir, nodes).await?;
        let replicas = usize::from((options.nodes - 1) / 2 * 2 + 1);
        let lives = Arc::new(Lives::new(ids));
        Ok(Self { disks, cluster, links, replicas, lives, damaged: BTreeMap::new() })
    }

    /// The numbers of all nodes.
    #[must_use]
    pub fn ids(&self) -> Vec<u64> {
        self.cluster.nodes.iter().map(|node| node.id).collect()
    }

    /// How many nodes can fail while the others are a majority.
    #[must_use]
    pub fn minority(&self) -> usize {
        self.cluster.nodes.len().saturating_sub(1) / 2
    }

    /// Creates a topic with a replica on as many nodes as make sense, and small segments.
    ///
    /// # Errors
    /// The cluster does not serve.
    pub async fn create_topic(&self, topic: NewTopic) -> Outcome<Client> {
        let client = self.cluster.client().await?;
        let topic = topic.replication_factor(u32::try_from(self.replicas)?);
        let topic = topic.config("segment.bytes", "64KiB").config("max.message.bytes", "16KiB");
        client.admin().create_topic(topic).await?;
        Ok(client)
    }

    /// Replicas of each partition that are still among the nodes: of four nodes, three.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.replicas.min(self.cluster.nodes.len())
    }

    /// The leaders of a topic's partitions, as they themselves say.
    ///
    /// # Errors
    /// A partition has none in time.
    pub async fn leaders(&self, topic: &str, partitions: u32) -> Outcome<BTreeMap<u32, u64>> {
        let mut leaders = BTreeMap::new();
        for partition in 0..partitions {
            let leader = self.cluster.leader(topic, duramen_client::PartitionId::new(partition));
            leaders.insert(partition, leader.await?.0);
        }
        Ok(leaders)
    }

    /// kill -9 of these nodes at once; waits until they are gone.
    ///
    /// # Errors
    /// One does not run.
    pub async fn kill(&mut self, ids: &BTreeSet<u64>) -> Outcome {
        // Frozen first, so that none sees another go.
        self.freeze(ids)?;
        ids.iter().for_each(|id| self.lives.turn(*id));
        for id in ids {
            self.cluster.node(*id).strike()?;
        }
        for id in ids {
            self.cluster.node(*id).ended().await?;
        }
        Ok(())
    }

    /// Cuts the power of these nodes at once: first the disks go, then the processes.
    ///
    /// # Errors
    /// One does not run.
    pub async fn cut_power(&mut self, ids: &BTreeSet<u64>, mode: CrashMode) -> Outcome {
        self.freeze(ids)?;
        for disk in ids.iter().filter_map(|id| self.disks.get(id)) {
            disk.cut_power(mode);
        }
        self.kill(ids).await
    }

    /// Switches the power of these nodes on; does not start them.
    ///
    /// # Errors
    /// A disk cannot be mounted again.
    pub fn power_on(&mut self, ids: &BTreeSet<u64>) -> Outcome {
        let mut disks = self.disks.iter_mut().filter(|(id, _)| ids.contains(id));
        disks.try_for_each(|(_, disk)| disk.power_on())
    }

    /// Leaves the cluster's directory where it is when this is dropped, with a copy of what lies on
    /// disks that go; says where.
    pub fn keep(&mut self) -> PathBuf {
        let dir = self.cluster.keep().to_owned();
        for id in self.disks.keys() {
            let copy = dir.join(format!("{id}.copy"));
            let copied = std::process::Command::new("cp")
                .arg("-a")
                .args([dir.join(id.to_string()), copy])
                .status();
            if !copied.is_ok_and(|status| status.success()) {
                progress(format_args!("the data of node {id} could not be copied"));
            }
        }
        dir
    }

    /// Ends a node in good order.
    ///
    /// # Errors
    /// It does not run, or ends badly.
    pub async fn terminate(&mut self, id: u64) -> Outcome {
        self.lives.turn(id);
        self.cluster.node(id).terminate().await
    }

    /// Starts these nodes; does not wait.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn start_nodes(&mut self, ids: &BTreeSet<u64>) -> Outcome {
        for id in ids {
            self.lives.turn(*id);
            self.cluster.node(*id).start()?;
        }
        Ok(())
    }

    /// Stops these processes where they are.
    ///
    /// # Errors
    /// One does not run.
    pub fn freeze(&mut self, ids: &BTreeSet<u64>) -> Outcome {
        ids.iter().try_for_each(|id| self.cluster.node(*id).freeze())
    }

    /// Lets frozen processes go on.
    ///
    /// # Errors
    /// One does not run.
    pub fn thaw(&mut self, ids: &BTreeSet<u64>) -> Outcome {
        ids.iter().try_for_each(|id| self.cluster.node(*id).thaw())
    }

    /// Waits until as many nodes as should vote on the metadata.
    ///
    /// # Errors
    /// Not in time.
    pub async fn wait_voters(&self) -> Outcome {
        let wanted = self.replicas();
        let node = self.cluster.nodes.first().ok_or("no node")?;
        eventually(&format!("{wanted} nodes vote on the metadata"), async || {
            let known = node.wire().describe_cluster().await?.nodes;
            let voters = known.iter().filter(|node| node.metadata_voter && node.alive).count();
            if voters >= wanted { Ok(()) } else { Err(format!("{voters} voters").into()) }
        })
        .await
    }

    /// Ends all nodes in good order, says whether their files are sound and agree, and leaves them
    /// ended.
    ///
    /// # Errors
    /// A node ends badly, a file is damaged, or two replicas have different histories.
    pub async fn verify(&mut self) -> Outcome<usize> {
        for id in self.ids() {
            self.lives.turn(id);
        }
        self.cluster.terminate_all().await?;
        let tool = self.cluster.tool();
        verify(&tool, &self.cluster).await
    }

    /// What this node says of its replicas counts no more: they are replaced.
    pub(super) fn doubt(&self, id: u64) {
        self.lives.doubt(id);
    }

    /// A replica of this node was damaged, and is replaced when that is found.
    pub(super) fn damaged(&mut self, id: u64, replica: PathBuf) {
        self.doubt(id);
        self.damaged.entry(id).or_default().push(replica);
    }

    /// A node with damage that nobody has met yet.
    pub(super) fn unsound(&self) -> Option<u64> {
        let is_there = |replicas: &Vec<PathBuf>| replicas.iter().any(|replica| replica.exists());
        self.damaged.iter().find(|(_, replicas)| is_there(replicas)).map(|(id, _)| *id)
    }

    /// All replicas are in sync: what nodes say counts again, but for those with damage that nobody
    /// has met yet.
    pub(super) fn trust_sound(&mut self) {
        for id in self.ids() {
            let damaged = self.damaged.entry(id).or_default();
            damaged.retain(|replica| replica.exists());
            if damaged.is_empty() {
                self.lives.trust(id);
            }
        }
    }

    pub(super) fn lives(&self) -> Arc<Lives> {
        Arc::clone(&self.lives)
    }
}

/// Whether the files of all nodes are sound and agree; says how many pairs of replicas end alike.
async fn verify(tool: &Tool, cluster: &Cluster) -> Outcome<usize> {
    let dirs: Vec<_> = cluster.nodes.iter().map(|node| node.dir.as_path()).collect();
    let verified = tool.verify(&dirs).await?;
    if !verified.sound || !verified.disagreements.is_empty() {
        return Err(format!("the files of the nodes are not sound: {verified:?}").into());
    }
    let mut ends = BTreeMap::<(&str, u64), &str>::new();
    let mut alike = 0;
    for finding in &verified.findings {
        let (start, end) = finding.offsets;
        if finding.records != end - start {
            return Err(format!("a hole in {finding:?}").into());
        }
        let place = (finding.partition.as_str(), finding.indexes.1);
        if let Some(chain) = ends.insert(place, &finding.chain) {
            alike += 1;
            if chain != finding.chain {
                let (partition, index) = place;
                return Err(format!("{partition}: two histories up to entry {index}").into());
            }
        }
    }
    Ok(alike)
}
