//! Which of the driver's errors becomes which [`ErrorKind`], and whether the same call may succeed later.

use scylla::errors::{
    BadQuery, ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind as Setup,
    DbError, ExecutionError, MetadataError, MetadataFetchErrorKind, NewSessionError, PrepareError,
    RequestAttemptError, UseKeyspaceError,
};

use crate::error::{Error, ErrorKind};

/// The kind, and whether it is retryable.
type Verdict = (ErrorKind, bool);

const AWAY: Verdict = (ErrorKind::Unavailable, true);
const LATE: Verdict = (ErrorKind::Timeout, true);
const REFUSED: Verdict = (ErrorKind::Unauthorized, false);
const BROKEN: Verdict = (ErrorKind::Backend, false);
const HICCUP: Verdict = (ErrorKind::Backend, true);

/// There is no code for a missing keyspace or table; these are the words of Cassandra and of Scylla.
const NOT_THERE: &[&str] = &["does not exist", "doesn't exist", "unconfigured table"];

/// Cassandra's words while a node makes a table, or drops it: it stands in the schema and is not open.
const NOT_OPEN: &str = "Unknown CF";

/// Servers whose dates end in 2038 say so of a time to live that goes beyond.
const TTL_TOO_LONG: &str = "exceeds maximum supported expiration date";

pub(super) fn of_connecting(error: NewSessionError) -> Error {
    let verdict = match &error {
        NewSessionError::FailedToResolveAnyHostname(_) => AWAY,
        NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_) => {
            (ErrorKind::Config, false)
        }
        NewSessionError::MetadataError(error) => metadata(error),
        NewSessionError::UseKeyspaceError(error) => use_keyspace(error),
        _ => BROKEN,
    };
    make(verdict, error)
}

pub(super) fn of_preparing(error: PrepareError) -> Error {
    let verdict = match prepare(&error) {
        // What the server finds invalid in statements of ours is the table: it has other columns.
        (ErrorKind::InvalidInput, _) => (ErrorKind::Config, false),
        verdict => verdict,
    };
    make(verdict, error)
}

pub(super) fn of_execution(error: ExecutionError) -> Error {
    let verdict = match &error {
        ExecutionError::BadQuery(error) => bad_query(error),
        ExecutionError::PrepareError(error) => prepare(error),
        ExecutionError::ConnectionPoolError(error) => pool(error),
        ExecutionError::LastAttemptError(error) => attempt(error),
        ExecutionError::RequestTimeout(_) | ExecutionError::SchemaAgreementError(_) => LATE,
        ExecutionError::UseKeyspaceError(error) => use_keyspace(error),
        ExecutionError::MetadataError(error) => metadata(error),
        // No node is known to be up in the data center.
        ExecutionError::EmptyPlan => AWAY,
        _ => BROKEN,
    };
    make(verdict, error)
}

fn make(
    (kind, retryable): Verdict,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let text = error.to_string();
    // The server's own words, without the driver's around them.
    let words = text.rsplit_once("Error message: ").map(|(_, words)| words);
    let words = words.filter(|words| !words.is_empty()).unwrap_or(&text);
    let message = match words.contains(TTL_TOO_LONG) {
        true => format!("`ttl` is too long for this server: {words}"),
        false => words.to_owned(),
    };
    let made = Error::new(kind, message).with_source(error);
    if retryable { made.retryable() } else { made }
}

/// What the server itself says.
fn database(error: &DbError, reason: &str) -> Verdict {
    match error {
        DbError::Unavailable { .. }
        | DbError::Overloaded
        | DbError::IsBootstrapping
        | DbError::RateLimitReached { .. } => AWAY,
        DbError::ReadTimeout { .. } | DbError::WriteTimeout { .. } => LATE,
        DbError::AuthenticationError | DbError::Unauthorized => REFUSED,
        DbError::Invalid if NOT_THERE.iter().any(|words| reason.contains(words)) => {
            (ErrorKind::NotFound, false)
        }
        DbError::Invalid if reason.contains(TTL_TOO_LONG) => (ErrorKind::Config, false),
        DbError::Invalid => (ErrorKind::InvalidInput, false),
        DbError::ConfigError => (ErrorKind::Config, false),
        DbError::ServerError if reason.contains(NOT_OPEN) => (ErrorKind::NotFound, true),
        // Some replica failed, or this node; others may do better.
        DbError::ReadFailure { .. }
        | DbError::WriteFailure { .. }
        | DbError::ServerError
        | DbError::Unprepared { .. } => HICCUP,
        _ => BROKEN,
    }
}

fn attempt(error: &RequestAttemptError) -> Verdict {
    match error {
        RequestAttemptError::DbError(error, reason) => database(error, reason),
        RequestAttemptError::BrokenConnectionError(_)
        | RequestAttemptError::UnableToAllocStreamId => AWAY,
        _ => BROKEN,
    }
}

fn prepare(error: &PrepareError) -> Verdict {
    match error {
        PrepareError::ConnectionPoolError(error) => pool(error),
        PrepareError::AllAttemptsFailed { first_attempt } => attempt(first_attempt),
        _ => BROKEN,
    }
}

fn bad_query(error: &BadQuery) -> Verdict {
    match error {
        // The table has other types than the store.
        BadQuery::SerializationError(_) => (ErrorKind::Config, false),
        BadQuery::ValuesTooLongForKey(..) => (ErrorKind::InvalidInput, false),
        _ => BROKEN,
    }
}

fn pool(error: &ConnectionPoolError) -> Verdict {
    match error {
        ConnectionPoolError::Broken { last_connection_error } => connection(last_connection_error),
        ConnectionPoolError::Initializing => AWAY,
        ConnectionPoolError::NodeDisabledByHostFilter => (ErrorKind::Config, false),
        _ => BROKEN,
    }
}

fn connection(error: &ConnectionError) -> Verdict {
    match error {
        ConnectionError::ConnectTimeout
        | ConnectionError::NoSourcePortForShard(_)
        | ConnectionError::BrokenConnection(_) => AWAY,
        #[cfg(feature = "cassandra-tls")]
        ConnectionError::IoError(error) if let Some(kind) = super::tls::fault(error) => {
            (kind, false)
        }
        ConnectionError::IoError(_) => AWAY,
        ConnectionError::ConnectionSetupRequestError(error) => setup(error.get_error()),
        ConnectionError::UseKeyspaceError(error) => use_keyspace(error),
        _ => BROKEN,
    }
}

fn setup(error: &Setup) -> Verdict {
    match error {
        Setup::DbError(error, reason) => database(error, reason),
        Setup::MissingAuthentication
        | Setup::StartAuthSessionError(_)
        | Setup::AuthChallengeEvaluationError(_)
        | Setup::AuthFinishError(_) => REFUSED,
        Setup::BrokenConnection(_) | Setup::UnableToAllocStreamId => AWAY,
        _ => BROKEN,
    }
}

fn use_keyspace(error: &UseKeyspaceError) -> Verdict {
    match error {
        UseKeyspaceError::RequestError(error) => attempt(error),
        UseKeyspaceError::RequestTimeout(_) => LATE,
        UseKeyspaceError::BadKeyspaceName(_) => (ErrorKind::Config, false),
        _ => BROKEN,
    }
}

fn metadata(error: &MetadataError) -> Verdict {
    match error {
        MetadataError::ConnectionPoolError(error) => pool(error),
        MetadataError::FetchError(error) => match &error.error {
            MetadataFetchErrorKind::PrepareError(error) => attempt(error),
            // The connection broke, or a page did not come.
            MetadataFetchErrorKind::NextRowError(_) => AWAY,
            _ => BROKEN,
        },
        // A node that starts does not know itself for a moment.
        MetadataError::Peers(_) => AWAY,
        _ => BROKEN,
    }
}

#[cfg(test)]
mod tests {
    use scylla::errors::{BrokenConnectionErrorKind, OperationType, WriteType};
    use scylla::statement::Consistency::LocalQuorum as LOCAL_QUORUM;

    use super::*;

    const NOT_FOUND: Verdict = (ErrorKind::NotFound, false);
    const INVALID: Verdict = (ErrorKind::InvalidInput, false);
    const CONFIG: Verdict = (ErrorKind::Config, false);

    fn of_database(error: DbError, reason: &str) -> Verdict {
        let error = RequestAttemptError::DbError(error, reason.to_owned());
        let error = of_execution(ExecutionError::LastAttemptError(error));
        assert!(error.to_string().starts_with(&format!("{}: {reason}", error.kind())), "{error}");
        (error.kind(), error.is_retryable())
    }

    #[test]
    fn a_ttl_that_ends_after_the_servers_dates_names_the_setting() {
        let reason = "Request on table a.b with ttl of 630720000 seconds exceeds maximum supported expiration date";
        let error = RequestAttemptError::DbError(DbError::Invalid, reason.to_owned());
        let error = of_execution(ExecutionError::LastAttemptError(error));
        assert_eq!((error.kind(), error.is_retryable()), CONFIG, "{error}");
        assert!(error.to_string().contains("`ttl`"), "{error}");
    }

    #[test]
    fn what_the_server_says() {
        let (consistency, received, required) = (LOCAL_QUORUM, 1, 2);
        let (numfailures, data_present, write_type) = (1, false, WriteType::Simple);
        for (error, reason, verdict) in [
            (DbError::Unavailable { consistency, required, alive: 1 }, "", AWAY),
            (DbError::Overloaded, "", AWAY),
            (DbError::IsBootstrapping, "", AWAY),
            (
                DbError::RateLimitReached {
                    op_type: OperationType::Write,
                    rejected_by_coordinator: true,
                },
                "",
                AWAY,
            ),
            (DbError::ReadTimeout { consistency, received, required, data_present }, "", LATE),
            (
                DbError::WriteTimeout {
                    consistency,
                    received,
                    required,
                    write_type: write_type.clone(),
                },
                "",
                LATE,
            ),
            (
                DbError::ReadFailure { consistency, received, required, numfailures, data_present },
                "",
                HICCUP,
            ),
            (
                DbError::WriteFailure { consistency, received, required, numfailures, write_type },
                "",
                HICCUP,
            ),
            (DbError::ServerError, "", HICCUP),
            (
                DbError::ServerError,
                "java.lang.IllegalArgumentException: Unknown CF 8c7d6890-ed58-11f1-8059-07139a904b76",
                (ErrorKind::NotFound, true),
            ),
            (DbError::Unprepared { statement_id: bytes::Bytes::new() }, "", HICCUP),
            (DbError::AuthenticationError, "", REFUSED),
            (DbError::Unauthorized, "", REFUSED),
            (DbError::Invalid, "table shop.counts does not exist", NOT_FOUND),
            (DbError::Invalid, "Keyspace 'shop' doesn't exist", NOT_FOUND),
            (DbError::Invalid, "unconfigured table counts", NOT_FOUND),
            (DbError::Invalid, "Request is too big", INVALID),
            (DbError::ConfigError, "", CONFIG),
            (DbError::SyntaxError, "", BROKEN),
            (DbError::ProtocolError, "", BROKEN),
            (DbError::TruncateError, "", BROKEN),
            (DbError::Other(7), "", BROKEN),
        ] {
            let text = format!("{error:?} {reason}");
            assert_eq!(of_database(error, reason), verdict, "{text}");
        }
    }

    fn broken_connection() -> scylla::errors::BrokenConnectionError {
        BrokenConnectionErrorKind::ChannelError.into()
    }

    fn io(kind: std::io::ErrorKind) -> ConnectionError {
        std::io::Error::from(kind).into()
    }

    #[test]
    fn what_happens_on_the_way() {
        let attempt = |error| ExecutionError::LastAttemptError(error);
        let pool =
            |last_connection_error| ConnectionPoolError::Broken { last_connection_error }.into();
        let invalid = |reason: &str| RequestAttemptError::DbError(DbError::Invalid, reason.into());
        for (error, verdict) in [
            (ExecutionError::RequestTimeout(std::time::Duration::from_secs(1)), LATE),
            (ExecutionError::EmptyPlan, AWAY),
            (BadQuery::ValuesTooLongForKey(70_000, 65_535).into(), INVALID),
            (BadQuery::PartitionKeyExtraction.into(), BROKEN),
            (attempt(RequestAttemptError::BrokenConnectionError(broken_connection())), AWAY),
            (attempt(RequestAttemptError::UnableToAllocStreamId), AWAY),
            (attempt(RequestAttemptError::NonfinishedPagingState), BROKEN),
            (ConnectionPoolError::Initializing.into(), AWAY),
            (ConnectionPoolError::NodeDisabledByHostFilter.into(), CONFIG),
            (pool(ConnectionError::ConnectTimeout), AWAY),
            (pool(ConnectionError::NoSourcePortForShard(0)), AWAY),
            (pool(ConnectionError::BrokenConnection(broken_connection())), AWAY),
            (pool(io(std::io::ErrorKind::ConnectionRefused)), AWAY),
            (PrepareError::AllAttemptsFailed { first_attempt: invalid("x") }.into(), INVALID),
            (PrepareError::PreparedStatementIdsMismatch.into(), BROKEN),
        ] {
            let error: ExecutionError = error;
            let text = format!("{error:?}");
            let error = of_execution(error);
            assert_eq!((error.kind(), error.is_retryable()), verdict, "{text}");
            assert!(error.find::<ExecutionError>().is_some(), "the driver's error is kept: {text}");
        }
        let invalid = PrepareError::AllAttemptsFailed { first_attempt: invalid("no such column") };
        let error = of_preparing(invalid);
        assert_eq!((error.kind(), error.is_retryable()), CONFIG);
    }

    #[test]
    fn what_keeps_from_connecting() {
        let pool = |last_connection_error| {
            let error = ConnectionPoolError::Broken { last_connection_error };
            NewSessionError::MetadataError(error.into())
        };
        for (error, verdict) in [
            (NewSessionError::FailedToResolveAnyHostname(Vec::new()), AWAY),
            (NewSessionError::EmptyKnownNodesList, CONFIG),
            (NewSessionError::IllegalConfig("x".into()), CONFIG),
            (pool(io(std::io::ErrorKind::ConnectionRefused)), AWAY),
            (pool(ConnectionError::ConnectTimeout), AWAY),
            (
                NewSessionError::UseKeyspaceError(UseKeyspaceError::RequestTimeout(
                    std::time::Duration::from_secs(1),
                )),
                LATE,
            ),
        ] {
            let text = format!("{error:?}");
            let error = of_connecting(error);
            assert_eq!((error.kind(), error.is_retryable()), verdict, "{text}");
        }
        let words = "Provided username a and/or password are incorrect".to_owned();
        for (error, verdict) in [
            (Setup::DbError(DbError::AuthenticationError, words), REFUSED),
            (Setup::MissingAuthentication, REFUSED),
            (Setup::AuthFinishError("x".to_owned()), REFUSED),
            (Setup::BrokenConnection(broken_connection()), AWAY),
            (Setup::DbError(DbError::ProtocolError, String::new()), BROKEN),
        ] {
            assert_eq!(setup(&error), verdict, "{error:?}");
        }
    }
}
