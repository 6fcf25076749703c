//! Where the text comes from, what a word is, and how the result looks.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use kasper::BoxError;

/// Lower-case runs of letters, digits and apostrophes; what is not UTF-8 separates words.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(line).to_lowercase();
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '\''));
    let words: Vec<_> = words.map(|word| word.trim_matches('\'').to_owned()).collect();
    words.into_iter().filter(|word| !word.is_empty())
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
    for entry in fs::read_dir(directory)? {
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
pub(crate) fn print_table(counts: &HashMap<String, u64>, top: usize) {
    let mut ranked: Vec<_> = counts.iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["word", "count"]);
    for (word, count) in ranked.iter().take(top) {
        table.add_row([word.to_string(), count.to_string()]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    let total: u64 = counts.values().sum();
    println!("{total} words, {} different", counts.len());
}
