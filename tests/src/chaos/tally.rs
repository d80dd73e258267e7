//! What a run counted of its strikes, and how fast the cluster was back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Nemesis;

#[derive(Clone, Debug, Default)]
struct Struck {
    rounds: u64,
    felt: u64,
    leader_hits: u64,
    recoveries: Vec<Duration>,
}

/// Figures of each nemesis.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    struck: BTreeMap<Nemesis, Struck>,
}

impl Tally {
    /// Counts a round: whether the strike was felt, whether it hit a leader, and how long after it
    /// every partition served again.
    pub fn count(&mut self, nemesis: Nemesis, felt: bool, hit_leader: bool, recovery: Duration) {
        let struck = self.struck.entry(nemesis).or_default();
        struck.rounds += 1;
        struck.felt += u64::from(felt);
        struck.leader_hits += u64::from(hit_leader);
        struck.recoveries.push(recovery);
    }

    /// Strikes that came to nothing: each nemesis that was never felt, or that aims at leaders and
    /// hit none.
    #[must_use]
    pub fn idle(&self) -> Vec<Nemesis> {
        let is_idle = |(nemesis, struck): &(&Nemesis, &Struck)| {
            struck.felt == 0 || (nemesis.aims_at_leaders() && struck.leader_hits == 0)
        };
        self.struck.iter().filter(is_idle).map(|(nemesis, _)| *nemesis).collect()
    }

    /// The figures of each nemesis, by its name.
    #[must_use]
    pub fn figures(&self) -> Value {
        let figures = |struck: &Struck| {
            let (median, worst) = median_and_worst(&struck.recoveries);
            json!({
                "rounds": struck.rounds,
                "felt": struck.felt,
                "leader_hits": struck.leader_hits,
                "recovery_median_ms": median,
                "recovery_worst_ms": worst,
            })
        };
        self.struck.iter().map(|(nemesis, struck)| (nemesis.to_string(), figures(struck))).collect()
    }

    /// Median and worst time to serve again over all strikes, ms.
    #[must_use]
    pub fn recovery(&self) -> (u64, u64) {
        let all: Vec<_> =
            self.struck.values().flat_map(|struck| &struck.recoveries).copied().collect();
        median_and_worst(&all)
    }
}

fn median_and_worst(times: &[Duration]) -> (u64, u64) {
    let mut times = times.to_vec();
    times.sort_unstable();
    let ms = |time: Option<&Duration>| {
        time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    };
    (ms(times.get(times.len() / 2)), ms(times.last()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nemesis_that_is_never_felt_or_never_hits_its_leader_is_idle() {
        let mut tally = Tally::default();
        let ms = Duration::from_millis;
        tally.count(Nemesis::CutRing, false, true, ms(1));
        tally.count(Nemesis::KillLeader, true, false, ms(1));
        tally.count(Nemesis::KillOne, true, false, ms(5));
        tally.count(Nemesis::KillOne, false, true, ms(3));
        tally.count(Nemesis::KillOne, true, false, ms(9));
        assert_eq!(tally.idle(), [Nemesis::KillLeader, Nemesis::CutRing]);
        let figures = tally.figures();
        assert_eq!(figures["kill-one"]["recovery_median_ms"], 5);
        assert_eq!(figures["kill-one"]["recovery_worst_ms"], 9);
        assert_eq!(figures["kill-one"]["leader_hits"], 1);
        assert_eq!(tally.recovery(), (3, 9));
    }
}
