//! A small HTTP server, so that a fake is one function from what was asked to what is answered.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::Value as Json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running server on 127.0.0.1 and a free port; ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// A request, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The parts of the path, decoded.
    pub path: Vec<String>,
    /// The pairs of the query, decoded, in their order.
    pub query: Vec<(String, String)>,
    /// The `Authorization` header; empty without one.
    pub authorization: String,
    /// The body; `Null` when it is no JSON.
    pub body: Json,
}

/// An answer: a status, and a body, which `Null` leaves empty.
pub type Answered = (u16, Json);

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts one that answers every request by this function.
    ///
    /// # Panics
    /// Loopback has no free port.
    pub async fn start(answer: impl Fn(&Asked) -> Answered + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        let (address, task) = serve(move |request| {
            let (status, body) = answer(&taken_apart(&request));
            let text = if body.is_null() { String::new() } else { body.to_string() };
            let response = Response::builder().status(status).body(Full::<Bytes>::from(text));
            std::future::ready(response.map_err(std::io::Error::other))
        })
        .await;
        Self { address, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Asked {
    /// A value of the query.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn taken_apart(request: &Request<Bytes>) -> Asked {
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let url = reqwest::Url::parse(&format!("http://fake{}", request.uri())).expect("a request has a path");
    // The URL would resolve `..`: a fake must see what was asked.
    let path = request.uri().path().split('/').skip(1);
    Asked {
        method: request.method().to_string(),
        path: path.map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect(),
        query: url.query_pairs().into_owned().collect(),
        authorization: authorization.unwrap_or_default().to_owned(),
        body: serde_json::from_slice(request.body()).unwrap_or_default(),
    }
}

/// Answers every request on a free port of 127.0.0.1; an error closes the connection without an answer.
pub(crate) async fn serve<Answer, Answering, B>(answer: Answer) -> (SocketAddr, JoinHandle<()>)
where
    Answer: Fn(Request<Bytes>) -> Answering + Clone + Send + Sync + 'static,
    Answering: Future<Output = Result<Response<B>, std::io::Error>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    let task = tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let answer = answer.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                        answer(Request::from_parts(head, body)).await
                    }
                });
                // A cut connection ends with an error, on purpose.
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, task)
}
