//! A plan of faults, as a file says it: what, when and where. Strict, so that a typo is found.

use std::fmt;
use std::time::Duration;

use toml::de::DeTable;

use super::draw::MILLION;
use super::kind::{Action, CALLS, Kind, Refusal, Shape};
use super::read::{PlanError, Table, line_of, unknown};

/// Records that are given again if nobody says how many.
const RECORDS_AGAIN: u64 = 100;

/// Calls that are refused if nobody says which.
const REFUSED: [&str; 2] = ["produce", "fetch"];

/// What to write for a target.
const TARGETS: &str = r#"a node's number, "any", "all" or "leader of TOPIC/PARTITION""#;

/// Where a fault is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// On a node that is drawn each time.
    Any,
    /// On all nodes.
    All,
    /// On this node.
    Node(u64),
    /// On the node that leads this partition when the fault begins.
    Leader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any node"),
            Self::All => f.write_str("all nodes"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Leader { topic, partition } => write!(f, "the leader of {topic}/{partition}"),
        }
    }
}

/// One fault: what, when and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Its line in the file, from 1.
    pub(crate) line: usize,
    /// What it does.
    pub(crate) action: Action,
    /// Where.
    pub(crate) target: Target,
    /// When it begins first, counted from when the cluster is ready.
    pub(crate) start: Duration,
    /// How long it is there; `None` = for good, or once.
    pub(crate) length: Option<Duration>,
    /// How often it begins again.
    pub(crate) every: Option<Duration>,
    /// By how many millionths of `every` it begins later, at most.
    pub(crate) jitter_ppm: u32,
    /// How often it begins at most.
    pub(crate) times: Option<u64>,
    /// How long a killed node stays away.
    pub(crate) down: Duration,
}

/// A plan of faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In the order of the file.
    pub(crate) faults: Vec<Fault>,
}

impl Plan {
    /// Reads a plan.
    pub(crate) fn parse(text: &str) -> Result<Self, PlanError> {
        let document = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            PlanError::Syntax { message: format!("line {line}: {}", error.message()) }
        })?;
        let top = Table::new(text, document.span(), document.get_ref());
        top.only(&["fault"])?;
        let mut faults = Vec::new();
        for (_, value) in document.get_ref() {
            let tables = value.get_ref().as_array();
            let tables = tables.ok_or_else(|| top.wrong("fault", "tables: [[fault]]"))?;
            for table in tables.iter() {
                let content = table.get_ref().as_table();
                let content = content.ok_or_else(|| top.wrong("fault", "tables: [[fault]]"))?;
                faults.push(read_fault(&Table::new(text, table.span(), content))?);
            }
        }
        if faults.is_empty() { Err(PlanError::Empty) } else { Ok(Self { faults }) }
    }

    /// Checks that a cluster of nodes 1 to `nodes` has the nodes that are named.
    pub(crate) fn check_nodes(&self, nodes: u64) -> Result<(), PlanError> {
        for fault in &self.faults {
            if let Target::Node(node) = fault.target
                && node > nodes
            {
                return Err(PlanError::Value {
                    line: fault.line,
                    key: "target".into(),
                    expected: format!("a node from 1 to {nodes} (see --nodes)"),
                    found: node.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// The keys that a fault of a kind has.
fn keys_of(kind: Kind) -> Vec<&'static str> {
    let mut keys = vec!["kind", "target", "start", "every", "jitter", "times"];
    if kind.shape() != Shape::Once {
        keys.push("for");
    }
    if kind.shape() == Shape::Operations {
        keys.push("probability");
    }
    if kind.is_of_topic() {
        keys.push("topic");
    }
    if kind.is_delay() {
        keys.push("delay");
    }
    match kind {
        Kind::Refuse => keys.extend(["error", "calls"]),
        Kind::DuplicateDelivery => keys.push("records"),
        Kind::Kill => keys.push("down"),
        _ => {}
    }
    keys
}

fn read_fault(table: &Table<'_>) -> Result<Fault, PlanError> {
    let line = table.line();
    let missing = |key, why| PlanError::Missing { line, key, why };
    let name = table.string("kind")?.ok_or_else(|| missing("kind", "what goes wrong"))?;
    let known = Kind::ALL.map(Kind::name);
    let kind = Kind::parse(name);
    let kind = kind.ok_or_else(|| unknown(table.line_of("kind"), "kind", name, &known))?;
    table.only(&keys_of(kind))?;
    let (length, every) = (table.duration("for")?, table.duration("every")?);
    let is_bounded = length.is_some_and(|length| length > Duration::ZERO);
    if !is_bounded && kind.shape() == Shape::Span {
        return Err(missing("for", "how long it lasts"));
    }
    if !is_bounded && kind.shape() == Shape::Operations && every.is_some() {
        return Err(missing("for", "how long it lasts each time"));
    }
    if every.is_some_and(|every| every < Duration::from_millis(1).max(length.unwrap_or_default())) {
        return Err(table.wrong("every", "at least 1ms and no less than \"for\""));
    }
    for key in ["jitter", "times"] {
        if every.is_none() && table.has(key) {
            return Err(missing("every", "jitter and times are of what happens again"));
        }
    }
    Ok(Fault {
        line,
        action: read_action(table, kind)?,
        target: read_target(table, kind)?,
        start: table.duration("start")?.unwrap_or_default(),
        length,
        every,
        jitter_ppm: table.share("jitter")?.unwrap_or(0),
        times: table.count("times")?,
        down: table.duration("down")?.unwrap_or_default(),
    })
}

fn read_action(table: &Table<'_>, kind: Kind) -> Result<Action, PlanError> {
    let missing = |key, why| PlanError::Missing { line: table.line(), key, why };
    let delay = match table.range("delay")? {
        None if kind.is_delay() => return Err(missing("delay", "how late it is made")),
        delay => delay.unwrap_or_default(),
    };
    let (topic, partition) = match table.string("topic")?.map(partition_name) {
        None => (None, None),
        Some(Some((topic, partition))) => (Some(topic), partition),
        Some(None) => return Err(table.wrong("topic", r#""TOPIC" or "TOPIC/PARTITION""#)),
    };
    let error = match table.string("error")? {
        None if kind == Kind::Refuse => {
            return Err(missing("error", "what a refused call is told"));
        }
        None => Refusal::Unavailable,
        Some(name) => {
            let known = Refusal::ALL.map(Refusal::name);
            let error = Refusal::ALL.into_iter().find(|error| error.name() == name);
            error.ok_or_else(|| unknown(table.line_of("error"), "error", name, &known))?
        }
    };
    let calls = table.strings("calls")?.unwrap_or_else(|| REFUSED.to_vec());
    for call in &calls {
        let known = CALLS.map(|(name, _)| name);
        if !known.contains(call) {
            return Err(unknown(table.line_of("calls"), "call", call, &known));
        }
    }
    Ok(Action {
        kind,
        ppm: table.share("probability")?.unwrap_or(MILLION),
        delay,
        topic,
        partition,
        error,
        calls: calls.into_iter().map(str::to_owned).collect(),
        records: table.count("records")?.unwrap_or(RECORDS_AGAIN),
    })
}

fn read_target(table: &Table<'_>, kind: Kind) -> Result<Target, PlanError> {
    if table.is_number("target") {
        return Ok(table.count("target")?.map_or(Target::Any, Target::Node));
    }
    let wrong = || table.wrong("target", TARGETS);
    match table.string("target").map_err(|_| wrong())? {
        None if kind.shape() == Shape::Operations => Ok(Target::All),
        None | Some("any") => Ok(Target::Any),
        Some("all") => Ok(Target::All),
        Some(text) => match text.strip_prefix("leader of ").and_then(partition_name) {
            Some((topic, Some(partition))) => Ok(Target::Leader { topic, partition }),
            _ => Err(wrong()),
        },
    }
}

/// A topic, or a topic and a partition.
fn partition_name(text: &str) -> Option<(String, Option<u32>)> {
    let (topic, partition) = match text.split_once('/') {
        Some((topic, partition)) => (topic, Some(partition.parse().ok()?)),
        None => (text, None),
    };
    (!topic.is_empty()).then(|| (topic.to_owned(), partition))
}

#[cfg(test)]
mod tests;
