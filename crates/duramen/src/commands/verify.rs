//! `duramen verify`: reads the logs of a data directory and says what is wrong with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use duramen_env::Disk;
use duramen_log::{
    FrameSight, OpenError, Problem, ProblemClass, VerifyError, VerifyReport, verify_dir,
};
use duramen_record::{BatchError, split_batches};
use duramen_types::{LogIndex, Offset, Term};
use serde::Serialize;

use crate::context::Context;
use crate::error::CliError;
use crate::{limits, output, table};

const EXAMPLES: &str = "\
Examples:
  duramen verify /var/lib/duramen
  duramen verify data/1 data/2 data/3       also compares the replicas with each other
  duramen verify data/1/metadata --json

Checked are every frame's checksums, the chain that links frames, offsets, and every record batch,
opened. Stop the node first: a log that is being written looks torn. Exit code 1 if anything is
damaged; a torn end, which the next start cuts off, is reported and is no damage.";

/// How deep below a given directory logs are sought: DIR/node/partitions/replica.
const DEPTH_MAX: u32 = 4;

/// Problems of one replica that are shown one by one.
const PROBLEMS_SHOWN: usize = 20;

/// Options of `duramen verify`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    /// Data directories, or directories of single replicas
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
}

/// What was found of one replica.
#[derive(Debug, Serialize)]
struct Finding {
    dir: String,
    /// Topic id and partition, or "metadata"; replicas of one partition have the same.
    partition: String,
    replica: String,
    cluster: String,
    entries: u64,
    records: u64,
    batches: u64,
    bytes: u64,
    segments: usize,
    start_index: u64,
    end_index: u64,
    start_offset: u64,
    end_offset: u64,
    durable_end: u64,
    /// Chain hash of the last entry, hexadecimal.
    chain: String,
    /// A torn end is there, which the next start cuts off.
    torn: bool,
    /// What is damaged.
    problems: Vec<String>,
}

/// A finding and what comparing needs.
struct Checked {
    finding: Finding,
    chains: Chains,
}

/// The term and the chain hash at each index.
type Chains = BTreeMap<LogIndex, (Term, u64)>;

/// Runs the command.
pub(crate) fn run(args: VerifyArgs, context: &Context) -> Result<(), CliError> {
    let disk = &context.env.disk;
    let mut replicas = Vec::new();
    for dir in &args.dirs {
        let before = replicas.len();
        find_replicas(disk, dir, DEPTH_MAX, &mut replicas)?;
        if replicas.len() == before {
            return Err(CliError::Failed(format!(
                "there is no log in {}: give a node's data directory, or a replica's",
                dir.display()
            )));
        }
    }
    let mut checked = Vec::with_capacity(replicas.len());
    for dir in &replicas {
        let next = check(disk, dir);
        if context.verbose > 0 {
            output::note(&format!("{}: {} entries", dir.display(), next.finding.entries));
        }
        checked.push(next);
    }
    let disagreements = compare(&checked);
    let findings: Vec<Finding> = checked.into_iter().map(|checked| checked.finding).collect();
    let is_sound = disagreements.is_empty() && findings.iter().all(|f| f.problems.is_empty());
    if context.json {
        output::json(&serde_json::json!({
            "sound": is_sound, "replicas": findings, "disagreements": disagreements,
        }))?;
    } else {
        print(&findings, &disagreements)?;
    }
    if is_sound { Ok(()) } else { Err(CliError::Reported) }
}

/// Collects the directories of logs at or below a directory.
fn find_replicas(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    depth: u32,
    found: &mut Vec<PathBuf>,
) -> Result<(), CliError> {
    let entries = disk.list(dir).map_err(CliError::file("look into", dir))?;
    let is_log_file = |name: &str| {
        matches!(name, "meta" | "log-start")
            || name.strip_suffix(".log").is_some_and(|stem| {
                stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit())
            })
    };
    if entries.iter().any(|entry| !entry.is_dir && is_log_file(&entry.name)) {
        found.push(dir.to_owned());
        return Ok(());
    }
    if depth > 0 {
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            find_replicas(disk, &dir.join(&entry.name), depth - 1, found)?;
        }
    }
    Ok(())
}

/// Reads one replica's log.
fn check(disk: &Arc<dyn Disk>, dir: &Path) -> Checked {
    let mut walk = Walk::default();
    let outcome = verify_dir(disk, dir, &mut |frame| walk.see(&frame));
    let Walk { batches, records, mut problems, chains } = walk;
    let partition = partition_name(dir);
    let finding = match outcome {
        Ok(report) => {
            let torn = report.problems.iter().any(|p| p.class == ProblemClass::Torn);
            let corrupt = report.problems.iter().filter(|p| p.class == ProblemClass::Corrupt);
            problems.extend(corrupt.map(describe));
            Finding { batches, records, torn, problems, ..sound(dir, partition, &report) }
        }
        Err(error) => {
            problems.push(lost(&error));
            Finding { problems, batches, records, ..unreadable(dir, partition) }
        }
    };
    Checked { finding, chains }
}

/// What the frames of one log add up to.
#[derive(Default)]
struct Walk {
    batches: u64,
    records: u64,
    problems: Vec<String>,
    chains: Chains,
}

impl Walk {
    fn see(&mut self, frame: &FrameSight<'_>) {
        let header = frame.header;
        self.chains.insert(header.index, (header.term, header.chain));
        if !header.is_data() {
            return;
        }
        self.records += u64::from(header.records);
        match check_payload(frame.payload, header.base_offset, header.term) {
            Ok((batches, records)) if records == u64::from(header.records) => {
                self.batches += batches;
            }
            Ok((_, records)) => self.problems.push(format!(
                "entry {}: its batches hold {records} records, its header says {}",
                header.index, header.records
            )),
            Err(error) => self.problems.push(format!("entry {}: {error}", header.index)),
        }
    }
}

/// What is wrong with the batches of an entry.
#[derive(Debug, thiserror::Error)]
enum PayloadError {
    #[error("a batch is damaged: {0}")]
    Batch(#[from] BatchError),
    #[error("a batch begins at offset {found} where {expected} is due")]
    Offset { found: Offset, expected: Offset },
    #[error("a batch has leader epoch {found:?} in an entry of term {term}")]
    Epoch { found: Option<Term>, term: Term },
}

/// Opens every batch of an entry; answers how many batches and offsets there are.
fn check_payload(payload: &[u8], base: Offset, term: Term) -> Result<(u64, u64), PayloadError> {
    let (mut batches, mut next) = (0, base);
    for batch in split_batches(bytes::Bytes::copy_from_slice(payload)) {
        let batch = batch?;
        let header = batch.header();
        batch.view().validate()?;
        batch.records(&batch.payload(limits::DECOMPRESSED_BYTES)?).check()?;
        if header.base_offset != next {
            return Err(PayloadError::Offset { found: header.base_offset, expected: next });
        }
        if header.leader_epoch != Some(term) {
            return Err(PayloadError::Epoch { found: header.leader_epoch, term });
        }
        next = header.next_offset();
        batches += 1;
    }
    Ok((batches, next.distance_from(base)))
}

fn sound(dir: &Path, partition: String, report: &VerifyReport) -> Finding {
    Finding {
        entries: report.frames,
        bytes: report.bytes,
        segments: report.segments,
        start_index: report.start_index.get(),
        end_index: report.end_index.get(),
        start_offset: report.start_offset.get(),
        end_offset: report.end_offset.get(),
        durable_end: report.durable_end.get(),
        chain: format!("{:016x}", report.chain),
        replica: format!("{:016x}", report.identity.replica.get()),
        cluster: report.identity.cluster.to_string(),
        ..unreadable(dir, partition)
    }
}

fn unreadable(dir: &Path, partition: String) -> Finding {
    Finding {
        dir: dir.display().to_string(),
        partition,
        replica: String::new(),
        cluster: String::new(),
        entries: 0,
        records: 0,
        batches: 0,
        bytes: 0,
        segments: 0,
        start_index: 0,
        end_index: 0,
        start_offset: 0,
        end_offset: 0,
        durable_end: 0,
        chain: String::new(),
        torn: false,
        problems: Vec::new(),
    }
}

fn lost(error: &VerifyError) -> String {
    match error {
        VerifyError::Open(OpenError::Missing) => {
            "the log's metadata file is missing: the replica is lost".into()
        }
        VerifyError::Open(error) => error.to_string(),
        VerifyError::Io { action, source } => format!("could not {action}: {source}"),
    }
}

fn describe(problem: &Problem) -> String {
    let Problem { file, position, index, next, fault, .. } = problem;
    let until = match next {
        Some(next) => format!("; sound again from entry {next}"),
        None => "; nothing sound follows".into(),
    };
    format!("entry {index} in {file} at byte {position}: {fault}{until}")
}

/// The directory's name without the replica that ends it: the same on every node.
fn partition_name(dir: &Path) -> String {
    let name = dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    match name.rsplit_once('-') {
        Some((partition, replica)) if replica.len() == 16 => partition.to_owned(),
        _ => name,
    }
}

/// Where replicas of one partition have histories that cannot both be.
fn compare(checked: &[Checked]) -> Vec<String> {
    let mut by_partition: BTreeMap<(&str, &str), Vec<&Checked>> = BTreeMap::new();
    for replica in checked.iter().filter(|replica| !replica.chains.is_empty()) {
        let key = (replica.finding.cluster.as_str(), replica.finding.partition.as_str());
        by_partition.entry(key).or_default().push(replica);
    }
    let mut disagreements = Vec::new();
    for ((_, partition), replicas) in by_partition {
        let Some((first, others)) = replicas.split_first() else { continue };
        for other in others {
            if let Some(index) = first_difference(&first.chains, &other.chains) {
                disagreements.push(format!(
                    "{partition}: {} and {} differ from entry {index} on",
                    first.finding.dir, other.finding.dir
                ));
            }
        }
    }
    disagreements
}

/// The first entry that both have of one term and that is not the same. Entries of different terms
/// may differ: one of them was never acknowledged. With one term there was one leader, and one
/// history up to there.
fn first_difference(one: &Chains, other: &Chains) -> Option<LogIndex> {
    let differs = |(index, (term, chain)): (&LogIndex, &(Term, u64))| {
        let (other_term, other_chain) = other.get(index)?;
        (term == other_term && chain != other_chain).then_some(*index)
    };
    one.iter().find_map(differs)
}

fn print(findings: &[Finding], disagreements: &[String]) -> Result<(), CliError> {
    let rows = findings.iter().map(|finding| {
        let state = match (finding.problems.len(), finding.torn) {
            (0, false) => "ok".into(),
            (0, true) => "ok, torn end".into(),
            (count, _) => format!("{count} PROBLEMS"),
        };
        vec![
            finding.partition.clone(),
            finding.entries.to_string(),
            finding.records.to_string(),
            finding.end_index.to_string(),
            finding.end_offset.to_string(),
            finding.chain.clone(),
            state,
            finding.dir.clone(),
        ]
    });
    let header = ["PARTITION", "ENTRIES", "RECORDS", "END", "END OFFSET", "CHAIN", "STATE", "DIR"];
    table::print(&header, rows.collect())?;
    for finding in findings.iter().filter(|finding| !finding.problems.is_empty()) {
        output::line(&format!("\n{}:", finding.dir))?;
        for problem in finding.problems.iter().take(PROBLEMS_SHOWN) {
            output::line(&format!("  {problem}"))?;
        }
        let more = finding.problems.len().saturating_sub(PROBLEMS_SHOWN);
        if more > 0 {
            output::line(&format!("  and {more} more; --json shows all"))?;
        }
    }
    for disagreement in disagreements {
        output::line(&format!("\n{disagreement}"))?;
    }
    let problems: usize = findings.iter().map(|finding| finding.problems.len()).sum();
    let (replicas, disagreements) = (findings.len(), disagreements.len());
    output::line(&format!(
        "\n{replicas} replicas, {problems} problems, {disagreements} disagreements"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains(entries: &[(u64, u64, u64)]) -> Chains {
        let entry = |(index, term, chain): &(u64, u64, u64)| {
            (LogIndex::new(*index), (Term::new(*term), *chain))
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn replicas_are_compared_where_both_have_entries() {
        let one = chains(&[(1, 1, 10), (2, 1, 20), (3, 1, 30)]);
        let same = chains(&[(2, 1, 20), (3, 1, 30), (4, 1, 40)]);
        assert_eq!(first_difference(&one, &same), None);
        let other = chains(&[(2, 1, 20), (3, 1, 31)]);
        assert_eq!(first_difference(&one, &other), Some(LogIndex::new(3)));
        assert_eq!(first_difference(&one, &chains(&[(9, 1, 1)])), None);
    }

    #[test]
    fn an_entry_that_a_later_leader_replaced_is_no_disagreement() {
        let one = chains(&[(1, 1, 10), (2, 1, 20)]);
        assert_eq!(first_difference(&one, &chains(&[(1, 1, 10), (2, 2, 21)])), None);
    }

    #[test]
    fn replicas_of_one_partition_have_one_name() {
        let id = "0d0e0f00-0000-4000-8000-000000000000-3";
        let dir = format!("data/1/partitions/{id}-00000000000000ff");
        assert_eq!(partition_name(Path::new(&dir)), id);
        assert_eq!(partition_name(Path::new("data/1/metadata")), "metadata");
    }
}
