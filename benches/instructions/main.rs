//! Fixed pieces of work, each done once inside `measured`, so that callgrind can count their
//! instructions: the same program on the same input gives the same count on any machine.
//! `scripts/bench/instructions` runs this under valgrind and keeps the figures; without valgrind it
//! only proves that every case still does what it claims.

#![allow(clippy::print_stdout, reason = "the names are its output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a case stops at its first surprise"
)]

mod exchange;
mod route;
mod text;
mod wire;

use std::hint::black_box;

/// The gateway's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds before the one that counts: by then every buffer has its size.
const WARM_UP: u32 = 5;

/// A piece of work that can be done again and again.
trait Work {
    /// Whatever the work needs and its count must not contain.
    fn prepare(&mut self);
    /// The work.
    fn run(&mut self);
}

/// A piece of work made of its state and two functions.
struct Of<S> {
    state: S,
    prepare: fn(&mut S),
    run: fn(&mut S),
}

impl<S> Work for Of<S> {
    fn prepare(&mut self) {
        (self.prepare)(&mut self.state);
    }

    fn run(&mut self) {
        (self.run)(&mut self.state);
    }
}

/// A named piece of work.
struct Case {
    name: &'static str,
    work: Box<dyn Work>,
}

/// A case whose every run begins with `prepare`.
fn case<S: 'static>(name: &'static str, state: S, prepare: fn(&mut S), run: fn(&mut S)) -> Case {
    let work = Box::new(Of {
        state,
        prepare,
        run,
    });
    Case { name, work }
}

/// What callgrind counts, by this function's name.
#[inline(never)]
fn measured(work: &mut dyn Work) {
    work.run();
}

/// At whose end callgrind writes a file: it does one thing for a function only.
#[inline(never)]
fn reported(work: &mut dyn Work) {
    measured(work);
    black_box(());
}

fn main() {
    let mut cases = Vec::new();
    cases.extend(wire::cases());
    cases.extend(text::cases());
    cases.extend(route::cases());
    cases.extend(exchange::cases());
    for Case { name, work } in &mut cases {
        for _ in 0..WARM_UP {
            work.prepare();
            work.run();
        }
        work.prepare();
        reported(&mut **work);
        println!("{name}");
    }
}
