//! What a user starts first: the example configuration, the SDK's examples, `duramen dev`.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use duramen_tests::processes::{Cluster, Node, NodeAddresses, Outcome, Tool, eventually, get, say};
use rustix::process::Signal;

use crate::dev::{Dev, kill, pid, wait_gone};
use crate::program;

fn configuration(node: u64) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/duramen-{node}.toml"))
}

/// Where a node listens that is started with the example configuration.
fn addresses(node: u64) -> Outcome<NodeAddresses> {
    let text = std::fs::read_to_string(configuration(node))?;
    let table: toml::Table = text.parse()?;
    let client = table.get("listen").and_then(toml::Value::as_str).ok_or("no listen")?;
    let (host, port) = client.rsplit_once(':').ok_or("no port")?;
    let port: u16 = port.parse()?;
    let given = |key: &str, step: u16| {
        let given = table.get(key).and_then(toml::Value::as_str);
        given.map_or_else(|| format!("{host}:{}", port + step), str::to_owned)
    };
    let (http, peer) = (given("http_listen", 1), given("peer_listen", 2));
    Ok(NodeAddresses { client: client.to_owned(), http, peer })
}

fn is_taken(addresses: &NodeAddresses) -> bool {
    let all = [&addresses.client, &addresses.http, &addresses.peer];
    all.into_iter().any(|address| TcpListener::bind(address.as_str()).is_err())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_configuration_and_the_examples_of_the_sdk_work() {
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let addresses = addresses(id).unwrap();
        if is_taken(&addresses) {
            say(format_args!(
                "SKIPPED: a port of deploy/duramen-{id}.toml is taken: {addresses:?}"
            ));
            return;
        }
        let data = dir.path().join(id.to_string()).display().to_string();
        let file = configuration(id).display().to_string();
        let arguments = ["--config".to_owned(), file, "--dir".to_owned(), data];
        let identity = (id, addresses);
        nodes.push(Node::with_arguments(&program(), dir.path(), identity, arguments.to_vec()));
    }
    let cluster = Cluster::of(&program(), dir, nodes).await.unwrap();

    let example = |path: &str| Tool::new(Path::new(path), &cluster.addresses(), cluster.dir());
    let admin = example(env!("CARGO_BIN_EXE_example-admin"));
    admin.succeed(&["create", "rings", "3"]).await.unwrap();
    let sent = ["oak:1", "elm:1", "oak:2", "ash:1", "oak:3"];
    let produce = [&["rings"][..], &sent].concat();
    let produced = example(env!("CARGO_BIN_EXE_example-produce")).succeed(&produce).await.unwrap();
    assert_eq!(produced.stdout.lines().count(), sent.len());
    let consumed =
        example(env!("CARGO_BIN_EXE_example-consume")).succeed(&["rings"]).await.unwrap();
    assert_eq!(consumed.stdout.lines().count(), sent.len(), "{}", consumed.stdout);
    let described = admin.succeed(&[]).await.unwrap().stdout;
    assert!(described.contains("rings") && described.contains("node 3"), "{described}");
    admin.succeed(&["delete", "rings"]).await.unwrap();
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_starts_a_cluster_restarts_its_nodes_and_ends_them() {
    let home = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(home.path(), &[]).unwrap();
    let mut nodes = BTreeMap::new();
    for _ in 0..3 {
        let event = dev.event("node").await.unwrap();
        nodes.insert(event["node"].as_u64().unwrap(), event);
    }
    assert_eq!(nodes.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    dev.event("ready").await.unwrap();

    // A node that is killed comes back by itself, where it was.
    kill(pid(&nodes[&2]), Signal::KILL).unwrap();
    assert_eq!(dev.event("exit").await.unwrap()["node"], 2);
    let again = dev.event("node").await.unwrap();
    assert_ne!(pid(&again), pid(&nodes[&2]));
    for field in ["node", "grpc", "http", "dir"] {
        assert_eq!(again[field], nodes[&2][field]);
    }
    let http = again["http"].as_str().unwrap().to_owned();
    eventually("the node serves again", async || match get(&http, "/health/ready").await? {
        (200, _) => Ok(()),
        (_, reason) => Err(reason.into()),
    })
    .await
    .unwrap();
    nodes.insert(2, again);

    dev.end().await.unwrap();
    for event in nodes.values() {
        wait_gone(pid(event)).await.unwrap();
        let dir = event["dir"].as_str().unwrap();
        assert!(!Path::new(dir).exists(), "{dir} is left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_of_a_killed_dev_end() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data").display().to_string();
    let mut dev = Dev::start(home.path(), &["--nodes", "1", "--dir", &data]).unwrap();
    let node = dev.event("node").await.unwrap();
    dev.event("ready").await.unwrap();
    dev.signal(Signal::KILL).unwrap();
    dev.ended().await.unwrap();
    wait_gone(pid(&node)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_asked_to_end_in_two_ways_ends_in_good_order() {
    let mut cluster = Cluster::start(&program(), 1).await.unwrap();
    let node = cluster.node(1);
    // What a supervisor does that ends everything: the pipe and the signal come together.
    node.close_stdin();
    node.terminate().await.unwrap();
    cluster.passed();
}
