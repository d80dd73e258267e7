//! Consumer groups of real clusters at size: consumers that come, go and crash while coordinators
//! are killed, and what a move of partitions costs those that move and those that stay.

mod book;
mod churn;
mod feed;
mod many;
mod moves;
mod zombie;

pub use churn::{ChurnOptions, churn};
pub use many::{ManyOptions, many};
pub use moves::{MoveOptions, moves};
pub use zombie::zombie;

use std::time::Duration;

use duramen_client::{Client, GroupDescription, GroupPhase, GroupSubscription};

use crate::processes::{Outcome, eventually};

/// What all groups here read.
const TOPIC: &str = "rings";

fn subscription() -> GroupSubscription {
    GroupSubscription::topics([TOPIC])
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Waits until a group of so many members is stable.
async fn stable(client: &Client, group: &str, members: usize) -> Outcome<GroupDescription> {
    eventually(&format!("group {group} is stable with {members} members"), async || {
        let described = client.groups().describe(group).await?;
        let is_so = described.phase == GroupPhase::Stable && described.members.len() == members;
        if is_so { Ok(described) } else { Err(format!("{:?}", described.phase).into()) }
    })
    .await
}

/// A client of its own, as a process of its own would have.
async fn client_of(cluster: &[String]) -> Outcome<Client> {
    Ok(Client::connect(duramen_client::ClientOptions::new(cluster.iter().cloned())).await?)
}
