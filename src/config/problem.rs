//! What is wrong with a configuration: every problem at once, each with its place and a remedy.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError,
    MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};

/// Problems shown in full; a file with more has one cause, and the rest is counted.
const SHOWN_MAX: usize = 100;

macro_rules! codes {
    ($($name:ident = $code:literal $summary:literal,)*) => {
        /// A kind of problem. Codes are stable and never used again for another kind.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $summary] $name,)* }

        impl Code {
            /// Every code, ascending.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What the code means, for the documentation.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)* }
            }
        }
    };
}

codes! {
    Unreadable = "E0001" "The file is missing or cannot be read.",
    NotAFile = "E0002" "The path is a directory, a FIFO, a socket or a device.",
    TooLarge = "E0003" "The file is larger than 8 MiB.",
    NotUtf8 = "E0004" "The file is not UTF-8.",
    Unsteady = "E0005" "The file changed while it was read.",
    Syntax = "E0101" "The text is not TOML (this includes a key written twice).",
    Missing = "E0102" "A key or section that must be there is missing.",
    UnknownKey = "E0103" "A key or section that nothing reads.",
    WrongType = "E0104" "A value of another type than the key takes.",
    OutOfRange = "E0105" "A number, duration or size that is malformed, too small or too large.",
    BadValue = "E0106" "A text that is none of the values the key takes.",
    Version = "E0107" "A file version that this program does not read.",
    BadName = "E0108" "A name that is empty, too long or has characters it may not have.",
    UnknownName = "E0201" "A reference to a tenant or placement that is not there.",
    Contradiction = "E0202" "Two settings that cannot both hold.",
    AddressTaken = "E0203" "Two settings claim the same address.",
    AdminExposed = "E0204" "The admin listener is not on a loopback address.",
    Machine = "E0205" "This machine cannot give what is asked: CPUs, file descriptors, a congestion control.",
    NoPlacement = "E0206" "A tenant has no way to a placement.",
    NoUpstream = "E0207" "A tenant has no account at a placement it may reach.",
    SecretInFile = "E0301" "A password is written in the file itself.",
    SecretMissing = "E0302" "The environment variable or file of a secret is not there.",
    SecretEmpty = "E0303" "A secret is empty.",
    SecretExposed = "E0304" "A secret's file can be read or written by others.",
    BadVerifier = "E0305" "A password verifier is malformed.",
    PluginMismatch = "E0306" "A user's plugin and verifier do not go together.",
}

/// One problem. Its text never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub code: Code,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: String,
    /// The bytes of the file that it is about, with a word for the caret.
    pub place: Option<(Range<usize>, String)>,
}

/// A problem that does not say yet what to do about it.
#[derive(Clone, Debug)]
#[must_use = "a problem is whole with its help"]
pub struct Unhelped {
    code: Code,
    message: String,
    place: Option<(Range<usize>, String)>,
}

impl Unhelped {
    /// Says what to do.
    pub fn help(self, help: impl Into<String>) -> Problem {
        Problem {
            code: self.code,
            message: self.message,
            help: help.into(),
            place: self.place,
        }
    }
}

impl Problem {
    /// A problem with the bytes `span` of the file; `label` stands at the caret.
    pub fn at(
        code: Code,
        span: &Range<usize>,
        message: impl Into<String>,
        label: &str,
    ) -> Unhelped {
        Unhelped {
            code,
            message: message.into(),
            place: Some((span.clone(), label.to_owned())),
        }
    }

    /// A problem with the file as a whole.
    pub fn whole(code: Code, message: impl Into<String>) -> Unhelped {
        Unhelped {
            code,
            message: message.into(),
            place: None,
        }
    }
}

/// Collects problems while a file is read.
#[derive(Debug, Default)]
pub(crate) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Takes one problem.
    pub(crate) fn push(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    /// All problems, in the order of their places.
    pub(crate) fn into_sorted(self) -> Vec<Problem> {
        let mut problems = self.0.into_inner();
        problems.sort_by_key(|p| p.place.as_ref().map_or(0, |(span, _)| span.start));
        problems.dedup();
        problems
    }
}

/// Everything that is wrong with a configuration. `Display` renders it for a person.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    name: String,
    /// The file's text with every secret masked, at the same byte offsets.
    text: String,
    problems: Vec<Problem>,
}

impl ConfigErrors {
    /// The `problems` of the file `name`; secrets in `text` are masked here.
    pub(crate) fn new(name: &str, text: &str, problems: Vec<Problem>) -> Self {
        Self {
            name: name.to_owned(),
            text: super::mask::mask_secrets(text),
            problems,
        }
    }

    /// The same with `mask` applied to what is shown of the file; it must keep every byte's place.
    pub(crate) fn masked_by(self, mask: fn(&str) -> String) -> Self {
        Self {
            text: mask(&self.text),
            ..self
        }
    }

    /// Every problem, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The line and column (both from 1, columns in characters) of a problem.
    pub fn line_column(&self, problem: &Problem) -> Option<(usize, usize)> {
        let (span, _) = problem.place.as_ref()?;
        let before = self.text.get(..span.start)?;
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        Some((line, before.get(start..)?.chars().count() + 1))
    }

    /// The first problem with its remedy and the number of the others, in one line for a log.
    pub fn one_line(&self) -> String {
        let Some(first) = self.problems.first() else {
            return self.name.clone();
        };
        let place = self
            .line_column(first)
            .map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
        let others = match self.problems.len() - 1 {
            0 => String::new(),
            n => format!(" (and {n} more: run `ringgate check`)"),
        };
        let help = first.help.replace('\n', " ");
        format!(
            "{}{place}: {} {}; {help}{others}",
            self.name,
            first.code.code(),
            first.message
        )
    }

    /// The part of `span` that is in the line where it begins.
    fn first_line_of(&self, span: &Range<usize>) -> Range<usize> {
        let text = self.text.get(span.clone()).unwrap_or_default();
        span.start..span.start + text.lines().next().unwrap_or_default().len()
    }

    /// Renders every problem; with `color` for a terminal.
    pub fn render(&self, color: bool) -> String {
        let theme = if color {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(100)
            .with_context_lines(0)
            .with_links(false);
        let mut out = String::new();
        for problem in self.problems.iter().take(SHOWN_MAX) {
            let report = Report {
                problem,
                file: self,
            };
            if handler.render_report(&mut out, &report).is_err() {
                out.push_str(&problem.message);
            }
            out.push('\n');
        }
        let count = self.problems.len();
        let more = count.saturating_sub(SHOWN_MAX);
        if more > 0 {
            out.push_str(&format!("… and {more} more\n"));
        }
        let noun = if count == 1 { "problem" } else { "problems" };
        out.push_str(&format!("{}: {count} {noun}\n", self.name));
        out
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigErrors {}

/// A problem as miette wants it.
struct Report<'a> {
    problem: &'a Problem,
    file: &'a ConfigErrors,
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.problem.code.code()))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = &self.problem.help;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.problem.place.as_ref()?;
        Some(self.file)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (span, label) = self.problem.place.as_ref()?;
        let span = self.file.first_line_of(span);
        let label = LabeledSpan::new(Some(label.clone()), span.start, span.len());
        Some(Box::new(std::iter::once(label)))
    }
}

impl SourceCode for ConfigErrors {
    /// The whole line of `span`, which begins and ends in one line.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        _lines_before: usize,
        _lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let before = self
            .text
            .get(..span.offset())
            .ok_or(MietteError::OutOfBounds)?;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.text.get(start..).ok_or(MietteError::OutOfBounds)?;
        let line = rest.lines().next().unwrap_or_default();
        let whole = SourceSpan::from((start, line.len()));
        let number = before.matches('\n').count();
        let contents = MietteSpanContents::new_named(
            self.name.clone(),
            line.as_bytes(),
            whole,
            number,
            span.offset() - start,
            1,
        );
        Ok(Box::new(contents))
    }
}
