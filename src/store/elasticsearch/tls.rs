//! Whom `https` connections trust.

use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::config::ElasticsearchConfig;
use crate::error::{Error, ErrorKind, Result};

/// # Errors
/// Certificates to trust that are none; a system that has none.
pub(super) fn config(config: &ElasticsearchConfig) -> Result<ClientConfig> {
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(no_tls)?;
    let builder = match &config.tls_authority {
        Some(pem) => builder.with_root_certificates(trusted(pem)?),
        None => builder.try_with_platform_verifier().map_err(no_tls)?,
    };
    Ok(builder.with_no_client_auth())
}

fn no_tls(error: rustls::Error) -> Error {
    Error::new(ErrorKind::Config, "TLS cannot be set up").with_source(error)
}

fn trusted(pem: &[u8]) -> Result<RootCertStore> {
    let unusable = || Error::new(ErrorKind::Config, "`tls_authority` is no certificate (PEM)");
    let mut trusted = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unusable().with_source(error))?;
        trusted.add(certificate).map_err(|error| unusable().with_source(error))?;
    }
    if trusted.is_empty() { Err(unusable()) } else { Ok(trusted) }
}
