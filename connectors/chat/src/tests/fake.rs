//! The three chat services on loopback, as strict as the real ones where it matters, with answers that can be planned.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use learnsync_sdk::{Connector, ConnectorType};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Chat;

/// The parts of the URLs by which somebody could post.
pub(super) const SECRETS: [&str; 3] = ["AIzaSyK3y-s3cret", "t0ken_s3cret=", "X1y2Z3s3cretX1y2Z3s3cret"];

/// The services in the words of the configuration, with the path and query of a webhook.
pub(super) const SERVICES: [(&str, &str); 3] = [
    ("google_chat", "/v1/spaces/AAAAspace01/messages?key=AIzaSyK3y-s3cret&token=t0ken_s3cret%3D"),
    ("slack", "/services/T0TEAM/B0HOOK/X1y2Z3s3cretX1y2Z3s3cret"),
    ("teams", "/workflows/4f1e/triggers/manual/paths/invoke?api-version=2016-06-01&sig=t0ken_s3cret%3D"),
];

/// What happens to the next post.
pub(super) enum Fault {
    /// This answer, and nothing is posted.
    Answer(u16, Vec<(&'static str, &'static str)>, String),
    /// It answers with the URL that it was asked for, and nothing is posted.
    Echo(u16),
    /// It is posted, and the connection is closed without an answer.
    LoseAnswer,
    /// The connection breaks off amid the body of an answer with this status.
    BreakOff(u16),
}

/// What the fake remembers.
#[derive(Default)]
pub(super) struct Held {
    /// All posts, taken or not.
    pub(super) posts: Vec<Json>,
    /// The posts that were taken, each with the name that its answer gave it, if any.
    pub(super) taken: Vec<(Option<String>, Json)>,
    /// Whether the webhook is gone.
    pub(super) is_gone: bool,
    faults: VecDeque<Fault>,
}

/// The running fake; ends with the test.
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    held: Arc<Mutex<Held>>,
    server: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Held {
    fn keep(&mut self, status: u16, words: &str, payload: Json) {
        if status < 300 {
            let name =
                serde_json::from_str::<Json>(words).ok().and_then(|body| Some(body["name"].as_str()?.to_owned()));
            self.taken.push((name, payload));
        }
    }
}

impl Fake {
    pub(super) async fn start() -> Self {
        let held = Arc::new(Mutex::new(Held::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let server = tokio::spawn(serve(listener, Arc::clone(&held)));
        Self { address, held, server }
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no test panics while it holds this")
    }

    /// Does this to the next post.
    pub(super) fn fail(&self, fault: Fault) {
        self.held().faults.push_back(fault);
    }

    /// A connector that posts here.
    pub(super) fn connector(&self, service: &str) -> Box<dyn Connector> {
        self.built(service, &json!({}))
    }

    /// The same with more settings.
    pub(super) fn built(&self, service: &str, more: &Json) -> Box<dyn Connector> {
        connector_at(&format!("http://{}", self.address), service, more)
    }
}

/// A connector that posts to a service at this address.
pub(super) fn connector_at(base: &str, service: &str, more: &Json) -> Box<dyn Connector> {
    let (_, path) = SERVICES.iter().find(|(name, _)| *name == service).expect("a service");
    let mut settings = json!({"service": service, "url": format!("{base}{path}")});
    for (name, value) in more.as_object().into_iter().flatten() {
        settings[name] = value.clone();
    }
    let toolbox = learnsync_testkit::toolbox("acme");
    Chat.build(&settings, toolbox).expect("these settings are right")
}

async fn serve(listener: TcpListener, held: Arc<Mutex<Held>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let held = Arc::clone(&held);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&held)));
            // A lost answer ends the connection with an error, on purpose.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A body that may break off.
struct Said {
    bytes: Option<Bytes>,
    end: End,
}

enum End {
    Whole,
    AfterFlush,
    Broken,
}

impl Body for Said {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.bytes.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => match std::mem::replace(&mut self.end, End::Whole) {
                End::Whole => Poll::Ready(None),
                // What was said so far is sent when there is nothing to say for a moment.
                End::AfterFlush => {
                    self.end = End::Broken;
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                End::Broken => Poll::Ready(Some(Err(io::Error::other("the answer breaks off")))),
            },
        }
    }
}

async fn answer(request: Request<Incoming>, held: Arc<Mutex<Held>>) -> Result<Response<Said>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let payload: Json = serde_json::from_slice(&body).map_err(io::Error::other)?;
    assert_eq!(head.headers["content-type"], "application/json");
    let mut held = held.lock().expect("no test panics while it holds this");
    held.posts.push(payload.clone());
    let mut end = End::Whole;
    let (status, headers, words) = match held.faults.pop_front() {
        Some(Fault::Answer(status, headers, words)) => (status, headers, words),
        Some(Fault::Echo(status)) => (status, Vec::new(), format!("nothing at http://{}", head.uri)),
        Some(Fault::LoseAnswer) => return Err(io::Error::other("the answer is lost")),
        Some(Fault::BreakOff(status)) => {
            end = End::AfterFlush;
            (status, Vec::new(), "o".to_owned())
        }
        None if held.is_gone => (404, Vec::new(), "no_service".to_owned()),
        None => {
            let (status, words) = taken(head.uri.path(), &payload, body.len(), held.posts.len());
            held.keep(status, &words, payload);
            (status, Vec::new(), words)
        }
    };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Said { bytes: Some(Bytes::from(words)), end }).map_err(io::Error::other)
}

fn taken(path: &str, payload: &Json, bytes: usize, number: usize) -> (u16, String) {
    match path.split('/').nth(1) {
        Some("v1") => google_chat(payload, bytes, number),
        Some("services") => slack(payload),
        Some("workflows") if bytes <= 28 * 1024 => (202, String::new()),
        Some("workflows") => (413, "too large".to_owned()),
        _ => (404, "no such webhook".to_owned()),
    }
}

/// Knows the fields of a message, and no others.
fn google_chat(payload: &Json, bytes: usize, number: usize) -> (u16, String) {
    let mut fields = payload.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    if let Some(name) = fields.find(|name| !["text", "fallbackText", "cardsV2"].contains(name)) {
        let message =
            format!("Invalid JSON payload received. Unknown name \"{name}\" at 'message': Cannot find field.");
        return (400, json!({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}).to_string());
    }
    if bytes > 32_000 {
        return (400, json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "too long"}}).to_string());
    }
    (200, json!({"name": format!("spaces/AAAAspace01/messages/m{number}"), "text": "Ada Lovelace"}).to_string())
}

/// Counts blocks and characters.
fn slack(payload: &Json) -> (u16, String) {
    let blocks = payload["blocks"].as_array().map_or(&[][..], Vec::as_slice);
    let is_wrong = |block: &Json| {
        let length = |text: &Json| text["text"].as_str().unwrap_or_default().chars().count();
        let longest = if block["type"] == "header" { 150 } else { 3_000 };
        let elements = block["elements"].as_array().into_iter().flatten();
        elements.chain([&block["text"]]).any(|text| length(text) > longest)
    };
    match payload["text"].as_str() {
        None | Some("") => (400, "no_text".to_owned()),
        Some(_) if blocks.is_empty() || blocks.len() > 50 || blocks.iter().any(is_wrong) => {
            (400, "invalid_blocks".to_owned())
        }
        Some(_) => (200, "ok".to_owned()),
    }
}
