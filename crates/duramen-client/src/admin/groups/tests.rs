//! Group calls against a fake cluster.

use super::*;
use crate::fake::{Fake, Fault};
use crate::{Compression, ReplayOptions, Start};

const P0: PartitionId = PartitionId::new(0);

/// Two partitions with ten records each; group `g` is at 4 in the first.
async fn fake() -> Fake {
    let fake = Fake::in_memory(2, 2).await;
    for partition in 0..2 {
        let values: Vec<String> = (0..10).map(|value| value.to_string()).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        fake.store(partition, &values, Compression::None);
    }
    fake.with_group(|group| group.commit(0, 4));
    fake
}

fn at(plan: &ResetPlan) -> Vec<(u32, u64, Option<Clamp>)> {
    let place =
        |step: &ResetStep| (step.to.partition.partition.get(), step.to.offset.get(), step.clamped);
    plan.steps.iter().map(place).collect()
}

#[tokio::test(start_paused = true)]
async fn a_plan_says_where_it_goes_and_stays_within_what_is_kept() {
    let fake = fake().await;
    fake.lock().partition("t", 0).log_start = 2;
    let groups = fake.client().await.groups();
    let plan = async |to: ResetTo| groups.plan_reset("g", &ResetScope::All, &to).await.unwrap();
    assert_eq!(at(&plan(ResetTo::Earliest).await), [(0, 2, None)]);
    assert_eq!(at(&plan(ResetTo::Latest).await), [(0, 10, None)]);
    assert_eq!(at(&plan(ResetTo::Current).await), [(0, 4, None)]);
    assert_eq!(at(&plan(ResetTo::Shift(3)).await), [(0, 7, None)]);
    let early = Some(Clamp::ToLogStart(-1));
    assert_eq!(at(&plan(ResetTo::Shift(-5)).await), [(0, 2, early)]);
    let late = Some(Clamp::ToHighWatermark(99));
    assert_eq!(at(&plan(ResetTo::Offset(Offset::new(99))).await), [(0, 10, late)]);
    let whole = ResetScope::Only(vec![("t".into(), None)]);
    let plan = groups.plan_reset("g", &whole, &ResetTo::Shift(1)).await.unwrap();
    assert_eq!((at(&plan), plan.skipped.len()), (vec![(0, 5, None)], 1));
    assert_eq!(plan.skipped[0].1, SkipReason::NeverCommitted);
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_applied_unless_the_group_has_changed() {
    let fake = fake().await;
    let groups = fake.client().await.groups();
    let exported = groups.export("g").await.unwrap();
    let plan = groups.plan_reset("g", &ResetScope::All, &ResetTo::Earliest).await.unwrap();
    fake.with_group(|group| group.fence += 1);
    let error = groups.apply(&plan, false).await.unwrap_err();
    assert!(matches!(error, ClientError::GroupChanged { .. }), "{error:?}");
    groups.apply(&plan, true).await.unwrap();
    assert_eq!(fake.with_group(|group| group.committed_offset(0)), Some(0));
    let back = ResetTo::Exported(exported);
    let plan = groups.plan_reset("g", &ResetScope::All, &back).await.unwrap();
    // The answer is lost, and the fence has moved by the time of the second attempt. The call that
    // finds the coordinator is not asked again.
    fake.lock().admin_faults.push_back(Fault::StoreAndDrop);
    groups.apply(&plan, false).await.unwrap();
    assert_eq!(fake.with_group(|group| group.committed_offset(0)), Some(4));
}

#[tokio::test(start_paused = true)]
async fn groups_are_listed_from_all_nodes_and_missing_shards_are_named() {
    let fake = fake().await;
    let groups = fake.client().await.groups();
    fake.lock().shard_count = 3;
    let list = groups.list().await.unwrap();
    assert_eq!((list.groups.len(), list.shards_missing), (1, vec![2]));
    assert!(groups.commit("g", &[], Some(7)).await.is_err());
    groups.delete_group("g").await.unwrap();
    let error = groups.describe("g").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownGroup));
}

#[tokio::test(start_paused = true)]
async fn a_replay_ends_where_it_was_to_and_goes_on_where_it_was() {
    let fake = fake().await;
    let client = fake.client().await;
    let options = ReplayOptions {
        from: Start::Offset(Offset::new(3)),
        partitions: Some(vec![P0]),
        records_per_second: Some(10),
        ..ReplayOptions::default()
    };
    let started = tokio::time::Instant::now();
    let mut replay = client.replay("g", "x", "t", options.clone()).await.unwrap();
    for at in 3..6 {
        assert_eq!(replay.next().await.unwrap().unwrap().offset.get(), at);
    }
    assert!(started.elapsed().as_millis() >= 200);
    replay.close().await.unwrap();
    fake.store(0, &["later"], Compression::None);
    let mut replay = client.replay("g", "x", "t", options).await.unwrap();
    let mut seen = Vec::new();
    while let Some(record) = replay.next().await {
        seen.push(record.unwrap().offset.get());
    }
    assert_eq!(seen, [6, 7, 8, 9]);
    replay.close().await.unwrap();
    assert_eq!(fake.lock().group("g.replay.x").committed_offset(0), Some(10));
    assert_eq!(fake.with_group(|group| group.committed_offset(0)), Some(4));
}
