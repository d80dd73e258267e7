//! A cluster of processes that lives as long as its value: for benchmarks.

use std::path::Path;

use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::Instant;

use super::{ClusterPlan, LogTo, wait_ready};
use crate::context::Context;
use crate::error::CliError;
use crate::{limits, output};

/// A running cluster in a directory of its own, which is removed at the end.
#[derive(Debug)]
pub(crate) struct LocalCluster {
    plan: ClusterPlan,
    children: Vec<Child>,
    dir: TempDir,
}

impl LocalCluster {
    /// Starts nodes on free ports and waits until the cluster is usable. `parent` says on which
    /// disk the data is; the system's temporary directory if not given.
    pub(crate) async fn start(
        context: &Context,
        nodes: u64,
        parent: Option<&Path>,
    ) -> Result<Self, CliError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("duramen-");
        let dir = match parent {
            Some(parent) => builder.tempdir_in(parent),
            None => builder.tempdir(),
        };
        let dir = dir.map_err(|source| CliError::System { action: "make a directory", source })?;
        let plan = ClusterPlan::on_free_ports(&context.env, nodes, dir.path()).await?;
        let started = plan.nodes.iter().map(|node| plan.spawn(node, LogTo::File, None));
        let children = started.collect::<Result<Vec<_>, _>>()?;
        let cluster = Self { plan, children, dir };
        if let Err(error) = wait_ready(context, &cluster.plan, limits::READY_TIMEOUT).await {
            cluster.show_logs();
            return Err(error);
        }
        Ok(cluster)
    }

    /// Where the data is.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The clients' addresses.
    pub(crate) fn servers(&self) -> Vec<String> {
        self.plan.servers()
    }

    /// The process ids of the nodes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().filter_map(Child::id).collect()
    }

    /// Stops the nodes in good order, and those that do not stop in time otherwise.
    pub(crate) async fn stop(mut self) -> Result<(), CliError> {
        for child in &mut self.children {
            drop(child.stdin.take());
        }
        let deadline = Instant::now() + limits::STOP_TIMEOUT;
        for child in &mut self.children {
            if tokio::time::timeout_at(deadline, child.wait()).await.is_err() {
                let killed = child.kill().await;
                killed.map_err(|source| CliError::System { action: "stop a node", source })?;
            }
        }
        self.dir.close().map_err(|source| CliError::System { action: "remove the data", source })
    }

    /// What the nodes said last, before their directory is gone.
    fn show_logs(&self) {
        for node in &self.plan.nodes {
            let text = std::fs::read_to_string(node.dir.join("log")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(5)) {
                output::note(&format!("node {} | {line}", node.id));
            }
        }
    }
}
