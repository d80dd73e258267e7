//! Why a group makes no progress: each cause is named.

use duramen_client::{Client, ErrorCode, NewTopic};
use duramen_proto::v1;
use duramen_tests::processes::{Cluster, Member, Outcome, coordinator, eventually};

use crate::{cluster_with, commit, describe, offset_of, produce, produce_values};

const TOPIC: &str = "rings";

/// Waits until the group as a whole is said to wait for a reason.
async fn said(cluster: &Cluster, group: &str, code: &str) -> Outcome<String> {
    eventually(&format!("{group}: {code}"), async || {
        let described = describe(cluster, group).await?.map_err(|error| error.message)?;
        let found = described.reasons.iter().find(|reason| reason.code == code);
        Ok(found.ok_or_else(|| format!("{:?}", described.reasons))?.text.clone())
    })
    .await
}

/// Waits until a partition of the group is said to wait for a reason.
async fn said_of(
    cluster: &Cluster,
    (group, topic, partition): (&str, &str, u32),
    code: &str,
) -> Outcome<String> {
    eventually(&format!("{group}, {topic}-{partition}: {code}"), async || {
        let described = describe(cluster, group).await?.map_err(|error| error.message)?;
        let found = described.partitions.iter().find(|found| {
            let of = found.partition.as_ref();
            of.is_some_and(|of| of.topic == topic && of.partition == partition)
        });
        let reason = found.and_then(|found| found.reason.as_ref()).ok_or("it is not there")?;
        if reason.code == code {
            Ok(reason.text.clone())
        } else {
            Err(format!("{reason:?}").into())
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cause_of_every_stuck_group_is_named() {
    let (mut cluster, client) = cluster_with(TOPIC, 2).await.unwrap();
    produce(&cluster, TOPIC, 0, 5).await.unwrap();

    let unknown = describe(&cluster, "nobody").await.unwrap().unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::UnknownGroup);

    commit(&cluster, "left", TOPIC, 2).await.unwrap();
    said(&cluster, "left", "no-members").await.unwrap();
    said_of(&cluster, ("left", TOPIC, 0), "no-members").await.unwrap();

    let _nothing = Member::join(&cluster, "typo", "m", &["rinks"]).await.unwrap();
    said(&cluster, "typo", "nothing-matches").await.unwrap();

    of_members(&cluster).await.unwrap();
    of_offsets(&cluster).await.unwrap();
    of_the_log(&mut cluster, &client).await.unwrap();
    cluster.passed();
}

/// Causes that lie with members.
async fn of_members(cluster: &Cluster) -> Outcome {
    // Three members for two partitions.
    let mut first = Member::join(cluster, "crowd", "first", &[TOPIC]).await?;
    first.reads(2).await?;
    let mut second = Member::join(cluster, "crowd", "second", &[TOPIC]).await?;
    first.revoked().await?;
    let text = said(cluster, "crowd", "waits-for-revocation").await?;
    assert!(text.contains("rings-") && text.contains("waits for first"), "{text}");
    first.give_back();
    second.reads(1).await?;
    let _third = Member::join(cluster, "crowd", "third", &[TOPIC]).await?;
    said(cluster, "crowd", "idle").await?;

    // One that was heard of once, of a session of four seconds.
    let mut silent = Member::join_for(cluster, "quiet", ("silent", 4_000), &[TOPIC]).await?;
    silent.reads(2).await?;
    let text = said(cluster, "quiet", "silent").await?;
    assert!(text.contains("silent was not heard of"), "{text}");
    said(cluster, "quiet", "no-members").await?;
    let fenced = silent.beat(1).await?.err().ok_or("it is still a member")?;
    assert_eq!(fenced.code(), ErrorCode::UnknownMember);
    // It does not listen, and comes again as who it was.
    let zombie = v1::JoinGroup {
        group: "quiet".to_owned(),
        member_id: "silent".to_owned(),
        subscription: Some(v1::Subscription::default()),
        epoch: silent.told.epoch,
        ..v1::JoinGroup::default()
    };
    assert!(Member::join_as(cluster, zombie).await.is_err());
    said(cluster, "quiet", "fenced").await?;

    let mut gone = Member::join_static(cluster, "restart", ("a", "one"), &[TOPIC]).await?;
    gone.reads(2).await?;
    gone.leave(true).await?;
    said(cluster, "restart", "away").await?;
    Ok(())
}

/// Causes that lie with what is committed.
async fn of_offsets(cluster: &Cluster) -> Outcome {
    let mut member = Member::join(cluster, "offsets", "m", &[TOPIC]).await?;
    member.reads(2).await?;
    let at = ("offsets", TOPIC, 0);
    said_of(cluster, at, "never-committed").await?;
    let epoch = member.told.epoch;
    member.commit((TOPIC, 0), 3, epoch).await?;
    let text = said_of(cluster, at, "reading").await?;
    assert!(text.ends_with("2 records behind"), "{text}");
    member.commit((TOPIC, 0), 5, epoch).await?;
    said_of(cluster, at, "at-end").await?;
    let (_, mut wire) = coordinator(cluster, "offsets").await?;
    let (group, offsets) = ("offsets".to_owned(), vec![offset_of(TOPIC, 0, 50)]);
    wire.groups.reset_offsets(v1::ResetOffsetsRequest { group, offsets, fence: None }).await?;
    said_of(cluster, at, "past-end").await?;
    Ok(())
}

/// Causes that lie with the log or its leader.
async fn of_the_log(cluster: &mut Cluster, client: &Client) -> Outcome {
    let admin = client.admin();
    let small = NewTopic::new("small")
        .config("segment.bytes", "64KiB")
        .config("max.message.bytes", "16KiB")
        .config("retention.bytes", "64KiB");
    admin.create_topic(small.replication_factor(3)).await?;
    let mut member = Member::join_for(cluster, "slow", ("m", 300_000), &["small"]).await?;
    member.reads(1).await?;
    let epoch = member.told.epoch;
    member.commit(("small", 0), 1, epoch).await?;
    // More than two segments.
    produce_values(cluster, "small", 0, &vec!["x".repeat(12_000); 20]).await?;
    let text = said_of(cluster, ("slow", "small", 0), "below-log-start").await?;
    assert!(text.contains("is committed up to 1"), "{text}");
    member.leave(false).await?;

    // A topic with one replica, on a node that coordinates something else and goes.
    let (coordinates, _) = coordinator(cluster, "blind").await?;
    let mut made = 0_u64;
    let (name, node) = loop {
        let name = format!("single-{made}");
        made += 1;
        let topic = admin.create_topic(NewTopic::new(&name).replication_factor(1)).await?;
        let node = topic.partitions[0].replicas[0].get();
        if node != coordinates {
            break (name, node);
        }
    };
    let mut member = Member::join(cluster, "blind", "m", &[&name]).await?;
    member.reads(1).await?;
    let epoch = member.told.epoch;
    member.commit((&name, 0), 0, epoch).await?;
    cluster.node(node).kill().await?;
    said_of(cluster, ("blind", &name, 0), "no-leader").await?;
    Ok(())
}
