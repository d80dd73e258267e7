//! The table of all decoders.

use duramen_env::fuzz::Decoder;

use super::{group, metadata, network, planted, records};

/// Every decoder of the product, in the order of the layers.
#[must_use]
pub fn all() -> Vec<Decoder> {
    let lists = [
        records::DECODERS,
        duramen_log::fuzz::DECODERS,
        metadata::DECODERS,
        group::DECODERS,
        duramen_raft::fuzz::DECODERS,
        duramen_broker::fuzz::DECODERS,
        duramen_grpc::fuzz::DECODERS,
        duramen_client::fuzz::DECODERS,
        network::DECODERS,
        duramen::fuzz::DECODERS,
    ];
    lists.concat()
}

/// The decoder of this name: one of [`all`], or one that is broken on purpose.
#[must_use]
pub fn find(name: &str) -> Option<Decoder> {
    all().into_iter().chain(planted::DECODERS.iter().copied()).find(|one| one.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use duramen_env::fuzz::Verdict;

    use super::*;

    #[test]
    fn names_are_unique_and_every_seed_is_accepted() {
        let decoders = all();
        let names: BTreeSet<_> = decoders.iter().map(|decoder| decoder.name).collect();
        assert_eq!(names.len(), decoders.len());
        for decoder in decoders {
            let seeds = (decoder.seeds)();
            assert!(!seeds.is_empty(), "{}", decoder.name);
            for (place, seed) in seeds.iter().enumerate() {
                let verdict = (decoder.run)(seed);
                assert_eq!(verdict, Verdict::Accepted, "{} seed {place}", decoder.name);
            }
        }
    }
}
