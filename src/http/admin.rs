//! Health and metrics.

use http::{Method, StatusCode};
use serde_json::json;

use super::answer::{self, Answer};
use super::rejection::Rejection;
use crate::telemetry::METRICS_TYPE;

/// What may be asked of health and metrics.
const METHODS: &str = "GET, HEAD";

/// Answers `/health/live`: the process accepts and answers. Whether it can keep webhooks is not asked here, because a supervisor that
/// restarts us for a full disk makes nothing better.
pub(super) fn live(method: &Method) -> Result<Answer, Rejection> {
    readable(method)?;
    Ok(answer::json(StatusCode::OK, &json!({ "status": "alive" })))
}

/// Answers `/metrics` with this text.
pub(super) fn metrics(method: &Method, render: impl FnOnce() -> String) -> Result<Answer, Rejection> {
    readable(method)?;
    Ok(answer::text(StatusCode::OK, METRICS_TYPE, render()))
}

fn readable(method: &Method) -> Result<(), Rejection> {
    if [Method::GET, Method::HEAD].contains(method) { Ok(()) } else { Err(Rejection::Method(METHODS)) }
}
