//! The listeners that want to know with whom they speak.
//!
//! On top of the unencrypted listener: `SSL`, and `SASL_SSL` for user and password and for tokens.
//! Secrets stand here in the open: they open a broker on 127.0.0.1 that lives as long as a test run.

use std::path::Path;

use super::super::certificate::{STORE_PASSWORD, key_store};

/// The user, and the password for both PLAIN and SCRAM. The tests know them too.
const USER: &str = "alice";
const PASSWORD: &str = "open-sesame";

/// What `kafka.tools.StorageTool format` has to write for SCRAM: the only mechanism whose users are
/// in the cluster's metadata.
pub(super) fn scram_user() -> String {
    format!("SCRAM-SHA-256=[name={USER},password={PASSWORD}]")
}

/// The part of `server.properties` about these listeners.
pub(super) fn properties(run_dir: &Path) -> String {
    const LOGIN: &str = "org.apache.kafka.common.security";
    format!(
        "\
ssl.keystore.type=PKCS12
ssl.keystore.location={store}
ssl.keystore.password={STORE_PASSWORD}
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,OAUTHBEARER
listener.name.sasl_ssl.plain.sasl.jaas.config={LOGIN}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={LOGIN}.scram.ScramLoginModule required;
# Any token is believed that is well-formed and has not ended. Without the second line a connection outlives
# its token; with it, it is closed then unless the client authenticates again.
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config={LOGIN}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";
listener.name.sasl_ssl.oauthbearer.connections.max.reauth.ms=3600000
",
        store = key_store(run_dir).display()
    )
}
