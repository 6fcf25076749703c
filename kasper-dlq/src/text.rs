//! Text for a terminal: one that letters cannot take over, in columns, and shortened.

use std::fmt::Write as _;

/// Letters hold what others wrote: line breaks, and characters that a terminal would obey.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if is_command(c) => {
                let _infallible = write!(line, "{}", c.escape_default());
            }
            c => line.push(c),
        }
    }
    line
}

/// Control characters, and those that turn the direction of writing.
pub(crate) fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cut where it is too long, marked.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// A number and what it counts: `1 letter`, `2 letters`.
pub(crate) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Rows with columns as wide as the widest cell; the columns in `right` end at the same place.
pub(crate) fn table(rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells =
            row.iter().zip(widths.iter().copied()).enumerate().map(|(column, (cell, width))| {
                if right.contains(&column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[allow(clippy::print_stderr, reason = "what it tells people, beside its output")]
pub(crate) fn complain(text: &str) {
    eprintln!("kasper-dlq: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_cannot_take_over_the_terminal() {
        assert_eq!(one_line("a\nb\u{1b}[2Jc\u{202e}"), "a\\nb\\u{1b}[2Jc\\u{202e}");
        assert_eq!(one_line("größer 大"), "größer 大");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let lines = table(&[row(["NAME", "N", "WHAT"]), row(["é", "100", ""])], &[1]);
        assert_eq!(lines, ["NAME    N  WHAT", "é     100"]);
    }

    #[test]
    fn text_is_cut_and_counted() {
        assert_eq!((cut("größe", 5).as_str(), cut("größer", 5).as_str()), ("größe", "größ…"));
        assert_eq!(
            (count(1, "letter"), count(0, "letter")),
            ("1 letter".into(), "0 letters".into())
        );
    }
}
