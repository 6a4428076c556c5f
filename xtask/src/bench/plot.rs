//! Plots as SVG files: lines, bars and heat maps, with units, names and a legend.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Size of a plot, in pixels.
const SIZE: (u32, u32) = (960, 560);
const FONT: &str = "sans-serif";

/// Colours that people with any kind of colour vision can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(90, 90, 90),
];

/// What a plot says about itself.
pub struct Labels<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
}

/// A name, and points to be joined by a line.
pub type Line = (String, Vec<(f64, f64)>);
/// A name, and the height of its bar in each group.
pub type Bars = (String, Vec<f64>);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, X, Y> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>;

/// Draws lines over linear axes.
pub fn lines(path: &Path, labels: &Labels, lines: &[Line]) -> Result<()> {
    let [left, right, _, top] = extent(lines);
    draw_lines(path, labels, lines, left..right, 0.0..top * 1.05)
}

/// Draws lines over logarithmic axes; along the x axis everything doubles.
pub fn log_lines(path: &Path, labels: &Labels, lines: &[Line]) -> Result<()> {
    let [left, right, bottom, top] = extent(lines);
    let x = (left..right).log_scale().base(2.0);
    draw_lines(
        path,
        labels,
        lines,
        x,
        (bottom / 1.5..top * 1.5).log_scale(),
    )
}

/// Draws groups of bars.
pub fn bars(path: &Path, labels: &Labels, groups: &[&str], bars: &[Bars]) -> Result<()> {
    let area = open(path)?;
    let top = bars
        .iter()
        .flat_map(|(_, values)| values)
        .copied()
        .fold(0.0, f64::max);
    let mut chart = builder(&area, labels)
        .build_cartesian_2d(0.0..groups.len() as f64, 0.0..top * 1.1)
        .map_err(problem)?;
    bare_x_axis(&mut chart, labels)?;
    let font = (FONT, 13).into_font().into_text_style(&area);
    let style = font.pos(Pos::new(HPos::Center, VPos::Bottom));
    let width = 0.85 / bars.len() as f64;
    for (index, ((name, values), colour)) in bars.iter().zip(COLOURS).enumerate() {
        let left = 0.075 + width * index as f64;
        let places = || {
            values
                .iter()
                .enumerate()
                .map(move |(group, &value)| (group as f64 + left, value))
        };
        chart
            .draw_series(places().map(|(x, value)| {
                Rectangle::new([(x, 0.0), (x + width * 0.9, value)], colour.filled())
            }))
            .map_err(problem)?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 16, y + 5)], colour.filled()));
        chart
            .draw_series(places().map(|(x, value)| {
                Text::new(number(value), (x + width * 0.45, value), style.clone())
            }))
            .map_err(problem)?;
    }
    name_groups(&area, &chart, groups)?;
    finish(&area, &mut chart)
}

/// The value in the middle; the lower of two.
pub fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().saturating_sub(1) / 2;
    sorted.get(middle).copied().unwrap_or_default()
}

/// Draws all values of each group as points, and the middle one as a line with its number.
pub fn spread(path: &Path, labels: &Labels, groups: &[(&str, &[f64])]) -> Result<()> {
    let area = open(path)?;
    let all = groups.iter().flat_map(|(_, values)| *values).copied();
    let mut chart = builder(&area, labels)
        .build_cartesian_2d(0.0..groups.len() as f64, 0.0..all.fold(0.0, f64::max) * 1.1)
        .map_err(problem)?;
    bare_x_axis(&mut chart, labels)?;
    for (index, ((_, values), colour)) in groups.iter().zip(COLOURS).enumerate() {
        let x = index as f64 + 0.5;
        let middle = middle(values);
        let line = PathElement::new(
            [(x - 0.1, middle), (x + 0.1, middle)],
            colour.stroke_width(3),
        );
        let font = (FONT, 13).into_font().into_text_style(&area);
        let name = Text::new(
            number(middle),
            (x + 0.12, middle),
            font.pos(Pos::new(HPos::Left, VPos::Center)),
        );
        let runs = values
            .iter()
            .map(|&value| Circle::new((x, value), 4, colour.mix(0.5).filled()));
        chart.draw_series(runs).map_err(problem)?;
        chart.draw_series([line]).map_err(problem)?;
        chart.draw_series([name]).map_err(problem)?;
    }
    let names: Vec<&str> = groups.iter().map(|(name, _)| *name).collect();
    name_groups(&area, &chart, &names)?;
    area.present().map_err(problem)
}

/// An axis of groups, which have names instead of numbers.
fn bare_x_axis(chart: &mut Chart<RangedCoordf64, RangedCoordf64>, labels: &Labels) -> Result<()> {
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .axis_desc_style((FONT, 15))
        .y_label_formatter(&|&value| number(value))
        .x_desc(labels.x)
        .y_desc(labels.y)
        .draw()
        .map_err(problem)
}

fn name_groups<'a>(
    area: &Area<'a>,
    chart: &Chart<'a, RangedCoordf64, RangedCoordf64>,
    names: &[&str],
) -> Result<()> {
    let font = (FONT, 13).into_font().into_text_style(area);
    let style = font.pos(Pos::new(HPos::Center, VPos::Top));
    for (index, name) in names.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(index as f64 + 0.5, 0.0));
        area.draw(&Text::new(*name, (x, y + 6), style.clone()))
            .map_err(problem)?;
    }
    Ok(())
}

/// Draws a field of colours, a value for each row and column, with the scale beside it.
pub fn heat_map(path: &Path, labels: &Labels, rows: &[Vec<f64>]) -> Result<()> {
    /// Steps of the scale.
    const STEPS: usize = 64;
    let values = || rows.iter().flatten().copied();
    let least = values().fold(f64::INFINITY, f64::min).floor();
    let most = values().fold(f64::NEG_INFINITY, f64::max).ceil();
    // From light to dark, so that it can be read without colours.
    let colour = |value: f64| {
        let share = (value - least) / (most - least).max(f64::MIN_POSITIVE);
        let mix = |light: f64, dark: f64| (light + (dark - light) * share) as u8;
        RGBColor(mix(255.0, 0.0), mix(237.0, 66.0), mix(160.0, 120.0)).filled()
    };
    let whole = open(path)?;
    let (field, scale) = whole.split_horizontally(SIZE.0 - 150);
    let columns = rows.first().map_or(0, Vec::len);
    let mut chart = builder(&field, labels)
        .build_cartesian_2d(0.0..columns as f64, 0.0..rows.len() as f64)
        .map_err(problem)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_desc_style((FONT, 15))
        .x_label_formatter(&|&value| number(value))
        .y_label_formatter(&|&value| number(value))
        .x_desc(labels.x)
        .y_desc(labels.y)
        .draw()
        .map_err(problem)?;
    let cell = |x: usize, y: usize, value: f64| {
        let (left, bottom) = (x as f64, y as f64);
        Rectangle::new([(left, bottom), (left + 1.0, bottom + 1.0)], colour(value))
    };
    for (y, row) in rows.iter().enumerate() {
        let cells = row.iter().enumerate();
        chart
            .draw_series(cells.map(|(x, &value)| cell(x, y, value)))
            .map_err(problem)?;
    }
    let step = (most - least) / STEPS as f64;
    let mut chart = ChartBuilder::on(&scale)
        .margin(14)
        .margin_top(48)
        .margin_right(60)
        .x_label_area_size(46)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..1.0, least..most)
        .map_err(problem)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_labels(0)
        .label_style((FONT, 13))
        .y_label_formatter(&|&value| number(value))
        .draw()
        .map_err(problem)?;
    let steps = (0..STEPS).map(|index| least + step * index as f64);
    chart
        .draw_series(steps.map(|bottom| {
            Rectangle::new(
                [(0.0, bottom), (1.0, bottom + step)],
                colour(bottom + step / 2.0),
            )
        }))
        .map_err(problem)?;
    whole.present().map_err(problem)
}

fn draw_lines<X, Y>(path: &Path, labels: &Labels, lines: &[Line], x: X, y: Y) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let area = open(path)?;
    let mut chart = builder(&area, labels)
        .build_cartesian_2d(x, y)
        .map_err(problem)?;
    chart
        .configure_mesh()
        .light_line_style(BLACK.mix(0.05))
        .axis_desc_style((FONT, 15))
        .x_label_formatter(&|&value| number(value))
        .y_label_formatter(&|&value| number(value))
        .x_desc(labels.x)
        .y_desc(labels.y)
        .draw()
        .map_err(problem)?;
    for ((name, points), colour) in lines.iter().zip(COLOURS) {
        chart
            .draw_series(
                LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3),
            )
            .map_err(problem)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(3)));
    }
    finish(&area, &mut chart)
}

fn open(path: &Path) -> Result<Area<'_>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(problem)?;
    Ok(area)
}

fn builder<'a, 'b>(area: &'a Area<'b>, labels: &Labels) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder
        .caption(labels.title, (FONT, 20))
        .margin(14)
        .x_label_area_size(46)
        .y_label_area_size(64);
    builder
}

/// Draws the legend and writes the file.
fn finish<'a, X, Y>(area: &Area<'a>, chart: &mut Chart<'a, X, Y>) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font((FONT, 14))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(problem)?;
    area.present().map_err(problem)
}

/// Left, right, bottom and top of all points.
fn extent(lines: &[Line]) -> [f64; 4] {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::NEG_INFINITY, f64::max);
    [
        least(&mut points().map(|point| point.0)),
        most(&mut points().map(|point| point.0)),
        least(&mut points().map(|point| point.1)),
        most(&mut points().map(|point| point.1)),
    ]
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// The library's errors are tied to what they borrow.
fn problem(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}
