//! A scenario of new leaders: none serves before it knows what is committed.

use std::time::Duration;

use duramen_client::NewTopic;
use duramen_proto::v1;
use tokio::time::Instant;

use super::quorum::plain;
use super::stage::{ASIDE, Stage};
use crate::chaos::Link;
use crate::processes::{Outcome, Wire};

/// How long a leader that is cut off is asked.
const ASKED: Duration = Duration::from_millis(1_500);

/// How long it may take to answer a produce.
const ALONE_MS: u32 = 500;

/// Kills leaders; cuts the next one off as soon as it says that it leads.
pub(super) async fn cut_off_when_elected(stage: &mut Stage) -> Outcome {
    stage.create_aside(NewTopic::new(ASIDE)).await?;
    for turn in 0..2 * stage.turns {
        let stored = stage.produce(&plain(&format!("turn {turn}"))).await?.base_offset;
        let (old, epoch) = stage.leader(ASIDE).await?;
        stage.arena.kill(&[old].into()).await?;
        let new = elected(stage, old, epoch).await?;
        for other in stage.others(new) {
            stage.arena.links.set_both(new, other, Link::Silent);
        }
        let wire = stage.arena.cluster.node(new).wire();
        ask(wire, stored).await?;
        stage.arena.links.open_all();
        stage.arena.start_nodes(&[old].into())?;
        stage.arena.cluster.wait_ready().await?;
        stage.serves().await?;
    }
    Ok(())
}

/// The node that first says that it leads in a later epoch.
async fn elected(stage: &Stage, old: u64, epoch: u64) -> Outcome<u64> {
    let others = stage.others(old);
    let nodes = stage.arena.cluster.nodes.iter().filter(|node| others.contains(&node.id));
    let wires: Vec<_> = nodes.map(|node| (node.id, node.wire())).collect();
    let deadline = Instant::now() + crate::processes::DEADLINE;
    while Instant::now() < deadline {
        for (id, wire) in &wires {
            let topic = wire.clone().describe_topic(ASIDE).await?;
            let partition = topic.partitions.first().ok_or("a topic without partitions")?;
            if partition.leader == *id && partition.leader_epoch > epoch {
                return Ok(*id);
            }
        }
    }
    Err("nobody was elected".into())
}

/// Asks a leader that is cut off: what it answers must know all that was acknowledged, and it
/// acknowledges nothing that is sent after it had been alone.
async fn ask(mut wire: Wire, stored: u64) -> Outcome {
    let end = Instant::now() + ASKED;
    while Instant::now() < end {
        match wire.fetch(ASIDE, 0, stored).await {
            Ok(Ok(answer)) if answer.high_watermark <= stored => {
                let known = answer.high_watermark;
                return Err(format!("a leader serves up to {known}, {stored} is stored").into());
            }
            Ok(Ok(_) | Err(_)) | Err(_) => {}
        }
        let alone = v1::ProduceRequest { timeout_ms: ALONE_MS, ..plain("alone") };
        if let Ok(Ok(ack)) = wire.send(alone).await {
            return Err(format!("a leader acknowledged alone: {ack:?}").into());
        }
    }
    Ok(())
}
