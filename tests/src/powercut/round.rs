//! One round: load, a strike, recovery, and everything read back.

use std::time::Duration;

use duramen_client::{Client, PartitionId};

use super::machines::Machines;
use super::plan::{Strike, Target};
use super::tally::Tally;
use super::{PARTITIONS, TOPIC, failure, load};
use crate::processes::{History, Load, Outcome, now};

/// Within this time every partition serves again, without an operator.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// Records of each partition that are acknowledged by those that are left, and after the return.
const CALM: usize = 20;

/// What goes on from round to round of one cluster.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) client: Client,
    /// What all producers so far were told.
    pub(super) history: History,
    /// Records of the partition that has most, so that no number is given twice.
    pub(super) sent: u64,
}

impl Round {
    /// Lives through one round. Says what is wrong with what was read back, if anything.
    pub(super) async fn live(
        &mut self,
        machines: &mut Machines,
        strike: Strike,
        tally: &mut Tally,
    ) -> Outcome<Option<String>> {
        let load = load(&self.client, self.sent);
        load.wait_acknowledged(PARTITIONS, strike.calm).await?;
        let recovery = match strike.target {
            Target::All | Target::Majority | Target::One | Target::Leader => {
                cut(machines, strike, &load).await?
            }
            Target::Liar => lie(machines, strike, &load).await?,
            Target::Failure => fail(machines, strike, &load).await?,
        };
        tally.count_round(strike.target, recovery);
        if recovery > RECOVERY_MAX {
            return Ok(Some(format!("partitions served again only after {recovery:?}")));
        }
        load.wait_acknowledged(PARTITIONS, CALM).await?;
        machines.cluster.wait_ready().await?;
        machines.cluster.wait_in_sync(TOPIC, 3).await?;
        self.judge(load, tally).await
    }

    /// Stops the load and reads everything back.
    async fn judge(&mut self, load: Load, tally: &mut Tally) -> Outcome<Option<String>> {
        let told = load.finish().await?;
        let most = (0..PARTITIONS).map(|partition| told.of(partition).count()).max();
        self.sent += u64::try_from(most.unwrap_or(0))?;
        tally.count_acknowledged(&told);
        self.history.extend(told);
        let report = self.history.judge(&self.client, TOPIC).await?;
        tally.count_anomalies(&report);
        Ok((!report.is_sound()).then(|| report.to_string()))
    }
}

/// Cuts the power of those that the strike names, and says how long partitions did not serve:
/// after the cut where a majority is left, otherwise after the power came back.
async fn cut(machines: &mut Machines, strike: Strike, load: &Load) -> Outcome<Duration> {
    let ids = struck(machines, strike).await?;
    machines.cut(&ids, strike.mode).await?;
    let cut = now();
    let left = machines.cluster.nodes.len() - ids.len();
    if left <= machines.cluster.nodes.len() / 2 {
        let on = machines.power_on(&ids)?;
        return load.wait_served(PARTITIONS, on).await;
    }
    let served = load.wait_served(PARTITIONS, cut).await?;
    load.wait_acknowledged(PARTITIONS, CALM).await?;
    machines.power_on(&ids)?;
    Ok(served)
}

async fn struck(machines: &Machines, strike: Strike) -> Outcome<Vec<u64>> {
    let count = machines.cluster.nodes.len();
    let all: Vec<u64> = machines.cluster.nodes.iter().map(|node| node.id).collect();
    let first = all.iter().position(|id| *id == strike.node).unwrap_or(0);
    let from_first = all.iter().cycle().skip(first).copied();
    Ok(match strike.target {
        Target::All => all,
        Target::Majority => from_first.take(count / 2 + 1).collect(),
        Target::Leader => {
            vec![machines.cluster.leader(TOPIC, PartitionId::new(strike.partition)).await?.0]
        }
        Target::One | Target::Liar | Target::Failure => vec![strike.node],
    })
}

/// One disk lies for a while, and its node loses power. It stays away until the others serve: what
/// it forgot is a majority's only with them.
async fn lie(machines: &mut Machines, strike: Strike, load: &Load) -> Outcome<Duration> {
    machines.disk(strike.node)?.set_lying(true);
    load.wait_acknowledged(PARTITIONS, strike.calm).await?;
    cut(machines, strike, load).await
}

/// A sync of one disk fails: its node must end by itself and say why, and the others serve.
async fn fail(machines: &mut Machines, strike: Strike, load: &Load) -> Outcome<Duration> {
    let disk = machines.disk(strike.node)?;
    let failed = disk.counts().syncs_failed;
    disk.fail_sync(strike.syncs);
    machines.wait_stopped(strike.node, strike.mode).await?;
    let stopped = now();
    if machines.disk(strike.node)?.counts().syncs_failed == failed {
        return Err(failure(format!("node {} ended before a sync failed", strike.node)));
    }
    let served = load.wait_served(PARTITIONS, stopped).await?;
    load.wait_acknowledged(PARTITIONS, CALM).await?;
    machines.power_on(&[strike.node])?;
    Ok(served)
}
