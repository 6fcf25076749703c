//! Figures as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::measure::Spread;

/// The first cell to the left, the others to the right of their columns.
pub(crate) fn line(text: &mut String, cells: &[&str], widths: &[usize]) {
    let mut row = String::new();
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let _infallible = match index {
            0 => write!(row, "{cell:<width$}"),
            _ => write!(row, "{cell:>width$}"),
        };
    }
    text.push_str(row.trim_end());
    text.push('\n');
}

pub(crate) fn range(spread: Spread, format: impl Fn(f64) -> String) -> String {
    format!("{} [{}–{}]", format(spread.median), format(spread.min), format(spread.max))
}

/// Marked where it misses its bar.
pub(crate) fn ratio(spread: Option<Spread>, misses: bool) -> String {
    let mark = if misses { "!" } else { "" };
    spread.map_or(String::new(), |spread| format!("{}{mark}", range(spread, decimals)))
}

/// Three significant digits or more.
pub(crate) fn decimals(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `pass` or `miss`, nothing where no bar is set.
pub(crate) fn verdict(bars: &[(&'static str, bool)]) -> &'static str {
    match bars.iter().all(|(_, met)| *met) {
        _ if bars.is_empty() => "",
        true => "pass",
        false => "miss",
    }
}

/// The median under the figure's name, least and most under `{name}_range`.
pub(crate) fn put(entry: &mut Value, name: &str, spread: Option<Spread>) {
    entry[name] = json!(spread.map(|spread| spread.median));
    if let Some(Spread { min, max, .. }) = spread {
        entry[format!("{name}_range")] = json!([min, max]);
    }
}

pub(crate) fn put_bars(entry: &mut Value, bars: &[(&'static str, bool)]) {
    let bars = bars.iter().map(|(name, met)| ((*name).to_owned(), json!(met)));
    entry["bars"] = Value::Object(bars.collect());
}
