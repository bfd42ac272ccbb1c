//! Masks what may be a secret before any of a file's text is shown.
//!
//! This works on the text and not on the parsed tree, because a file that does not parse is shown too.

/// Keys whose literal values are never shown.
const SECRET_KEYS: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "native",
    "sha2_stage2",
    "caching_sha2",
];

/// The same text with the literal values of [`SECRET_KEYS`] replaced by `*`, byte for byte.
///
/// A value that begins with `{` is kept: it is a reference to an environment variable or a file.
/// Everything else is masked to the end of the line, or of the triple quotes.
pub(super) fn mask_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((value_at, value)) = next_secret(rest) {
        let (before, _) = rest.split_at_checked(value_at).unwrap_or((rest, ""));
        out.push_str(before);
        let length = value.len();
        out.extend(
            value
                .bytes()
                .map(|byte| if byte == b'\n' { '\n' } else { '*' }),
        );
        rest = rest.get(value_at + length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// The first literal secret in `text`: where it starts, and its bytes.
fn next_secret(text: &str) -> Option<(usize, &str)> {
    let mut from = 0;
    while let Some(equals) = text.get(from..)?.find('=').map(|at| from + at) {
        from = equals + 1;
        if !is_secret_key(text.get(..equals)?) {
            continue;
        }
        let after = text.get(from..)?;
        let value = after.trim_start_matches([' ', '\t']);
        let start = from + (after.len() - value.len());
        let length = value_length(value);
        if length > 0 {
            return Some((start, value.get(..length)?));
        }
    }
    None
}

/// Whether the text before an equals sign ends in a key whose value is secret.
fn is_secret_key(before: &str) -> bool {
    let end = before.trim_end_matches([' ', '\t', '"', '\'']);
    let word = end
        .char_indices()
        .rev()
        .take_while(|(_, c)| c.is_ascii_alphanumeric() || *c == '_')
        .last()
        .and_then(|(at, _)| end.get(at..))
        .unwrap_or_default();
    // A misspelt key is just what makes a line show up in a report.
    SECRET_KEYS.iter().any(|key| {
        let likeness = strsim::damerau_levenshtein(&word.to_ascii_lowercase(), key);
        likeness <= key.len() / 4
    })
}

/// How many bytes of `value` are the secret; 0 when it is a reference.
fn value_length(value: &str) -> usize {
    if value.starts_with('{') {
        return 0;
    }
    for quotes in ["\"\"\"", "'''"] {
        if let Some(inner) = value.strip_prefix(quotes) {
            return inner
                .find(quotes)
                .map_or(value.len(), |end| end + 2 * quotes.len());
        }
    }
    value.find(['\n', '\r']).unwrap_or(value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_secrets_are_masked_and_offsets_stay() {
        let cases = [
            ("password = \"hunter2\"\nb=1", "password = *********\nb=1"),
            (
                "x = { user = 'a', password = 'p' }",
                "x = { user = 'a', password = *****",
            ),
            ("password = { env = \"X\" }", "password = { env = \"X\" }"),
            ("\"password\"='x'", "\"password\"=***"),
            ("password = \"open\nb = 2", "password = *****\nb = 2"),
            (
                "password = \"\"\"a\nb\"\"\" # c",
                "password = ****\n**** # c",
            ),
            ("password = \"\"\"a\nb", "password = ****\n*"),
            ("native = \"*AB\"", "native = *****"),
            ("a.password = 'ü'", "a.password = ****"),
            ("pasword = 'x'", "pasword = ***"),
            ("Passwords = 1", "Passwords = *"),
            ("placement = 1", "placement = 1"),
            ("password =", "password ="),
            ("= = password", "= = password"),
        ];
        for (text, expect) in cases {
            let masked = mask_secrets(text);
            assert_eq!(masked, expect);
            assert_eq!(masked.len(), text.len(), "{text}");
        }
    }
}
