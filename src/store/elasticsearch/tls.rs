//! Whom `https` connections trust.

use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use super::config::ElasticsearchConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::store::tls::trusted;

/// # Errors
/// Certificates to trust that are none; a system that has none.
pub(super) fn config(config: &ElasticsearchConfig) -> Result<ClientConfig> {
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(no_tls)?;
    let builder = match &config.tls_authority {
        Some(pem) => {
            let roots = trusted(pem).map_err(|fault| Error::new(ErrorKind::Config, fault))?;
            builder.with_root_certificates(roots)
        }
        None => builder.try_with_platform_verifier().map_err(no_tls)?,
    };
    Ok(builder.with_no_client_auth())
}

fn no_tls(error: rustls::Error) -> Error {
    Error::new(ErrorKind::Config, "TLS cannot be set up").with_source(error)
}
