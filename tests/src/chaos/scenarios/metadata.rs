//! A scenario of topics: what was answered about them survives the death of all nodes.

use duramen_client::NewTopic;

use super::stage::Stage;
use crate::processes::{Outcome, eventually};

/// Creates topics, deletes every second one, and kills all nodes after each answer.
pub(super) async fn topics_are_not_forgotten(stage: &mut Stage) -> Outcome {
    let mut expected = names(stage).await?;
    for turn in 0..2 * stage.turns {
        let name = format!("kept-{turn}");
        let topic = NewTopic::new(name.clone()).partitions(2).replication_factor(3);
        stage.client.admin().create_topic(topic).await?;
        expected.push(name.clone());
        stage.kill_and_start_all().await?;
        are_there(stage, &expected).await?;
        if turn % 2 == 1 {
            stage.client.admin().delete_topic(&name).await?;
            expected.retain(|other| *other != name);
            stage.kill_and_start_all().await?;
            are_there(stage, &expected).await?;
        }
    }
    stage.serves().await
}

/// The names of all topics, sorted.
pub(super) async fn names(stage: &Stage) -> Outcome<Vec<String>> {
    let topics = stage.client.admin().list_topics().await?;
    let mut names: Vec<_> = topics.into_iter().map(|topic| topic.name).collect();
    names.sort();
    Ok(names)
}

/// Waits until the topics are these, and no others.
pub(super) async fn are_there(stage: &Stage, expected: &[String]) -> Outcome {
    let mut expected = expected.to_vec();
    expected.sort();
    eventually("the topics are as they were", async || {
        let found = names(stage).await?;
        if found == expected { Ok(()) } else { Err(format!("{found:?}").into()) }
    })
    .await
}
