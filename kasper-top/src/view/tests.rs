//! What is seen, on a terminal in memory.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::fetch::Answer;
use crate::keys::Choice;
use crate::model::tests::{model, partition, status};
use crate::screen::draw;

/// What stands on a terminal of this size.
fn seen(model: &Model, choice: &mut Choice, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut page = 0;
    terminal.draw(|frame| page = draw(frame, model, choice)).unwrap();
    assert_eq!(page, usize::from(height) - 1);
    let buffer = terminal.backend().buffer().clone();
    let cells = buffer.content().chunks(usize::from(width));
    cells.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect()).collect()
}

/// Three partitions of a processor, of which one is stalled; and a process that does not answer.
fn troubled() -> Model {
    let mut model = model(2);
    let mut stalled = partition(2, 5);
    stalled.stalled = true;
    let partitions = vec![partition(0, 1234), partition(1, 70), stalled];
    for _ in 0..2 {
        let result = Ok(status("count-orders", partitions.clone()));
        model.note(Answer { process: 0, result });
    }
    model.note(Answer { process: 1, result: Err("connection refused".into()) });
    model
}

#[track_caller]
fn has(lines: &[String], parts: &[&str]) {
    let found = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found, "{parts:?} is not in one line of\n{}", lines.join("\n"));
}

#[test]
fn a_small_terminal_shows_what_matters() {
    let lines = seen(&troubled(), &mut Choice::default(), 80, 24);
    has(&lines, &["2 processes", "lag 1,309", "50.0/s", "1 UNREACHABLE"]);
    has(&lines, &["host-0:9400"]);
    has(&lines, &["count-orders", "running", "1 STALLED", "lag 1,309", "123,456 messages"]);
    has(&lines, &["orders 2", "STALLED", "5", "12.5", "1.5 s"]);
    has(&lines, &["host-1:9400", "UNREACHABLE for 0.0 s: connection refused"]);
    has(&lines, &["sort: lag", "?: help"]);
    assert!(!lines.iter().any(|line| line.contains("next")), "there is no room for offsets");
}

#[test]
fn a_large_terminal_shows_offsets() {
    let lines = seen(&troubled(), &mut Choice::default(), 120, 40);
    has(&lines, &["partition", "next", "end", "in flight"]);
    has(&lines, &["orders 0", "running", "1,234", "1000", "2234"]);
    has(&lines, &["rate", "██", "lag", "██"]);
}

/// Nothing panics, whatever the size.
#[test]
fn any_size_will_do() {
    for (width, height) in [(1, 1), (10, 2), (30, 5), (79, 10), (500, 3)] {
        seen(&troubled(), &mut Choice::default(), width, height);
    }
}

fn order(sort: Sort) -> Vec<String> {
    let mut model = model(1);
    let mut partitions = vec![partition(0, 10), partition(1, 30), partition(2, 20)];
    partitions[2].rate = Some(99.0);
    let result = Ok(status("count", partitions));
    model.note(Answer { process: 0, result });
    let lines = lines(&model, &View { width: 80, sort, ..View::default() });
    let lines = lines.iter().map(ToString::to_string);
    let rows = lines.filter(|line| line.starts_with("    orders"));
    rows.map(|line| line.trim_start()[..8].to_owned()).collect()
}

#[test]
fn partitions_are_sorted_and_the_stalled_come_first() {
    assert_eq!(order(Sort::Lag), ["orders 1", "orders 2", "orders 0"]);
    assert_eq!(order(Sort::Rate), ["orders 2", "orders 0", "orders 1"]);
    assert_eq!(order(Sort::Name), ["orders 0", "orders 1", "orders 2"]);
    let lines = seen(&troubled(), &mut Choice::default(), 80, 24);
    let stalled = lines.iter().position(|line| line.contains("orders 2")).unwrap();
    let most = lines.iter().position(|line| line.contains("orders 0")).unwrap();
    assert!(stalled < most);
}

#[test]
fn a_filter_leaves_what_has_it_in_its_name() {
    let model = troubled();
    let rows = |filter: &str| {
        let view = View { width: 80, filter: filter.into(), ..View::default() };
        let lines = lines(&model, &view);
        lines.iter().filter(|line| line.to_string().starts_with("    orders")).count()
    };
    assert_eq!(rows("orders 1"), 1);
    assert_eq!(rows("count"), 3, "of the processor's name: all of its partitions");
    assert_eq!(rows("nothing"), 0);
}

#[test]
fn scrolling_ends_with_the_last_line() {
    let model = troubled();
    let mut choice = Choice { top: usize::MAX, ..Choice::default() };
    let lines = seen(&model, &mut choice, 80, 5);
    has(&lines, &["host-1:9400"]);
    assert!(choice.top < 20);
    let mut choice = Choice { help: true, ..Choice::default() };
    has(&seen(&model, &mut choice, 80, 24), &["sort by lag, rate, name"]);
}

#[test]
fn what_a_terminal_would_obey_is_shown_as_text() {
    let mut model = model(1);
    let mut evil = status("evil\u{1b}[2J", vec![partition(0, 1)]);
    evil.processors[0].failure = Some("first\nsecond\u{7}".into());
    let (topic, change) = ("orders\u{7}".into(), "deleted".into());
    evil.processors[0].topics = vec![Topic { topic, change, message: "it is\ngone".into() }];
    model.note(Answer { process: 0, result: Ok(evil) });
    let text: String = lines(&model, &View::default()).iter().map(ToString::to_string).collect();
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(text.contains("FAILED: first\\nsecond\\u{7}"), "{text}");
    assert!(text.contains("TOPIC orders\\u{7} deleted: it is\\ngone"), "{text}");
}

#[test]
fn numbers_are_readable() {
    assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!([0.0, 12.34, 12_345.6].map(number), ["0.0", "12.3", "12,346"]);
    assert_eq!(
        [0, 59_900, 61_000, 7_200_000].map(milliseconds),
        ["0.0 s", "59.9 s", "1 min", "2 h"]
    );
    assert_eq!(bars(&[0.0, 1.0, 50.0, 100.0], 10), " ▁▄█");
    assert_eq!(bars(&[1.0, 2.0, 4.0], 2), "▄█");
    assert_eq!(cut("abcdef", 4), "abc…");
}
