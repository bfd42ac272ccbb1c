//! Who may open a connection: the node's budget for one endpoint, divided among its cores.
//!
//! Each core owns some permits; each open connection uses one. A core short of permits asks the
//! others by message and a core that can spare one gives it. Invariant: at every instant the
//! permits owned (less debts) plus those travelling add up to the budget, and no core uses more
//! than it owns, so the endpoint never sees more connections than the budget.
//!
//! Rules, in order, applied by [`Permits::settle`]:
//!
//! 1. A spare permit goes to this core's own waiters, then to the other core that waits longest.
//! 2. An idle connection is given up (lent with its permit to a core that wants the same key, else
//!    closed) once it has been idle for [`Patience::idle`] or the want is older than
//!    [`Patience::wait`].
//! 3. A core with waiters of its own gives one away only to a core that has waited
//!    [`Patience::wait`] longer and owns less, or sixteen times that longer: the first evens the
//!    shares out under overload, the second frees a core whose permits are all pinned.
//!
//! A want is remembered by the core that could not serve it, so nobody polls. It is answered by
//! one grant and then forgotten; the asker asks again with fresh figures. Messages between two
//! cores must arrive, and in the order sent.

use std::time::Duration;

use super::{
    Demand, Key, Patience,
    effect::{Effect, OnReturn, PermitBody, PermitMessage},
};
use crate::base::{
    clock::{Deadline, Now},
    ident::{CoreId, EndpointName},
};

/// The part of `budget` that `core` owns at start. Over all cores the parts add up to `budget`.
pub fn split(budget: u32, cores: u16, core: CoreId) -> u32 {
    let cores = u32::from(cores.max(1));
    budget / cores + u32::from(u32::from(core.0) < budget % cores)
}

/// Another core's want, as last told.
#[derive(Clone, Debug)]
struct Want {
    count: u32,
    oldest: Now,
    owned: u32,
    key: Option<Key>,
    /// Whether its sender still waits for a grant or a denial.
    is_fresh: bool,
}

/// One core's permits for one endpoint.
#[derive(Debug)]
pub struct Permits {
    endpoint: EndpointName,
    me: CoreId,
    patience: Patience,
    owned: u32,
    /// `in_use <= owned`.
    in_use: u32,
    /// Permits to destroy as they fall free, after the budget shrank.
    debt: u32,
    /// By core; `None` for a core that wants nothing, and for this one.
    wants: Vec<Option<Want>>,
    /// How many of `wants` are set.
    wanting: u32,
    /// By core: whether it holds a want of ours.
    told: Vec<bool>,
    /// How many of `told` are set.
    telling: u32,
    /// The question under way: to whom, since when.
    ask: Option<(CoreId, Now)>,
    /// When the last want was sent.
    asked_at: Now,
    /// Where the next question goes first.
    next_peer: u16,
    /// Cores to which the next released permits go.
    promised: Vec<CoreId>,
    /// Connections ordered closed for this core's own sake, and not closed yet.
    closing: u32,
}

impl Permits {
    /// The permits of core `me`, one of `cores`, owning its part of `budget`.
    pub fn new(
        endpoint: EndpointName,
        me: CoreId,
        cores: u16,
        budget: u32,
        patience: Patience,
    ) -> Self {
        Self {
            endpoint,
            me,
            patience,
            owned: split(budget, cores, me),
            in_use: 0,
            debt: 0,
            wants: vec![None; usize::from(cores)],
            wanting: 0,
            told: vec![false; usize::from(cores)],
            telling: 0,
            ask: None,
            asked_at: Now(0),
            next_peer: me.0.wrapping_add(1),
            promised: Vec::new(),
            closing: 0,
        }
    }

    /// Permits owned by this core.
    pub fn owned(&self) -> u32 {
        self.owned
    }

    /// Permits that open connections use.
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    /// Permits this core must still destroy.
    pub fn debt(&self) -> u32 {
        self.debt
    }

    /// Permits for connections that could be opened now.
    pub fn spare(&self) -> u32 {
        self.owned.saturating_sub(self.in_use)
    }

    /// Takes a permit to open a connection; `false` when none is spare.
    #[must_use]
    pub fn try_take(&mut self) -> bool {
        let has_spare = self.spare() > 0;
        self.in_use += u32::from(has_spare);
        has_spare
    }

    /// A connection is closed (or its connect failed): its permit is free. Pays a debt or keeps a
    /// promise at once; call [`Permits::settle`] afterwards.
    pub fn released(&mut self, effects: &mut Vec<Effect>) {
        self.in_use = self.in_use.saturating_sub(1);
        if self.debt > 0 {
            self.pay_debt();
            self.closing = self.closing.saturating_sub(1);
        } else if self.promised.is_empty() {
            self.closing = self.closing.saturating_sub(1);
        } else {
            let to = self.promised.remove(0);
            self.grant(to, 1, effects);
        }
    }

    /// The connection asked for by [`Effect::GiveIdle`] or [`OnReturn::Give`] leaves for the core
    /// `to`, with its permit: from now on it is travelling.
    pub fn lent(&mut self, to: CoreId) {
        if let Some(at) = self.promised.iter().position(|core| *core == to) {
            self.promised.remove(at);
        }
        self.in_use = self.in_use.saturating_sub(1);
        self.owned = self.owned.saturating_sub(1);
    }

    /// The connection that was to leave for the core `to` ([`Permits::lent`]) could not: it counts
    /// as this core's again. `to` has the permit promised for when the connection is closed.
    pub fn not_lent(&mut self, to: CoreId) {
        self.owned += 1;
        self.in_use += 1;
        self.promised.push(to);
    }

    /// A message ([`Effect::Send`]) could not be delivered: what it would have given is still here.
    pub fn not_sent(&mut self, to: CoreId, body: &PermitBody) {
        match body {
            PermitBody::Grant { count } => {
                self.owned += count;
                self.pay_debt();
            }
            PermitBody::Want { .. } => {
                self.set_told(to, false);
                self.answered(to);
            }
            // The asker asks again by itself; a want that stands too long brings a permit too many.
            PermitBody::Deny | PermitBody::Withdraw => {}
        }
    }

    /// A connection lent by the core `from` arrived, with its permit.
    pub fn received(&mut self, from: CoreId) {
        self.owned += 1;
        self.in_use += 1;
        self.answered(from);
        self.set_told(from, false);
    }

    /// The node's budget changed from `old` to `new` permits: this core's part of the difference.
    /// Every core must be told. A smaller part than is in use is destroyed as connections end.
    pub fn resize(&mut self, old: u32, new: u32) {
        let cores = u16::try_from(self.wants.len()).unwrap_or(u16::MAX);
        let (before, after) = (split(old, cores, self.me), split(new, cores, self.me));
        let more = after.saturating_sub(before);
        let forgiven = more.min(self.debt);
        self.debt = self.debt - forgiven + before.saturating_sub(after);
        self.owned += more - forgiven;
        self.pay_debt();
    }

    /// A message arrived. Call [`Permits::settle`] afterwards.
    pub fn on_message(&mut self, message: PermitMessage) {
        let from = message.from;
        match message.body {
            PermitBody::Want {
                count,
                oldest,
                owned,
                key,
            } => self.remember(
                from,
                Want {
                    count,
                    oldest,
                    owned,
                    key,
                    is_fresh: true,
                },
            ),
            PermitBody::Grant { count } => {
                self.owned += count;
                self.pay_debt();
                self.set_told(from, false);
                self.answered(from);
                // Who could give once may have more.
                self.next_peer = from.0;
            }
            PermitBody::Deny => self.answered(from),
            PermitBody::Withdraw => {
                self.forget(from);
            }
        }
    }

    /// What to do with a connection whose lease ended well. `oldest` is since when the oldest
    /// waiter of its own pool waits, `None` when nobody does: a session that never pauses could
    /// otherwise hold its connection for ever, idle for no instant. `gives_way`: the gate has another pool
    /// of this core in mind.
    pub fn on_return(
        &mut self,
        now: Now,
        oldest: Option<Now>,
        demand: &Demand<'_>,
        gives_way: bool,
    ) -> OnReturn {
        if self.debt > self.closing {
            self.closing += 1;
            return OnReturn::Close;
        }
        let oldest = [oldest, demand.oldest].into_iter().flatten().min();
        let urgent = self
            .most_urgent()
            .filter(|to| self.precedes(*to, oldest, now));
        if let Some(to) = urgent {
            let key = self.forget(to).and_then(|want| want.key);
            self.promised.push(to);
            return OnReturn::Give { to, key };
        }
        let is_short = demand.waiters > self.spare().saturating_add(self.closing);
        if is_short && gives_way {
            self.closing += 1;
            return OnReturn::MakeRoom;
        }
        OnReturn::Keep
    }

    /// Whether [`Permits::on_return`] has nothing to do but to look at this core's own pools.
    pub fn is_content(&self) -> bool {
        self.wanting == 0 && self.debt == 0
    }

    /// Whether another core has asked for a permit and was given none yet.
    pub fn is_wanted(&self) -> bool {
        self.wanting > 0
    }

    /// Whether [`Permits::settle`] would do nothing: the usual case, and cheap to ask.
    pub fn is_quiet(&self, demand: &Demand<'_>) -> bool {
        self.wanting == 0 && self.telling == 0 && self.debt == 0 && demand.waiters <= self.spare()
    }

    /// Applies the rules. Call it whenever a connection went idle or closed, a waiter came or
    /// left, a message arrived, or [`Permits::next_look`] came; open connections for those
    /// who are due them ([`super::Gate::due`]) afterwards.
    ///
    /// `true` when room is to be made for this core's own waiters: call it again once that is under way, as
    /// one connection is taken at a time.
    #[must_use]
    pub fn settle(&mut self, now: Now, demand: &Demand<'_>, effects: &mut Vec<Effect>) -> bool {
        if self.is_quiet(demand) {
            return false;
        }
        self.grant_spare(now, demand, effects);
        let begun = effects.len();
        let idle = self.close_for_self(demand, effects);
        let made_room = effects
            .iter()
            .skip(begun)
            .any(|effect| *effect == Effect::CloseIdle { makes_room: true });
        self.give_idle(now, demand, idle, effects);
        self.deny_the_rest(effects);
        self.ask_or_withdraw(now, demand, effects);
        made_room
    }

    /// When time alone will change what [`Permits::settle`] does.
    pub fn next_look(&self, now: Now, demand: &Demand<'_>) -> Deadline {
        if self.is_quiet(demand) {
            return Deadline::NEVER;
        }
        let mut next = Deadline::NEVER;
        let mut at = |instant: Now, after: Duration| {
            let deadline = instant.plus(after);
            if !deadline.is_over(now) {
                next = next.min(deadline);
            }
        };
        let unmet = self.unmet(demand) + self.debt_abroad();
        if demand.idle > 0 && (self.wanting > 0 || unmet > 0) {
            if let Some(since) = demand.idle_since {
                at(since, self.patience.idle);
            }
            for want in self.wants.iter().flatten() {
                at(want.oldest, self.patience.wait);
            }
        }
        if let Some((_, since)) = self.ask {
            at(since, self.patience.wait);
        }
        if self.telling > 0 {
            let pause = if unmet == 0 { 1 } else { REFRESH };
            at(self.asked_at, self.patience.wait.saturating_mul(pause));
        }
        if unmet > 0 && !demand.take_at.is_over(now) {
            next = next.min(demand.take_at);
        }
        next
    }

    fn pay_debt(&mut self) {
        let paid = self.debt.min(self.spare());
        self.debt -= paid;
        self.owned -= paid;
    }

    fn remember(&mut self, from: CoreId, want: Want) {
        if from == self.me || want.count == 0 {
            return;
        }
        if let Some(place) = self.wants.get_mut(usize::from(from.0)) {
            self.wanting += u32::from(place.is_none());
            *place = Some(want);
        }
    }

    fn forget(&mut self, core: CoreId) -> Option<Want> {
        let want = self.wants.get_mut(usize::from(core.0))?.take();
        self.wanting -= u32::from(want.is_some());
        want
    }

    fn answered(&mut self, from: CoreId) {
        if self.ask.is_some_and(|(to, _)| to == from) {
            self.ask = None;
        }
    }

    fn set_told(&mut self, core: CoreId, told: bool) {
        if let Some(place) = self.told.get_mut(usize::from(core.0)) {
            self.telling -= u32::from(*place);
            self.telling += u32::from(told);
            *place = told;
        }
    }

    /// The core whose oldest waiter waits longest.
    fn most_urgent(&self) -> Option<CoreId> {
        if self.wanting == 0 {
            return None;
        }
        let wants = self.wants.iter().zip(0u16..);
        wants
            .filter_map(|(want, core)| want.as_ref().map(|w| (w.oldest, core)))
            .min()
            .map(|(_, core)| CoreId(core))
    }

    /// How many times [`Patience::wait`] one waiter is older than another.
    fn gap(&self, older: Now, younger: Now) -> u128 {
        younger.since(older).as_nanos() / self.patience.wait.as_nanos().max(1)
    }

    /// Whether the want of `core` comes before a waiter of ours that waits since `oldest`; before
    /// nobody's, when none waits.
    fn precedes(&self, core: CoreId, oldest: Option<Now>, now: Now) -> bool {
        let want = self.wants.get(usize::from(core.0)).and_then(Option::as_ref);
        want.is_some_and(|want| {
            let gap = self.gap(want.oldest, oldest.unwrap_or(now));
            gap >= PINNED || (gap >= 1 && (oldest.is_none() || want.owned < self.owned))
        })
    }

    /// Waiters for whom no permit is here or about to be.
    fn unmet(&self, demand: &Demand<'_>) -> u32 {
        let coming = self.spare().saturating_add(self.closing);
        demand.waiters.saturating_sub(coming)
    }

    /// Debt that the end of our own connections will not pay: other cores hold those permits.
    fn debt_abroad(&self) -> u32 {
        self.debt.saturating_sub(self.in_use)
    }

    fn send(&self, to: CoreId, body: PermitBody, effects: &mut Vec<Effect>) {
        let message = PermitMessage {
            endpoint: self.endpoint.clone(),
            from: self.me,
            body,
        };
        effects.push(Effect::Send(to, message));
    }

    /// Gives spare permits away; the caller has checked that there are so many.
    fn grant(&mut self, to: CoreId, count: u32, effects: &mut Vec<Effect>) {
        self.owned = self.owned.saturating_sub(count);
        self.send(to, PermitBody::Grant { count }, effects);
    }

    fn grant_spare(&mut self, now: Now, demand: &Demand<'_>, effects: &mut Vec<Effect>) {
        while self.spare() > 0 {
            let Some(to) = self.most_urgent() else { return };
            let free = self.spare().saturating_sub(demand.waiters);
            // Several cores share what is free evenly, the one that waits longest first.
            let mut count = free.div_ceil(self.wanting.max(1));
            if count == 0 {
                if !self.precedes(to, demand.oldest, now) {
                    return;
                }
                count = 1;
            }
            let Some(want) = self.forget(to) else { return };
            self.grant(to, count.min(want.count), effects);
        }
    }

    /// Orders idle connections of other keys closed for our own waiters, or for a debt; how many
    /// idle connections are left.
    fn close_for_self(&mut self, demand: &Demand<'_>, effects: &mut Vec<Effect>) -> u32 {
        let mut idle = demand.idle;
        let for_debt = self.debt.saturating_sub(self.closing);
        // One at a time: who may have the next changes with each.
        let for_waiters = u32::from(demand.takes_idle && self.unmet(demand) > 0);
        for number in 0..for_debt.max(for_waiters).min(idle) {
            self.closing += 1;
            idle -= 1;
            effects.push(Effect::CloseIdle {
                makes_room: number >= for_debt,
            });
        }
        idle
    }

    fn may_take_idle(&self, now: Now, demand: &Demand<'_>, oldest: Option<Now>) -> bool {
        let rested = demand
            .idle_since
            .is_some_and(|since| now.since(since) >= self.patience.idle);
        rested || oldest.is_some_and(|oldest| now.since(oldest) >= self.patience.wait)
    }

    fn give_idle(
        &mut self,
        now: Now,
        demand: &Demand<'_>,
        mut idle: u32,
        effects: &mut Vec<Effect>,
    ) {
        while idle > 0 {
            let Some(to) = self.most_urgent() else { return };
            let oldest = self.wants.get(usize::from(to.0)).and_then(Option::as_ref);
            if !self.may_take_idle(now, demand, oldest.map(|want| want.oldest)) {
                return;
            }
            let Some(want) = self.forget(to) else { return };
            let share = idle.div_ceil(self.wanting.saturating_add(1));
            for _ in 0..want.count.min(share) {
                idle -= 1;
                self.promised.push(to);
                effects.push(Effect::GiveIdle {
                    to,
                    key: want.key.clone(),
                });
            }
        }
    }

    fn deny_the_rest(&mut self, effects: &mut Vec<Effect>) {
        for core in 0u16.. {
            let Some(place) = self.wants.get_mut(usize::from(core)) else {
                return;
            };
            if let Some(want) = place.as_mut().filter(|want| want.is_fresh) {
                want.is_fresh = false;
                self.send(CoreId(core), PermitBody::Deny, effects);
            }
        }
    }

    fn ask_or_withdraw(&mut self, now: Now, demand: &Demand<'_>, effects: &mut Vec<Effect>) {
        let debt = self.debt_abroad();
        let count = self.unmet(demand).saturating_add(debt);
        let quiet_for = now.since(self.asked_at);
        if count == 0 {
            // Waiting a little keeps a need that comes and goes from being told each time.
            if self.telling > 0 && quiet_for >= self.patience.wait {
                self.withdraw(effects);
            }
            return;
        }
        if self.telling > 0 && quiet_for >= self.patience.wait.saturating_mul(REFRESH) {
            // The others judge by figures that are old by now.
            self.told.fill(false);
            self.telling = 0;
        }
        let is_asking = self
            .ask
            .is_some_and(|(_, since)| now.since(since) < self.patience.wait);
        let Some(to) = self.next_untold().filter(|_| !is_asking) else {
            return;
        };
        self.ask = Some((to, now));
        self.asked_at = now;
        self.next_peer = to.0.wrapping_add(1);
        self.set_told(to, true);
        // A debt comes before every waiter: the budget is the operator's word.
        let oldest = if debt > 0 {
            Some(Now(0))
        } else {
            demand.oldest
        };
        let want = PermitBody::Want {
            count,
            oldest: oldest.unwrap_or(now),
            owned: self.owned,
            key: demand.key.filter(|_| debt == 0).cloned(),
        };
        self.send(to, want, effects);
    }

    fn withdraw(&mut self, effects: &mut Vec<Effect>) {
        self.ask = None;
        for core in 0u16.. {
            match self.told.get(usize::from(core)) {
                None => return,
                Some(false) => {}
                Some(true) => {
                    self.set_told(CoreId(core), false);
                    self.send(CoreId(core), PermitBody::Withdraw, effects);
                }
            }
        }
    }

    /// The next core, in turn, that holds no want of ours.
    fn next_untold(&self) -> Option<CoreId> {
        let cores = u16::try_from(self.told.len()).ok().filter(|n| *n > 0)?;
        (0..cores)
            .map(|step| CoreId((self.next_peer % cores + step) % cores))
            .find(|core| *core != self.me && self.told.get(usize::from(core.0)) == Some(&false))
    }
}

/// A waiter older by this many times [`Patience::wait`] comes first whatever its core owns.
const PINNED: u128 = 16;

/// After this many times [`Patience::wait`] a want that still stands is told again.
const REFRESH: u32 = 4;
