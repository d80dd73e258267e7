//! The clients of a simulation: the real SDK, and what it is told written down.

mod conductor;
mod consumer;
mod member;
mod producer;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use duramen_checker::Record;
use duramen_client::{
    Client, ClientError, ClientOptions, ConsumerBatch, ErrorKind, RecordMetadata,
};
use duramen_env::{Env, SimDisk, TokioClock};

use super::SimError;
use super::recorder::{SendOutcome, value_of};
use super::world::{EPOCH, World};

/// How long a call of a client may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// Wait before a client that failed is made anew.
const RETRY: Duration = Duration::from_millis(200);

type Actor = Pin<Box<dyn Future<Output = ()>>>;

/// Runs every second client of a plan, those with an even or those with an odd number; the first
/// host's also conduct the run.
pub(super) async fn run(world: Rc<World>, host: usize) -> Result<(), SimError> {
    let mine = |at: usize| at % 2 == host;
    let mut actors: Vec<Actor> = Vec::new();
    for at in (0..world.plan.producers.len()).filter(|at| mine(*at)) {
        actors.push(Box::pin(producer::run(Rc::clone(&world), at)));
    }
    for at in (0..world.plan.consumers.len()).filter(|at| mine(*at)) {
        actors.push(Box::pin(consumer::run(Rc::clone(&world), at)));
    }
    for at in (0..world.plan.members.len()).filter(|at| mine(*at)) {
        actors.push(Box::pin(member::run(Rc::clone(&world), at)));
    }
    if host == 0 {
        actors.push(Box::pin(conductor::run(Rc::clone(&world))));
    } else {
        actors.push(Box::pin(conductor::run_admin(Rc::clone(&world))));
    }
    futures::future::join_all(actors).await;
    Ok(())
}

/// The world as one client sees it.
fn env(world: &World, client: u64) -> Env {
    let disk = SimDisk::new(0);
    let started = i64::try_from(world.now().as_millis()).unwrap_or(i64::MAX);
    let clock = TokioClock::new(EPOCH.saturating_add_millis(started));
    let seed = world.plan.seed.wrapping_mul(37).wrapping_add(client).rotate_left(9);
    Env::sim(seed, &disk, Arc::new(clock))
}

/// Connects as soon as a node is there; `None` when the run is over.
async fn connect(world: &World, number: u64) -> Option<Client> {
    let env = env(world, number);
    loop {
        let options = ClientOptions {
            request_timeout: CALL_TIMEOUT,
            ..ClientOptions::new(world.plan.seeds())
        };
        match Client::with_env(env.clone(), options).await {
            Ok(client) => return Some(client),
            Err(_) if world.is_violated() => return None,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// The records of a batch, as the checker wants them; a record that is not what was sent breaks a
/// promise.
fn records_of(world: &World, key: u32, batch: &ConsumerBatch) -> Vec<Record> {
    let views = batch.views().map(|view| {
        let value = view.value.and_then(value_of);
        if value.is_none() {
            let offset = view.offset;
            world.violated(format!("record {offset} of key {key} is not what was sent"));
        }
        Record { key, offset: view.offset.get(), value: value.unwrap_or_default() }
    });
    views.collect()
}

/// What a delivery says became of its record.
fn outcome_of(told: &Result<RecordMetadata, ClientError>) -> SendOutcome {
    match told {
        Ok(stored) => {
            let (offset, epoch) = (stored.offset.get(), stored.leader_epoch.get());
            SendOutcome::Stored { offset, epoch }
        }
        Err(error) => match error.kind() {
            ErrorKind::Retry | ErrorKind::Invalid => SendOutcome::NotStored,
            // Also of one that was closed or fenced: it may have been sent before.
            _ => SendOutcome::Unknown,
        },
    }
}
