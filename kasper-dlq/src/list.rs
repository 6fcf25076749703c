//! `list`: counts letters, or lists them.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::Result;
use kasper::OwnedMessage;
use serde::Serialize;

use crate::args::ListArgs;
use crate::cluster::{Cluster, Extent};
use crate::connection::ConnectionArgs;
use crate::json::Entry;
use crate::letter::Letter;
use crate::text::{count, cut, one_line, table};
use crate::time::Time;

/// The most characters of a message in a line.
const MESSAGE: usize = 120;

pub(crate) fn run(connection: &ConnectionArgs, args: &ListArgs) -> Result<ExitCode> {
    let cluster = Cluster::new(&connection.connection()?, None)?;
    let mut extents = cluster.extents(&args.topic)?;
    extents.retain(|extent| args.filter.fits_partition(extent.partition));
    let mut out = BufWriter::new(io::stdout().lock());
    let counted = read(&cluster, &extents, args, &mut out)?;
    if !args.letters && args.json {
        serde_json::to_writer_pretty(&mut out, &counted.document(&args.topic))?;
        writeln!(out)?;
    } else if !args.letters {
        counted.print(&mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn read(
    cluster: &Cluster,
    extents: &[Extent],
    args: &ListArgs,
    out: &mut impl Write,
) -> Result<Counted> {
    let mut counted = Counted::default();
    cluster.read(&args.topic, extents, |message| {
        match Letter::of(&message) {
            None => counted.not_letters += 1,
            Some(letter) if !args.filter.fits(&message, &letter) => counted.filtered_out += 1,
            Some(letter) if args.letters => print_letter(&message, &letter, args.json, out)?,
            Some(letter) => counted.add(&letter),
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(counted)
}

fn print_letter(
    message: &OwnedMessage,
    letter: &Letter,
    as_json: bool,
    out: &mut impl Write,
) -> Result<()> {
    if as_json {
        serde_json::to_writer(&mut *out, &Entry::of(message, letter))?;
        writeln!(out)?;
        return Ok(());
    }
    let time = letter.time.map_or_else(|| "-".into(), |time| time.to_string());
    let said = one_line(letter.message.as_deref().unwrap_or("-"));
    writeln!(
        out,
        "{}:{}  {time}  {}  {}  {}",
        message.partition,
        message.offset,
        one_line(&letter.source().to_string()),
        one_line(letter.kind.as_deref().unwrap_or("-")),
        cut(&said, MESSAGE),
    )?;
    Ok(())
}

/// Source topic, kind of error, processor.
type Group = (String, Option<String>, Option<String>);

#[derive(Default)]
struct Counted {
    groups: BTreeMap<Group, Tally>,
    filtered_out: u64,
    not_letters: u64,
}

#[derive(Default)]
struct Tally {
    letters: u64,
    first: Option<Time>,
    last: Option<Time>,
}

impl Counted {
    fn add(&mut self, letter: &Letter) {
        let group = (letter.topic.clone(), letter.kind.clone(), letter.processor.clone());
        let tally = self.groups.entry(group).or_default();
        tally.letters += 1;
        let first = tally.first.into_iter().chain(letter.time).min();
        let last = tally.last.into_iter().chain(letter.time).max();
        (tally.first, tally.last) = (first, last);
    }

    fn letters(&self) -> u64 {
        self.groups.values().map(|tally| tally.letters).sum()
    }

    /// The largest group first.
    fn sorted(&self) -> Vec<(&Group, &Tally)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.letters));
        groups
    }

    fn print(&self, out: &mut impl Write) -> Result<()> {
        let heads = ["SOURCE TOPIC", "KIND", "PROCESSOR", "LETTERS", "FIRST ERROR", "LAST ERROR"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        let text = |text: Option<&String>| one_line(text.map_or("-", String::as_str));
        let time = |time: Option<Time>| time.map_or_else(|| "-".into(), |time| time.to_string());
        for ((topic, kind, processor), tally) in self.sorted() {
            rows.push(vec![
                one_line(topic),
                text(kind.as_ref()),
                text(processor.as_ref()),
                tally.letters.to_string(),
                time(tally.first),
                time(tally.last),
            ]);
        }
        if rows.len() > 1 {
            for line in table(&rows, &[3]) {
                writeln!(out, "{line}")?;
            }
        }
        write!(out, "{}", count(self.letters(), "letter"))?;
        for (number, what) in
            [(self.filtered_out, "filtered out"), (self.not_letters, "not letters")]
        {
            if number > 0 {
                write!(out, ", {number} {what}")?;
            }
        }
        writeln!(out)?;
        Ok(())
    }

    fn document<'a>(&'a self, topic: &'a str) -> Document<'a> {
        let row = |((source_topic, kind, processor), tally): (&'a Group, &Tally)| Row {
            source_topic,
            kind: kind.as_deref(),
            processor: processor.as_deref(),
            letters: tally.letters,
            first: tally.first.map(|time| time.to_string()),
            last: tally.last.map(|time| time.to_string()),
        };
        Document {
            topic,
            letters: self.letters(),
            filtered_out: self.filtered_out,
            not_letters: self.not_letters,
            groups: self.sorted().into_iter().map(row).collect(),
        }
    }
}

/// What `list --json` prints.
#[derive(Serialize)]
struct Document<'a> {
    topic: &'a str,
    letters: u64,
    filtered_out: u64,
    not_letters: u64,
    groups: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    source_topic: &'a str,
    kind: Option<&'a str>,
    processor: Option<&'a str>,
    letters: u64,
    first: Option<String>,
    last: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter::tests::{BLOCK, message};

    fn letter(topic: &str, time: Option<&str>) -> Letter {
        let letter = Letter::of(&message(BLOCK)).unwrap();
        Letter { topic: topic.into(), time: time.map(|time| time.parse().unwrap()), ..letter }
    }

    #[test]
    fn letters_are_counted_by_group_with_their_first_and_last_time() {
        let mut counted = Counted { not_letters: 1, ..Counted::default() };
        counted.add(&letter("a", None));
        for time in ["2026-12-01T02:00:00Z", "2026-12-01T01:00:00Z", "2026-12-01T03:00:00Z"] {
            counted.add(&letter("b", Some(time)));
        }
        let mut out = Vec::new();
        counted.print(&mut out).unwrap();
        let lines: Vec<String> =
            String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
        assert!(lines[0].starts_with("SOURCE TOPIC  KIND"), "{lines:?}");
        assert!(
            lines[1].starts_with("b ") && lines[1].contains("      3  2026-12-01T01:00:00.000Z")
        );
        assert!(lines[1].ends_with("2026-12-01T03:00:00.000Z") && lines[2].ends_with(" -"));
        assert_eq!(lines[3], "4 letters, 1 not letters");
        let json = serde_json::to_value(counted.document("dlq")).unwrap();
        assert_eq!(
            (&json["letters"], &json["groups"][0]["source_topic"]),
            (&4.into(), &"b".into())
        );
    }

    #[test]
    fn a_letter_is_one_line() {
        let mut message = message(BLOCK);
        message.headers[5].1 = Some(format!("a\n{}", "x".repeat(500)).into_bytes());
        let mut out = Vec::new();
        print_letter(&message, &Letter::of(&message).unwrap(), false, &mut out).unwrap();
        let line = String::from_utf8(out).unwrap();
        let start = "0:17  2026-12-01T03:33:22.123Z  orders/3@1289  process failed  a\\nxxx";
        assert!(line.starts_with(start) && line.ends_with("x…\n"), "{line}");
    }
}
