//! Where the text comes from, what a word is, and how the result looks.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use comfy_table::Table;
use kasper::BoxError;

use crate::common::print_table;

/// The most bytes of a word: stores have a limit for keys (Elasticsearch 512 bytes).
pub(crate) const LONGEST: usize = 256;

/// A line in lower case; what is not UTF-8 is replaced by a character that separates words.
pub(crate) fn lower_case(line: &[u8]) -> String {
    String::from_utf8_lossy(line).to_lowercase()
}

/// Runs of letters, digits and apostrophes. Of a run longer than [`LONGEST`] the beginning is the word.
pub(crate) fn words(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| !(c.is_alphanumeric() || c == '\''));
    let words = words.map(|word| word.trim_matches('\'')).filter(|word| !word.is_empty());
    words.map(|word| &word[..word.floor_char_boundary(LONGEST)])
}

/// How often each word is in these lines.
pub(crate) fn count_words(lines: impl IntoIterator<Item = String>) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    for line in lines {
        for word in words(&line.to_lowercase()) {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(counts.insert(word.to_owned(), 1)),
            }
        }
    }
    counts
}

/// A file or standard input.
pub(crate) enum Source {
    File(PathBuf),
    Stdin,
}

impl Source {
    pub(crate) fn lines(&self) -> Result<Box<dyn Iterator<Item = io::Result<String>>>, BoxError> {
        let reader: Box<dyn BufRead> = match self {
            Self::Stdin => Box::new(BufReader::new(io::stdin())),
            Self::File(path) => match File::open(path) {
                Ok(file) => Box::new(BufReader::new(file)),
                Err(error) => return Err(format!("{}: {error}", path.display()).into()),
            },
        };
        let lines = reader.split(b'\n');
        Ok(Box::new(lines.map(|line| line.map(|line| String::from_utf8_lossy(&line).into_owned()))))
    }
}

/// What `--input` names; this repository's Markdown and Rust files where it names nothing.
pub(crate) fn sources(input: &[String]) -> Result<Vec<Source>, BoxError> {
    if input.is_empty() {
        let mut files = Vec::new();
        collect(Path::new(env!("CARGO_MANIFEST_DIR")), &mut files)?;
        files.sort();
        return Ok(files.into_iter().map(Source::File).collect());
    }
    let source = |name: &String| match name.as_str() {
        "-" => Source::Stdin,
        path => Source::File(path.into()),
    };
    Ok(input.iter().map(source).collect())
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let unreadable = |error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
    };
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, files)?;
        } else if name.ends_with(".md") || name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The most frequent words, and the totals.
pub(crate) fn print_totals(counts: &HashMap<String, u64>, top: usize) {
    let mut ranked: Vec<_> = counts.iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let mut table = Table::new();
    table.set_header(["word", "count"]);
    for (word, count) in ranked.iter().take(top) {
        table.add_row([word.to_string(), count.to_string()]);
    }
    print_table(table);
    let total: u64 = counts.values().sum();
    println!("{total} words, {} different", counts.len());
}
