//! What `duramen dev` says: for people on stderr and stdout, or one JSON object an event.
//!
//! Whoever listens may have gone, and the cluster goes on: nothing here fails.

use std::process::ExitStatus;
use std::time::Duration;

use serde_json::{Value, json};

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
