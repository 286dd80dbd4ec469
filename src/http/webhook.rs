//! One request: which door, which method, which body; kept on disk; then answered.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tracing::{debug, info, warn};

use super::body::{self, BodyError};
use super::head::Heads;
use super::{Door, InboxError, Receiver};
use crate::domain::event::RawEvent;

/// Why a request is refused; each variant knows its status.
#[derive(Debug)]
enum Rejection {
    NotFound,
    Method,
    BothLengths,
    Host,
    Body(BodyError),
    TooMany,
    Inbox(InboxError),
}

impl Receiver {
    /// Answers one request; never fails.
    pub(super) async fn answer(&self, request: Request<Incoming>, heads: &Heads) -> Response<Full<Bytes>> {
        let has_encoding = request.headers().contains_key(TRANSFER_ENCODING);
        let length = content_length(&request);
        let is_ambiguous = heads.take_is_ambiguous(length.unwrap_or(0));
        let (parts, mut incoming) = request.into_parts();
        let outcome = match preconditions(&parts, is_ambiguous || (has_encoding && length.is_some())) {
            Ok(()) => self.route(&parts, &mut incoming).await,
            Err(rejection) => Err(rejection),
        };
        let mut response = outcome.unwrap_or_else(|rejection| self.refuse(&rejection));
        let is_read = hyper::body::Body::is_end_stream(&incoming);
        if !is_read {
            body::drain(&parts.headers, &mut incoming, &self.limits).await;
        }
        if has_encoding || !is_read {
            // Nobody counts chunks or rests here: what follows on this connection could not be told from them.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn route(
        &self,
        parts: &hyper::http::request::Parts,
        incoming: &mut Incoming,
    ) -> Result<Response<Full<Bytes>>, Rejection> {
        let path = parts.uri.path();
        if path == "/health/live" {
            return match parts.method {
                Method::GET | Method::HEAD => Ok(reply(StatusCode::OK, &json!({"status": "alive"}))),
                _ => Err(Rejection::Method),
            };
        }
        let door = self.door(path).ok_or(Rejection::NotFound)?;
        match parts.method {
            Method::GET | Method::HEAD => {
                let words = format!("learnsync listens here for the webhooks of portal {}", door.portal);
                Ok(reply(StatusCode::OK, &json!({"status": "alive", "message": words})))
            }
            Method::POST | Method::PUT => self.receive(door, parts, incoming).await,
            _ => Err(Rejection::Method),
        }
    }

    /// The door that the path opens. All doors are tried, whatever the first says: time must not tell how near a guess is.
    fn door(&self, path: &str) -> Option<&Door> {
        let (name, token) = path.strip_prefix("/hooks/")?.split_once('/')?;
        let token = token.strip_suffix('/').unwrap_or(token);
        let (name, token) = (Sha256::digest(name), Sha256::digest(token));
        let mut found = None;
        for door in &self.doors {
            let fits: Choice = door.name_digest.ct_eq(name.as_slice()) & door.token_digest.ct_eq(token.as_slice());
            if bool::from(fits) {
                found = Some(door);
            }
        }
        found
    }

    async fn receive(
        &self,
        door: &Door,
        parts: &hyper::http::request::Parts,
        incoming: &mut Incoming,
    ) -> Result<Response<Full<Bytes>>, Rejection> {
        let body = body::read(&parts.headers, incoming, &self.limits).await.map_err(Rejection::Body)?;
        let now = self.clock.now();
        let has_room = self.rate.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take(&self.limits, now);
        if !has_room {
            return Err(Rejection::TooMany);
        }
        let content_type = parts.headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let event = RawEvent {
            portal: door.portal.clone(),
            method: parts.method.to_string(),
            content_type: content_type.unwrap_or_default().into_owned(),
            body,
        };
        let recognised = (self.recognise)(&event);
        let id = self.inbox.append_event(event).await.map_err(Rejection::Inbox)?;
        debug!(portal = door.portal, event = id, "Kept a webhook");
        if recognised.is_test {
            info!(portal = door.portal, "The Test button of portal {} was pressed", door.portal);
            let words = "learnsync received the test. It works: real events will be kept and read back from the LMS.";
            return Ok(reply(
                StatusCode::OK,
                &json!({"status": "test", "message": words, "recognised": recognised.words}),
            ));
        }
        Ok(reply(StatusCode::OK, &json!({"status": "accepted"})))
    }

    fn refuse(&self, rejection: &Rejection) -> Response<Full<Bytes>> {
        let (status, words, retry_after) = self.words(rejection);
        match rejection {
            Rejection::Inbox(_) | Rejection::TooMany => warn!(status = status.as_u16(), "Refused a webhook: {words}"),
            Rejection::NotFound | Rejection::Method | Rejection::BothLengths | Rejection::Host | Rejection::Body(_) => {
                info!(status = status.as_u16(), "Refused a request: {words}");
            }
        }
        let mut response = reply(status, &json!({"error": words}));
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(rejection, Rejection::Method) {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, PUT, GET, HEAD"));
        }
        response
    }

    fn words(&self, rejection: &Rejection) -> (StatusCode, String, Option<u32>) {
        let limits = &self.limits;
        match rejection {
            Rejection::NotFound => (StatusCode::NOT_FOUND, "nothing is here".to_owned(), None),
            Rejection::Method => (StatusCode::METHOD_NOT_ALLOWED, "send webhooks with POST or PUT".to_owned(), None),
            Rejection::BothLengths => (
                StatusCode::BAD_REQUEST,
                "the request has both Content-Length and Transfer-Encoding, send one of them".to_owned(),
                None,
            ),
            Rejection::Host => {
                (StatusCode::BAD_REQUEST, "an HTTP/1.1 request has exactly one Host header".to_owned(), None)
            }
            Rejection::Body(BodyError::TooLarge { bytes }) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "webhook body has at least {bytes} bytes, the limit is {} (listen.body_bytes_max)",
                    limits.body_bytes_max
                ),
                None,
            ),
            Rejection::Body(BodyError::TooSlow) => (
                StatusCode::REQUEST_TIMEOUT,
                format!("webhook body took more than {} ms (listen.body_seconds_max)", limits.body_time.as_millis()),
                None,
            ),
            Rejection::Body(BodyError::Encoding(encoding)) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("content encoding \"{}\" is not understood, send gzip or none", cut(encoding)),
                None,
            ),
            Rejection::Body(BodyError::NotGzip(why)) => {
                (StatusCode::BAD_REQUEST, format!("the body is not the gzip that it claims to be: {why}"), None)
            }
            Rejection::Body(BodyError::BrokeOff(why)) => {
                (StatusCode::BAD_REQUEST, format!("the body broke off: {why}"), None)
            }
            Rejection::TooMany => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("more than {} webhooks a second (listen.hooks_per_second_max)", limits.hooks_per_second_max),
                Some(1),
            ),
            Rejection::Inbox(error @ InboxError::Full(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, error.to_string(), Some(60))
            }
            Rejection::Inbox(error @ InboxError::Unavailable(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, error.to_string(), Some(5))
            }
        }
    }
}

fn preconditions(parts: &hyper::http::request::Parts, has_both_lengths: bool) -> Result<(), Rejection> {
    if has_both_lengths {
        return Err(Rejection::BothLengths);
    }
    let hosts = parts.headers.get_all(HOST).iter().count();
    match (parts.version, hosts) {
        (Version::HTTP_11, 1) | (Version::HTTP_10, 0 | 1) => Ok(()),
        _ => Err(Rejection::Host),
    }
}

fn content_length(request: &Request<Incoming>) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

/// A small JSON answer.
pub(super) fn reply(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
