//! A node whose disk lied about its replica of the metadata, and lost power.

use std::collections::BTreeMap;
use std::path::Path;

use duramen_client::NewTopic;
use duramen_env::CrashMode;
use duramen_proto::v1;

use super::machines::Machines;
use super::{PARTITIONS, TOPIC, failure};
use crate::faultfs::FaultFs;
use crate::processes::{Outcome, eventually};

/// Changes of the metadata while the disk lies.
const CHANGES: u64 = 5;

/// What is changed.
const KEY: &str = "retention.ms";

/// Lets the disk of a node that follows in the metadata group lie while the metadata changes, and
/// cuts its power. The leader must tell it; it ends, says why, and is whole again when it is started
/// the next time.
///
/// # Errors
/// What did not come about, or that no disk can be mounted here.
pub async fn forget_metadata(program: &Path, seed: u64) -> Outcome {
    FaultFs::available()?;
    let mut machines = Machines::start(program, 3, seed).await?;
    let client = machines.cluster.client().await?;
    let topic = NewTopic::new(TOPIC).partitions(PARTITIONS).replication_factor(3);
    client.admin().create_topic(topic).await?;
    machines.cluster.wait_in_sync(TOPIC, 3).await?;
    let controller = client.admin().describe_cluster().await?.controller;
    let controller = controller.ok_or_else(|| failure("nobody leads the metadata"))?.get();
    let ids = machines.cluster.nodes.iter().map(|node| node.id);
    let liar = ids.into_iter().find(|id| *id != controller).unwrap_or(controller);
    machines.disk(liar)?.set_lying(true);
    for change in 1..=CHANGES {
        let value = (change * 1_000_000_000).to_string();
        let set = BTreeMap::from([(KEY.to_owned(), value.clone())]);
        client.admin().alter_topic(TOPIC, set, Vec::new()).await?;
        let node = machines.node(liar)?;
        eventually("the node knows of the change", async || {
            let known = node.wire().describe_topic(TOPIC).await?;
            let is = |entry: &v1::ConfigEntry| entry.name == KEY && entry.value == value;
            let is_known = known.config.iter().any(is);
            if is_known { Ok(()) } else { Err(failure("not yet")) }
        })
        .await?;
    }
    machines.cut(&[liar], CrashMode::KeepNone).await?;
    machines.power_on(&[liar])?;
    machines.wait_ended(liar, "acknowledged log index").await?;
    machines.start_again(liar)?;
    machines.cluster.wait_ready().await?;
    machines.cluster.wait_in_sync(TOPIC, 3).await?;
    machines.end(true);
    Ok(())
}
