//! What keys do.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::view::View;

/// What the person at the keyboard has chosen.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) view: View,
    /// The first line that is shown.
    pub(crate) top: usize,
    pub(crate) help: bool,
    /// The filter is being typed.
    pub(crate) typing: bool,
    pub(crate) over: bool,
}

/// Lines of help: keys, and what they do.
pub(crate) const HELP: &[(&str, &str)] = &[
    ("q, Esc, Ctrl-C", "end"),
    ("j, k, arrows, PgUp, PgDn, Home, End", "scroll"),
    ("s", "sort by lag, rate, name"),
    ("/", "show only names that contain …; Enter keeps it, Esc drops it"),
    ("?", "this help"),
];

impl Choice {
    /// `page`: how many lines are seen at once.
    pub(crate) fn press(&mut self, key: KeyEvent, page: usize) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            self.over = true;
        } else if self.typing {
            self.type_filter(key.code);
        } else {
            self.command(key.code, page);
        }
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.view.filter.clear();
            }
            KeyCode::Backspace => {
                self.view.filter.pop();
            }
            KeyCode::Char(c) => {
                self.view.filter.push(c);
                self.top = 0;
            }
            _ => {}
        }
    }

    fn command(&mut self, code: KeyCode, page: usize) {
        match code {
            // Closes what is open first.
            KeyCode::Esc | KeyCode::Char('q') if self.help => self.help = false,
            KeyCode::Esc if !self.view.filter.is_empty() => self.view.filter.clear(),
            KeyCode::Esc | KeyCode::Char('q') => self.over = true,
            KeyCode::Char('?') => self.help = !self.help,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('s') => self.view.sort = self.view.sort.next(),
            KeyCode::Down | KeyCode::Char('j') => self.top = self.top.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.top = self.top.saturating_sub(1),
            KeyCode::PageDown => self.top = self.top.saturating_add(page),
            KeyCode::PageUp => self.top = self.top.saturating_sub(page),
            KeyCode::Home => self.top = 0,
            KeyCode::End => self.top = usize::MAX,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Sort;

    fn press(choice: &mut Choice, codes: &[KeyCode]) {
        codes.iter().for_each(|code| choice.press(KeyEvent::from(*code), 10));
    }

    #[test]
    fn keys_scroll_and_sort() {
        let mut choice = Choice::default();
        press(&mut choice, &[KeyCode::Up, KeyCode::Down, KeyCode::Char('j'), KeyCode::PageDown]);
        assert_eq!(choice.top, 12);
        press(&mut choice, &[KeyCode::Char('k'), KeyCode::PageUp]);
        assert_eq!(choice.top, 1);
        press(&mut choice, &[KeyCode::End, KeyCode::Down, KeyCode::Home]);
        assert_eq!(choice.top, 0);
        press(&mut choice, &[KeyCode::Char('s')]);
        assert_eq!(choice.view.sort, Sort::Rate);
        press(&mut choice, &[KeyCode::Char('s'), KeyCode::Char('s')]);
        assert_eq!(choice.view.sort, Sort::Lag);
    }

    #[test]
    fn a_filter_takes_the_letters_that_are_commands_else() {
        let mut choice = Choice::default();
        press(&mut choice, &[KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Char('s')]);
        assert!(!choice.over);
        press(&mut choice, &[KeyCode::Backspace, KeyCode::Enter, KeyCode::Char('s')]);
        assert_eq!((choice.view.filter.as_str(), choice.view.sort), ("q", Sort::Rate));
        press(&mut choice, &[KeyCode::Esc]);
        assert!(choice.view.filter.is_empty() && !choice.over);
        press(&mut choice, &[KeyCode::Char('?'), KeyCode::Esc]);
        assert!(!choice.help && !choice.over);
        press(&mut choice, &[KeyCode::Char('q')]);
        assert!(choice.over);
    }

    #[test]
    fn control_c_ends_it_also_while_typing() {
        let mut choice = Choice::default();
        press(&mut choice, &[KeyCode::Char('/')]);
        choice.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), 10);
        assert!(choice.over);
    }
}
