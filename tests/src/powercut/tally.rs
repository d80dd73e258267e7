//! What the rounds counted.

use std::collections::BTreeMap;
use std::time::Duration;

use duramen_checker::Report;
use serde_json::Value;

use super::plan::Target;
use crate::campaign::Figures;
use crate::faultfs::FaultCounts;
use crate::processes::History;

/// The counts of all rounds so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rounds: BTreeMap<Target, u64>,
    acknowledged: u64,
    unknown: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    other_anomalies: u64,
    disks: FaultCounts,
    /// Of rounds in which the power of a majority was off, and of the others.
    recoveries: [Vec<Duration>; 2],
    last: Duration,
}

impl Tally {
    pub(super) fn count_round(&mut self, target: Target, recovery: Duration) {
        *self.rounds.entry(target).or_default() += 1;
        let of_majority = matches!(target, Target::All | Target::Majority);
        self.recoveries[usize::from(!of_majority)].push(recovery);
        self.last = recovery;
    }

    pub(super) fn count_acknowledged(&mut self, told: &History) {
        let (acknowledged, unknown) = told.fates();
        self.acknowledged += acknowledged;
        self.unknown += unknown;
    }

    pub(super) fn count_anomalies(&mut self, report: &Report) {
        let reordered = report.count("nonmonotonic-send") + report.count("int-nonmonotonic-send");
        self.lost += lost(report);
        self.duplicated += report.count("duplicate");
        self.reordered += reordered;
        let failing = report.counts.values().filter(|(_, fails)| *fails);
        let all: u64 = failing.map(|(count, _)| *count).sum();
        let known = lost(report) + report.count("duplicate") + reordered;
        self.other_anomalies += all.saturating_sub(known);
    }

    /// Adds what happened to the disks of one cluster.
    pub(super) fn count_disks(&mut self, counts: &FaultCounts) {
        self.disks.syncs += counts.syncs;
        self.disks.syncs_ignored += counts.syncs_ignored;
        self.disks.syncs_failed += counts.syncs_failed;
        self.disks.power_cuts += counts.power_cuts;
        self.disks.bytes_lost += counts.bytes_lost;
        self.disks.name_changes_lost += counts.name_changes_lost;
    }

    /// The last round in words.
    pub(super) fn last(&self) -> String {
        let (acknowledged, last) = (self.acknowledged, self.last.as_millis());
        format!("served after {last} ms, {acknowledged} acknowledged so far")
    }

    pub(super) fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        let rounds = |target| self.rounds.get(&target).copied().unwrap_or(0);
        figures.set("rounds", self.rounds.values().sum::<u64>());
        let kinds = Target::ALL
            .iter()
            .map(|target| (target.name().to_owned(), Value::from(rounds(*target))));
        figures.set("kinds", kinds.collect::<serde_json::Map<_, _>>());
        figures
            .set("acknowledged", self.acknowledged)
            .set("unknown", self.unknown)
            .set("lost", self.lost)
            .set("duplicated", self.duplicated)
            .set("reordered", self.reordered)
            .set("other_anomalies", self.other_anomalies)
            .set("power_cuts", self.disks.power_cuts)
            .set("bytes_destroyed", self.disks.bytes_lost)
            .set("name_changes_destroyed", self.disks.name_changes_lost)
            .set("syncs", self.disks.syncs)
            .set("syncs_ignored", self.disks.syncs_ignored)
            .set("syncs_failed", self.disks.syncs_failed);
        for (name, recoveries) in ["majority", "minority"].iter().zip(&self.recoveries) {
            let mut sorted: Vec<_> = recoveries.iter().map(|time| millis(*time)).collect();
            sorted.sort_unstable();
            let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
            figures.set(&format!("after_{name}_median_ms"), median);
            figures.set(&format!("after_{name}_worst_ms"), sorted.last().copied().unwrap_or(0));
        }
        figures
    }
}

/// Acknowledged records that are not there.
pub(super) fn lost(report: &Report) -> u64 {
    report.count("lost-write") + report.count("unseen")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
