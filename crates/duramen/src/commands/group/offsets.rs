//! Committed offsets in a file: `duramen group export`, and what resets read again.

use std::io::Read as _;
use std::path::Path;

use duramen_client::ExportedOffset;
use serde::{Deserialize, Serialize};

use super::NameArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::output;

/// What an export writes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileJson {
    /// For people: offsets may be imported into another group.
    group: String,
    offsets: Vec<OffsetJson>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OffsetJson {
    topic: String,
    partition: u32,
    offset: u64,
    #[serde(default)]
    leader_epoch: u64,
    #[serde(default)]
    metadata: String,
}

/// Runs `export`.
pub(super) async fn export(args: &NameArgs, context: &Context) -> Result<(), CliError> {
    let offsets = args.client.connect(context).await?.groups().export(&args.group).await?;
    let offsets = offsets.into_iter().map(OffsetJson::new).collect();
    output::json(&FileJson { group: args.group.clone(), offsets })
}

/// Reads what an export has written, from a file or, as `-`, from stdin.
pub(super) fn read(path: &Path) -> Result<Vec<ExportedOffset>, CliError> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|source| CliError::System { action: "read stdin", source })?;
        text
    } else {
        std::fs::read_to_string(path).map_err(CliError::file("read", path))?
    };
    parse(&text).map_err(|error| {
        CliError::Failed(format!(
            "{} is not what `duramen group export` writes: {error}",
            path.display()
        ))
    })
}

fn parse(text: &str) -> Result<Vec<ExportedOffset>, serde_json::Error> {
    let file: FileJson = serde_json::from_str(text)?;
    Ok(file.offsets.into_iter().map(OffsetJson::exported).collect())
}

impl OffsetJson {
    fn new(exported: ExportedOffset) -> Self {
        let ExportedOffset { topic, partition, offset, leader_epoch, metadata } = exported;
        Self { topic, partition, offset, leader_epoch, metadata }
    }

    fn exported(self) -> ExportedOffset {
        let Self { topic, partition, offset, leader_epoch, metadata } = self;
        ExportedOffset { topic, partition, offset, leader_epoch, metadata }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_imported() {
        let exported = ExportedOffset {
            topic: "quakes".into(),
            partition: 3,
            offset: 42,
            leader_epoch: 2,
            metadata: "m".into(),
        };
        let offsets = vec![OffsetJson::new(exported.clone())];
        let text = serde_json::to_string(&FileJson { group: "g".into(), offsets }).unwrap();
        assert_eq!(
            text,
            "{\"group\":\"g\",\"offsets\":[{\"topic\":\"quakes\",\"partition\":3,\"offset\":42,\
             \"leader_epoch\":2,\"metadata\":\"m\"}]}"
        );
        assert_eq!(parse(&text).unwrap(), [exported]);
    }

    #[test]
    fn a_list_written_by_hand_needs_only_places() {
        let text = "{\"group\":\"g\",\"offsets\":[{\"topic\":\"t\",\"partition\":0,\"offset\":1}]}";
        let read = parse(text).unwrap();
        assert_eq!((read[0].offset, read[0].leader_epoch), (1, 0));
        assert!(parse("[]").is_err());
        assert!(parse("{\"group\":\"g\",\"offsets\":[{\"topic\":\"t\",\"offset\":-1}]}").is_err());
    }
}
