//! Work for Redis Streams, through redis-rs: its connection takes in requests while others are
//! under way, keeps their order and reads large answers piece by piece. A partition is a stream
//! of its own.

mod reader;
mod sender;

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::payload::Payloads;
use crate::received::Received;
use crate::report::{Counted, Tally, Window, meter};
use crate::schedule::Schedule;
use crate::{Error, Load};
use reader::Reader;
use sender::Sender;

/// How long the server may take to come up.
const READY: Duration = Duration::from_secs(60);

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer may take, also one that waits for records.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a consumer waits before it looks around.
const LOOK: Duration = Duration::from_millis(50);

/// Records sent at once when it is to be fast.
const PIPELINE_RECORDS: usize = 1000;

/// The name of the only field of a record.
const VALUE: &str = "v";

/// Measures.
pub(crate) fn produce(load: &Load) -> Result<Counted, Error> {
    Runtime::new()?.block_on(async {
        let connection = ready(load).await?;
        let window = Window::new(load);
        let mut sender = Sender::new(connection, load, PIPELINE_RECORDS, window)?;
        let metering = meter(window, &load.pids);
        let mut payloads = Payloads::new(load.size());
        let mut number = 0;
        while !window.is_over() {
            sender.send(number, payloads.next()).await;
            number += 1;
        }
        let (tally, _) = sender.finish().await;
        Ok(Counted { tally, metered: metering.read()? })
    })
}

/// Measures.
pub(crate) fn consume(load: &Load) -> Result<Counted, Error> {
    Runtime::new()?.block_on(async {
        let counts = preload(ready(load).await?, load).await?;
        let window = Window::new(load);
        let metering = meter(window, &load.pids);
        let connection = connect(load).await?;
        let mut tally = Tally::new();
        while !window.is_over() && tally.error.is_none() {
            let passes = (0..load.partitions).zip(&counts).map(|(partition, count)| {
                pass(Reader::new(connection.clone(), load, partition), *count, window)
            });
            match try_join_all(passes).await {
                Ok(records) => tally.records += records.iter().sum::<u64>(),
                Err(error) => tally.fail(error.to_string()),
            }
        }
        Ok(Counted { tally, metered: metering.read()? })
    })
}

/// Measures.
pub(crate) fn e2e(load: &Load) -> Result<Counted, Error> {
    let runtime = Runtime::new()?;
    let connection = runtime.block_on(ready(load))?;
    // A connection of its own: one that waits for records answers nothing else.
    let mut reader = Reader::new(runtime.block_on(connect(load))?, load, 0);
    let schedule = Schedule::new(load);
    let mut sender = Sender::new(connection, load, 1, schedule.window())?;
    let metering = meter(schedule.window(), &load.pids);
    let flight = sender.flight();
    let receiving = runtime.spawn(async move {
        let mut received = Received::new(schedule);
        while !received.is_over(flight.finished(), Instant::now()) {
            match reader.next(Some(LOOK)).await {
                Ok(values) => values.iter().for_each(|value| received.take(value)),
                Err(error) => {
                    received.fail(error.to_string());
                    break;
                }
            }
        }
        received
    });
    let mut payloads = Payloads::new(load.size());
    // On this thread, which sleeps more precisely than the runtime's timers.
    schedule.beat(|number| runtime.block_on(sender.send(number, payloads.next_numbered(number))));
    let (sent, acknowledged) = runtime.block_on(sender.finish());
    let tally = runtime.block_on(receiving)?.finish(&sent, acknowledged);
    Ok(Counted { tally, metered: metering.read()? })
}

fn stream(partition: u32) -> String {
    format!("bench-{partition}")
}

/// A connection as soon as the server is there. Streams need not be created.
async fn ready(load: &Load) -> Result<MultiplexedConnection, Error> {
    if load.servers.len() != 1 || load.replicas != 1 {
        return Err("Redis acknowledges before its replicas do: one node only".into());
    }
    let deadline = Instant::now() + READY;
    loop {
        match connect(load).await {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connect(load: &Load) -> Result<MultiplexedConnection, Error> {
    let server = format!("redis://{}", load.servers[0]).into_connection_info()?;
    let server = server.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(ANSWER))
        // Room for all that may be in flight, so that it is the sender that waits.
        .set_pipeline_buffer_size(usize::try_from(load.in_flight)?.max(1));
    Ok(Client::open(server)?.get_multiplexed_async_connection_with_config(&config).await?)
}

/// Writes what will be read; answers how many records that is for each partition.
async fn preload(connection: MultiplexedConnection, load: &Load) -> Result<Vec<u64>, Error> {
    let count = load.preload();
    let mut sender = Sender::new(connection, load, PIPELINE_RECORDS, Window::new(load))?;
    let mut payloads = Payloads::new(load.size());
    for number in 0..count {
        sender.send(number, payloads.next()).await;
    }
    let (tally, _) = sender.finish().await;
    if let Some(error) = tally.error {
        return Err(error.into());
    }
    Ok(load.preloads())
}

/// Reads a partition once, or until the window is over; answers how many records count.
async fn pass(mut reader: Reader, count: u64, window: Window) -> Result<u64, Error> {
    let (mut read, mut records) = (0, 0);
    while read < count {
        let values = reader.next(None).await?;
        let now = Instant::now();
        if now >= window.end {
            break;
        }
        if values.is_empty() {
            return Err(format!("{read} records instead of {count}").into());
        }
        read += u64::try_from(values.len())?;
        if window.contains(now) {
            // What a user would do at least: look at every record.
            let seen = values.iter().filter(|value| !value.is_empty()).count();
            records += u64::try_from(seen)?;
        }
    }
    Ok(records)
}
