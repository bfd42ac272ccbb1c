//! The pools of one endpoint on one core, by key and by their place at the gate.

use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::FixedState;

use super::pool::PoolState;
use super::protocol::Protocol;
use crate::base::clock::Now;
use crate::pool::{Facts, Key, PoolId};

/// Pools of one endpoint.
pub(super) struct Pools<P: Protocol> {
    /// At the index of each one's place.
    places: Vec<Option<Rc<PoolState<P>>>>,
    by_key: HashMap<Key, PoolId, FixedState>,
}

impl<P: Protocol> Default for Pools<P> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            by_key: HashMap::default(),
        }
    }
}

impl<P: Protocol> Pools<P> {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Rc<PoolState<P>>> {
        self.places.iter().flatten()
    }

    /// The one with this place.
    pub(super) fn get(&self, id: PoolId) -> Option<&Rc<PoolState<P>>> {
        self.places.get(id.index())?.as_ref()
    }

    /// The one under this key.
    pub(super) fn find(&self, key: &Key) -> Option<&Rc<PoolState<P>>> {
        self.get(*self.by_key.get(key)?)
    }

    /// A new one.
    pub(super) fn add(&mut self, pool: &Rc<PoolState<P>>) {
        let at = pool.id.index();
        if self.places.len() <= at {
            self.places.resize_with(at + 1, || None);
        }
        if let Some(place) = self.places.get_mut(at) {
            *place = Some(Rc::clone(pool));
            self.by_key.insert(pool.key.clone(), pool.id);
        }
    }

    /// Takes out those of which `is_done` says so.
    pub(super) fn remove_where(
        &mut self,
        mut is_done: impl FnMut(&Rc<PoolState<P>>) -> bool,
    ) -> Vec<Rc<PoolState<P>>> {
        let mut removed = Vec::new();
        for place in &mut self.places {
            if place.as_ref().is_some_and(&mut is_done) {
                removed.extend(place.take());
            }
        }
        for pool in &removed {
            self.by_key.remove(&pool.key);
        }
        removed
    }

    /// What the gate asks of one.
    pub(super) fn facts(&self, id: PoolId, is_resting: bool, now: Now) -> Facts {
        let pool = self.get(id);
        pool.map_or_else(Facts::default, |pool| pool.facts(is_resting, now))
    }
}
