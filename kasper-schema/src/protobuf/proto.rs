//! Where a `.proto` file defines a message, and how encoded messages say it.
//!
//! The *place* of a message is its index among the messages of the file, then, if it is nested, its index among those of the
//! message around it, and so on. Groups and the entries of maps do not count, as in Confluent's Java client.

/// The places at which the file defines the message with this full name: one, or none.
pub(super) fn places(file: &str, full_name: &str) -> Vec<Vec<usize>> {
    let mut reading = Reading::default();
    for token in Tokens(file) {
        reading.take(token);
    }
    let package = reading.package;
    let is_it = |name: &str| match package.as_str() {
        "" => name == full_name,
        package => {
            full_name.strip_prefix(package).and_then(|it| it.strip_prefix('.')) == Some(name)
        }
    };
    reading.messages.into_iter().filter(|(name, _)| is_it(name)).map(|(_, place)| place).collect()
}

#[derive(Default)]
struct Reading<'a> {
    package: String,
    /// Name without the package, and place.
    messages: Vec<(String, Vec<usize>)>,
    /// The blocks around the current statement: the index of a message in `messages`, or something else.
    blocks: Vec<Option<usize>>,
    /// How many messages the file has, and each message.
    counts: Vec<usize>,
    at_top: usize,
    statement: Vec<&'a str>,
}

impl<'a> Reading<'a> {
    fn take(&mut self, token: &'a str) {
        match token {
            "{" => {
                let block = match self.statement.as_slice() {
                    ["message", name] => self.begin_message(name),
                    _ => None,
                };
                self.blocks.push(block);
            }
            "}" => {
                self.blocks.pop();
            }
            ";" => {
                if let ["package", rest @ ..] = self.statement.as_slice()
                    && self.blocks.is_empty()
                {
                    self.package = rest.concat();
                }
            }
            token => {
                self.statement.push(token);
                return;
            }
        }
        self.statement.clear();
    }

    /// Its index in `messages`; `None` if this is not where a message may be defined.
    fn begin_message(&mut self, name: &str) -> Option<usize> {
        let (name, place) = match self.blocks.last() {
            None => {
                self.at_top += 1;
                (name.to_owned(), vec![self.at_top - 1])
            }
            Some(&Some(outer)) => {
                let (outer_name, outer_place) = &self.messages[outer];
                let place = [&outer_place[..], &[self.counts[outer]]].concat();
                self.counts[outer] += 1;
                (format!("{outer_name}.{name}"), place)
            }
            Some(None) => return None,
        };
        self.messages.push((name, place));
        self.counts.push(0);
        Some(self.messages.len() - 1)
    }
}

/// Words, which include dots, and single characters; without comments.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.0 = without_comments(self.0);
        let first = self.0.chars().next()?;
        let length = match first {
            '"' | '\'' => string_length(self.0, first),
            _ if is_word(first) => self.0.find(|c| !is_word(c)).unwrap_or(self.0.len()),
            _ => first.len_utf8(),
        };
        let (token, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(token)
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

fn without_comments(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        let end = if text.starts_with("//") {
            text.find('\n')
        } else if text.starts_with("/*") {
            text.find("*/").map(|index| index + 2)
        } else {
            return text;
        };
        text = end.map_or("", |end| &text[end..]);
    }
}

fn string_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// The place in front of a message: the number of indexes and the indexes, as zigzag varints. The place of the first
/// message of a file is a zero.
pub(super) fn encode_place(place: &[usize]) -> Vec<u8> {
    if place == [0] {
        return vec![0];
    }
    let mut bytes = Vec::new();
    for number in [place.len()].iter().chain(place) {
        prost::encoding::encode_varint(*number as u64 * 2, &mut bytes);
    }
    bytes
}

/// The place, and the message after it. `None` if the bytes begin otherwise.
pub(super) fn split_place(mut bytes: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let count = index(&mut bytes)?;
    if count == 0 {
        return Some((vec![0], bytes));
    }
    // Each takes a byte at least.
    if count > bytes.len() {
        return None;
    }
    let place = (0..count).map(|_| index(&mut bytes)).collect::<Option<_>>()?;
    Some((place, bytes))
}

fn index(bytes: &mut &[u8]) -> Option<usize> {
    let number = prost::encoding::decode_varint(bytes).ok()?;
    // Odd numbers are negative ones.
    if number % 2 == 0 { usize::try_from(number / 2).ok() } else { None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const FILE: &str = r#"
        // message Commented { }
        syntax = "proto3";
        /* package wrong; message Commented { } */
        package shop . v1;
        import "google/protobuf/any.proto";
        option java_package = "message Quoted { \" message Quoted {";
        option (custom) = { message { deep: 1 } };
        enum Kind { NONE = 0; }
        message First {
            string message = 1 [(custom) = { message: "x" }];
            map<string, int32> counts = 2;
            oneof choice { int32 a = 3; string b = 4; }
            reserved 5 to 6;
            message Inner { message Deep {} }
            enum Inside { ZERO = 0; }
            message Other {}
        }
        message Second{}
        service Shop { rpc Buy (First) returns (Second) { option deprecated = true; } }
        message Third { ; }
    "#;

    #[test]
    fn messages_are_found_at_their_places() {
        for (name, place) in [
            ("shop.v1.First", &[0][..]),
            ("shop.v1.First.Inner", &[0, 0]),
            ("shop.v1.First.Inner.Deep", &[0, 0, 0]),
            ("shop.v1.First.Other", &[0, 1]),
            ("shop.v1.Second", &[1]),
            ("shop.v1.Third", &[2]),
        ] {
            assert_eq!(places(FILE, name), [place], "{name}");
        }
        for name in
            ["First", "shop.First", "shop.v1.Inner", "shop.v1.Commented", "shop.v1.Quoted", ""]
        {
            assert!(places(FILE, name).is_empty(), "{name}");
        }
        assert_eq!(places("message A {}", "A"), [[0]]);
    }

    #[test]
    fn broken_files_define_what_can_be_read() {
        for file in ["", "}}}", "message", "message A", "/* ", "\"", "'\\", "message {", "{{{"] {
            assert!(places(file, "A").is_empty(), "{file}");
        }
        assert_eq!(places("} message A {", "A"), [[0]]);
    }

    #[test]
    fn places_are_encoded_as_by_confluents_client() {
        for (place, encoded) in [
            (&[0][..], &[0][..]),
            (&[1], &[2, 2]),
            (&[0, 0], &[4, 0, 0]),
            (&[1, 0, 70], &[6, 2, 0, 0x8c, 1]),
        ] {
            assert_eq!(encode_place(place), encoded);
            let bytes = [encoded, b"x"].concat();
            assert_eq!(split_place(&bytes).unwrap(), (place.to_vec(), &b"x"[..]));
        }
        // Other clients write the place of the first message in full.
        assert_eq!(split_place(&[2, 0]).unwrap(), (vec![0], &b""[..]));
    }

    #[test]
    fn broken_places_are_refused() {
        for bytes in [&b""[..], &[1], &[2], &[4, 0], &[0xff, 0xff, 0xff, 0xff, 0x7e, 0], &[2, 1]] {
            assert!(split_place(bytes).is_none(), "{bytes:?}");
        }
    }
}
