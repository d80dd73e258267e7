//! How a node finds its cluster, or founds it.
//!
//! Three nodes started with the same seed list form a cluster by themselves, under one rule: the
//! first seed founds, once, and only when *every* seed answers, belongs to no cluster and has the
//! same list. So wiped seeds can never found a second cluster while one seed remembers the first.
//! A node with an empty directory that meets a formed cluster joins it under its own, fresh
//! incarnation; that needs a majority of the cluster's members.

mod calls;
mod form;

use std::sync::Arc;

use duramen_env::Env;
use duramen_proto::v1;
use duramen_types::ClusterId;
use tokio::time::Instant;

pub(crate) use form::FormServer;

use crate::broker::StartOptions;
use crate::error::BrokerError;
use crate::identity::{Founder, Phase};
use crate::limits;
use crate::shared_identity::SharedIdentity;
use calls::{form, identify};

/// What the answers of the seeds ask this node to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// Wait, for this reason.
    Wait(String),
    /// Join this cluster by way of these peer addresses.
    Join(ClusterId, Vec<String>),
    /// This is the first seed, and all seeds agree.
    Found(Vec<Founder>),
}

/// Waits until this node is a founder, a joiner or a member, and says which cluster it is of.
pub(crate) async fn run(
    env: &Env,
    options: &StartOptions,
    identity: &Arc<SharedIdentity>,
    status: &dyn Fn(String),
) -> Result<ClusterId, BrokerError> {
    let mut noticed: Option<(String, Instant)> = None;
    loop {
        let current = identity.get();
        let decision = match current.phase() {
            Phase::Member { .. } | Phase::Joining { .. } => {
                return current.cluster().ok_or_else(unreadable_cluster);
            }
            Phase::Forming { first: false, .. } => {
                // The first seed founds; its peer calls will find this node ready.
                return current.cluster().ok_or_else(unreadable_cluster);
            }
            Phase::Forming { first: true, founders, .. } => Decision::Found(founders.clone()),
            Phase::Empty => decide(env, options, identity).await,
        };
        let reason = match decision {
            Decision::Wait(reason) => reason,
            Decision::Join(cluster, addresses) => {
                let founders = addresses
                    .into_iter()
                    .map(|peer_address| Founder { node: 0, incarnation: 0, peer_address })
                    .collect();
                identity.enter(Phase::Joining { cluster: cluster.to_string(), founders })?;
                tracing::info!(%cluster, "a formed cluster answered: joining it as a new member");
                continue;
            }
            Decision::Found(founders) => match found(env, identity, founders).await {
                Ok(cluster) => return Ok(cluster),
                Err(reason) => reason,
            },
        };
        status(reason.clone());
        let due = noticed
            .as_ref()
            .is_none_or(|(said, at)| *said != reason || at.elapsed() >= limits::BOOTSTRAP_NOTICE);
        if due {
            tracing::info!(reason, "waiting to form or join a cluster");
            noticed = Some((reason, Instant::now()));
        }
        tokio::time::sleep(limits::BOOTSTRAP_INTERVAL).await;
    }
}

fn unreadable_cluster() -> BrokerError {
    BrokerError::CorruptReplica { reason: "the cluster id in identity.json is no UUID".to_owned() }
}

/// Asks all seeds who they are.
async fn decide(env: &Env, options: &StartOptions, identity: &SharedIdentity) -> Decision {
    let asked = options.seeds.iter().map(|seed| identify(env, seed));
    let answers = futures::future::join_all(asked).await;
    let mut silent = Vec::new();
    let mut seeds = Vec::new();
    for (seed, answer) in options.seeds.iter().zip(answers) {
        match answer {
            Ok(answer) => seeds.push((seed.as_str(), answer)),
            Err(_) => silent.push(seed.as_str()),
        }
    }
    judge(identity.get().incarnation().get(), &options.seeds, &seeds, &silent)
}

/// The rule of the seeds, as a function of what they answered.
fn judge(
    own_incarnation: u64,
    list: &[String],
    seeds: &[(&str, v1::IdentifyResponse)],
    silent: &[&str],
) -> Decision {
    let formed = seeds.iter().filter(|(_, answer)| !answer.cluster_id.is_empty());
    let clusters: Vec<_> = formed.clone().map(|(_, answer)| answer.cluster_id.clone()).collect();
    if let Some(first) = clusters.first() {
        if clusters.iter().any(|cluster| cluster != first) {
            return Decision::Wait(
                "the seeds belong to different clusters: correct the seed list".to_owned(),
            );
        }
        let Some(cluster) = ClusterId::from_slice(first) else {
            return Decision::Wait("a seed answers with a malformed cluster id".to_owned());
        };
        return Decision::Join(cluster, formed.map(|(_, a)| a.peer_address.clone()).collect());
    }
    if !silent.is_empty() {
        return Decision::Wait(format!(
            "no answer from seed {}; a new cluster is founded only when every seed answers",
            silent.join(", ")
        ));
    }
    if let Some((seed, _)) = seeds.iter().find(|(_, answer)| answer.seeds != list) {
        return Decision::Wait(format!(
            "seed {seed} was started with another seed list: all seeds need the same one"
        ));
    }
    let mut incarnations: Vec<_> = seeds.iter().map(|(_, answer)| answer.incarnation).collect();
    let mut nodes: Vec<_> = seeds.iter().map(|(_, answer)| answer.node_id).collect();
    incarnations.sort_unstable();
    nodes.sort_unstable();
    incarnations.dedup();
    nodes.dedup();
    if incarnations.len() != list.len() || nodes.len() != list.len() {
        return Decision::Wait(
            "two seeds answer as the same node: check --id, --dir and the seed list".to_owned(),
        );
    }
    match seeds.first() {
        Some((_, first)) if first.incarnation == own_incarnation => Decision::Found(
            seeds
                .iter()
                .map(|(_, answer)| Founder {
                    node: answer.node_id,
                    incarnation: answer.incarnation,
                    peer_address: answer.peer_address.clone(),
                })
                .collect(),
        ),
        Some((seed, _)) => Decision::Wait(format!("the first seed, {seed}, founds the cluster")),
        None => Decision::Wait("the seed list is empty".to_owned()),
    }
}

/// Founds: fixes the cluster's id, then makes every founder agree to it.
async fn found(
    env: &Env,
    identity: &SharedIdentity,
    founders: Vec<Founder>,
) -> Result<ClusterId, String> {
    let cluster = match identity.get().cluster() {
        Some(cluster) => cluster,
        None => {
            let mut bytes = [0; 16];
            env.random.fill(&mut bytes);
            ClusterId::from_random(bytes)
        }
    };
    let phase =
        Phase::Forming { cluster: cluster.to_string(), founders: founders.clone(), first: true };
    if *identity.get().phase() != phase {
        identity.enter(phase).map_err(|error| error.to_string())?;
        tracing::info!(%cluster, founders = founders.len(), "every seed agrees: founding");
    }
    let own = identity.get().incarnation().get();
    let others = founders.iter().filter(|founder| founder.incarnation != own);
    let asked = others.map(|founder| form(env, cluster, founder, &founders));
    for answer in futures::future::join_all(asked).await {
        answer?;
    }
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(node: u64, cluster: &[u8], list: &[String]) -> v1::IdentifyResponse {
        v1::IdentifyResponse {
            node_id: node,
            incarnation: 100 + node,
            cluster_id: cluster.to_vec().into(),
            peer_address: format!("peer{node}:1"),
            seeds: list.to_vec(),
            version: String::new(),
        }
    }

    fn list() -> Vec<String> {
        ["a:1", "b:1", "c:1"].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_first_seed_founds_when_all_are_empty_and_agree() {
        let list = list();
        let seeds: Vec<_> = (1..=3).map(|n| ("x", answer(n, &[], &list))).collect();
        assert!(matches!(judge(101, &list, &seeds, &[]), Decision::Found(f) if f.len() == 3));
        assert!(matches!(judge(102, &list, &seeds, &[]), Decision::Wait(_)));
    }

    #[test]
    fn wiped_seeds_never_found_while_one_remembers_or_is_silent() {
        let list = list();
        let remembers: Vec<_> = [&[][..], &[], &[7; 16]]
            .into_iter()
            .zip(1..)
            .map(|(cluster, n)| ("x", answer(n, cluster, &list)))
            .collect();
        let cluster = ClusterId::from_bytes([7; 16]);
        let expected = Decision::Join(cluster, vec!["peer3:1".to_owned()]);
        assert_eq!(judge(101, &list, &remembers, &[]), expected);
        assert!(matches!(judge(101, &list, &remembers[..2], &["c:1"]), Decision::Wait(_)));
    }

    #[test]
    fn different_lists_and_twins_wait() {
        let list = list();
        let mut seeds: Vec<_> = (1..=3).map(|n| ("x", answer(n, &[], &list))).collect();
        seeds[2].1.seeds.pop();
        assert!(matches!(judge(101, &list, &seeds, &[]), Decision::Wait(_)));
        let twins: Vec<_> = [1, 1, 3].map(|n| ("x", answer(n, &[], &list))).to_vec();
        assert!(matches!(judge(101, &list, &twins, &[]), Decision::Wait(_)));
    }

    #[test]
    fn two_clusters_in_one_list_wait() {
        let list = list();
        let seeds = [("x", answer(1, &[7; 16], &list)), ("y", answer(2, &[8; 16], &list))];
        assert!(matches!(judge(103, &list, &seeds, &[]), Decision::Wait(_)));
    }
}
