//! Lines of text from the model. What is wrong is marked by a word, and by colour besides.

use std::fmt::Write as _;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use crate::model::{History, Model, Process};
use crate::status::{Partition, Processor, Retrying, Topic};

/// What is wanted of it.
#[derive(Debug, Default, Clone)]
pub(crate) struct View {
    pub(crate) width: u16,
    pub(crate) sort: Sort,
    /// Only partitions, or processors, whose names contain it.
    pub(crate) filter: String,
}

/// The order of partitions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    #[default]
    Lag,
    Rate,
    Name,
}

impl Sort {
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Lag => Self::Rate,
            Self::Rate => Self::Name,
            Self::Name => Self::Lag,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Rate => "rate",
            Self::Name => "name",
        }
    }
}

const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const GOOD: Style = Style::new().fg(Color::Green);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);

/// From here on there is room for offsets, and for bars.
const WIDE: u16 = 100;

/// What all processes say, from top to bottom.
pub(crate) fn lines(model: &Model, view: &View) -> Vec<Line<'static>> {
    let mut lines = vec![summary(model)];
    for process in &model.processes {
        lines.push(Line::default());
        of_process(process, view, &mut lines);
    }
    lines
}

fn summary(model: &Model) -> Line<'static> {
    let (lag, rate) = model.totals();
    let processes = model.processes.len();
    let plural = if processes == 1 { "process" } else { "processes" };
    let mut spans = vec![Span::raw(format!(
        "{processes} {plural}   lag {}   {}/s",
        grouped(lag),
        number(rate)
    ))];
    if model.unreachable() > 0 {
        spans.push(Span::styled(format!("   {} UNREACHABLE", model.unreachable()), BAD));
    }
    Line::from(spans)
}

fn of_process(process: &Process, view: &View, lines: &mut Vec<Line<'static>>) {
    let mut spans = vec![Span::styled(process.address.clone(), BOLD)];
    if let Some((why, silent)) = process.silence() {
        let text =
            format!("  UNREACHABLE for {}: {}", seconds(silent.as_secs_f64()), one_line(why));
        spans.push(Span::styled(text, BAD));
    } else if process.status.is_none() {
        spans.push(Span::styled("  asking", DIM));
    }
    lines.push(Line::from(spans));
    let Some(status) = &process.status else { return };
    if status.processors.is_empty() {
        lines.push(Line::styled("  no processors", DIM));
    }
    for (place, processor) in status.processors.iter().enumerate() {
        let of_name = processor.name.contains(&view.filter);
        let mut partitions: Vec<&Partition> = processor.partitions.iter().collect();
        partitions.retain(|partition| of_name || name(partition).contains(&view.filter));
        if of_name || !partitions.is_empty() {
            of_processor(processor, process.histories.get(&place), view, lines);
            sort(&mut partitions, view.sort);
            of_partitions(&partitions, view, lines);
        }
    }
}

fn of_processor(
    processor: &Processor,
    history: Option<&History>,
    view: &View,
    lines: &mut Vec<Line<'static>>,
) {
    let stalled = processor.partitions.iter().filter(|partition| partition.stalled).count();
    let mut spans = vec![Span::raw("  "), Span::styled(one_line(&processor.name), BOLD)];
    let state = if processor.paused { "paused".into() } else { one_line(&processor.state) };
    let style = if processor.ready { GOOD } else { Style::new() };
    spans.push(Span::styled(format!("  {state}"), style));
    if !processor.ready && processor.failure.is_none() {
        spans.push(Span::styled("  not ready", BAD));
    }
    if stalled > 0 {
        spans.push(Span::styled(format!("  {stalled} STALLED"), BAD));
    }
    let retrying = processor.partitions.iter().filter(|partition| partition.retrying.is_some());
    let retrying = retrying.count();
    if retrying > 0 {
        spans.push(Span::styled(format!("  {retrying} RETRYING"), BAD));
    }
    let held: u64 = processor.partitions.iter().map(|one| one.quarantined_keys).sum();
    if held > 0 {
        spans.push(Span::styled(format!("  {} KEYS HELD", grouped(held)), BAD));
    }
    spans.push(Span::raw(format!(
        "  lag {}  {}/s  {} messages",
        grouped(processor.lag),
        processor.rate.map_or_else(|| "-".into(), number),
        grouped(processor.messages)
    )));
    lines.push(Line::from(spans));
    if let Some(failure) = &processor.failure {
        lines.push(Line::styled(format!("  FAILED: {}", one_line(failure)), BAD));
    }
    for Topic { topic, change, message } in &processor.topics {
        let text =
            format!("  TOPIC {} {}: {}", one_line(topic), one_line(change), one_line(message));
        lines.push(Line::styled(text, BAD));
    }
    // One answer makes no history.
    if let Some(history) = history.filter(|history| history.rates.len() > 1) {
        let width = usize::from(view.width.min(130)).saturating_sub(16) / 2;
        let [rates, lags] = [&history.rates, &history.lags].map(|values| bars(values, width));
        lines.push(Line::styled(format!("  rate {rates}   lag {lags}"), DIM));
    }
}

fn of_partitions(partitions: &[&Partition], view: &View, lines: &mut Vec<Line<'static>>) {
    if partitions.is_empty() {
        return;
    }
    let longest = partitions.iter().map(|partition| name(partition).chars().count()).max();
    let width = longest.unwrap_or(0).clamp(9, if view.width >= WIDE { 60 } else { 28 });
    let wide = view.width >= WIDE;
    let offsets = if wide { format!(" {:>14} {:>14}", "next", "end") } else { String::new() };
    let head = format!(
        "    {:<width$} {:<9} {:>12} {:>10} {:>9}{offsets} {:>9}",
        "partition", "state", "lag", "rate/s", "progress", "in flight"
    );
    lines.push(Line::styled(head, DIM));
    for partition in partitions {
        let offsets = match wide {
            true => format!(" {:>14} {:>14}", partition.next_offset, partition.end_offset),
            false => String::new(),
        };
        let state = if partition.stalled { "STALLED".into() } else { one_line(&partition.state) };
        let text = format!(
            "    {:<width$} {state:<9} {:>12} {:>10} {:>9}{offsets} {:>9}",
            cut(&name(partition), width),
            grouped(partition.lag),
            partition.rate.map_or_else(|| "-".into(), number),
            milliseconds(partition.last_progress_ms),
            partition.in_flight
        );
        let bad = partition.stalled || partition.retrying.is_some() || partition.state == "failed";
        lines.push(Line::styled(text, if bad { BAD } else { Style::new() }));
        if let Some(Retrying { attempt, since_ms, error }) = &partition.retrying {
            let since = milliseconds(*since_ms);
            let text = format!("      attempt {attempt}, for {since}: {}", one_line(error));
            lines.push(Line::styled(text, BAD));
        } else if let Some(error) = &partition.last_error {
            lines.push(Line::styled(format!("      {}", one_line(error)), BAD));
        }
    }
}

fn name(partition: &Partition) -> String {
    format!("{} {}", one_line(&partition.topic), partition.partition)
}

/// What is wrong first, then as wanted, then by name.
fn sort(partitions: &mut [&Partition], sort: Sort) {
    partitions.sort_by(|a, b| {
        let by = match sort {
            Sort::Lag => b.lag.cmp(&a.lag),
            Sort::Rate => b.rate.unwrap_or(0.0).total_cmp(&a.rate.unwrap_or(0.0)),
            Sort::Name => std::cmp::Ordering::Equal,
        };
        let by_name = (&a.topic, a.partition).cmp(&(&b.topic, b.partition));
        let trouble = |one: &Partition| (one.stalled, one.retrying.is_some());
        trouble(b).cmp(&trouble(a)).then(by).then(by_name)
    });
}

/// The latest values as bars, the highest of them as a full one.
fn bars<'a>(values: impl IntoIterator<Item = &'a f64>, width: usize) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values: Vec<f64> = values.into_iter().copied().collect();
    let values = &values[values.len().saturating_sub(width)..];
    let most = values.iter().copied().fold(0.0, f64::max);
    let mut text = String::new();
    for value in values {
        let share = if most > 0.0 { value / most } else { 0.0 };
        // Something is never shown as nothing.
        let height = (1..BARS.len()).rev().find(|height| share * 8.0 > (*height - 1) as f64);
        text.push(BARS[height.unwrap_or(0)]);
    }
    text
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
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

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are far from the ends"
)]
fn number(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { grouped(rate.round() as u64) }
}

#[allow(clippy::cast_precision_loss, reason = "exact to a millisecond for 285,000 years")]
fn milliseconds(milliseconds: u64) -> String {
    seconds(milliseconds as f64 / 1000.0)
}

fn seconds(seconds: f64) -> String {
    match seconds {
        ..60.0 => format!("{seconds:.1} s"),
        ..3600.0 => format!("{:.0} min", (seconds / 60.0).floor()),
        _ => format!("{:.0} h", (seconds / 3600.0).floor()),
    }
}

/// Cut where it is too long, marked.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Errors may have line breaks, and what a terminal would obey.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        match c {
            c if c.is_control() => {
                let _infallible = write!(line, "{}", c.escape_default());
            }
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests;
