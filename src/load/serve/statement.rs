//! What a null server makes of a statement: which of a few answers it gets, and what it does to the
//! session. No grammar: the first word decides, as far as an answer of the right kind needs it.

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// The configured rows.
    Rows,
    /// One row of values that have names: what clients ask about the server and the session.
    Values(Vec<(String, Option<String>)>),
    /// A system variable that is not known.
    UnknownVariable(String),
    /// No rows, under these columns.
    Empty(&'static [&'static str]),
    /// OK, with as many rows affected.
    Done(u64),
    /// OK; a transaction begins.
    Begin,
    /// OK; the open transaction ends.
    End,
    /// OK; another schema.
    Use(String),
    /// OK; variables by their names, and their values as the server would report them.
    Set(Vec<(String, String)>),
}

/// What the session knows that a statement may ask about.
pub(super) struct Facts<'a> {
    pub(super) version: &'a str,
    pub(super) user: &'a str,
    pub(super) schema: Option<&'a str>,
    pub(super) connection_id: u32,
    pub(super) is_autocommit: bool,
    pub(super) last_rows: u64,
    /// Variables that the session has set.
    pub(super) variables: &'a [(String, String)],
}

/// System variables that clients ask for, with values such as a server's.
const VARIABLES: &[(&str, &str)] = &[
    ("auto_increment_increment", "1"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_database", "utf8mb4"),
    ("character_set_results", "utf8mb4"),
    ("character_set_server", "utf8mb4"),
    ("collation_connection", "utf8mb4_general_ci"),
    ("collation_database", "utf8mb4_general_ci"),
    ("collation_server", "utf8mb4_general_ci"),
    ("have_ssl", "DISABLED"),
    ("init_connect", ""),
    ("interactive_timeout", "28800"),
    ("license", "GPL"),
    ("lower_case_table_names", "0"),
    ("max_allowed_packet", "1073741824"),
    ("net_buffer_length", "16384"),
    ("net_read_timeout", "30"),
    ("net_write_timeout", "60"),
    ("performance_schema", "0"),
    ("query_cache_size", "0"),
    ("query_cache_type", "OFF"),
    ("read_only", "0"),
    ("socket", ""),
    ("sql_mode", "STRICT_TRANS_TABLES"),
    ("sql_select_limit", "18446744073709551615"),
    ("system_time_zone", "UTC"),
    ("time_zone", "SYSTEM"),
    ("transaction_isolation", "REPEATABLE-READ"),
    ("transaction_read_only", "0"),
    ("tx_isolation", "REPEATABLE-READ"),
    ("tx_read_only", "0"),
    ("version_comment", "Ringgate null server"),
    ("version_compile_machine", "none"),
    ("version_compile_os", "Linux"),
    ("wait_timeout", "28800"),
];

/// Reads a statement.
pub(super) fn read(text: &[u8], facts: &Facts<'_>) -> Statement {
    let text = skip_blanks(text);
    let (word, rest) = split_word(text);
    let is = |known: &str| word.eq_ignore_ascii_case(known.as_bytes());
    match word.len() {
        6 if is("select") => return select(rest, facts),
        3 if is("set") => return Statement::Set(assignments(&lossy(rest))),
        3 if is("use") => return Statement::Use(unquote(lossy(rest).trim())),
        5 if is("begin") => return Statement::Begin,
        6 if is("commit") => return Statement::End,
        _ => {}
    }
    let known: [(&[&str], Statement); 7] = [
        (&["with", "table", "values", "execute"], Statement::Rows),
        (
            &["insert", "update", "delete", "replace"],
            Statement::Done(1),
        ),
        (
            &["create", "drop", "alter", "truncate", "rename"],
            Statement::End,
        ),
        (&["start"], Statement::Begin),
        (&["show"], Statement::Empty(shown(rest))),
        (
            &["desc", "describe", "explain"],
            Statement::Empty(&["Field", "Type"]),
        ),
        (&["rollback"], Statement::End),
    ];
    let found = known
        .into_iter()
        .find(|(words, _)| words.iter().any(|known| is(known)));
    match found {
        // Back to a savepoint, in the transaction.
        Some((_, Statement::End)) if is("rollback") && !next_is_end(rest) => Statement::Done(0),
        // START REPLICA and the like.
        Some((_, Statement::Begin)) if !split_word(rest).0.eq_ignore_ascii_case(b"transaction") => {
            Statement::Done(0)
        }
        Some((_, statement)) => statement,
        None => Statement::Done(0),
    }
}

/// How many parameters a statement to prepare has: its question marks outside of quotes.
pub(super) fn parameters(text: &[u8]) -> u16 {
    let (mut quote, mut count) = (None, 0_u16);
    for &byte in text {
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"' | b'`') => quote = Some(byte),
            (None, b'?') => count = count.saturating_add(1),
            (None, _) => {}
        }
    }
    count
}

fn next_is_end(rest: &[u8]) -> bool {
    let (word, _) = split_word(rest);
    word.is_empty() || word.eq_ignore_ascii_case(b"work") || word.eq_ignore_ascii_case(b"and")
}

fn shown(rest: &[u8]) -> &'static [&'static str] {
    let (word, _) = split_word(rest);
    let word = lossy(word).to_ascii_lowercase();
    match word.as_str() {
        "warnings" | "errors" => &["Level", "Code", "Message"],
        "databases" | "schemas" => &["Database"],
        "tables" => &["Tables"],
        _ => &["Variable_name", "Value"],
    }
}

/// SELECT: values if it asks for nothing else, rows otherwise.
fn select(rest: &[u8], facts: &Facts<'_>) -> Statement {
    let rest = skip_blanks(rest);
    let is_asking = rest.starts_with(b"@@") || FUNCTIONS.iter().any(|name| begins(rest, name));
    if !is_asking {
        return Statement::Rows;
    }
    let text = lossy(rest);
    let text = text.trim_end_matches([';', ' ', '\n']);
    let lower = text.to_ascii_lowercase();
    let end = lower.rfind(" limit ").unwrap_or(text.len());
    let mut values = Vec::new();
    for item in split(text.get(..end).unwrap_or_default()) {
        let (expression, name) = alias(item);
        if let Some(variable) = expression.strip_prefix("@@") {
            let variable = without_scope(variable).to_ascii_lowercase();
            match variable_value(&variable, facts) {
                Some(value) => values.push((name, Some(value))),
                None => return Statement::UnknownVariable(variable),
            }
        } else {
            match function_value(&expression.to_ascii_lowercase(), facts) {
                Some(value) => values.push((name, value)),
                None => return Statement::Rows,
            }
        }
    }
    Statement::Values(values)
}

/// Functions that ask about the session; only these are answered, and only alone.
const FUNCTIONS: &[&str] = &[
    "database()",
    "schema()",
    "version()",
    "user()",
    "current_user()",
    "connection_id()",
    "last_insert_id()",
    "found_rows()",
    "row_count()",
];

fn function_value(expression: &str, facts: &Facts<'_>) -> Option<Option<String>> {
    Some(match expression {
        "database()" | "schema()" => facts.schema.map(str::to_owned),
        "version()" => Some(facts.version.to_owned()),
        "user()" | "current_user()" => Some(format!("{}@%", facts.user)),
        "connection_id()" => Some(facts.connection_id.to_string()),
        "found_rows()" => Some(facts.last_rows.to_string()),
        "last_insert_id()" | "last_insert_id(0)" => Some("0".to_owned()),
        "row_count()" => Some("-1".to_owned()),
        _ => return None,
    })
}

fn variable_value(name: &str, facts: &Facts<'_>) -> Option<String> {
    match name {
        "version" => return Some(facts.version.to_owned()),
        "autocommit" => return Some(u8::from(facts.is_autocommit).to_string()),
        _ => {}
    }
    let set = facts.variables.iter().find(|(known, _)| *known == name);
    let known = VARIABLES.iter().find(|(known, _)| *known == name);
    set.map(|(_, value)| value.clone())
        .or_else(|| known.map(|(_, value)| (*value).to_owned()))
}

/// The assignments of a SET, as a server tracks them. Those to user variables, of global ones and of
/// values that are no literals are left out.
fn assignments(rest: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for item in split(rest.trim_end_matches([';', ' ', '\n'])) {
        let (word, after) = item.split_once(char::is_whitespace).unwrap_or((item, ""));
        if word.eq_ignore_ascii_case("names") {
            let charset = unquote(after.split_whitespace().next().unwrap_or_default());
            for name in ["client", "connection", "results"] {
                found.push((format!("character_set_{name}"), charset.clone()));
            }
            continue;
        }
        let Some((name, value)) = item.split_once('=') else {
            continue;
        };
        let name = name.trim_end_matches(':').trim().to_ascii_lowercase();
        let is_foreign = name.starts_with("global ")
            || name.starts_with("@@global.")
            || name.starts_with('@') && !name.starts_with("@@");
        if is_foreign {
            continue;
        }
        let name = without_scope(name.trim_start_matches("@@")).to_owned();
        if let Some(value) = literal(&name, value.trim()) {
            found.push((name, value));
        }
    }
    found
}

/// The value of a literal as a server reports it.
fn literal(name: &str, text: &str) -> Option<String> {
    let is_word = |text: &str| {
        text.chars()
            .all(|c| c.is_alphanumeric() || "_-+.".contains(c))
    };
    let value = match text.chars().next()? {
        '\'' | '"' => unquote(text),
        _ if text.eq_ignore_ascii_case("default") => {
            let default = VARIABLES.iter().find(|(known, _)| *known == name);
            default.map(|(_, value)| (*value).to_owned())?
        }
        _ if is_word(text) => text.to_owned(),
        _ => return None,
    };
    if name != "autocommit" {
        return Some(value);
    }
    let is_on =
        ["1", "on", "true", "strict_trans_tables"].contains(&value.to_ascii_lowercase().as_str());
    Some(if is_on { "ON" } else { "OFF" }.to_owned())
}

fn without_scope(name: &str) -> &str {
    let scopes = ["session.", "local.", "global.", "session ", "local "];
    let is_scoped = |scope: &&&str| {
        name.get(..scope.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(scope))
    };
    match scopes.iter().find(is_scoped) {
        Some(scope) => name.get(scope.len()..).unwrap_or_default().trim_start(),
        None => name,
    }
}

/// An item's expression, and its name: the alias, or the expression itself.
fn alias(item: &str) -> (&str, String) {
    let lower = item.to_ascii_lowercase();
    match lower.find(" as ") {
        Some(at) => {
            let (expression, name) = item.split_at(at);
            (
                expression.trim(),
                unquote(name.get(4..).unwrap_or_default().trim()),
            )
        }
        None => (item, item.to_owned()),
    }
}

/// Items between commas outside of quotes and parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let (mut quote, mut depth) = (None, 0_u32);
    text.split(move |c: char| {
        match (quote, c) {
            (Some(open), _) => {
                if open == c {
                    quote = None;
                }
            }
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
        c == ',' && quote.is_none() && depth == 0
    })
    .map(str::trim)
}

/// A name or string without its quotes; doubled quotes inside are one.
fn unquote(text: &str) -> String {
    let text = text.trim().trim_end_matches(';').trim_end();
    for quote in ["'", "\"", "`"] {
        let inside = text
            .strip_prefix(quote)
            .and_then(|text| text.strip_suffix(quote));
        if let Some(inside) = inside {
            return inside.replace(&quote.repeat(2), quote);
        }
    }
    text.to_owned()
}

fn lossy(text: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(text)
}

fn begins(text: &[u8], with: &str) -> bool {
    let head = text.get(..with.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(with.as_bytes()))
}

/// The first word, of letters, and what follows it.
fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = skip_blanks(text);
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic());
    text.split_at(end.unwrap_or(text.len()))
}

/// Without blanks, comments and parentheses ahead.
fn skip_blanks(mut text: &[u8]) -> &[u8] {
    loop {
        let after = match text {
            [b' ' | b'\t' | b'\r' | b'\n' | b'(', rest @ ..] => rest,
            [b'/', b'*', rest @ ..] => {
                let end = rest.windows(2).position(|pair| pair == b"*/");
                end.and_then(|end| rest.get(end + 2..)).unwrap_or_default()
            }
            [b'-', b'-', rest @ ..] | [b'#', rest @ ..] => {
                let end = memchr::memchr(b'\n', rest);
                end.and_then(|end| rest.get(end..)).unwrap_or_default()
            }
            _ => return text,
        };
        text = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts<'_> = Facts {
        version: "8.0.0",
        user: "u",
        schema: Some("s"),
        connection_id: 7,
        is_autocommit: true,
        last_rows: 3,
        variables: &[],
    };

    #[track_caller]
    fn check(text: &str, expect: Statement) {
        assert_eq!(read(text.as_bytes(), &FACTS), expect, "{text}");
    }

    #[test]
    fn the_first_word_decides() {
        check("SELECT c FROM sbtest1 WHERE id=?", Statement::Rows);
        check(" /* x */ (select 1) -- y", Statement::Rows);
        check("-- only\nWITH a AS (SELECT 1) SELECT 1", Statement::Rows);
        check("INSERT INTO t VALUES (1)", Statement::Done(1));
        check("BEGIN", Statement::Begin);
        check("start transaction read only", Statement::Begin);
        check("START REPLICA", Statement::Done(0));
        check("commit and chain", Statement::End);
        check("ROLLBACK", Statement::End);
        check("ROLLBACK TO SAVEPOINT a", Statement::Done(0));
        check("use `a``b`;", Statement::Use("a`b".into()));
        check("DO (SELECT 1 FROM (SELECT 1) t)", Statement::Done(0));
        check(
            "SHOW WARNINGS",
            Statement::Empty(&["Level", "Code", "Message"]),
        );
        check("", Statement::Done(0));
        check("/* open", Statement::Done(0));
    }

    #[test]
    fn questions_about_the_session_are_answered() {
        #[track_caller]
        fn values(text: &str, expect: &[(&str, Option<&str>)]) {
            let expect = expect
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)));
            check(text, Statement::Values(expect.collect()));
        }
        let comment = Some("Ringgate null server");
        values(
            "select @@version_comment limit 1",
            &[("@@version_comment", comment)],
        );
        values(
            "SELECT @@session.autocommit AS a, @@SQL_MODE, database();",
            &[
                ("a", Some("1")),
                ("@@SQL_MODE", Some("STRICT_TRANS_TABLES")),
                ("database()", Some("s")),
            ],
        );
        values("SELECT CONNECTION_ID()", &[("CONNECTION_ID()", Some("7"))]);
        values("SELECT FOUND_ROWS() AS `n`", &[("n", Some("3"))]);
        check(
            "SELECT @@no_such",
            Statement::UnknownVariable("no_such".into()),
        );
        check("SELECT version(), c FROM t", Statement::Rows);
    }

    #[test]
    fn assignments_are_those_a_server_would_track() {
        #[track_caller]
        fn set(text: &str, expect: &[(&str, &str)]) {
            let expect = expect
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            check(text, Statement::Set(expect.collect()));
        }
        set("SET autocommit=0", &[("autocommit", "OFF")]);
        set("set @@session.autocommit = on", &[("autocommit", "ON")]);
        set(
            "SET SESSION sql_mode='A,B', time_zone := \"+00:00\", @x = 1, GLOBAL wait_timeout=1",
            &[("sql_mode", "A,B"), ("time_zone", "+00:00")],
        );
        set(
            "SET NAMES 'latin1'",
            &[
                ("character_set_client", "latin1"),
                ("character_set_connection", "latin1"),
                ("character_set_results", "latin1"),
            ],
        );
        set(
            "SET sql_mode=DEFAULT, x=CONCAT(1,2)",
            &[("sql_mode", "STRICT_TRANS_TABLES")],
        );
        set("SET TRANSACTION READ ONLY", &[]);
    }

    #[test]
    fn parameters_are_counted_outside_of_quotes() {
        assert_eq!(parameters(b"SELECT ?, '?', \"?\", `?` WHERE a=? "), 2);
    }
}
