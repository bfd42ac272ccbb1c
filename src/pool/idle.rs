//! Connections nobody uses: last in, first out, with a way back to the one a session used before.

use std::collections::HashMap;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::chain::{Chain, Place};
use super::lease::Lease;
use crate::base::{
    clock::{Deadline, Now},
    close::CloseReason,
};

/// A connection's place among the idle. Stale once it was taken; a stale id is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdleId(Place);

/// The idle connections of one pool.
///
/// The list and the owner index keep their memory, so that a steady state allocates nothing.
#[derive(Debug)]
pub struct Idle<C> {
    /// The connections, and since when each is idle.
    kept: Chain<(Lease<C>, Now)>,
    /// The connection each session used last, but for that in `last`, which counts before this.
    by_owner: HashMap<u64, Place, FixedState>,
    /// The owner and the place of the connection put here last, while it is here. Most connections are the
    /// next to be taken, and so never come into the index.
    last: Option<(u64, Place)>,
}

impl<C> Default for Idle<C> {
    fn default() -> Self {
        Self {
            kept: Chain::default(),
            by_owner: HashMap::default(),
            last: None,
        }
    }
}

impl<C> Idle<C> {
    /// How many connections are idle.
    pub fn len(&self) -> u32 {
        self.kept.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// None becomes older than `age`.
    pub fn retire_by(&mut self, age: Duration) {
        for (lease, _) in self.kept.values_mut() {
            lease.retire_by(age);
        }
    }

    /// Keeps `lease`'s connection, whose `last_owner` has just ended with it.
    pub fn put(&mut self, lease: Lease<C>, now: Now) -> IdleId {
        let owner = lease.last_owner;
        let place = self.kept.push((lease, now));
        if let Some((owner, place)) = self.last.replace((owner, place))
            && owner != 0
        {
            self.by_owner.insert(owner, place);
        }
        IdleId(place)
    }

    /// The connection `owner` used last, else the one used last by anybody.
    pub fn take(&mut self, owner: u64) -> Option<Lease<C>> {
        let newest = self.kept.newest()?;
        let place = match self.last {
            Some((last, place)) if last == owner => place,
            _ => self.by_owner.get(&owner).copied().unwrap_or(newest),
        };
        self.remove_place(place)
    }

    /// The connection that is idle for longest.
    pub fn take_oldest(&mut self) -> Option<Lease<C>> {
        let oldest = self.kept.oldest()?;
        self.remove_place(oldest)
    }

    /// Since when the longest-idle connection is idle.
    pub fn oldest_since(&self) -> Option<Now> {
        let oldest = self.kept.get(self.kept.oldest()?);
        oldest.map(|(_, since)| *since)
    }

    /// Takes one connection out by its place, as when it became readable; `None` for a stale id.
    pub fn remove(&mut self, id: IdleId) -> Option<Lease<C>> {
        self.remove_place(id.0)
    }

    /// Takes out what has been idle since `idle_before` or earlier, what is beyond its age at
    /// `now`, and what `is_dead`. Looks at every idle connection: call it from housekeeping.
    pub fn sweep(
        &mut self,
        now: Now,
        idle_before: Option<Now>,
        mut is_dead: impl FnMut(&C) -> bool,
        out: &mut Vec<(Lease<C>, CloseReason)>,
    ) {
        let mut next = self.kept.oldest();
        while let Some(place) = next {
            next = self.kept.newer(place);
            let Some((lease, since)) = self.kept.get(place) else {
                continue;
            };
            let reason = if is_dead(&lease.connection) {
                CloseReason::UpstreamLost
            } else if lease.retires_at.is_over(now) {
                CloseReason::PoolAge
            } else if idle_before.is_some_and(|before| *since <= before) {
                CloseReason::PoolIdle
            } else {
                continue;
            };
            out.extend(self.remove_place(place).map(|lease| (lease, reason)));
        }
    }

    /// The earliest instant at which [`Idle::sweep`] would find something by time alone, with
    /// `idle_limit` nanoseconds as the idle limit. Looks at every idle connection.
    pub fn next_expiry(&self, idle_limit: Duration) -> Deadline {
        let kept = self.kept.values();
        kept.map(|(lease, since)| lease.retires_at.min(since.plus(idle_limit)))
            .min()
            .unwrap_or(Deadline::NEVER)
    }

    fn remove_place(&mut self, place: Place) -> Option<Lease<C>> {
        let (lease, _) = self.kept.remove(place)?;
        let owner = lease.last_owner;
        // An owner may have returned two connections: the later one is found by its owner, and once that
        // is gone none is.
        let is_last = self.last.is_some_and(|(_, last)| last == place);
        if is_last {
            self.last = None;
        }
        if !self.by_owner.is_empty() && (is_last || self.by_owner.get(&owner) == Some(&place)) {
            self.by_owner.remove(&owner);
        }
        Some(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    fn lease(connection: u64, owner: u64) -> Lease<u64> {
        Lease {
            connection,
            opened_at: Now(0),
            retires_at: Deadline::NEVER,
            last_owner: owner,
        }
    }

    #[test]
    fn a_session_gets_its_own_connection_else_the_last_used() {
        let mut idle = Idle::default();
        for (connection, owner) in [(1, 10), (2, 20), (3, 0), (4, 10)] {
            idle.put(lease(connection, owner), Now(connection));
        }
        let mut order = Vec::new();
        for owner in [20, 10, 10, 99, 99] {
            order.push(idle.take(owner).map(|l| l.connection));
        }
        // The second take by 10 no longer finds its first connection by owner, and gets the last
        // used one.
        assert_eq!(order, [Some(2), Some(4), Some(3), Some(1), None]);
    }

    #[test]
    fn a_removed_place_is_stale() {
        let mut idle = Idle::default();
        let a = idle.put(lease(1, 0), Now(0));
        assert_eq!(idle.remove(a).map(|l| l.connection), Some(1));
        let b = idle.put(lease(2, 0), Now(0));
        assert_eq!(idle.remove(a), None);
        assert_eq!(idle.remove(b).map(|l| l.connection), Some(2));
        assert!(idle.is_empty());
    }

    #[test]
    fn sweeping_finds_the_dead_the_old_and_the_idle() {
        let mut idle = Idle::default();
        for (connection, retires, since) in [(1, 100, 0), (2, 5, 9), (3, 100, 9), (4, 100, 9)] {
            let mut kept = lease(connection, 0);
            kept.retires_at = Deadline(retires);
            idle.put(kept, Now(since));
        }
        assert_eq!(
            idle.next_expiry(std::time::Duration::from_nanos(10)),
            Deadline(5)
        );
        let mut out = Vec::new();
        idle.sweep(Now(10), Some(Now(0)), |c| *c == 3, &mut out);
        let found: Vec<_> = out.iter().map(|(l, r)| (l.connection, *r)).collect();
        assert_eq!(
            found,
            [
                (1, CloseReason::PoolIdle),
                (2, CloseReason::PoolAge),
                (3, CloseReason::UpstreamLost)
            ]
        );
        assert_eq!(idle.take(0).map(|l| l.connection), Some(4));
    }

    #[test]
    fn an_owner_finds_the_connection_that_it_put_here_last_whatever_else_goes() {
        for seed in 0..200 {
            let mut prng = Prng::new(seed);
            let mut idle = Idle::default();
            let mut model: Vec<(u64, u64, IdleId)> = Vec::new();
            let mut latest: HashMap<u64, u64> = HashMap::new();
            for step in 1..300 {
                let owner = prng.below(4);
                let at = match prng.below(8) {
                    0..=3 => {
                        let id = idle.put(lease(step, owner), Now(step));
                        model.push((step, owner, id));
                        if owner != 0 {
                            latest.insert(owner, step);
                        }
                        continue;
                    }
                    _ if model.is_empty() => continue,
                    4..=6 => {
                        let own = latest.get(&owner);
                        let own = model.iter().position(|m| Some(&m.0) == own);
                        let at = own.unwrap_or(model.len() - 1);
                        let taken = idle.take(owner).map(|l| l.connection);
                        assert_eq!(taken, Some(model[at].0), "seed {seed}");
                        at
                    }
                    _ => {
                        let bound = u64::try_from(model.len()).unwrap();
                        let at = usize::try_from(prng.below(bound)).unwrap();
                        assert!(idle.remove(model[at].2).is_some());
                        at
                    }
                };
                let (connection, owner, _) = model.remove(at);
                if latest.get(&owner) == Some(&connection) {
                    latest.remove(&owner);
                }
            }
        }
    }

    #[test]
    fn any_mix_of_operations_agrees_with_a_plain_stack() {
        for seed in 0..200 {
            let mut prng = Prng::new(seed);
            let mut idle = Idle::default();
            let mut model: Vec<(u64, u64)> = Vec::new();
            for step in 1..300 {
                match prng.below(5) {
                    0..=2 => {
                        let owner = step + 1000;
                        idle.put(lease(step, owner), Now(step));
                        model.push((step, owner));
                    }
                    3 => {
                        let bound = u64::try_from(model.len()).unwrap();
                        let at = usize::try_from(prng.below(bound)).unwrap();
                        let owner = model.get(at).map_or(7, |m| m.1);
                        let expect = (!model.is_empty()).then(|| model.remove(at).0);
                        assert_eq!(idle.take(owner).map(|l| l.connection), expect);
                    }
                    _ => {
                        let expect = (!model.is_empty()).then(|| model.remove(0).0);
                        assert_eq!(idle.take_oldest().map(|l| l.connection), expect);
                    }
                }
                assert_eq!(
                    usize::try_from(idle.len()).unwrap(),
                    model.len(),
                    "seed {seed}"
                );
            }
        }
    }
}
