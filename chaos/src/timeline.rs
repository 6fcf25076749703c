//! The picture of a run: how far the workers were behind, and when which fault was done.

use std::fmt::Write as _;

use crate::args::{Fault, name_of};
use crate::report::Report;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 80.0;
const TOP: f64 = 40.0;
const HEIGHT: f64 = 240.0;
const BASE: f64 = TOP + HEIGHT;
const ROW: f64 = 16.0;

/// How times and counts become places.
struct Scale {
    /// The last moment, in milliseconds.
    end: f64,
    /// The most messages that the workers were behind.
    most: i64,
}

impl Scale {
    fn of(report: &Report) -> Self {
        let marks = report.faults.iter().map(|mark| mark.recovered.unwrap_or(mark.until));
        let last = marks.chain(report.samples.iter().map(|sample| sample.at)).max();
        let most = report.samples.iter().map(|sample| sample.behind).max();
        Self { end: last.unwrap_or(0).max(1000) as f64, most: most.unwrap_or(0).max(1) }
    }

    fn x(&self, at: u64) -> f64 {
        LEFT + WIDTH * at as f64 / self.end
    }

    fn y(&self, behind: i64) -> f64 {
        BASE - HEIGHT * behind as f64 / self.most as f64
    }
}

/// As SVG.
pub(crate) fn svg(report: &Report) -> String {
    let scale = Scale::of(report);
    let mut kinds: Vec<Fault> = report.faults.iter().map(|mark| mark.fault).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let (width, height) = (LEFT + WIDTH + 30.0, row(kinds.len()) + 4.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"13\">seed {}, {}: messages that are not committed yet, \
         and faults</text>\n",
        report.seed,
        name_of(&report.protocol),
    );
    faults(&mut svg, report, &scale, &kinds);
    let points = report.samples.iter();
    let points = points.map(|s| format!("{:.1},{:.1}", scale.x(s.at), scale.y(s.behind)));
    let points = points.collect::<Vec<_>>().join(" ");
    // Writing to a string cannot fail.
    let _ = write!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"#1f4e79\" stroke-width=\"1.5\"/>\n\
         <text x=\"2\" y=\"{:.1}\">{}</text>\n<text x=\"2\" y=\"{BASE:.1}\">0</text>\n",
        TOP + 8.0,
        scale.most,
    );
    for tenth in 0..=10_u32 {
        let at = LEFT + WIDTH * f64::from(tenth) / 10.0;
        let seconds = scale.end * f64::from(tenth) / 10_000.0;
        let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{:.1}\">{seconds:.0} s</text>", BASE + 16.0);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where the row of a kind of fault is.
fn row(index: usize) -> f64 {
    BASE + 40.0 + ROW * index as f64
}

/// Red while a fault is done, yellow until all partitions have caught up.
fn faults(svg: &mut String, report: &Report, scale: &Scale, kinds: &[Fault]) {
    for mark in &report.faults {
        let line = row(kinds.iter().position(|kind| *kind == mark.fault).unwrap_or(0));
        let (from, to) = (scale.x(mark.at), scale.x(mark.until));
        let width = (to - from).max(2.0);
        let recovered = mark.recovered.map_or(LEFT + WIDTH, |at| scale.x(at));
        let _ = write!(
            svg,
            "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"#fbe3dc\"/>\n\
             <rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"8\" fill=\"#c0392b\"/>\n\
             <rect x=\"{to:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"4\" fill=\"#e9b44c\"/>\n",
            line - 8.0,
            line - 6.0,
            (recovered - to).max(0.0),
        );
    }
    for (index, kind) in kinds.iter().enumerate() {
        let (line, name) = (row(index), name_of(kind));
        let _ = writeln!(svg, "<text x=\"2\" y=\"{line:.1}\" font-size=\"10\">{name}</text>");
    }
}
