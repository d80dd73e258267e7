//! What a replica vouches for, told to whoever watches it in a simulation.
//!
//! A witness checks promises on the spot that no client could see broken: that no replica's log
//! ever loses an index it acknowledged, and that no vote goes back. A build without the feature
//! `sim` has no witness and the calls are nothing.

use duramen_types::{LogIndex, NodeId, ReplicaId, Term};

/// Something that a replica says or does that it is bound by from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Everything up to the index is durable here: said to Raft, which may count on it.
    Acknowledged {
        /// The last index.
        last: LogIndex,
        /// Its term.
        term: Term,
    },
    /// A suffix was cut on Raft's word; what was acknowledged of it is not owed any more.
    Truncated {
        /// The first index that is gone.
        from: LogIndex,
    },
    /// The replica takes part with this log.
    Opened {
        /// The node that holds it.
        node: NodeId,
        /// The first index that its log keeps; all below is committed and trimmed.
        start: LogIndex,
        /// One past the last index of its log.
        end: LogIndex,
        /// The terms in its log, each with its first index that is kept.
        terms: Vec<(Term, LogIndex)>,
        /// The term of its last vote; zero if it never voted.
        vote: Term,
    },
    /// A vote was made durable.
    Voted {
        /// Its term.
        term: Term,
        /// For whom.
        candidate: ReplicaId,
        /// Whether a majority is known to have elected it: then the replica follows it in this
        /// term, whomever it voted for before.
        elected: bool,
    },
    /// The replica appended the first entry of its own term.
    Led {
        /// The term.
        term: Term,
    },
}

/// Tells the witness of this thread, if there is one. `group` is the group's name for people.
#[cfg(not(feature = "sim"))]
#[inline]
pub fn tell(_group: &dyn std::fmt::Display, _replica: ReplicaId, _deed: Deed) {}

#[cfg(feature = "sim")]
pub use on::{Witness, set_witness, tell};

#[cfg(feature = "sim")]
mod on {
    use std::cell::RefCell;

    use super::{Deed, ReplicaId};

    /// Called with the group, the replica and what it did.
    pub type Witness = Box<dyn FnMut(&str, ReplicaId, Deed)>;

    thread_local! {
        static WITNESS: RefCell<Option<Witness>> = const { RefCell::new(None) };
    }

    /// Makes somebody the witness of everything that happens in this thread.
    pub fn set_witness(witness: Option<Witness>) {
        WITNESS.with_borrow_mut(|current| *current = witness);
    }

    /// Tells the witness of this thread, if there is one. `group` is the group's name for people.
    pub fn tell(group: &dyn std::fmt::Display, replica: ReplicaId, deed: Deed) {
        WITNESS.with_borrow_mut(|witness| {
            if let Some(witness) = witness {
                witness(&group.to_string(), replica, deed);
            }
        });
    }
}
