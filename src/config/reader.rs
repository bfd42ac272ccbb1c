//! Walks a TOML tree with positions. Each getter notes its key as known, reports what is wrong
//! with the value and goes on with the default, so that one pass finds every problem.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Code, Problem, Problems};
use super::units;

/// Names that a misspelt one is compared with.
const COMPARED_MAX: usize = 1_000;

/// From this likeness on a name is taken for a misspelt one.
const ALIKE: f64 = 0.8;

/// Bytes of the file.
pub(crate) type Span = Range<usize>;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// One table of the file, present or not.
pub(crate) struct Section<'a> {
    /// The name as written in messages: `deadlines`, `tenants.acme`.
    pub(crate) path: String,
    /// Where it stands; the start of the file when it is absent.
    pub(crate) span: Span,
    pub(crate) problems: &'a Problems,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The file itself.
    pub(crate) fn root(table: &'a DeTable<'a>, problems: &'a Problems) -> Self {
        Self {
            path: String::new(),
            span: 0..0,
            problems,
            table: Some(table),
            known: Vec::new(),
        }
    }

    /// The table in `value`; reports another type and reads on as if it were absent.
    pub(crate) fn of_value(
        path: String,
        value: &'a Spanned<DeValue<'a>>,
        problems: &'a Problems,
    ) -> Self {
        let table = value.get_ref().as_table();
        if table.is_none() {
            problems.push(wrong_type(&path, "a table", value));
        }
        Self {
            path,
            span: value.span(),
            problems,
            table,
            known: Vec::new(),
        }
    }

    /// Whether the file has this section.
    pub(crate) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the section has `key`, of whatever type.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Whether `key` is there and no table, which its getter reports.
    pub(crate) fn has_other_than_table(&self, key: &str) -> bool {
        let value = self.table.and_then(|table| table.get(key));
        value.is_some_and(|value| !value.get_ref().is_table())
    }

    /// Whether a table is here under a name much like `key`, which is not here: it is reported as
    /// unknown, with the right name, and that is all there is to say.
    pub(crate) fn misspells(&self, key: &str) -> bool {
        let mut entries = self.table.into_iter().flatten();
        !self.has(key)
            && entries.any(|(name, value)| {
                let likeness = strsim::jaro_winkler(name.get_ref(), key);
                value.get_ref().is_table() && likeness > ALIKE
            })
    }

    /// The value of `key`, noted as known.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.table?.get(key)
    }

    /// Where `key` stands; the section's own place when it is absent.
    pub(crate) fn span_of(&self, key: &str) -> Span {
        let value = self.table.and_then(|table| table.get(key));
        value.map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// The section `key` of this one.
    pub(crate) fn section(&mut self, key: &'static str) -> Section<'a> {
        let path = self.path_of(key);
        match self.get(key) {
            Some(value) => Section::of_value(path, value, self.problems),
            None => {
                let span = self.span.clone();
                Section {
                    path,
                    span,
                    problems: self.problems,
                    table: None,
                    known: Vec::new(),
                }
            }
        }
    }

    /// The sections named by the user within `key`, in the order of their names.
    pub(crate) fn named(&mut self, key: &'static str) -> Vec<(At<String>, Section<'a>)> {
        let outer = self.section(key);
        let entries = outer.table.into_iter().flatten();
        entries
            .map(|(name, value)| {
                let path = format!("{}.{}", outer.path, name.get_ref());
                let at = At {
                    value: name.get_ref().to_string(),
                    span: name.span(),
                };
                (at, Section::of_value(path, value, self.problems))
            })
            .collect()
    }

    /// A text.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<At<String>> {
        let value = self.get(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(At {
                value: text.to_owned(),
                span: value.span(),
            }),
            None => {
                self.problems
                    .push(wrong_type(&self.path_of(key), "a text", value));
                None
            }
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(&mut self, key: &'static str, example: &str) -> Option<At<String>> {
        if self.is_present() && !self.has(key) {
            self.missing(key, example);
        }
        self.text(key)
    }

    /// Reports that `key` must be there.
    pub(crate) fn missing(&self, key: &str, example: &str) {
        let path = self.path_of(key);
        let problem = Problem::at(
            Code::Missing,
            &self.span,
            format!("`{path}` is missing"),
            "needed here",
        );
        self.problems.push(problem.help(format!("add `{example}`")));
    }

    /// Yes or no.
    pub(crate) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.problems
                .push(wrong_type(&self.path_of(key), "true or false", value));
        }
        flag
    }

    /// A whole number within `range`.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<At<u64>> {
        let value = self.get(key)?;
        let span = value.span();
        let Some(integer) = value.get_ref().as_integer() else {
            self.problems
                .push(wrong_type(&self.path_of(key), "a whole number", value));
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let fits = number.filter(|number| range.contains(number));
        if fits.is_none() {
            let help = format!("write a number from {} to {}", range.start(), range.end());
            self.out_of_range(key, &span, help);
        }
        fits.map(|value| At { value, span })
    }

    /// A whole number that fits 32 bits.
    pub(crate) fn number32(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let wide = u64::from(*range.start())..=u64::from(*range.end());
        self.number(key, wide)
            .and_then(|at| u32::try_from(at.value).ok())
    }

    /// A duration within `range`, else `default`.
    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.duration_at(key, range).unwrap_or(default)
    }

    /// A duration within `range`, if the key is there.
    pub(crate) fn duration_at(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let text = self.unit_text(key, "a duration like \"5s\"")?;
        let help = match units::parse_duration(&text.value) {
            Ok(duration) if range.contains(&duration) => return Some(duration),
            Ok(_) => format!(
                "write a duration from \"{}\" to \"{}\"",
                units::show_duration(*range.start()),
                units::show_duration(*range.end())
            ),
            Err(help) => help,
        };
        self.out_of_range(key, &text.span, help);
        None
    }

    /// A size in bytes within `range`, if the key is there.
    pub(crate) fn size(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let text = self.unit_text(key, "a size like \"64KiB\"")?;
        let help = match units::parse_size(&text.value) {
            Ok(bytes) => match u32::try_from(bytes)
                .ok()
                .filter(|bytes| range.contains(bytes))
            {
                Some(bytes) => return Some(bytes),
                None => format!(
                    "write a size from \"{}\" to \"{}\"",
                    units::show_size((*range.start()).into()),
                    units::show_size((*range.end()).into())
                ),
            },
            Err(help) => help,
        };
        self.out_of_range(key, &text.span, help);
        None
    }

    /// One of the values named, by its label.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(key)?;
        if let Some((_, value)) = choices.iter().find(|(label, _)| *label == text.value) {
            return Some(*value);
        }
        let message = format!("`{}` cannot be \"{}\"", self.path_of(key), text.value);
        let names: Vec<&str> = choices.iter().map(|(label, _)| *label).collect();
        let problem = Problem::at(
            Code::BadValue,
            &text.span,
            message,
            "not one of the choices",
        );
        self.problems
            .push(problem.help(suggest(&text.value, &names)));
        None
    }

    /// The values of an array; reports another type.
    pub(crate) fn array(&mut self, key: &'static str) -> Option<&'a [Spanned<DeValue<'a>>]> {
        let value = self.get(key)?;
        match value.get_ref().as_array() {
            Some(array) => Some(array),
            None => {
                self.problems
                    .push(wrong_type(&self.path_of(key), "a list in brackets", value));
                None
            }
        }
    }

    /// Reports every key that no getter asked for.
    pub(crate) fn finish(self) {
        for (key, _) in self.table.into_iter().flatten() {
            if self.known.iter().any(|known| *known == key.get_ref()) {
                continue;
            }
            let place = if self.path.is_empty() {
                String::new()
            } else {
                format!(" in `{}`", self.path)
            };
            let message = format!("unknown key `{}`{place}", key.get_ref());
            let problem = Problem::at(Code::UnknownKey, &key.span(), message, "nothing reads this");
            self.problems
                .push(problem.help(suggest(key.get_ref(), &self.known)));
        }
    }

    /// Reports a problem with the value of `key`.
    pub(crate) fn out_of_range(&self, key: &str, span: &Span, help: String) {
        let message = format!("`{}` does not take this value", self.path_of(key));
        let problem = Problem::at(Code::OutOfRange, span, message, "this value");
        self.problems.push(problem.help(help));
    }

    /// The full name of `key`.
    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn unit_text(&mut self, key: &'static str, wanted: &str) -> Option<At<String>> {
        let value = self.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.problems
                .push(wrong_type(&self.path_of(key), wanted, value));
        }
        text.map(|text| At {
            value: text.to_owned(),
            span: value.span(),
        })
    }
}

/// A problem of type: `wanted` names what the key takes.
pub(crate) fn wrong_type(path: &str, wanted: &str, value: &Spanned<DeValue<'_>>) -> Problem {
    let found = match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let message = format!("`{path}` takes {wanted}");
    let label = format!("this is {found}");
    let problem = Problem::at(Code::WrongType, &value.span(), message, &label);
    problem.help(format!("write {wanted}{}", example(wanted)))
}

/// How a value of this type is written, where it is not said yet.
fn example(wanted: &str) -> &'static str {
    match wanted {
        "a text" => ": \"…\", in quotes",
        "a whole number" => ": 5, without quotes",
        "a list in brackets" => ": [\"…\"]",
        "a table" => ": a section in brackets, or { key = value }",
        _ => "",
    }
}

/// "did you mean …" for a near miss, else the list of what is known.
pub(crate) fn suggest(wrong: &str, known: &[&str]) -> String {
    // Thousands of names times thousands of mistakes would keep a reload waiting.
    let compared = if known.len() <= COMPARED_MAX {
        known
    } else {
        &[]
    };
    let near = compared
        .iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), *name))
        .filter(|(likeness, _)| *likeness > ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "remove it".to_owned(),
        None if known.len() <= 20 => format!("known here: {}", known.join(", ")),
        None => format!("{} names are known here, none like it", known.len()),
    }
}
