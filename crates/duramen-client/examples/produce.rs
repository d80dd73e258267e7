//! Sends lines from the arguments to a topic: `produce TOPIC LINE…`.
//!
//! The servers are in `DURAMEN_SERVERS`, separated by commas; the topic is created if missing.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;

use duramen_client::{Client, ClientOptions, ErrorCode, NewTopic, ProducerOptions, ProducerRecord};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let servers = std::env::var("DURAMEN_SERVERS").unwrap_or_else(|_| "127.0.0.1:7650".into());
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().ok_or("usage: produce TOPIC LINE…")?;

    let client = Client::connect(ClientOptions::new(servers.split(','))).await?;
    match client.admin().create_topic(NewTopic::new(&topic).partitions(3)).await {
        Err(error) if error.code() != Some(ErrorCode::TopicExists) => return Err(error.into()),
        _ => {}
    }

    let producer = client.producer(&topic, ProducerOptions::default()).await?;
    let mut deliveries = Vec::new();
    for line in arguments {
        // The part before a colon is the key: lines of one key stay in order.
        let record = match line.split_once(':') {
            Some((key, value)) => ProducerRecord::new(value.to_owned()).key(key.to_owned()),
            None => ProducerRecord::new(line),
        };
        deliveries.push(producer.send(record).await?);
    }
    for delivery in deliveries {
        let stored = delivery.await?;
        println!("{topic}-{} @ {}", stored.partition, stored.offset);
    }
    producer.close().await?;
    Ok(())
}
