//! What all figures share: a drawing area whose colours are names.
//!
//! plotters writes colours into the SVG as they are, which fits one colour scheme only. So a figure is
//! drawn in stand-in colours, one for each *role*, and every stand-in becomes a CSS class; the page's
//! style sheet gives the class a colour for light and one for dark, and each system its dashes.

use std::ops::Range;

use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{EmptyElement, PathElement, Polygon, Text};
use plotters::prelude::SVGBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color, FontFamily, FontStyle, IntoTextStyle, RGBColor, ShapeStyle, TRANSPARENT, TextStyle,
};

/// Height of labels as the library counts it: it writes a font size of this by 1.24.
pub const TEXT: f64 = 15.5;

/// Systems with a colour, a dash and a marker of their own; later ones begin again.
pub const STYLES: usize = 6;

/// The area that figures draw on.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Why a figure could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the figure `{figure}` could not be drawn: {error}")]
pub struct DrawError {
    /// The figure's name.
    pub figure: &'static str,
    /// What the library says.
    pub error: String,
}

/// What drawing gives within a figure.
pub type Drawn = Result<(), Failure>;

/// Whatever the library fails with; drawing into memory does not.
pub type Failure = Box<dyn std::error::Error>;

/// What a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Text that must be read.
    Ink,
    /// Labels of axes.
    Label,
    /// Lines of the grid.
    Grid,
    /// Lines of axes.
    Axis,
    /// The limit that an objective sets.
    Limit,
    /// From the least to the greatest run, over a bar.
    Range,
    /// The line of the system with this index.
    Line(usize),
    /// What is filled for that system: markers and bars.
    Fill(usize),
    /// The second part of its bar.
    Part(usize),
    /// The range of its runs.
    Band(usize),
    /// Its knee.
    Knee(usize),
    /// An interval of confidence around its marker.
    Whisker(usize),
}

impl Role {
    /// The class in the page's style sheet.
    fn class(self) -> String {
        match self {
            Self::Ink => "ink".to_owned(),
            Self::Label => "label".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Axis => "axis".to_owned(),
            Self::Limit => "limit".to_owned(),
            Self::Range => "range".to_owned(),
            Self::Line(index) => format!("line s{}", index % STYLES),
            Self::Fill(index) => format!("fill s{}", index % STYLES),
            Self::Part(index) => format!("part s{}", index % STYLES),
            Self::Band(index) => format!("band s{}", index % STYLES),
            Self::Knee(index) => format!("knee s{}", index % STYLES),
            Self::Whisker(index) => format!("whisker s{}", index % STYLES),
        }
    }

    /// All roles that a figure can use.
    fn all() -> impl Iterator<Item = Self> {
        let fixed = [
            Self::Ink,
            Self::Label,
            Self::Grid,
            Self::Axis,
            Self::Limit,
            Self::Range,
        ];
        let systems = (0..STYLES).flat_map(|index| {
            [
                Self::Line,
                Self::Fill,
                Self::Part,
                Self::Band,
                Self::Knee,
                Self::Whisker,
            ]
            .map(|role| role(index))
        });
        fixed.into_iter().chain(systems)
    }

    /// The colour that stands for it while drawing: no two roles have the same.
    pub fn color(self) -> RGBColor {
        let system = |kind: u8, index: usize| (kind, u8::try_from(index % STYLES).unwrap_or(0));
        let (kind, index) = match self {
            Self::Ink => (1, 0),
            Self::Label => (2, 0),
            Self::Grid => (3, 0),
            Self::Axis => (4, 0),
            Self::Limit => (5, 0),
            Self::Range => (12, 0),
            Self::Line(index) => system(6, index),
            Self::Fill(index) => system(7, index),
            Self::Part(index) => system(8, index),
            Self::Band(index) => system(9, index),
            Self::Knee(index) => system(10, index),
            Self::Whisker(index) => system(11, index),
        };
        RGBColor(1, kind, index)
    }

    /// A line of this role.
    pub fn stroke(self) -> ShapeStyle {
        self.color().stroke_width(1)
    }

    /// A surface of this role.
    pub fn filled(self) -> ShapeStyle {
        self.color().filled()
    }
}

/// Draws a figure of the given size and gives its SVG element, described by `title`.
pub fn draw(
    figure: &'static str,
    title: &str,
    size: (u32, u32),
    content: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, DrawError> {
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        content(&area).and_then(|()| area.present().map_err(Into::into))
    };
    drawn.map_err(|error| DrawError {
        figure,
        error: error.to_string(),
    })?;
    for role in Role::all() {
        let RGBColor(red, green, blue) = role.color();
        let (color, class) = (format!("#{red:02X}{green:02X}{blue:02X}"), role.class());
        for attribute in ["fill", "stroke"] {
            svg = svg.replace(
                &format!("{attribute}=\"{color}\""),
                &format!("class=\"{class}\""),
            );
        }
    }
    let (width, height) = size;
    let old = format!("<svg width=\"{width}\" height=\"{height}\" viewBox");
    let id = format!("figure-{figure}");
    let new = format!("<svg id=\"{id}\" role=\"img\" aria-labelledby=\"{id}-title\" viewBox");
    let svg = svg.replacen(&old, &new, 1);
    let title = maud::html! { title id={ (id) "-title" } { (title) } }.into_string();
    Ok(svg.replacen(">\n", &format!(">\n{title}\n"), 1))
}

/// Text of a role, anchored at the given side.
pub fn text(role: Role, size: f64, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    let font = (FontFamily::SansSerif, size, FontStyle::Normal);
    let mut style = font.into_text_style(&(100, 100));
    style.color = role.color().to_backend_color();
    style.pos = Pos::new(horizontal, vertical);
    style
}

/// Writes `words` at a point of the area.
pub fn write(area: &Area<'_>, words: &str, at: (i32, i32), style: &TextStyle<'_>) -> Drawn {
    area.draw_text(words, style, at)?;
    Ok(())
}

/// The shape of the marker of the system with this index, around the origin.
pub fn marker_shape(index: usize) -> Vec<(i32, i32)> {
    match index % STYLES {
        0 => vec![
            (-2, -5),
            (2, -5),
            (5, -2),
            (5, 2),
            (2, 5),
            (-2, 5),
            (-5, 2),
            (-5, -2),
        ],
        1 => vec![(-4, -4), (4, -4), (4, 4), (-4, 4)],
        2 => vec![(0, -6), (5, 4), (-5, 4)],
        3 => vec![(0, -6), (6, 0), (0, 6), (-6, 0)],
        4 => vec![(-5, -4), (5, -4), (0, 6)],
        _ => vec![
            (-2, -6),
            (2, -6),
            (2, -2),
            (6, -2),
            (6, 2),
            (2, 2),
            (2, 6),
            (-2, 6),
            (-2, 2),
            (-6, 2),
            (-6, -2),
            (-2, -2),
        ],
    }
}

/// What stands around a panel.
pub struct Frame<'a> {
    /// Above it; nothing when empty.
    pub title: &'a str,
    /// Below it; nothing when empty.
    pub x_title: &'a str,
    /// A tick of the x axis in words.
    pub x_words: &'a dyn Fn(f64) -> String,
    /// A tick of the y axis in words.
    pub y_words: &'a dyn Fn(f64) -> String,
}

/// A pair of axes to draw in.
pub struct Panel<'a>(DrawingArea<SVGBackend<'a>, Cartesian2d<Ticks, Ticks>>);

impl<'a> Panel<'a> {
    /// Draws axes and grid into `area`.
    pub fn new(area: &Area<'a>, x: Ticks, y: Ticks, frame: &Frame<'_>) -> Result<Self, Failure> {
        let (width, _) = area.dim_in_pixel();
        let middle = i32::try_from(width / 2).unwrap_or(0) + LEFT / 2;
        if !frame.title.is_empty() {
            let title = text(Role::Ink, TEXT * 1.1, HPos::Center, VPos::Top);
            write(area, frame.title, (middle, 4), &title)?;
        }
        let mut chart = ChartBuilder::on(area)
            .margin_top(if frame.title.is_empty() { 12 } else { 30 })
            .margin_right(28)
            .margin_bottom(4)
            .x_label_area_size(if frame.x_title.is_empty() { 12 } else { 46 })
            .y_label_area_size(LEFT)
            .build_cartesian_2d(x, y)?;
        let label = text(Role::Label, TEXT, HPos::Left, VPos::Top);
        let x_words = |value: &f64| (frame.x_words)(*value);
        let y_words = |value: &f64| (frame.y_words)(*value);
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT)
            .bold_line_style(Role::Grid.stroke())
            .axis_style(Role::Axis.stroke())
            .label_style(label.clone())
            .axis_desc_style(label)
            .x_label_formatter(&x_words)
            .y_label_formatter(&y_words);
        if !frame.x_title.is_empty() {
            mesh.x_desc(frame.x_title);
        }
        mesh.draw()?;
        Ok(Self(chart.plotting_area().clone()))
    }

    /// A line through points.
    pub fn line(&self, points: Vec<(f64, f64)>, role: Role) -> Drawn {
        if points.len() > 1 {
            self.0.draw(&PathElement::new(points, role.stroke()))?;
        }
        Ok(())
    }

    /// What lies between two lines over the same places: each with its lower and upper end.
    pub fn band(&self, places: &[(f64, f64, f64)], role: Role) -> Drawn {
        if places.len() > 1 {
            let lower = places.iter().map(|(x, low, _)| (*x, *low));
            let upper = places.iter().rev().map(|(x, _, high)| (*x, *high));
            self.0.draw(&Polygon::new(
                lower.chain(upper).collect::<Vec<_>>(),
                role.filled(),
            ))?;
        }
        Ok(())
    }

    /// The marker of the system with this index.
    pub fn marker(&self, at: (f64, f64), index: usize) -> Drawn {
        let shape = Polygon::new(marker_shape(index), Role::Fill(index).filled());
        self.0.draw(&(EmptyElement::at(at) + shape))?;
        Ok(())
    }

    /// Text beside a point: `off` to the right and down.
    pub fn text(
        &self,
        words: &str,
        at: (f64, f64),
        off: (i32, i32),
        style: TextStyle<'static>,
    ) -> Drawn {
        let words = Text::new(words.to_owned(), off, style);
        self.0.draw(&(EmptyElement::at(at) + words))?;
        Ok(())
    }
}

/// Room at the left of a panel for its labels.
const LEFT: i32 = 72;

/// An axis of `f64` with ticks where its owner wants them.
#[derive(Clone)]
pub struct Ticks {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Ticks {
    /// From `range`, with these ticks.
    pub fn new(range: Range<f64>, ticks: Vec<f64>) -> Self {
        Self { range, ticks }
    }

    /// From 0 to a little more than `max`, with round ticks: about `wanted` of them.
    pub fn from_zero(max: f64, wanted: usize) -> Self {
        Self::linear(0.0, max, wanted)
    }

    /// From below `low` to above `high`, with round ticks.
    pub fn linear(low: f64, high: f64, wanted: usize) -> Self {
        let span = if high > low {
            high - low
        } else {
            high.abs().max(1.0)
        };
        let rough = span / wanted.max(1) as f64;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|f| f * magnitude);
        let step = step
            .into_iter()
            .find(|step| *step >= rough * 0.999)
            .unwrap_or(rough);
        let (first, last) = (
            (low / step).floor(),
            (high / step - 1e-9).ceil().max((low / step).floor() + 1.0),
        );
        let ticks = (0..=((last - first) as usize)).map(|index| (first + index as f64) * step);
        Self::new(first * step..last * step, ticks.collect())
    }

    /// For logarithms to the base 10 of values from `low` to `high`: ticks at 1, 2 and 5 of each decade
    /// while they are few, at 1 otherwise.
    pub fn decades(low: f64, high: f64) -> Self {
        let (low, high) = (low.max(1.0).log10(), high.max(1.0).log10());
        let parts: &[f64] = if high - low > 2.5 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let all: Vec<f64> = (low.floor() as i32..=high.ceil() as i32)
            .flat_map(|decade| {
                parts
                    .iter()
                    .map(move |part| f64::from(decade) + part.log10())
            })
            .collect();
        let first = all
            .iter()
            .copied()
            .rfind(|tick| *tick <= low + 1e-9)
            .unwrap_or(low);
        let last = all
            .iter()
            .copied()
            .find(|tick| *tick >= high - 1e-9 && *tick > first)
            .unwrap_or(high);
        let ticks = all
            .into_iter()
            .filter(|tick| (first..=last).contains(tick))
            .collect();
        Self::new(first..last, ticks)
    }

    /// The first and the last value.
    pub fn bounds(&self) -> (f64, f64) {
        (self.range.start, self.range.end)
    }
}

impl Ranged for Ticks {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        let pixels = f64::from(limit.1 - limit.0) * share;
        // Whole pixels: the figure is drawn larger than any screen shows it.
        limit.0.saturating_add(pixels.round() as i32)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight().allow_light_points() {
            true => Vec::new(),
            false => self.ticks.clone(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Ticks {
    fn format(value: &f64) -> String {
        format!("{value}")
    }
}
