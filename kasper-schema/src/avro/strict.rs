//! The bytes of one value, for `apache-avro` to read.

use std::io::{Error, ErrorKind, Read, Result};

/// A slice that ends with an error.
///
/// At `UnexpectedEof`, `apache-avro` takes a missing boolean or string for null, and a missing union for its first
/// variant, so that a value that was cut off would be decoded as another value. Any other kind of error fails the value.
pub(super) struct Strict<'a> {
    rest: &'a [u8],
}

impl<'a> Strict<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are not read yet.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }
}

impl Read for Strict<'_> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        self.rest.read(into)
    }

    fn read_exact(&mut self, into: &mut [u8]) -> Result<()> {
        let cut_off = || Error::new(ErrorKind::InvalidData, "the value is cut off");
        let (read, rest) = self.rest.split_at_checked(into.len()).ok_or_else(cut_off)?;
        into.copy_from_slice(read);
        self.rest = rest;
        Ok(())
    }
}
