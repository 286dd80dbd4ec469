//! The HTTP client of the toolbox, as the daemon builds it, but for loopback.

use std::sync::Arc;

/// Makes a client with no root of trust: only plain loopback is spoken to. Like the daemon's it follows no redirect.
///
/// # Panics
/// Never: the settings are fixed.
#[must_use]
pub fn http_client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        // One connection a request: which request a fault meets must not depend on what a pool has left.
        .pool_max_idle_per_host(0)
        .tls_backend_preconfigured(tls)
        .build()
        .expect("the settings are fixed")
}
