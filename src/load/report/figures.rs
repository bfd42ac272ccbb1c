//! The figures of a page.

use plotters::element::{PathElement, Polygon, Rectangle};
use plotters::style::text_anchor::{HPos, VPos};

use super::added::Added;
use super::figure::{
    self, Area, DrawError, Drawn, Frame, Panel, Role, TEXT, Ticks, marker_shape, text, write,
};
use super::input::{Load, RunSet};
use super::slo::{Slo, percentile};
use super::summary::{self, Spread};
use super::units;

/// Width of every figure, in CSS pixels at the page's full width.
const WIDTH: u32 = 1040;

/// The percentiles of the lead figure.
pub const LEAD: &[f64] = &[0.50, 0.99, 0.999];

/// A row of the figure behind the lead one: load, then a spread for each percentile of [`LEAD`].
fn lead_points(set: &RunSet, quantile: f64) -> Vec<(f64, Spread)> {
    let spread = |load| Some((set.rate(load), summary::response(set, load, quantile)?));
    let mut points: Vec<(f64, Spread)> = set.loads().into_iter().filter_map(spread).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// A latency on a logarithmic axis; nothing is shorter than a nanosecond.
fn log(nanos: f64) -> f64 {
    nanos.max(1.0).log10()
}

fn log_words(value: f64) -> String {
    units::tick(10_f64.powf(value))
}

/// Latency against offered rate: a panel for each percentile of [`LEAD`], all with the same axes.
pub fn latency(sets: &[RunSet], slo: Option<&Slo>) -> Result<String, DrawError> {
    let rates = sets
        .iter()
        .flat_map(|set| set.loads().into_iter().map(|load| set.rate(load)));
    let top_rate = rates.fold(0.0, f64::max);
    let spreads = || {
        let of = |set| {
            LEAD.iter()
                .flat_map(move |quantile| lead_points(set, *quantile))
        };
        sets.iter().flat_map(of).map(|(_, spread)| spread.range)
    };
    let limits = || {
        slo.iter()
            .flat_map(|slo| slo.limits.iter().map(|(_, limit)| *limit))
    };
    let low = spreads()
        .map(|range| range.low)
        .chain(limits())
        .fold(f64::INFINITY, f64::min);
    let high = spreads()
        .map(|range| range.high)
        .chain(limits())
        .fold(1.0, f64::max);
    let (x, y) = (
        Ticks::from_zero(top_rate * 1.02, 4),
        Ticks::decades(low.min(high), high),
    );
    let title = "Latency against offered rate: p50, p99 and p99.9 of the response time";
    figure::draw("latency", title, (WIDTH, 400), |root| {
        let panels = root.split_evenly((1, LEAD.len()));
        for (area, quantile) in panels.iter().zip(LEAD) {
            let frame = Frame {
                title: &percentile(*quantile),
                x_title: "operations per second",
                x_words: &units::short_rate,
                y_words: &log_words,
            };
            let panel = Panel::new(area, x.clone(), y.clone(), &frame)?;
            latency_panel(&panel, sets, slo, *quantile, (&x, &y))?;
        }
        Ok(())
    })
}

fn latency_panel(
    panel: &Panel<'_>,
    sets: &[RunSet],
    slo: Option<&Slo>,
    quantile: f64,
    (x, y): (&Ticks, &Ticks),
) -> Drawn {
    let ((left, right), (bottom, top)) = (x.bounds(), y.bounds());
    knees(panel, sets, slo, (bottom, top))?;
    let limits = slo.iter().flat_map(|slo| &slo.limits);
    for (_, limit) in limits.filter(|(limited, _)| (limited - quantile).abs() < 1e-9) {
        panel.line(vec![(left, log(*limit)), (right, log(*limit))], Role::Limit)?;
        let words = format!("SLO {}", log_words(log(*limit)));
        let style = text(Role::Ink, TEXT, HPos::Left, VPos::Bottom);
        panel.text(&words, (left, log(*limit)), (5, -3), style)?;
    }
    for (index, set) in sets.iter().enumerate() {
        let points = lead_points(set, quantile);
        let band: Vec<(f64, f64, f64)> = points
            .iter()
            .map(|(x, spread)| (*x, log(spread.range.low), log(spread.range.high)))
            .collect();
        panel.band(&band, Role::Band(index))?;
        let middle: Vec<(f64, f64)> = points
            .iter()
            .map(|(x, spread)| (*x, log(spread.median)))
            .collect();
        panel.line(middle.clone(), Role::Line(index))?;
        for at in middle {
            panel.marker(at, index)?;
        }
    }
    Ok(())
}

/// Vertical dashes at each knee. Systems with the same knee take turns, so that all are seen.
fn knees(
    panel: &Panel<'_>,
    sets: &[RunSet],
    slo: Option<&Slo>,
    (bottom, top): (f64, f64),
) -> Drawn {
    const DASHES: usize = 30;
    let knee = |set| slo.and_then(|slo: &Slo| slo.knee(set).kept);
    let knees: Vec<(usize, f64)> = sets
        .iter()
        .enumerate()
        .filter_map(|(index, set)| Some((index, knee(set)?)))
        .collect();
    for (index, rate) in &knees {
        let shared: Vec<usize> = knees
            .iter()
            .filter(|(_, other)| Load::Offered(*other).same(Load::Offered(*rate)))
            .map(|(other, _)| *other)
            .collect();
        let turn = shared.iter().position(|other| other == index).unwrap_or(0);
        let step = (top - bottom) / DASHES as f64;
        for dash in (turn..DASHES).step_by(shared.len()) {
            let begin = bottom + step * dash as f64;
            let ends = vec![(*rate, begin), (*rate, begin + step / 2.0)];
            panel.line(ends, Role::Knee(*index))?;
        }
    }
    Ok(())
}

/// Where the percentile figure has a point: in equal steps of 1 / (1 - p) on its logarithmic scale.
fn spectrum_steps(set: &RunSet, load: Load) -> Vec<f64> {
    let quantile = |step: u32| 1.0 - 10_f64.powf(-f64::from(step) / 12.0);
    // Without p0: the least of all latencies says nothing of the rest.
    (1..=84)
        .map(quantile)
        .take_while(|quantile| summary::speaks_of(set, load, *quantile))
        .collect()
}

/// The percentile spectrum at one load: x = 1 / (1 - p).
pub fn spectrum(sets: &[RunSet], load: Load) -> Result<String, DrawError> {
    let place = |quantile: f64| -(1.0 - quantile).log10();
    let lines: Vec<Vec<(f64, Spread)>> = sets
        .iter()
        .map(|set| {
            let spread =
                |quantile| Some((place(quantile), summary::response(set, load, quantile)?));
            spectrum_steps(set, load)
                .into_iter()
                .filter_map(spread)
                .collect()
        })
        .collect();
    let all = || lines.iter().flatten();
    let last = all().map(|(x, _)| *x).fold(1.0, f64::max);
    let low = all()
        .map(|(_, spread)| spread.range.low)
        .fold(f64::INFINITY, f64::min);
    let high = all()
        .map(|(_, spread)| spread.range.high)
        .fold(1.0, f64::max);
    let ticks = (0..=last.ceil() as i32).map(f64::from);
    // A hair of room: 1 - 0.999 is a little more than 0.001.
    let last = last + 1e-6;
    let x = Ticks::new(0.0..last, ticks.filter(|tick| *tick <= last).collect());
    let y = Ticks::decades(low.min(high), high);
    let frame = Frame {
        title: "",
        x_title: "percentile of the response time",
        x_words: &|value| units::percent(1.0 - 10_f64.powf(-value), 5),
        y_words: &log_words,
    };
    figure::draw(
        "spectrum",
        "Response time by percentile",
        (WIDTH, 400),
        |root| {
            let panel = Panel::new(root, x, y, &frame)?;
            for (index, points) in lines.iter().enumerate() {
                let band: Vec<(f64, f64, f64)> = points
                    .iter()
                    .map(|(x, spread)| (*x, log(spread.range.low), log(spread.range.high)))
                    .collect();
                panel.band(&band, Role::Band(index))?;
                let middle: Vec<(f64, f64)> = points
                    .iter()
                    .map(|(x, spread)| (*x, log(spread.median)))
                    .collect();
                panel.line(middle.clone(), Role::Line(index))?;
                // A marker at each whole percentile of the axis keeps the lines apart without colour.
                for at in middle
                    .into_iter()
                    .filter(|(x, _)| (x - x.round()).abs() < 1e-6)
                {
                    panel.marker(at, index)?;
                }
            }
            Ok(())
        },
    )
}

/// What systems add to the one called `direct`: a panel for each percentile, each with its own scale.
pub fn added(sets: &[RunSet], rows: &[Added]) -> Result<String, DrawError> {
    let quantiles = Added::quantiles(rows);
    let title = "Latency added to a direct connection, by percentile";
    figure::draw("added", title, (WIDTH, 300), |root| {
        let areas = root.split_evenly((1, quantiles.len().max(1)));
        for (area, quantile) in areas.iter().zip(&quantiles) {
            let here: Vec<&Added> = rows
                .iter()
                .filter(|row| row.quantile == *quantile)
                .collect();
            added_panel(area, sets, &here, *quantile)?;
        }
        Ok(())
    })
}

fn added_panel(area: &Area<'_>, sets: &[RunSet], rows: &[&Added], quantile: f64) -> Drawn {
    let ends = |row: &&Added| {
        row.interval
            .map_or([row.nanos; 2], |interval| [interval.low, interval.high])
    };
    let low = rows.iter().flat_map(ends).fold(0.0, f64::min);
    let high = rows.iter().flat_map(ends).fold(0.0, f64::max);
    let y = Ticks::linear(low, high, 4);
    let x = Ticks::new(-0.3..rows.len() as f64 - 0.3, Vec::new());
    let frame = Frame {
        title: &percentile(quantile),
        x_title: "",
        x_words: &|_| String::new(),
        y_words: &|value| match value {
            v if v.abs() < 1e-9 => "0".to_owned(),
            v if v < 0.0 => format!("−{}", units::tick(-v)),
            v => format!("+{}", units::tick(v)),
        },
    };
    let (left, right) = x.bounds();
    let panel = Panel::new(area, x, y, &frame)?;
    panel.line(vec![(left, 0.0), (right, 0.0)], Role::Axis)?;
    for (place, row) in rows.iter().enumerate() {
        let place = place as f64;
        let index = sets
            .iter()
            .position(|set| set.system == row.system)
            .unwrap_or(0);
        if let Some(interval) = row.interval {
            panel.line(
                vec![(place, interval.low), (place, interval.high)],
                Role::Whisker(index),
            )?;
            for end in [interval.low, interval.high] {
                panel.line(
                    vec![(place - 0.08, end), (place + 0.08, end)],
                    Role::Whisker(index),
                )?;
            }
        }
        panel.marker((place, row.nanos), index)?;
        // With more systems there is no room; the table has the numbers.
        if rows.len() <= 2 {
            let words = text(Role::Ink, TEXT, HPos::Left, VPos::Center);
            let at = (place, row.nanos);
            panel.text(&units::added_duration(row.nanos), at, (11, 0), words)?;
        }
    }
    Ok(())
}

/// A bar of a figure of bars.
pub struct Bar {
    /// Index of its system.
    pub index: usize,
    /// The system's name.
    pub system: String,
    /// Its length.
    pub value: f64,
    /// The share of it that is drawn full; the rest is lighter.
    pub first: f64,
    /// From the least to the greatest run.
    pub range: Option<(f64, f64)>,
    /// What stands behind it.
    pub words: String,
}

/// Height of one bar with the room around it.
const BAR: i32 = 34;
/// Where bars begin and how long they may be.
const BARS: (i32, i32) = (150, 640);

/// A name that fits before a bar.
fn short(name: &str) -> String {
    const ROOM: usize = 16;
    match name.char_indices().nth(ROOM) {
        Some(_) => name.chars().take(ROOM - 1).chain(['…']).collect(),
        None => name.to_owned(),
    }
}

/// Bars from the left, one below the other, each with its value in words.
pub fn bars(figure: &'static str, title: &str, bars: &[Bar]) -> Result<String, DrawError> {
    let longest = bars
        .iter()
        .map(|bar| bar.range.map_or(bar.value, |(_, high)| high.max(bar.value)));
    let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
    let height = u32::try_from(bars.len()).unwrap_or(1) * BAR.unsigned_abs() + 12;
    let (begin, length) = BARS;
    // Whole pixels.
    let place = |value: f64| begin + (value / longest * f64::from(length)).round() as i32;
    figure::draw(figure, title, (WIDTH, height), |root| {
        root.draw(&PathElement::new(
            vec![(begin, 2), (begin, height as i32 - 4)],
            Role::Axis.stroke(),
        ))?;
        for (row, bar) in bars.iter().enumerate() {
            let top = 6 + BAR * i32::try_from(row).unwrap_or(0);
            let middle = top + BAR / 2 - 3;
            let name = text(Role::Ink, TEXT * 1.05, HPos::Right, VPos::Center);
            write(root, &short(&bar.system), (begin - 26, middle), &name)?;
            let shape = marker_shape(bar.index)
                .into_iter()
                .map(|(x, y)| (begin - 13 + x, middle + y));
            root.draw(&Polygon::new(
                shape.collect::<Vec<_>>(),
                Role::Fill(bar.index).filled(),
            ))?;
            let (full, end) = (place(bar.value * bar.first), place(bar.value));
            let (upper, lower) = (top + 2, top + BAR - 8);
            root.draw(&Rectangle::new(
                [(begin, upper), (full, lower)],
                Role::Fill(bar.index).filled(),
            ))?;
            if end > full {
                root.draw(&Rectangle::new(
                    [(full, upper), (end, lower)],
                    Role::Part(bar.index).filled(),
                ))?;
            }
            let mut right = end;
            if let Some((low, high)) = bar.range.filter(|(low, high)| high > low) {
                right = right.max(place(high));
                let whisker = Role::Range.stroke();
                root.draw(&PathElement::new(
                    vec![(place(low), middle), (place(high), middle)],
                    whisker,
                ))?;
                for x in [place(low), place(high)] {
                    root.draw(&PathElement::new(
                        vec![(x, middle - 5), (x, middle + 5)],
                        whisker,
                    ))?;
                }
            }
            let words = text(Role::Ink, TEXT * 1.05, HPos::Left, VPos::Center);
            write(root, &bar.words, (right + 10, middle), &words)?;
        }
        Ok(())
    })
}
