//! The runs as a picture: latency and store calls over time, a column for each store.

use std::fmt::Write as _;

use crate::case::Limits;
use crate::report::{Figures, Run};

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 220.0;
const MARGIN: f64 = 56.0;

/// A scale by powers of ten.
struct Scale {
    title: &'static str,
    least: f64,
    most: f64,
    value: fn(&Figures) -> f64,
}

const SCALES: [Scale; 2] = [
    Scale { title: "p99 until the commit, ms", least: 10.0, most: 10_000.0, value: |it| it.p99_ms },
    Scale {
        title: "store calls a second",
        least: 10.0,
        most: 10_000.0,
        value: |it| it.calls_per_second,
    },
];

const COLOURS: [&str; 6] = ["#888888", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#7f3fbf"];

pub(crate) fn svg(runs: &[Run]) -> String {
    let columns: Vec<&[Run]> = runs.chunk_by(|a, b| a.case.call == b.case.call).collect();
    let width = MARGIN + columns.len() as f64 * (WIDTH + MARGIN);
    let height = MARGIN + SCALES.len() as f64 * (HEIGHT + MARGIN) + 20.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (index, limits) in Limits::ALL.iter().enumerate() {
        let x = MARGIN + index as f64 * 130.0;
        let colour = COLOURS[index];
        let _infallible = writeln!(
            text,
            "<path d=\"M{x} 18h20\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"{}\" y=\"22\">{limits}</text>",
            x + 26.0
        );
    }
    for (column, runs) in columns.iter().enumerate() {
        for (row, scale) in SCALES.iter().enumerate() {
            let left = MARGIN + column as f64 * (WIDTH + MARGIN);
            let top = MARGIN + row as f64 * (HEIGHT + MARGIN);
            panel(&mut text, runs, scale, left, top);
        }
    }
    text.push_str("</svg>\n");
    text
}

fn panel(text: &mut String, runs: &[Run], scale: &Scale, left: f64, top: f64) {
    let windows = &runs[0].windows;
    let end = windows.last().map_or(1.0, |(at, _)| *at);
    let x = |seconds: f64| left + seconds / end * WIDTH;
    let share = |value: f64| (value / scale.least).log10() / (scale.most / scale.least).log10();
    let y = |value: f64| top + HEIGHT * (1.0 - share(value.clamp(scale.least, scale.most)));
    let mut put = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    let (call, title) = (runs[0].case.call, scale.title);
    let above = top - 8.0;
    put(format!("<text x=\"{left}\" y=\"{above}\">{title}; {call:?} a call</text>"));
    put(format!(
        "<rect x=\"{left}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#999\"/>"
    ));
    for power in 1..=4 {
        let (value, name) = (10_f64.powi(power), 10_u32.pow(power.unsigned_abs()));
        let (at, before) = (y(value), left - 6.0);
        put(format!("<path d=\"M{left} {at:.1}h{WIDTH}\" stroke=\"#ddd\"/>"));
        put(format!(
            "<text x=\"{before}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            at + 4.0
        ));
    }
    for part in windows.chunk_by(|(_, a), (_, b)| a.rate == b.rate) {
        let (at, bottom) = (x(part[0].0), top + HEIGHT);
        put(format!(
            "<path d=\"M{at:.1} {top}v{HEIGHT}\" stroke=\"#bbb\" stroke-dasharray=\"3\"/>"
        ));
        let (label, below) = (at + 3.0, bottom + 16.0);
        put(format!("<text x=\"{label:.1}\" y=\"{below}\">{} k/s</text>", part[0].1.rate / 1000));
    }
    for run in runs {
        let points = run.windows.iter().map(|(at, it)| (*at, (scale.value)(it)));
        let points = points.filter(|(_, value)| value.is_finite());
        let points: Vec<String> =
            points.map(|(at, value)| format!("{:.1},{:.1}", x(at), y(value))).collect();
        let index = Limits::ALL.iter().position(|limits| *limits == run.case.limits);
        let (points, colour) = (points.join(" "), COLOURS[index.unwrap_or_default()]);
        put(format!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        ));
    }
}
