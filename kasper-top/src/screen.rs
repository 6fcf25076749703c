//! The terminal: draws what there is, and listens to keys, until told to end.

use std::time::Duration;

use anyhow::Context as _;
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::Paragraph;
use tokio::sync::mpsc;
use tokio::time::interval;

use crate::fetch::Answer;
use crate::keys::{Choice, HELP};
use crate::model::Model;
use crate::view;

/// Ages grow without answers, too.
const REDRAW: Duration = Duration::from_secs(1);

/// Runs until the person ends it. The terminal is given back as it was, after a panic too.
pub(crate) async fn show(
    mut model: Model,
    mut answers: mpsc::Receiver<Answer>,
) -> anyhow::Result<()> {
    let mut terminal = ratatui::try_init().context("this is no terminal; --once needs none")?;
    let shown = async {
        let mut choice = Choice::default();
        let mut events = EventStream::new();
        let mut ticks = interval(REDRAW);
        while !choice.over {
            let mut page = 0;
            terminal.draw(|frame| page = draw(frame, &model, &mut choice))?;
            tokio::select! {
                _ = ticks.tick() => {}
                Some(answer) = answers.recv() => model.note(answer),
                event = events.next() => match event {
                    Some(Ok(Event::Key(key))) => choice.press(key, page),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
            }
        }
        Ok(())
    }
    .await;
    ratatui::try_restore().context("the terminal can't be given back as it was")?;
    shown.context("the terminal is gone")
}

/// Draws all of it; returns how many lines of the processes' there is room for.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model, choice: &mut Choice) -> usize {
    let areas = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).split(frame.area());
    let (body, foot) = (areas[0], areas[1]);
    choice.view.width = body.width;
    let lines = if choice.help { help() } else { view::lines(model, &choice.view) };
    let page = usize::from(body.height);
    choice.top = choice.top.min(lines.len().saturating_sub(page));
    let first = if choice.help { 0 } else { choice.top };
    let seen: Vec<Line<'_>> = lines.into_iter().skip(first).take(page).collect();
    frame.render_widget(Paragraph::new(Text::from(seen)), body);
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Paragraph::new(status_line(choice)).style(reversed), foot);
    page
}

fn status_line(choice: &Choice) -> String {
    let (view, mut text) = (&choice.view, String::from(" kasper-top"));
    if choice.typing {
        return format!(" filter: {}_", view.filter);
    }
    text.push_str(&format!("   sort: {}", view.sort.name()));
    if !view.filter.is_empty() {
        text.push_str(&format!("   filter: {}", view.filter));
    }
    text.push_str("   ?: help   q: end");
    text
}

fn help() -> Vec<Line<'static>> {
    HELP.iter().map(|(keys, what)| Line::from(format!("  {keys:<37} {what}"))).collect()
}
