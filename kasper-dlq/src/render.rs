//! Keys, values and headers for people: JSON is indented, other text is shown as it is, the rest as a hex dump.

use std::fmt::Write as _;

use serde::de::IgnoredAny;

use crate::text::is_command;

/// The most that is shown by default of text, and of a hex dump.
const MOST_TEXT: usize = 64 << 10;
const MOST_HEX: usize = 1 << 10;

/// Bytes as they are shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// What they are, with their size: `JSON, 12 bytes`.
    pub(crate) what: String,
    pub(crate) lines: Vec<String>,
}

/// At most `limit` bytes of them are shown; by default as many as there is room for.
pub(crate) fn render(bytes: Option<&[u8]>, limit: Option<usize>) -> Rendered {
    let Some(bytes) = bytes else {
        return Rendered { what: "null".into(), lines: Vec::new() };
    };
    let size = bytes.len();
    let (kind, most, shown) = match printable(bytes) {
        Some(text) => render_text(text, limit.unwrap_or(MOST_TEXT)),
        None => {
            let most = limit.unwrap_or(MOST_HEX);
            ("binary", most, hex_dump(&bytes[..size.min(most)]))
        }
    };
    let unit = if size == 1 { "byte" } else { "bytes" };
    let part = if size > most { format!(", the first {most} of them") } else { String::new() };
    let comma = if kind.is_empty() { "" } else { ", " };
    Rendered { what: format!("{kind}{comma}{size} {unit}{part}"), lines: shown }
}

fn render_text(text: &str, most: usize) -> (&'static str, usize, Vec<String>) {
    let lines = |text: &str| text.lines().map(str::to_owned).collect();
    if text.is_empty() {
        return ("", most, Vec::new());
    }
    if text.len() <= most && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        return ("JSON", most, lines(&indented(text)));
    }
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    ("text", most, lines(&text[..end]))
}

/// The text, if a terminal can show it as it is.
pub(crate) fn printable(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_shown = |c| matches!(c, '\n' | '\r' | '\t') || !is_command(c);
    text.chars().all(is_shown).then_some(text)
}

/// JSON with each member on a line of its own. Names, numbers and strings stay as they were written: to read them into
/// numbers and to write them again would change some.
fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    let mut characters = json.chars().peekable();
    while let Some(c) = characters.next() {
        if in_string {
            out.push(c);
            in_string = is_escaped || c != '"';
            is_escaped = c == '\\' && !is_escaped;
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while characters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                match characters.next_if(|next| matches!(next, '}' | ']')) {
                    Some(close) => out.push(close),
                    None => {
                        depth += 1;
                        break_line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                break_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                break_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

fn break_line(out: &mut String, depth: usize) {
    out.push('\n');
    (0..depth).for_each(|_| out.push_str("  "));
}

/// Lines of 16 bytes: where, as numbers, as characters.
fn hex_dump(bytes: &[u8]) -> Vec<String> {
    let line = |(index, part): (usize, &[u8])| {
        let mut numbers = String::new();
        for (place, byte) in part.iter().enumerate() {
            let gap = if place == 8 { " " } else { "" };
            let _infallible = write!(numbers, "{gap}{byte:02x} ");
        }
        let show = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' };
        let characters: String = part.iter().map(show).collect();
        format!("{:08x}  {numbers:<50}|{characters}|", index * 16)
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(bytes: &[u8]) -> Rendered {
        render(Some(bytes), None)
    }

    #[test]
    fn json_is_indented_and_keeps_what_is_written() {
        let json = br#"{"b":1.0,"a":[1,{"x":null}],"big":12345678901234567890123, "s":"{,:\"}\\","e":{ },"f":[]}"#;
        let shown = rendered(json);
        assert_eq!(shown.what, format!("JSON, {} bytes", json.len()));
        let expected = r#"{
  "b": 1.0,
  "a": [
    1,
    {
      "x": null
    }
  ],
  "big": 12345678901234567890123,
  "s": "{,:\"}\\",
  "e": {},
  "f": []
}"#;
        assert_eq!(shown.lines.join("\n"), expected);
        assert_eq!(rendered(b"12").what, "JSON, 2 bytes");
    }

    #[test]
    fn text_is_shown_as_it_is() {
        let shown = rendered("größer\nals {".as_bytes());
        assert_eq!((shown.what.as_str(), shown.lines.len()), ("text, 14 bytes", 2));
        assert_eq!(rendered(b"x").what, "text, 1 byte");
        assert_eq!(rendered(b""), Rendered { what: "0 bytes".into(), lines: Vec::new() });
        assert_eq!(render(None, None), Rendered { what: "null".into(), lines: Vec::new() });
    }

    #[test]
    fn the_rest_is_a_hex_dump() {
        let shown = rendered(b"\x00\x01kasper-dlq\xff\xfe\x1b[m");
        assert_eq!(shown.what, "binary, 17 bytes");
        let expected = [
            "00000000  00 01 6b 61 73 70 65 72  2d 64 6c 71 ff fe 1b 5b  |..kasper-dlq...[|",
            "00000010  6d                                                |m|",
        ];
        assert_eq!(shown.lines, expected);
        // A terminal would obey it.
        assert!(rendered(b"a\x1b[2J").what.starts_with("binary"));
        assert!(rendered("a\u{202e}b".as_bytes()).what.starts_with("binary"));
    }

    #[test]
    fn what_is_too_long_is_cut_and_said_to_be() {
        let shown = render(Some("aaä".as_bytes()), Some(3));
        assert_eq!(shown.what, "text, 4 bytes, the first 3 of them");
        assert_eq!(shown.lines, ["aa"]);
        let shown = render(Some(br#"{"a":1}"#), Some(3));
        assert_eq!(shown.lines, [r#"{"a"#]);
        let shown = render(Some(&[0; 5000]), None);
        assert_eq!(shown.what, "binary, 5000 bytes, the first 1024 of them");
        assert_eq!(shown.lines.len(), 64);
    }
}
