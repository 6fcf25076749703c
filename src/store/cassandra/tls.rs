//! TLS, by rustls: what the driver needs to know of it, and what its errors mean.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::default_provider;

use crate::error::{Error, ErrorKind, Result};
use crate::store::tls::trusted;

/// Trusts these certificates.
///
/// # Errors
/// There is none among them, or one that cannot be read.
pub(super) fn context(authority: &[u8]) -> Result<Arc<ClientConfig>> {
    let roots = trusted(authority).map_err(|fault| Error::new(ErrorKind::Config, fault))?;
    // Named, since another part of the program may have switched on another one.
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| {
        Error::new(ErrorKind::Config, "TLS cannot be set up").with_source(error)
    })?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// What is wrong, if rustls found it; `None` if it is the network.
pub(super) fn fault(error: &io::Error) -> Option<ErrorKind> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_) => {
            Some(ErrorKind::Unauthorized)
        }
        // What answers speaks no TLS, or none that we do.
        _ => Some(ErrorKind::Config),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for text in
            ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            let error = context(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}: {error}");
        }
    }

    #[test]
    fn errors_of_tls_are_told_from_those_of_the_network() {
        let of = |error| fault(&io::Error::new(io::ErrorKind::InvalidData, error));
        let unknown = rustls::CertificateError::UnknownIssuer;
        assert_eq!(of(rustls::Error::from(unknown)), Some(ErrorKind::Unauthorized));
        let refused = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        assert_eq!(of(refused), Some(ErrorKind::Unauthorized));
        let plain = rustls::InvalidMessage::InvalidContentType;
        assert_eq!(of(rustls::Error::from(plain)), Some(ErrorKind::Config));
        assert_eq!(fault(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }
}
