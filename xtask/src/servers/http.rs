//! Asks a server whether it works, in plain HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;

/// The answer to a GET request, head and body.
pub(crate) fn get(address: &str, path: &str) -> Result<String> {
    let timeout = Some(Duration::from_secs(5));
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(timeout)?;
    connection.set_write_timeout(timeout)?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}
