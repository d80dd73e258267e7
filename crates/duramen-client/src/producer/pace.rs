//! How much a producer has under way at nodes that have no room.
//!
//! A batch that is refused was sent for nothing, and took time of those that are accepted. So the
//! window halves with every refusal and opens again by one for each window that was accepted, as
//! TCP does it.

/// How many batches may be under way: 1 ≤ now ≤ most.
#[derive(Debug)]
pub(super) struct Pace {
    now: usize,
    most: usize,
    /// Accepted since it last changed.
    accepted: usize,
}

impl Pace {
    pub(super) const fn new(most: usize) -> Self {
        Self { now: most, most, accepted: 0 }
    }

    pub(super) const fn window(&self) -> usize {
        self.now
    }

    pub(super) fn accepted(&mut self) {
        self.accepted += 1;
        if self.now < self.most && self.accepted >= self.now {
            self.now += 1;
            self.accepted = 0;
        }
    }

    pub(super) fn refused(&mut self) {
        self.now = (self.now / 2).max(1);
        self.accepted = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_when_refused_and_opens_by_one_for_each_window_accepted() {
        let mut pace = Pace::new(5);
        let mut windows = vec![pace.window()];
        for _ in 0..3 {
            pace.refused();
            windows.push(pace.window());
        }
        assert_eq!(windows, [5, 2, 1, 1]);
        let mut accepted = 0;
        for wanted in 2..=5 {
            while pace.window() < wanted {
                pace.accepted();
                accepted += 1;
            }
        }
        assert_eq!(accepted, 1 + 2 + 3 + 4);
        (0..100).for_each(|_| pace.accepted());
        assert_eq!(pace.window(), 5);
    }
}
