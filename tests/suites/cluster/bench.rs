//! `duramen bench`: what it measures and prints, and what is left of it.

use std::process::ExitStatus;
use std::time::Duration;

use duramen_tests::processes::{Cluster, Outcome};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::dev::kill;
use crate::program;

/// The contract of its output.
const FIELDS: [&str; 18] = [
    "bench",
    "size",
    "partitions",
    "replicas",
    "seconds",
    "records",
    "mb_per_s",
    "records_per_s",
    "server_cpu_s_per_gb",
    "client_cpu_s_per_gb",
    "server_cpu_s_per_million",
    "client_cpu_s_per_million",
    "p50_us",
    "p99_us",
    "p999_us",
    "max_us",
    "errors",
    "server_rss_mb",
];

fn value(report: &Value, field: &str) -> f64 {
    report[field].as_f64().expect("each of its figures is known")
}

/// Whether two figures are the same but for being rounded to hundredths, and so a part of so much.
fn near(a: f64, b: f64, part: f64) -> bool {
    (a - b).abs() <= part * a.abs().max(b.abs()) + 0.02
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_measurement_prints_what_it_says_it_does() {
    let mut cluster = Cluster::start(&program(), 1).await.unwrap();
    let (servers, tool) = (cluster.addresses().join(","), cluster.tool());
    let pid = cluster.node(1).pid().unwrap().to_string();
    let common = ["--replicas", "1", "--seconds", "0.5", "--warmup", "0.1", "--size", "2000"];
    let cases: [(&str, &str, &[&str]); 4] = [
        ("produce", "produce", &["--producers", "3", "--batch-records", "1", "--partitions", "2"]),
        ("consume", "consume", &["--preload-mb", "1", "--consumers", "2"]),
        ("consume-cold", "consume", &["--preload-mb", "1", "--cold", "--partitions", "2"]),
        ("e2e", "e2e", &["--rate", "200"]),
    ];
    for (name, command, more) in cases {
        // What the system has of another cluster's files cannot be dropped.
        let own: &[&str] = &["--nodes", "1"];
        let on =
            if name == "consume-cold" { own } else { &["--servers", &servers, "--pids", &pid] };
        let arguments = [&["bench", command, "--json"], on, &common, more].concat();
        let output = tool.succeed(&arguments).await.unwrap();
        let report: Value = serde_json::from_str(&output.stdout).unwrap();
        for field in FIELDS {
            assert!(!report[field].is_null(), "{name} has no {field}: {report}");
        }
        assert_eq!(report["bench"], name);
        assert_eq!((value(&report, "size"), value(&report, "errors")), (2000.0, 0.0));
        let (records, seconds) = (value(&report, "records"), value(&report, "seconds"));
        let part = 0.01 / seconds;
        assert!(near(value(&report, "records_per_s"), records / seconds, part), "{report}");
        assert!(near(value(&report, "mb_per_s"), records * 0.002 / seconds, part), "{report}");
        // A million of these records are two gigabytes.
        let per_million = value(&report, "server_cpu_s_per_million");
        assert!(near(per_million, 2.0 * value(&report, "server_cpu_s_per_gb"), 0.0), "{report}");
        let in_order = ["p50_us", "p99_us", "p999_us", "max_us"].map(|field| value(&report, field));
        assert!(in_order[0] > 0.0 && in_order.is_sorted(), "{report}");
        match name {
            "e2e" => assert_eq!(records, 100.0),
            "consume-cold" => assert_eq!(records, 500.0),
            _ => assert!(records > 0.0),
        }
    }
    let topics = tool.succeed(&["topic", "list", "--json"]).await.unwrap();
    assert!(!topics.stdout.contains("bench-"), "{}", topics.stdout);
    cluster.passed();
}

/// Waits until the measurement runs, then asks for its end.
async fn interrupt(mut child: Child) -> Outcome<ExitStatus> {
    let stderr = child.stderr.take().ok_or("no stderr")?;
    let mut lines = BufReader::new(stderr).lines();
    let ended = async {
        while let Some(line) = lines.next_line().await? {
            if line.starts_with("produce:") {
                kill(child.id().ok_or("it has ended")?.into(), Signal::TERM)?;
            } else if line.contains("interrupted") {
                return Ok(child.wait().await?);
            }
        }
        Err("it did not say that it was interrupted".into())
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_an_interrupted_measurement() {
    let cluster = Cluster::start(&program(), 1).await.unwrap();
    let (servers, tool) = (cluster.addresses().join(","), cluster.tool());
    let long = ["bench", "produce", "--replicas", "1", "--seconds", "600"];
    let child = tool.spawn(&[&long[..], &["--servers", &servers]].concat()).unwrap();
    assert_eq!(interrupt(child).await.unwrap().code(), Some(1));
    let topics = tool.succeed(&["topic", "list", "--json"]).await.unwrap();
    assert!(!topics.stdout.contains("bench-"), "{}", topics.stdout);

    // A cluster of its own is removed.
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().to_str().unwrap();
    let child = tool.spawn(&[&long[..], &["--nodes", "1", "--dir", dir]].concat()).unwrap();
    assert_eq!(interrupt(child).await.unwrap().code(), Some(1));
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    cluster.passed();
}
