//! Redis: one server that keeps nothing on disk, with an unencrypted port and one with TLS.

pub(super) mod cluster;

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Launch, Product, Server, certificate};
use crate::tools::Tool;

/// The entry for Redis.
#[derive(Debug)]
pub(crate) struct Redis;

impl Product for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    /// Whatever is installed.
    fn version(&self) -> &'static str {
        "installed"
    }

    fn tools(&self) -> &'static [Tool] {
        &[Tool::Redis(7)]
    }

    fn fetch_tools(&self) -> &'static [Tool] {
        &[]
    }

    fn fetch(&self, _directory: &Path) -> Result<()> {
        Ok(())
    }
}

impl Server for Redis {
    fn product(&self) -> &dyn Product {
        self
    }

    fn variable(&self) -> &'static str {
        "KASPER_TEST_REDIS"
    }

    /// For its certificate.
    fn more_tools(&self) -> &'static [Tool] {
        &[Tool::OpenSsl]
    }

    fn otherwise(&self) -> &'static str {
        "Or leave the stores out: cargo xtask test --without stores"
    }

    /// Unencrypted, and with TLS.
    fn ports(&self) -> usize {
        2
    }

    fn prepare(&self, launch: &Launch) -> Result<Command> {
        let &[port, tls_port] = launch.ports.as_slice() else { bail!("Redis needs two ports") };
        certificate::make_pem(launch)?;
        let certificate = certificate::certificate(&launch.run_dir).display().to_string();
        launch.tell(&[
            ("KASPER_TEST_REDIS_TLS", format!("127.0.0.1:{tls_port}")),
            ("KASPER_TEST_REDIS_CA", certificate),
        ])?;
        let mut command = server(port);
        command.args(["--tls-port", &tls_port.to_string(), "--tls-auth-clients", "no"]);
        command.args(["--tls-cert-file", "ca.pem", "--tls-key-file", "key.pem"]);
        command.args(["--tls-ca-cert-file", "ca.pem"]);
        Ok(command)
    }

    fn answers(&self, address: &str) -> Result<()> {
        let answer = ask(address, "PING")?;
        // One that wants a password works, too.
        match answer.starts_with("+PONG") || answer.starts_with("-NOAUTH") {
            true => Ok(()),
            false => bail!("the answer to PING is {answer:?}"),
        }
    }
}

/// A server in the current directory that writes nothing to disk.
fn server(port: u16) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
    command
}

/// Sends a command as one types it, and returns the beginning of the answer.
fn ask(address: &str, command: &str) -> Result<String> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let mut addresses =
        address.to_socket_addrs().with_context(|| format!("{address}: no address"))?;
    let socket = addresses.next().with_context(|| format!("{address}: no address"))?;
    let mut stream = TcpStream::connect_timeout(&socket, PATIENCE)
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE)).context("cannot set a time-out")?;
    stream.write_all(format!("{command}\r\n").as_bytes()).context("cannot send")?;
    let mut answer = [0; 4096];
    let count = stream.read(&mut answer).context("no answer")?;
    Ok(String::from_utf8_lossy(&answer[..count]).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answering(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(answer.as_bytes());
        });
        address
    }

    #[test]
    fn a_server_is_told_by_its_answer() {
        Redis.answers(&answering("+PONG\r\n")).expect("answers");
        Redis.answers(&answering("-NOAUTH Authentication required.\r\n")).expect("answers");
        Redis.answers(&answering("HTTP/1.1 400 Bad Request\r\n")).expect_err("no Redis");
    }
}
