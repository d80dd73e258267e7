//! What `dev` orders of a node and what the node says, each a line of JSON.

use serde::{Deserialize, Serialize};

use super::kind::Action;

/// What a node is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// A fault is there from now on.
    Begin {
        /// Which occurrence of which fault.
        id: u64,
        /// What it does.
        action: Action,
    },
    /// It is there no longer.
    End {
        /// Which.
        id: u64,
    },
    /// Leadership is to be handed on: of a partition, or of all that the node leads.
    HandOver {
        /// Which occurrence of which fault.
        id: u64,
        /// Topic and partition.
        partition: Option<(String, u32)>,
    },
}

/// What a node did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// A fault hit.
    Hit {
        /// Which occurrence of which fault.
        id: u64,
        /// How often; more than once if that was faster than it could be said.
        count: u64,
        /// The partition, the call, the delay: what there is to say of the last hit.
        detail: String,
    },
    /// Leadership was handed on, or not.
    Moved {
        /// Which occurrence of which fault.
        id: u64,
        /// How many partitions the node led, of those it was to hand on.
        led: u64,
        /// How many of them another replica leads now.
        moved: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lines() {
        let order = Order::HandOver { id: 3, partition: Some(("orders".into(), 1)) };
        let line = serde_json::to_string(&order).unwrap();
        assert_eq!(line, r#"{"hand_over":{"id":3,"partition":["orders",1]}}"#);
        assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
        let report = Report::Hit { id: 3, count: 2, detail: "a\nb".into() };
        let line = serde_json::to_string(&report).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report);
    }
}
