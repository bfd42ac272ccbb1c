//! The scanner of statement texts.

use std::hint::black_box;

use ringgate::session::mysql::text::{Flags, Kind, LexMode, scan};

use super::{Case, case};

/// A text and what its scan must say.
struct Text {
    sql: Vec<u8>,
    kind: Kind,
    flags: Flags,
}

fn text(name: &'static str, sql: &str, kind: Kind, flags: Flags) -> Case {
    let state = Text {
        sql: sql.as_bytes().to_vec(),
        kind,
        flags,
    };
    case(
        name,
        state,
        |_| (),
        |s| {
            let traits = scan(black_box(&s.sql), LexMode::default());
            assert_eq!((traits.kind, traits.flags), (s.kind, s.flags));
        },
    )
}

/// An INSERT of a hundred rows, as dumps and imports have them: some 13 KiB.
fn long_insert() -> String {
    let row = |n: u32| {
        let words = "68487932199-96439406143-93774651418-41631865787-96406072701";
        format!("({n},{},'it\\'s {words}','{words}')", n * 7919)
    };
    let rows: Vec<String> = (1..=100).map(row).collect();
    format!(
        "INSERT INTO sbtest1 (id, k, c, pad) VALUES {}",
        rows.join(",")
    )
}

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    vec![
        text(
            "scan: point select",
            "SELECT c FROM sbtest1 WHERE id=5012",
            Kind::Select,
            Flags::EMPTY,
        ),
        text(
            "scan: INSERT of 100 rows",
            &long_insert(),
            Kind::Insert,
            Flags::EMPTY,
        ),
        text(
            "scan: SET of a driver",
            "SET autocommit=1, sql_mode=concat(@@sql_mode,',STRICT_TRANS_TABLES'), \
             time_zone='+00:00', NAMES utf8mb4",
            Kind::Set,
            Flags::SETS_UNSCOPED.and(Flags::SETS_LIST),
        ),
        text(
            "scan: three statements in one",
            "UPDATE t SET a = a + 1 WHERE id = 7; /* and */ SELECT a, `b` FROM t WHERE id = 7; \
             SELECT ROW_COUNT()",
            Kind::Update,
            Flags::MULTI.and(Flags::READS_ROW_COUNT),
        ),
    ]
}
