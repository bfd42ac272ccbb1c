//! The page: one HTML file that needs no network and no script.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::compare::{Comparison, Question, at_load};
use super::figure::{DrawError, STYLES, marker_shape};
use super::input::{Load, RunSet};
use super::slo::Slo;
use super::summary::{self, Spread};
use super::{added, facts, sections, units};

const STYLE: &str = include_str!("style.css");

/// Nothing may be fetched and nothing may run; links to inlined data stay.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// What a page is made from.
#[derive(Clone, Debug)]
pub struct Request {
    /// The heading.
    pub title: String,
    /// The systems, each with its runs.
    pub sets: Vec<RunSet>,
    /// The system that the verdict is about; chosen when absent.
    pub subject: Option<String>,
    /// Older runs of the subject.
    pub baseline: Option<RunSet>,
    /// The objective.
    pub slo: Option<Slo>,
    /// The offered rate at which percentiles are compared; chosen when absent.
    pub rate: Option<f64>,
    /// A change of less than this share is none.
    pub margin: f64,
    /// The seed of bootstraps.
    pub seed: u64,
    /// The command that makes the page.
    pub command: Vec<String>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A figure failed.
    #[error(transparent)]
    Draw(#[from] DrawError),
    /// The baseline does not fit.
    #[error("the baseline does not compare: {0}")]
    Compare(#[from] super::compare::CompareError),
    /// The rate asked for was not run by all.
    #[error("not every run has the rate {wanted}: all have {found}")]
    NoSuchRate {
        /// The rate asked for.
        wanted: String,
        /// The rates there are.
        found: String,
    },
    /// The system asked for is not there.
    #[error("no run is of the system `{wanted}`: there are {found}")]
    NoSubject {
        /// The system asked for.
        wanted: String,
        /// The systems there are.
        found: String,
    },
}

/// A request with its open choices made.
pub(super) struct Page<'a> {
    pub request: &'a Request,
    /// Index of the subject.
    pub subject: usize,
    /// The load at which percentiles are compared; absent when the systems have none in common.
    pub load: Option<Load>,
    pub change: Option<Comparison>,
}

/// The page as HTML.
///
/// # Errors
/// [`PageError`] where the request does not fit the runs.
pub fn render(request: &Request) -> Result<String, PageError> {
    let page = Page::new(request)?;
    let body = html! {
        header {
            h1 { (request.title) }
            p.soft { (facts::subtitle(&request.sets)) }
        }
        main {
            (facts::alarm(&request.sets))
            (page.verdict())
            (sections::all(&page)?)
            (facts::validity(&request.sets))
            (facts::machines(&request.sets))
            (facts::reproduce(&request.sets, &request.command))
            (facts::method(&page))
            (facts::data(&request.sets))
        }
        (footer())
    };
    Ok(shell(&request.title, &body))
}

/// A whole document around `body`.
pub fn shell(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content={ "ringgate " (env!("CARGO_PKG_VERSION")) };
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    page.into_string()
}

/// What stands below every page.
pub(super) fn footer() -> Markup {
    html! {
        footer.soft {
            "Made by ringgate " (env!("CARGO_PKG_VERSION")) ". "
            "The page is complete as it is: it loads nothing and runs nothing."
        }
    }
}

impl<'a> Page<'a> {
    fn new(request: &'a Request) -> Result<Self, PageError> {
        let sets: Vec<&RunSet> = request.sets.iter().collect();
        let load = match request.rate {
            None => summary::quoted_load(&sets, &sets, request.slo.as_ref()),
            Some(wanted) => {
                let common = summary::common_loads(&sets);
                let found = common.iter().find(|load| load.same(Load::Offered(wanted)));
                Some(*found.ok_or_else(|| PageError::NoSuchRate {
                    wanted: units::rate(wanted),
                    found: super::compare::show_loads(&common),
                })?)
            }
        };
        let subject = subject(&request.sets, request.subject.as_deref())?;
        let change = match (&request.baseline, request.sets.get(subject)) {
            (Some(baseline), Some(set)) => {
                let question = Question {
                    margin: request.margin,
                    seed: request.seed,
                    rate: request.rate,
                    slo: request.slo.clone(),
                };
                Some(Comparison::of(baseline, set, &question)?)
            }
            _ => None,
        };
        Ok(Self {
            request,
            subject,
            load,
            change,
        })
    }

    fn verdict(&self) -> Markup {
        html! {
            section.verdict #verdict {
                p { (self.headline()) }
                div.wide { table {
                    thead { tr {
                        th { "system" }
                        th { "highest rate within the SLO" }
                        th { "p99 at half that rate" }
                        th { "CPU per operation" }
                        th { "memory per idle connection" }
                        @if self.change.is_some() { th { "p99 against the baseline" } }
                    } }
                    tbody {
                        @for (index, set) in self.request.sets.iter().enumerate() { (self.verdict_row(index, set)) }
                    }
                } }
            }
        }
    }

    fn headline(&self) -> Markup {
        let Some(set) = self.request.sets.get(self.subject) else {
            return html! {};
        };
        let Some(slo) = &self.request.slo else {
            return html! { strong { (set.system) } ": no SLO was set (" code { "--slo p99=2ms" } "), so no rate is called its limit." };
        };
        let knee = slo.knee(set);
        if set.all_invalid() {
            return html! {
                strong { (set.system) } " has " strong.bad { "no valid run" }
                ": nothing is said of its objective (" (slo) ")."
            };
        }
        html! {
            strong { (set.system) }
            @match (knee.kept, knee.broken) {
                (Some(kept), Some(_)) => { " keeps its objective up to " strong { (units::rate(kept)) } },
                (Some(kept), None) => { " keeps its objective at every rate tried, up to " strong { (units::rate(kept)) } },
                (None, Some(broken)) => { strong.bad { " breaks its objective" } " at the lowest rate tried, " (units::rate(broken)) },
                (None, None) => { " ran in a closed loop: no rate was offered, so none is a limit" },
            }
            " (" (slo) "; " (set.runs_words()) ")."
        }
    }

    fn verdict_row(&self, index: usize, set: &RunSet) -> Markup {
        let knee = self
            .request
            .slo
            .as_ref()
            .map(|slo| slo.knee(set))
            .unwrap_or_default();
        html! {
            tr.muted[set.all_invalid()] {
                td { (key(index, &set.system)) small.bad[set.all_invalid()] { (set.runs_words()) } }
                td { @match (knee.kept, knee.broken) {
                    (Some(kept), Some(broken)) => { strong { (units::rate(kept)) } small { "broken at " (units::rate(broken)) } },
                    (Some(kept), None) => { strong { "≥ " (units::rate(kept)) } small { "no higher rate was tried" } },
                    (None, Some(broken)) => { strong { "< " (units::rate(broken)) } small { "the lowest rate tried" } },
                    (None, None) => "–",
                } }
                td { (half_rate(set, knee.kept)) }
                td { @match summary::cpu(set).as_deref().and_then(Spread::of) {
                    Some(cpu) => { strong { (units::three_digits(cpu.median)) " µs" } small { (sections::spread_words(&cpu, |v| format!("{} µs", units::three_digits(v)))) } },
                    None => "not measured",
                } }
                td { (idle_memory(set)) }
                @if let Some(change) = &self.change {
                    td { @if index == self.subject { (change_cell(change)) } @else { "–" } }
                }
            }
        }
    }

    /// The rows of the figure of added latency.
    pub(super) fn added(&self) -> Vec<added::Added> {
        match self.load {
            Some(load) => added::Added::of(&self.request.sets, load, self.request.seed),
            None => Vec::new(),
        }
    }

    /// The load at which percentiles are compared, in words.
    pub(super) fn load_words(&self) -> String {
        self.load.map(at_load).unwrap_or_default()
    }
}

/// The system that the verdict is about: the one named, else `ringgate`, else the first but `direct`.
fn subject(sets: &[RunSet], wanted: Option<&str>) -> Result<usize, PageError> {
    let named = |name: &str| sets.iter().position(|set| set.system == name);
    match wanted {
        Some(wanted) => named(wanted).ok_or_else(|| PageError::NoSubject {
            wanted: wanted.to_owned(),
            found: sets
                .iter()
                .map(|set| format!("`{}`", set.system))
                .collect::<Vec<_>>()
                .join(", "),
        }),
        None => {
            let other = || sets.iter().position(|set| set.system != added::DIRECT);
            Ok(named("ringgate").or_else(other).unwrap_or(0))
        }
    }
}

fn half_rate(set: &RunSet, kept: Option<f64>) -> Markup {
    let half = kept.map(|kept| kept / 2.0);
    html! {
        @match half.and_then(|half| Some((half, summary::p99_at(set, half)?))) {
            Some((half, (nanos, (lower, upper)))) => {
                strong { (units::duration(nanos)) }
                small {
                    "at " (units::rate(half))
                    @if lower < upper { ", between " (units::rate(lower)) " and " (units::rate(upper)) }
                }
            },
            None if half.is_some() => "no rate that low was tried",
            None => "–",
        }
    }
}

fn idle_memory(set: &RunSet) -> Markup {
    html! {
        @match summary::idle_memory(set) {
            Some(memory) => {
                strong { @if !memory.by_growth { "≤ " } (units::memory(memory.kib)) }
                small { @if memory.by_growth {
                    "growth from " (units::thousands(memory.held.0.into())) " to " (units::thousands(memory.held.1.into()))
                } @else {
                    "the whole process by " (units::thousands(memory.held.0.into())) " connections"
                } }
            },
            None => "not measured",
        }
    }
}

fn change_cell(change: &Comparison) -> Markup {
    let p99 = change.metrics.iter().find(|metric| metric.name == "p99");
    html! {
        @match p99 {
            Some(metric) => {
                @if let Some(ratio) = metric.ratio { strong { (units::change(ratio)) } }
                small {
                    (metric.words)
                    @if let Some((low, high)) = metric.interval {
                        " " (change.at()) "; 95 % interval " (whole(&units::change(low))) " to " (whole(&units::change(high)))
                    }
                }
            },
            None => "–",
        }
    }
}

/// Words that stay in one line.
fn whole(words: &str) -> String {
    words.replace(' ', "\u{a0}")
}

/// A system's name behind its line and marker.
pub(super) fn key(index: usize, system: &str) -> Markup {
    let points = marker_shape(index)
        .into_iter()
        .map(|(x, y)| format!("{},{}", x + 19, y + 7));
    let points = points.collect::<Vec<_>>().join(" ");
    let style = index % STYLES;
    html! {
        span.key {
            svg width="38" height="14" viewBox="0 0 38 14" aria-hidden="true" {
                line class={ "line s" (style) } x1="0" y1="7" x2="38" y2="7" {}
                polygon class={ "fill s" (style) } points=(points) {}
            }
            (system)
        }
    }
}
