//! Plots as SVG, written by hand: lines over a number of callers or over percentiles, and bars.

use std::fmt::Write as _;

use super::{
    scale::{Kind, Scale},
    text::{escaped, number, percentile},
};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 52.0;
/// The height of a bar with its gap.
const BAR: f64 = 34.0;
/// Room for the names of bars.
const NAMES: f64 = 230.0;

/// One line of a plot.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its colour.
    pub colour: &'static str,
    /// Whether it is dashed.
    pub dashed: bool,
    /// Its points, by x.
    pub points: Vec<Point>,
}

/// A point, and how far the rounds were apart.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Across.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// The lowest and the highest of the rounds.
    pub ends: (f64, f64),
}

/// An axis: what it shows, and how.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// What it shows.
    pub name: &'static str,
    /// How.
    pub kind: Kind,
}

/// Lines with a legend. Each point tells its numbers when pointed at.
pub fn lines(x: Axis, y: Axis, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|series| &series.points);
    let across = Scale::for_values(x.kind, points().map(|point| point.x), (LEFT + 12.0, WIDTH - RIGHT - 12.0));
    let values = points().flat_map(|point| [point.y, point.ends.0, point.ends.1]);
    let up = Scale::for_values(y.kind, values, (HEIGHT - BOTTOM, TOP));

    let mut svg = open(WIDTH, HEIGHT, &format!("{} by {}", y.name, x.name));
    for tick in up.ticks() {
        let place = up.place(tick);
        line(&mut svg, "grid", (LEFT, place), (WIDTH - RIGHT, place));
        text(&mut svg, "tick end", (LEFT - 8.0, place + 4.0), &number_of_tick(tick));
    }
    let mut ticks = match x.kind {
        Kind::Nines => across.ticks(),
        Kind::Linear | Kind::Log => points().map(|point| point.x).collect(),
    };
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let mut free_from = f64::NEG_INFINITY;
    for tick in ticks {
        let place = across.place(tick);
        line(&mut svg, "grid", (place, HEIGHT - BOTTOM), (place, HEIGHT - BOTTOM + 5.0));
        let name = if x.kind == Kind::Nines { percentile(tick) } else { number_of_tick(tick) };
        // Names that would touch each other are left out.
        if place >= free_from {
            text(&mut svg, "tick middle", (place, HEIGHT - BOTTOM + 19.0), &name);
            free_from = place + 12.0 + 7.0 * name.len() as f64;
        }
    }
    line(&mut svg, "axis", (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM));
    text(&mut svg, "name middle", (f64::midpoint(LEFT, WIDTH - RIGHT), HEIGHT - 12.0), x.name);
    let (place, middle) = (16.0, f64::midpoint(TOP, HEIGHT - BOTTOM));
    let _ = write!(
        svg,
        r#"<text class="name middle" transform="translate({place} {middle}) rotate(-90)">{}</text>"#,
        escaped(y.name)
    );
    for series in series {
        one_line(&mut svg, series, x, &across, &up);
    }
    svg.push_str("</svg>");
    svg + &legend(series)
}

fn one_line(svg: &mut String, series: &Series, x: Axis, across: &Scale, up: &Scale) {
    let Series { name, colour, dashed, points } = series;
    let path: Vec<String> =
        points.iter().map(|point| format!("{:.1},{:.1}", across.place(point.x), up.place(point.y))).collect();
    let dash = if *dashed { r#" stroke-dasharray="6 4""# } else { "" };
    let _ = write!(
        svg,
        r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2.2"{dash}/>"#,
        path.join(" ")
    );
    for Point { x: value, y, ends } in points {
        let (place, low, high) = (across.place(*value), up.place(ends.0), up.place(ends.1));
        if (low - high).abs() > 1.0 {
            let _ = write!(
                svg,
                r#"<line x1="{place:.1}" y1="{low:.1}" x2="{place:.1}" y2="{high:.1}" stroke="{colour}" stroke-width="1.2"/>"#
            );
        }
        let at =
            if x.kind == Kind::Nines { percentile(*value) } else { format!("{} {}", number_of_tick(*value), x.name) };
        let _ = write!(
            svg,
            r#"<circle cx="{place:.1}" cy="{:.1}" r="3.6" fill="{colour}"><title>{}, {}: {}</title></circle>"#,
            up.place(*y),
            escaped(name),
            escaped(&at),
            number(*y)
        );
    }
}

fn legend(series: &[Series]) -> String {
    let mut html = String::from(r#"<p class="legend">"#);
    for Series { name, colour, dashed, .. } in series {
        let style = if *dashed { "dashed" } else { "solid" };
        let _ = write!(html, r#"<span><i style="border-top:3px {style} {colour}"></i>{}</span> "#, escaped(name));
    }
    html + "</p>"
}

/// One bar: its name, its length, its colour, and what is written at its end.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it stands for.
    pub name: String,
    /// How long it is.
    pub value: f64,
    /// Its colour.
    pub colour: &'static str,
    /// What is written at its end.
    pub label: String,
}

/// Bars, one below the other.
pub fn bars(what: &str, bars: &[Bar]) -> String {
    let height = BAR * bars.len() as f64 + 8.0;
    let along = Scale::for_values(Kind::Linear, bars.iter().map(|bar| bar.value), (NAMES, WIDTH - 190.0));
    let mut svg = open(WIDTH, height, what);
    for (place, bar) in bars.iter().enumerate() {
        let top = BAR * place as f64 + 6.0;
        let end = along.place(bar.value);
        text(&mut svg, "tick end", (NAMES - 8.0, top + 17.0), &bar.name);
        let _ = write!(
            svg,
            r#"<rect x="{NAMES}" y="{top}" width="{:.1}" height="{}" rx="2" fill="{}"/>"#,
            (end - NAMES).max(1.0),
            BAR - 10.0,
            bar.colour
        );
        text(&mut svg, "tick", (end + 8.0, top + 17.0), &bar.label);
    }
    svg + "</svg>"
}

fn open(width: f64, height: f64, what: &str) -> String {
    format!(
        r#"<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{}" xmlns="http://www.w3.org/2000/svg">"#,
        escaped(what)
    )
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = write!(
        svg,
        r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, class: &str, (x, y): (f64, f64), text: &str) {
    let _ = write!(svg, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{}</text>"#, escaped(text));
}

/// 0.5, 20, 15,000: no more digits than it has.
fn number_of_tick(tick: f64) -> String {
    if tick != 0.0 && tick.abs() < 100.0 {
        // Nine digits are enough for every tick, and hide what floats add to them.
        let text = format!("{tick:.9}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    if tick == 0.0 { "0".into() } else { number(tick) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_points_where_its_scales_say() {
        let points = [(1.0, 0.0), (512.0, 1000.0)];
        let points = points.map(|(x, y)| Point { x, y, ends: (y, y) }).to_vec();
        let series = [Series { name: "A & B".into(), colour: "#123456", dashed: true, points }];
        let x = Axis { name: "callers", kind: Kind::Log };
        let svg = lines(x, Axis { name: "a second", kind: Kind::Linear }, &series);
        let left = LEFT + 12.0;
        let right = WIDTH - RIGHT - 12.0;
        let top = (HEIGHT - BOTTOM) - (HEIGHT - BOTTOM - TOP) / 1.05;
        let expected = format!("points=\"{left:.1},{:.1} {right:.1},{top:.1}\"", HEIGHT - BOTTOM);
        assert!(svg.contains(&expected), "{expected} is not in {svg}");
        assert!(svg.contains("A &amp; B, 512 callers: 1,000"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn ticks_are_written_without_needless_digits() {
        for (tick, text) in [(0.0, "0"), (0.5, "0.5"), (0.2 + 0.1, "0.3"), (20.0, "20"), (15_000.0, "15,000")] {
            assert_eq!(number_of_tick(tick), text);
        }
    }
}
