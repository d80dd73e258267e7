//! Producer ids: drawn from the metadata group in blocks, never given twice.

use duramen_metadata::{Command, Outcome};
use duramen_types::ProducerId;
use tokio::sync::Mutex;

use crate::error::BrokerError;
use crate::limits;
use crate::metadata::MetadataWriter;

/// This node's block of producer ids. What is left of it at a stop is never used.
#[derive(Debug)]
pub(crate) struct ProducerIds {
    writer: MetadataWriter,
    /// The next id, and one past the last of the block.
    block: Mutex<(u64, u64)>,
}

impl ProducerIds {
    pub(crate) fn new(writer: MetadataWriter) -> Self {
        Self { writer, block: Mutex::new((0, 0)) }
    }

    /// An id that no producer ever had.
    pub(crate) async fn next(&self) -> Result<ProducerId, BrokerError> {
        let mut block = self.block.lock().await;
        if block.0 >= block.1 {
            let command = Command::AllocateProducers { count: limits::PRODUCER_BLOCK };
            match self.writer.propose(&command).await?.1 {
                Outcome::ProducersAllocated { first, count } => {
                    *block = (first.get(), first.get().saturating_add(count));
                }
                Outcome::Refused(refusal) => return Err(refusal.into()),
                other => {
                    let reason = format!("the metadata group answered {other:?}");
                    return Err(BrokerError::MetadataUnavailable { reason });
                }
            }
        }
        let id = ProducerId::new(block.0);
        block.0 += 1;
        Ok(id)
    }
}
