//! The proof that the harness can see a loss: all disks lie, and all nodes lose power.

use std::path::Path;

use duramen_client::NewTopic;
use duramen_env::CrashMode;

use super::machines::Machines;
use super::tally::lost;
use super::{PARTITIONS, TOPIC, load};
use crate::campaign::{Figures, Finding, progress};
use crate::faultfs::FaultFs;
use crate::processes::Outcome;

/// Records of each partition that are acknowledged while the disks lie.
const LIES: usize = 50;

/// Lets all disks of a cluster lie, cuts the power of all nodes, and looks whether the loss of
/// acknowledged records is noticed. It is a finding if it is not.
///
/// # Errors
/// No disk can be mounted here, or the cluster cannot be started.
pub async fn control(program: &Path, seed: u64) -> Outcome<(Figures, Vec<Finding>)> {
    FaultFs::available()?;
    let mut machines = Machines::start(program, 3, seed).await?;
    let client = machines.cluster.client().await?;
    let topic = NewTopic::new(TOPIC).partitions(PARTITIONS).replication_factor(3);
    client.admin().create_topic(topic).await?;
    let load = load(&client, 0);
    load.wait_acknowledged(PARTITIONS, LIES).await?;
    let ids: Vec<u64> = machines.cluster.nodes.iter().map(|node| node.id).collect();
    for id in &ids {
        machines.disk(*id)?.set_lying(true);
    }
    load.wait_acknowledged(PARTITIONS, LIES).await?;
    let told = load.history();
    machines.cut(&ids, CrashMode::KeepNone).await?;
    machines.power_on(&ids)?;
    drop(load);
    machines.cluster.wait_ready().await?;
    let report = told.judge(&client, TOPIC).await?;
    for found in report.findings.iter().take(1) {
        progress(format_args!("noticed, as it must be: {}", found.anomaly));
    }
    let counts = machines.counts();
    let mut figures = Figures::default();
    figures
        .set("acknowledged", told.fates().0)
        .set("lost_as_it_must_be", lost(&report))
        .set("syncs_ignored", counts.syncs_ignored)
        .set("bytes_destroyed", counts.bytes_lost);
    let mut findings = Vec::new();
    if lost(&report) == 0 {
        let what = "all disks lied and lost their power, and no loss was noticed".to_owned();
        let repeat = format!("cargo xtask powercut --control --seed {seed}");
        findings.push(Finding { what, repeat });
    }
    machines.end(findings.is_empty());
    Ok((figures, findings))
}
