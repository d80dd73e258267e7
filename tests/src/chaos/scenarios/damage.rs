//! Scenarios of damaged files on one node of three: the others neither lose nor delete anything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use duramen_client::NewTopic;

use super::metadata::{are_there, names};
use super::stage::{Stage, TOPIC};
use crate::processes::{Outcome, eventually, flip_bit, segments};

/// Sealed segments that a replica must have before it is damaged.
const SEALED_MIN: usize = 2;

/// Flips two bits in every sealed segment of a node that is ended and started again.
pub(super) async fn bit_errors(stage: &mut Stage) -> Outcome {
    let (leader, _) = stage.leader(TOPIC).await?;
    let victim = *stage.others(leader).first().ok_or("one node")?;
    eventually("the replicas have sealed segments", async || {
        let node = stage.arena.cluster.nodes.iter().find(|node| node.id == victim);
        for replica in node.ok_or("no such node")?.replica_dirs()? {
            let count = segments(&replica)?.len();
            if count <= SEALED_MIN {
                return Err(format!("{count} segments in {}", replica.display()).into());
            }
        }
        Ok(())
    })
    .await?;
    stage.arena.doubt(victim);
    stage.arena.terminate(victim).await?;
    let mut flipped = 0;
    for replica in stage.arena.cluster.node(victim).replica_dirs()? {
        let mut sealed = segments(&replica)?;
        sealed.pop();
        for segment in sealed {
            let bytes = std::fs::metadata(&segment)?.len();
            flip_bit(&segment, bytes / 3)?;
            flip_bit(&segment, bytes / 2)?;
            flipped += 2;
        }
    }
    if flipped == 0 {
        return Err("no bit was flipped".into());
    }
    stage.arena.start_nodes(&[victim].into())?;
    stage.arena.cluster.node(victim).wait_ready().await?;
    stage.serves().await?;
    // Its replicas are replaced: then the others can go, one after the other.
    stage.arena.cluster.wait_in_sync(TOPIC, 3).await?;
    for other in stage.others(victim) {
        stage.arena.terminate(other).await?;
        stage.arena.start_nodes(&[other].into())?;
        stage.arena.cluster.node(other).wait_ready().await?;
        stage.serves().await?;
    }
    Ok(())
}

/// Damages the metadata of a node that is ended and started again, then starts the others again.
pub(super) async fn metadata(stage: &mut Stage) -> Outcome {
    for number in 0..3 {
        let topic = NewTopic::new(format!("kept-{number}")).replication_factor(3);
        stage.client.admin().create_topic(topic).await?;
    }
    let expected = names(stage).await?;
    let victim = 3;
    stage.arena.cluster.wait_in_sync(TOPIC, 3).await?;
    stage.arena.doubt(victim);
    stage.arena.terminate(victim).await?;
    let before = replicas(stage)?;
    let metadata = stage.arena.cluster.node(victim).dir.join("metadata");
    if damage_all(&metadata)? == 0 {
        return Err(format!("nothing was damaged in {}", metadata.display()).into());
    }
    stage.arena.start_nodes(&[victim].into())?;
    stage.arena.cluster.node(victim).wait_ready().await?;
    stage.serves().await?;
    stage.arena.wait_voters().await?;
    are_there(stage, &expected).await?;
    for other in stage.others(victim) {
        stage.arena.terminate(other).await?;
        stage.arena.start_nodes(&[other].into())?;
        stage.arena.cluster.node(other).wait_ready().await?;
        stage.serves().await?;
    }
    are_there(stage, &expected).await?;
    let after = replicas(stage)?;
    if before != after {
        return Err(format!("replicas on disk were {before:?} and are {after:?}").into());
    }
    Ok(())
}

/// The directories of all partition replicas on all nodes.
fn replicas(stage: &Stage) -> Outcome<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    for node in &stage.arena.cluster.nodes {
        all.extend(node.replica_dirs()?);
    }
    Ok(all)
}

/// Flips a bit in the middle of what is written of each file in a directory; says of how many.
fn damage_all(dir: &Path) -> Outcome<usize> {
    let mut damaged = 0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let bytes = std::fs::read(&path)?;
        // Files are longer than what is written in them.
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        if written > 0 {
            flip_bit(&path, u64::try_from(written / 2)?)?;
            damaged += 1;
        }
    }
    Ok(damaged)
}
