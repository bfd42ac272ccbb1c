//! What simulated clients ask.

use ringgate::base::prng::Prng;
use ringgate::wire::mysql::command::{
    LongData, encode_execute, encode_fetch, encode_long_data, encode_statement_command,
    encode_text_command,
};
use ringgate::wire::mysql::flags::{caps, column_type, com};

use super::mock::command;

/// What a reply may depend on that another connection does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    pub insert_id: bool,
    pub counts: bool,
    pub conditions: bool,
}

impl Reads {
    pub fn of(sql: &str) -> Self {
        Self {
            insert_id: sql.contains("last_insert_id()") || sql.contains("@@identity"),
            counts: sql.contains("row_count()") || sql.contains("found_rows()"),
            conditions: sql.contains("show warnings")
                || sql.contains("show errors")
                || sql.contains("@@warning_count"),
        }
    }
}

/// What a client sends.
#[derive(Clone, Debug)]
pub struct Request {
    pub raw: Vec<u8>,
    pub text: String,
    pub reads: Reads,
    /// The text of a PREPARE.
    pub prepares: Option<String>,
    /// The statement of an EXECUTE that carries types.
    pub binds: Option<u32>,
    /// The statement of an EXECUTE, a FETCH or a RESET.
    pub executes: Option<u32>,
}

/// A statement that the client knows to be prepared.
#[derive(Clone, Debug)]
pub struct Known {
    pub id: u32,
    pub sql: String,
    pub params: usize,
    pub is_bound: bool,
    pub has_long_data: bool,
    /// The types bound last.
    pub types: Vec<u8>,
}

/// One client's side of the workload.
pub struct Workload {
    number: usize,
    serial: u32,
    pub capabilities: u32,
    pub known: Vec<Known>,
    /// Kinds of requests that this client makes, by their numbers.
    kinds: Vec<u64>,
    /// Its session's settings are what matters.
    is_of_settings: bool,
}

/// Kinds of requests that any client makes.
const KINDS: u64 = 24;

/// A collation comes about that no text in sight tells.
const UNTOLD: u64 = KINDS;

/// The kinds of a client that is about settings.
const OF_SETTINGS: &[u64] = &[0, 6, 7, 12, 14, 15, 16, 17, 18, UNTOLD];

/// Texts that are prepared.
const TEXTS: &[&str] = &[
    "select ?, state()",
    "select i, ? from seq_12",
    "select ?, ?, state()",
    "select state()",
    "select '{}', ?, database()",
    "insert into t{me} values (?)",
    "select last_insert_id(), ?",
    "select row_count()",
    "show warnings",
    "select bad_{}",
    "set time_zone='+03:00'",
];

/// Those of a client that is about settings.
const TEXTS_OF_SETTINGS: &[&str] = &[
    "select settings(), ?",
    "select settings()",
    "select settings(), database()",
    "select ?, state()",
    "insert into t{me} values (?)",
    "set time_zone='+03:00'",
    "set names latin1 collate latin1_bin",
];

impl Workload {
    pub fn new(number: usize, capabilities: u32, prng: &mut Prng) -> Self {
        let mut kinds: Vec<u64> = vec![0, 1];
        for kind in 0..KINDS {
            if prng.below(3) == 0 {
                kinds.push(kind);
            }
        }
        Self {
            number,
            serial: 0,
            capabilities,
            known: Vec::new(),
            kinds,
            is_of_settings: false,
        }
    }

    /// What its session is set to is what matters from now on.
    pub fn keep_to_settings(&mut self) {
        self.kinds = OF_SETTINGS.to_vec();
        self.is_of_settings = true;
    }

    fn tag(&mut self) -> String {
        self.serial += 1;
        format!("c{}:{}", self.number, self.serial)
    }

    /// The next request.
    pub fn next(&mut self, prng: &mut Prng) -> Request {
        let index = usize::try_from(prng.below(self.kinds.len() as u64)).unwrap();
        let tag = self.tag();
        match self.kinds[index] {
            14 => self.prepare(&tag, prng),
            15..=18 => self
                .on_statement(&tag, prng)
                .unwrap_or_else(|| self.prepare(&tag, prng)),
            19 if prng.below(4) == 0 => {
                plain("reset connection", |out| out.push(com::RESET_CONNECTION))
            }
            19 => plain("ping", |out| out.push(com::PING)),
            20 => {
                let name = pick(prng, &["s1", "s2", "s3", "nosuch"]);
                plain(&format!("init_db {name}"), |out| {
                    encode_text_command(out, com::INIT_DB, name.as_bytes());
                })
            }
            21 if self.capabilities & caps::MULTI_STATEMENTS != 0 => {
                let count = 2 + prng.below(2);
                let parts: Vec<String> = (0..count)
                    .map(|part| {
                        let kind = prng.below(13);
                        self.text(kind, &format!("{tag}.{part}"), prng)
                    })
                    .collect();
                query(&parts.join("; "))
            }
            22 if prng.below(6) == 0 => {
                let pad = "x".repeat(64 * 1024 + usize::try_from(prng.below(9000)).unwrap());
                query(&format!("select '{tag}', state() /* {pad} */"))
            }
            kind => {
                let sql = self.text(kind, &tag, prng);
                query(&sql)
            }
        }
    }

    fn text(&self, kind: u64, tag: &str, prng: &mut Prng) -> String {
        let me = self.number;
        match kind {
            0 => format!("select '{tag}', state()"),
            1 => match prng.below(4) {
                0 => format!(
                    "select '{tag}', i, repeat('x', 300) from seq_{}",
                    prng.below(30)
                ),
                1 => format!("select '{tag}', i from seq_{} limit 3", prng.below(9)),
                2 => format!(
                    "select sql_calc_found_rows '{tag}', i from seq_{} limit 3",
                    prng.below(9)
                ),
                _ => format!("select v, '{tag}', state() from t{me}"),
            },
            2 => match prng.below(5) {
                0 => format!("insert into t{me} values ('{tag}-a'), ('{tag}-b')"),
                1 if tag.ends_with(['0', '2', '4']) => {
                    format!("insert into t{me} values ('{tag}-a'), ('{tag}-dup')")
                }
                1 => format!("insert into t{me} values ('{tag}-dup')"),
                4 => format!("insert into t{me} values ('{tag}-own')"),
                2 => format!("insert into t{me} values ('{tag}-warn')"),
                _ => format!("insert into t{me} values ('{tag}')"),
            },
            3 => format!("select '{tag}'+0, state()"),
            4 => pick(
                prng,
                &[
                    "select bad_{}",
                    "selec {}",
                    "insert into tmpx values ('{}')",
                ],
            )
            .replace("{}", tag),
            5 => pick(prng, &["begin", "commit", "rollback", "start transaction"]).to_owned(),
            6 => set(prng),
            7 => pick(
                prng,
                &[
                    "set names latin1",
                    "set names utf8mb4",
                    "set names utf8mb4 collate utf8mb4_bin",
                    "set character_set_results=null",
                    "set character_set_connection=latin1",
                    "set collation_connection=utf8mb4_bin",
                    "set collation_connection=latin1_bin",
                ],
            )
            .to_owned(),
            8 => pick(
                prng,
                &[
                    "select last_insert_id()",
                    "select @@identity, '{}'",
                    "select last_insert_id(), state()",
                    "select last_insert_id(), row_count(), found_rows()",
                    "select last_insert_id({n})",
                    "set last_insert_id={n}",
                    "insert into t{me} values ('{}')",
                ],
            )
            .replace("{}", tag)
            .replace("{me}", &me.to_string())
            .replace(
                "{n}",
                &(1000 * me as u64 + 500 + prng.below(400)).to_string(),
            ),
            9 => pick(
                prng,
                &[
                    "select found_rows()",
                    "select row_count(), '{}'",
                    "select row_count(), found_rows()",
                    "show tables",
                    "show privileges",
                ],
            )
            .replace("{}", tag),
            10 | 11 => pick(
                prng,
                &[
                    "show warnings",
                    "show warnings",
                    "show errors",
                    "select @@warning_count",
                    "show warnings limit 1",
                ],
            )
            .to_owned(),
            12 => format!("use {}", pick(prng, &["s1", "s2", "s3", "nosuch"])),
            13 if prng.below(3) == 0 => pick(
                prng,
                &[
                    "set @u='{}'",
                    "select @u, '{}'",
                    "create temporary table tmpx (v text)",
                    "insert into tmpx values ('{}')",
                    "select v, '{}' from tmpx",
                    "drop temporary table tmpx",
                    "select get_lock('c{me}:l', 0)",
                    "lock tables t{me} write",
                    "unlock tables",
                    "set timestamp=5",
                ],
            )
            .replace("{}", tag)
            .replace("{me}", &me.to_string()),
            UNTOLD => pick(
                prng,
                &[
                    "execute immediate 'set names utf8mb4 collate utf8mb4_bin'",
                    "execute immediate 'set names latin1 collate latin1_bin'",
                    "execute immediate 'set names latin1'",
                ],
            )
            .to_owned(),
            _ => format!("select database(), '{tag}', @@time_zone, state()"),
        }
    }

    fn prepare(&mut self, tag: &str, prng: &mut Prng) -> Request {
        let me = self.number;
        let texts = match self.is_of_settings {
            true => TEXTS_OF_SETTINGS,
            false => TEXTS,
        };
        let sql = pick(prng, texts)
            .replace("{}", tag)
            .replace("{me}", &me.to_string());
        let mut request = plain(&format!("prepare {sql}"), |out| {
            encode_text_command(out, com::STMT_PREPARE, sql.as_bytes());
        });
        request.prepares = Some(sql);
        request
    }

    /// EXECUTE and the like.
    fn on_statement(&mut self, tag: &str, prng: &mut Prng) -> Option<Request> {
        let index = usize::try_from(prng.below(self.known.len() as u64)).unwrap();
        let known = self.known.get_mut(index)?;
        let id = known.id;
        Some(match prng.below(12) {
            0 => {
                self.known.remove(index);
                plain(&format!("close {id}"), |out| {
                    encode_statement_command(out, com::STMT_CLOSE, id);
                })
            }
            1 => {
                let mut request = plain(&format!("reset {id}"), |out| {
                    known.has_long_data = false;
                    encode_statement_command(out, com::STMT_RESET, id);
                });
                request.executes = Some(id);
                request
            }
            2 | 3 => {
                let rows = 1 + u32::try_from(prng.below(9)).unwrap();
                let mut request = plain(&format!("fetch {rows} of {id}"), |out| {
                    encode_fetch(out, id, rows);
                });
                request.executes = Some(id);
                request
            }
            4 if known.params > 0 => plain(&format!("long data {id}"), |out| {
                known.has_long_data = true;
                let chunk = LongData {
                    statement: id,
                    parameter: 0,
                    data: tag.as_bytes(),
                };
                encode_long_data(out, &chunk);
            }),
            _ => execute(known, tag, prng),
        })
    }
}

fn execute(known: &mut Known, tag: &str, prng: &mut Prng) -> Request {
    let binds = !known.is_bound || prng.below(2) == 0;
    if binds {
        let kinds = [
            column_type::VAR_STRING,
            column_type::LONGLONG,
            column_type::STRING,
        ];
        known.types.clear();
        for index in 0..known.params {
            // Long data is text whatever the statement says; an insert's value is its tag.
            let is_text = index == 0 && known.has_long_data || known.sql.starts_with("insert");
            let kind = if is_text {
                column_type::VAR_STRING
            } else {
                pick(prng, &kinds)
            };
            known.types.extend_from_slice(&[kind, 0]);
        }
    }
    let mut bitmap = vec![0_u8; known.params.div_ceil(8)];
    let mut values = Vec::new();
    for index in 0..known.params {
        if index == 0 && known.has_long_data {
            continue;
        }
        if !known.sql.starts_with("insert") && prng.below(6) == 0 {
            bitmap[index / 8] |= 1 << (index % 8);
        } else if known.types[index * 2] == column_type::LONGLONG {
            values.extend_from_slice(&prng.below(1 << 40).to_le_bytes());
        } else {
            let text = format!("{tag}.{index}");
            values.push(u8::try_from(text.len()).unwrap());
            values.extend_from_slice(text.as_bytes());
        }
    }
    known.has_long_data = false;
    let is_select = known.sql.starts_with("select i");
    let flags = u8::from(is_select && prng.below(2) == 0);
    let types = binds.then(|| known.types.clone());
    let id = if prng.below(9) == 0 && known.id == u32::MAX {
        u32::MAX
    } else {
        known.id
    };
    let text = format!(
        "execute {id} ({}) types {types:?} cursor {flags}",
        known.sql
    );
    let mut request = plain(&text, |out| {
        encode_execute(out, id, flags, &bitmap, types.as_deref(), &values);
    });
    request.reads = Reads::of(&known.sql);
    request.executes = Some(id);
    request.binds = binds.then_some(id);
    known.is_bound = false;
    request
}

fn set(prng: &mut Prng) -> String {
    let items = [
        "sql_mode=''",
        "sql_mode='ANSI_QUOTES'",
        "sql_mode='NO_BACKSLASH_ESCAPES'",
        "sql_mode=default",
        "time_zone='+01:00'",
        "time_zone='+02:00'",
        "time_zone=default",
        "autocommit=0",
        "autocommit=1",
        "unique_checks=0",
        "wait_timeout=100",
        "wait_timeout=default",
        "tx_isolation='READ-COMMITTED'",
        "sql_safe_updates=on",
        "nosuch=1",
    ];
    let first = pick(prng, &items);
    match prng.below(3) {
        0 => format!("set {first}, {}", pick(prng, &items)),
        _ => format!("set {first}"),
    }
}

pub fn pick<T: Copy>(prng: &mut Prng, list: &[T]) -> T {
    list[usize::try_from(prng.below(list.len() as u64)).unwrap()]
}

fn plain(text: &str, write: impl FnOnce(&mut Vec<u8>)) -> Request {
    Request {
        raw: command(write),
        text: text.chars().take(200).collect(),
        reads: Reads::default(),
        prepares: None,
        binds: None,
        executes: None,
    }
}

fn query(sql: &str) -> Request {
    let mut request = plain(sql, |out| {
        encode_text_command(out, com::QUERY, sql.as_bytes());
    });
    request.reads = Reads::of(sql);
    request
}
