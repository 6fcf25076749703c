//! Asks a broker, in Kafka's own protocol, whether it works.
//!
//! Two requests on one connection: ApiVersions, which any broker answers as soon as it listens, and
//! Metadata, which lists the broker only once the controller lets clients use it. A client that
//! comes in between is told that there are no brokers, and a topic created then may find nobody to
//! lead it.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

const TIMEOUT: Duration = Duration::from_secs(3);
const API_VERSIONS: i16 = 18;
const METADATA: i16 = 3;
/// An answer larger than this is not one to these requests: something else listens there.
const MAX_RESPONSE: usize = 1 << 20;

/// Whether a usable Kafka broker listens at `address` (host:port), unencrypted, and knows of this
/// many.
pub(super) fn brokers_answer(address: &str, least: i32) -> Result<()> {
    let context = || format!("no Kafka broker answers at {address}");
    let mut stream = connect(address).with_context(context)?;
    let versions = call(&mut stream, API_VERSIONS, 0, 1, &[]).with_context(context)?;
    check_api_versions(&versions).with_context(context)?;
    // Version 1 with no topics: an empty array, where null would ask for all.
    let metadata = call(&mut stream, METADATA, 1, 2, &0_i32.to_be_bytes()).with_context(context)?;
    check_metadata(&metadata, least).with_context(context)
}

/// Tries every address the name stands for: `localhost` may be ::1 first, where nobody listens.
fn connect(address: &str) -> Result<TcpStream> {
    let mut last = anyhow!("the name stands for no address");
    for address in address.to_socket_addrs().context("not a host:port that can be found")? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// Sends a request and returns the response's body, after its correlation id.
fn call(
    stream: &mut TcpStream,
    api: i16,
    version: i16,
    correlation: i32,
    body: &[u8],
) -> Result<Vec<u8>> {
    stream.write_all(&request(api, version, correlation, body)?)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = usize::try_from(i32::from_be_bytes(size)).unwrap_or(usize::MAX);
    if !(4..=MAX_RESPONSE).contains(&size) {
        bail!("what answers does not speak Kafka's protocol");
    }
    let mut response = vec![0; size];
    stream.read_exact(&mut response)?;
    let body = response.split_off(4);
    if response != correlation.to_be_bytes() {
        bail!("the answer belongs to another request");
    }
    Ok(body)
}

fn request(api: i16, version: i16, correlation: i32, body: &[u8]) -> Result<Vec<u8>> {
    const CLIENT: &[u8] = b"kasper-xtask";
    let mut bytes = vec![0; 4];
    bytes.extend(api.to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes.extend(correlation.to_be_bytes());
    bytes.extend(i16::try_from(CLIENT.len())?.to_be_bytes());
    bytes.extend(CLIENT);
    bytes.extend(body);
    let size = i32::try_from(bytes.len() - 4)?;
    bytes[..4].copy_from_slice(&size.to_be_bytes());
    Ok(bytes)
}

/// `error code: i16`, then an array of the requests it knows, six bytes each.
fn check_api_versions(body: &[u8]) -> Result<()> {
    let (code, rest) = split_i16(body)?;
    if code != 0 {
        bail!("ApiVersions failed with error code {code}");
    }
    let (count, rest) = split_i32(rest)?;
    if count < 1
        || usize::try_from(count).ok().and_then(|count| count.checked_mul(6)) != Some(rest.len())
    {
        bail!("ApiVersions was answered with nonsense");
    }
    Ok(())
}

/// Begins with an array of brokers.
fn check_metadata(body: &[u8], least: i32) -> Result<()> {
    match split_i32(body)?.0 {
        count if count >= least => Ok(()),
        count => bail!("of the cluster's brokers, {count} of {least} are ready"),
    }
}

fn split_i16(bytes: &[u8]) -> Result<(i16, &[u8])> {
    let (head, rest) = bytes.split_first_chunk().context("the answer is too short")?;
    Ok((i16::from_be_bytes(*head), rest))
}

fn split_i32(bytes: &[u8]) -> Result<(i32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk().context("the answer is too short")?;
    Ok((i32::from_be_bytes(*head), rest))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn a_request_is_framed() {
        let bytes = request(18, 0, 7, &[]).expect("request");
        assert_eq!(&bytes[..16], [0, 0, 0, 22, 0, 18, 0, 0, 0, 0, 0, 7, 0, 12, b'k', b'a']);
        assert_eq!(bytes.len(), 26);
    }

    #[test]
    fn api_versions_must_be_whole() {
        check_api_versions(&[0, 0, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]).expect("good");
        assert!(check_api_versions(&[0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]).is_err(), "error code");
        assert!(
            check_api_versions(&[0, 0, 0, 0, 0, 2, 0, 18, 0, 0, 0, 4]).is_err(),
            "one is missing"
        );
        assert!(check_api_versions(&[0, 0, 0, 0, 0, 0]).is_err(), "none");
        assert!(check_api_versions(&[0]).is_err(), "short");
    }

    #[test]
    fn metadata_must_name_a_broker() {
        check_metadata(&[0, 0, 0, 1], 1).expect("good");
        assert!(check_metadata(&[0, 0, 0, 0], 1).is_err());
        assert!(check_metadata(&[0, 0, 0, 2], 3).is_err());
    }

    #[test]
    fn something_else_that_listens_is_no_broker() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("write");
        });
        let error = brokers_answer(&address, 1).expect_err("not Kafka");
        assert!(format!("{error:#}").contains("does not speak Kafka"), "{error:#}");
        server.join().expect("server");
    }

    #[test]
    fn nobody_listening_names_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        drop(listener);
        let error = brokers_answer(&address, 1).expect_err("nobody");
        assert!(error.to_string().contains(&address));
    }
}
