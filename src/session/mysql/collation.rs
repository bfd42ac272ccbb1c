//! The collation that a SET leaves behind without the server's reporting it.
//!
//! Servers report `character_set_connection` after SET NAMES, but not `collation_connection`, which
//! changes with it (seen with MariaDB 10.11). What it is now only the text tells.

/// What a statement's text says about the connection's collation.
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

/// Reads a single SET statement. Whatever is not one of the usual forms is [`Collation::Unclear`].
pub fn collation_set_by(sql: &[u8]) -> Collation {
    let Ok(sql) = std::str::from_utf8(sql) else {
        return Collation::Unclear;
    };
    let sql = sql.trim().trim_end_matches(';').trim_end();
    let folded = sql.to_ascii_lowercase();
    let mut words = folded.split_ascii_whitespace();
    if words.next() != Some("set") {
        return Collation::Unclear;
    }
    let words: Vec<&str> = words.collect();
    match words.as_slice() {
        ["names", charset] if is_name(charset) => Collation::OfCharset,
        ["names", charset, "collate", collation] if is_name(charset) && is_name(collation) => {
            Collation::Named(unquoted(collation).as_bytes().into())
        }
        // Assignments: the collation follows its character set unless it is assigned itself.
        ["names" | "character" | "charset", ..] => Collation::Unclear,
        _ if folded.contains("collat") || folded.contains(['\\', ';', '#']) => Collation::Unclear,
        _ if folded.contains("character_set_connection") => match folded.contains("default") {
            true => Collation::Unclear,
            false => Collation::OfCharset,
        },
        _ => Collation::Unclear,
    }
}

fn unquoted(word: &str) -> &str {
    for quote in ['\'', '"', '`'] {
        if let Some(inner) = word.strip_prefix(quote).and_then(|w| w.strip_suffix(quote)) {
            return inner;
        }
    }
    word
}

/// A character set or collation, quoted or not, that is not DEFAULT.
fn is_name(word: &str) -> bool {
    let name = unquoted(word);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name != "default" && !name.is_empty() && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_are_read_and_others_are_unclear() {
        let named = |name: &str| Collation::Named(name.as_bytes().into());
        let check = |sql: &str, expect: Collation| {
            assert_eq!(collation_set_by(sql.as_bytes()), expect, "{sql}");
        };
        check("SET NAMES utf8mb4", Collation::OfCharset);
        check(" set names 'latin1' ; ", Collation::OfCharset);
        check(
            "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
            named("utf8mb4_bin"),
        );
        check(
            "set names 'utf8mb4' collate 'UTF8MB4_unicode_ci'",
            named("utf8mb4_unicode_ci"),
        );
        check("set character_set_connection=latin1", Collation::OfCharset);
        check(
            "SET sql_mode='', @@character_set_connection = 'latin1'",
            Collation::OfCharset,
        );
        for sql in [
            "set names default",
            "set names utf8mb4 collate default",
            "set names utf8mb4, sql_mode=''",
            "set names utf8mb4; select 1",
            "set names utf8mb4 /* why */",
            "set character set latin1",
            "set charset latin1",
            "set character_set_connection=default",
            "set character_set_connection=latin1, collation_connection=latin1_bin",
            "/* why */ set names utf8mb4",
            "call p()",
            "",
        ] {
            check(sql, Collation::Unclear);
        }
    }
}
