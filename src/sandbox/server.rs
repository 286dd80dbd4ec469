//! The HTTP plumbing of the fakes: whole requests in, replies out, and the ways in which a reply can get lost.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tracing::warn;

/// Largest request body that a fake takes, in bytes.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One request, read to its end.
pub(super) struct Request {
    /// The method.
    pub(super) method: Method,
    /// The path, cut at its slashes and percent-decoded; empty for `/`.
    pub(super) segments: Vec<String>,
    /// The query, in order.
    pub(super) query: Vec<(String, String)>,
    /// The headers.
    pub(super) headers: HeaderMap,
    /// The body.
    pub(super) body: Bytes,
}

impl Request {
    /// A header's text; `None` when it is absent or not text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first query parameter of this name.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A field of the form that the body is; blank when it is absent.
    pub(super) fn form(&self, name: &str) -> String {
        let fields: Vec<(String, String)> = serde_urlencoded::from_bytes(&self.body).unwrap_or_default();
        fields.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    }

    /// The fields of the form or of the flat JSON object that the body is; numbers and booleans as their text.
    pub(super) fn fields(&self) -> BTreeMap<String, String> {
        let text = |value: Value| match value {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        };
        match self.json() {
            Some(Value::Object(object)) => object.into_iter().map(|(key, value)| (key, text(value))).collect(),
            _ => serde_urlencoded::from_bytes(&self.body).unwrap_or_default(),
        }
    }

    /// The body as JSON; `None` when it is not.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// How much of a reply reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// All of it.
    Whole,
    /// The head with the true length, half of the body, then the connection ends.
    Half,
    /// Nothing: the connection ends.
    Nothing,
}

/// The answer to one request.
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    extent: Extent,
}

impl Reply {
    /// A status without a body.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), extent: Extent::Whole }
    }

    /// A JSON body.
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self { body: body.to_string().into_bytes(), ..Self::empty(status) }.with("content-type", "application/json")
    }

    /// A JSON body that is written already.
    pub(super) fn written(status: u16, body: Vec<u8>) -> Self {
        Self { body, ..Self::empty(status) }.with("content-type", "application/json")
    }

    /// Text of any other type.
    pub(super) fn text(status: u16, content_type: &str, body: String) -> Self {
        Self { body: body.into_bytes(), ..Self::empty(status) }.with("content-type", content_type)
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The connection breaks in the middle of the body.
    pub(super) fn cut_in_half(self) -> Self {
        Self { extent: Extent::Half, ..self }
    }

    /// The connection ends without an answer.
    pub(super) fn lost() -> Self {
        Self { extent: Extent::Nothing, ..Self::empty(500) }
    }

    /// The HTTP status, as it would be sent.
    pub(super) fn status(&self) -> u16 {
        self.status
    }
}

/// What answers the requests of one server.
#[async_trait]
pub(super) trait Service: Send + Sync + 'static {
    /// Answers one request; runs to its end even when the client hangs up, as a real server would.
    async fn answer(&self, request: Request) -> Reply;
}

/// One listening server; it ends when it is stopped or dropped.
pub(super) struct Server {
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on the address; port 0 takes a free one.
    pub(super) async fn listen(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
        let named = |error: std::io::Error| std::io::Error::new(error.kind(), format!("listen on {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(named)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    /// Serves all connections of a listener.
    pub(super) fn start(listener: TcpListener, service: Arc<dyn Service>) -> Self {
        Self { task: tokio::spawn(accept(listener, service)) }
    }

    /// Closes the port and all connections.
    pub(super) async fn stop(mut self) {
        self.task.abort();
        // The only error is the cancellation that we asked for.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, service: Arc<dyn Service>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&service)));
                }
                Err(error) => {
                    warn!(%error, "A sandbox server could not accept a connection.");
                    // Out of file handles: without a pause this loop would spin until one is free.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
}

async fn serve(stream: TcpStream, service: Arc<dyn Service>) {
    // Small answers on kept connections would otherwise wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let respond = service_fn(move |request| respond(Arc::clone(&service), request));
    // An error here is a client that went away or an answer that we lost on purpose.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), respond).await;
}

/// Makes hyper close the connection where it stands.
#[derive(Debug, thiserror::Error)]
#[error("the sandbox loses this answer on purpose")]
struct Lost;

type ReplyBody = UnsyncBoxBody<Bytes, Lost>;

async fn respond(service: Arc<dyn Service>, request: hyper::Request<Incoming>) -> Result<Response<ReplyBody>, Lost> {
    let Some(request) = read(request).await else { return send(Reply::empty(413)) };
    // In a task of its own: when the client hangs up, hyper drops this future, but a real server would go on and commit.
    let reply = tokio::spawn(async move { service.answer(request).await }).await.map_err(|_| Lost)?;
    send(reply)
}

async fn read(request: hyper::Request<Incoming>) -> Option<Request> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.ok()?.to_bytes();
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let segments = head.uri.path().split('/').filter(|part| !part.is_empty()).map(decode).collect();
    let query = head.uri.query().and_then(|query| serde_urlencoded::from_str(query).ok()).unwrap_or_default();
    Some(Request { method: head.method, segments, query, headers: head.headers, body })
}

fn send(reply: Reply) -> Result<Response<ReplyBody>, Lost> {
    let length = reply.body.len();
    let body = match reply.extent {
        Extent::Nothing => return Err(Lost),
        Extent::Whole => Full::new(Bytes::from(reply.body)).map_err(|never: Infallible| match never {}).boxed_unsync(),
        Extent::Half => half(Bytes::from(reply.body)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length.into());
    for (name, value) in reply.headers {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

/// The first half of a body, then a broken connection.
fn half(whole: Bytes) -> ReplyBody {
    let first = whole.slice(..whole.len() / 2);
    let frames = futures::stream::unfold(Some(first), |first| async move {
        match first {
            Some(bytes) => Some((Ok(Frame::data(bytes)), None)),
            None => {
                // hyper flushes what it has when the body is not ready; without this nothing at all would be sent.
                tokio::task::yield_now().await;
                Some((Err(Lost), None))
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Whether a request's `Content-Type` is this one, whatever its parameters.
pub(super) fn has_content_type(request: &Request, wanted: &str) -> bool {
    let sent = request.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    sent.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
}

/// Escapes text for HTML.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// A small page without external assets: a title, a sentence, forms that are HTML already, counts, and one table.
pub(super) fn page(
    title: &str,
    words: &str,
    forms: &str,
    counts: &[(&str, String)],
    heads: &[&str],
    rows: &[Vec<String>],
) -> Reply {
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{0}</title><style>body{{font:15px/1.5 system-ui,\
         sans-serif;margin:2em;color:#223}}table{{border-collapse:collapse}}td,th{{padding:.2em .8em .2em 0;\
         text-align:left;vertical-align:top;white-space:pre-line;border-bottom:1px solid #dde}}dl{{display:grid;\
         grid-template-columns:max-content auto;gap:0 1em}}dd{{margin:0}}</style><h1>{0}</h1><p>{1}</p>{forms}<dl>",
        escape(title),
        escape(words)
    );
    for (name, value) in counts {
        html.push_str(&format!("<dt>{}<dd>{}", escape(name), escape(value)));
    }
    html.push_str("</dl><table><tr>");
    for head in heads {
        html.push_str(&format!("<th>{}", escape(head)));
    }
    for row in rows {
        html.push_str("<tr>");
        for value in row {
            html.push_str(&format!("<td>{}", escape(value)));
        }
    }
    html.push_str("</table></html>\n");
    Reply::text(200, "text/html; charset=utf-8", html)
        .with("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'")
}
