//! Scenarios of who may form a majority: with what was acknowledged, or not at all.

use std::time::Duration;

use duramen_client::NewTopic;
use duramen_proto::v1;

use super::stage::{ASIDE, Stage};
use crate::processes::Outcome;

/// How long a leader may take to answer a produce that it must not acknowledge.
const ALONE_MS: u32 = 1_500;

/// How long a stale node misses what is written.
const STALE: Duration = Duration::from_secs(1);

/// A pauses, X is killed, the rest pause; A goes on and X is started again; then the rest go on.
pub(super) async fn stale_and_restarted(stage: &mut Stage) -> Outcome {
    for turn in 0..stage.turns {
        let ids = stage.arena.ids();
        let place = |step: usize| ids.get((turn + step) % ids.len()).copied().unwrap_or(1);
        let (stale, restarted, rest) = (place(0), place(1), place(2));
        stage.arena.freeze(&[stale].into())?;
        stage.serves().await?;
        // Written on for a while, so that the stale node misses more than what is in flight.
        tokio::time::sleep(STALE).await;
        stage.serves().await?;
        stage.arena.kill(&[restarted].into()).await?;
        stage.arena.freeze(&[rest].into())?;
        stage.arena.thaw(&[stale].into())?;
        stage.arena.start_nodes(&[restarted].into())?;
        stage.serves().await?;
        stage.arena.thaw(&[rest].into())?;
        stage.serves().await?;
        stage.arena.cluster.wait_ready().await?;
    }
    Ok(())
}

/// All nodes are killed in one stroke, again and again.
pub(super) async fn all_at_once(stage: &mut Stage) -> Outcome {
    for _ in 0..2 * stage.turns {
        stage.kill_and_start_all().await?;
        stage.serves().await?;
    }
    Ok(())
}

/// The leader's followers are killed, so it is the last replica; then it is killed and they are
/// started.
pub(super) async fn last_replica(stage: &mut Stage) -> Outcome {
    stage.create_aside(NewTopic::new(ASIDE)).await?;
    let (last, _) = stage.leader(ASIDE).await?;
    let mut wire = stage.arena.cluster.node(last).wire();
    let kept = stage.produce(&plain("kept")).await?.base_offset;
    let followers = stage.others(last).into_iter().collect();
    stage.arena.kill(&followers).await?;
    let alone = v1::ProduceRequest { timeout_ms: ALONE_MS, ..plain("alone") };
    if let Ok(Ok(ack)) = wire.send(alone).await {
        return Err(format!("a leader acknowledged alone: {ack:?}").into());
    }
    stage.arena.kill(&[last].into()).await?;
    stage.arena.start_nodes(&followers)?;
    let next = stage.produce(&plain("next")).await?.base_offset;
    if next != kept + 1 {
        return Err(format!("offset {next} follows {kept}, though nothing lies between").into());
    }
    stage.arena.start_nodes(&[last].into())?;
    stage.arena.cluster.wait_ready().await?;
    stage.serves().await?;
    stage.arena.cluster.wait_in_sync(ASIDE, 3).await?;
    let values: Vec<_> =
        stage.read_aside().await?.into_iter().filter_map(|record| record.value).collect();
    if values != ["kept", "next"] {
        return Err(format!("the topic holds {values:?}").into());
    }
    Ok(())
}

/// A produce of one record without a producer id.
pub(super) fn plain(value: &str) -> v1::ProduceRequest {
    let value = Some(bytes::Bytes::copy_from_slice(value.as_bytes()));
    let record = v1::Record { value, ..v1::Record::default() };
    let records = v1::RecordList::new(vec![record]);
    v1::ProduceRequest {
        topic: ASIDE.to_owned(),
        timeout_ms: 5_000,
        payload: Some(v1::produce_request::Payload::Records(records)),
        ..v1::ProduceRequest::default()
    }
}
