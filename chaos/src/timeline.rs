//! The picture of a run: how far the workers were behind, and when which fault was done.

use std::fmt::Write as _;

use crate::args::name_of;
use crate::report::Report;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;
const HEIGHT: f64 = 240.0;
const ROW: f64 = 16.0;

/// As SVG.
pub(crate) fn svg(report: &Report) -> String {
    let until = report.faults.iter().filter_map(|mark| mark.recovered.or(Some(mark.until))).max();
    let last = report.samples.last().map_or(0, |sample| sample.at);
    let end = last.max(until.unwrap_or(0)).max(1000) as f64;
    let x = |at: u64| LEFT + WIDTH * at as f64 / end;
    let most = report.samples.iter().map(|sample| sample.behind).max().unwrap_or(0).max(1);
    let y = |behind: i64| TOP + HEIGHT * (1.0 - behind as f64 / most as f64);

    let mut kinds: Vec<_> = report.faults.iter().map(|mark| mark.fault).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let base = TOP + HEIGHT;
    let height = base + 40.0 + ROW * kinds.len() as f64 + 20.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{height:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"13\">seed {}, {}: messages that are not committed yet, and \
         faults</text>\n",
        LEFT + WIDTH + 20.0,
        report.seed,
        name_of(&report.protocol),
    );
    // Writing to a string cannot fail.
    for mark in &report.faults {
        let row = kinds.iter().position(|kind| *kind == mark.fault).unwrap_or(0);
        let (from, to) = (x(mark.at), x(mark.until));
        let line = base + 40.0 + ROW * row as f64;
        let recovered = x(mark.recovered.unwrap_or(last));
        let _ = write!(
            svg,
            "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{HEIGHT}\" fill=\"#fbe3dc\"/>\n\
             <rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"8\" fill=\"#c0392b\"/>\n\
             <rect x=\"{to:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"4\" fill=\"#e9b44c\"/>\n",
            (to - from).max(2.0),
            line - 8.0,
            (to - from).max(2.0),
            line - 6.0,
            (recovered - to).max(0.0),
        );
    }
    for (row, kind) in kinds.iter().enumerate() {
        let line = base + 40.0 + ROW * row as f64;
        let _ = writeln!(
            svg,
            "<text x=\"2\" y=\"{line:.1}\" font-size=\"10\">{}</text>",
            name_of(kind)
        );
    }
    let points = report.samples.iter().map(|s| format!("{:.1},{:.1}", x(s.at), y(s.behind)));
    let points = points.collect::<Vec<_>>().join(" ");
    let _ = write!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"#1f4e79\" stroke-width=\"1.5\"/>\n\
         <text x=\"2\" y=\"{:.1}\">{most}</text>\n<text x=\"2\" y=\"{base:.1}\">0</text>\n",
        TOP + 8.0,
    );
    for tenth in 0..=10_u32 {
        let at = LEFT + WIDTH * f64::from(tenth) / 10.0;
        let seconds = end * f64::from(tenth) / 10_000.0;
        let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{:.1}\">{seconds:.0} s</text>", base + 16.0);
    }
    svg.push_str("</svg>\n");
    svg
}
