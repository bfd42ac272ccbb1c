//! A client that vanishes at every wait of its driver in turn, or has a deadline pass there, and what
//! must hold for all others.

use std::collections::BTreeSet;

use ringgate::base::prng::Prng;

use super::world::{Faults, World};

/// How a wait ends. One that takes nothing for `write_stall` ends as by a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It sends no more, and may still read: what it has sent is served as far as nobody waits.
    Fin,
    /// Its connection is gone at once.
    Reset,
    /// The next of its deadlines passes, or all that there are, and the client stays.
    Late,
    /// It sends no more and does not close its side either: if that is in the middle of a command,
    /// its deadlines pass until it is closed.
    Stalled,
}

/// The client is gone.
pub const LEAVING: &[Ending] = &[Ending::Fin, Ending::Reset];
/// The gateway waits no longer.
pub const BY_TIME: &[Ending] = &[Ending::Late, Ending::Stalled];

impl Ending {
    /// Whether a wait can end so.
    fn ends(self, kind: &str) -> bool {
        let [command, skipped, .., rest, _] = KINDS;
        match self {
            Self::Fin | Self::Reset => true,
            Self::Late => ![command, skipped].contains(&kind),
            Self::Stalled => [command, skipped, rest].contains(&kind),
        }
    }
}

/// A moment at which something befalls one client.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub client: usize,
    /// Before this step of the world.
    pub step: u32,
    pub ending: Ending,
}

impl Cut {
    /// Whether it is a deadline of this client.
    pub fn is_deadline_of(&self, client: usize) -> bool {
        self.client == client && BY_TIME.contains(&self.ending)
    }
}

/// A wait of the client whose waits are to end otherwise.
#[derive(Clone, Debug)]
pub struct Wait {
    pub kind: &'static str,
    /// The first step that finds it waiting, and the one that would go on: what it waits for has
    /// come by then, and the client vanishes without having taken it.
    steps: (u32, Option<u32>),
}

/// What a driver can wait for. Room to send is none of them: a client that does not read holds up
/// the same states as a server that does not answer, and vanishes there once the answer has come.
pub const KINDS: [&str; 7] = [
    "its next command",
    "the rest of a command that was answered",
    "state that another session reads out",
    "a lease",
    "replies to what goes ahead",
    "the rest of a command",
    "its reply",
];

/// What a driver at this stage waits for; nothing if it is closed.
pub fn kind(stage: &str) -> Option<&'static str> {
    let [command, skipped, settled, lease, ahead, rest, reply] = KINDS;
    match stage {
        "skipping" => Some(skipped),
        "idle" => Some(command),
        "settling" => Some(settled),
        "leasing" => Some(lease),
        "ahead" => Some(ahead),
        "streaming" => Some(rest),
        "replying" => Some(reply),
        _ => None,
    }
}

/// The world of a seed, small enough to be run for each of its waits. Every second one knows other
/// faults too.
fn world(seed: u64) -> World {
    let faults = Faults {
        losses: seed % 2 == 1,
        drops: false,
        settings: false,
    };
    let mut world = World::new(seed, faults);
    world.shrink();
    world
}

/// Runs the world of a seed as it is, and gives the client whose waits are to end otherwise, and them.
pub fn waits(seed: u64, trace: &mut Vec<String>) -> (usize, Vec<Wait>) {
    let mut world = world(seed);
    let client = world.watch(seed);
    world.run_traced(trace);
    let seen = std::mem::take(&mut world.waits);
    // Nothing has moved before the first of them.
    let ends = seen.iter().map(|(step, _)| Some(*step));
    let begins = std::iter::once((0, Some(KINDS[0]))).chain(seen.iter().map(|(s, k)| (s + 1, *k)));
    let waits = begins
        .zip(ends.chain([None]))
        .filter_map(|((from, kind), to)| {
            let to = to.filter(|to| *to != from);
            Some(Wait {
                kind: kind?,
                steps: (from, to),
            })
        });
    (client, waits.collect())
}

/// The numbers of `count` of a seed's waits, in their order: as many of each kind as of any other, as
/// far as there are so many, and which of them by the seed. The kinds that the seed has fewest of
/// come first, so that they are in a sample that is too small for all.
pub fn sample(waits: &[Wait], count: usize, seed: u64) -> Vec<usize> {
    let of_kind = |kind| (0..waits.len()).filter(move |k| waits[*k].kind == kind);
    let mut kinds = KINDS.map(|kind| of_kind(kind).collect::<Vec<_>>());
    kinds.sort_by_key(Vec::len);
    let mut prng = Prng::new(seed);
    let mut chosen = Vec::new();
    while chosen.len() < count.min(waits.len()) {
        for kind in kinds.iter_mut().filter(|kind| !kind.is_empty()) {
            let at = prng.below(kind.len() as u64);
            chosen.push(kind.swap_remove(usize::try_from(at).unwrap()));
        }
    }
    chosen.truncate(count);
    chosen.sort_unstable();
    chosen
}

/// What the worlds of some waits came to.
#[derive(Debug, Default)]
pub struct Seen {
    /// Another waited for what the client was reading out.
    pub leaves_waiting: bool,
    /// Reasons of the errors of the gateway's own that clients got for their commands.
    pub told: BTreeSet<&'static str>,
}

/// Runs the world of a seed again with one of a client's waits ended in each of these ways, at its
/// begin and when it is over.
pub fn run(
    seed: u64,
    client: usize,
    wait: &Wait,
    endings: &[Ending],
    seen: &mut Seen,
    trace: &mut Vec<String>,
) {
    for step in [Some(wait.steps.0), wait.steps.1].into_iter().flatten() {
        for &ending in endings.iter().filter(|ending| ending.ends(wait.kind)) {
            let mut world = world(seed);
            world.cut = Some(Cut {
                client,
                step,
                ending,
            });
            world.run_traced(trace);
            seen.leaves_waiting |= world.leaves_waiting;
            seen.told.append(&mut world.told);
        }
    }
}
