//! The full check of what a cluster did: everything read from the beginning, the histories of all
//! clients judged, the files of all nodes compared.

use std::collections::BTreeMap;

use duramen_checker::{Observation, Options, Report, check};
use duramen_client::Client;

use super::reader::read_all;
use super::{Arena, Recorder};
use crate::processes::Outcome;

/// Numbers that no observer of a node has.
const FINAL_OBSERVER: u32 = u32::MAX;

/// What an audit found.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// What is wrong with the histories.
    pub report: Report,
    /// Pairs of replicas that end at the same entry with the same chain hash.
    pub alike: usize,
    /// What is wrong besides, in words.
    pub problems: Vec<String>,
}

impl Audit {
    /// Anomalies of these names.
    fn count(&self, names: &[&str]) -> u64 {
        names.iter().map(|name| self.report.count(name)).sum()
    }

    /// Records that were acknowledged and are not there.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.count(&["lost-write", "unseen", "contradicted", "inconsistent-offsets"])
    }

    /// Records that are there twice.
    #[must_use]
    pub fn duplicated(&self) -> u64 {
        self.count(&["duplicate", "sequence-repeated"])
    }

    /// Records that are there, or were read, in another order than that of sending.
    #[must_use]
    pub fn reordered(&self) -> u64 {
        self.count(&[
            "nonmonotonic-send",
            "int-nonmonotonic-send",
            "nonmonotonic-poll",
            "int-nonmonotonic-poll",
        ])
    }

    /// All that is wrong, in words.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut findings = self.problems.clone();
        if !self.report.is_sound() {
            findings.push(format!("the histories are not sound: {}", self.report));
        }
        findings
    }
}

/// Audits a cluster whose clients have stopped. Its nodes are ended when this returns.
///
/// # Errors
/// The topic cannot be read, or a node does not serve.
pub async fn audit(
    arena: &mut Arena,
    client: &Client,
    topic: &str,
    recorder: &Recorder,
) -> Outcome<Audit> {
    arena.cluster.wait_ready().await?;
    let stored = read_all(client, topic, recorder).await?;
    let starts = client.admin().list_offsets(topic, &BTreeMap::new()).await?;
    arena.cluster.wait_in_sync(topic, arena.replicas()).await?;
    let mut audit = Audit::default();
    match arena.verify().await {
        Ok(alike) => audit.alike = alike,
        Err(problem) => audit.problems.push(problem.to_string()),
    }
    for node in &arena.cluster.nodes {
        let log = node.log()?;
        let panicked = log.lines().filter(|line| line.contains("panicked at"));
        audit.problems.extend(panicked.map(|line| format!("node {}: {line}", node.id)));
    }
    // A copy: what the log has is told once, and another audit may come.
    let mut history = recorder.history();
    for (partition, offsets) in starts {
        let log_start = Some(offsets.log_start_offset.get());
        let seen = Observation { log_start, ..Observation::default() };
        history.observe(FINAL_OBSERVER, partition.get(), seen);
    }
    for batch in stored {
        history.stored_batch(batch);
    }
    audit.report = check(&history, &Options::default());
    Ok(audit)
}
