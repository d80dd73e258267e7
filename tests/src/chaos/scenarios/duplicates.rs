//! Scenarios of retries: what may have been stored is sent again, and stored once.

use duramen_client::NewTopic;
use duramen_proto::v1;

use super::quorum::plain;
use super::stage::{ASIDE, Stage};
use crate::chaos::Link;
use crate::processes::{Outcome, eventually};

/// How long a produce may take whose followers stand still.
const TIMEOUT_MS: u32 = 400;

/// How long a retry waits for what becomes of its first try.
const PATIENT_MS: u32 = 20_000;

/// A produce of one record as the first of a new producer.
async fn first_of_a_producer(stage: &Stage, value: &str) -> Outcome<v1::ProduceRequest> {
    let given = eventually("a producer id is given", async || {
        let node = stage.arena.cluster.nodes.first().ok_or("no node")?;
        let given = node.wire().log.init_producer(v1::InitProducerRequest {}).await?;
        Ok(given.into_inner())
    })
    .await?;
    Ok(v1::ProduceRequest {
        producer_id: given.producer_id,
        producer_epoch: given.producer_epoch,
        base_sequence: 0,
        ..plain(value)
    })
}

/// Sends the request once more; it must be known to be at this offset.
async fn is_known_at(stage: &Stage, request: &v1::ProduceRequest, offset: u64) -> Outcome {
    let again = stage.produce(request).await?.base_offset;
    if again == offset {
        return Ok(());
    }
    Err(format!("stored at offset {offset} and, sent again, at {again}").into())
}

/// A produce times out because the followers stand still, and is committed when they go on.
pub(super) async fn after_a_timeout(stage: &mut Stage) -> Outcome {
    stage.create_aside(NewTopic::new(ASIDE)).await?;
    stage.produce(&plain("before")).await?;
    let request = first_of_a_producer(stage, "once").await?;
    let (leader, _) = stage.leader(ASIDE).await?;
    let mut wire = stage.arena.cluster.node(leader).wire();
    // Connected before the others stop.
    wire.clone().describe_topic(ASIDE).await?;
    let followers = stage.others(leader).into_iter().collect();
    stage.arena.freeze(&followers)?;
    let answer = wire.send(v1::ProduceRequest { timeout_ms: TIMEOUT_MS, ..request.clone() }).await;
    stage.arena.thaw(&followers)?;
    if let Ok(Ok(ack)) = answer {
        return Err(format!("a leader acknowledged alone: {ack:?}").into());
    }
    let offset = stage.produce(&request).await?.base_offset;
    stage.arena.kill(&[leader].into()).await?;
    is_known_at(stage, &request, offset).await?;
    stage.arena.start_nodes(&[leader].into())?;
    stage.arena.cluster.wait_ready().await?;
    stage.serves().await?;
    is_stored_once(stage, "once").await
}

/// A leader that is cut off holds a first try that nobody else has. The batch is sent to it again,
/// and before it hears of the others they have committed records of their own at that offset.
pub(super) async fn at_a_deposed_leader(stage: &mut Stage) -> Outcome {
    stage.create_aside(NewTopic::new(ASIDE)).await?;
    let before = stage.produce(&plain("before")).await?.base_offset;
    let request = first_of_a_producer(stage, "once").await?;
    let (leader, _) = stage.leader(ASIDE).await?;
    let mut wire = stage.arena.cluster.node(leader).wire();
    // Connected before it is alone.
    wire.clone().describe_topic(ASIDE).await?;
    let others = stage.others(leader);
    for other in &others {
        stage.arena.links.set_both(leader, *other, Link::Silent);
    }
    let short = v1::ProduceRequest { timeout_ms: TIMEOUT_MS / 2, ..request.clone() };
    if let Ok(Ok(ack)) = wire.send(short).await {
        return Err(format!("a leader acknowledged alone: {ack:?}").into());
    }
    let again = v1::ProduceRequest { timeout_ms: PATIENT_MS, ..request.clone() };
    let replaced = async {
        while stage.produce_at(&others, &plain("other")).await?.base_offset < before + 2 {}
        stage.arena.links.open_all();
        Outcome::Ok(())
    };
    let (told, replaced) = tokio::join!(wire.send(again), replaced);
    replaced?;
    if let Ok(ack) = told? {
        is_known_at(stage, &request, ack.base_offset).await?;
    }
    stage.produce(&request).await?;
    stage.serves().await?;
    is_stored_once(stage, "once").await
}

async fn is_stored_once(stage: &Stage, value: &str) -> Outcome {
    let read = stage.read_aside().await?;
    let found = read.iter().filter(|record| record.value.as_deref() == Some(value.as_bytes()));
    match found.count() {
        1 => Ok(()),
        count => Err(format!("{value:?} is stored {count} times: {read:?}").into()),
    }
}

/// The record of a batch is trimmed; the batch is sent again to other leaders, also after all nodes
/// have been killed.
pub(super) async fn across_trim(stage: &mut Stage) -> Outcome {
    let topic = NewTopic::new(ASIDE).config("segment.bytes", "64KiB");
    let topic = topic.config("max.message.bytes", "16KiB").config("retention.bytes", "64KiB");
    stage.create_aside(topic).await?;
    let request = first_of_a_producer(stage, "once").await?;
    let offset = stage.produce(&request).await?.base_offset;
    let filler = plain(&"=".repeat(8 << 10));
    eventually("retention passes the record", async || {
        stage.produce(&filler).await?;
        let (leader, _) = stage.leader(ASIDE).await?;
        let nodes = &stage.arena.cluster.nodes;
        let node = nodes.iter().find(|node| node.id == leader).ok_or("no such node")?;
        let topic = node.wire().describe_topic(ASIDE).await?;
        let start = topic.partitions.first().and_then(|partition| partition.log_start_offset);
        if start > Some(offset) {
            Ok(())
        } else {
            Err(format!("the log starts at {start:?}").into())
        }
    })
    .await?;
    is_known_at(stage, &request, offset).await?;
    let (leader, _) = stage.leader(ASIDE).await?;
    stage.arena.kill(&[leader].into()).await?;
    is_known_at(stage, &request, offset).await?;
    stage.arena.start_nodes(&[leader].into())?;
    stage.arena.cluster.wait_ready().await?;
    stage.kill_and_start_all().await?;
    is_known_at(stage, &request, offset).await?;
    stage.serves().await
}
