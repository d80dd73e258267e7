//! Nodes as processes of this machine: where they listen, how they are started and stopped.

mod local;
mod ready;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use duramen_env::Env;
use tokio::process::{Child, Command};

use crate::error::CliError;
use crate::{limits, server};

pub(crate) use local::LocalCluster;
pub(crate) use ready::wait_ready;

/// The only host that such nodes listen on.
const HOST: &str = "127.0.0.1";

/// One node of a cluster on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePlan {
    pub(crate) id: u64,
    pub(crate) grpc: String,
    pub(crate) http: String,
    pub(crate) peer: String,
    pub(crate) dir: PathBuf,
}

/// A cluster on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterPlan {
    pub(crate) nodes: Vec<NodePlan>,
}

/// Where a node's log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogTo {
    /// To the file `log` in its directory.
    File,
    /// To a pipe that the caller reads.
    Pipe,
}

impl ClusterPlan {
    /// Nodes 1 to `count`: node i has gRPC on `port` + 10 (i - 1), HTTP on the next port, peers on
    /// the one after that, and its data in `dir`/i.
    pub(crate) fn new(count: u64, port: u16, dir: &Path) -> Result<Self, CliError> {
        let nodes = (1..=count).map(|id| {
            let step = u16::try_from(id - 1).ok()?.checked_mul(limits::DEV_PORT_STEP)?;
            let grpc = port.checked_add(step)?;
            let http = grpc.checked_add(limits::HTTP_PORT_STEP)?;
            let peer = grpc.checked_add(limits::PEER_PORT_STEP)?;
            Some(NodePlan {
                id,
                grpc: format!("{HOST}:{grpc}"),
                http: format!("{HOST}:{http}"),
                peer: format!("{HOST}:{peer}"),
                dir: dir.join(id.to_string()),
            })
        });
        let nodes = nodes.collect::<Option<Vec<_>>>();
        let nodes = nodes.filter(|nodes| !nodes.is_empty()).ok_or_else(|| {
            CliError::Usage(format!("{count} nodes from port {port} on: choose a lower --port"))
        })?;
        Ok(Self { nodes })
    }

    /// As [`new`](Self::new), on ports that nobody listens on now.
    pub(crate) async fn on_free_ports(env: &Env, count: u64, dir: &Path) -> Result<Self, CliError> {
        let step = u64::from(limits::DEV_PORT_STEP);
        let slots = u64::try_from(limits::FREE_PORTS.len()).unwrap_or(0) / step;
        for _ in 0..slots {
            let offset = u16::try_from(env.random.below(slots) * step).unwrap_or(0);
            let plan = Self::new(count, limits::FREE_PORTS.start + offset, dir)?;
            if plan.is_free(env).await {
                return Ok(plan);
            }
        }
        Err(CliError::Failed(format!("there are no free ports in {:?}", limits::FREE_PORTS)))
    }

    async fn is_free(&self, env: &Env) -> bool {
        for address in self.nodes.iter().flat_map(|node| [&node.grpc, &node.http, &node.peer]) {
            if env.net.listen(address).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The clients' addresses of all nodes: the seed list.
    pub(crate) fn servers(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.grpc.clone()).collect()
    }

    /// Starts a node: this very program as `duramen server`. It ends when its stdin is closed,
    /// and so with this process, however that ends. With a seed for faults, these are ordered
    /// through stdin and reported through stdout.
    pub(crate) fn spawn(
        &self,
        node: &NodePlan,
        log: LogTo,
        faults_seed: Option<u64>,
    ) -> Result<Child, CliError> {
        let program = std::env::current_exe()
            .map_err(|source| CliError::System { action: "find this program", source })?;
        std::fs::create_dir_all(&node.dir).map_err(CliError::file("create", &node.dir))?;
        let stderr = match log {
            LogTo::Pipe => Stdio::piped(),
            LogTo::File => {
                let path = node.dir.join("log");
                let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
                file.map_err(CliError::file("open", &path))?.into()
            }
        };
        let mut command = Command::new(program);
        // What is set for a server of the user's own must not reach these.
        for variable in server::ENVIRONMENT {
            command.env_remove(variable);
        }
        command
            .arg("server")
            .args(["--id", &node.id.to_string()])
            .arg("--dir")
            .arg(&node.dir)
            .args(["--listen", &node.grpc, "--peer-listen", &node.peer])
            .args(["--http-listen", &node.http, "--seed", &self.servers().join(",")])
            .arg("--exit-with-stdin")
            .stdin(Stdio::piped())
            .stdout(if faults_seed.is_some() { Stdio::piped() } else { Stdio::null() })
            .stderr(stderr)
            // A Ctrl-C is for the parent, which then stops its nodes.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(seed) = faults_seed {
            command.args(["--faults-from-stdin", &seed.to_string()]);
        }
        command.spawn().map_err(|source| CliError::System { action: "start a node", source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_directories_follow_from_the_number() {
        let plan = ClusterPlan::new(3, 7650, Path::new("data")).unwrap();
        let third = NodePlan {
            id: 3,
            grpc: "127.0.0.1:7670".into(),
            http: "127.0.0.1:7671".into(),
            peer: "127.0.0.1:7672".into(),
            dir: "data/3".into(),
        };
        assert_eq!(plan.nodes[2], third);
        assert_eq!(plan.servers(), ["127.0.0.1:7650", "127.0.0.1:7660", "127.0.0.1:7670"]);
    }

    #[test]
    fn ports_must_exist() {
        assert!(ClusterPlan::new(3, 65_520, Path::new("data")).is_err());
        assert!(ClusterPlan::new(0, 7650, Path::new("data")).is_err());
    }

    #[tokio::test]
    async fn free_ports_can_be_listened_on() {
        let env = Env::real();
        let plan = ClusterPlan::on_free_ports(&env, 3, Path::new("data")).await.unwrap();
        let taken = env.net.listen(&plan.nodes[1].http).await.unwrap();
        assert!(!plan.is_free(&env).await);
        drop(taken);
        assert!(plan.is_free(&env).await);
    }
}
