//! Describes the cluster and its topics; `admin create TOPIC PARTITIONS` and `admin delete TOPIC`
//! change them.
//!
//! The servers are in `DURAMEN_SERVERS`, separated by commas.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::collections::BTreeMap;
use std::error::Error;

use duramen_client::{Admin, Client, ClientOptions, NewTopic};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let servers = std::env::var("DURAMEN_SERVERS").unwrap_or_else(|_| "127.0.0.1:7650".into());
    let client = Client::connect(ClientOptions::new(servers.split(','))).await?;
    let admin = client.admin();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => describe(&admin).await,
        ["create", topic, partitions] => {
            let topic = NewTopic::new(topic).partitions(partitions.parse()?);
            println!("created {}", admin.create_topic(topic).await?.id);
            Ok(())
        }
        ["delete", topic] => Ok(admin.delete_topic(topic).await?),
        _ => Err("usage: admin [create TOPIC PARTITIONS | delete TOPIC]".into()),
    }
}

async fn describe(admin: &Admin) -> Result<(), Box<dyn Error>> {
    let cluster = admin.describe_cluster().await?;
    println!("cluster {}", cluster.id);
    for node in cluster.nodes {
        let state = if node.alive { "alive" } else { "not heard from" };
        println!("  node {} at {}: {state}", node.id, node.address);
    }
    for topic in admin.list_topics().await? {
        println!("topic {} ({})", topic.name, topic.id);
        let offsets = admin.list_offsets(&topic.name, &BTreeMap::new()).await?;
        for partition in topic.partitions {
            let leader = partition.leader.map_or_else(|| "none".into(), |node| node.to_string());
            let end = offsets.get(&partition.id).map(|offsets| offsets.high_watermark);
            let end = end.map_or_else(|| "unknown".into(), |end| end.to_string());
            println!("  partition {}: leader {leader}, end {end}", partition.id);
        }
    }
    Ok(())
}
