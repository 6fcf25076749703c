//! What Redis's and the driver's errors mean: a kind, and whether trying again may help.

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind as DriverKind, RedisError, ServerErrorKind};

use crate::error::{Error, ErrorKind};

type DynError = dyn std::error::Error + Send + Sync;

/// Which server an error is about.
#[derive(Debug, Clone)]
pub(super) struct ServerName {
    address: String,
    is_cluster: bool,
}

impl ServerName {
    pub(super) fn standalone(address: String) -> Self {
        Self { address, is_cluster: false }
    }

    pub(super) fn cluster(addresses: impl Into<String>) -> Self {
        Self { address: addresses.into(), is_cluster: true }
    }

    /// The driver's error as one of the library.
    pub(super) fn error(&self, operation: &'static str, cause: RedisError) -> Error {
        let meaning = meaning(&cause, self.is_cluster);
        let error = Error::new(meaning.kind, meaning.message).with_source(cause);
        self.name(if meaning.retryable { error.retryable() } else { error }, operation)
    }

    /// A string is longer than the server's limit.
    pub(super) fn too_long(&self, operation: &'static str) -> Error {
        self.name(Error::new(TOO_LONG.kind, TOO_LONG.message), operation)
    }

    /// The error with operation and server.
    pub(super) fn name(&self, error: Error, operation: &'static str) -> Error {
        error.with("operation", operation).with("server", &self.address)
    }
}

/// Whether the connection is of no more use.
pub(super) fn ends_connection(error: &RedisError) -> bool {
    // A server that has become a replica stays one; the address may lead to another by now.
    let is_read_only = error.kind() == DriverKind::Server(ServerErrorKind::ReadOnly);
    error.is_unrecoverable_error() || error.is_io_error() || is_read_only
}

#[derive(Debug, PartialEq)]
struct Meaning {
    kind: ErrorKind,
    retryable: bool,
    message: &'static str,
}

const fn again(kind: ErrorKind, message: &'static str) -> Meaning {
    Meaning { kind, retryable: true, message }
}

const fn never(kind: ErrorKind, message: &'static str) -> Meaning {
    Meaning { kind, retryable: false, message }
}

fn meaning(error: &RedisError, is_cluster: bool) -> Meaning {
    match error.kind() {
        DriverKind::Server(ServerErrorKind::ResponseError) => {
            of_text(error.detail().unwrap_or_default())
        }
        DriverKind::Server(_) | DriverKind::Extension => {
            of_code(error.code().unwrap_or_default(), is_cluster)
        }
        DriverKind::Io => of_io(error),
        // What the driver says when the server's answer to user and password is an error, of any kind.
        DriverKind::AuthenticationFailed => match error.detail() {
            Some(detail) if detail.contains("max number of clients") => of_text(detail),
            _ => never(ErrorKind::Unauthorized, "the server refuses the user or the password"),
        },
        DriverKind::ClusterConnectionNotFound => {
            again(ErrorKind::Unavailable, "a server of the cluster can't be reached")
        }
        DriverKind::InvalidClientConfig => {
            never(ErrorKind::Config, "the driver does not take this configuration")
        }
        DriverKind::Client if is_about_tls(error) => UNTRUSTED,
        // The connection broke in the middle of an answer.
        DriverKind::Parse if error.to_string().contains("Unexpected end of input") => {
            again(ErrorKind::Unavailable, "the server can't be reached")
        }
        DriverKind::Parse => never(ErrorKind::Backend, "what answers there does not speak Redis"),
        _ => never(ErrorKind::Backend, "the driver failed"),
    }
}

const TOO_LONG: Meaning = never(
    ErrorKind::InvalidInput,
    "a key or value is longer than the server takes (`proto-max-bulk-len`)",
);

const UNTRUSTED: Meaning =
    never(ErrorKind::Unauthorized, "there is no TLS connection that can be trusted");

/// The word that a server's error begins with.
fn of_code(code: &str, is_cluster: bool) -> Meaning {
    use ErrorKind::{Backend, Config, NoSpace, Unauthorized, Unavailable};
    match code {
        "OOM" => again(NoSpace, "the server's memory is full (`maxmemory`)"),
        "MISCONF" => again(NoSpace, "the server can't write to its disk, and takes no writes"),
        "LOADING" => again(Unavailable, "the server is loading its data"),
        "READONLY" => again(Unavailable, "the server is a replica, and takes no writes"),
        "NOREPLICAS" => again(Unavailable, "the server has too few replicas to take writes"),
        "MASTERDOWN" => again(Unavailable, "the server is a replica that has lost its primary"),
        "BUSY" => again(Unavailable, "the server is busy with a script"),
        "CLUSTERDOWN" => again(Unavailable, "the cluster is down, or has no server for these keys"),
        "TRYAGAIN" | "ASK" | "MOVED" if is_cluster => {
            again(Unavailable, "the cluster is moving these keys")
        }
        "MOVED" | "ASK" | "CROSSSLOT" | "TRYAGAIN" => never(
            Config,
            "the server is a member of a cluster: connect to it as one (`redis+cluster://`)",
        ),
        "NOAUTH" => never(Unauthorized, "the server wants a password"),
        "WRONGPASS" => never(Unauthorized, "the server refuses the user or the password"),
        "NOPERM" => never(Unauthorized, "the user is not allowed to do this"),
        "WRONGTYPE" => never(Backend, "the key holds something else than a string"),
        _ => never(Backend, "the server refuses the command"),
    }
}

/// Errors whose first word is just `ERR`.
fn of_text(text: &str) -> Meaning {
    let has = |part: &str| text.contains(part);
    if has("max number of clients") {
        again(ErrorKind::Unavailable, "the server has as many connections as it takes")
    } else if has("DB index is out of range") || has("SELECT is not allowed in cluster mode") {
        never(ErrorKind::Config, "the server has no such database")
    } else if has("invalid bulk length") || has("invalid multibulk length") {
        TOO_LONG
    } else if has("Password") || has("without any password configured") {
        never(ErrorKind::Unauthorized, "the server refuses the user or the password")
    } else {
        never(ErrorKind::Backend, "the server refuses the command")
    }
}

fn of_io(error: &RedisError) -> Meaning {
    // A cluster client tells in words why it got no first connection.
    let detail = error.detail().unwrap_or_default();
    if ["AuthenticationFailed", "WRONGPASS", "NOAUTH"].iter().any(|word| detail.contains(word)) {
        return never(ErrorKind::Unauthorized, "the servers refuse the user or the password");
    }
    // Of two sides that speak TLS, one refuses the other's certificate.
    if is_about_tls(error)
        || ["certificate", "fatal alert"].iter().any(|word| detail.contains(word))
    {
        return UNTRUSTED;
    }
    match error.is_timeout() {
        true => again(ErrorKind::Timeout, "no answer in time"),
        false => again(ErrorKind::Unavailable, "the server can't be reached"),
    }
}

/// Whether the TLS handshake failed: rustls's errors come as invalid data.
fn is_about_tls(error: &RedisError) -> bool {
    // The driver shares its causes.
    let cause = error.source().and_then(|source| source.downcast_ref::<Arc<DynError>>());
    let io = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    let is_invalid_data = io.is_some_and(|io| io.kind() == io::ErrorKind::InvalidData);
    is_invalid_data || error.to_string().contains("certificate")
}

#[cfg(test)]
mod tests {
    use redis::{Value, parse_redis_value};

    use super::*;

    /// As the driver reads it from the wire.
    fn from_server(line: &str) -> RedisError {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let Value::ServerError(error) = value else { panic!("{value:?}") };
        error.into()
    }

    fn from_io(kind: io::ErrorKind) -> RedisError {
        io::Error::new(kind, "x").into()
    }

    fn assert_meaning(error: &RedisError, kind: ErrorKind, retryable: bool) {
        let meaning = meaning(error, false);
        assert_eq!((meaning.kind, meaning.retryable), (kind, retryable), "{error}");
    }

    #[test]
    fn every_answer_of_a_server_has_its_meaning() {
        use ErrorKind::*;
        for (line, kind, retryable) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", NoSpace, true),
            ("MISCONF Redis is configured to save RDB snapshots, but", NoSpace, true),
            ("LOADING Redis is loading the dataset in memory", Unavailable, true),
            ("READONLY You can't write against a read only replica.", Unavailable, true),
            ("NOREPLICAS Not enough good replicas to write.", Unavailable, true),
            ("MASTERDOWN Link with MASTER is down", Unavailable, true),
            ("BUSY Redis is busy running a script.", Unavailable, true),
            ("CLUSTERDOWN The cluster is down", Unavailable, true),
            ("MOVED 866 127.0.0.1:7001", Config, false),
            ("ASK 866 127.0.0.1:7001", Config, false),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Config, false),
            ("CROSSSLOT Keys in request don't hash to the same slot", Config, false),
            ("NOAUTH Authentication required.", Unauthorized, false),
            ("WRONGPASS invalid username-password pair", Unauthorized, false),
            ("NOPERM this user has no permissions to run", Unauthorized, false),
            ("WRONGTYPE Operation against a key holding the wrong kind", Backend, false),
            ("ERR max number of clients reached", Unavailable, true),
            ("ERR DB index is out of range", Config, false),
            ("ERR SELECT is not allowed in cluster mode", Config, false),
            ("ERR Protocol error: invalid bulk length", InvalidInput, false),
            ("ERR Protocol error: invalid multibulk length", InvalidInput, false),
            ("ERR AUTH <password> called without any password configured", Unauthorized, false),
            ("ERR unknown command 'MGET'", Backend, false),
            ("NEWWORD who knows", Backend, false),
        ] {
            assert_meaning(&from_server(line), kind, retryable);
        }
    }

    #[test]
    fn a_cluster_that_moves_keys_is_worth_another_try() {
        for line in ["MOVED 866 127.0.0.1:7001", "ASK 866 127.0.0.1:7001", "TRYAGAIN Multiple"] {
            let meaning = meaning(&from_server(line), true);
            assert_eq!((meaning.kind, meaning.retryable), (ErrorKind::Unavailable, true));
        }
    }

    #[test]
    fn every_failure_of_the_driver_has_its_meaning() {
        use ErrorKind::*;
        for (error, kind, retryable) in [
            (from_io(io::ErrorKind::ConnectionRefused), Unavailable, true),
            (from_io(io::ErrorKind::ConnectionReset), Unavailable, true),
            (from_io(io::ErrorKind::BrokenPipe), Unavailable, true),
            (from_io(io::ErrorKind::UnexpectedEof), Unavailable, true),
            (from_io(io::ErrorKind::TimedOut), Timeout, true),
            (from_io(io::ErrorKind::InvalidData), Unauthorized, false),
            ((DriverKind::Io, "no connection", "x".to_owned()).into(), Unavailable, true),
            (
                (DriverKind::Io, "none", "x - AuthenticationFailed".into()).into(),
                Unauthorized,
                false,
            ),
            (
                (
                    DriverKind::Io,
                    "none",
                    "x - Io: received fatal alert: CertificateRequired".into(),
                )
                    .into(),
                Unauthorized,
                false,
            ),
            ((DriverKind::AuthenticationFailed, "x").into(), Unauthorized, false),
            (
                (DriverKind::AuthenticationFailed, "x", "max number of clients reached".into())
                    .into(),
                Unavailable,
                true,
            ),
            ((DriverKind::ClusterConnectionNotFound, "x").into(), Unavailable, true),
            ((DriverKind::InvalidClientConfig, "x").into(), Config, false),
            ((DriverKind::Client, "x").into(), Backend, false),
            ((DriverKind::Client, "invalid peer certificate").into(), Unauthorized, false),
            ((DriverKind::Parse, "x").into(), Backend, false),
            ((DriverKind::UnexpectedReturnType, "x").into(), Backend, false),
        ] {
            assert_meaning(&error, kind, retryable);
        }
    }

    #[test]
    fn an_error_names_operation_and_server_and_keeps_the_cause() {
        let place = ServerName::standalone("10.0.0.7:6379".into());
        let error = place.error("get_many", from_server("LOADING Redis is loading"));
        assert_eq!(
            (error.get("operation"), error.get("server")),
            (Some("get_many"), Some("10.0.0.7:6379"))
        );
        assert!(error.is_retryable());
        assert!(error.find::<RedisError>().is_some());
    }

    #[test]
    fn what_ends_a_connection() {
        assert!(ends_connection(&from_io(io::ErrorKind::ConnectionReset)));
        assert!(ends_connection(&from_server("READONLY You can't write")));
        assert!(!ends_connection(&from_server("OOM command not allowed")));
        assert!(!ends_connection(&from_server("LOADING Redis is loading")));
    }
}
