//! Two sessions take turns on few pooled connections: what one has done is there for it in its next
//! turn and never for the other, in text and in prepared form.

#![allow(
    clippy::expect_used,
    reason = "a test says what was wrong by the place where it ends"
)]

#[path = "../support/mod.rs"]
mod support;

mod account;
mod baseline;
mod character_sets;
mod cleansing;
mod conditions;
mod dropped_schema;
mod fetch;
mod first_text;
mod insert_id;
mod login_collation;
mod mysql;
mod next_transaction;
mod programs;
mod reread;
mod resets;
mod settings;
mod told;
mod variables;
mod whole_state;

use support::{
    ACCOUNT, Answer, Client, ClientError, Gateway, Login, MariaDb, Options, PASSWORD, Server, Shape,
};

/// CLIENT_MULTI_STATEMENTS.
const MULTI_STATEMENTS: u32 = 1 << 16;

/// How a statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As COM_QUERY.
    Text,
    /// Prepared, executed and closed.
    Binary,
}

impl Form {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Text, Self::Binary];
}

/// A server, and a gateway with so many connections to it.
pub struct Scene {
    /// The server.
    pub server: Server,
    /// The gateway in front of it.
    pub gateway: Gateway,
}

impl Scene {
    /// `sql` is run on the server first, one statement a line, in a server that has a schema `test`.
    pub fn new(budget: u32, sql: &str) -> Self {
        Self::with(budget, sql, "")
    }

    /// Like [`Scene::new`], with more of a configuration.
    pub fn with(budget: u32, sql: &str, extra: &str) -> Self {
        Self::before(MariaDb::with_test_schema(sql), budget, extra)
    }

    /// Like [`Scene::with`], on MySQL; `None` where there is none.
    pub fn on_mysql(budget: u32, sql: &str, extra: &str) -> Option<Self> {
        let server = Server::mysql(Options::with_test_schema(sql))?;
        Some(Self::before(server, budget, extra))
    }

    /// A gateway before this server.
    pub fn before(server: Server, budget: u32, extra: &str) -> Self {
        let extra = format!("[deadlines]\npool_wait = \"5s\"\n{extra}");
        let shape = Shape {
            budget,
            extra: &extra,
            ..Shape::default()
        };
        let gateway = Gateway::in_shape(server.port(), &shape);
        Self { server, gateway }
    }

    /// A client of the gateway's, in the schema `test`.
    pub fn client(&self, deprecate_eof: bool) -> Client {
        let login = Login {
            schema: "test".to_owned(),
            deprecate_eof,
            ..self.gateway.login()
        };
        Client::connect(&login).unwrap_or_else(|error| panic!("{error}:\n{}", self.gateway.log()))
    }

    /// Likewise, one that may send several statements in a text.
    pub fn multi_client(&self) -> Client {
        let login = Login {
            schema: "test".to_owned(),
            ..self.gateway.login()
        };
        Client::connect_with(&login, MULTI_STATEMENTS).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The gateway's account at the server itself, in no schema.
    pub fn direct_login(&self) -> Login {
        Login {
            port: self.server.port(),
            user: ACCOUNT.to_owned(),
            password: PASSWORD.to_owned(),
            schema: String::new(),
            deprecate_eof: true,
        }
    }

    /// A client of the server itself, in the schema `test`.
    pub fn direct(&self) -> Client {
        let login = Login {
            schema: "test".to_owned(),
            ..self.direct_login()
        };
        Client::connect(&login).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Whether no connection is kept, or cleansed, any more: looked at for a while.
    pub fn is_free(&self) -> bool {
        support::wait_for(std::time::Duration::from_secs(5), || self.pinned() < 0.5)
    }

    /// Connections that sessions keep now, or that are being cleansed.
    pub fn pinned(&self) -> f64 {
        self.gateway
            .metric("ringgate_upstream_connections_leased", &[])
    }
}

/// Sends one statement in this form; its answer.
pub fn send(client: &mut Client, form: Form, sql: &str) -> Result<Answer, ClientError> {
    match form {
        Form::Text => client.query_one(sql),
        Form::Binary => {
            let statement = client.prepare(sql)?;
            let answer = client.execute(statement, &[]);
            client.close_statement(statement)?;
            answer
        }
    }
}

/// Sends one statement that must succeed; its first value, empty if it has none.
pub fn ask(client: &mut Client, form: Form, sql: &str) -> String {
    let answer = send(client, form, sql);
    let answer = answer.unwrap_or_else(|error| panic!("{form:?} {sql}: {error}"));
    answer.text(0, 0).unwrap_or_default()
}

/// Sends one statement that must fail; the error's number.
pub fn fails(client: &mut Client, form: Form, sql: &str) -> u16 {
    let answer = send(client, form, sql);
    let error = answer.expect_err("an error");
    assert_ne!(error.errno(), 0, "{form:?} {sql}: {error}");
    error.errno()
}
