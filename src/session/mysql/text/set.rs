//! The items of SET statements: what they say about the connection's collation, and the session
//! trackers among them, which the gateway needs for itself.

use super::LexMode;
use super::lexer::Token;
use super::rewrite::{Placed, tokens};

/// What a text says about the connection's collation. Servers report `character_set_connection`
/// after SET NAMES, but not `collation_connection`, which changes with it (seen on MariaDB 10.11).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Collation {
    /// The character set's default one, if the character set is set at all.
    OfCharset,
    /// This one.
    Named(Box<[u8]>),
    /// It cannot be told.
    #[default]
    Unclear,
}

/// What a client wants to be told of, by its `session_track_…` variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trackers {
    /// Changes of the schema.
    pub schema: bool,
    /// That anything has changed.
    pub state_change: bool,
    /// Changes of these system variables, in lower case, or of `*`; `None` for the server's default.
    pub variables: Option<Box<[u8]>>,
}

impl Default for Trackers {
    /// As a server has them at a login.
    fn default() -> Self {
        Self {
            schema: true,
            state_change: false,
            variables: None,
        }
    }
}

/// A look at a text of SET statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetText {
    /// What it says about the connection's collation.
    pub collation: Collation,
    /// The text to send in its place: what it sets comes to be reported, and trackers go back to what
    /// they were.
    pub instead: Option<Vec<u8>>,
    /// It sets, or may set, what servers do not report.
    pub is_unreported: bool,
    /// All its trackers are among those that `instead` sets back.
    pub keeps_trackers: bool,
}

/// An item of a SET that says something here.
enum Item<'a> {
    /// NAMES, with the collation that it names.
    Names(Collation),
    /// CHARACTER SET: the connection's collation becomes that of the schema.
    CharacterSet,
    /// A variable of the session, by its name in lower case, and its value if that is a literal.
    Variable(Vec<u8>, Option<&'a [u8]>),
    /// Something of another scope: a server may take it for that of what follows, too.
    Elsewhere,
    Other,
}

/// Looks at a text of one or more SET statements; others among them are passed over.
pub fn look_at_set(sql: &[u8], mode: LexMode) -> SetText {
    let Some(placed) = tokens(sql, mode) else {
        return SetText::default();
    };
    let Some(scoped) = with_scopes(sql, &placed) else {
        return look_at_tokens(sql, &placed);
    };
    let placed = tokens(&scoped, mode).unwrap_or_default();
    let mut look = look_at_tokens(&scoped, &placed);
    look.instead.get_or_insert(scoped);
    look
}

fn look_at_tokens(sql: &[u8], tokens: &[Placed]) -> SetText {
    let is_versioned = [&b"/*!"[..], b"/*M!"]
        .into_iter()
        .any(|mark| memchr::memmem::find(sql, mark).is_some());
    if is_versioned {
        let assigns = |(token, _): &&Placed| matches!(token, Token::Assign | Token::Punct(b'='));
        return SetText {
            is_unreported: tokens.iter().filter(assigns).count() > 1,
            ..SetText::default()
        };
    }
    let statements: Vec<&[Placed]> = tokens
        .split(|(token, _)| *token == Token::Punct(b';'))
        .filter(|statement| !statement.is_empty())
        .collect();
    let items: Vec<Vec<&[Placed]>> = statements.iter().map(|all| items_of(sql, all)).collect();
    let (trackers, others) = (trackers_to_front(sql, &items), statements.len());
    SetText {
        collation: collation_of(sql, &items),
        is_unreported: items.iter().any(|items| is_unreported(sql, items)),
        keeps_trackers: trackers.is_some(),
        instead: match trackers {
            Some(text) if others == 1 => Some(text),
            _ => with_reports(sql, &items),
        },
    }
}

/// Variables of which `@@x` without a scope is another one: that of the next transaction.
const OF_NEXT_TRANSACTION: &[&str] = &[
    "transaction_isolation",
    "transaction_read_only",
    "tx_isolation",
    "tx_read_only",
];

/// The text with `@@session.x` where it assigns `@@x`, which means the same and is reported; `None` if it
/// does so nowhere. In a versioned comment too: there a server takes both words or none.
fn with_scopes(sql: &[u8], tokens: &[Placed]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut from, mut depth) = (0, 0_u32);
    let mut begins_item = false;
    for (at, (token, range)) in tokens.iter().enumerate() {
        let text = sql.get(range.clone())?;
        let name = tokens.get(at.saturating_add(1));
        if *token == Token::AtAt
            && begins_item
            && let Some((Token::Word(_) | Token::Quoted(_), name)) = name
            && name.start == range.end
        {
            let next = tokens.get(at.saturating_add(2)).map(|(token, _)| *token);
            let is_assigned = matches!(next, Some(Token::Assign | Token::Punct(b'=')));
            let known = literal(sql.get(name.clone())?).to_ascii_lowercase();
            if is_assigned && !OF_NEXT_TRANSACTION.iter().any(|n| n.as_bytes() == known) {
                out.extend_from_slice(sql.get(from..name.start)?);
                out.extend_from_slice(b"session.");
                from = name.start;
            }
        }
        match token {
            Token::Punct(b'(') => depth = depth.saturating_add(1),
            Token::Punct(b')') => depth = depth.saturating_sub(1),
            Token::Punct(b';') => depth = 0,
            _ => {}
        }
        begins_item = match token {
            Token::Word(_) => text.eq_ignore_ascii_case(b"set"),
            Token::Punct(b',') => depth == 0,
            _ => false,
        };
    }
    if from == 0 {
        return None;
    }
    out.extend_from_slice(sql.get(from..)?);
    Some(out)
}

/// What a prepared text of [`SetText::instead`] makes of what its client wants to be told of.
pub fn trackers_set_by(sql: &[u8], mode: LexMode, trackers: &Trackers) -> Trackers {
    let mut wanted = trackers.clone();
    let tokens = tokens(sql, mode).unwrap_or_default();
    let items = items_of(sql, &tokens);
    // Each is set to what the client wants, and then back.
    let mut is_clients = true;
    for item in items {
        if let Item::Variable(name, Some(value)) = read(sql, item)
            && let Some(value) = tracker(&name, value)
        {
            if is_clients {
                wanted.set(value);
            }
            is_clients = !is_clients;
        }
    }
    wanted
}

/// A tracker's new value.
enum Tracker {
    Schema(bool),
    StateChange(bool),
    Variables(Option<Box<[u8]>>),
}

impl Trackers {
    fn set(&mut self, tracker: Tracker) {
        match tracker {
            Tracker::Schema(value) => self.schema = value,
            Tracker::StateChange(value) => self.state_change = value,
            Tracker::Variables(value) => self.variables = value,
        }
    }

    /// Whether changes of this variable are told; `by_default` are those that a server tells of.
    pub fn tells(&self, name: &[u8], by_default: &[&[u8]]) -> bool {
        match &self.variables {
            None => by_default.contains(&name),
            Some(names) => names.split(|byte| *byte == b',').any(|known| {
                let known = known.trim_ascii();
                known == b"*" || known == name
            }),
        }
    }
}

/// Whether this is a tracker's name, and the value if it is one that can be set back.
fn tracker(name: &[u8], value: &[u8]) -> Option<Tracker> {
    let value = literal(value).to_ascii_lowercase();
    let flag = |by_default: bool| match value.as_slice() {
        b"1" | b"on" | b"true" => Some(true),
        b"0" | b"off" | b"false" => Some(false),
        b"default" => Some(by_default),
        _ => None,
    };
    match name {
        b"session_track_schema" => flag(true).map(Tracker::Schema),
        b"session_track_state_change" => flag(false).map(Tracker::StateChange),
        b"session_track_system_variables" if value == b"default" => Some(Tracker::Variables(None)),
        b"session_track_system_variables" if value != b"null" => {
            Some(Tracker::Variables(Some(value.into())))
        }
        _ => None,
    }
}

/// What the gateway's own connections have.
fn own_value(name: &[u8]) -> &'static [u8] {
    match name {
        b"session_track_system_variables" => b"'*'",
        _ => b"1",
    }
}

/// The text with its trackers in front, each set as the client wants and then back: what follows
/// them is reported again, and what precedes them would not be. `None` if it has none, or any that
/// cannot be set back.
fn trackers_to_front(sql: &[u8], statements: &[Vec<&[Placed]>]) -> Option<Vec<u8>> {
    let [items] = statements else {
        return None;
    };
    let (mut front, mut rest) = (Vec::new(), Vec::new());
    for item in items {
        let text = text_of(sql, item);
        match read(sql, item) {
            Item::Elsewhere => return None,
            Item::Variable(name, value) if name.starts_with(b"session_track_") => {
                tracker(&name, value?)?;
                front.extend_from_slice(text);
                front.push(b',');
                front.extend_from_slice(&name);
                front.push(b'=');
                front.extend_from_slice(own_value(&name));
                front.push(b',');
            }
            Item::CharacterSet => {
                rest.extend_from_slice(text);
                rest.extend_from_slice(REPORT);
                rest.push(b',');
            }
            _ => {
                rest.extend_from_slice(text);
                rest.push(b',');
            }
        }
    }
    if front.is_empty() {
        return None;
    }
    let mut out = b"SET ".to_vec();
    out.append(&mut front);
    out.append(&mut rest);
    out.pop();
    Some(out)
}

/// Behind CHARACTER SET: has the server report the collation that this gives, and changes nothing.
const REPORT: &[u8] = b",collation_connection=@@collation_database";

/// The text with [`REPORT`] where it belongs; `None` if that is nowhere.
fn with_reports(sql: &[u8], statements: &[Vec<&[Placed]>]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut from = 0;
    for item in statements.iter().flatten() {
        let (Item::CharacterSet, Some((_, last))) = (read(sql, item), item.last()) else {
            continue;
        };
        out.extend_from_slice(sql.get(from..last.end)?);
        out.extend_from_slice(REPORT);
        from = last.end;
    }
    if from == 0 {
        return None;
    }
    out.extend_from_slice(sql.get(from..)?);
    Some(out)
}

/// Whether a list sets a variable of a plugin: MariaDB 10.11 reports it only where it is set alone.
fn is_unreported(sql: &[u8], items: &[&[Placed]]) -> bool {
    let may_be = |item: &&[Placed]| match read(sql, item) {
        Item::Variable(name, _) => !name.starts_with(b"session_track_") && !is_core(&name),
        _ => false,
    };
    items.len() > 1 && items.iter().any(may_be)
}

/// Whether this is a movable variable of the server itself. Others keep the connection anyway.
fn is_core(name: &[u8]) -> bool {
    !name.starts_with(b"innodb_") && crate::session::mysql::state::number_of(name).is_some()
}

/// What a text says about the collation. Where a collation is assigned the server reports it.
fn collation_of(sql: &[u8], statements: &[Vec<&[Placed]>]) -> Collation {
    let mut found = None;
    for items in statements {
        let mut collation = None;
        for item in items {
            match read(sql, item) {
                Item::Names(named) => collation = Some(named),
                Item::Variable(name, value) if name == b"character_set_connection" => {
                    let is_named = value.is_some_and(|value| is_name(&literal(value)));
                    collation = Some(match is_named {
                        true => Collation::OfCharset,
                        false => Collation::Unclear,
                    });
                }
                _ => {}
            }
        }
        // Which of several statements an OK answers is not followed.
        match (&found, collation) {
            (_, None) => {}
            (None, collation) => found = collation,
            (Some(_), Some(_)) => return Collation::Unclear,
        }
    }
    found.unwrap_or_default()
}

/// The items of a SET statement; none of any other.
fn items_of<'a>(sql: &[u8], statement: &'a [Placed]) -> Vec<&'a [Placed]> {
    let is_word = |at: usize, known: &str| {
        statement.get(at).is_some_and(|(token, range)| {
            let raw = sql.get(range.clone()).unwrap_or_default();
            matches!(token, Token::Word(_)) && raw.eq_ignore_ascii_case(known.as_bytes())
        })
    };
    if !is_word(0, "set") || is_word(1, "statement") {
        return Vec::new();
    }
    let mut depth = 0_u32;
    let body = statement.get(1..).unwrap_or_default();
    body.split(|(token, _)| {
        match token {
            Token::Punct(b'(') => depth = depth.saturating_add(1),
            Token::Punct(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && *token == Token::Punct(b',')
    })
    .collect()
}

fn text_of<'a>(sql: &'a [u8], item: &[Placed]) -> &'a [u8] {
    let start = item.first().map(|(_, range)| range.start);
    let end = item.last().map(|(_, range)| range.end);
    let range = start.unwrap_or_default()..end.unwrap_or_default();
    sql.get(range).unwrap_or_default()
}

/// Reads one item.
fn read<'a>(sql: &'a [u8], item: &[Placed]) -> Item<'a> {
    let raw = |at: usize| -> &'a [u8] {
        let range = item.get(at).map(|(_, range)| range.clone());
        range.and_then(|range| sql.get(range)).unwrap_or_default()
    };
    let folded = |at: usize| raw(at).to_ascii_lowercase();
    match (folded(0).as_slice(), folded(1).as_slice(), item.len()) {
        (b"names", _, 2) => Item::Names(names(raw(1), None)),
        (b"names", _, 4) if folded(2) == b"collate" => Item::Names(names(raw(1), Some(raw(3)))),
        (b"names", ..) => Item::Names(Collation::Unclear),
        (b"charset", _, 2) if is_name(&literal(raw(1))) => Item::CharacterSet,
        (b"character" | b"char", b"set", 3) if is_name(&literal(raw(2))) => Item::CharacterSet,
        (b"@@", b"session" | b"local", _) => variable(item, 3, raw),
        (b"@@", b"global" | b"persist" | b"persist_only", _) => Item::Elsewhere,
        (b"@@", ..) => variable(item, 1, raw),
        (b"global" | b"persist" | b"persist_only", ..) => Item::Elsewhere,
        (b"session" | b"local", ..) => variable(item, 1, raw),
        _ => variable(item, 0, raw),
    }
}

/// An assignment whose name is the token at `at`.
fn variable<'a>(item: &[Placed], at: usize, raw: impl Fn(usize) -> &'a [u8]) -> Item<'a> {
    let token = |at: usize| item.get(at).map(|(token, _)| *token);
    let is_named = matches!(token(at), Some(Token::Word(_) | Token::Quoted(_)));
    let is_assigned = matches!(
        token(at.saturating_add(1)),
        Some(Token::Assign | Token::Punct(b'='))
    );
    if !is_named || !is_assigned {
        return Item::Other;
    }
    let value_at = at.saturating_add(2);
    let is_literal = matches!(
        token(value_at),
        Some(Token::Word(_) | Token::Quoted(_) | Token::Text)
    );
    let is_whole = item.len() == value_at.saturating_add(1);
    let value = (is_literal && is_whole).then(|| raw(value_at));
    Item::Variable(literal(raw(at)).to_ascii_lowercase(), value)
}

/// What SET NAMES makes of the collation.
fn names(charset: &[u8], collation: Option<&[u8]>) -> Collation {
    if !is_name(&literal(charset)) {
        return Collation::Unclear;
    }
    match collation.map(|collation| literal(collation).to_ascii_lowercase()) {
        None => Collation::OfCharset,
        Some(collation) if is_name(&collation) => Collation::Named(collation.into()),
        Some(_) => Collation::Unclear,
    }
}

/// A literal without its quotes; none of those that matter here has one within.
fn literal(raw: &[u8]) -> Vec<u8> {
    let inner = match raw {
        [first @ (b'\'' | b'"' | b'`'), inner @ .., last] if first == last => inner,
        whole => whole,
    };
    inner.to_vec()
}

/// A character set or collation that is not DEFAULT.
fn is_name(name: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    !name.eq_ignore_ascii_case(b"default") && !name.is_empty() && name.iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(sql: &str) -> SetText {
        look_at_set(sql.as_bytes(), LexMode::default())
    }

    fn instead(sql: &str) -> Option<String> {
        look(sql)
            .instead
            .map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn the_collation_is_read_from_any_list() {
        let named = |name: &str| Collation::Named(name.as_bytes().into());
        for (sql, expect) in [
            ("SET NAMES utf8mb4", Collation::OfCharset),
            (" set names 'latin1' ; ", Collation::OfCharset),
            (
                "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
                named("utf8mb4_bin"),
            ),
            (
                "set names 'utf8mb4' collate 'UTF8MB4_unicode_ci'",
                named("utf8mb4_unicode_ci"),
            ),
            ("set character_set_connection=latin1", Collation::OfCharset),
            (
                "SET sql_mode='', @@character_set_connection = 'latin1'",
                Collation::OfCharset,
            ),
            ("set names utf8mb4, sql_mode=''", Collation::OfCharset),
            (
                "SET sql_mode=(SELECT CONCAT(@@sql_mode, ',x')),NAMES utf8mb4 COLLATE utf8mb4_bin;",
                named("utf8mb4_bin"),
            ),
            (
                "SET NAMES utf8mb4, @@SESSION.sql_mode = 'x', @@SESSION.wait_timeout = 5",
                Collation::OfCharset,
            ),
            ("set names utf8mb4 /* why */", Collation::OfCharset),
            ("/* why */ set names utf8mb4 -- so", Collation::OfCharset),
            ("set names utf8mb4; select 1", Collation::OfCharset),
            (
                "SET NAMES utf8mb4 COLLATE utf8mb4_bin; SET time_zone = '+01:00'",
                named("utf8mb4_bin"),
            ),
            ("set names latin1, names utf8mb4", Collation::OfCharset),
            ("set names latin1; set names utf8mb4", Collation::Unclear),
            ("set names default", Collation::Unclear),
            ("set names utf8mb4 collate default", Collation::Unclear),
            (
                "set names utf8mb4 /*! collate utf8mb4_bin */",
                Collation::Unclear,
            ),
            ("set names ?", Collation::Unclear),
            ("set character set latin1", Collation::Unclear),
            ("set character_set_connection=default", Collation::Unclear),
            (
                "set character_set_connection=concat('la', 'tin1')",
                Collation::Unclear,
            ),
            ("set @a = 'names latin1'", Collation::Unclear),
            ("call p()", Collation::Unclear),
            ("", Collation::Unclear),
        ] {
            assert_eq!(look(sql).collation, expect, "{sql}");
        }
    }

    #[test]
    fn a_character_set_is_followed_by_a_report() {
        for (sql, expect) in [
            (
                "SET CHARACTER SET latin1;",
                "SET CHARACTER SET latin1,collation_connection=@@collation_database;",
            ),
            (
                "set sql_notes=1, charset 'latin1' , time_zone='+01:00'; select 1",
                "set sql_notes=1, charset 'latin1',collation_connection=@@collation_database , \
                 time_zone='+01:00'; select 1",
            ),
        ] {
            assert_eq!(instead(sql).as_deref(), Some(expect));
        }
        for sql in [
            "SET CHARACTER SET DEFAULT",
            "SET CHARACTER SET ?",
            "SET NAMES latin1",
        ] {
            assert_eq!(instead(sql), None, "{sql}");
        }
    }

    #[test]
    fn what_is_assigned_without_a_scope_gets_one() {
        for (sql, expect) in [
            ("SET @@x=1", "SET @@session.x=1"),
            (
                "set sql_notes=0, @@`x` := 1,@@Y=@@z;",
                "set sql_notes=0, @@session.`x` := 1,@@session.Y=@@z;",
            ),
            (
                "SET @@session.a=1, @@local.b=2, @@global.c=3, @@d=4",
                "SET @@session.a=1, @@local.b=2, @@global.c=3, @@session.d=4",
            ),
            (
                "SET @a=IF(1,@@x=1,2), @@y=3",
                "SET @a=IF(1,@@x=1,2), @@session.y=3",
            ),
            ("SELECT 1; SET @@x=1", "SELECT 1; SET @@session.x=1"),
            ("/*!40101 SET @@x=1 */", "/*!40101 SET @@session.x=1 */"),
            (
                "SET @@tx_isolation='SERIALIZABLE',@@x=1",
                "SET @@tx_isolation='SERIALIZABLE',@@session.x=1",
            ),
            (
                "SET @@session_track_schema=0, @@x=1",
                "SET @@session.session_track_schema=0,session_track_schema=1,@@session.x=1",
            ),
            (
                "SET @@character_set_connection=latin1, CHARACTER SET latin1",
                "SET @@session.character_set_connection=latin1, CHARACTER SET latin1,\
                 collation_connection=@@collation_database",
            ),
        ] {
            assert_eq!(instead(sql).as_deref(), Some(expect));
        }
        for sql in [
            "SET x=@@y",
            "SET @@hot.key_buffer_size=1",
            "SELECT @@x=1",
            "SET @a=(SELECT 1,@@x=2)",
            "SET @@transaction_read_only = 1",
            "SET @b=@@x=1",
            "SET /*M!100000 @@ */ x = 1",
        ] {
            assert_eq!(instead(sql), None, "{sql}");
        }
    }

    #[test]
    fn a_list_with_a_plugins_variable_is_not_reported_whole() {
        for (sql, expect) in [
            ("SET innodb_lock_wait_timeout=5", false),
            ("SET sql_notes=1, @@innodb_lock_wait_timeout=5", true),
            ("SET aria_repair_threads=2, time_zone='+01:00'", true),
            ("SET sql_mode='', time_zone='+01:00', NAMES utf8mb4", false),
            ("SET @a=1, session_track_schema=0", false),
            ("SET sql_notes=1; SET aria_repair_threads=2", false),
            ("SELECT 1; SET sql_notes=1, aria_repair_threads=2", true),
            ("/*!50000 SET sql_notes=1, aria_repair_threads=2 */", true),
            ("/*!50000 SET sql_notes=1 */", false),
        ] {
            assert_eq!(look(sql).is_unreported, expect, "{sql}");
        }
    }

    #[test]
    fn trackers_go_to_the_front_and_back_to_what_they_were() {
        let sql = "set autocommit=1, session_track_schema=1, \
                   session_track_system_variables='auto_increment_increment', \
                   sql_mode=concat(@@sql_mode,',STRICT_TRANS_TABLES')";
        let expect = "SET session_track_schema=1,session_track_schema=1,\
                      session_track_system_variables='auto_increment_increment',\
                      session_track_system_variables='*',autocommit=1,\
                      sql_mode=concat(@@sql_mode,',STRICT_TRANS_TABLES')";
        assert_eq!(instead(sql).as_deref(), Some(expect));
        assert!(look(sql).keeps_trackers);
        let wanted = trackers_set_by(expect.as_bytes(), LexMode::default(), &Trackers::default());
        assert_eq!(
            wanted.variables.as_deref(),
            Some(&b"auto_increment_increment"[..])
        );
        let sql =
            "SET SESSION session_track_state_change = ON, @@session.session_track_schema := off";
        let text = instead(sql).unwrap();
        let wanted = trackers_set_by(text.as_bytes(), LexMode::default(), &Trackers::default());
        assert_eq!(
            (wanted.schema, wanted.state_change),
            (false, true),
            "{text}"
        );
        for sql in [
            "SET session_track_schema = ?",
            "SET session_track_schema = 5",
            "SET session_track_transaction_info = 'STATE'",
            "SET session_track_system_variables = concat('a', 'b')",
            "SET session_track_system_variables = NULL",
            "SET GLOBAL sql_notes = 1, session_track_schema = 0",
            "SET @@global.session_track_schema = 0",
            "SET session_track_schema = 0; SELECT 1",
            "SET sql_notes = 0",
            "/*!50000 SET session_track_schema = 0 */",
            "/*!50000 SET @@session_track_schema = 0 */",
            "SET STATEMENT session_track_schema = 0 FOR SELECT 1",
        ] {
            assert!(!look(sql).keeps_trackers, "{sql}");
        }
    }

    #[test]
    fn a_list_of_variables_tells_of_those() {
        let by_default: &[&[u8]] = &[b"time_zone"];
        let mut trackers = Trackers::default();
        assert!(trackers.tells(b"time_zone", by_default) && !trackers.tells(b"x", by_default));
        trackers.variables = Some(b"x, y"[..].into());
        assert!(!trackers.tells(b"time_zone", by_default) && trackers.tells(b"y", by_default));
        trackers.variables = Some(b"*"[..].into());
        assert!(trackers.tells(b"time_zone", by_default));
        trackers.variables = Some(b""[..].into());
        assert!(!trackers.tells(b"time_zone", by_default));
    }
}
