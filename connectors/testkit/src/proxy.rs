//! An HTTP proxy between connector and fake that injects faults, and remembers what was asked.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::Fake;
use crate::server::serve;

type Body = BoxBody<Bytes, std::io::Error>;

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The proxy answers this; the target is not asked.
    Answer {
        /// The HTTP status.
        status: u16,
        /// Headers.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: String,
    },
    /// The connection is closed; the target is not asked.
    CutBefore,
    /// The target is asked; the connection is closed without an answer.
    LoseAnswer,
    /// The connection is closed; the target is asked when [`Proxy::release_late`] is called.
    Late,
    /// The target is asked when the gate is opened; the connector waits meanwhile.
    Slow(Gate),
    /// The target is asked; half of its answer's body arrives, as if it were all.
    Garble,
    /// The target is asked; the connection breaks off amid its answer's body.
    BreakOff,
}

impl Fault {
    /// An answer without headers.
    #[must_use]
    pub fn answer(status: u16, body: &str) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.to_owned() }
    }

    /// An answer with one header.
    #[must_use]
    pub fn answer_with(status: u16, name: &'static str, value: &str) -> Self {
        Self::Answer { status, headers: vec![(name, value.to_owned())], body: String::new() }
    }
}

/// Holds a request up until the test lets it pass.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    arrived: Arc<Notify>,
    opened: Arc<Notify>,
}

impl Gate {
    /// Returns once the request waits at the gate.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Lets it pass.
    pub fn open(&self) {
        self.opened.notify_one();
    }
}

/// Which requests a fault counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    Any,
    /// Those that change nothing.
    Read,
    /// Those that change something.
    Write,
}

/// A request that came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The `Host` header.
    pub host: String,
    /// Whether it changes something.
    pub is_write: bool,
    /// Whether a fault met it.
    pub is_faulted: bool,
}

/// The proxy; ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    server: JoinHandle<()>,
}

struct State {
    fake: Arc<dyn Fake>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Which requests, how many of them still pass unharmed, what then happens.
    planned: Vec<(Which, usize, Fault)>,
    calls: Vec<Call>,
    late: Vec<Request<Full<Bytes>>>,
    credentials: BTreeSet<String>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Proxy {
    /// Starts one before this fake, on 127.0.0.1 and a free port.
    ///
    /// # Panics
    /// Loopback has no free port.
    pub async fn start(fake: Arc<dyn Fake>) -> Self {
        let state = Arc::new(State { fake, seen: Mutex::default() });
        let passing = Arc::clone(&state);
        let (address, server) = serve(move |request| {
            let state = Arc::clone(&passing);
            async move { state.answer(request.map(Full::new)).await }
        })
        .await;
        Self { address, state, server }
    }

    /// Its address as a URL without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its `host:port`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Does this to the n-th such request from now on (from 1), once.
    pub fn plan(&self, which: Which, nth: usize, fault: Fault) {
        self.seen().planned.push((which, nth.saturating_sub(1), fault));
    }

    /// Whether a planned fault still waits for its request.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        !self.seen().planned.is_empty()
    }

    /// Forgets planned faults, late requests and calls; what was seen of credentials stays.
    pub fn reset(&self) {
        let mut seen = self.seen();
        seen.planned.clear();
        seen.late.clear();
        seen.calls.clear();
    }

    /// The requests so far, in the order in which they came.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.seen().calls.clone()
    }

    /// Every value of an `Authorization` header that came by, without the scheme.
    #[must_use]
    pub fn credentials(&self) -> BTreeSet<String> {
        self.seen().credentials.clone()
    }

    /// Lets the requests of [`Fault::Late`] reach the target, and returns when it has answered them.
    pub async fn release_late(&self) {
        let late = std::mem::take(&mut self.seen().late);
        for request in late {
            // Nobody hears the answer; what matters is what the target did.
            let _ = self.state.forward(request).await;
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.state.seen()
    }
}

impl State {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nothing panics while it holds this")
    }

    /// Remembers a request, and says what happens to it.
    fn meet(&self, request: &Request<Full<Bytes>>) -> Option<Fault> {
        let method = request.method().as_str();
        let path = request.uri().path();
        let is_write = self.fake.is_write(method, path);
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut seen = self.seen();
        let fault = seen.fault(is_write);
        seen.calls.push(Call {
            method: method.to_owned(),
            path: path.to_owned(),
            host: text(header::HOST).to_owned(),
            is_write,
            is_faulted: fault.is_some(),
        });
        let credentials = text(header::AUTHORIZATION);
        let credentials = credentials.split_once(' ').map_or(credentials, |(_scheme, rest)| rest);
        if !credentials.is_empty() {
            seen.credentials.insert(credentials.to_owned());
        }
        fault
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, std::io::Error> {
        match self.meet(&request) {
            None => Ok(self.forward(request).await?.map(whole)),
            Some(Fault::Answer { status, headers, body }) => answer(status, headers, body),
            Some(Fault::CutBefore) => Err(cut()),
            Some(Fault::LoseAnswer) => {
                self.forward(request).await?;
                Err(cut())
            }
            Some(Fault::Late) => {
                self.seen().late.push(request);
                Err(cut())
            }
            Some(Fault::Slow(gate)) => {
                gate.arrived.notify_one();
                gate.opened.notified().await;
                Ok(self.forward(request).await?.map(whole))
            }
            Some(Fault::Garble) => Ok(half_of(self.forward(request).await?).map(|mut half| {
                // Half of `12` would still be a number.
                half.extend_from_slice(b"{");
                whole(half.into())
            })),
            Some(Fault::BreakOff) => Ok(half_of(self.forward(request).await?).map(broken)),
        }
    }

    /// Asks the target, over a connection of its own.
    async fn forward(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, std::io::Error> {
        let stream = TcpStream::connect(self.fake.address()).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(std::io::Error::other)?;
        let (mut head, body) = answer.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        connection.abort();
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
            head.headers.remove(name);
        }
        Ok(Response::from_parts(head, body))
    }
}

impl Seen {
    fn fault(&mut self, is_write: bool) -> Option<Fault> {
        let mut due = None;
        for (place, (which, rest, _)) in self.planned.iter_mut().enumerate() {
            let counts = match which {
                Which::Any => true,
                Which::Read => !is_write,
                Which::Write => is_write,
            };
            match (counts, *rest) {
                (false, _) => {}
                (true, 0) => due = due.or(Some(place)),
                (true, _) => *rest -= 1,
            }
        }
        due.map(|place| self.planned.remove(place).2)
    }
}

fn cut() -> std::io::Error {
    std::io::Error::other("cut on purpose")
}

fn answer(status: u16, headers: Vec<(&'static str, String)>, body: String) -> Result<Response<Body>, std::io::Error> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(name, value);
    }
    answer.body(whole(body.into())).map_err(std::io::Error::other)
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed()
}

fn half_of(answer: Response<Bytes>) -> Response<Vec<u8>> {
    let mut half = answer.map(|body| body[..body.len() / 2].to_vec());
    // An answer of this status has no body to break.
    if half.status() == StatusCode::NO_CONTENT {
        *half.status_mut() = StatusCode::OK;
    }
    half
}

fn broken(half: Vec<u8>) -> Body {
    BodyExt::boxed(StreamBody::new(stream::iter([Ok(Frame::data(Bytes::from(half))), Err(cut())])))
}
