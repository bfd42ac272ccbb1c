//! Which pool of an endpoint is due a connection, when there are fewer than those who wait could use:
//! fairness between tenants, and between the pools of one tenant, on one core.
//!
//! What is shared is connections, not statements: a tenant has as many as any other that wants them
//! (max-min fairness by number), and keeps them from statement to statement, so that nothing is opened
//! anew while demand stays what it is. What does not divide evenly goes round: each tenant's time with
//! connections is counted, and once one is far enough ahead its connection goes to the one that is
//! behind (deficit round robin, with a quantum of connection time: M. Shreedhar and G. Varghese,
//! "Efficient fair queueing using deficit round-robin", SIGCOMM 1995). Within a pool who waits longest is
//! served first.
//!
//! A tenant that comes anew is behind nobody and ahead of nobody (the virtual time of start-time fair
//! queueing: P. Goyal, H. Vin and H. Cheng, SIGCOMM 1996).
//!
//! Totals are kept and not counted, and only pools that have waiters or idle connections are looked at:
//! what a statement costs does not grow with the pools that nobody uses.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::bound::{Bound, Counted, Rooms};
use super::{Counts, Demand};
use crate::base::clock::{Deadline, Now};

/// A pool at its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId(usize);

impl PoolId {
    /// A small number, used again when its pool is gone.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What a pool tells of itself when it is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Waiters that no connection of the pool's own will serve; 0 while the pool is left alone after failures.
    pub uncovered: u32,
    /// Since when the oldest waiter waits.
    pub oldest: Option<Now>,
    /// When it stops waiting.
    pub until: Option<Deadline>,
    /// Since when the longest-idle connection is idle.
    pub idle_since: Option<Now>,
}

/// A connection idle for this long is taken from those who have more of them.
const RESTED: Duration = Duration::from_millis(5);
/// A connection idle for this long is taken from those who have no more than who wants it: opening it anew
/// costs some hundredths of that.
const LONG_RESTED: Duration = Duration::from_millis(100);
/// The least and the most that somebody may be ahead, nanoseconds of connection time.
const QUANTUM: (u64, u64) = (20_000_000, 500_000_000);
/// How long it may take until each of many that have no connection has had one, nanoseconds: the more they
/// are for each connection, the less of the quantum each has.
const ROUND: u64 = 1_000_000_000;
/// With the least, so many leases must have ended since a connection last went to another pool: some 13
/// connects for 1,000 statements.
const LEASES: u32 = 75;

/// What a tenant, or a pool, has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// Connections: open or being opened.
    held: u32,
    pub(super) waiting: u32,
    /// Nanoseconds of connection time until the gate's clock read `at`.
    had: u64,
    at: u64,
    /// What the clock read when it last got a connection more.
    turn: u64,
}

impl Share {
    fn had_at(&self, clock: u64) -> u64 {
        let more = clock.saturating_sub(self.at);
        let more = more.saturating_mul(u64::from(self.held));
        self.had.saturating_add(more)
    }

    fn change(&mut self, from: &Counts, to: &Counts, clock: u64, floor: u64) {
        // Whoever had a connection to himself for long, as a statement or a transaction lasted, owes a
        // quantum for it and not all that time.
        self.had = self.had_at(clock).min(floor.saturating_add(QUANTUM.1));
        self.at = clock;
        if to.held() > from.held() {
            self.turn = clock;
        }
        let was_waiting = self.waiting > 0;
        self.held = self.held.saturating_sub(from.held()) + to.held();
        self.waiting = self.waiting.saturating_sub(from.waiting) + to.waiting;
        if !was_waiting && self.waiting > 0 {
            self.had = self.had.max(floor);
        }
    }
}

#[derive(Debug)]
struct Member {
    tenant: usize,
    share: Share,
    counts: Counts,
}

#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) name: Arc<str>,
    pub(super) share: Share,
    pools: u32,
    pub(super) bound: Bound,
}

/// The pools of one endpoint on one core.
#[derive(Debug, Default)]
pub struct Gate {
    members: Vec<Option<Member>>,
    pub(super) tenants: Vec<Option<Tenant>>,
    /// How many of them have a bound.
    pub(super) bounded: usize,
    /// Those with waiters, and those with idle connections, in no order.
    pub(super) waiting: Vec<PoolId>,
    idling: Vec<PoolId>,
    totals: Counts,
    /// Nanoseconds in which somebody waited, until `clock_at`: what is had while nobody else wants it is
    /// not counted.
    clock: u64,
    clock_at: Now,
    /// The least connection time of a tenant and of a pool with waiters: where those begin who come anew.
    floor: (u64, u64),
    /// Leases that have ended since a connection last went to another pool.
    leases: u32,
}

impl Gate {
    /// A new pool of `tenant`, which may have `max` connections if it had no pool.
    pub fn join(&mut self, tenant: &Arc<str>, max: impl FnOnce() -> Option<u32>) -> PoolId {
        let tenant = self.place_of(tenant);
        if let Some(tenant) = self.tenants.get_mut(tenant).and_then(Option::as_mut) {
            if tenant.pools == 0 {
                self.bounded -= usize::from(tenant.bound.max.is_some());
                tenant.bound.max = max();
                self.bounded += usize::from(tenant.bound.max.is_some());
            }
            tenant.pools += 1;
        }
        let member = Member {
            tenant,
            share: Share::default(),
            counts: Counts::default(),
        };
        PoolId(put(&mut self.members, member))
    }

    /// A connection of `tenant` from now on.
    pub fn count(&mut self, tenant: &Arc<str>) -> Counted {
        let at = self.place_of(tenant);
        let tenant = self.tenants.get(at).and_then(Option::as_ref);
        tenant.map_or_else(
            || Counted::new(&Rc::default()),
            |tenant| Counted::new(&tenant.bound.connections),
        )
    }

    /// The place of a tenant, which it is given if it has none.
    fn place_of(&mut self, tenant: &Arc<str>) -> usize {
        let known = self.tenants.iter().position(|known| {
            let known = known.as_ref();
            known.is_some_and(|known| known.name == *tenant)
        });
        known.unwrap_or_else(|| {
            let tenant = Tenant {
                name: Arc::clone(tenant),
                share: Share::default(),
                pools: 0,
                bound: Bound::default(),
            };
            put(&mut self.tenants, tenant)
        })
    }

    /// Forgets tenants that have neither a pool nor a connection that is still to be closed. Call it after
    /// [`Gate::leave`], and again from time to time: a tenant's last connection may be closed after its
    /// pools are gone.
    pub fn forget_unused(&mut self) {
        for place in &mut self.tenants {
            let is_used = |tenant: &mut Tenant| tenant.pools > 0 || tenant.bound.is_in_use();
            if !place.as_mut().is_some_and(is_used) {
                *place = None;
            }
        }
        self.count_bounds();
    }

    /// A pool is gone. It must be empty.
    pub fn leave(&mut self, id: PoolId) {
        let member = self.members.get_mut(id.0).and_then(Option::take);
        let Some(Member { tenant, .. }) = member else {
            return;
        };
        let tenant = self.tenants.get_mut(tenant).and_then(Option::as_mut);
        if let Some(tenant) = tenant {
            tenant.pools = tenant.pools.saturating_sub(1);
        }
    }

    /// What a pool has is this now. Call it after whatever changes it.
    pub fn changed(&mut self, id: PoolId, to: Counts, now: Now) {
        let clock = self.clock(now);
        let Some(member) = self.members.get_mut(id.0).and_then(Option::as_mut) else {
            return;
        };
        let from = std::mem::replace(&mut member.counts, to);
        if from == to {
            return;
        }
        (self.clock, self.clock_at) = (clock, now);
        self.totals.replace(&from, &to);
        if from.idle != to.idle
            && let Some(tenant) = self.tenants.get_mut(member.tenant)
            && let Some(tenant) = tenant
        {
            let others = tenant.bound.idle.saturating_sub(from.idle);
            tenant.bound.idle = others.saturating_add(to.idle);
        }
        // Who has what changes with the number of connections and of those who wait, not from lease to lease.
        if from.held() != to.held() || from.waiting != to.waiting {
            member.share.change(&from, &to, clock, self.floor.1);
            let tenant = self.tenants.get_mut(member.tenant);
            if let Some(tenant) = tenant.and_then(Option::as_mut) {
                tenant.share.change(&from, &to, clock, self.floor.0);
            }
        }
        list(&mut self.waiting, id, from.waiting > 0, to.waiting > 0);
        list(&mut self.idling, id, from.idle > 0, to.idle > 0);
    }

    /// What all pools have together.
    pub fn totals(&self) -> Counts {
        self.totals
    }

    /// The pools in which somebody waits, in no order.
    pub fn waiting(&self) -> &[PoolId] {
        &self.waiting
    }

    /// Whether nobody waits but in this pool: a connection that comes back there is nobody else's.
    pub fn waits_alone(&self, id: PoolId) -> bool {
        self.waiting.iter().all(|waiting| *waiting == id)
    }

    /// A lease has ended well.
    pub fn lease_ended(&mut self) {
        self.leases = self.leases.saturating_add(1);
    }

    /// A connection is closed so that another pool may open one.
    pub fn moved(&mut self) {
        self.leases = 0;
    }

    fn clock(&self, now: Now) -> u64 {
        let more = match self.totals.waiting {
            0 => Duration::ZERO,
            _ => now.since(self.clock_at),
        };
        let more = u64::try_from(more.as_nanos()).unwrap_or(u64::MAX);
        self.clock.saturating_add(more)
    }

    /// The pool with waiters that is due the next connection.
    pub fn due(&mut self, now: Now, facts: impl Fn(PoolId) -> Facts) -> Option<PoolId> {
        self.due_after(None, now, facts)
    }

    /// The same, once the connection of this pool is no longer in use.
    fn due_after(
        &mut self,
        returned: Option<PoolId>,
        now: Now,
        facts: impl Fn(PoolId) -> Facts,
    ) -> Option<PoolId> {
        if self.totals.waiting == 0 {
            return None;
        }
        let clock = self.clock(now);
        let mut least = (u64::MAX, u64::MAX);
        let mut first = None;
        for id in &self.waiting {
            let told = facts(*id);
            let Some((tenant, own)) = self.standing(*id) else {
                continue;
            };
            if told.uncovered == 0 || self.room_for(*id, returned) == 0 {
                continue;
            }
            least.0 = least.0.min(tenant.had_at(clock));
            least.1 = least.1.min(own.had_at(clock));
            let rank = match self.has_bound(*id) {
                // Its pools take turns: what is idle in one of them waits for its place as well.
                true => rank(tenant, &Share::default(), &told, clock),
                false => rank(tenant, own, &told, clock),
            };
            if first.is_none_or(|(best, _)| rank < best) {
                first = Some((rank, *id));
            }
        }
        let (_, id) = first?;
        self.floor = (self.floor.0.max(least.0), self.floor.1.max(least.1));
        Some(id)
    }

    /// What the endpoint's pools need at this instant, but for the key of the pool that is due.
    /// Who waits for a tenant's bound needs nothing, but what is set free by the return of `returned`'s.
    pub fn demand<'a>(
        &mut self,
        returned: Option<PoolId>,
        now: Now,
        facts: impl Fn(PoolId) -> Facts,
    ) -> Demand<'a> {
        let mut demand = Demand {
            idle: self.totals.idle,
            ..Demand::default()
        };
        if self.totals.waiting > 0 {
            let mut rooms = Rooms::default();
            for id in &self.waiting {
                let told = facts(*id);
                let room = self.room_for(*id, returned);
                let tenant = self.tenant_of(*id).unwrap_or_default();
                let wanted = rooms.take(tenant, room, told.uncovered);
                if wanted > 0 {
                    demand.waiters += wanted;
                    demand.oldest = earlier(demand.oldest, told.oldest);
                }
            }
        }
        if self.totals.idle > 0 {
            for id in &self.idling {
                demand.idle_since = earlier(demand.idle_since, facts(*id).idle_since);
            }
        }
        if demand.waiters > 0 {
            demand.due = self.due_after(returned, now, &facts);
            let take_at = self.take_at(now, &facts);
            demand.takes_idle = take_at.is_over(now);
            demand.take_at = take_at;
        }
        demand
    }

    /// Whether `from` is to give its connection up, which has come back, for another pool's waiters.
    pub fn gives_way(&self, from: PoolId, now: Now, facts: impl Fn(PoolId) -> Facts) -> bool {
        let mut others = self.waiting.iter().filter(|id| **id != from);
        others.any(|to| {
            let told = facts(*to);
            let may = told.uncovered > 0 && self.room_for(*to, Some(from)) > 0;
            may && self.is_before(*to, &told, from, now)
        })
    }

    /// Whose idle connection to take, of all that have one: of who has most of them.
    pub fn victim(&self, now: Now, facts: impl Fn(PoolId) -> Facts) -> Option<PoolId> {
        let candidates = self.idling.iter().copied();
        let ranked = candidates.filter_map(|id| {
            let since = facts(id).idle_since?;
            let may_be_taken = self.taken_from(id, since, &facts, now).is_over(now);
            let held = self.standing(id)?.0.held;
            Some(((may_be_taken, held, std::cmp::Reverse(since)), id))
        });
        let most = ranked.max_by_key(|(rank, _)| *rank);
        most.map(|(_, id)| id)
    }

    /// When an idle connection may next be taken for those who wait.
    fn take_at(&self, now: Now, facts: impl Fn(PoolId) -> Facts) -> Deadline {
        let candidates = self.idling.iter().copied();
        let times = candidates.filter_map(|id| {
            let since = facts(id).idle_since?;
            Some(self.taken_from(id, since, &facts, now))
        });
        times.min().unwrap_or(Deadline::NEVER)
    }

    /// When the connection of `from`, idle since `since`, may be taken for some other pool's waiters.
    fn taken_from(
        &self,
        from: PoolId,
        since: Now,
        facts: impl Fn(PoolId) -> Facts,
        now: Now,
    ) -> Deadline {
        let others = self.waiting.iter().copied();
        let others = others.map(|id| (id, facts(id)));
        let others = others
            .filter(|(id, told)| *id != from && told.uncovered > 0 && self.room_for(*id, None) > 0);
        let times = others.map(|(to, told)| {
            if self.is_before(to, &told, from, now) {
                return since.plus(Duration::ZERO);
            }
            let Some((to, from)) = self.shares(to, from) else {
                return Deadline::NEVER;
            };
            let most = Duration::from_nanos(QUANTUM.1);
            since.plus(match self.leases < LEASES {
                _ if from.held > to.held => RESTED,
                true => most,
                false => LONG_RESTED,
            })
        });
        times.min().unwrap_or(Deadline::NEVER)
    }

    /// Whether a connection should go from one pool to another that has waiters.
    fn is_before(&self, to: PoolId, told: &Facts, from: PoolId, now: Now) -> bool {
        let Some((to, from)) = self.shares(to, from) else {
            return false;
        };
        if to.held + 1 != from.held {
            return to.held + 1 < from.held;
        }
        // One more or one less: it goes round. Who has none waits for the end of the other's turn; of those
        // that have some, each is to have the one more for as long.
        let clock = self.clock(now);
        let ahead = match to.held {
            0 => clock.saturating_sub(from.turn),
            _ => from.had_at(clock).saturating_sub(to.had_at(clock)),
        };
        let (least, _) = QUANTUM;
        ahead >= self.most() || ahead >= least && self.leases >= LEASES || is_urgent(told, now)
    }

    /// The most that somebody may be ahead, with so many that wait for so many connections.
    fn most(&self) -> u64 {
        let waiting = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX).max(1);
        let part = ROUND.saturating_mul(u64::from(self.totals.held())) / waiting;
        part.clamp(QUANTUM.0, QUANTUM.1)
    }

    /// What is compared of two pools: their tenants' shares, or their own if they have one tenant.
    fn shares(&self, a: PoolId, b: PoolId) -> Option<(&Share, &Share)> {
        let member = |id: PoolId| self.members.get(id.0)?.as_ref();
        let (a, b) = (member(a)?, member(b)?);
        if a.tenant == b.tenant {
            return Some((&a.share, &b.share));
        }
        let tenant = |at: usize| Some(&self.tenants.get(at)?.as_ref()?.share);
        Some((tenant(a.tenant)?, tenant(b.tenant)?))
    }

    /// How many connections this pool's tenant may have more, once that of `returned` is free.
    fn room_for(&self, id: PoolId, returned: Option<PoolId>) -> u32 {
        returned.map_or_else(|| self.room(id), |from| self.room_after(id, from))
    }

    pub(super) fn tenant_of(&self, id: PoolId) -> Option<usize> {
        Some(self.members.get(id.0)?.as_ref()?.tenant)
    }

    /// The shares of a pool's tenant and of the pool.
    pub(super) fn standing(&self, id: PoolId) -> Option<(&Share, &Share)> {
        let member = self.members.get(id.0)?.as_ref()?;
        let tenant = self.tenants.get(member.tenant)?.as_ref()?;
        Some((&tenant.share, &member.share))
    }
}

/// Who is due first has the lowest: connections of the tenant, then of the pool. Of those that have none the
/// one that has waited longest is first, of others the one that has had the least.
fn rank(tenant: &Share, own: &Share, told: &Facts, clock: u64) -> (u32, u64, u32, u64, Now) {
    let oldest = told.oldest.unwrap_or_default();
    let second = |share: &Share| match share.held {
        0 => oldest.0,
        _ => share.had_at(clock),
    };
    (tenant.held, second(tenant), own.held, second(own), oldest)
}

/// Whether the oldest waiter has waited for half of the time that it has.
fn is_urgent(told: &Facts, now: Now) -> bool {
    let (Some(oldest), Some(until)) = (told.oldest, told.until) else {
        return false;
    };
    until
        .left(oldest)
        .is_some_and(|patience| now.since(oldest) >= patience / 2)
}

/// Puts a value into a free place, or a new one.
fn put<T>(places: &mut Vec<Option<T>>, value: T) -> usize {
    match places.iter_mut().position(|place| place.is_none()) {
        Some(free) => {
            if let Some(place) = places.get_mut(free) {
                *place = Some(value);
            }
            free
        }
        None => {
            places.push(Some(value));
            places.len() - 1
        }
    }
}

/// Brings a list up to date with whether `id` belongs there.
fn list(list: &mut Vec<PoolId>, id: PoolId, was: bool, is: bool) {
    if was == is {
        return;
    }
    if is {
        list.push(id);
    } else if let Some(at) = list.iter().position(|listed| *listed == id) {
        list.swap_remove(at);
    }
}

fn earlier(a: Option<Now>, b: Option<Now>) -> Option<Now> {
    [a, b].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Pools at a gate, and what they have.
    struct Scene {
        gate: Gate,
        ids: Vec<PoolId>,
        counts: Vec<Counts>,
        idle_since: Vec<Option<Now>>,
    }

    impl Scene {
        fn new(tenants: &[&str]) -> Self {
            let mut gate = Gate::default();
            let ids: Vec<_> = tenants
                .iter()
                .map(|name| gate.join(&(*name).into(), || None))
                .collect();
            Self {
                gate,
                counts: vec![Counts::default(); ids.len()],
                idle_since: vec![None; ids.len()],
                ids,
            }
        }

        /// The pool has so many leases, and so many sessions wait there.
        fn set(&mut self, pool: usize, leased: u32, waiting: u32, now: u64) {
            self.counts[pool] = Counts {
                leased,
                waiting,
                ..self.counts[pool]
            };
            self.gate
                .changed(self.ids[pool], self.counts[pool], Now(now));
        }

        fn set_idle(&mut self, pool: usize, idle: u32, now: u64) {
            self.counts[pool].idle = idle;
            self.idle_since[pool] = (idle > 0).then_some(Now(now));
            self.gate
                .changed(self.ids[pool], self.counts[pool], Now(now));
        }

        fn facts(&self) -> impl Fn(PoolId) -> Facts + use<> {
            let (counts, idle_since) = (self.counts.clone(), self.idle_since.clone());
            move |id| Facts {
                uncovered: counts[id.index()].waiting,
                oldest: None,
                until: None,
                idle_since: idle_since[id.index()],
            }
        }

        fn gives_way(&self, from: usize, now: u64) -> bool {
            let facts = self.facts();
            self.gate.gives_way(self.ids[from], Now(now), facts)
        }

        fn due(&mut self, now: u64) -> Option<usize> {
            let facts = self.facts();
            self.gate.due(Now(now), facts).map(PoolId::index)
        }
    }

    #[test]
    fn who_has_more_gives_way_until_both_have_the_same() {
        let mut scene = Scene::new(&["a", "b"]);
        for (a, b, gives) in [
            (8, 0, true),
            (6, 2, true),
            (5, 3, true),
            (4, 4, false),
            (3, 5, false),
        ] {
            scene.set(0, a, 9, 0);
            scene.set(1, b, 9, 0);
            assert_eq!(scene.gives_way(0, MS), gives, "{a} beside {b}");
        }
    }

    #[test]
    fn tenants_are_compared_first_and_pools_of_one_tenant_with_each_other() {
        let mut scene = Scene::new(&["a", "a", "b"]);
        scene.set(0, 2, 1, 0);
        scene.set(1, 2, 1, 0);
        scene.set(2, 4, 1, 0);
        for pool in 0..3 {
            assert!(!scene.gives_way(pool, MS), "pool {pool}");
        }
        scene.set(1, 0, 1, MS);
        assert!(scene.gives_way(0, MS), "the tenant's other pool has none");
        assert!(scene.gives_way(2, MS), "the other tenant has less");
        assert_eq!(scene.due(MS), Some(1));
    }

    #[test]
    fn what_does_not_divide_goes_round_after_a_quantum() {
        let mut scene = Scene::new(&["a", "b"]);
        scene.set(0, 4, 9, 0);
        scene.set(1, 3, 9, 0);
        // One connection more for some time: that much connection time.
        assert!(!scene.gives_way(0, 25 * MS), "too few leases");
        (0..LEASES).for_each(|_| scene.gate.lease_ended());
        assert!(!scene.gives_way(0, 19 * MS));
        assert!(scene.gives_way(0, 20 * MS));
        assert!(!scene.gives_way(1, 20 * MS), "has less");
        scene.gate.moved();
        assert!(!scene.gives_way(0, 21 * MS), "just moved");
        assert!(
            scene.gives_way(0, 500 * MS),
            "slow statements wait no longer"
        );
    }

    #[test]
    fn nothing_is_owed_from_when_nobody_waited_or_was_there() {
        let mut scene = Scene::new(&["a", "b"]);
        scene.set(0, 4, 0, 0);
        scene.set(1, 3, 0, 0);
        let hour = 3_600_000 * MS;
        (0..LEASES).for_each(|_| scene.gate.lease_ended());
        scene.set(0, 4, 5, hour);
        scene.set(1, 3, 5, hour);
        assert!(!scene.gives_way(0, hour + 19 * MS));
        assert!(scene.gives_way(0, hour + 20 * MS));
        // Alone in want of more for an hour: who comes then is ahead by nothing but what it lacks.
        let mut scene = Scene::new(&["a", "b"]);
        scene.set(0, 4, 5, 0);
        assert_eq!(scene.due(hour), Some(0));
        scene.set(1, 3, 5, hour);
        (0..LEASES).for_each(|_| scene.gate.lease_ended());
        assert!(!scene.gives_way(0, hour + 19 * MS));
    }

    #[test]
    fn one_long_statement_is_a_debt_of_a_quantum() {
        let mut scene = Scene::new(&["a", "b"]);
        scene.set(0, 1, 0, 0);
        scene.set(1, 0, 5, 0);
        assert_eq!(scene.due(9_000 * MS), Some(1));
        // It ends after ten seconds, and the other one has its turn.
        scene.set(0, 0, 0, 10_000 * MS);
        scene.set(1, 1, 5, 10_000 * MS);
        scene.set(0, 0, 3, 11_000 * MS);
        assert!(scene.gives_way(1, 12_000 * MS));
    }

    #[test]
    fn a_turn_ends_also_for_one_that_owes() {
        let mut scene = Scene::new(&["a", "b", "c"]);
        scene.set(0, 1, 1, 0);
        scene.set(1, 0, 1, 0);
        scene.set(2, 0, 1, 0);
        // The first owes all that anybody may, and gets a turn again.
        assert_eq!(scene.due(10_000 * MS), Some(1));
        scene.set(0, 0, 1, 10_000 * MS);
        scene.set(0, 1, 1, 10_000 * MS);
        // Others come and go meanwhile, as do the waiters of its own.
        for step in 0..32 {
            scene.set(0, 1, 1 + step % 2, (10_000 + u64::from(step) * 10) * MS);
        }
        assert!(!scene.gives_way(0, 10_330 * MS));
        assert!(scene.gives_way(0, 10_340 * MS), "a third of a second");
    }

    #[test]
    fn the_more_wait_for_a_connection_the_sooner_it_changes_hands() {
        let names: Vec<String> = (0..21).map(|number| format!("t{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut scene = Scene::new(&names);
        scene.set(0, 1, 1, 0);
        (1..20).for_each(|pool| scene.set(pool, 0, 1, 0));
        assert!(!scene.gives_way(0, 49 * MS));
        assert!(scene.gives_way(0, 50 * MS), "a twentieth of a second");
    }

    #[test]
    fn half_of_the_patience_is_enough() {
        let mut scene = Scene::new(&["a", "b"]);
        scene.set(0, 1, 1, 0);
        scene.set(1, 0, 1, 0);
        let facts = |_| Facts {
            uncovered: 1,
            oldest: Some(Now(0)),
            until: Some(Deadline(400 * MS)),
            idle_since: None,
        };
        let from = scene.ids[0];
        assert!(!scene.gate.gives_way(from, Now(199 * MS), facts));
        assert!(scene.gate.gives_way(from, Now(200 * MS), facts));
    }

    #[test]
    fn idle_connections_are_taken_from_who_has_more_sooner() {
        let mut scene = Scene::new(&["a", "b", "c"]);
        scene.set(2, 1, 1, 0);
        scene.set_idle(0, 1, 0);
        let facts = scene.facts();
        let demand = scene.gate.demand(None, Now(MS), &facts);
        assert_eq!((demand.waiters, demand.idle), (1, 1));
        assert!(!demand.takes_idle);
        assert_eq!(
            demand.take_at,
            Deadline(500 * MS),
            "as few leases have ended"
        );
        (0..LEASES).for_each(|_| scene.gate.lease_ended());
        let demand = scene.gate.demand(None, Now(MS), &facts);
        assert_eq!(
            demand.take_at,
            Deadline(100 * MS),
            "it has no more than who waits"
        );
        scene.set(1, 1, 0, MS);
        scene.set_idle(1, 1, MS);
        let facts = scene.facts();
        let demand = scene.gate.demand(None, Now(2 * MS), &facts);
        assert_eq!(demand.take_at, Deadline(6 * MS), "the second has two");
        assert!(scene.gate.demand(None, Now(6 * MS), &facts).takes_idle);
        let victim = scene.gate.victim(Now(6 * MS), &facts);
        assert_eq!(victim.map(PoolId::index), Some(1));
    }

    #[test]
    fn places_are_used_again_and_tenants_go_with_their_last_pool() {
        let mut scene = Scene::new(&["a", "a", "b"]);
        scene.gate.leave(scene.ids[0]);
        scene.gate.leave(scene.ids[1]);
        scene.gate.forget_unused();
        assert_eq!(scene.gate.tenants.iter().flatten().count(), 1);
        assert_eq!(scene.gate.join(&"c".into(), || None).index(), 0);
        assert_eq!(scene.gate.totals(), Counts::default());
        assert_eq!(scene.due(0), None);
    }
}
