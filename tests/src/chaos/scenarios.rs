//! Scripts that broke other logs, played against this one: each on a cluster of its own under load,
//! each followed by a full audit.

mod damage;
mod duplicates;
mod leadership;
mod metadata;
mod quorum;
mod stage;

use std::path::Path;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::campaign::{Figures, Finding, progress};
use crate::processes::Outcome;
use stage::Stage;

/// Stands for every scenario.
const ALL_OF_THEM: &str = "all";

/// A script, and why it is played.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What the other log did.
    pub peer: &'static str,
    /// What is checked here, besides the full audit at the end.
    pub check: &'static str,
    /// Whether it is so quick that it is always played.
    pub quick: bool,
    play: for<'a> fn(&'a mut Stage) -> LocalBoxFuture<'a, Outcome>,
}

/// Every scenario.
pub const ALL: [Scenario; 10] = [
    Scenario {
        name: "nats-7567",
        peer: "split in two after one power failure and pauses: a stale node and one that had \
               lost unsynced entries elected a leader",
        check: "a stale node and a restarted one form a majority: only the restarted one, which \
                has all that was acknowledged, can lead",
        quick: true,
        play: |stage| quorum::stale_and_restarted(stage).boxed_local(),
    },
    Scenario {
        name: "nats-7564",
        peer: "acknowledged before fsync: all nodes killed at once forgot what was acknowledged",
        check: "all nodes are killed at once, again and again, and serve again",
        quick: true,
        play: |stage| quorum::all_at_once(stage).boxed_local(),
    },
    Scenario {
        name: "kafka-last-replica",
        peer: "the in-sync replicas shrank to one, which acknowledged alone and lost its tail",
        check: "a leader without its followers acknowledges nothing, and what it has alone is \
                overwritten by theirs",
        quick: true,
        play: |stage| quorum::last_replica(stage).boxed_local(),
    },
    Scenario {
        name: "nats-7549",
        peer: "single bit errors in the files of a minority lost acknowledged records everywhere",
        check: "two flipped bits in every sealed segment of one node: everything is still served \
                as it was sent",
        quick: false,
        play: |stage| damage::bit_errors(stage).boxed_local(),
    },
    Scenario {
        name: "nats-7556",
        peer: "a corrupt metadata snapshot on a minority made the others delete streams as orphans",
        check: "damaged metadata on one node: all topics stay, and so do all replicas on disk",
        quick: false,
        play: |stage| damage::metadata(stage).boxed_local(),
    },
    Scenario {
        name: "nats-6888",
        peer: "a stream that was created was forgotten after kill -9",
        check: "all nodes are killed the moment a topic is created or deleted: it is as it was \
                answered",
        quick: true,
        play: |stage| metadata::topics_are_not_forgotten(stage).boxed_local(),
    },
    Scenario {
        name: "redpanda-5090",
        peer: "a new leader served before its own term's entries were replicated",
        check: "leaders that are cut off as they are elected answer no fetch with a high \
                watermark below what was acknowledged, and acknowledge nothing",
        quick: false,
        play: |stage| leadership::cut_off_when_elected(stage).boxed_local(),
    },
    Scenario {
        name: "redpanda-5356",
        peer: "what was known of producers was lost with trimmed records: a retry was stored again",
        check: "a batch whose record is trimmed is sent again to another leader, and after a \
                restart of all: it is known",
        quick: false,
        play: |stage| duplicates::across_trim(stage).boxed_local(),
    },
    Scenario {
        name: "deposed-retry",
        peer: "this log, once: a deposed leader acknowledged a retry whose first try had been cut, \
               with the offset of what had taken its place",
        check: "a batch is sent twice to a leader that is cut off while others are committed at \
                its offset: acknowledged or not, it is stored once and where it was said to be",
        quick: true,
        play: |stage| duplicates::at_a_deposed_leader(stage).boxed_local(),
    },
    Scenario {
        name: "redpanda-9571",
        peer: "a produce timed out and was committed later: its retry was stored again",
        check: "a produce times out while the followers stand still; sent again, to this leader \
                and the next, it is stored once",
        quick: true,
        play: |stage| duplicates::after_a_timeout(stage).boxed_local(),
    },
];

/// The scenarios of these names; of "all", every one.
///
/// # Errors
/// There is none of that name.
pub fn named(names: &[String]) -> Outcome<Vec<Scenario>> {
    if names.iter().any(|name| name == ALL_OF_THEM) {
        return Ok(ALL.to_vec());
    }
    let find = |name: &String| {
        let known = || ALL.map(|scenario| scenario.name).join(", ");
        let found = ALL.into_iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| format!("no scenario {name}; there are {}", known()).into())
    };
    names.iter().map(find).collect()
}

/// Plays scenarios one after the other; gives figures and what must not have happened.
pub async fn play(program: &Path, names: &[String], turns: usize) -> (Figures, Vec<Finding>) {
    let mut figures = Figures::default();
    let mut findings = Vec::new();
    let scenarios = named(names).unwrap_or_else(|error| {
        let repeat = "cargo xtask chaos --scenario all".to_owned();
        findings.push(Finding { what: error.to_string(), repeat });
        Vec::new()
    });
    let mut passed = 0;
    let mut each = serde_json::Map::new();
    for scenario in scenarios {
        let begin = Instant::now();
        let ended = play_one(program, scenario, turns).await;
        let took = begin.elapsed().as_millis();
        let name = scenario.name;
        match ended {
            Ok(counts) => {
                passed += 1;
                progress(format_args!("{name}: passed after {took} ms: {}", scenario.check));
                each.insert(name.to_owned(), counts);
            }
            Err(error) => findings.push(Finding {
                what: format!("{name} ({}): {error}", scenario.peer),
                repeat: format!("cargo xtask chaos --scenario {name}"),
            }),
        }
    }
    figures.set("scenarios_passed", passed).set("scenarios_failed", findings.len());
    figures.set("scenarios", Value::Object(each));
    (figures, findings)
}

/// Plays one on a cluster of its own, as many turns as given if it can be, and audits that.
///
/// # Errors
/// What must not have happened; the cluster's directory is kept then, and the error says where.
pub async fn play_one(program: &Path, scenario: Scenario, turns: usize) -> Outcome<Value> {
    let mut stage = Stage::set(program, turns).await?;
    let ended = match (scenario.play)(&mut stage).await {
        Ok(()) => stage.audit().await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(counts) => {
            stage.arena.cluster.passed();
            Ok(json!({
                "acknowledged": counts.acknowledged,
                "unknown": counts.unknown,
                "read": counts.read,
                "serving_worst_ms": u64::try_from(stage.slowest.as_millis())?,
            }))
        }
        Err(error) => {
            let kept = stage.arena.keep();
            Err(format!("{error}; its data are in {}", kept.display()).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_found_by_their_names() {
        assert_eq!(named(&["all".to_owned()]).map(|all| all.len()).ok(), Some(ALL.len()));
        let one = named(&["nats-7567".to_owned()]).map(|found| found[0].name);
        assert_eq!(one.ok(), Some("nats-7567"));
        assert!(named(&["nats-1".to_owned()]).is_err());
    }
}
