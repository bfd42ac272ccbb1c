//! The search for the highest rate at which an objective still holds: grow, bisect, confirm.
//!
//! Pure: it says which rate to try next and is told whether the objective held there.

/// A rate that is too low to go on with.
const LEAST: f64 = 1.0;

/// How often the best rate must hold again before it is believed.
const CONFIRMATIONS: u32 = 3;

/// What is left of a rate that was not confirmed.
const BACK_OFF: f64 = 0.9;

/// Between confirmations the system rests at this share of the rate, so that they are not one long
/// run in three pieces.
const REST: f64 = 0.5;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Offer this rate, and tell whether the objective held.
    Try(f64),
    /// The rate that holds, confirmed; `None` if even the lowest did not.
    Found(Option<f64>),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Growing,
    Shrinking,
    Bisecting,
    /// So many confirmations have been had; whether the next try is a rest.
    Confirming {
        had: u32,
        rests: bool,
    },
    Over,
}

/// A search.
#[derive(Clone, Debug)]
pub struct Search {
    phase: Phase,
    rate: f64,
    /// The highest rate that held.
    good: Option<f64>,
    /// The lowest rate that did not.
    bad: Option<f64>,
    /// How near the two must be: 0.05 is 5 %.
    tolerance: f64,
    /// Rates above are not tried.
    limit: f64,
}

impl Search {
    /// Begins at `from` operations per second, and goes no higher than `limit`.
    pub fn new(from: f64, tolerance: f64, limit: f64) -> Self {
        Self {
            phase: Phase::Growing,
            rate: from.max(LEAST),
            good: None,
            bad: None,
            tolerance,
            limit,
        }
    }

    /// What to do next; the same until [`Search::tell`].
    pub fn next(&self) -> Next {
        match self.phase {
            Phase::Over => Next::Found(self.good),
            Phase::Confirming { rests: true, .. } => Next::Try(self.rate * REST),
            _ => Next::Try(self.rate),
        }
    }

    /// Tells whether the objective held at the rate of [`Search::next`].
    pub fn tell(&mut self, held: bool) {
        match self.phase {
            Phase::Over => {}
            Phase::Growing if held => {
                self.good = Some(self.rate);
                match self.rate >= self.limit {
                    true => self.confirm(),
                    false => self.rate = (self.rate * 2.0).min(self.limit),
                }
            }
            Phase::Growing => {
                self.bad = Some(self.rate);
                match self.good {
                    Some(_) => self.bisect(),
                    None => {
                        self.phase = Phase::Shrinking;
                        self.shrink();
                    }
                }
            }
            Phase::Shrinking if held => {
                self.good = Some(self.rate);
                self.bisect();
            }
            Phase::Shrinking => {
                self.bad = Some(self.rate);
                self.shrink();
            }
            Phase::Bisecting => {
                match held {
                    true => self.good = Some(self.rate),
                    false => self.bad = Some(self.rate),
                }
                self.bisect();
            }
            // How a rest went says nothing about the rate.
            Phase::Confirming { had, rests: true } => {
                self.phase = Phase::Confirming { had, rests: false };
            }
            Phase::Confirming { had, .. } if held => {
                let had = had + 1;
                self.phase = match had {
                    CONFIRMATIONS => Phase::Over,
                    _ => Phase::Confirming { had, rests: true },
                };
            }
            Phase::Confirming { .. } => {
                self.rate *= BACK_OFF;
                self.good = Some(self.rate).filter(|rate| *rate >= LEAST);
                self.phase = match self.good {
                    Some(_) => Phase::Confirming {
                        had: 0,
                        rests: true,
                    },
                    None => Phase::Over,
                };
            }
        }
    }

    fn shrink(&mut self) {
        self.rate /= 2.0;
        if self.rate < LEAST {
            self.phase = Phase::Over;
        }
    }

    fn bisect(&mut self) {
        let (Some(good), Some(bad)) = (self.good, self.bad) else {
            return self.confirm();
        };
        if bad / good <= 1.0 + self.tolerance {
            return self.confirm();
        }
        self.phase = Phase::Bisecting;
        self.rate = (good * bad).sqrt();
    }

    fn confirm(&mut self) {
        self.rate = self.good.unwrap_or(LEAST);
        self.phase = Phase::Confirming {
            had: 0,
            rests: true,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a system that holds up to `capacity`; gives what was found and the rates tried.
    fn search(
        from: f64,
        limit: f64,
        holds: impl Fn(usize, f64) -> bool,
    ) -> (Option<f64>, Vec<f64>) {
        let mut search = Search::new(from, 0.05, limit);
        let mut tried = Vec::new();
        loop {
            match search.next() {
                Next::Found(rate) => return (rate, tried),
                Next::Try(rate) => {
                    search.tell(holds(tried.len(), rate));
                    tried.push(rate);
                }
            }
            assert!(tried.len() < 200, "{tried:?}");
        }
    }

    #[test]
    fn the_capacity_is_found_from_below_and_from_above() {
        for from in [100.0, 50_000.0] {
            let (found, tried) = search(from, 1e9, |_, rate| rate <= 12_345.0);
            let found = found.unwrap();
            assert!(
                (12_345.0 / 1.05..=12_345.0).contains(&found),
                "{found} {tried:?}"
            );
        }
    }

    #[test]
    fn confirmations_are_three_and_never_one_after_the_other() {
        let (found, tried) = search(1_000.0, 1e9, |_, rate| rate <= 5_000.0);
        let found = found.unwrap();
        let tail = &tried[tried.len() - 6..];
        assert_eq!(
            tail,
            [found / 2.0, found, found / 2.0, found, found / 2.0, found]
        );
    }

    #[test]
    fn a_rate_that_is_not_confirmed_is_given_up() {
        // Held once when it was tried first, and never again.
        let first = std::cell::Cell::new(true);
        let (found, _) = search(1_000.0, 1_000.0, |_, rate| {
            rate < 1_000.0 || first.replace(false)
        });
        assert_eq!(found, Some(900.0));
    }

    #[test]
    fn nothing_is_found_where_nothing_holds_and_the_limit_is_kept() {
        assert_eq!(search(1_000.0, 1e9, |_, _| false).0, None);
        let (found, tried) = search(1_000.0, 3_000.0, |_, _| true);
        assert_eq!(found, Some(3_000.0));
        assert!(tried.iter().all(|rate| *rate <= 3_000.0));
    }
}
