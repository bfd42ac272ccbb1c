//! How many connections the clients of one tenant may have at once, of an endpoint and on one core: those
//! in leases, being opened and being closed. Idle ones are not counted: another tenant's need closes them.

use std::cell::Cell;
use std::rc::Rc;

use super::{Gate, PoolId};
use crate::base::clock::Now;

/// A connection that counts as its tenant's from the connect to the end of the close, until this is dropped.
#[derive(Debug)]
#[must_use = "dropped, it is not counted"]
pub struct Counted(Rc<Cell<u32>>);

impl Counted {
    pub(super) fn new(connections: &Rc<Cell<u32>>) -> Self {
        connections.set(connections.get().saturating_add(1));
        Self(Rc::clone(connections))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// What a tenant may have, and has.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// `None`: as many as there are.
    pub(super) max: Option<u32>,
    /// All that it has, idle ones included.
    pub(super) connections: Rc<Cell<u32>>,
    pub(super) idle: u32,
}

impl Bound {
    fn busy(&self) -> u32 {
        self.connections.get().saturating_sub(self.idle)
    }

    /// How many more it may have.
    pub(super) fn room(&self) -> u32 {
        self.max
            .map_or(u32::MAX, |max| max.saturating_sub(self.busy()))
    }

    /// Whether it has more than it may: the bound has shrunk, or a connection has come from another core.
    pub(super) fn is_over(&self) -> bool {
        self.max.is_some_and(|max| self.busy() > max)
    }

    /// Whether connections of it are still to be closed.
    pub(super) fn is_in_use(&self) -> bool {
        Rc::strong_count(&self.connections) > 1
    }
}

/// What is left of the room of tenants with a bound, while their pools' needs are added up.
#[derive(Debug, Default)]
pub(super) struct Rooms(Vec<(usize, u32)>);

impl Rooms {
    /// How many of `wanted` connections `tenant` may have, where it began with `room`.
    pub(super) fn take(&mut self, tenant: usize, room: u32, wanted: u32) -> u32 {
        if room == u32::MAX {
            return wanted;
        }
        let known = self.0.iter_mut().find(|(known, _)| *known == tenant);
        let Some((_, left)) = known else {
            let taken = wanted.min(room);
            self.0.push((tenant, room - taken));
            return taken;
        };
        let taken = wanted.min(*left);
        *left -= taken;
        taken
    }
}

impl Gate {
    /// Tenants have these bounds from now on. `max` says nothing of those that it does not know: they keep
    /// what they have.
    pub fn set_bounds(&mut self, max: impl Fn(&str) -> Option<Option<u32>>) {
        for tenant in self.tenants.iter_mut().flatten() {
            if let Some(max) = max(&tenant.name) {
                tenant.bound.max = max;
            }
        }
        self.count_bounds();
    }

    /// Whether any tenant has a bound is asked for each lease, and counted where that may change.
    pub(super) fn count_bounds(&mut self) {
        let tenants = self.tenants.iter().flatten();
        self.bounded = tenants.filter(|tenant| tenant.bound.max.is_some()).count();
    }

    /// Whether any tenant has a bound.
    pub fn is_bounded(&self) -> bool {
        self.bounded > 0
    }

    /// How many more connections the tenant of this pool may have. It is asked for each lease, so where
    /// nobody has a bound nothing is looked up.
    pub fn room(&self, id: PoolId) -> u32 {
        if !self.is_bounded() {
            return u32::MAX;
        }
        self.bound_of(id).map_or(u32::MAX, Bound::room)
    }

    /// Whether it has more than it may, the one in hand included: that serves nobody more.
    pub fn is_over_bound(&self, id: PoolId) -> bool {
        self.is_bounded() && self.bound_of(id).is_some_and(Bound::is_over)
    }

    /// How many clients wait in the queue of this pool: a tenant with a bound has one of its own, so that
    /// those of others are not turned away for its sake.
    pub fn queue_len(&self, id: PoolId) -> u32 {
        if !self.is_bounded() {
            return self.totals().waiting;
        }
        if let Some((own, _)) = self.standing(id).filter(|_| self.has_bound(id)) {
            return own.waiting;
        }
        let waiting = self.waiting.iter().filter(|id| !self.has_bound(**id));
        let shares = waiting.filter_map(|id| self.standing(*id));
        shares.map(|(_, own)| own.waiting).sum()
    }

    /// Whether anybody waits who could have a connection if one of this pool became free.
    pub fn is_wanted_of(&self, id: PoolId) -> bool {
        self.waiting.iter().any(|to| self.room_after(*to, id) > 0)
    }

    /// Whether a connection of `from`, which has come back, is to leave its tenant's place to another of its
    /// pools: there somebody has waited for longer, and needs nothing but that place. A tenant that has
    /// all that it may have serves whoever waits longest. `since` tells since when a pool's oldest waiter
    /// waits, `can` whether it needs no more.
    pub fn leaves_place(
        &self,
        from: PoolId,
        since: impl Fn(PoolId) -> Option<Now>,
        can: impl Fn(PoolId) -> bool,
    ) -> bool {
        if !self.has_bound(from) || self.room(from) > 0 {
            return false;
        }
        let Some(own) = since(from) else {
            return false;
        };
        let mut others = self.waiting.iter().filter(|id| **id != from);
        others.any(|to| {
            self.are_kin(*to, from) && since(*to).is_some_and(|other| other < own) && can(*to)
        })
    }

    /// As [`Gate::room`], once a connection of `from` is no longer in use.
    pub(super) fn room_after(&self, to: PoolId, from: PoolId) -> u32 {
        let room = self.room(to);
        if room == u32::MAX {
            return room;
        }
        let is_over = self.bound_of(to).is_some_and(Bound::is_over);
        room.saturating_add(u32::from(self.are_kin(to, from) && !is_over))
    }

    pub(super) fn has_bound(&self, id: PoolId) -> bool {
        self.bound_of(id).is_some_and(|bound| bound.max.is_some())
    }

    fn are_kin(&self, a: PoolId, b: PoolId) -> bool {
        self.tenant_of(a) == self.tenant_of(b)
    }

    fn bound_of(&self, id: PoolId) -> Option<&Bound> {
        let tenant = self.tenant_of(id)?;
        Some(&self.tenants.get(tenant)?.as_ref()?.bound)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pool::{Counts, Facts};

    const MS: u64 = 1_000_000;

    /// Pools of the tenants `a` (two of them) and `b`, with what each has.
    struct Scene {
        gate: Gate,
        ids: [PoolId; 3],
        counts: [Counts; 3],
        /// One for each connection, by pool.
        connections: [Vec<Counted>; 3],
        /// Since when somebody waits, by pool.
        since: [u64; 3],
    }

    const TENANTS: [&str; 3] = ["a", "a", "b"];

    impl Scene {
        fn new(max: Option<u32>) -> Self {
            let mut gate = Gate::default();
            let bound = |tenant: &str| if tenant == "a" { max } else { None };
            let ids = TENANTS.map(|tenant| gate.join(&tenant.into(), || bound(tenant)));
            Self {
                gate,
                ids,
                counts: [Counts::default(); 3],
                connections: Default::default(),
                since: [0; 3],
            }
        }

        fn set(&mut self, pool: usize, leased: u32, idle: u32, waiting: u32) {
            let counts = Counts {
                leased,
                idle,
                waiting,
                connecting: 0,
            };
            let have = &mut self.connections[pool];
            have.truncate(usize::try_from(leased + idle).unwrap());
            while u32::try_from(have.len()).unwrap() < leased + idle {
                have.push(self.gate.count(&TENANTS[pool].into()));
            }
            self.counts[pool] = counts;
            self.gate.changed(self.ids[pool], counts, Now(0));
        }

        fn facts(&self) -> impl Fn(PoolId) -> Facts + use<> {
            let (counts, since) = (self.counts, self.since);
            move |id| Facts {
                uncovered: counts[id.index()]
                    .waiting
                    .saturating_sub(counts[id.index()].idle),
                oldest: (counts[id.index()].waiting > 0).then_some(Now(since[id.index()])),
                until: None,
                idle_since: (counts[id.index()].idle > 0).then_some(Now(0)),
            }
        }

        fn due(&mut self) -> Option<usize> {
            let facts = self.facts();
            self.gate.due(Now(MS), facts).map(PoolId::index)
        }

        fn wanted(&mut self, returned: Option<usize>) -> u32 {
            let facts = self.facts();
            let returned = returned.map(|pool| self.ids[pool]);
            self.gate.demand(returned, Now(MS), facts).waiters
        }

        fn leaves_place(&self, from: usize) -> bool {
            let (counts, since) = (self.counts, self.since);
            let waits = move |id: PoolId| {
                (counts[id.index()].waiting > 0).then_some(Now(since[id.index()]))
            };
            self.gate.leaves_place(self.ids[from], waits, |_| true)
        }
    }

    #[test]
    fn who_has_all_that_it_may_is_due_nothing_and_needs_nothing() {
        for (max, due, wanted) in [
            (None, Some(2), 12),
            (Some(9), Some(2), 8),
            (Some(7), Some(2), 6),
            (Some(3), Some(2), 2),
            (Some(1), Some(2), 2),
        ] {
            let mut scene = Scene::new(max);
            scene.set(0, 3, 0, 5);
            scene.set(1, 0, 0, 5);
            scene.set(2, 1, 0, 2);
            assert_eq!(scene.wanted(None), wanted, "{max:?}");
            assert_eq!(scene.due(), due, "{max:?}");
            scene.set(2, 3, 0, 0);
            let is_full = max.is_some_and(|max| max <= 3);
            assert_eq!(scene.due().is_none(), is_full, "{max:?}");
        }
    }

    #[test]
    fn nobody_gives_way_to_a_tenant_that_may_have_no_more() {
        for (max, gives) in [(None, true), (Some(3), true), (Some(2), false)] {
            let mut scene = Scene::new(max);
            scene.set(0, 2, 0, 9);
            scene.set(2, 6, 0, 9);
            let facts = scene.facts();
            let given = scene.gate.gives_way(scene.ids[2], Now(MS), &facts);
            assert_eq!(given, gives, "{max:?}");
            // Nor is an idle connection taken for it.
            scene.set(2, 5, 1, 0);
            let facts = scene.facts();
            let at = Now(MS * 600);
            assert_eq!(
                scene.gate.demand(None, at, facts).takes_idle,
                gives,
                "{max:?}"
            );
        }
    }

    #[test]
    fn idle_connections_are_not_counted_and_those_that_are_closed_are() {
        let mut scene = Scene::new(Some(4));
        scene.set(0, 3, 0, 0);
        assert_eq!(scene.gate.room(scene.ids[1]), 1);
        scene.set(0, 1, 2, 0);
        assert_eq!(scene.gate.room(scene.ids[1]), 3);
        // A connection that has left its pool and is not closed yet.
        let closing = scene.gate.count(&"a".into());
        assert_eq!(scene.gate.room(scene.ids[1]), 2);
        assert_eq!(scene.gate.room(scene.ids[2]), u32::MAX);
        // Nor are they forgotten with the pools.
        scene.set(0, 0, 0, 0);
        scene.gate.leave(scene.ids[0]);
        scene.gate.leave(scene.ids[1]);
        let again = scene.gate.join(&"a".into(), || Some(4));
        assert_eq!(scene.gate.room(again), 3);
        drop(closing);
        assert_eq!(scene.gate.room(again), 4);
    }

    #[test]
    fn a_tenant_is_forgotten_once_its_last_connection_is_closed_whoever_else_comes() {
        let mut scene = Scene::new(Some(4));
        scene.set(0, 0, 0, 0);
        let closing = scene.gate.count(&"a".into());
        scene.gate.leave(scene.ids[0]);
        scene.gate.leave(scene.ids[1]);
        scene.gate.forget_unused();
        assert!(scene.gate.is_bounded(), "it may come back meanwhile");
        drop(closing);
        scene.gate.forget_unused();
        assert!(!scene.gate.is_bounded());
        assert_eq!(scene.gate.tenants.iter().flatten().count(), 1);
    }

    #[test]
    fn a_place_goes_to_the_pool_of_the_tenant_that_waits_longest() {
        let mut scene = Scene::new(Some(2));
        scene.set(0, 2, 0, 1);
        scene.set(1, 0, 0, 1);
        for (since, leaves) in [([5, 9, 0], false), ([9, 5, 0], true)] {
            scene.since = since;
            assert_eq!(scene.leaves_place(0), leaves, "{since:?}");
        }
        // Once it is idle, the other is due.
        scene.set(0, 1, 1, 2);
        assert_eq!(scene.due(), Some(1));
        assert_eq!(scene.wanted(None), 1);
        // While it is in use, it is about to be free for them.
        scene.set(0, 2, 0, 0);
        assert_eq!((scene.wanted(None), scene.wanted(Some(0))), (0, 1));
        assert!(!scene.leaves_place(0), "it has nobody to serve there");
        let mut free = Scene::new(Some(3));
        free.set(0, 2, 0, 1);
        free.set(1, 0, 0, 1);
        free.since = [9, 5, 0];
        assert!(!free.leaves_place(0), "there is room for both");
    }

    #[test]
    fn a_bound_that_shrinks_holds_back_who_has_more_and_unknown_tenants_keep_theirs() {
        let mut scene = Scene::new(Some(4));
        scene.set(0, 3, 0, 0);
        let [id, _, other] = scene.ids;
        assert!(!scene.gate.is_over_bound(id));
        scene
            .gate
            .set_bounds(|tenant| (tenant == "a").then_some(Some(2)));
        assert!(scene.gate.is_over_bound(id));
        assert_eq!(scene.gate.room_after(scene.ids[1], id), 0);
        scene.gate.set_bounds(|_| None);
        assert!(scene.gate.is_over_bound(id));
        scene.gate.set_bounds(|_| Some(None));
        assert!(!scene.gate.is_bounded() && !scene.gate.is_over_bound(id));
        assert_eq!(scene.gate.room(id), u32::MAX);
        assert_eq!(scene.gate.room(other), u32::MAX);
    }

    #[test]
    fn a_tenant_with_a_bound_has_a_queue_of_its_own() {
        let mut scene = Scene::new(Some(1));
        scene.set(0, 1, 0, 70);
        scene.set(1, 0, 0, 7);
        scene.set(2, 1, 0, 3);
        let [first, second, other] = scene.ids;
        assert_eq!(scene.gate.queue_len(first), 77);
        assert_eq!(scene.gate.queue_len(second), 77);
        assert_eq!(scene.gate.queue_len(other), 3);
        assert!(scene.gate.is_wanted_of(first) && scene.gate.is_wanted_of(other));
        scene.set(2, 1, 0, 0);
        assert!(!scene.gate.is_wanted_of(other), "nobody else could have it");
        assert!(scene.gate.is_wanted_of(second));
        scene.gate.set_bounds(|_| Some(None));
        assert_eq!(scene.gate.queue_len(other), 77);
    }

    #[test]
    fn a_pool_that_is_held_back_keeps_what_comes_idle() {
        use crate::base::clock::Deadline;
        use crate::base::prng::Prng;
        use crate::pool::{Ended, LeaseEnd, Pool, PoolLimits};
        let mut pool = Pool::new(PoolLimits {
            waiters_max: 9,
            wait_target: None,
            idle_max: Duration::from_secs(1),
            age_max: Duration::from_secs(9),
        });
        pool.connect_started();
        let idle = pool.connected(1, Now(0), &mut Prng::new(1));
        assert!(matches!(idle, Ended::Idle(_)));
        let lease = pool.take(0).unwrap();
        pool.enqueue(7, Now(1), Deadline::NEVER).unwrap();
        pool.enqueue(8, Now(1), Deadline::NEVER).unwrap();
        assert!(!pool.is_held_up());
        pool.hold_back(true);
        let ended = pool.end(lease, 0, LeaseEnd::Return, Now(2));
        assert!(matches!(ended, Ended::Idle(_)) && pool.is_held_up());
        assert_eq!(pool.uncovered(), 1, "it covers one");
        let lease = pool.take(0).unwrap();
        pool.hold_back(false);
        let ended = pool.end(lease, 0, LeaseEnd::Return, Now(3));
        assert!(matches!(ended, Ended::HandedOver { to, .. } if to.owner == 7));
    }
}
