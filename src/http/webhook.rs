//! Takes one request: finds its portal, refuses what is not a sound webhook, keeps it, and only then answers 2xx.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use hyper::body::Body;
use serde_json::json;
use tracing::{debug, info, warn};

use super::answer::{self, Answer};
use super::body::{self, Encoding};
use super::rejection::Rejection;
use super::router::Route;
use super::{InboxError, Receiver};
use crate::domain::event::RawEvent;
use crate::telemetry::PORTAL_UNKNOWN;

/// What may be asked of a webhook URL.
const METHODS: &str = "GET, HEAD, POST, PUT";

impl Receiver {
    /// Answers one request. `is_ambiguous`: it carries both `Content-Length` and `Transfer-Encoding`.
    pub(super) async fn answer<B>(&self, request: Request<B>, is_ambiguous: bool) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let has_body = !request.body().is_end_stream();
        // The stream's watcher cannot see where chunks end and the next request begins: such a connection serves one request.
        let is_last = is_ambiguous || request.headers().contains_key(TRANSFER_ENCODING);
        let route = self.doors.route(request.uri().path());
        let answered = self.dispatch(route, request, is_ambiguous).await;
        let mut answer = answered.unwrap_or_else(|rejection| {
            log(route, &rejection);
            self.count(route, &rejection);
            answer::refusal(&rejection)
        });
        // A refused body may not have been read to its end, so nothing after it can be found.
        if is_last || (has_body && !answer.status().is_success()) {
            answer::close(&mut answer);
        }
        answer
    }

    /// Counts a refusal; what the inbox refused, it has counted itself.
    fn count(&self, route: Route<'_>, rejection: &Rejection) {
        let portal = match route {
            Route::Hook(portal) => portal,
            Route::Unknown => PORTAL_UNKNOWN,
        };
        if let Some(word) = rejection.outcome() {
            (self.refused)(portal, word);
        }
    }

    async fn dispatch<B>(&self, route: Route<'_>, request: Request<B>, is_ambiguous: bool) -> Result<Answer, Rejection>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // The path comes first: who does not know a token learns nothing, not even which of his headers we dislike.
        if route == Route::Unknown {
            return Err(Rejection::NotFound);
        }
        if is_ambiguous {
            return Err(Rejection::AmbiguousLength);
        }
        hosts(request.version(), request.headers())?;
        match route {
            Route::Hook(portal) => self.hook(portal, request).await,
            Route::Unknown => Err(Rejection::NotFound),
        }
    }

    async fn hook<B>(&self, portal: &str, request: Request<B>) -> Result<Answer, Rejection>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        match *request.method() {
            Method::GET | Method::HEAD => Ok(alive(portal)),
            Method::POST | Method::PUT => self.keep(self.receive(portal, request).await?).await,
            _ => Err(Rejection::Method(METHODS)),
        }
    }

    /// Reads a webhook, if the rate allows one more.
    async fn receive<B>(&self, portal: &str, request: Request<B>) -> Result<RawEvent, Rejection>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if !self.hooks.take() {
            let limits = &self.limits;
            return Err(Rejection::TooManyHooks {
                per_second: limits.hooks_per_second_max,
                burst: limits.hooks_burst_max,
            });
        }
        let encoding = Encoding::of(request.headers())?;
        let (head, body) = request.into_parts();
        let content_type = head.headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
        Ok(RawEvent {
            portal: portal.to_owned(),
            method: head.method.as_str().to_owned(),
            content_type: content_type.unwrap_or_default().into_owned(),
            body: body::read(body, encoding, &self.limits).await?,
        })
    }

    /// Keeps an event; there is no 2xx before the inbox has it.
    async fn keep(&self, event: RawEvent) -> Result<Answer, Rejection> {
        let portal = event.portal.clone();
        let recognised = (self.recognise)(&event);
        let id = self.inbox.append_event(event).await.map_err(|error| {
            warn!(portal = %portal, "Could not keep a webhook: {error}");
            match error {
                InboxError::Full(_) => Rejection::InboxFull,
                InboxError::Unavailable(_) => Rejection::InboxUnavailable,
            }
        })?;
        debug!(portal = %portal, event = id, "Kept event {id} of {portal}");
        if !recognised.is_test {
            return Ok(answer::json(StatusCode::OK, &json!({ "status": "accepted" })));
        }
        info!(portal = %portal, event = id, "Received a test webhook of {portal}");
        let mut message = format!("learnsync received the test; webhooks of the portal \"{portal}\" arrive here");
        if !recognised.words.is_empty() {
            message = format!("{message} (recognised: {})", recognised.words);
        }
        Ok(answer::json(StatusCode::OK, &json!({ "status": "test", "message": message })))
    }
}

/// What an administrator sees who opens the URL in a browser.
fn alive(portal: &str) -> Answer {
    let message = format!(
        "this is the webhook URL of the portal \"{portal}\"; it is alive and takes webhooks by POST, keep it secret"
    );
    answer::json(StatusCode::OK, &json!({ "status": "alive", "message": message }))
}

/// Refuses requests whose host is unclear (RFC 9112, section 3.2); hyper lets them pass.
fn hosts(version: Version, headers: &HeaderMap) -> Result<(), Rejection> {
    let count = headers.get_all(HOST).iter().count();
    match (version, count) {
        (_, 1) | (Version::HTTP_10, 0) => Ok(()),
        _ => Err(Rejection::Hosts(count)),
    }
}

/// Says once that a request was refused; never with its path, which may hold a token.
fn log(route: Route<'_>, rejection: &Rejection) {
    let portal = match route {
        Route::Hook(portal) => portal,
        Route::Unknown => "",
    };
    let (status, sentence) = (rejection.status(), rejection.sentence());
    if status.is_server_error() {
        warn!(status = status.as_u16(), portal, "Refused a request: {sentence}");
    } else {
        info!(status = status.as_u16(), portal, "Refused a request: {sentence}");
    }
}
