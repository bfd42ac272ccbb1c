//! The live view of a run: its figures, and how they are laid out on a terminal.
//!
//! [`Meter`] makes a small [`Sample`] of each interval; [`Dashboard`] keeps samples and draws them.
//! Neither knows a terminal or a clock: [`super::screen`] has both.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::line;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, LineGauge, Paragraph, Sparkline};

use super::histogram::Latencies;
use super::live::{count, duration};
use super::record::Failure;
use super::report::slo::Slo;
use super::scenario::Scenario;
use super::schedule::{Stretch, plan};
use super::series::Tick;
use super::validity::lag_allowed;

/// Samples kept for sparklines, more than a terminal has columns.
const HISTORY: usize = 512;

/// The percentiles that are shown.
const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// Classes of failures, and wrong answers.
const CLASSES: usize = Failure::ALL.len() + 1;

/// One interval in the figures that are shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// The interval's end, in seconds after the run's beginning.
    pub ended_s: f64,
    /// Operations per second that were to arrive; `None` in a closed loop.
    pub offered_rate: Option<f64>,
    /// Operations per second that completed.
    pub achieved_rate: f64,
    /// Response times in nanoseconds at p50, p99 and p99.9.
    pub response_ns: [u64; PERCENTILES.len()],
    /// The generator's own lag in nanoseconds at p99.
    pub lag_ns: u64,
    /// The lag in nanoseconds up to which a run is valid.
    pub lag_allowed_ns: u64,
    /// Failures by class, and wrong answers at the end.
    pub failures: [u64; CLASSES],
    /// Operations per second that each core completed.
    pub by_core: Vec<f64>,
    /// Arrivals that wait for a connection.
    pub backlog: u64,
    /// Connections open.
    pub connections: u64,
    /// Whether the objective holds in the step so far; `None` without one, and in a warm-up.
    pub slo_kept: Option<bool>,
}

/// Makes samples of intervals, in order.
pub struct Meter {
    plan: Vec<Stretch>,
    slo: Option<Slo>,
    stretch: usize,
    /// Of the stretch so far.
    response: Latencies,
    right: u64,
    failed: u64,
}

impl Meter {
    /// Of a run of `scenario`.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            plan: plan(scenario),
            slo: scenario.slo.clone(),
            stretch: 0,
            response: Latencies::new(),
            right: 0,
            failed: 0,
        }
    }

    /// The figures of an interval.
    pub fn sample(&mut self, tick: &Tick) -> Sample {
        let total = tick.total();
        let mut failures = [0; CLASSES];
        let counts = total.failures.into_iter().chain([total.wrong]);
        failures.iter_mut().zip(counts).for_each(|(to, n)| *to = n);
        let stretch = stretch_at(&self.plan, tick.began_s + tick.seconds / 2.0);
        if stretch != self.stretch {
            self.stretch = stretch;
            self.response.clear();
            (self.right, self.failed) = (0, 0);
        }
        self.response.merge(&total.response);
        self.right += total.completed.saturating_sub(total.wrong);
        self.failed += failures.iter().sum::<u64>();
        let failed_share = self.failed as f64 / (self.right + self.failed).max(1) as f64;
        let slo = self.slo.as_ref().filter(|_| tick.counts);
        let lag_ns = total.own_lag.quantile(0.99);
        let per_second = |count: u64| count as f64 / tick.seconds;
        Sample {
            ended_s: tick.began_s + tick.seconds,
            offered_rate: tick.offered_rate,
            achieved_rate: per_second(total.completed),
            response_ns: PERCENTILES.map(|(_, quantile)| total.response.quantile(quantile)),
            lag_ns,
            lag_allowed_ns: lag_allowed(total.response.quantile(0.5)),
            failures,
            by_core: tick.by_core.iter().copied().map(per_second).collect(),
            backlog: tick.backlog,
            connections: tick.connections,
            slo_kept: slo.map(|slo| slo.holds(&self.response, failed_share)),
        }
    }
}

/// The stretch of a moment, in seconds after the run's beginning; the last one after the end.
fn stretch_at(plan: &[Stretch], at_s: f64) -> usize {
    let at = at_s * 1e9;
    let found = plan.iter().position(|stretch| at < stretch.end() as f64);
    found.unwrap_or(plan.len().saturating_sub(1))
}

/// What is on the terminal.
pub struct Dashboard {
    title: String,
    plan: Vec<Stretch>,
    slo: Option<String>,
    has_colour: bool,
    is_ending: bool,
    samples: VecDeque<Sample>,
    failures: [u64; CLASSES],
}

impl Dashboard {
    /// Of a run of `scenario`, which measures `system`.
    pub fn new(scenario: &Scenario, system: &str, has_colour: bool) -> Self {
        Self {
            title: format!("ringgate load · {system}"),
            plan: plan(scenario),
            slo: scenario.slo.as_ref().map(ToString::to_string),
            has_colour,
            is_ending: false,
            samples: VecDeque::new(),
            failures: [0; CLASSES],
        }
    }

    /// Takes the next interval.
    pub fn add(&mut self, sample: Sample) {
        for (total, new) in self.failures.iter_mut().zip(sample.failures) {
            *total += new;
        }
        if self.samples.len() == HISTORY {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// From now on the view says that the run is about to end.
    pub fn end(&mut self) {
        self.is_ending = true;
    }

    /// The end of the last interval, in seconds after the run's beginning.
    pub fn known_until(&self) -> Option<f64> {
        self.samples.back().map(|sample| sample.ended_s)
    }

    /// Draws everything. `elapsed_s` is the time since the run's beginning, where it is known.
    pub fn draw(&self, frame: &mut Frame<'_>, elapsed_s: Option<f64>) {
        let [head, progress, rates, lag, slo, latency, below, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let total_s = self.plan.last().map_or(0.0, |last| last.end() as f64 / 1e9);
        let at_s = elapsed_s.map_or(0.0, |at| at.min(total_s));
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let title = Line::from(vec![
            Span::styled(self.title.clone(), bold),
            Span::raw(format!("   {}", self.phase(elapsed_s))),
        ]);
        frame.render_widget(title, head);
        let gauge = LineGauge::default()
            .ratio(if total_s > 0.0 { at_s / total_s } else { 0.0 })
            .label(format!("{at_s:.0} s of {total_s:.0} s"))
            // Told apart without colour too.
            .filled_symbol(line::THICK_HORIZONTAL)
            .unfilled_symbol(line::HORIZONTAL)
            .filled_style(self.colour(Color::Cyan));
        frame.render_widget(gauge, progress);
        if let Some(sample) = self.samples.back() {
            frame.render_widget(rates_line(sample), rates);
            frame.render_widget(self.lag_line(sample), lag);
            frame.render_widget(self.slo_line(sample), slo);
            self.draw_cores(frame, right_half(below), sample);
            self.draw_failures(frame, left_half(below), sample);
        }
        self.draw_latencies(frame, latency);
        let keys_text = "q or Ctrl-C ends the run; what was measured is kept";
        frame.render_widget(Line::from(keys_text), keys);
    }

    /// Where in its plan the run is, in words.
    fn phase(&self, elapsed_s: Option<f64>) -> String {
        let at = match elapsed_s {
            _ if self.is_ending => return "ending".to_owned(),
            None => return "starting".to_owned(),
            Some(at) => at,
        };
        let total = self.plan.iter().filter(|stretch| stretch.counts).count();
        let index = stretch_at(&self.plan, at);
        let before = self.plan.iter().take(index);
        let number = before.filter(|stretch| stretch.counts).count() + 1;
        let counts = self.plan.get(index).is_some_and(|stretch| stretch.counts);
        match (counts, total) {
            (false, ..=1) => "warm-up".to_owned(),
            (true, ..=1) => "measuring".to_owned(),
            (false, _) => format!("warm-up of step {number} of {total}"),
            (true, _) => format!("step {number} of {total}"),
        }
    }

    fn colour(&self, colour: Color) -> Style {
        match self.has_colour {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    /// A light that needs no colour to be read.
    fn light(&self, is_good: bool, good: &'static str, bad: &'static str) -> Span<'static> {
        match is_good {
            true => Span::styled(format!("● {good}"), self.colour(Color::Green)),
            false => {
                let style = self.colour(Color::Red).add_modifier(Modifier::REVERSED);
                Span::styled(format!("● {bad}"), style)
            }
        }
    }

    fn lag_line(&self, sample: &Sample) -> Line<'static> {
        let figures = format!(
            "own lag p99 {} of {} allowed  ",
            duration(sample.lag_ns),
            duration(sample.lag_allowed_ns)
        );
        let is_good = sample.lag_ns <= sample.lag_allowed_ns;
        Line::from(vec![
            Span::raw(figures),
            self.light(is_good, "in time", "LATE"),
        ])
    }

    fn slo_line(&self, sample: &Sample) -> Line<'static> {
        let Some(slo) = &self.slo else {
            return Line::from("no objective");
        };
        let light = match sample.slo_kept {
            None => Span::raw("○ not judged in a warm-up"),
            Some(kept) => self.light(kept, "kept", "BROKEN"),
        };
        Line::from(vec![Span::raw(format!("{slo}  ")), light])
    }

    /// A row for each percentile: the last second in a number, those before it as a sparkline.
    fn draw_latencies(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = Block::new().borders(Borders::TOP).title("response time");
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let rows: [Rect; PERCENTILES.len()] =
            Layout::vertical([Constraint::Fill(1); 3]).areas(inner);
        for (index, (row, (name, _))) in rows.into_iter().zip(PERCENTILES).enumerate() {
            let [label, graph] =
                Layout::horizontal([Constraint::Length(17), Constraint::Fill(1)]).areas(row);
            let of = |sample: &Sample| sample.response_ns.get(index).copied().unwrap_or(0);
            let now = self.samples.back().map_or(0, of);
            let skipped = self.samples.len().saturating_sub(graph.width.into());
            let course: Vec<u64> = self.samples.iter().skip(skipped).map(of).collect();
            let text = format!("{name:<6}{:>9}", duration(now));
            frame.render_widget(Line::from(text), label);
            let sparkline = Sparkline::default()
                .data(course)
                .style(self.colour(Color::Cyan));
            frame.render_widget(sparkline, graph);
        }
    }

    fn draw_failures(&self, frame: &mut Frame<'_>, area: Rect, sample: &Sample) {
        let block = Block::new().borders(Borders::TOP);
        let block = block.title("failures: last second, in all");
        let names = Failure::ALL.iter().map(|class| class.label());
        let rows = names.chain(["wrong"]).zip(sample.failures);
        let rows = rows.zip(self.failures).filter(|(_, all)| *all > 0);
        let style = self.colour(Color::Red);
        let mut lines: Vec<Line<'_>> = rows
            .map(|((name, last), all)| {
                Line::styled(format!("{name:<10}{last:>9} {all:>10}"), style)
            })
            .collect();
        if lines.is_empty() {
            lines.push(Line::from("none"));
        }
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }

    fn draw_cores(&self, frame: &mut Frame<'_>, area: Rect, sample: &Sample) {
        let block = Block::new()
            .borders(Borders::TOP)
            .title("operations/s by core");
        let room = usize::from(block.inner(area).height);
        let most = sample.by_core.iter().copied().fold(1.0, f64::max);
        let width = f64::from(area.width.saturating_sub(18));
        let row = |(core, rate): (usize, &f64)| {
            let bar = "█".repeat((rate / most * width).round() as usize);
            Line::from(vec![
                Span::raw(format!("{core:>4} {:>9} ", count(*rate))),
                Span::styled(bar, self.colour(Color::Cyan)),
            ])
        };
        let cores = sample.by_core.len();
        // Where not all have room, the last line says how many are missing.
        let shown = if cores > room {
            room.saturating_sub(1)
        } else {
            cores
        };
        let mut lines: Vec<_> = sample
            .by_core
            .iter()
            .enumerate()
            .take(shown)
            .map(row)
            .collect();
        if shown < cores {
            lines.push(Line::from(format!("and {} more", cores - shown)));
        }
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }
}

fn rates_line(sample: &Sample) -> Line<'static> {
    let offered = match sample.offered_rate {
        Some(rate) => format!("offered {}/s", count(rate)),
        None => "closed loop".to_owned(),
    };
    Line::from(format!(
        "{offered}   achieved {}/s   backlog {}   connections {}",
        count(sample.achieved_rate),
        sample.backlog,
        sample.connections
    ))
}

fn left_half(area: Rect) -> Rect {
    let [left, _] = Layout::horizontal([Constraint::Fill(1); 2]).areas(area);
    left
}

fn right_half(area: Rect) -> Rect {
    let [_, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(area);
    right
}
