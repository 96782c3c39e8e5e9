//! Cost against size, as SVG: both axes logarithmic, a line for each contender.

use bench_rounds::{Outcome, Spread};

use crate::markdown::figures;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 440.0;
/// Around the lines: for the numbers on the left and below, and the names on the right.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 350.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 50.0;

/// Ours first, in black; colours that those tell apart who see fewer of them (Okabe and Ito), and
/// then the same with dashes.
const COLOURS: [&str; 8] = [
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#d55e00", "#0072b2", "#cc79a7", "#b8a800",
];

/// What a contender cost at each size.
struct Line<'a> {
    title: &'a str,
    points: Vec<(f64, f64)>,
}

/// The plots that these outcomes are points of: a name and the SVG, each.
pub fn of(outcomes: &[Outcome]) -> Vec<(String, String)> {
    let mut names: Vec<&str> = Vec::new();
    for point in outcomes.iter().filter_map(|it| it.point.as_ref()) {
        if !names.contains(&&*point.plot) {
            names.push(&point.plot);
        }
    }
    let plots = names.into_iter().filter_map(|name| {
        let points: Vec<&Outcome> = outcomes
            .iter()
            .filter(|it| it.point.as_ref().is_some_and(|at| at.plot == name))
            .collect();
        // One point makes no line.
        (points.len() > 1).then(|| (name.to_owned(), plot(&points)))
    });
    plots.collect()
}

fn plot(outcomes: &[&Outcome]) -> String {
    let lines: Vec<Line<'_>> = outcomes[0]
        .contenders
        .iter()
        .enumerate()
        .map(|(index, contender)| Line {
            title: &contender.title,
            points: outcomes.iter().filter_map(|it| point(it, index)).collect(),
        })
        .collect();
    let all = || lines.iter().flat_map(|line| &line.points);
    let x = Axis::over(all().map(|point| point.0), LEFT, WIDTH - RIGHT);
    let y = Axis::over(all().map(|point| point.1), HEIGHT - BOTTOM, TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    svg += &grid(&x, &y);
    let (axis, unit) = (
        outcomes[0].point.as_ref().map_or("", |point| &*point.axis),
        &outcomes[0].unit,
    );
    svg += &format!(
        "<text x=\"{LEFT}\" y=\"18\">{}</text>\n<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
        escaped(unit),
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 12.0,
        escaped(axis),
    );
    svg += &drawn(&lines, &x, &y);
    svg + "</svg>\n"
}

fn point(outcome: &Outcome, index: usize) -> Option<(f64, f64)> {
    let contender = &outcome.contenders[index];
    let spread = Spread::of(contender.costs.iter().copied())?;
    Some((outcome.point.as_ref()?.at, spread.median))
}

/// The lines, and their names where they end, the dearest above.
fn drawn(lines: &[Line<'_>], x: &Axis, y: &Axis) -> String {
    let mut svg = String::new();
    let mut names: Vec<(f64, usize)> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(last) = line.points.last() else {
            continue;
        };
        names.push((y.at(last.1), index));
        let style = style(index);
        let path: Vec<String> = line
            .points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x.at(point.0), y.at(point.1)))
            .collect();
        svg += &format!(
            "<polyline points=\"{}\" fill=\"none\" {style}/>\n",
            path.join(" ")
        );
        for point in &line.points {
            svg += &format!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"{}\"/>\n",
                x.at(point.0),
                y.at(point.1),
                COLOURS[index % COLOURS.len()],
            );
        }
    }
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (place, (_, index)) in names.iter().enumerate() {
        let (left, line) = (WIDTH - RIGHT + 18.0, TOP + 10.0 + 19.0 * place as f64);
        svg += &format!(
            "<line x1=\"{left}\" y1=\"{line}\" x2=\"{}\" y2=\"{line}\" {}/>\n<text x=\"{}\" y=\"{}\">{}</text>\n",
            left + 24.0,
            style(*index),
            left + 30.0,
            line + 4.0,
            escaped(lines[*index].title),
        );
    }
    svg
}

fn style(index: usize) -> String {
    let width = if index == 0 { 3.0 } else { 1.5 };
    let dashes = if index >= COLOURS.len() {
        " stroke-dasharray=\"5 3\""
    } else {
        ""
    };
    format!(
        "stroke=\"{}\" stroke-width=\"{width}\"{dashes}",
        COLOURS[index % COLOURS.len()]
    )
}

/// A line at each power of ten, and on the axis of the costs at its double and its fivefold.
fn grid(x: &Axis, y: &Axis) -> String {
    let mut svg = String::new();
    for value in x.marks(&[1.0]) {
        let at = x.at(value);
        svg += &format!(
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 16.0,
            thousands(value),
        );
    }
    for value in y.marks(&[1.0, 2.0, 5.0]) {
        let at = y.at(value);
        svg += &format!(
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            if value < 1.0 {
                format!("{value:.1}")
            } else {
                figures(value)
            },
        );
    }
    svg
}

fn thousands(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.0} million", value / 1e6),
        value if value >= 1e3 => format!("{:.0},000", value / 1e3),
        value => format!("{value:.0}"),
    }
}

/// A logarithmic one: values from one end of a stretch of the picture to the other.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let logs: Vec<f64> = values.map(f64::log10).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // A little room, so that nothing lies on the edge, and that one value is a stretch.
        let room = ((high - low) * 0.03).max(0.02);
        Self {
            low: low - room,
            high: high + room,
            from,
            to,
        }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value.log10() - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The multiples of powers of ten within it.
    fn marks(&self, multiples: &[f64]) -> Vec<f64> {
        let powers = self.low.floor() as i32..=self.high.ceil() as i32;
        powers
            .flat_map(|power| {
                multiples
                    .iter()
                    .map(move |multiple| multiple * 10f64.powi(power))
            })
            .filter(|value| (self.low..=self.high).contains(&value.log10()))
            .collect()
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
