//! Prints a topic from its first record to its end: `consume TOPIC`, or for ever: `consume TOPIC -f`.
//!
//! The servers are in `DURAMEN_SERVERS`, separated by commas.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;

use duramen_client::{Client, ClientOptions, ConsumerOptions, Start};
use futures::StreamExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let servers = std::env::var("DURAMEN_SERVERS").unwrap_or_else(|_| "127.0.0.1:7650".into());
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().ok_or("usage: consume TOPIC [-f]")?;
    let follow = arguments.next().as_deref() == Some("-f");

    let client = Client::connect(ClientOptions::new(servers.split(','))).await?;
    let mut options = ConsumerOptions::default().start(Start::First);
    if !follow {
        options = options.until_high_watermark();
    }
    let mut consumer = client.consumer(&topic, options).await?;
    while let Some(record) = consumer.next().await {
        let record = record?;
        let text = |field: &Option<_>| {
            field.as_ref().map_or_else(
                || "null".into(),
                |bytes: &bytes::Bytes| String::from_utf8_lossy(bytes).into_owned(),
            )
        };
        let (key, value) = (text(&record.key), text(&record.value));
        println!("{topic}-{} @ {}: {key} = {value}", record.partition, record.offset);
    }
    Ok(())
}
