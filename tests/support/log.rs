//! Reads a gateway's log as a collector of log lines would: strictly, line by line.

use std::fmt;

/// One line: its fields in their order.
#[derive(Clone, PartialEq, Eq)]
pub struct LogLine(Vec<(String, String)>);

impl fmt::Debug for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(k, v)| (k, v)))
            .finish()
    }
}

impl LogLine {
    /// Every line of a log. Panics at one that is not `key=value` pairs, of which the first three are time,
    /// level and event, and no key is there twice. A value that is not quoted has neither blanks, quotes nor
    /// an equals sign.
    pub fn read(log: &str) -> Vec<Self> {
        assert!(log.is_empty() || log.ends_with('\n'), "cut short: {log}");
        log.lines()
            .map(|line| Self::parse(line).unwrap_or_else(|error| panic!("{error} in: {line}")))
            .collect()
    }

    fn parse(line: &str) -> Result<Self, String> {
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut rest = line;
        loop {
            let (key, after) = rest.split_once('=').ok_or("no `=`")?;
            let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if key.is_empty() || !key.chars().all(is_word) {
                return Err(format!("the key {key:?}"));
            }
            if fields.iter().any(|(known, _)| known == key) {
                return Err(format!("{key} is there twice"));
            }
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => unquote(quoted)?,
                None => bare(after)?,
            };
            fields.push((key.to_owned(), value));
            match after.strip_prefix(' ') {
                Some(more) => rest = more,
                None if after.is_empty() => break,
                None => return Err(format!("{after:?} behind {key}")),
            }
        }
        let keys: Vec<&str> = fields.iter().map(|(key, _)| key.as_str()).collect();
        match keys.starts_with(&["time", "level", "event"]) {
            true => Ok(Self(fields)),
            false => Err("no time, level and event".to_owned()),
        }
    }

    /// The value of `key`; empty if it is not there.
    pub fn get(&self, key: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.map_or("", |(_, value)| value)
    }

    /// Whether it has all of these.
    pub fn has(&self, fields: &[(&str, &str)]) -> bool {
        fields.iter().all(|(key, value)| self.get(key) == *value)
    }
}

/// A quoted value behind its first quote, and what follows it.
fn unquote(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                Some((_, 'n')) => value.push('\n'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, 't')) => value.push('\t'),
                // Control characters, in braces: only their being there is of interest.
                Some((_, 'u')) => value.push('\u{fffd}'),
                other => return Err(format!("the escape {other:?}")),
            },
            c if c.is_control() => return Err(format!("the character {c:?}")),
            c => value.push(c),
        }
    }
    Err("a quote without an end".to_owned())
}

fn bare(text: &str) -> Result<(String, &str), String> {
    let (value, after) = text.split_at(text.find(' ').unwrap_or(text.len()));
    let is_plain = |c: char| c.is_ascii_graphic() && !"\"'=\\".contains(c);
    match !value.is_empty() && value.chars().all(is_plain) {
        true => Ok((value.to_owned(), after)),
        false => Err(format!("the bare value {value:?}")),
    }
}
