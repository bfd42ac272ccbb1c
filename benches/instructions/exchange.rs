//! Pooled exchanges without sockets: a command is cut, accepted, run on a connection from the pool,
//! and its reply followed to the end.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use ringgate::base::clock::Now;
use ringgate::base::prng::Prng;
use ringgate::pool::{Ended, LeaseEnd, Pool, PoolLimits};
use ringgate::session::mysql::baseline::Answer;
use ringgate::session::mysql::downstream::{Next, Session, SessionFacts};
use ringgate::session::mysql::exchange::{After, Begin, Progress};
use ringgate::session::mysql::intake::{Intake, Taken};
use ringgate::session::mysql::output::Output;
use ringgate::session::mysql::state::Vector;
use ringgate::session::mysql::statements::Texts;
use ringgate::session::mysql::upstream::{LoginFacts, Upstream};
use ringgate::wire::mysql::command::encode_text_command;
use ringgate::wire::mysql::cursor::{packet, put_lenenc_bytes, put_u8, put_u16, put_u32};
use ringgate::wire::mysql::flags::{caps, column_type, com};
use ringgate::wire::mysql::frame::HEADER_LEN;
use ringgate::wire::mysql::response::{OkPacket, encode_ok, encode_ok_as_eof};
use ringgate::wire::mysql::value::{Column, encode_text_row};

use super::wire::{CAPABILITIES, ok, one_row, tracked_ok};
use super::{Case, case};

const NOW: Now = Now(1_000_000_000);

/// A client: its session and the framing of its commands.
struct Client {
    intake: Intake,
    session: Session,
}

/// One core's part in exchanges.
struct World {
    clients: Vec<Client>,
    pool: Pool<Box<Upstream>>,
    texts: Texts,
    out: Output,
    upstream_out: Vec<u8>,
    /// What the client under test sends, and what it gets.
    command: Vec<u8>,
    reply: Vec<u8>,
    /// What the server says to what goes ahead of a command.
    ahead: Vec<u8>,
    /// What the other client sends before that, and what it gets.
    other_reply: Vec<u8>,
}

fn vector() -> Rc<Vector> {
    let column = Column {
        schema: b"",
        table: b"",
        org_table: b"",
        name: b"",
        org_name: b"",
        collation: 45,
        length: 64,
        column_type: column_type::VARCHAR,
        flags: 0,
        decimals: 0,
    };
    let mut reply = Vec::new();
    packet(&mut reply, 1, |out| out.push(2));
    packet(&mut reply, 2, |out| column.encode(out));
    packet(&mut reply, 3, |out| column.encode(out));
    let row = [Some(&b"autocommit"[..]), Some(&b"ON"[..])];
    packet(&mut reply, 4, |out| encode_text_row(out, row));
    packet(&mut reply, 5, |out| {
        encode_ok_as_eof(out, CAPABILITIES, &OkPacket::default());
    });
    let mut answer = Answer::new(true);
    answer.take(&reply).expect("a reply");
    let base = answer.end().expect("a value");
    let vector = Vector::at_login("utf8mb4", "utf8mb4_general_ci").with_base(base);
    Rc::new(vector.with_schema(b"sbtest"))
}

/// A client that logs in to a state; a core's clients share it.
fn client(owner: u64, capabilities: u32, vector: &Rc<Vector>) -> Client {
    let facts = SessionFacts {
        owner,
        capabilities,
        vector: vector.clone(),
        statements_max: 10_000,
        settled: Rc::default(),
    };
    Client {
        intake: Intake::default(),
        session: Session::new(facts),
    }
}

/// Two clients and one idle connection, all logged in to the same state.
fn world(command: Vec<u8>, reply: Vec<u8>) -> World {
    world_of(CAPABILITIES, command, reply)
}

/// The same, and the first client has these capabilities.
fn world_of(capabilities: u32, command: Vec<u8>, reply: Vec<u8>) -> World {
    let limits = PoolLimits {
        waiters_max: 100,
        wait_target: None,
        idle_max: Duration::from_secs(60),
        age_max: Duration::from_secs(3600),
    };
    let mut pool = Pool::new(limits);
    pool.connect_started();
    let connection = Box::new(Upstream::new(LoginFacts {
        thread_id: 7,
        deprecates_eof: true,
        vector: vector(),
        statements_max: 100,
        baselines: Rc::default(),
    }));
    assert!(matches!(
        pool.connected(connection, NOW, &mut Prng::new(1)),
        Ended::Idle(_)
    ));
    let vector = vector();
    World {
        clients: vec![
            client(1, capabilities, &vector),
            client(2, CAPABILITIES, &vector),
        ],
        pool,
        texts: Texts::default(),
        out: Output::default(),
        upstream_out: Vec::with_capacity(1024),
        command,
        reply,
        ahead: Vec::new(),
        other_reply: one_row(false),
    }
}

impl World {
    /// One exchange of a client; its connection must go back to the pool.
    fn exchange(&mut self, number: usize, command: &mut [u8], reply: &mut [u8]) {
        let Client { intake, session } = &mut self.clients[number];
        self.out.clear();
        self.upstream_out.clear();
        assert_eq!(intake.next(command), Ok(Taken::Inline(command.len())));
        let payload = &command[HEADER_LEN..];
        let next = session.accept(payload, true, None, &mut self.out, &mut self.upstream_out);
        assert_eq!(next, Next::Lease { prefer_last: false });
        let mut lease = self.pool.take(0).expect("an idle connection");
        let upstream = &mut *lease.connection;
        let (texts, upstream_out) = (&mut self.texts, &mut self.upstream_out);
        let mut begun = session.begin(upstream, texts, command, true, upstream_out);
        if begun == Ok(Begin::Wait) {
            // What goes ahead is answered before the statement is sent.
            let progress = session.on_reply(upstream, &mut self.ahead, &mut self.out, upstream_out);
            assert_eq!(progress, Ok(Progress::Ready));
            begun = session.begin(upstream, texts, command, true, upstream_out);
        }
        assert_eq!(begun, Ok(Begin::Send));
        let progress = session.on_reply(upstream, reply, &mut self.out, &mut self.upstream_out);
        assert_eq!(progress, Ok(Progress::Done));
        assert_eq!(session.end(upstream, &mut self.upstream_out), After::Return);
        // What the driver asks beside: may the command be repeated, was and is the session pinned?
        assert!(!session.vector().is_autocommit_off());
        assert!(session.pins().is_empty() && black_box(session.pins()).is_empty());
        let owner = session.owner();
        let ended = self.pool.end(lease, owner, LeaseEnd::Return, NOW);
        assert!(matches!(ended, Ended::Idle(_)));
    }

    /// The exchange under test.
    fn run(&mut self) {
        let mut command = std::mem::take(&mut self.command);
        let mut reply = std::mem::take(&mut self.reply);
        self.exchange(0, &mut command, &mut reply);
        (self.command, self.reply) = (command, reply);
    }

    /// The other client uses the connection in its own state.
    fn run_other(&mut self) {
        let mut command = query(b"SELECT 1");
        let mut reply = std::mem::take(&mut self.other_reply);
        self.exchange(1, &mut command, &mut reply);
        self.other_reply = reply;
    }

    /// Gives the reply back the sequence ids that the last exchange has changed.
    fn renew_reply(&mut self) {
        self.reply = one_row(false);
    }

    /// The client under test prepares `count` statements, whose ids are 1 to `count` on both sides,
    /// and binds the parameter of the first.
    fn prepare(&mut self, count: u32) {
        for id in 1..=count {
            let sql = format!("SELECT c FROM sbtest{id} WHERE id=?");
            let mut command = Vec::new();
            packet(&mut command, 0, |out| {
                encode_text_command(out, com::STMT_PREPARE, sql.as_bytes());
            });
            self.exchange(0, &mut command, &mut prepared(id));
        }
        self.exchange(0, &mut execute(count, true), &mut one_row(true));
    }
}

fn query(sql: &[u8]) -> Vec<u8> {
    let mut command = Vec::new();
    packet(&mut command, 0, |out| {
        encode_text_command(out, com::QUERY, sql);
    });
    command
}

/// The reply to a PREPARE with one parameter and one column.
fn prepared(id: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sequence = packet(&mut out, 1, |out| {
        put_u8(out, 0);
        put_u32(out, id);
        put_u16(out, 1);
        put_u16(out, 1);
        put_u8(out, 0);
        put_u16(out, 0);
    });
    for name in ["?", "c"] {
        sequence = packet(&mut out, sequence, |out| {
            for part in ["def", "", "", "", name, ""] {
                put_lenenc_bytes(out, part.as_bytes());
            }
            put_u8(out, 12);
            out.extend_from_slice(&[0; 12]);
        });
    }
    out
}

/// EXECUTE with one integer, with or without its type.
fn execute(id: u32, has_types: bool) -> Vec<u8> {
    let mut out = Vec::new();
    packet(&mut out, 0, |out| {
        put_u8(out, com::STMT_EXECUTE);
        put_u32(out, id);
        put_u8(out, 0);
        put_u32(out, 1);
        put_u8(out, 0);
        put_u8(out, u8::from(has_types));
        if has_types {
            put_u8(out, column_type::LONG);
            put_u8(out, 0);
        }
        put_u32(out, 5012);
    });
    out
}

/// A prepared point select of a client that has `count` statements.
fn prepared_world(count: u32) -> World {
    let mut world = world(execute(count, false), one_row(true));
    world.prepare(count);
    world
}

/// The other client is in another schema and time zone, so that each moves the connection.
fn moving_world() -> World {
    let mut world = world(query(POINT_SELECT), one_row(false));
    for schema in ["sbtest", "other"] {
        let mut tracked = Vec::new();
        packet(&mut tracked, 1, |out| tracked_ok(out, schema.as_bytes()));
        world.exchange(1, &mut query(b"SET time_zone='+02:00'"), &mut tracked);
    }
    for _ in 0..2 {
        packet(&mut world.ahead, 1, |out| {
            encode_ok(out, CAPABILITIES, &ok());
        });
    }
    // The other's constant goes in the same write.
    world.other_reply = [&world.ahead[..], &world.other_reply].concat();
    world.run();
    world
}

const POINT_SELECT: &[u8] = b"SELECT c FROM sbtest1 WHERE id=5012";

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    let text = || world(query(POINT_SELECT), one_row(false));
    vec![
        case("exchange: point select", text(), |_| (), World::run),
        case(
            "exchange: point select after another client",
            text(),
            World::run_other,
            World::run,
        ),
        case(
            "exchange: point select of a client with legacy EOFs",
            world_of(
                CAPABILITIES & !caps::DEPRECATE_EOF,
                query(POINT_SELECT),
                one_row(false),
            ),
            World::renew_reply,
            World::run,
        ),
        case("exchange: EXECUTE", prepared_world(1), |_| (), World::run),
        case(
            "exchange: EXECUTE of a client with 100 statements",
            prepared_world(100),
            |_| (),
            World::run,
        ),
        case(
            "exchange: point select from another state",
            moving_world(),
            World::run_other,
            World::run,
        ),
    ]
}
