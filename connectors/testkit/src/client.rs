//! The toolbox, with an HTTP client as the daemon builds it, but for loopback.

use std::sync::Arc;

use chrono::DateTime;
use learnsync_sdk::{Clock, Toolbox};

/// The second at which the kit's clock stands: 2026-03-12T08:14:00Z.
const NOW_SECONDS: i64 = 1_773_303_240;

/// What the daemon hands to a connector of this installation. Its clock stands still: whoever counts on time that passes fails.
///
/// # Panics
/// Never: the settings are fixed.
#[must_use]
pub fn toolbox(installation: &str) -> Toolbox {
    let clock = Clock::new(|| DateTime::from_timestamp(NOW_SECONDS, 0).expect("a valid instant"));
    Toolbox { http: http_client(), installation: installation.to_owned(), clock, test_skip_lookup: false }
}

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
