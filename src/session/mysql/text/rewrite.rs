//! The few questions that need a statement's exact tokens, and the one rewriting.

use std::ops::Range;

use super::{
    FoundRows, Kind, LexMode,
    keyword::Keyword,
    lexer::{Lexer, Sink, Token},
    reread::cut_otherwise,
    scan,
};

/// A token with its place in the text.
pub(super) type Placed = (Token, Range<usize>);

/// All tokens of a text.
#[derive(Default)]
pub(super) struct Tokens(pub(super) Vec<Placed>);

impl Sink for Tokens {
    fn token(&mut self, token: Token, start: usize, end: usize) {
        self.0.push((token, start..end));
    }
}

/// The tokens of a text; `None` when servers may disagree on them.
pub(super) fn tokens(sql: &[u8], mode: LexMode) -> Option<Vec<Placed>> {
    let mut lexer = Lexer::new(mode);
    let mut tokens = Tokens::default();
    lexer.feed(sql, &mut tokens);
    lexer.finish(&mut tokens);
    (!lexer.is_uncertain() && cut_otherwise(sql, mode).is_none()).then_some(tokens.0)
}

/// The tokens of the first statement, without its semicolon, and whether others follow.
fn first_statement(tokens: &[Placed]) -> (&[Placed], bool) {
    let end = tokens
        .iter()
        .position(|(token, _)| *token == Token::Punct(b';'))
        .unwrap_or(tokens.len());
    let (first, rest) = tokens.split_at_checked(end).unwrap_or((tokens, &[]));
    let is_more = rest.iter().any(|(token, _)| *token != Token::Punct(b';'));
    (first, is_more)
}

/// Whether the text is SHOW WARNINGS and nothing more: neither a LIMIT nor another statement.
pub fn is_show_warnings(sql: &[u8]) -> bool {
    // The long way only for what can be it: these words mean the same in every lexical mode.
    if sql.len() > 256 {
        return false;
    }
    let Some(tokens) = tokens(sql, LexMode::default()) else {
        return false;
    };
    let (first, is_more) = first_statement(&tokens);
    let words: Vec<Token> = first.iter().map(|(token, _)| *token).collect();
    !is_more && words == [Token::Word(Keyword::Show), Token::Word(Keyword::Warnings)]
}

/// Whether the last statement of a text is COMMIT or ROLLBACK for every server that runs it without an
/// error: no comment may hide any of it.
pub fn ends_transaction(sql: &[u8]) -> bool {
    let may_hide = |pair: &[u8]| matches!(pair, b"/*" | b"--");
    if sql.contains(&b'#') || sql.windows(2).any(may_hide) {
        return false;
    }
    let mut statements = sql.split(|byte| *byte == b';').rev();
    let last = statements.find(|statement| !statement.trim_ascii().is_empty());
    let words = last.unwrap_or_default().split(u8::is_ascii_whitespace);
    let mut words = words.filter(|word| !word.is_empty());
    let is_any = |word: &[u8], known: &[&str]| {
        let mut known = known.iter();
        known.any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
    };
    let verb = words.next().unwrap_or_default();
    is_any(verb, &["commit", "rollback"])
        && words.all(|word| is_any(word, &["work", "and", "chain", "no", "release"]))
}

/// Replaces `ROW_COUNT()` and `FOUND_ROWS()` in a statement by their values, for a connection on
/// which they would give another session's. One without a value stays as it is.
///
/// A value is written as `CAST(n AS SIGNED)`, which has the functions' own type, BIGINT, where a
/// bare number may be an INT. A column of the outermost select list keeps its name through an
/// alias. Of several statements, later ones ask about those before them: `ROW_COUNT()` is replaced
/// in the first alone, `FOUND_ROWS()` also behind statements that leave it as it is.
/// `None` when there is nothing to replace: no call outside strings and comments, or a statement of a
/// kind that stores its text instead of running it.
///
/// # Errors
/// `FOUND_ROWS()` is asked for behind a statement that may set it or not, a table would have other
/// columns for it, or servers may cut the text differently.
pub fn substitute(
    sql: &[u8],
    mode: LexMode,
    row_count: Option<i64>,
    found_rows: Option<u64>,
) -> Result<Option<Vec<u8>>, Unclear> {
    let tokens = tokens(sql, mode).ok_or(Unclear)?;
    let value = |name| match name {
        Keyword::RowCount => row_count.map(i128::from),
        Keyword::FoundRows => found_rows.map(i128::from),
        _ => None,
    };
    let (calls, aliases) = replaceable(sql, &tokens, mode, |name| value(name).is_some())?;
    Ok(replace(sql, &calls, &aliases, |name| {
        let value = value(name).unwrap_or_default();
        format!("CAST({value} AS SIGNED)").into_bytes()
    }))
}

/// Replaces `DATABASE()` and `SCHEMA()` by a name, for a connection that cannot be in the schema of
/// that name. Columns keep theirs as with [`substitute`]. `None` when there is nothing to replace.
pub fn name_schema(sql: &[u8], mode: LexMode, name: &[u8]) -> Option<Vec<u8>> {
    if name.contains(&b'\\') {
        // It would mean something else in some modes; servers do not have such schemas.
        return None;
    }
    let tokens = tokens(sql, mode)?;
    let (mut calls, mut aliases) = (Vec::new(), Vec::new());
    for statement in tokens.split(|(token, _)| *token == Token::Punct(b';')) {
        let (Some((_, head)), Some((_, tail))) = (statement.first(), statement.last()) else {
            continue;
        };
        let text = sql.get(head.start..tail.end).unwrap_or_default();
        if runs(scan(text, mode).kind) {
            let found = calls_of(statement, |_, range| {
                let word = sql.get(range.clone()).unwrap_or_default();
                word.eq_ignore_ascii_case(b"database") || word.eq_ignore_ascii_case(b"schema")
            });
            aliases.extend(aliases_of(sql, statement, &found));
            calls.extend(found);
        }
    }
    replace(sql, &calls, &aliases, |_| {
        let mut literal = vec![b'\''];
        for byte in name {
            literal.extend_from_slice(if *byte == b'\'' {
                b"''"
            } else {
                std::slice::from_ref(byte)
            });
        }
        literal.push(b'\'');
        literal
    })
}

/// The value of `FOUND_ROWS()` cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear;

/// A place in the text, and the alias to be put there.
type Alias<'a> = (usize, &'a [u8]);

/// The calls that ask about what was before the text.
fn replaceable<'a>(
    sql: &'a [u8],
    tokens: &[Placed],
    mode: LexMode,
    has_value: impl Fn(Keyword) -> bool,
) -> Result<(Vec<Call>, Vec<Alias<'a>>), Unclear> {
    let (mut calls, mut aliases) = (Vec::new(), Vec::new());
    let (mut is_first, mut is_unclear) = (true, false);
    for statement in tokens.split(|(token, _)| *token == Token::Punct(b';')) {
        let (Some((_, head)), Some((_, tail))) = (statement.first(), statement.last()) else {
            continue;
        };
        let text = sql.get(head.start..tail.end).unwrap_or_default();
        let traits = scan(text, mode);
        if runs(traits.kind) {
            let mut found = calls_of(statement, |name, _| has_value(name));
            found.retain(|call| is_first || call.name == Keyword::FoundRows);
            if is_unclear && !found.is_empty() {
                return Err(Unclear);
            }
            aliases.extend(aliases_of(sql, statement, &found));
            calls.extend(found);
        } else if makes_table(statement)
            && !calls_of(statement, |name, _| has_value(name)).is_empty()
        {
            return Err(Unclear);
        }
        is_first = false;
        match traits.found_rows {
            FoundRows::Kept => {}
            FoundRows::Unclear => is_unclear = true,
            FoundRows::Sent | FoundRows::Counted => break,
        }
    }
    Ok((calls, aliases))
}

fn replace(
    sql: &[u8],
    calls: &[Call],
    aliases: &[Alias<'_>],
    value: impl Fn(Keyword) -> Vec<u8>,
) -> Option<Vec<u8>> {
    if calls.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(sql.len() + 32 * (calls.len() + aliases.len()));
    let mut copied = 0;
    let mut aliases = aliases.iter().peekable();
    for call in calls {
        while let Some((at, name)) = aliases.next_if(|(at, _)| *at <= call.text.start) {
            out.extend_from_slice(sql.get(copied..*at)?);
            push_alias(&mut out, name);
            copied = *at;
        }
        out.extend_from_slice(sql.get(copied..call.text.start)?);
        out.extend_from_slice(&value(call.name));
        copied = call.text.end;
    }
    for (at, name) in aliases {
        out.extend_from_slice(sql.get(copied..*at)?);
        push_alias(&mut out, name);
        copied = *at;
    }
    out.extend_from_slice(sql.get(copied..)?);
    Some(out)
}

/// Whether a statement of this kind is run, not stored.
fn runs(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Select
            | Kind::Insert
            | Kind::Update
            | Kind::Delete
            | Kind::Replace
            | Kind::Set
            | Kind::Do
            | Kind::Call
            | Kind::Load
    )
}

/// Whether a statement is `CREATE [OR REPLACE] [TEMPORARY] TABLE`, which may run a SELECT.
fn makes_table(statement: &[Placed]) -> bool {
    let mut words = statement.iter().take(5).map(|(token, _)| *token);
    words.next() == Some(Token::Word(Keyword::Create))
        && words.any(|token| token == Token::Word(Keyword::Table))
}

fn push_alias(out: &mut Vec<u8>, name: &[u8]) {
    out.extend_from_slice(b" AS `");
    for byte in name {
        out.extend_from_slice(if *byte == b'`' {
            b"``"
        } else {
            std::slice::from_ref(byte)
        });
    }
    out.push(b'`');
}

/// A call to be replaced.
struct Call {
    name: Keyword,
    text: Range<usize>,
}

/// The calls, without arguments, of functions that are meant.
fn calls_of(statement: &[Placed], is_meant: impl Fn(Keyword, &Range<usize>) -> bool) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut before = None;
    for window in statement.windows(3) {
        if let [(name, head), (Token::Punct(b'('), _), (Token::Punct(b')'), tail)] = window
            && let Token::Word(name) | Token::Quoted(name) = *name
            && is_meant(name, head)
            // `db.row_count()` is a stored function.
            && before != Some(Token::Punct(b'.'))
        {
            let text = head.start..tail.end;
            calls.push(Call { name, text });
        }
        before = window.first().map(|(token, _)| *token);
    }
    calls
}

/// The longest alias, in bytes to be safe with any character set (identifiers of columns'
/// aliases: 256 characters).
const ALIAS_LEN_MAX: usize = 255;

/// Where aliases go, and which, so that the columns of the outermost select list keep their names.
fn aliases_of<'a>(sql: &'a [u8], statement: &[Placed], calls: &[Call]) -> Vec<Alias<'a>> {
    let mut aliases = Vec::new();
    for item in select_items(statement) {
        let (Some((_, first)), Some((_, last))) = (item.first(), item.last()) else {
            continue;
        };
        let has_call = calls
            .iter()
            .any(|call| call.text.start >= first.start && call.text.end <= last.end);
        let name = sql.get(first.start..last.end).unwrap_or_default();
        if has_call && !has_alias(item) && name.len() <= ALIAS_LEN_MAX {
            aliases.push((last.end, name));
        }
    }
    aliases
}

/// The items of the first select list, which names the columns of the result.
fn select_items(statement: &[Placed]) -> Vec<&[Placed]> {
    let is_open = |token: &Token| *token == Token::Punct(b'(');
    let open = statement
        .iter()
        .take_while(|(token, _)| is_open(token))
        .count();
    let Some(body) = statement.get(open..) else {
        return Vec::new();
    };
    if !matches!(body.first(), Some((Token::Word(Keyword::Select), _))) {
        return Vec::new();
    }
    let skipped = body
        .iter()
        .take_while(|(token, _)| is_select_option(*token))
        .count();
    let list = body.get(skipped..).unwrap_or_default();
    let (mut items, mut depth, mut start) = (Vec::new(), 0_u32, 0);
    for (at, (token, _)) in list.iter().enumerate() {
        match token {
            Token::Punct(b'(') => depth += 1,
            Token::Punct(b')') if depth == 0 => return end_items(items, list.get(start..at)),
            Token::Punct(b')') => depth -= 1,
            Token::Punct(b',') if depth == 0 => {
                items.extend(list.get(start..at));
                start = at + 1;
            }
            Token::Word(word) if depth == 0 && ends_select_list(*word) => {
                return end_items(items, list.get(start..at));
            }
            _ => {}
        }
    }
    end_items(items, list.get(start..))
}

fn end_items<'a>(mut items: Vec<&'a [Placed]>, last: Option<&'a [Placed]>) -> Vec<&'a [Placed]> {
    items.extend(last);
    items
}

fn is_select_option(token: Token) -> bool {
    use Keyword as K;
    matches!(
        token,
        Token::Word(
            K::Select
                | K::All
                | K::Distinct
                | K::Distinctrow
                | K::HighPriority
                | K::StraightJoin
                | K::SqlBigResult
                | K::SqlBufferResult
                | K::SqlCache
                | K::SqlCalcFoundRows
                | K::SqlNoCache
                | K::SqlSmallResult
        )
    )
}

fn ends_select_list(word: Keyword) -> bool {
    use Keyword as K;
    matches!(
        word,
        K::From
            | K::Where
            | K::Group
            | K::Having
            | K::Order
            | K::Limit
            | K::Union
            | K::Into
            | K::For
            | K::Lock
            | K::Procedure
    )
}

/// Whether a select item names itself, or may: `… AS name`, or a name directly behind a value. An
/// item that ends in `IS NULL` or in the END of a CASE looks the same, and loses its column name
/// rather than get a second one, which would be an error.
fn has_alias(item: &[Placed]) -> bool {
    let [.., (before, _), (last, _)] = item else {
        return false;
    };
    let is_name = matches!(last, Token::Word(_) | Token::Quoted(_) | Token::Text);
    let is_behind_value = matches!(
        before,
        Token::Punct(b')') | Token::Word(_) | Token::Quoted(_) | Token::Text
    );
    is_name && is_behind_value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_last_words_end_a_transaction() {
        for sql in [
            "COMMIT",
            " rollback work\n;",
            "BEGIN; INSERT INTO t VALUES ('a;b'); Commit; ;",
            "ROLLBACK AND NO CHAIN NO RELEASE",
        ] {
            assert!(ends_transaction(sql.as_bytes()), "{sql}");
        }
        for sql in [
            "",
            ";",
            "SELECT 1",
            "COMMIT; SELECT 1",
            "/*!999999 COMMIT */",
            "SELECT 1 -- ; COMMIT",
            "SELECT 1 #; COMMIT",
            "SELECT 1 /* ; */; COMMIT",
            "ROLLBACK TO a",
            "COMMITTED",
            "BEGIN NOT ATOMIC SELECT 1; COMMIT; END",
        ] {
            assert!(!ends_transaction(sql.as_bytes()), "{sql}");
        }
    }

    #[test]
    fn show_warnings_is_told_from_what_only_begins_so() {
        for (sql, expect) in [
            ("SHOW WARNINGS", true),
            (" show /**/ warnings ; ", true),
            ("SHOW WARNINGS LIMIT 1", false),
            ("SHOW COUNT(*) WARNINGS", false),
            ("SHOW ERRORS", false),
            ("SHOW WARNINGS; SELECT 1", false),
            ("SHOW", false),
        ] {
            assert_eq!(is_show_warnings(sql.as_bytes()), expect, "{sql}");
        }
    }

    fn check(sql: &str, expect: Option<&str>) {
        let out = substitute(sql.as_bytes(), LexMode::default(), Some(-1), Some(42)).unwrap();
        let out = out.map(|out| String::from_utf8(out).unwrap());
        assert_eq!(out.as_deref(), expect, "{sql}");
    }

    #[test]
    fn a_call_whose_value_is_not_given_stays() {
        let sql = b"SELECT ROW_COUNT(), FOUND_ROWS()";
        for (row_count, found_rows, expect) in [
            (
                Some(-1),
                None,
                Some("SELECT CAST(-1 AS SIGNED) AS `ROW_COUNT()`, FOUND_ROWS()"),
            ),
            (
                None,
                Some(7),
                Some("SELECT ROW_COUNT(), CAST(7 AS SIGNED) AS `FOUND_ROWS()`"),
            ),
            (None, None, None),
        ] {
            let out = substitute(sql, LexMode::default(), row_count, found_rows).unwrap();
            let out = out.map(|out| String::from_utf8(out).unwrap());
            assert_eq!(out.as_deref(), expect);
        }
    }

    #[test]
    fn calls_are_replaced_and_columns_keep_their_names() {
        for (sql, expect) in [
            (
                "SELECT ROW_COUNT()",
                "SELECT CAST(-1 AS SIGNED) AS `ROW_COUNT()`",
            ),
            (
                "select Found_Rows ( ) ;",
                "select CAST(42 AS SIGNED) AS `Found_Rows ( )` ;",
            ),
            ("SELECT FOUND_ROWS() AS n", "SELECT CAST(42 AS SIGNED) AS n"),
            ("SELECT FOUND_ROWS() n", "SELECT CAST(42 AS SIGNED) n"),
            ("SELECT FOUND_ROWS() 'n'", "SELECT CAST(42 AS SIGNED) 'n'"),
            (
                "SELECT 1, FOUND_ROWS(), x FROM t",
                "SELECT 1, CAST(42 AS SIGNED) AS `FOUND_ROWS()`, x FROM t",
            ),
            (
                "SELECT ROW_COUNT(), FOUND_ROWS()",
                "SELECT CAST(-1 AS SIGNED) AS `ROW_COUNT()`, CAST(42 AS SIGNED) AS `FOUND_ROWS()`",
            ),
            (
                "SELECT IF(ROW_COUNT() > 0, `a`, 2)+1 LIMIT 1",
                "SELECT IF(CAST(-1 AS SIGNED) > 0, `a`, 2)+1 \
                 AS `IF(ROW_COUNT() > 0, ``a``, 2)+1` LIMIT 1",
            ),
            (
                "SELECT DISTINCT ROW_COUNT() UNION SELECT FOUND_ROWS()",
                "SELECT DISTINCT CAST(-1 AS SIGNED) AS `ROW_COUNT()` \
                 UNION SELECT CAST(42 AS SIGNED)",
            ),
            (
                "(SELECT `row_count`())",
                "(SELECT CAST(-1 AS SIGNED) AS ```row_count``()`)",
            ),
            (
                "SELECT 'ROW_COUNT()', \"FOUND_ROWS()\", FOUND_ROWS() /* ROW_COUNT() */",
                "SELECT 'ROW_COUNT()', \"FOUND_ROWS()\", CAST(42 AS SIGNED) AS `FOUND_ROWS()` \
                 /* ROW_COUNT() */",
            ),
            (
                "UPDATE t SET n = row_count() WHERE 1",
                "UPDATE t SET n = CAST(-1 AS SIGNED) WHERE 1",
            ),
            (
                "SELECT ROW_COUNT() = 5 n",
                "SELECT CAST(-1 AS SIGNED) = 5 n",
            ),
            (
                "SELECT 5 - ROW_COUNT() FROM t",
                "SELECT 5 - CAST(-1 AS SIGNED) AS `5 - ROW_COUNT()` FROM t",
            ),
            ("SET @n = FOUND_ROWS()", "SET @n = CAST(42 AS SIGNED)"),
            (
                "SELECT (SELECT FOUND_ROWS()) AS a FROM t WHERE b = ROW_COUNT()",
                "SELECT (SELECT CAST(42 AS SIGNED)) AS a FROM t WHERE b = CAST(-1 AS SIGNED)",
            ),
            (
                "SELECT FOUND_ROWS/* here */() INTO @n",
                "SELECT CAST(42 AS SIGNED) AS `FOUND_ROWS/* here */()` INTO @n",
            ),
            (
                "SELECT ROW_COUNT(); SELECT ROW_COUNT()",
                "SELECT CAST(-1 AS SIGNED) AS `ROW_COUNT()`; SELECT ROW_COUNT()",
            ),
        ] {
            check(sql, Some(expect));
        }
    }

    #[test]
    fn a_call_behind_statements_that_keep_the_value_is_replaced() {
        check(
            "ROLLBACK; ; SELECT ROW_COUNT(), FOUND_ROWS(); SELECT FOUND_ROWS()",
            Some(
                "ROLLBACK; ; SELECT ROW_COUNT(), CAST(42 AS SIGNED) AS `FOUND_ROWS()`; \
                 SELECT FOUND_ROWS()",
            ),
        );
    }

    #[test]
    fn a_call_behind_a_statement_that_may_set_the_value_is_refused() {
        let run = |sql: &str| substitute(sql.as_bytes(), LexMode::default(), Some(-1), Some(42));
        assert_eq!(run("EXPLAIN t; SELECT FOUND_ROWS()"), Err(Unclear));
        assert_eq!(run("EXPLAIN t; SELECT 1; SELECT FOUND_ROWS()"), Ok(None));
    }

    #[test]
    fn what_is_not_a_call_or_not_run_is_left_alone() {
        for sql in [
            "SELECT row_count FROM t",
            "SELECT 'FOUND_ROWS()'",
            "SELECT 1 -- FOUND_ROWS()",
            "SELECT db.row_count()",
            "SELECT ROW_COUNT(1)",
            "INSERT INTO t VALUES (1); SELECT ROW_COUNT()",
            "CREATE PROCEDURE p() SELECT ROW_COUNT()",
            "PREPARE s FROM 'SELECT FOUND_ROWS()'",
            "",
        ] {
            check(sql, None);
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_refused() {
        for sql in [
            "SELECT ROW_COUNT() 'open",
            "CREATE TABLE t AS SELECT FOUND_ROWS()",
            "CREATE OR REPLACE TEMPORARY TABLE t SELECT ROW_COUNT() a",
        ] {
            let out = substitute(sql.as_bytes(), LexMode::default(), Some(-1), Some(42));
            assert_eq!(out, Err(Unclear), "{sql}");
        }
        check("CALL p(ROW_COUNT())", Some("CALL p(CAST(-1 AS SIGNED))"));
        check(
            "LOAD DATA INFILE 'f' INTO TABLE t SET a = FOUND_ROWS()",
            Some("LOAD DATA INFILE 'f' INTO TABLE t SET a = CAST(42 AS SIGNED)"),
        );
    }
}
