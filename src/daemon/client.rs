//! The one factory of HTTP clients: time-outs, roots of trust, user agent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::{ClientConfig, RootCertStore};

/// Longest time for a connection.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Longest time for a whole call; below the pipeline's limit for a batch.
const CALL_TIME: Duration = Duration::from_secs(60);

/// A client with the system's roots of trust, or else Mozilla's: some machines have no CA files at all.
///
/// # Errors
/// The TLS configuration cannot be made.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = reqwest::Client::builder();
    builder
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("learnsync/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIME)
        .timeout(CALL_TIME)
        // A redirect would carry the credentials to another host.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .context("build the HTTP client")
}
