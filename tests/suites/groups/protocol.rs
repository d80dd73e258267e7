//! The protocol between member and coordinator, by hand.

use std::collections::BTreeSet;

use duramen_client::{ErrorCode, NewTopic};
use duramen_proto::v1;
use duramen_proto::v1::GroupPhase;
use duramen_proto::v1::member_response::Response;
use duramen_tests::processes::{
    Cluster, Member, Node, Outcome, coordinator, eventually, free_addresses, refused,
};

use crate::{cluster_with, describe, offset_of, produce, program};

const TOPIC: &str = "rings";

async fn stable(cluster: &Cluster, group: &str) -> Outcome<v1::DescribeGroupResponse> {
    eventually("a group is stable", async || {
        let described = describe(cluster, group).await?.map_err(|error| error.message)?;
        match described.phase() {
            GroupPhase::Stable => Ok(described),
            other => Err(format!("{other:?}").into()),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_move_one_by_one_and_commits_are_fenced() {
    let (cluster, _client) = cluster_with(TOPIC, 6).await.unwrap();
    let mut first = Member::join(&cluster, "g", "first", &[TOPIC]).await.unwrap();
    let before = first.reads(6).await.unwrap();
    let old_epoch = first.told.epoch;
    assert_eq!(first.commit((TOPIC, 0), 0, old_epoch).await.unwrap(), None);

    // Another one joins: three partitions are to be given back, three are not touched.
    let mut second = Member::join(&cluster, "g", "second", &[TOPIC]).await.unwrap();
    let revoked = first.revoked().await.unwrap();
    assert_eq!((revoked.len(), first.partitions().len()), (3, 3));
    assert_eq!(second.told.granted, [], "what the first has not given back");
    let described = describe(&cluster, "g").await.unwrap().unwrap();
    assert_eq!(described.phase(), GroupPhase::Reconciling);

    // What is revoked can be committed until it is given back, not afterwards.
    let (kept, moved) = (first.partitions(), revoked.first().unwrap().1);
    assert_eq!(first.commit((TOPIC, moved), 7, old_epoch).await.unwrap(), None);
    first.give_back();
    let got = second.reads(3).await.unwrap();
    assert_eq!(got, revoked);
    let committed = second.told.granted.iter().find(|granted| {
        granted.partition.as_ref().is_some_and(|partition| partition.partition == moved)
    });
    assert_eq!(committed.unwrap().committed.as_ref().unwrap().offset, 7, "where the first was");
    let late = first.commit((TOPIC, moved), 9, old_epoch).await.unwrap();
    assert_eq!(late, Some(ErrorCode::PartitionNotHeld), "it is the other's");
    let union: BTreeSet<_> = kept.union(&got).cloned().collect();
    assert_eq!(union, before, "every partition has one reader");
    // What stays is not disturbed: its commits under the old epoch are still taken.
    assert_eq!(first.commit((TOPIC, kept.first().unwrap().1), 3, old_epoch).await.unwrap(), None);
    // An offset does not go back.
    let epoch = second.told.epoch;
    let behind = second.commit((TOPIC, moved), 5, epoch).await.unwrap();
    assert_eq!(behind, Some(ErrorCode::OffsetBehind));
    let described = stable(&cluster, "g").await.unwrap();
    assert_eq!(described.members.len(), 2);

    // It leaves: the other has everything at once, without a session to wait for.
    second.leave(false).await.unwrap();
    assert_eq!(first.settle(6).await.unwrap(), before);
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_assignor_that_is_configured_says_who_reads_what() {
    let addresses = free_addresses(1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new(&program(), dir.path(), 1, &addresses);
    node.set_option("--group-assignor", "range");
    let cluster = Cluster::of(&program(), dir, vec![node]).await.unwrap();
    let topics = ["orders", "payments"];
    let client = cluster.client().await.unwrap();
    for topic in topics {
        let topic = NewTopic::new(topic).partitions(3).replication_factor(1);
        client.admin().create_topic(topic).await.unwrap();
    }
    // Ranges put the same partitions of both topics together: four and two, which the uniform
    // assignor would not.
    let mut first = Member::join(&cluster, "g", "a", &topics).await.unwrap();
    first.reads(6).await.unwrap();
    let mut second = Member::join(&cluster, "g", "b", &topics).await.unwrap();
    let moved = first.revoked().await.unwrap();
    first.give_back();
    assert_eq!(moved, topics.map(|topic| (topic.to_owned(), 2)).into());
    assert_eq!(second.reads(2).await.unwrap(), moved);
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_streams_of_a_member_the_later_one_counts() {
    let (cluster, _client) = cluster_with(TOPIC, 2).await.unwrap();
    let mut first = Member::join(&cluster, "g", "m", &[TOPIC]).await.unwrap();
    first.reads(2).await.unwrap();
    let again = v1::JoinGroup {
        group: "g".to_owned(),
        member_id: "m".to_owned(),
        subscription: Some(v1::Subscription::default()),
        epoch: first.told.epoch,
        ..v1::JoinGroup::default()
    };
    let mut second = Member::join_as(&cluster, again).await.unwrap();
    // Streams may arrive in another order than the member opened them: it has to be able to try
    // again, and is no less a member for it.
    let Response::Error(error) = first.answer().await.unwrap() else { panic!("it goes on") };
    assert_eq!(error.code(), ErrorCode::Unavailable, "{error:?}");
    assert_eq!(second.told.epoch, first.told.epoch);
    second.beat(1).await.unwrap().unwrap();
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_comes_back_to_what_it_had() {
    let (cluster, _client) = cluster_with(TOPIC, 4).await.unwrap();
    let mut one = Member::join_static(&cluster, "g", ("one-a", "one"), &[TOPIC]).await.unwrap();
    one.reads(4).await.unwrap();
    let mut two = Member::join_static(&cluster, "g", ("two-a", "two"), &[TOPIC]).await.unwrap();
    one.revoked().await.unwrap();
    one.give_back();
    let had = two.reads(2).await.unwrap();
    two.leave(true).await.unwrap();
    let described = describe(&cluster, "g").await.unwrap().unwrap();
    let away: Vec<bool> = described.members.iter().map(|member| member.away).collect();
    assert_eq!(away, [false, true], "its partitions wait for it");
    let mut back = Member::join_static(&cluster, "g", ("two-b", "two"), &[TOPIC]).await.unwrap();
    assert_eq!(back.reads(2).await.unwrap(), had);
    // A third life takes over from one that still runs, and that one is fenced.
    let mut third = Member::join_static(&cluster, "g", ("two-c", "two"), &[TOPIC]).await.unwrap();
    assert_eq!(third.reads(2).await.unwrap(), had);
    let fenced = back.beat(1).await.unwrap().unwrap_err();
    assert_eq!(fenced.code(), ErrorCode::UnknownMember);
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_follows_topics_that_come_and_go() {
    let (cluster, client) = cluster_with("orders-eu", 2).await.unwrap();
    let mut member = Member::join_matching(&cluster, "g", "m", "orders-.*").await.unwrap();
    assert_eq!(member.reads(2).await.unwrap().len(), 2);
    let admin = client.admin();
    admin.create_topic(NewTopic::new("orders-us").partitions(3)).await.unwrap();
    let topics: BTreeSet<String> =
        member.settle(5).await.unwrap().into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(topics, BTreeSet::from(["orders-eu".to_owned(), "orders-us".to_owned()]));
    admin.create_topic(NewTopic::new("payments")).await.unwrap();
    admin.delete_topic("orders-eu").await.unwrap();
    let left = member.settle(3).await.unwrap();
    assert!(left.iter().all(|(topic, _)| topic == "orders-us"), "{left:?}");

    let bad = Member::join_matching(&cluster, "h", "m", "orders-(").await.unwrap_err();
    assert!(bad.to_string().contains("pattern"), "{bad}");
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_group_is_reset_and_fenced() {
    let (cluster, _client) = cluster_with(TOPIC, 2).await.unwrap();
    produce(&cluster, TOPIC, 0, 10).await.unwrap();
    let mut member = Member::join(&cluster, "g", "m", &[TOPIC]).await.unwrap();
    member.reads(2).await.unwrap();
    let epoch = member.told.epoch;
    assert_eq!(member.commit((TOPIC, 0), 8, epoch).await.unwrap(), None);
    let described = stable(&cluster, "g").await.unwrap();
    let found = described.partitions.iter().find(|p| p.partition.as_ref().unwrap().partition == 0);
    assert_eq!(found.unwrap().lag_records, Some(2), "{found:?}");

    let (_, mut wire) = coordinator(&cluster, "g").await.unwrap();
    let reset = |fence| v1::ResetOffsetsRequest {
        group: "g".to_owned(),
        offsets: vec![offset_of(TOPIC, 0, 3)],
        fence: Some(fence),
    };
    let stale = wire.groups.reset_offsets(reset(described.fence + 7)).await.unwrap_err();
    assert_eq!(refused(&stale).unwrap().code(), ErrorCode::GroupChanged);
    wire.groups.reset_offsets(reset(described.fence)).await.unwrap();
    // The member is told to go on at the offset that was set, and what it read before is void.
    member.assigned().await.unwrap();
    let granted = member.told.granted.iter().find(|granted| granted.since > epoch).unwrap();
    assert_eq!(granted.committed.as_ref().unwrap().offset, 3);
    assert_eq!(member.told.granted.len(), 2);
    let void = member.commit((TOPIC, 0), 9, epoch).await.unwrap();
    assert_eq!(void, Some(ErrorCode::PartitionNotHeld));
    assert_eq!(member.commit((TOPIC, 1), 0, epoch).await.unwrap(), None, "it was not reset");
    let epoch = member.told.epoch;
    assert_eq!(member.commit((TOPIC, 0), 4, epoch).await.unwrap(), None);
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_and_membership_survive_the_coordinator() {
    let (mut cluster, _client) = cluster_with(TOPIC, 4).await.unwrap();
    let mut member = Member::join(&cluster, "g", "m", &[TOPIC]).await.unwrap();
    member.reads(4).await.unwrap();
    let epoch = member.told.epoch;
    for partition in 0..4 {
        let offset = 10 + u64::from(partition);
        assert_eq!(member.commit((TOPIC, partition), offset, epoch).await.unwrap(), None);
    }
    let (node, _) = coordinator(&cluster, "g").await.unwrap();
    cluster.node(node).kill().await.unwrap();
    // Its stream breaks; it goes on with its epoch at the next coordinator.
    let join = v1::JoinGroup {
        group: "g".to_owned(),
        member_id: "m".to_owned(),
        subscription: Some(v1::Subscription::default()),
        epoch,
        ..v1::JoinGroup::default()
    };
    let mut again = eventually("the next coordinator takes it", async || {
        Member::join_as(&cluster, join.clone()).await
    })
    .await
    .unwrap();
    assert_eq!(again.told.epoch, epoch, "nothing has changed for it");
    let committed: Vec<u64> = again
        .told
        .granted
        .iter()
        .filter_map(|granted| Some(granted.committed.as_ref()?.offset))
        .collect();
    assert_eq!(committed, [10, 11, 12, 13]);
    assert_eq!(again.commit((TOPIC, 2), 20, epoch).await.unwrap(), None);
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_not_heard_of_loses_its_partitions() {
    let (cluster, _client) = cluster_with(TOPIC, 4).await.unwrap();
    let mut silent = Member::join_for(&cluster, "g", ("silent", 1_000), &[TOPIC]).await.unwrap();
    silent.reads(4).await.unwrap();
    let epoch = silent.told.epoch;
    let mut other = Member::join(&cluster, "g", "other", &[TOPIC]).await.unwrap();
    // It neither gives back nor is it heard of: after its session the other one has all.
    assert_eq!(other.reads(4).await.unwrap().len(), 4);
    let refusal = silent.commit((TOPIC, 0), 5, epoch).await.unwrap();
    assert_eq!(refusal, Some(ErrorCode::UnknownMember));
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_has_the_groups_again() {
    let (mut cluster, client) = cluster_with(TOPIC, 2).await.unwrap();
    let commit = async |cluster: &Cluster, group: &str, offset: u64| {
        let (_, mut wire) = coordinator(cluster, group).await?;
        let offsets = vec![offset_of(TOPIC, 1, offset)];
        let group = group.to_owned();
        let request = v1::CommitOffsetsRequest { group, offsets, fence: None };
        Outcome::Ok(wire.groups.commit_offsets(request).await?)
    };
    let groups: Vec<String> = (0..40).map(|number| format!("group-{number}")).collect();
    for (offset, group) in (1..).zip(&groups) {
        commit(&cluster, group, offset).await.unwrap();
    }
    let node = cluster.node(3);
    node.kill().await.unwrap();
    std::fs::remove_dir_all(&node.dir).unwrap();
    node.start().unwrap();
    cluster.wait_ready().await.unwrap();
    cluster.wait_in_sync("__duramen_groups", 3).await.unwrap();
    // The other two cannot do it without the new one any more.
    cluster.node(1).kill().await.unwrap();
    for (offset, group) in (1..).zip(&groups) {
        let described = eventually("the group is served", async || {
            Ok(describe(&cluster, group).await?.map_err(|error| error.message)?)
        })
        .await
        .unwrap();
        let committed = described.partitions[0].committed.as_ref().map(|found| found.offset);
        assert_eq!(committed, Some(offset), "{group}");
    }
    drop(client);
    cluster.passed();
}
