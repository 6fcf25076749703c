//! The certificates to trust, as users give them.

use std::fmt::Display;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The certificates in this text (PEM).
///
/// # Errors
/// There is none, or one that cannot be read.
pub(crate) fn trusted(authority: &[u8]) -> Result<RootCertStore, String> {
    let unusable = |why: &dyn Display| format!("`tls_authority` cannot be used: {why}");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority) {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() { Err(unusable(&"there is no certificate in it")) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for text in
            ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            assert!(trusted(text.as_bytes()).unwrap_err().contains("`tls_authority`"), "{text}");
        }
        let authority = include_bytes!("../../tests/data/other_authority.pem");
        assert_eq!(trusted(authority).unwrap().len(), 1);
    }
}
