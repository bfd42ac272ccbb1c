//! A comparison for a terminal, for a pull request, for a program and for a browser.

use std::fmt::Write;

use maud::{Markup, html};

use super::compare::{Comparison, MetricRow, Verdict};
use super::page::{footer, shell};
use super::statistics::{geometric_mean, median};
use super::units;

/// For a terminal.
pub fn text(comparison: &Comparison) -> String {
    let mut out = format!("{}\n", head(comparison));
    for warning in &comparison.warnings {
        let _infallible = writeln!(out, "warning: {warning}");
    }
    out.push('\n');
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(comparison.metrics.iter().map(cells));
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    for row in &rows {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            // Names and words begin at the left, numbers end at the right.
            match index == 0 || index + 1 == COLUMNS.len() {
                true => line.push_str(&format!("{cell}{pad}  ")),
                false => line.push_str(&format!("{pad}{cell}  ")),
            }
        }
        let _infallible = writeln!(out, "{}", line.trim_end());
    }
    let _infallible = write!(
        out,
        "\n{}\n{}\n",
        conclusion(comparison),
        method(comparison)
    );
    out
}

/// For a pull request.
pub fn markdown(comparison: &Comparison) -> String {
    let mut out = format!("**{}**\n\n{}\n\n", conclusion(comparison), head(comparison));
    for warning in &comparison.warnings {
        let _infallible = writeln!(out, "- warning: {warning}");
    }
    if !comparison.warnings.is_empty() {
        out.push('\n');
    }
    let _infallible = writeln!(out, "| {} |", COLUMNS.join(" | "));
    out.push_str("|---|--:|--:|--:|--:|--:|---|\n");
    for metric in &comparison.metrics {
        let _infallible = writeln!(out, "| {} |", cells(metric).join(" | "));
    }
    let _infallible = writeln!(out, "\n{}", method(comparison));
    out
}

/// For a program: the comparison itself.
///
/// # Errors
/// Never for a comparison that [`Comparison::of`] made.
pub fn json(comparison: &Comparison) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(comparison).map(|text| text + "\n")
}

/// For a browser.
pub fn page(comparison: &Comparison) -> String {
    let title = format!(
        "{} against {}",
        comparison.new_system, comparison.base_system
    );
    let body = html! {
        header { h1 { (title) } p.soft { (head(comparison)) } }
        main {
            section.verdict #verdict { p { strong { (conclusion(comparison)) } } }
            (table(comparison))
        }
        (footer())
    };
    shell(&title, &body)
}

/// The rows with what one must know to read them, for a page.
pub(super) fn table(comparison: &Comparison) -> Markup {
    html! {
        p { (head(comparison)) }
        @for warning in &comparison.warnings { p.bad { "Warning: " (warning) "." } }
        div.wide { table #comparison {
            thead { tr { @for (index, name) in COLUMNS.iter().enumerate() {
                th.n[(1..COLUMNS.len() - 1).contains(&index)] { (name) }
            } } }
            tbody { @for metric in &comparison.metrics { tr {
                @for (index, cell) in cells(metric).iter().enumerate() {
                    @if index + 1 == COLUMNS.len() {
                        td { span.bad[metric.verdict == Verdict::Worse].good[metric.verdict == Verdict::Better] { (cell) } }
                    } @else {
                        td.n[index > 0] { (cell) }
                    }
                }
            } } }
        } }
        p.soft { (method(comparison)) }
    }
}

const COLUMNS: [&str; 7] = [
    "metric",
    "base",
    "new",
    "change",
    "95 % interval",
    "p (Holm)",
    "verdict",
];

fn cells(metric: &MetricRow) -> [String; 7] {
    // What the change is the ratio of; a metric with a 0 has no change.
    let middle = |values: &[f64]| {
        let value = geometric_mean(values).or_else(|| median(values));
        value.map_or("–".to_owned(), |value| value_words(metric, value))
    };
    let p = |p: f64| {
        if p < 0.0001 {
            "< 0.0001".to_owned()
        } else {
            format!("{p:.4}")
        }
    };
    let none = || "–".to_owned();
    [
        label(&metric.name).to_owned(),
        middle(&metric.base),
        middle(&metric.new),
        metric.ratio.map_or_else(none, units::change),
        metric.interval.map_or_else(none, |(low, high)| {
            format!("{} to {}", units::change(low), units::change(high))
        }),
        metric.p_adjusted.map_or_else(none, p),
        metric.words.clone(),
    ]
}

fn label(name: &str) -> &str {
    match name {
        "rate" => "achieved rate",
        "cpu" => "CPU per operation",
        "rss" => "resident memory",
        percentile => percentile,
    }
}

fn value_words(metric: &MetricRow, value: f64) -> String {
    match metric.unit {
        "ns" => units::duration(value),
        "operations/s" => units::rate(value),
        "KiB" => units::memory(value),
        _ => format!("{} µs", units::three_digits(value)),
    }
}

fn head(comparison: &Comparison) -> String {
    let (base, new) = comparison.runs;
    format!(
        "base: {base} valid runs of {}; new: {new} valid runs of {}; {}",
        comparison.base_system,
        comparison.new_system,
        comparison.at()
    )
}

/// The outcome in one sentence.
fn conclusion(comparison: &Comparison) -> String {
    let named = |verdict: Verdict| {
        let metrics = comparison
            .metrics
            .iter()
            .filter(|metric| metric.verdict == verdict);
        metrics
            .map(|metric| label(&metric.name))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut parts = Vec::new();
    if comparison.refused() {
        return "No verdict: too few valid runs.".to_owned();
    }
    for (verdict, word) in [
        (Verdict::Worse, "worse"),
        (Verdict::Better, "better"),
        (Verdict::Same, "the same"),
        (Verdict::CannotTell, "cannot tell"),
    ] {
        let names = named(verdict);
        if !names.is_empty() {
            parts.push(format!("{word}: {names}"));
        }
    }
    match (parts.is_empty(), comparison.regressed()) {
        (true, _) => "Nothing could be compared.".to_owned(),
        (false, true) => format!("Regression. {}.", parts.join("; ")),
        (false, false) => format!("No regression shown. {}.", parts.join("; ")),
    }
}

fn method(comparison: &Comparison) -> String {
    format!(
        "Values are geometric means of runs, changes their ratios. Intervals: bootstrap over runs, {} draws, seed {}. \
         p: Mann-Whitney over runs, Holm's correction over {} tests. Same means the interval lies within ±{}.",
        units::thousands(comparison.resamples as u64),
        comparison.seed,
        comparison.tests,
        units::percent(comparison.margin, 2)
    )
}
