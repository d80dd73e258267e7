//! Admin calls against a fake cluster.

use std::time::Duration;

use super::*;
use crate::fake::{Fake, Fault};
use crate::{Client, ClientOptions, ErrorKind};

#[tokio::test]
async fn topics_are_created_changed_listed_and_deleted() {
    let fake = Fake::start(3).await;
    let admin = fake.client().await.admin();
    let created = admin.create_topic(NewTopic::new("b").partitions(4)).await.unwrap();
    assert_eq!((created.partitions.len(), created.id), (4, TopicId::from_bytes([1; 16])));
    admin.create_topic(NewTopic::new("a")).await.unwrap();
    let names = |topics: Vec<TopicDescription>| {
        topics.into_iter().map(|topic| topic.name).collect::<Vec<_>>()
    };
    assert_eq!(names(admin.list_topics().await.unwrap()), ["a", "b"]);
    let set = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
    let altered = admin.alter_topic("a", set, vec![]).await.unwrap();
    assert_eq!(
        (altered.config[0].name.as_str(), altered.config[0].explicit),
        ("retention.ms", true)
    );
    let altered = admin.alter_topic("a", BTreeMap::new(), vec!["retention.ms".into()]).await;
    assert!(altered.unwrap().config.is_empty());
    admin.delete_topic("b").await.unwrap();
    assert_eq!(names(admin.list_topics().await.unwrap()), ["a"]);
    let error = admin.delete_topic("b").await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownTopic { .. }), "{error:?}");
    let error = admin.create_topic(NewTopic::new("a")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicExists));
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_is_not_an_error_the_second_time() {
    let fake = Fake::start(2).await;
    let admin = fake.client().await.admin();
    fake.lock().admin_faults.push_back(Fault::StoreAndDrop);
    let topic = admin.create_topic(NewTopic::new("t").partitions(2)).await.unwrap();
    assert_eq!(topic.partitions.len(), 2);
    fake.lock().admin_faults.push_back(Fault::StoreAndDrop);
    admin.delete_topic("t").await.unwrap();
    assert!(fake.lock().topics.is_empty());
    // Another topic of the name with other partitions is not taken for the one created.
    fake.lock().create("t", 3);
    let faults = [Fault::Refuse(ErrorCode::UnknownOutcome), Fault::None];
    fake.lock().admin_faults.extend(faults);
    let error = admin.create_topic(NewTopic::new("t").partitions(2)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicExists));
}

#[tokio::test]
async fn calls_go_on_while_the_cluster_is_busy_and_end_with_a_typed_error() {
    let fake = Fake::start(2).await;
    let options = ClientOptions { request_timeout: Duration::from_millis(200), ..fake.options() };
    let client = Client::with_env(fake.env.clone(), options).await.unwrap();
    fake.lock()
        .admin_faults
        .extend([Fault::Refuse(ErrorCode::Unavailable), Fault::Refuse(ErrorCode::ShuttingDown)]);
    assert!(client.admin().list_topics().await.unwrap().is_empty());
    let busy = std::iter::repeat_n(Fault::Refuse(ErrorCode::Overloaded), 100);
    fake.lock().admin_faults.extend(busy);
    let error = client.admin().list_topics().await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { maybe_done: false, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Retry);
}

#[tokio::test]
async fn a_seed_that_is_down_is_passed_over_and_none_at_all_is_a_timeout() {
    let fake = Fake::start(1).await;
    let alive = fake.options().seeds[0].clone();
    let closed = {
        let listener = fake.env.net.listen("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let options = |seeds: &[&String]| ClientOptions {
        request_timeout: Duration::from_millis(300),
        ..ClientOptions::new(seeds.iter().map(|seed| seed.as_str()))
    };
    let client = Client::with_env(fake.env.clone(), options(&[&closed, &alive])).await.unwrap();
    assert_eq!(client.cluster_id(), ClusterId::from_bytes([9; 16]));
    let error = Client::with_env(fake.env.clone(), options(&[&closed])).await.unwrap_err();
    let ClientError::Timeout { last: Some(last), .. } = &error else { panic!("{error:?}") };
    assert!(matches!(**last, ClientError::Connection { .. }), "{last:?}");
    let error = Client::connect(ClientOptions::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::InvalidOption { option: "seeds", .. }), "{error:?}");
}

#[tokio::test]
async fn offsets_come_from_all_leaders() {
    let fake = Fake::with_topic(3, 5).await;
    for partition in 0..5 {
        for _ in 0..=partition {
            fake.store(partition, &["a", "b"], duramen_record::Compression::None);
        }
    }
    let client = fake.client().await;
    fake.move_leader(4, 1);
    let ends = client.admin().list_offsets("t", &BTreeMap::new()).await.unwrap();
    let ends: Vec<u64> = ends.values().map(|found| found.offset.get()).collect();
    assert_eq!(ends, [2, 4, 6, 8, 10]);
    let asked = BTreeMap::from([(PartitionId::new(9), Start::First)]);
    let error = client.admin().list_offsets("t", &asked).await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownPartition { .. }), "{error:?}");
}
