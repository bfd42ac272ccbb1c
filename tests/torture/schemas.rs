//! What writers write to: the same tables and stored programs in several schemas, and what is in them
//! after a storm.

use std::time::Duration;

use crate::ledger::Row;
use crate::support::{ACCOUNT, Client, ClientError, Kind, Server, wait_for};

/// Schemas that are there all the time. The last one is the tenants' own, in which nobody means to write.
pub const LASTING: [&str; 3] = ["one", "two", "three"];
const NOBODYS: &str = "test";
/// A schema that comes and goes.
pub const GONE: &str = "gone";
/// Tables with a row for each write: the second one has a trigger.
const TABLES: [&str; 2] = ["w", "noting"];

/// What a row tells of the session that has written it, besides the writer and the write's number.
pub const COLUMNS: [&str; 18] = [
    "believed", "way", "db", "zone", "mode", "coll", "auto", "iso", "slash", "piped", "quoted",
    "same", "chars", "pad", "prior", "mine", "held", "seen",
];

/// What the tests' client logs in with.
pub const LOGIN_COLLATION: &str = "utf8mb4_general_ci";

/// For how long what was sent before the end of a storm may run on.
const RUNS_ON: Duration = Duration::from_secs(10);

/// So that what a server has acknowledged survives its process, and what waits for a lock is told in time.
pub fn arguments() -> Vec<String> {
    [
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-doublewrite=1",
        "--lock-wait-timeout=1",
        "--innodb-lock-wait-timeout=1",
    ]
    .map(str::to_owned)
    .into()
}

/// What the variables of a session are that has set none.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub kind: Kind,
    pub mode: String,
    pub iso: String,
    /// The collation of a connection that was reset: MySQL goes back to the server's, not to the login's.
    pub reset_collation: String,
}

impl Defaults {
    /// The variable that says how far transactions see each other.
    pub fn isolation(&self) -> &'static str {
        match self.kind {
            Kind::MariaDb => "tx_isolation",
            Kind::MySql => "transaction_isolation",
        }
    }
}

/// Makes all of it; what a session has that sets nothing.
pub fn make(server: &Server) -> Defaults {
    let mut statements = Vec::new();
    for schema in LASTING.into_iter().chain([NOBODYS]) {
        statements.push(format!("CREATE DATABASE IF NOT EXISTS {schema}"));
        statements.push(format!("USE {schema}"));
        for table in TABLES {
            statements.push(table_sql(table));
        }
        statements.extend(programs(schema));
    }
    if server.kind() == Kind::MySql {
        // What MariaDB has as an engine.
        for count in [2, 8, 40] {
            let table = format!("{NOBODYS}.seq_1_to_{count}");
            let rows: Vec<String> = (1..=count).map(|seq| format!("({seq})")).collect();
            statements.push(format!("CREATE TABLE {table} (seq INT PRIMARY KEY)"));
            statements.push(format!("INSERT INTO {table} VALUES {}", rows.join(", ")));
        }
    }
    server.run(&statements);
    let mut defaults = Defaults {
        kind: server.kind(),
        mode: String::new(),
        iso: String::new(),
        reset_collation: LOGIN_COLLATION.to_owned(),
    };
    let sql = format!(
        "SELECT @@sql_mode, @@{}, @@global.collation_connection",
        defaults.isolation()
    );
    let answer = server.client().query_one(&sql).expect("two values");
    defaults.mode = answer.text(0, 0).expect("a mode");
    defaults.iso = answer.text(0, 1).expect("a level");
    if defaults.kind == Kind::MySql {
        defaults.reset_collation = answer.text(0, 2).expect("a collation");
    }
    defaults
}

/// No key but the id's: what is done twice is to be seen.
fn table_sql(name: &str) -> String {
    let columns: String = COLUMNS
        .iter()
        .map(|column| format!(", {column} VARCHAR(400)"))
        .collect();
    format!(
        "CREATE TABLE {name} (id BIGINT AUTO_INCREMENT PRIMARY KEY, writer INT NOT NULL, seq INT NOT NULL\
         {columns}) ENGINE=InnoDB"
    )
}

/// The table that writers have their schema, `gone`, come back with.
pub fn table_of_gone() -> String {
    table_sql(TABLES[0]).replacen("TABLE w", &format!("TABLE IF NOT EXISTS {GONE}.w"), 1)
}

/// `put` writes a row, in its own schema; `put_noting` leaves a user variable besides; `putting` is a view
/// that has one written for what was queued. `mine` is what a temporary table hides.
fn programs(schema: &str) -> Vec<String> {
    let parameters: String = COLUMNS
        .iter()
        .map(|column| format!(", p_{column} VARCHAR(400)"))
        .collect();
    let names = COLUMNS.join(", ");
    let values = COLUMNS.map(|column| format!("p_{column}")).join(", ");
    let insert =
        format!("INSERT INTO w (writer, seq, {names}) VALUES (p_writer, p_seq, {values});");
    let put = |name: &str, more: &str| {
        format!(
            "CREATE FUNCTION {name}(p_writer INT, p_seq INT{parameters}) RETURNS INT MODIFIES SQL DATA \
             BEGIN {insert} {more} RETURN p_seq; END"
        )
    };
    vec![
        "CREATE TABLE mine (tag VARCHAR(80)) ENGINE=InnoDB".to_owned(),
        "INSERT INTO mine VALUES ('real')".to_owned(),
        "CREATE TABLE queue (k BIGINT PRIMARY KEY) ENGINE=InnoDB".to_owned(),
        put("put", ""),
        put(
            "put_noting",
            "SET @mine = CONCAT('f', p_writer, ':', p_seq);",
        ),
        format!(
            "CREATE FUNCTION put_queued(p_k BIGINT) RETURNS INT MODIFIES SQL DATA BEGIN \
             INSERT INTO w (writer, seq, believed, way, zone, auto) \
             VALUES (p_k DIV 1000000, p_k MOD 1000000, '{schema}', 'view', @@time_zone, @@autocommit); \
             RETURN p_k MOD 1000000; END"
        ),
        "CREATE ALGORITHM=MERGE VIEW putting AS SELECT k, put_queued(k) AS done FROM queue"
            .to_owned(),
        "CREATE TRIGGER on_noting AFTER INSERT ON noting FOR EACH ROW \
         SET @mine = CONCAT('t', NEW.writer, ':', NEW.seq)"
            .to_owned(),
        "CREATE FUNCTION zone_it(p_zone VARCHAR(10)) RETURNS INT NO SQL \
         BEGIN SET @@time_zone = p_zone; RETURN 1; END"
            .to_owned(),
        "CREATE FUNCTION lock_it(p_name VARCHAR(20)) RETURNS INT NO SQL RETURN GET_LOCK(p_name, 0)"
            .to_owned(),
        "CREATE FUNCTION remember(p_tag VARCHAR(80)) RETURNS INT NO SQL \
         BEGIN SET @mine = p_tag; RETURN 1; END"
            .to_owned(),
    ]
}

/// All rows, once nothing runs any more that may add to them.
pub fn rows(server: &Server) -> Result<Vec<Row>, String> {
    let busy = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
         WHERE USER = '{ACCOUNT}' AND COMMAND <> 'Sleep'"
    );
    if !wait_for(RUNS_ON, || server.sql(&busy).trim() == "0") {
        let list =
            server.sql("SELECT ID, COMMAND, TIME, STATE, INFO FROM information_schema.PROCESSLIST");
        return Err(format!("statements run on after the storm:\n{list}"));
    }
    let mut client = server.client();
    let mut rows = Vec::new();
    for schema in LASTING.into_iter().chain([NOBODYS, GONE]) {
        for table in TABLES {
            match rows_of(&mut client, schema, table) {
                Ok(mut found) => rows.append(&mut found),
                // It is not there in this moment.
                Err(error) if schema == GONE && matches!(error.errno(), 1049 | 1146) => {}
                Err(error) => return Err(format!("{schema}.{table}: {error}")),
            }
        }
    }
    Ok(rows)
}

fn rows_of(client: &mut Client, schema: &str, table: &str) -> Result<Vec<Row>, ClientError> {
    let names = COLUMNS.join(", ");
    let sql = format!("SELECT writer, seq, id, {names} FROM {schema}.{table}");
    let answer = client.query_one(&sql)?;
    let number = |row: usize, column: usize| -> u64 {
        let text = answer.text(row, column).expect("a value");
        text.parse().expect("a number")
    };
    let of_row = |row: usize| Row {
        schema: schema.to_owned(),
        writer: number(row, 0),
        seq: number(row, 1),
        id: number(row, 2),
        values: (0..COLUMNS.len())
            .map(|column| answer.text(row, column + 3))
            .collect(),
    };
    Ok((0..answer.rows.len()).map(of_row).collect())
}
