//! The plots: lines over a number of callers or over percentiles, as SVG on a white ground, so that they can
//! be read on a page of any colour.

use std::ops::Range;

use plotters::{
    coord::{
        Shift,
        ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
        types::RangedCoordf64,
    },
    prelude::*,
};

use super::text;
use crate::{Failure, tally::PERCENTILES};

const WIDTH: u32 = 760;
const HEIGHT: u32 = 380;
/// The height of a row of the legend, in which two names stand beside each other, if they are short.
const LEGEND_ROW: u32 = 22;
const SHORT_NAME: usize = 36;
/// The height of a bar with its name, and its own.
const BAR_ROW: u32 = 42;
const BAR: i32 = 14;
const FONT: &str = "sans-serif";

/// One line of a plot.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    pub colour: RGBColor,
    pub dashed: bool,
    /// Its points, by x.
    pub points: Vec<Point>,
}

/// A point, and how far the rounds were apart.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    /// The lowest and the highest of the rounds.
    pub ends: (f64, f64),
}

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it is of.
    pub name: String,
    pub colour: RGBColor,
    /// Its length, as `y`.
    pub point: Point,
}

/// An axis: what it shows, and how.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    pub name: &'static str,
    pub kind: Kind,
}

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Evenly, from zero.
    Linear,
    /// Each factor of ten takes the same room.
    Log,
    /// Percentiles: each further nine takes the same room.
    Nines,
}

impl Kind {
    /// Where a value is, on an even axis.
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(f64::MIN_POSITIVE).log10(),
            // The largest of all has no more nines than can be drawn.
            Self::Nines => -(1.0 - value.min(99.999) / 100.0).log10(),
        }
    }
}

/// An axis with room for all of its values.
struct Scale {
    kind: Kind,
    /// Values worth a line across the plot.
    ticks: Vec<f64>,
    /// The ends, as places.
    ends: (f64, f64),
}

impl Scale {
    fn new(kind: Kind, values: impl Iterator<Item = f64>) -> Self {
        let usable = values.filter(|value| value.is_finite() && (kind != Kind::Log || *value > 0.0));
        let (low, high) = usable
            .map(|value| kind.place(value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |ends, place| (ends.0.min(place), ends.1.max(place)));
        let ends = match kind {
            _ if low > high => (0.0, 1.0),
            Kind::Linear => (0.0, if high > 0.0 { high * 1.05 } else { 1.0 }),
            Kind::Log | Kind::Nines => (low - 0.05, high + 0.05),
        };
        let mut ticks: Vec<f64> = match kind {
            Kind::Linear => RangedCoordf64::from(ends.0..ends.1).key_points(8_usize),
            Kind::Log => {
                let parts: &[f64] = if ends.1 - ends.0 > 4.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let powers = ends.0.floor() as i32..=ends.1.ceil() as i32;
                powers.flat_map(|power| parts.iter().map(move |part| part * 10f64.powi(power))).collect()
            }
            Kind::Nines => PERCENTILES.to_vec(),
        };
        ticks.retain(|tick| (ends.0..=ends.1).contains(&kind.place(*tick)));
        Self { kind, ticks, ends }
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (self.kind.place(*value) - self.ends.0) / (self.ends.1 - self.ends.0);
        from + (f64::from(to - from) * share.clamp(0.0, 1.0)) as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.ends.0..self.ends.1
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        match self.kind {
            Kind::Nines => text::percentile(*value),
            // Nine digits are enough for every tick, and hide what floats add to them.
            _ if value.abs() < 100.0 => ((value * 1e9).round() / 1e9).to_string(),
            _ => text::number(*value),
        }
    }
}

/// Bars, each below its name and with its number.
pub fn bars(title: &str, unit: &str, all: &[Bar]) -> Result<String, Failure> {
    const LEFT: i32 = 24;
    let mut svg = String::new();
    let height = 60 + u32::try_from(all.len())? * BAR_ROW;
    let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    area.draw(&Text::new(format!("{title} ({unit})"), (LEFT, 16), (FONT, 17)))?;
    let longest = all.iter().map(|bar| bar.point.y.max(bar.point.ends.1)).fold(f64::MIN_POSITIVE, f64::max);
    // The number stands behind the longest bar too.
    let place = |value: f64| LEFT + (f64::from(WIDTH as i32 - 2 * LEFT - 90) * value / longest) as i32;
    for (row, Bar { name, colour, point }) in (0i32..).zip(all) {
        let top = 48 + row * BAR_ROW as i32;
        let (bar, middle) = (top + 17, top + 17 + BAR / 2);
        area.draw(&Text::new(name.clone(), (LEFT, top), (FONT, 13)))?;
        area.draw(&Rectangle::new([(LEFT, bar), (place(point.y), bar + BAR)], colour.filled()))?;
        area.draw(&PathElement::new(
            [(place(point.ends.0), middle), (place(point.ends.1), middle)],
            BLACK.stroke_width(1),
        ))?;
        let behind = place(point.y.max(point.ends.1)) + 8;
        area.draw(&Text::new(text::number(point.y), (behind, bar + 1), (FONT, 13)))?;
    }
    area.present()?;
    drop(area);
    Ok(svg)
}

/// How many names stand beside each other in the legend.
fn legend_columns(series: &[Series]) -> usize {
    if series.iter().all(|series| series.name.chars().count() <= SHORT_NAME) { 2 } else { 1 }
}

/// Lines with their legend below.
pub fn lines(title: &str, x: Axis, y: Axis, series: &[Series]) -> Result<String, Failure> {
    let mut svg = String::new();
    let rows = u32::try_from(series.len().div_ceil(legend_columns(series)))?;
    let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT + rows * LEGEND_ROW + 8)).into_drawing_area();
    draw(area, title, (x, y), series)?;
    Ok(svg)
}

fn draw(
    area: DrawingArea<SVGBackend, Shift>,
    title: &str,
    (x, y): (Axis, Axis),
    series: &[Series],
) -> Result<(), Failure> {
    area.fill(&WHITE)?;
    let (plot, legend) = area.split_vertically(HEIGHT);

    let points = || series.iter().flat_map(|series| &series.points);
    let mut across = Scale::new(x.kind, points().map(|point| point.x));
    if x.kind == Kind::Log {
        // What was measured, and nothing between.
        across.ticks = points().map(|point| point.x).collect();
        across.ticks.sort_by(f64::total_cmp);
        across.ticks.dedup();
    }
    let up = Scale::new(y.kind, points().flat_map(|point| [point.y, point.ends.0, point.ends.1]));
    let mut chart = ChartBuilder::on(&plot)
        .caption(title, (FONT, 17))
        .margin(14)
        .x_label_area_size(46)
        .y_label_area_size(70)
        .build_cartesian_2d(across, up)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).label_style((FONT, 13)).x_desc(x.name).y_desc(y.name).draw()?;
    for Series { colour, dashed, points, .. } in series {
        let (places, style) = (points.iter().map(|point| (point.x, point.y)), colour.stroke_width(2));
        match dashed {
            true => chart.draw_series(DashedLineSeries::new(places.clone(), 7, 5, style))?,
            false => chart.draw_series(LineSeries::new(places.clone(), style))?,
        };
        chart.draw_series(places.map(|place| Circle::new(place, 3, colour.filled())))?;
        let rounds = points.iter().map(|Point { x, ends, .. }| [(*x, ends.0), (*x, ends.1)]);
        chart.draw_series(rounds.map(|ends| PathElement::new(ends, colour.stroke_width(1))))?;
    }
    let columns = legend_columns(series) as i32;
    for (number, Series { name, colour, dashed, .. }) in (0i32..).zip(series) {
        let (left, middle) = (70 + number % columns * 350, number / columns * LEGEND_ROW as i32 + 10);
        let ends = if *dashed { vec![(0, 10), (16, 26)] } else { vec![(0, 26)] };
        for (from, to) in ends {
            legend.draw(&PathElement::new([(left + from, middle), (left + to, middle)], colour.stroke_width(3)))?;
        }
        legend.draw(&Text::new(name.clone(), (left + 34, middle - 6), (FONT, 13)))?;
    }
    Ok(area.present()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_points_its_axes_and_a_whole_legend() {
        let points = [(1.0, 0.0), (512.0, 1000.0)].map(|(x, y)| Point { x, y, ends: (y, y) }).to_vec();
        let series = ["A & B", "a name that is rather long: pgbench, version and retry"].map(|name| Series {
            name: name.into(),
            colour: BLACK,
            dashed: true,
            points: points.clone(),
        });
        let (x, y) = (Axis { name: "callers", kind: Kind::Log }, Axis { name: "a second", kind: Kind::Linear });
        let svg = lines("title", x, y, &series).expect("it can be drawn");
        for text in ["A &amp; B", "version and retry", "callers", "a second", "512", "1,000", "title"] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_long_name_has_a_row_of_the_legend_for_itself() {
        let named = |name: &str| Series { name: name.into(), colour: BLACK, dashed: false, points: Vec::new() };
        assert_eq!(legend_columns(&[named("COALESCED, p99"), named("PESSIMISTIC, p50")]), 2);
        assert_eq!(legend_columns(&[named("COALESCED"), named("pgbench, plain transaction, one client: mean")]), 1);
    }

    #[test]
    fn bars_have_their_names_and_numbers_and_stay_inside() {
        let bar = |y| Bar {
            name: format!("bar of {y}"),
            colour: BLACK,
            point: Point { x: 64.0, y, ends: (y / 2.0, y * 1.5) },
        };
        let svg = bars("title", "a second", &[bar(0.0), bar(1000.0)]).expect("they can be drawn");
        for text in ["title (a second)", "bar of 0", "bar of 1000", "1,000"] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
        let widths = svg.split(" width=\"").skip(1).filter_map(|rest| rest.split('"').next()?.parse::<u32>().ok());
        assert!(widths.max() <= Some(WIDTH) && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn an_axis_without_values_or_with_one_can_still_be_drawn() {
        for kind in [Kind::Linear, Kind::Log, Kind::Nines] {
            for values in [vec![], vec![7.0], vec![0.0]] {
                let scale = Scale::new(kind, values.clone().into_iter());
                assert!(scale.ends.0 < scale.ends.1 && scale.ticks.len() < 20, "{kind:?} of {values:?}");
                assert!((0..=100).contains(&scale.map(&7.0, (0, 100))));
            }
        }
    }

    #[test]
    fn each_doubling_and_each_nine_takes_the_same_room() {
        for (kind, values) in [(Kind::Log, [1.0, 10.0, 100.0]), (Kind::Nines, [0.0, 90.0, 99.0])] {
            let scale = Scale::new(kind, values.into_iter());
            let [low, middle, high] = values.map(|value| scale.map(&value, (0, 1000)));
            assert!(((high - middle) - (middle - low)).abs() <= 1, "{kind:?}: {low}, {middle}, {high}");
        }
    }

    #[test]
    fn ticks_are_written_without_needless_digits() {
        for (kind, value, text) in [
            (Kind::Linear, 0.2 + 0.1, "0.3"),
            (Kind::Log, 0.5, "0.5"),
            (Kind::Log, 15_000.0, "15,000"),
            (Kind::Nines, 99.9, "p99.9"),
            (Kind::Nines, 0.0, "min"),
        ] {
            assert_eq!(Scale::new(kind, [value].into_iter()).format_ext(&value), text);
        }
    }
}
