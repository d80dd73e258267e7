//! What `duramen dev` says: for people on stderr and stdout, or one JSON object an event.
//!
//! Whoever listens may have gone, and the cluster goes on: nothing here fails.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::{Value, json};

use super::faults::Said;
use crate::faults::Kind;
use crate::nodes::{ClusterPlan, NodePlan};
use crate::{limits, output};

/// Says what happens.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) json: bool,
    /// The data stays after the end.
    pub(super) is_kept: bool,
}

impl Reporter {
    /// A node's process was started.
    pub(super) fn started(&self, node: &NodePlan, pid: u32) {
        let NodePlan { id, grpc, http, dir, .. } = node;
        let dir = dir.display().to_string();
        if self.json {
            event(json!({
                "event": "node", "node": id, "grpc": grpc, "http": http, "pid": pid, "dir": dir,
            }));
        } else {
            line(&format!("node {id}  clients {grpc}  http://{http}  pid {pid}  {dir}"));
        }
    }

    /// A node's process ended.
    pub(super) fn exited(&self, node: u64, status: Option<&ExitStatus>) {
        let status = status.map_or_else(|| "unknown".into(), ToString::to_string);
        if self.json {
            event(json!({ "event": "exit", "node": node, "status": status }));
        } else {
            output::note(&format!("node {node} ended: {status}"));
        }
    }

    /// A node will be started again.
    pub(super) fn restarting(&self, node: u64, wait: Duration) {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        if self.json {
            event(json!({ "event": "restart", "node": node, "in_ms": millis }));
        } else {
            output::note(&format!("node {node} starts again in {millis} ms"));
        }
    }

    /// Faults will be injected once the cluster is ready.
    pub(super) fn faults_begin(&self, seed: u64) {
        if !self.json {
            output::note(&format!("faults follow the plan and --seed {seed}"));
        }
    }

    /// Something happens to a fault.
    pub(super) fn fault(&self, said: &Said) {
        let Said { fault, kind, what, at, node, count, detail } = said;
        if self.json {
            let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
            return event(json!({
                "event": "fault", "at_ms": at_ms, "fault": fault, "kind": kind, "what": what,
                "node": node, "count": count, "detail": detail,
            }));
        }
        let node = node.map_or_else(|| "all nodes".to_owned(), |node| format!("node {node}"));
        let times = if *count > 1 { format!(", {count} times") } else { String::new() };
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        let at = at.as_secs_f64();
        output::note(&format!("{at:9.3} s  fault {fault} {kind} {what}, {node}{times}{detail}"));
    }

    /// How often each kind of fault hit.
    pub(super) fn faults(&self, seed: u64, counts: &BTreeMap<Kind, u64>) {
        if self.json {
            return event(json!({ "event": "faults", "seed": seed, "counts": counts }));
        }
        let counts: Vec<_> = counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        output::note(&format!("faults with --seed {seed}: {}", counts.join(", ")));
    }

    /// The cluster can be used.
    pub(super) fn ready(&self, plan: &ClusterPlan) {
        if self.json {
            return event(json!({ "event": "ready" }));
        }
        let replicas = plan.nodes.len().min(3);
        let servers = plan.servers();
        line("\nready; try in another terminal:");
        if servers.first().is_none_or(|server| server != limits::DEFAULT_SERVER) {
            line(&format!("  export DURAMEN_SERVERS={}", servers.join(",")));
        }
        line(&format!("  duramen topic create first --partitions 6 --replicas {replicas}"));
        line("  seq 100 | duramen produce first");
        line("  duramen consume first --print-partition --print-offset");
        line("  duramen cluster describe");
        let data = if self.is_kept { "stays" } else { "is removed then" };
        line(&format!("\nCtrl-C ends all nodes; their data {data}."));
    }
}

fn line(text: &str) {
    drop(output::line(text));
}

fn event(event: Value) {
    drop(output::json(&event));
}
