//! What happens to servers, connections and the node during a storm.

use std::time::{Duration, Instant};

use ringgate::base::prng::Prng;

use crate::plan::Plan;
use crate::support::{ACCOUNT, Chaos, Gateway, MariaDb};

/// Something that happens at a moment of the storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server dies, and is back this much later and what its start takes.
    KillServer(Duration),
    /// The server stands still for a while.
    StopServer(Duration),
    /// The server kills the gateway's connections, one by one.
    KillConnections,
    /// A server's answer is cut off after so many bytes.
    Cut(usize),
    /// Nothing passes between the gateway and the server for a while.
    Stall(Duration),
    /// Hardly anything does.
    Trickle(Duration),
    /// The connections between them are reset.
    Reset,
    /// What the server sends ends; what it is sent goes on.
    HalfClose,
    /// The configuration is read again, with something changed.
    Reload,
    /// The answers to so many writes are lost, each with its connection: they are done, and nobody hears.
    LoseAnswers(u32),
}

/// Where a panic may happen: what a core does for one client, and what it does for its connections. Not
/// `lease.deliver`: the core's own look at its pools comes by there, and a panic of a core's root ends
/// the node, as it should.
const EXCHANGE_POINTS: [&str; 6] = [
    "exchange.leased",
    "exchange.begun",
    "exchange.sent",
    "exchange.reply",
    "exchange.finish",
    "exchange.return",
];
const CONNECTION_POINTS: [&str; 9] = [
    "dial.done",
    "close.done",
    "kill.opened",
    "kill.waited",
    "kill.sent",
    "kill.done",
    // Only two cores lend.
    "lend.read_out",
    "lend.detached",
    "lend.received",
];
const LEND_POINTS: usize = 3;

/// A panic at a named point, the `count`-th time that a core comes by. Each core has one at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panic {
    point: &'static str,
    count: u64,
}

impl Panic {
    /// One that does not happen to the clients before the storm.
    pub fn draw(prng: &mut Prng, cores: u64) -> Self {
        let unused = if cores > 1 { 0 } else { LEND_POINTS };
        let (points, least, most) = match prng.below(2) {
            0 => (&EXCHANGE_POINTS[..], 20, 40),
            _ => (&CONNECTION_POINTS[..CONNECTION_POINTS.len() - unused], 1, 4),
        };
        let index = usize::try_from(prng.below(points.len() as u64)).expect("few points");
        let point = points[index];
        // Connects are made before the storm too.
        let least = if point == "dial.done" { 6 } else { least };
        let count = least + prng.below(most);
        Self { point, count }
    }

    /// What the environment of the node says of it.
    pub fn asked(self) -> String {
        format!("{}:{}", self.point, self.count)
    }
}

impl Fault {
    /// One that can happen to a database, or to a null server.
    pub fn draw(prng: &mut Prng, is_null: bool) -> Self {
        let mut while_of =
            |least: u64, most: u64| Duration::from_millis(least + prng.below(most - least));
        let (short, long) = (while_of(100, 500), while_of(200, 1_200));
        let bytes = usize::try_from(prng.below(600)).expect("a short answer");
        match prng.below(if is_null { 6 } else { 9 }) {
            0 => Self::Cut(bytes),
            1 => Self::Stall(long),
            2 => Self::Trickle(long),
            3 => Self::Reset,
            4 => Self::HalfClose,
            5 => Self::Reload,
            6 => Self::KillServer(short),
            7 => Self::StopServer(long),
            _ => Self::KillConnections,
        }
    }

    /// The answers to a few writes are lost.
    pub fn draw_loss(prng: &mut Prng) -> Self {
        Self::LoseAnswers(2 + u32::try_from(prng.below(8)).expect("a few"))
    }

    /// For how long a server that goes on living gives no answer.
    pub fn holds_up(self) -> Duration {
        match self {
            Self::StopServer(time) | Self::Stall(time) | Self::Trickle(time) => time,
            _ => Duration::ZERO,
        }
    }
}

/// What faults happen to.
pub struct Stage<'a> {
    pub plan: &'a Plan,
    pub gateway: &'a Gateway,
    pub chaos: &'a Chaos,
    /// `None` where a null server stands behind the gateway.
    pub database: Option<MariaDb>,
    /// Reloads asked for.
    pub reloads: u32,
}

impl Stage<'_> {
    /// Lets everything happen at its moment; afterwards everything is as at the beginning.
    pub fn play(&mut self, begun: Instant) {
        for (at, fault) in &self.plan.faults {
            std::thread::sleep(at.saturating_sub(begun.elapsed()));
            self.strike(*fault);
        }
        self.chaos.flow();
        self.chaos.disarm();
    }

    fn strike(&mut self, fault: Fault) {
        match (fault, &mut self.database) {
            (Fault::KillServer(down), Some(database)) => {
                database.kill9();
                std::thread::sleep(down);
                database.restart();
            }
            (Fault::StopServer(time), Some(database)) => {
                database.pause();
                std::thread::sleep(time);
                database.resume();
            }
            (Fault::KillConnections, Some(database)) => kill_connections(database),
            (Fault::KillServer(_) | Fault::StopServer(_) | Fault::KillConnections, None) => {}
            (Fault::Cut(bytes), _) => self.chaos.cut_after(bytes),
            (Fault::LoseAnswers(count), _) => self.chaos.lose_answers(count),
            (Fault::Stall(time), _) => {
                self.chaos.stall();
                std::thread::sleep(time);
                self.chaos.flow();
            }
            (Fault::Trickle(time), _) => {
                self.chaos.trickle();
                std::thread::sleep(time);
                self.chaos.flow();
            }
            (Fault::Reset, _) => self.chaos.reset_all(),
            (Fault::HalfClose, _) => self.chaos.half_close_all(),
            (Fault::Reload, _) => {
                self.reloads += 1;
                let upstream = self.chaos.port();
                self.gateway
                    .reload(|ports| self.plan.config(ports, upstream, self.reloads));
                // Two signals that arrive together are one reload.
                let generation = || {
                    let name = "ringgate_configuration_generation";
                    self.gateway.metric(name, &[])
                };
                let wanted = f64::from(1 + self.reloads) - 0.5;
                crate::support::wait_for(Duration::from_secs(2), || generation() > wanted);
            }
        }
    }
}

fn kill_connections(database: &MariaDb) {
    let ids = database.sql(&format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '{ACCOUNT}'"
    ));
    for id in ids.split_whitespace() {
        // It may have ended by itself.
        let _ = database.try_sql(&format!("KILL CONNECTION {id}"));
    }
}
