//! The conformance suite that every connector passes: a fake target behind a proxy that injects faults, and one check for each promise.
//!
//! A connector's test puts its fake of the vendor's API behind the trait [`Fake`] and calls [`run`]. The kit puts a proxy of its own before
//! the fake, builds connectors that speak to the proxy, and runs the checks. What the connector claims selects them: what is not claimed
//! is reported as skipped. Nothing here sleeps; a time-out only turns a hang red.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # async fn example(kind: &dyn learnsync_sdk::ConnectorType, fake: Arc<dyn learnsync_testkit::Fake>) {
//! let report = learnsync_testkit::run(kind, fake).await;
//! println!("{report}");
//! report.assert_passed();
//! # }
//! ```
#![warn(missing_docs)]

mod bench;
mod checks;
mod client;
mod fake;
mod proxy;
mod report;
mod server;
mod suite;

pub use client::{http_client, toolbox};
pub use fake::{Fake, HeldRow, Sample};
pub use proxy::{Call, Fault, Gate, Proxy, Which};
pub use report::{CheckResult, Report, Verdict, conformance_table};
pub use server::{Answered, Asked, Server};
pub use suite::{check_names, run};
