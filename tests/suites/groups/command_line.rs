//! Stories of a group through the command line: read together, looked at, moved, removed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use duramen_tests::processes::{Cluster, Outcome, Output, Tool, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Child;

use crate::program;

const RECORDS: usize = 100;

/// A cluster, and a topic of four partitions with a hundred lines.
async fn prepare() -> Outcome<(Cluster, Tool)> {
    let cluster = Cluster::start(&program(), 3).await?;
    let tool = cluster.tool();
    create(&tool, "quakes").await?;
    produce(&cluster, &tool, "quakes", 0..RECORDS).await?;
    Ok((cluster, tool))
}

async fn create(tool: &Tool, topic: &str) -> Outcome {
    let create = ["topic", "create", topic, "--partitions", "4", "--replicas", "3"];
    tool.succeed(&create).await.map(drop)
}

async fn produce(
    cluster: &Cluster,
    tool: &Tool,
    topic: &str,
    numbers: std::ops::Range<usize>,
) -> Outcome {
    let mut text = String::new();
    for number in numbers {
        writeln!(text, "{}", line(number))?;
    }
    let file = cluster.dir().join("lines.ndjson");
    std::fs::write(&file, text)?;
    let file = file.display().to_string();
    let produce = ["produce", topic, "--file", &file, "--key-field", "id"];
    tool.succeed(&produce).await.map(drop)
}

fn line(number: usize) -> String {
    format!("{{\"id\":\"{number}\"}}")
}

fn sorted<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<String> =
        texts.into_iter().flat_map(str::lines).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn all_lines() -> Vec<String> {
    let mut lines: Vec<String> = (0..RECORDS).map(line).collect();
    lines.sort();
    lines
}

async fn json(tool: &Tool, arguments: &[&str]) -> Outcome<Value> {
    let output = tool.succeed(&[arguments, &["--json"]].concat()).await?;
    Ok(output.json_lines()?.pop().ok_or("no output")?)
}

/// Ends a process as a person would, and gives what it left.
async fn interrupt(running: Child) -> Outcome<Output> {
    let id = running.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    kill_process(id.ok_or("it has ended")?, Signal::INT)?;
    let ended = running.wait_with_output().await?;
    Ok(Output {
        code: ended.status.code(),
        stdout: String::from_utf8(ended.stdout)?,
        stderr: String::from_utf8(ended.stderr)?,
    })
}

/// Waits until so many members read, and nothing of the group is behind.
async fn settled(tool: &Tool, group: &str, members: usize, behind: u64) -> Outcome<Value> {
    eventually(&format!("{members} members of {group} have read all"), async || {
        let found = json(tool, &["group", "describe", group]).await?;
        let count = found["members"].as_array().map(Vec::len);
        let is_settled = count == Some(members)
            && found["phase"] == if members == 0 { "empty" } else { "stable" }
            && found["lag_records"] == behind
            && found["partitions"].as_array().is_some_and(|all| {
                all.len() >= 4 && all.iter().all(|one| one["committed"].is_u64())
            });
        if is_settled { Ok(found) } else { Err(found.to_string().into()) }
    })
    .await
}

/// The text with ids, numbers with a unit, and the width of columns masked.
fn masked(text: &str) -> Vec<String> {
    let word = |word: &str| -> String {
        let (bare, end) = match word.strip_suffix([',', ';', ')']) {
            Some(bare) => (bare, &word[bare.len()..]),
            None => (word, ""),
        };
        let is_id = bare.len() == 36 && bare.matches('-').count() == 4;
        let is_time = bare.strip_suffix('s').is_some_and(|time| time.parse::<f64>().is_ok());
        match (is_id, is_time) {
            (true, _) => format!("ID{end}"),
            (_, true) => format!("TIME{end}"),
            _ => word.to_owned(),
        }
    };
    let row = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_reads_every_line_once_and_can_be_looked_at() {
    let (cluster, tool) = prepare().await.unwrap();
    let follow = ["consume", "quakes", "--group", "billing", "--follow"];
    let (first, second) = (tool.spawn(&follow).unwrap(), tool.spawn(&follow).unwrap());
    let found = settled(&tool, "billing", 2, 0).await.unwrap();
    for member in found["members"].as_array().unwrap() {
        assert_eq!(member["reads"].as_array().map(Vec::len), Some(2), "{found}");
    }
    shows_what_it_is(&tool).await.unwrap();

    let refused = tool.run(&["group", "delete", "billing"]).await.unwrap();
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("has members"), "{}", refused.stderr);
    assert!(refused.stderr.contains("duramen group remove"), "{}", refused.stderr);

    let first = interrupt(first).await.unwrap();
    settled(&tool, "billing", 1, 0).await.unwrap();
    let second = interrupt(second).await.unwrap();
    assert_eq!((first.code, second.code), (Some(0), Some(0)), "{}{}", first.stderr, second.stderr);
    assert_eq!(sorted([&*first.stdout, &*second.stdout]), all_lines());
    assert!(second.stderr.contains("group billing: joined as "), "{}", second.stderr);
    assert!(second.stderr.contains("group billing: reads quakes "), "{}", second.stderr);

    settled(&tool, "billing", 0, 0).await.unwrap();
    let again = tool.succeed(&["consume", "quakes", "--group", "billing", "-q"]).await.unwrap();
    assert_eq!((&*again.stdout, &*again.stderr), ("", ""));
    let explained = tool.succeed(&["group", "explain", "billing"]).await.unwrap().stdout;
    assert!(explained.starts_with("no-members: no member for "), "{explained}");
    let hint = "\n  do: start a consumer: duramen consume quakes --group billing\n";
    assert!(explained.ends_with(hint), "{explained}");

    // Two that end by themselves share what is there.
    let both = ["consume", "quakes", "--group", "both"];
    let (first, second) = tokio::join!(tool.succeed(&both), tool.succeed(&both));
    assert_eq!(sorted([&*first.unwrap().stdout, &*second.unwrap().stdout]), all_lines());
    let nowhere = tool.run(&["consume", "nowhere", "--group", "both"]).await.unwrap();
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.stderr.contains("topic create nowhere"), "{}", nowhere.stderr);
    let unknown = tool.run(&["group", "explain", "nobody"]).await.unwrap();
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("duramen group list"), "{}", unknown.stderr);
    cluster.passed();
}

/// Golden text of a group of two members that has read everything.
async fn shows_what_it_is(tool: &Tool) -> Outcome {
    let list = tool.succeed(&["group", "list"]).await?;
    assert_eq!(masked(&list.stdout), ["GROUP PHASE MEMBERS OFFSETS", "billing stable 2 4"]);

    let described = tool.succeed(&["group", "describe", "billing"]).await?;
    let lines = masked(&described.stdout);
    assert_eq!(lines[0], "billing: stable, 2 members, nothing behind");
    assert!(lines[1].starts_with("coordinator "), "{lines:?}");
    assert_eq!(lines[3], "TOPIC PARTITION MEMBER COMMITTED END LAG WAITS REASON");
    let mut ends = 0;
    for (partition, line) in lines[4..].iter().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let end = words[3];
        let expected = format!("quakes {partition} ID {end} {end} 0 TIME at-end");
        assert_eq!(*line, expected);
        ends += end.parse::<usize>()?;
    }
    assert_eq!((lines.len(), ends), (8, RECORDS));

    let members = masked(&tool.succeed(&["group", "members", "billing"]).await?.stdout);
    assert_eq!(members[0], "MEMBER INSTANCE CLIENT TOPICS READS GIVES BACK HEARD EXPIRES");
    for line in &members[1..] {
        let (who, reads) = line.split_once("quakes quakes ").ok_or("no partitions")?;
        assert_eq!(who, "ID - duramen-cli ");
        assert!(reads.ends_with(" - TIME TIME"), "{line}");
    }
    assert_eq!(members.len(), 3);

    let explained = tool.succeed(&["group", "explain", "billing"]).await?.stdout;
    let well = "billing is stable: nothing is in its way; it has read everything\n";
    assert_eq!(explained, well);
    let of_one = ["group", "explain", "billing", "--topic", "quakes", "--partition", "2"];
    let explained = tool.succeed(&of_one).await?.stdout;
    assert!(explained.starts_with("at-end: "), "{explained}");
    assert!(explained.contains("\n  do: nothing: it waits for new records\n"), "{explained}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_moves_a_group_that_reads_and_a_dry_run_moves_nothing() {
    let (cluster, tool) = prepare().await.unwrap();
    let running = tool.spawn(&["consume", "quakes", "--group", "moved", "--follow"]).unwrap();
    let before = settled(&tool, "moved", 1, 0).await.unwrap();

    let shift = ["group", "reset", "moved", "--shift", "-5"];
    let planned = tool.succeed(&[&shift[..], &["--dry-run"]].concat()).await.unwrap();
    let rows = masked(&planned.stdout);
    assert_eq!(rows[0], "TOPIC PARTITION NOW THEN ASKED FOR");
    let end = before["partitions"][0]["committed"].as_u64().unwrap();
    assert_eq!(rows[1], format!("quakes 0 {end} {} -", end - 5));
    assert_eq!(rows[5], "would reset 4 partitions of moved; nothing was changed");
    let after = settled(&tool, "moved", 1, 0).await.unwrap();
    assert_eq!(after["fence"], before["fence"]);

    let done = json(&tool, &shift).await.unwrap();
    assert_eq!(
        (&done["applied"], &done["partitions"][0]["then"]),
        (&true.into(), &(end - 5).into())
    );
    settled(&tool, "moved", 1, 0).await.unwrap();
    let output = interrupt(running).await.unwrap();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(output.stdout.lines().count(), RECORDS + 20, "{}", output.stderr);
    assert_eq!(output.stdout.lines().collect::<BTreeSet<_>>().len(), RECORDS);
    assert!(output.stderr.contains("was reset: goes on there"), "{}", output.stderr);

    let past = ["group", "reset", "moved", "--to-offset", "9999", "--topic", "quakes"];
    let clamped = tool.succeed(&past).await.unwrap().stdout;
    assert!(clamped.contains("9999, past the end"), "{clamped}");
    let wrong = tool.run(&["group", "reset", "moved", "--to-latest", "--topic", "rakes"]).await;
    assert!(wrong.unwrap().stderr.contains("topic rakes does not exist"));
    assert_eq!(tool.run(&["group", "reset", "moved"]).await.unwrap().code, Some(2));
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_exported_and_imported_and_ranges_replayed() {
    let (cluster, tool) = prepare().await.unwrap();
    // Records that are given and not written stay uncommitted.
    let some = tool.succeed(&["consume", "quakes", "--group", "kept", "--count", "30"]).await;
    let some = some.unwrap();
    assert_eq!(some.stdout.lines().count(), 30);
    settled(&tool, "kept", 0, 70).await.unwrap();

    let exported = tool.succeed(&["group", "export", "kept"]).await.unwrap();
    let file = cluster.dir().join("offsets.json");
    std::fs::write(&file, &exported.stdout).unwrap();
    let file = file.display().to_string();
    tool.succeed(&["group", "delete", "kept"]).await.unwrap();
    assert_eq!(tool.run(&["group", "export", "kept"]).await.unwrap().code, Some(1));
    tool.succeed(&["group", "import", "kept", &file]).await.unwrap();
    assert_eq!(tool.succeed(&["group", "export", "kept"]).await.unwrap().stdout, exported.stdout);
    let rest = tool.succeed(&["consume", "quakes", "--group", "kept"]).await.unwrap();
    assert_eq!(sorted([&*some.stdout, &*rest.stdout]), all_lines());

    let forget = ["group", "delete", "kept", "--offsets", "--topic", "quakes", "--partition", "1"];
    tool.succeed(&forget).await.unwrap();
    let list = json(&tool, &["group", "list"]).await.unwrap();
    assert_eq!(list["groups"][0]["offsets"], 3, "{list}");
    assert_eq!(list["shards_missing"], serde_json::json!([]));

    let replay = ["group", "replay", "kept", "quakes", "--from-offset", "2", "--to-offset", "7"];
    let replayed = tool.succeed(&replay).await.unwrap();
    assert_eq!(replayed.stdout.lines().count(), 20);
    assert_eq!(tool.succeed(&replay).await.unwrap().stdout.lines().count(), 20);
    let groups = json(&tool, &["group", "list"]).await.unwrap();
    assert_eq!(groups["groups"].as_array().map(Vec::len), Some(1), "{groups}");
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_takes_in_a_topic_that_is_created_later() {
    let (cluster, tool) = prepare().await.unwrap();
    let pattern = ["consume", "--pattern", "quakes.*", "--group", "all", "--follow", "--json"];
    let running = tool.spawn(&pattern).unwrap();
    settled(&tool, "all", 1, 0).await.unwrap();
    create(&tool, "quakes-2").await.unwrap();
    produce(&cluster, &tool, "quakes-2", 0..10).await.unwrap();
    eventually("the new topic is read", async || {
        let found = settled(&tool, "all", 1, 0).await?;
        let count = found["partitions"].as_array().map(Vec::len);
        if count == Some(8) { Ok(()) } else { Err(found.to_string().into()) }
    })
    .await
    .unwrap();

    // One that is removed while it lives joins again, and goes on.
    let members = json(&tool, &["group", "members", "all"]).await.unwrap();
    let id = members[0]["member"].as_str().unwrap();
    tool.succeed(&["group", "remove", "all", id]).await.unwrap();
    eventually("it has joined anew", async || {
        let found = settled(&tool, "all", 1, 0).await?;
        if found["members"][0]["member"] == id { Err("not yet".into()) } else { Ok(()) }
    })
    .await
    .unwrap();
    let output = interrupt(running).await.unwrap();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let records = output.json_lines().unwrap();
    let of = |topic: &str| records.iter().filter(|record| record["topic"] == topic).count();
    assert_eq!((of("quakes"), of("quakes-2")), (RECORDS, 10));

    for wrong in [
        &["consume", "--group", "all"][..],
        &["consume", "--pattern", "q.*"],
        &["consume", "quakes", "quakes-2"],
        &["consume", "quakes", "--group", "all", "--offset", "5"],
        &["consume", "quakes", "--group", "all", "--partition", "1"],
    ] {
        assert_eq!(tool.run(wrong).await.unwrap().code, Some(2), "{wrong:?}");
    }
    cluster.passed();
}
