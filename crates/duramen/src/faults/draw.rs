//! Draws that depend on nothing but a seed and on what they are for, so that one fault's draws do
//! not move another's.

use std::time::Duration;

use duramen_env::{Random, SeededRandom};

/// What a share of one is counted in.
pub(crate) const MILLION: u32 = 1_000_000;

/// A seed for one purpose, of a seed and numbers that name the purpose.
pub(crate) fn mix(seed: u64, purpose: &[u64]) -> u64 {
    purpose
        .iter()
        .fold(seed, |seed, number| SeededRandom::new(seed ^ number.rotate_left(32)).next_u64())
}

/// Whether something happens that happens so many times in a million.
pub(super) fn happens(random: &dyn Random, ppm: u32) -> bool {
    ppm >= MILLION || random.below(u64::from(MILLION)) < u64::from(ppm)
}

/// A time between two, in steps of a microsecond.
pub(super) fn between(random: &dyn Random, (low, high): (Duration, Duration)) -> Duration {
    let span = u64::try_from(high.saturating_sub(low).as_micros()).unwrap_or(u64::MAX);
    low + Duration::from_micros(random.below(span.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_its_seed_and_its_purpose() {
        assert_eq!(mix(7, &[1, 2]), mix(7, &[1, 2]));
        assert_ne!(mix(7, &[1, 2]), mix(8, &[1, 2]));
        assert_ne!(mix(7, &[1, 2]), mix(7, &[2, 1]));
        assert_ne!(mix(7, &[0]), mix(7, &[1]));
    }

    #[test]
    fn draws_keep_to_their_bounds() {
        let random = SeededRandom::new(1);
        let hits = (0..10_000).filter(|_| happens(&random, 200_000)).count();
        assert!((1_800..2_200).contains(&hits), "{hits} of 10000");
        assert!((0..100).all(|_| happens(&random, MILLION) && !happens(&random, 0)));
        let range = (Duration::from_millis(2), Duration::from_millis(4));
        for _ in 0..100 {
            let drawn = between(&random, range);
            assert!(range.0 <= drawn && drawn <= range.1, "{drawn:?}");
        }
    }
}
