//! What stands before an encoded value: a zero byte, and the schema's id in four bytes, the highest first.

use kasper::{Error, ErrorKind, Result};

pub(crate) const LENGTH: usize = 5;

pub(crate) fn begin(id: u32) -> [u8; LENGTH] {
    let [a, b, c, d] = id.to_be_bytes();
    [0, a, b, c, d]
}

/// The id, and what follows it.
///
/// # Errors
/// [`Decode`](ErrorKind::Decode): the bytes begin otherwise.
pub(crate) fn split(bytes: &[u8]) -> Result<(u32, &[u8])> {
    match bytes {
        [0, a, b, c, d, rest @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), rest)),
        _ => Err(Error::new(
            ErrorKind::Decode,
            "the bytes don't begin with a zero byte and the id of a schema",
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_begins_is_split_again() {
        let bytes = [&begin(0x0102_0304)[..], b"x"].concat();
        assert_eq!(bytes, [0, 1, 2, 3, 4, b'x']);
        assert_eq!(split(&bytes).unwrap(), (0x0102_0304, &b"x"[..]));
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [&b""[..], b"\0\0\0\0", b"{\"a\":1}"] {
            assert_eq!(split(bytes).unwrap_err().kind(), ErrorKind::Decode);
        }
    }
}
