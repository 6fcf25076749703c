//! `show`: everything about single letters.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use kasper::OwnedMessage;

use crate::args::ShowArgs;
use crate::cluster::{Cluster, Extent};
use crate::connection::ConnectionArgs;
use crate::json::Whole;
use crate::letter::{Headers, Letter};
use crate::render::{Rendered, printable, render};
use crate::text::{complain, count, one_line};
use crate::time::Time;

/// Where a letter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    partition: i32,
    offset: i64,
}

impl Position {
    /// `3 17`, or `3:17` as often as wanted.
    pub(crate) fn parse_all(texts: &[String]) -> Result<Vec<Self>> {
        let numbers = |partition: &str, offset: &str| {
            let position =
                Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? };
            (position.partition >= 0 && position.offset >= 0).then_some(position)
        };
        if let [partition, offset] = texts
            && let Some(position) = numbers(partition, offset)
        {
            return Ok(vec![position]);
        }
        let parse = |text: &String| {
            let position = text.split_once(':').and_then(|(p, o)| numbers(p, o));
            position.with_context(|| {
                format!("`{text}` is not a position: write PARTITION:OFFSET, or PARTITION OFFSET for one letter")
            })
        };
        texts.iter().map(parse).collect()
    }
}

pub(crate) fn run(connection: &ConnectionArgs, args: &ShowArgs) -> Result<ExitCode> {
    let positions = args.parsed_positions()?;
    let cluster = Cluster::new(&connection.connection()?, None)?;
    let extents = cluster.extents(&args.topic)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut code = ExitCode::SUCCESS;
    for (index, position) in positions.iter().enumerate() {
        match find(&cluster, &args.topic, &extents, *position) {
            Ok(message) if args.json => {
                let letter = Letter::of(&message);
                serde_json::to_writer(&mut out, &Whole::of(&message, letter.as_ref()))?;
                writeln!(out)?;
            }
            Ok(message) => {
                if index > 0 {
                    writeln!(out)?;
                }
                print(&message, args.max_bytes.map(std::num::NonZero::get), &mut out)?;
            }
            Err(error) => {
                complain(&format!("{error:#}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    out.flush()?;
    Ok(code)
}

fn find(
    cluster: &Cluster,
    topic: &str,
    extents: &[Extent],
    Position { partition, offset }: Position,
) -> Result<OwnedMessage> {
    let Some(extent) = extents.iter().find(|extent| extent.partition == partition) else {
        bail!(
            "`{topic}` has no partition {partition}: it has {}",
            count(extents.len() as u64, "partition")
        );
    };
    if offset >= extent.end || offset < extent.start {
        let Extent { start, end, .. } = extent;
        bail!(
            "there is no offset {offset} in `{topic}`, partition {partition}: it has {start} to {}",
            end - 1
        );
    }
    let one = Extent { partition, start: offset, end: offset + 1 };
    let mut found = None;
    cluster.read(topic, &[one], |message| {
        found = Some(message);
        Ok(ControlFlow::Break(()))
    })?;
    found.with_context(|| {
        format!("there is no message at {partition}:{offset} in `{topic}`: compacted away, or a transaction's")
    })
}

fn print(message: &OwnedMessage, limit: Option<usize>, out: &mut impl Write) -> Result<()> {
    let letter = Letter::of(message);
    let (partition, offset) = (message.partition, message.offset);
    match &letter {
        Some(letter) => {
            writeln!(out, "Letter {partition}:{offset}")?;
            print_letter(letter, out)?;
            if letter.is_reference(message) {
                field(
                    "note",
                    "the share group has not copied the message: look it up at its source",
                    out,
                )?;
            }
        }
        None => writeln!(
            out,
            "Message {partition}:{offset}, not a letter: it has no header __dlq.errors.topic"
        )?,
    }
    let time =
        message.timestamp.map_or_else(|| "none".into(), |time| Time::from_millis(time).to_string());
    field("timestamp", &time, out)?;
    let block = letter.map_or(message.headers.len(), |letter| letter.block);
    let (own, about) = message.headers.split_at(block);
    print_headers(own, limit, out)?;
    if !about.is_empty() {
        writeln!(out, "  ({} about the error: see --json)", count(about.len() as u64, "header"))?;
    }
    print_bytes("Key", message.key.as_deref(), limit, out)?;
    print_bytes("Value", message.value.as_deref(), limit, out)
}

fn print_letter(letter: &Letter, out: &mut impl Write) -> Result<()> {
    let number = |number: Option<i64>| number.map_or_else(|| "unknown".into(), |n| n.to_string());
    let (partition, offset) = (number(letter.partition.map(i64::from)), number(letter.offset));
    let source = format!("{}, partition {partition}, offset {offset}", letter.topic);
    field("source", &source, out)?;
    let time = letter.time.map(|time| time.to_string());
    let attempts = letter.attempts.map(|attempts| attempts.to_string());
    for (name, text) in [
        ("processor", letter.processor.as_ref()),
        ("group", letter.group.as_ref()),
        ("failed at", time.as_ref()),
        ("kind", letter.kind.as_ref()),
        ("message", letter.message.as_ref()),
    ] {
        if let Some(text) = text {
            field(name, text, out)?;
        }
    }
    for (index, cause) in letter.causes.iter().enumerate() {
        field(if index == 0 { "causes" } else { "" }, cause, out)?;
    }
    if let Some(attempts) = attempts {
        field("attempts", &attempts, out)?;
    }
    field("replayed", &count(letter.replayed, "time"), out)
}

/// A text of several lines goes on below its first one.
fn field(name: &str, text: &str, out: &mut impl Write) -> Result<()> {
    let mut lines = text.lines().map(one_line);
    writeln!(out, "  {name:<10} {}", lines.next().unwrap_or_default())?;
    for line in lines {
        writeln!(out, "  {:<10} {line}", "")?;
    }
    Ok(())
}

fn print_headers(headers: &Headers, limit: Option<usize>, out: &mut impl Write) -> Result<()> {
    writeln!(out, "Headers: {}", headers.len())?;
    for (name, value) in headers {
        let name = one_line(name);
        let short = value.as_deref().and_then(printable).filter(|text| !text.contains('\n'));
        match (value, short) {
            (None, _) => writeln!(out, "  {name}: null")?,
            (_, Some(text)) if text.len() <= limit.unwrap_or(usize::MAX) => {
                writeln!(out, "  {name}: {text}")?;
            }
            (Some(value), _) => {
                let Rendered { what, lines } = render(Some(value), limit);
                writeln!(out, "  {name}: ({what})")?;
                lines.iter().try_for_each(|line| writeln!(out, "    {line}"))?;
            }
        }
    }
    Ok(())
}

fn print_bytes(
    name: &str,
    bytes: Option<&[u8]>,
    limit: Option<usize>,
    out: &mut impl Write,
) -> Result<()> {
    let Rendered { what, lines } = render(bytes, limit);
    writeln!(out, "{name}: {what}")?;
    lines.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter::tests::{BLOCK, message};

    fn parse(texts: &[&str]) -> Result<Vec<Position>> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Position::parse_all(&texts)
    }

    #[test]
    fn positions_are_read() {
        let at = |partition, offset| Position { partition, offset };
        assert_eq!(parse(&["3", "17"]).unwrap(), [at(3, 17)]);
        assert_eq!(parse(&["3:17"]).unwrap(), [at(3, 17)]);
        assert_eq!(parse(&["3:17", "0:5"]).unwrap(), [at(3, 17), at(0, 5)]);
        for wrong in [&["3"][..], &["3", "4", "5"], &["3:x"], &["-1:2"], &["3:17", "5"]] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("PARTITION:OFFSET"), "{error}");
        }
    }

    #[test]
    fn everything_of_a_letter_is_shown() {
        let mut message = message(&[&[("via", "web"), ("note", "")], BLOCK].concat());
        message.headers[1].1 = None;
        message.value = Some(br#"{"a":1}"#.to_vec());
        let mut out = Vec::new();
        print(&message, None, &mut out).unwrap();
        let expected = r#"Letter 0:17
  source     orders, partition 3, offset 1289
  processor  billing
  group      billing-group
  failed at  2026-12-01T03:33:22.123Z
  kind       process failed
  message    process failed: no such currency
  causes     no such currency
             XYZ
  attempts   2
  replayed   0 times
  timestamp  2023-11-14T22:13:20.000Z
Headers: 2
  via: web
  note: null
  (11 headers about the error: see --json)
Key: text, 3 bytes
  key
Value: JSON, 7 bytes
  {
    "a": 1
  }
"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_message_that_is_no_letter_is_shown_too() {
        let mut message = message(&[("raw", "")]);
        message.headers[0].1 = Some(vec![0xff]);
        message.key = None;
        let mut out = Vec::new();
        print(&message, None, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("Message 0:17, not a letter"), "{text}");
        assert!(text.contains("  raw: (binary, 1 byte)\n    00000000  ff "), "{text}");
        assert!(text.contains("Key: null\nValue: text, 5 bytes\n  value\n"), "{text}");
    }
}
