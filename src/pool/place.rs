//! Who may go one connection beyond the budget: one core of the node at a time.
//!
//! The node has one place for each endpoint. One core has it, or it travels; no core makes another, but
//! for a drain (the driver says when). A core that wants it asks the others. Who has it gives it when
//! nobody there needs it: at once, or when the one connection that it was taken for has ended. A core that
//! has it not forgets the question, so the asker repeats it while it wants the place; one that no longer
//! wants it keeps what comes, until it is asked.

use std::collections::VecDeque;

use crate::base::ident::{CoreId, EndpointName};

/// A message between the [`NodePlace`]s of two cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceMessage {
    /// Which endpoint's place.
    pub endpoint: EndpointName,
    /// The core that sends it.
    pub from: CoreId,
    /// What it says.
    pub body: PlaceBody,
}

/// What a [`PlaceMessage`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceBody {
    /// The sender wants the place.
    Ask,
    /// The receiver has the place now.
    Give,
}

/// Where the place is, as far as a core knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// On another core, or on its way.
    Away,
    /// Here, and nobody has taken it.
    Free,
    /// Here, and taken.
    Taken,
}

/// What one core knows of the node's place for one endpoint.
#[derive(Debug)]
pub struct NodePlace {
    place: Whereabouts,
    /// How many here want it.
    wanting: u32,
    /// Other cores that have asked since it came; each once.
    askers: VecDeque<CoreId>,
}

impl NodePlace {
    /// That of the core `me` at start: the first one has it.
    pub fn new(me: CoreId) -> Self {
        Self {
            place: match me {
                CoreId(0) => Whereabouts::Free,
                CoreId(_) => Whereabouts::Away,
            },
            wanting: 0,
            askers: VecDeque::new(),
        }
    }

    /// Where it is.
    pub fn whereabouts(&self) -> Whereabouts {
        self.place
    }

    /// Somebody here wants it: it is not given away before they have had it.
    pub fn wanted(&mut self) {
        self.wanting += 1;
    }

    /// One who wanted it has it, or wants it no more. Call [`Self::due`] after that.
    pub fn not_wanted(&mut self) {
        self.wanting = self.wanting.saturating_sub(1);
    }

    /// Takes it; `false` unless it is free here.
    #[must_use]
    pub fn try_take(&mut self) -> bool {
        let is_free = self.place == Whereabouts::Free;
        if is_free {
            self.place = Whereabouts::Taken;
        }
        is_free
    }

    /// Who took it is done. The core that it is to be given to now, if any: another comes before those
    /// who want it here, so that it goes round.
    #[must_use]
    pub fn released(&mut self) -> Option<CoreId> {
        self.place = Whereabouts::Free;
        self.give()
    }

    /// Another core asks.
    pub fn asked(&mut self, from: CoreId) {
        if self.place != Whereabouts::Away && !self.askers.contains(&from) {
            self.askers.push_back(from);
        }
    }

    /// It has come.
    pub fn received(&mut self) {
        if self.place == Whereabouts::Away {
            self.place = Whereabouts::Free;
        }
    }

    /// The core that it is to be given to now, if any: it counts as given.
    #[must_use]
    pub fn due(&mut self) -> Option<CoreId> {
        match self.wanting {
            0 => self.give(),
            _ => None,
        }
    }

    /// It could not be sent: it is still here, and the asker asks again.
    pub fn not_given(&mut self) {
        self.received();
    }

    fn give(&mut self) -> Option<CoreId> {
        if self.place != Whereabouts::Free {
            return None;
        }
        let to = self.askers.pop_front()?;
        self.place = Whereabouts::Away;
        Some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORES: [CoreId; 3] = [CoreId(0), CoreId(1), CoreId(2)];

    #[test]
    fn the_first_core_has_it_and_gives_it_at_once_when_it_is_free() {
        let [mut first, mut second, _] = CORES.map(NodePlace::new);
        assert!(!second.try_take());
        first.asked(CoreId(1));
        assert_eq!(first.due(), Some(CoreId(1)));
        assert_eq!(first.whereabouts(), Whereabouts::Away);
        assert!(!first.try_take(), "it travels");
        second.received();
        assert!(second.try_take());
        assert!(!second.try_take(), "once at a time");
    }

    #[test]
    fn who_asks_while_it_is_taken_has_it_after_that_before_those_here() {
        let mut first = NodePlace::new(CoreId(0));
        assert!(first.try_take());
        first.wanted();
        for from in [1, 2, 1] {
            first.asked(CoreId(from));
            assert_eq!(first.due(), None);
        }
        assert_eq!(first.released(), Some(CoreId(1)));
        assert!(!first.try_take());
        // Whoever is left is not forgotten, and waits until those here have had it.
        first.received();
        assert_eq!(first.due(), None);
        assert!(first.try_take());
        first.not_wanted();
        assert_eq!(first.due(), None);
        assert_eq!(first.released(), Some(CoreId(2)));
    }

    #[test]
    fn what_comes_for_somebody_here_is_theirs_before_it_is_given_on() {
        let mut second = NodePlace::new(CoreId(1));
        second.wanted();
        second.received();
        second.asked(CoreId(0));
        assert_eq!(second.due(), None);
        // They want it no more.
        second.not_wanted();
        assert_eq!(second.due(), Some(CoreId(0)));
    }

    #[test]
    fn what_cannot_be_sent_stays() {
        let mut first = NodePlace::new(CoreId(0));
        first.asked(CoreId(1));
        assert_eq!(first.due(), Some(CoreId(1)));
        first.not_given();
        assert_eq!(first.due(), None, "not offered without end");
        assert!(first.try_take());
        assert_eq!(first.released(), None);
        assert_eq!(first.whereabouts(), Whereabouts::Free);
    }

    #[test]
    fn a_core_without_it_forgets_who_asks_and_keeps_what_it_no_longer_wants() {
        let [_, mut second, mut third] = CORES.map(NodePlace::new);
        second.asked(CoreId(2));
        second.received();
        assert_eq!(second.due(), None);
        // A second question comes to where it is.
        second.asked(CoreId(2));
        assert_eq!(second.due(), Some(CoreId(2)));
        third.received();
        assert_eq!(third.due(), None);
        assert_eq!(third.whereabouts(), Whereabouts::Free);
    }

    /// Three cores, random wishes and messages that are delivered late, refused or both: there is one
    /// place at every instant, and everybody who wants it has it in the end.
    #[test]
    fn there_is_one_at_every_instant_and_everybody_gets_it() {
        for seed in 0..200 {
            Node::new(seed).run();
        }
    }

    struct Node {
        prng: crate::base::prng::Prng,
        cores: [NodePlace; 3],
        /// In the order sent: to, from, what.
        mail: Vec<(usize, usize, PlaceBody)>,
        wants: [bool; 3],
        had: [u32; 3],
    }

    impl Node {
        fn new(seed: u64) -> Self {
            Self {
                prng: crate::base::prng::Prng::new(seed),
                cores: CORES.map(NodePlace::new),
                mail: Vec::new(),
                wants: [false; 3],
                had: [0; 3],
            }
        }

        fn core(id: CoreId) -> usize {
            usize::from(id.0)
        }

        fn send(&mut self, from: usize, to: Option<CoreId>) {
            let Some(to) = to else { return };
            if self.prng.below(8) == 0 {
                self.cores[from].not_given();
            } else {
                self.mail.push((Self::core(to), from, PlaceBody::Give));
            }
        }

        fn step(&mut self) {
            let me = usize::try_from(self.prng.below(3)).unwrap();
            match self.prng.below(5) {
                0 if !self.wants[me] => {
                    self.wants[me] = true;
                    self.cores[me].wanted();
                }
                1 if self.wants[me] && self.cores[me].whereabouts() == Whereabouts::Away => {
                    let others = (0..3).filter(|to| *to != me);
                    self.mail.extend(others.map(|to| (to, me, PlaceBody::Ask)));
                }
                2 if self.wants[me] => {
                    let is_taken = self.cores[me].try_take();
                    let gives_up = self.prng.below(16) == 0;
                    self.had[me] += u32::from(is_taken);
                    if is_taken || gives_up {
                        self.wants[me] = false;
                        self.cores[me].not_wanted();
                        let to = self.cores[me].due();
                        self.send(me, to);
                    }
                }
                3 if self.cores[me].whereabouts() == Whereabouts::Taken => {
                    let to = self.cores[me].released();
                    self.send(me, to);
                }
                _ => self.deliver(),
            }
            let here = |core: &&NodePlace| core.whereabouts() != Whereabouts::Away;
            let held = self.cores.iter().filter(here).count();
            let gives = |mail: &&(usize, usize, PlaceBody)| mail.2 == PlaceBody::Give;
            assert_eq!(held + self.mail.iter().filter(gives).count(), 1);
        }

        fn deliver(&mut self) {
            if self.mail.is_empty() {
                return;
            }
            let (to, from, body) = self.mail.remove(0);
            match body {
                PlaceBody::Ask => self.cores[to].asked(CORES[from]),
                PlaceBody::Give => self.cores[to].received(),
            }
            let next = self.cores[to].due();
            self.send(to, next);
        }

        fn run(mut self) {
            for _ in 0..3_000 {
                self.step();
            }
            assert!(self.had.iter().all(|had| *had > 10), "{:?}", self.had);
        }
    }
}
