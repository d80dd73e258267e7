//! A cluster whose nodes each have a disk of their own.

use std::path::Path;
use std::time::Duration;

use duramen_checker::Micros;
use duramen_env::CrashMode;
use tempfile::TempDir;

use super::failure;
use super::plan::seed_of;
use crate::campaign::progress;
use crate::faultfs::{FaultCounts, FaultFs, FaultFsOptions};
use crate::processes::{Cluster, Node, Outcome, free_addresses, now};

/// How long a node may go on after a sync of its disk failed.
const STOP_MAX: Duration = Duration::from_secs(20);

/// How much of its log before the failure is looked at, too: it may have been quick.
const LOG_BYTES: usize = 4096;

/// Nodes and their disks. In this order they end: processes, disks, directories.
#[derive(Debug)]
pub(super) struct Machines {
    pub(super) cluster: Cluster,
    disks: Vec<FaultFs>,
    /// Where the disks are mounted, and the nodes' logs beside them.
    home: TempDir,
}

impl Machines {
    /// Starts nodes on new disks and waits until all serve.
    pub(super) async fn start(program: &Path, count: u16, seed: u64) -> Outcome<Self> {
        let addresses = free_addresses(count)?;
        let home = tempfile::Builder::new().prefix("duramen-powercut-").tempdir()?;
        let mut disks = Vec::new();
        let mut nodes = Vec::new();
        for id in 1..=u64::from(count) {
            let node = Node::new(program, home.path(), id, &addresses);
            std::fs::create_dir(&node.dir)?;
            let options = FaultFsOptions { seed: seed_of(seed, id), ..FaultFsOptions::default() };
            disks.push(FaultFs::mount(&node.dir, options)?);
            nodes.push(node);
        }
        let dir = tempfile::Builder::new().prefix("duramen-powercut-logs-").tempdir()?;
        let cluster = Cluster::of(program, dir, nodes).await?;
        Ok(Self { cluster, disks, home })
    }

    fn place(&self, id: u64) -> Outcome<usize> {
        let place = self.cluster.nodes.iter().position(|node| node.id == id);
        place.ok_or_else(|| failure(format!("there is no node {id}")))
    }

    /// A node.
    pub(super) fn node(&self, id: u64) -> Outcome<&Node> {
        Ok(&self.cluster.nodes[self.place(id)?])
    }

    /// A node's disk.
    pub(super) fn disk(&self, id: u64) -> Outcome<&FaultFs> {
        Ok(&self.disks[self.place(id)?])
    }

    /// Cuts the power of these nodes in one stroke: first the disks go, then the processes.
    pub(super) async fn cut(&mut self, ids: &[u64], mode: CrashMode) -> Outcome {
        let places: Vec<usize> = ids.iter().map(|id| self.place(*id)).collect::<Outcome<_>>()?;
        // Frozen first, so that none sees another go.
        for place in &places {
            self.cluster.nodes[*place].freeze()?;
        }
        for place in &places {
            self.disks[*place].cut_power(mode);
        }
        for place in &places {
            self.cluster.nodes[*place].strike()?;
        }
        for place in &places {
            self.cluster.nodes[*place].ended().await?;
        }
        Ok(())
    }

    /// Switches the power of these nodes on and starts them; says when.
    pub(super) fn power_on(&mut self, ids: &[u64]) -> Outcome<Micros> {
        for id in ids {
            let place = self.place(*id)?;
            self.disks[place].power_on()?;
        }
        let on = now();
        for id in ids {
            let place = self.place(*id)?;
            self.cluster.nodes[place].start()?;
        }
        Ok(on)
    }

    /// Waits until a node whose disk failed has ended by itself, with an error that says why.
    pub(super) async fn wait_stopped(&mut self, id: u64, mode: CrashMode) -> Outcome {
        let place = self.place(id)?;
        let before = self.cluster.nodes[place].log()?.len();
        let ended = tokio::time::timeout(STOP_MAX, self.cluster.nodes[place].ended()).await;
        let status = ended.map_err(|_| {
            failure(format!("node {id} goes on {STOP_MAX:?} after a failed sync"))
        })??;
        // The pages that were not written are lost with the power, not with the process.
        self.disks[place].cut_power(mode);
        if status.success() {
            return Err(failure(format!("node {id} ended without an error after a failed sync")));
        }
        let log = self.cluster.nodes[place].log()?;
        let said = &log[before.saturating_sub(LOG_BYTES)..];
        if !said.contains("os error 5") && !said.contains("Input/output error") {
            return Err(failure(format!("node {id} does not say that its disk failed: {said}")));
        }
        Ok(())
    }

    /// Waits until a node has ended by itself, with an error that says why.
    pub(super) async fn wait_ended(&mut self, id: u64, why: &str) -> Outcome {
        let place = self.place(id)?;
        let status = self.cluster.nodes[place].ended().await?;
        let log = self.cluster.nodes[place].log()?;
        if status.success() || !log.contains(why) {
            return Err(failure(format!("node {id} ended with {status}: {log}")));
        }
        Ok(())
    }

    /// Starts a node whose power is on.
    pub(super) fn start_again(&mut self, id: u64) -> Outcome {
        let place = self.place(id)?;
        self.cluster.nodes[place].start()
    }

    /// What happened to all disks together.
    pub(super) fn counts(&self) -> FaultCounts {
        let mut sum = FaultCounts::default();
        for counts in self.disks.iter().map(FaultFs::counts) {
            sum.syncs += counts.syncs;
            sum.syncs_ignored += counts.syncs_ignored;
            sum.syncs_failed += counts.syncs_failed;
            sum.power_cuts += counts.power_cuts;
            sum.bytes_lost += counts.bytes_lost;
            sum.name_changes_lost += counts.name_changes_lost;
        }
        sum
    }

    /// Ends all; of the nodes' logs the ends are shown unless all was well, and all is kept.
    pub(super) fn end(mut self, passed: bool) {
        if passed {
            return self.cluster.passed();
        }
        self.home.disable_cleanup(true);
        progress(format_args!("the nodes' logs are in {}", self.home.path().display()));
    }
}
