//! The page's figures, each with what one must know to read it and its numbers as a table.

use maud::{Markup, PreEscaped, html};

use super::added::{Added, DIRECT};
use super::compare::show_load;
use super::compare_output;
use super::figures::{self, Bar, LEAD};
use super::input::{Load, RunSet};
use super::page::{Page, PageError, key};
use super::slo::percentile;
use super::summary::{self, Spread};
use super::units;

/// The percentiles of the table below the figure of percentiles.
const TABLE: &[f64] = &[0.50, 0.75, 0.90, 0.95, 0.99, 0.999, 0.9999];

/// All sections with figures.
pub(super) fn all(page: &Page<'_>) -> Result<Markup, PageError> {
    Ok(html! {
        (latency(page)?)
        (spectrum(page)?)
        (added(page)?)
        (cpu(page)?)
        (memory(page)?)
        (change(page))
    })
}

/// The range of runs in words; nothing for a single run.
pub(super) fn spread_words(spread: &Spread, words: impl Fn(f64) -> String) -> String {
    match spread.range.low < spread.range.high {
        true => format!(
            "runs {} – {}",
            words(spread.range.low),
            words(spread.range.high)
        ),
        false => String::new(),
    }
}

fn legend(sets: &[RunSet], without: &str) -> Markup {
    let shown = sets
        .iter()
        .enumerate()
        .filter(|(_, set)| set.system != without);
    html! { div.legend { @for (index, set) in shown {
        span.muted[set.all_invalid()] { (key(index, &set.system)) " " span.soft { (set.runs_words()) } }
    } } }
}

/// A figure with its legend; systems named `without` are not in it.
fn figure(sets: &[RunSet], without: &str, svg: &str, caption: &Markup, table: &Markup) -> Markup {
    html! {
        figure {
            (legend(sets, without))
            div.wide { (PreEscaped(svg)) }
            figcaption { (caption) }
        }
        details { summary { "The numbers" } div.wide { (table) } }
    }
}

fn latency(page: &Page<'_>) -> Result<Markup, PageError> {
    let sets = &page.request.sets;
    let svg = figures::latency(sets, page.request.slo.as_ref())?;
    let caption = html! {
        "Median of the runs; the band is from the least to the greatest run. Both latency axes are logarithmic and the same in all panels. "
        @if sets.iter().any(|set| set.loads().contains(&Load::Closed)) {
            "A closed loop, which offers no rate, stands at the rate it achieved. "
        }
        @if page.request.slo.is_some() {
            "The dashed vertical line is a system's knee: the highest rate at which every run keeps the objective. "
            "The horizontal line is the objective."
        }
    };
    let table = html! { table {
        thead { tr {
            th { "system" } th.n { "offered" } th.n { "achieved" }
            @for quantile in LEAD { th.n { (percentile(*quantile)) } }
            th.n { "failed" } th.n { "runs" }
        } }
        tbody { @for (index, set) in sets.iter().enumerate() { @for load in set.loads() { tr {
            td { (key(index, &set.system)) }
            td.n { (show_load(load)) }
            td.n { @if let Some(rate) = Spread::of(&set.values(load, |p| p.achieved())) { (units::rate(rate.median)) } }
            @for quantile in LEAD { (quantile_cell(set, load, *quantile)) }
            td.n { @if let Some(failed) = Spread::of(&set.values(load, |p| p.failed_share())) { (units::percent(failed.median, 3)) } }
            td.n { (set.counted().len()) }
        } } } }
    } };
    Ok(html! {
        section {
            h2 { "Latency against offered rate" }
            (figure(sets, "", &svg, &caption, &table))
        }
    })
}

fn quantile_cell(set: &RunSet, load: Load, quantile: f64) -> Markup {
    html! { td.n {
        @if !summary::speaks_of(set, load, quantile) {
            "too few"
        } @else if let Some(spread) = summary::response(set, load, quantile) {
            (units::duration(spread.median)) small { (spread_words(&spread, units::duration)) }
        }
    } }
}

fn spectrum(page: &Page<'_>) -> Result<Markup, PageError> {
    let sets = &page.request.sets;
    let Some(load) = page.load else {
        return Ok(html! { section {
            h2 { "Response time by percentile" }
            p { "The runs have no offered rate in common, so their percentiles do not compare." }
        } });
    };
    let svg = figures::spectrum(sets, load)?;
    let why = match (page.request.rate, &page.request.slo, load) {
        (_, _, Load::Closed) => "",
        (Some(_), _, _) => ", as asked for",
        (None, Some(_), _) => {
            ", the highest rate at which all systems keep the objective, or else the highest at which they keep up"
        }
        (None, None, _) => ", the highest rate at which all systems keep up",
    };
    let caption = html! {
        "Measured " (page.load_words()) (why) ". The axis is 1 / (1 − p), so each step to the right is one request in ten times as many. "
        "Median of the runs; the band is from the least to the greatest run. "
        "A line ends where fewer than ten latencies of a run lie beyond it."
    };
    let table = html! { table {
        thead { tr { th { "system" } @for quantile in TABLE { th.n { (percentile(*quantile)) } } } }
        tbody { @for (index, set) in sets.iter().enumerate() { tr {
            td { (key(index, &set.system)) }
            @for quantile in TABLE { (quantile_cell(set, load, *quantile)) }
        } } }
    } };
    Ok(html! {
        section {
            h2 { "Response time by percentile" }
            (figure(sets, "", &svg, &caption, &table))
        }
    })
}

fn added(page: &Page<'_>) -> Result<Markup, PageError> {
    let rows = page.added();
    if rows.is_empty() {
        return Ok(html! {});
    }
    let sets = &page.request.sets;
    let svg = figures::added(sets, &rows)?;
    let caption = html! {
        "Measured " (page.load_words()) ". The difference of quantiles: mean over runs of a system's less that of "
        code { (DIRECT) } ", with its 95 % interval where both have three runs or more. Each panel has its own scale."
    };
    let table = html! { table {
        thead { tr { th { "system" } th.n { "percentile" } th.n { "direct" } th.n { "added" } th.n { "95 % interval" } } }
        tbody { @for row in &rows { tr {
            td { (row.system) }
            td.n { (percentile(row.quantile)) }
            td.n { (units::duration(row.direct)) }
            td.n { (units::added_duration(row.nanos)) @if row.is_impossible() { small { "noise" } } }
            td.n { @match row.interval {
                Some(interval) => { (units::added_duration(interval.low)) " to " (units::added_duration(interval.high)) },
                None => "too few runs",
            } }
        } } }
    } };
    Ok(html! {
        section {
            h2 { "Added latency" }
            @if rows.iter().any(Added::is_impossible) {
                p.bad { "A way through something cannot be quicker than the direct one: where less than nothing is added, this is the machine's noise or another load, and no finding." }
            }
            (figure(sets, DIRECT, &svg, &caption, &table))
        }
    })
}

fn cpu(page: &Page<'_>) -> Result<Markup, PageError> {
    let sets = &page.request.sets;
    let bars: Vec<Bar> = sets
        .iter()
        .enumerate()
        .filter_map(|(index, set)| {
            let spread = Spread::of(&summary::cpu(set)?)?;
            let user = Spread::of(&summary::user_share(set)?)?.median;
            let (value, digits) = (spread.median, units::three_digits);
            Some(Bar {
                index,
                system: set.system.clone(),
                value,
                first: user,
                range: Some((spread.range.low, spread.range.high)),
                words: format!(
                    "{} µs: user {}, system {}",
                    digits(value),
                    digits(value * user),
                    digits(value * (1.0 - user))
                ),
            })
        })
        .collect();
    if bars.is_empty() {
        return Ok(html! {});
    }
    let svg = figures::bars("cpu", "CPU time per completed operation", &bars)?;
    Ok(html! {
        section {
            h2 { "CPU per operation" }
            figure {
                div.wide { (PreEscaped(svg)) }
                figcaption {
                    "CPU time of the process under test by completed operation, over all steps of a run: median of the runs, "
                    "from the least to the greatest run as a whisker. Full colour is user time, lighter is system time. "
                    "Interrupts that the kernel does not charge to the process are not in it."
                }
            }
        }
    })
}

fn memory(page: &Page<'_>) -> Result<Markup, PageError> {
    let sets = &page.request.sets;
    let bars: Vec<Bar> = sets
        .iter()
        .enumerate()
        .filter_map(|(index, set)| {
            let memory = summary::idle_memory(set)?;
            let bound = if memory.by_growth { "" } else { "at most " };
            Some(Bar {
                index,
                system: set.system.clone(),
                value: memory.kib.max(0.0),
                first: 1.0,
                range: None,
                words: format!("{bound}{}", units::memory(memory.kib)),
            })
        })
        .collect();
    if bars.is_empty() {
        return Ok(html! {});
    }
    let svg = figures::bars("memory", "Memory per idle connection", &bars)?;
    Ok(html! {
        section {
            h2 { "Memory per idle connection" }
            figure {
                div.wide { (PreEscaped(svg)) }
                figcaption {
                    "Resident memory of the process under test in runs that hold idle connections: its growth between runs that hold "
                    "different numbers of them; “at most” where all hold the same number and the whole process is divided by it."
                }
            }
        }
    })
}

fn change(page: &Page<'_>) -> Markup {
    html! {
        @if let Some(change) = &page.change {
            section {
                h2 { "Change against the baseline" }
                (compare_output::table(change))
            }
        }
    }
}
