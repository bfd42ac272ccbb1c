//! How many clients each tenant has on the node, so that it has no more than `tenants.*.connections_max`.
//!
//! The kernel picks a client's core, and cores share no counter. So each tenant has a *home*: the core
//! that adds up what the cores have of it, and that the others ask before they let a client in. What a core
//! tells is always the whole number of its clients, asking ones included: a number that was lost is made
//! good by the next one. This is bookkeeping alone; [`super::seat`] sends the messages.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::base::ident::CoreId;

/// A message between two cores about clients of tenants.
#[derive(Clone, Debug)]
pub struct TenantMessage {
    pub(super) from: CoreId,
    pub(super) body: TenantBody,
}

/// What it says.
#[derive(Clone, Debug)]
pub(super) enum TenantBody {
    /// May this client come in? `count` is the sender's clients with it.
    Ask {
        tenant: Arc<str>,
        count: u32,
        client: u64,
    },
    /// The answer, to the core of the client.
    Answer { client: u64, is_admitted: bool },
    /// The sender has so many clients of this tenant now.
    Count { tenant: Arc<str>, count: u32 },
    /// All that the sender has of bounded tenants whose home the receiver is.
    Counts(Vec<(Arc<str>, u32)>),
}

/// What becomes of a client that wants to come in.
#[derive(Debug)]
pub(super) enum Entry {
    /// Decided here: whether it may.
    Decided(bool),
    /// The home has to be asked.
    Ask(CoreId, TenantMessage),
}

/// One core's numbers.
#[derive(Debug)]
pub(super) struct Tenants {
    core: CoreId,
    cores: u16,
    /// This core's clients, those that are asking included, by tenant.
    here: HashMap<Arc<str>, u32, FixedState>,
    /// What other cores have told of tenants at home here: by tenant, the cores that have any.
    told: HashMap<Arc<str>, Vec<(CoreId, u32)>, FixedState>,
}

impl Tenants {
    /// Nobody is in.
    pub(super) fn new(core: CoreId, cores: u16) -> Self {
        Self {
            core,
            cores: cores.max(1),
            here: HashMap::default(),
            told: HashMap::default(),
        }
    }

    /// The core that adds up a tenant's clients; the same on every core and over reloads.
    pub(super) fn home(&self, tenant: &str) -> CoreId {
        let hash = xxhash_rust::xxh3::xxh3_64(tenant.as_bytes());
        CoreId(u16::try_from(hash % u64::from(self.cores)).unwrap_or(0))
    }

    /// A client of `tenant` wants to come in, where at most `max` may be. It counts from now on, whatever
    /// comes of it, until [`Tenants::leave`].
    pub(super) fn enter(&mut self, tenant: &Arc<str>, max: Option<u32>, client: u64) -> Entry {
        let count = self.here.entry(Arc::clone(tenant)).or_default();
        *count = count.saturating_add(1);
        let count = *count;
        let Some(max) = max else {
            return Entry::Decided(true);
        };
        let home = self.home(tenant);
        if home == self.core {
            return Entry::Decided(self.sum(tenant) <= u64::from(max));
        }
        let tenant = Arc::clone(tenant);
        let body = TenantBody::Ask {
            tenant,
            count,
            client,
        };
        Entry::Ask(home, self.message(body))
    }

    /// A client of `tenant` is gone. What the home is to be told, if it is another core.
    pub(super) fn leave(&mut self, tenant: &Arc<str>) -> Option<(CoreId, TenantMessage)> {
        let mut count = 0;
        if let Some(here) = self.here.get_mut(tenant) {
            *here = here.saturating_sub(1);
            count = *here;
        }
        if count == 0 {
            self.here.remove(tenant);
        }
        let home = self.home(tenant);
        let tenant = Arc::clone(tenant);
        let told = || self.message(TenantBody::Count { tenant, count });
        (home != self.core).then(|| (home, told()))
    }

    /// Another core asks for a client of a tenant at home here; whether it may come in.
    pub(super) fn on_ask(
        &mut self,
        from: CoreId,
        tenant: &Arc<str>,
        count: u32,
        max: Option<u32>,
    ) -> bool {
        self.on_count(from, tenant, count);
        let is_admitted = max.is_none_or(|max| self.sum(tenant) <= u64::from(max));
        if !is_admitted {
            self.on_count(from, tenant, count.saturating_sub(1));
        }
        is_admitted
    }

    /// Another core has told how many it has.
    pub(super) fn on_count(&mut self, from: CoreId, tenant: &Arc<str>, count: u32) {
        let cores = self.told.entry(Arc::clone(tenant)).or_default();
        cores.retain(|(core, _)| *core != from);
        if count > 0 {
            cores.push((from, count));
        }
        if cores.is_empty() {
            self.told.remove(tenant);
        }
    }

    /// Another core has told all that it has.
    pub(super) fn on_counts(&mut self, from: CoreId, counts: Vec<(Arc<str>, u32)>) {
        for cores in self.told.values_mut() {
            cores.retain(|(core, _)| *core != from);
        }
        for (tenant, count) in counts {
            self.on_count(from, &tenant, count);
        }
        self.told.retain(|_, cores| !cores.is_empty());
    }

    /// All that `home` has to know of this core, as a message.
    pub(super) fn counts_for(
        &self,
        home: CoreId,
        is_bounded: impl Fn(&str) -> bool,
    ) -> TenantMessage {
        let here = self.here.iter();
        let due = here.filter(|(tenant, _)| self.home(tenant) == home && is_bounded(tenant));
        let counts = due.map(|(tenant, count)| (Arc::clone(tenant), *count));
        self.message(TenantBody::Counts(counts.collect()))
    }

    /// An answer for the core that has asked.
    pub(super) fn answer(&self, client: u64, is_admitted: bool) -> TenantMessage {
        self.message(TenantBody::Answer {
            client,
            is_admitted,
        })
    }

    fn message(&self, body: TenantBody) -> TenantMessage {
        TenantMessage {
            from: self.core,
            body,
        }
    }

    /// The node's clients of a tenant at home here.
    fn sum(&self, tenant: &str) -> u64 {
        let here = self.here.get(tenant).copied().unwrap_or(0);
        let told = self.told.get(tenant).into_iter().flatten();
        u64::from(here) + told.map(|(_, count)| u64::from(*count)).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::base::prng::Prng;

    const CORES: u16 = 3;
    const MAX: u32 = 5;

    /// Cores with links that keep the order of their messages, and may be blocked for a while.
    struct World {
        cores: Vec<Tenants>,
        links: HashMap<(CoreId, CoreId), VecDeque<TenantMessage>, FixedState>,
        /// By core: clients that are in, and those that wait for an answer.
        inside: Vec<Vec<Arc<str>>>,
        asking: Vec<HashMap<u64, Arc<str>, FixedState>>,
        next: u64,
    }

    impl World {
        fn new() -> Self {
            let ids = (0..CORES).map(CoreId);
            Self {
                cores: ids.map(|core| Tenants::new(core, CORES)).collect(),
                links: HashMap::default(),
                inside: vec![Vec::new(); usize::from(CORES)],
                asking: vec![HashMap::default(); usize::from(CORES)],
                next: 1,
            }
        }

        fn post(&mut self, to: CoreId, message: TenantMessage) {
            let link = self.links.entry((message.from, to)).or_default();
            link.push_back(message);
        }

        fn enter(&mut self, core: usize, tenant: &Arc<str>, max: Option<u32>) {
            let client = self.next;
            self.next += 1;
            match self.cores[core].enter(tenant, max, client) {
                Entry::Decided(true) => self.inside[core].push(Arc::clone(tenant)),
                Entry::Decided(false) => self.leave(core, tenant),
                Entry::Ask(home, message) => {
                    self.asking[core].insert(client, Arc::clone(tenant));
                    self.post(home, message);
                }
            }
        }

        fn leave(&mut self, core: usize, tenant: &Arc<str>) {
            if let Some((home, message)) = self.cores[core].leave(tenant) {
                self.post(home, message);
            }
        }

        /// The oldest message of a link arrives.
        fn deliver(&mut self, from: CoreId, to: CoreId) {
            let link = self.links.entry((from, to)).or_default();
            let Some(message) = link.pop_front() else {
                return;
            };
            let at = usize::from(to.0);
            match message.body {
                TenantBody::Ask {
                    tenant,
                    count,
                    client,
                } => {
                    let is_admitted = self.cores[at].on_ask(from, &tenant, count, Some(MAX));
                    let answer = self.cores[at].answer(client, is_admitted);
                    self.post(from, answer);
                }
                TenantBody::Answer {
                    client,
                    is_admitted,
                } => {
                    // One that did not wait for it has left already.
                    let Some(tenant) = self.asking[at].remove(&client) else {
                        return;
                    };
                    if is_admitted {
                        self.inside[at].push(tenant);
                    } else {
                        self.leave(at, &tenant);
                    }
                }
                TenantBody::Count { tenant, count } => {
                    self.cores[at].on_count(from, &tenant, count);
                }
                TenantBody::Counts(counts) => self.cores[at].on_counts(from, counts),
            }
        }

        fn deliver_all(&mut self) {
            while self.links.values().any(|link| !link.is_empty()) {
                for (from, to) in self.links.keys().copied().collect::<Vec<_>>() {
                    self.deliver(from, to);
                }
            }
        }

        fn count_of(&self, tenant: &str) -> usize {
            let inside = self.inside.iter().flatten();
            inside.filter(|inside| &***inside == tenant).count()
        }
    }

    #[test]
    fn the_node_never_has_more_than_the_bound_and_lets_in_as_many() {
        for seed in 0..300 {
            let (mut world, mut prng) = (World::new(), Prng::new(seed));
            let tenants: [Arc<str>; 3] = ["acme".into(), "globex".into(), "initech".into()];
            for _ in 0..400 {
                let core = usize::try_from(prng.below(CORES.into())).unwrap();
                let other = CoreId(u16::try_from(prng.below(CORES.into())).unwrap());
                let from = CoreId(u16::try_from(core).unwrap());
                let tenant = &tenants[usize::try_from(prng.below(3)).unwrap()];
                match prng.below(8) {
                    0 | 1 => world.enter(core, tenant, Some(MAX)),
                    2 if !world.inside[core].is_empty() => {
                        let left = world.inside[core].remove(0);
                        world.leave(core, &left);
                    }
                    // One that gives up while it waits.
                    3 if prng.below(4) == 0 => {
                        let client = world.asking[core].keys().copied().next();
                        let left = client.and_then(|client| world.asking[core].remove(&client));
                        if let Some(left) = left {
                            world.leave(core, &left);
                        }
                    }
                    _ => world.deliver(from, other),
                }
                for tenant in &tenants {
                    let count = world.count_of(tenant);
                    assert!(count <= 5, "{count} of {tenant}, seed {seed}");
                }
            }
            world.deliver_all();
            // Whatever went before, the whole bound can be reached, and no more, on any core.
            for tenant in &tenants {
                for step in 0..20 {
                    world.enter(step % usize::from(CORES), tenant, Some(MAX));
                    world.deliver_all();
                }
                assert_eq!(world.count_of(tenant), 5, "{tenant}, seed {seed}");
            }
        }
    }

    #[test]
    fn a_bound_that_comes_later_counts_who_is_there() {
        let mut world = World::new();
        let tenant: Arc<str> = "acme".into();
        for core in 0..3 {
            world.enter(core, &tenant, None);
        }
        assert_eq!(world.count_of(&tenant), 3, "nobody was asked");
        assert!(world.links.is_empty());
        let home = world.cores[0].home(&tenant);
        let others = (0..3).filter(|core| CoreId(*core) != home);
        for core in others.map(usize::from) {
            let counts = world.cores[core].counts_for(home, |_| true);
            world.post(home, counts);
        }
        world.deliver_all();
        for core in 0..3 {
            world.enter(core, &tenant, Some(MAX));
            world.deliver_all();
        }
        assert_eq!(world.count_of(&tenant), 5);
        // Who is gone from a later list is forgotten.
        let elsewhere = (0..3).find(|core| CoreId(*core) != home).unwrap();
        let empty = world.cores[usize::from(elsewhere)].counts_for(home, |_| false);
        world.cores[usize::from(home.0)].on_counts(CoreId(elsewhere), Vec::new());
        assert!(matches!(empty.body, TenantBody::Counts(counts) if counts.is_empty()));
        assert!(world.cores[usize::from(home.0)].sum(&tenant) < 5);
    }
}
