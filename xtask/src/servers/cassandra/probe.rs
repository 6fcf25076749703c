//! Whether a Cassandra works: it lets in who knows the password, by hand-written frames of its protocol
//! (version 4).

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};

const TIMEOUT: Duration = Duration::from_secs(5);

const ERROR: u8 = 0x00;
const STARTUP: u8 = 0x01;
const READY: u8 = 0x02;
const AUTHENTICATE: u8 = 0x03;
const AUTH_RESPONSE: u8 = 0x0f;
const AUTH_SUCCESS: u8 = 0x10;

/// Logs in, if the server asks for that.
pub(super) fn lets_in(address: &str, user: &str, password: &str) -> Result<()> {
    let context = || format!("{address} does not answer");
    let socket = address.to_socket_addrs().with_context(context)?.next().with_context(context)?;
    let mut stream = TcpStream::connect_timeout(&socket, TIMEOUT).with_context(context)?;
    stream.set_read_timeout(Some(TIMEOUT)).with_context(context)?;
    stream.set_write_timeout(Some(TIMEOUT)).with_context(context)?;
    match ask(&mut stream, STARTUP, &startup())? {
        READY => return Ok(()),
        AUTHENTICATE => {}
        other => bail!("{address} answers the start with the code {other}"),
    }
    match ask(&mut stream, AUTH_RESPONSE, &credentials(user, password))? {
        AUTH_SUCCESS => Ok(()),
        ERROR => bail!("{address} does not let {user} in"),
        other => bail!("{address} answers the password with the code {other}"),
    }
}

/// A map of one entry, in which lengths are two bytes.
fn startup() -> Vec<u8> {
    let mut body = vec![0, 1];
    for text in ["CQL_VERSION", "3.0.0"] {
        body.extend([0, u8::try_from(text.len()).unwrap_or_default()]);
        body.extend(text.as_bytes());
    }
    body
}

fn credentials(user: &str, password: &str) -> Vec<u8> {
    let token = format!("\0{user}\0{password}");
    let mut body = vec![0, 0, 0, u8::try_from(token.len()).unwrap_or_default()];
    body.extend(token.as_bytes());
    body
}

/// Sends a frame, reads one, and returns what kind of answer it is.
fn ask(stream: &mut TcpStream, opcode: u8, body: &[u8]) -> Result<u8> {
    let length = u32::try_from(body.len()).context("a frame is too long")?;
    let mut frame = vec![4, 0, 0, 0, opcode];
    frame.extend(length.to_be_bytes());
    frame.extend(body);
    stream.write_all(&frame).context("cannot ask it")?;
    let mut header = [0; 9];
    stream.read_exact(&mut header).context("no answer")?;
    let [0x84, _, _, _, opcode, a, b, c, d] = header else {
        bail!("what answers does not speak Cassandra's protocol");
    };
    let length = u64::from(u32::from_be_bytes([a, b, c, d]));
    std::io::copy(&mut stream.take(length), &mut std::io::sink()).context("half an answer")?;
    Ok(opcode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_their_lengths() {
        assert_eq!(startup(), b"\0\x01\0\x0bCQL_VERSION\0\x053.0.0");
        assert_eq!(credentials("a", "bc"), b"\0\0\0\x05\0a\0bc");
    }
}
