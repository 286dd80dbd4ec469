//! The receiver over real sockets: raw bytes, because HTTP clients are too polite.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::config::ListenConfig;
use crate::domain::chance::{Entropy, Generator};
use crate::domain::time::Timestamp;

const TOKEN: &str = "main-token-0123456789";
const PATH: &str = "/hooks/main/main-token-0123456789";
/// When a test gives up waiting for what never comes; no test waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// Keeps events in memory once `gate` lets them pass.
struct TestInbox {
    events: Mutex<Vec<RawEvent>>,
    trouble: Mutex<Option<InboxError>>,
    entered: Semaphore,
    gate: Semaphore,
}

#[async_trait]
impl Inbox for TestInbox {
    async fn append_event(&self, event: RawEvent) -> Result<i64, InboxError> {
        self.entered.add_permits(1);
        self.gate.acquire().await.expect("the gate is never closed").forget();
        if let Some(trouble) = self.trouble.lock().expect("no test panics inside").clone() {
            return Err(trouble);
        }
        let mut events = self.events.lock().expect("no test panics inside");
        events.push(event);
        Ok(i64::try_from(events.len()).expect("few events"))
    }
}

struct House {
    address: SocketAddr,
    inbox: Arc<TestInbox>,
    clock: Arc<TestClock>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

fn limits() -> HttpLimits {
    HttpLimits::from(&ListenConfig::default())
}

impl House {
    async fn open(limits: HttpLimits) -> Self {
        Self::open_with(limits, |receiver| receiver).await
    }

    async fn open_with(limits: HttpLimits, finish: impl FnOnce(Receiver) -> Receiver) -> Self {
        let inbox = Arc::new(TestInbox {
            events: Mutex::default(),
            trouble: Mutex::default(),
            entered: Semaphore::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS / 2),
        });
        let clock = Arc::new(TestClock(AtomicI64::new(1_000_000)));
        let portal = |name: &str| HookPortal { name: name.to_owned(), token: format!("{name}-token-0123456789") };
        let recognise: Recognise = Arc::new(|event| Recognised {
            is_test: event.body == b"test",
            words: "Certificate Awarded for one learner".to_owned(),
        });
        let receiver = finish(Receiver::new(
            limits,
            vec![portal("main"), portal("emea")],
            Arc::clone(&inbox) as Arc<dyn Inbox>,
            recognise,
            Arc::clone(&clock) as Arc<dyn Clock>,
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(Arc::new(receiver).serve(Arc::new(listener), stopping));
        Self { address, inbox, clock, stop, serving }
    }

    async fn wire(&self) -> Wire {
        let stream = TcpStream::connect(self.address).await.expect("the receiver listens");
        Wire { stream, unread: Vec::new() }
    }

    /// Sends bytes on a new connection and returns the first answer.
    async fn ask(&self, bytes: impl AsRef<[u8]>) -> Answered {
        let mut wire = self.wire().await;
        wire.send(bytes).await;
        wire.answer().await
    }

    fn events(&self) -> Vec<RawEvent> {
        self.inbox.events.lock().expect("no test panics inside").clone()
    }

    /// Closes the gate: events wait in the inbox until `release`.
    fn hold(&self) {
        self.inbox.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn release(&self) {
        self.inbox.gate.add_permits(1);
    }

    async fn event_waits(&self) {
        patiently(self.inbox.entered.acquire()).await.expect("never closed").forget();
    }
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("what the test waits for happens")
}

/// One connection, seen from the client.
struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Answered {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn error(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).expect("a refusal is JSON");
        body["error"].as_str().expect("a refusal has an error").to_owned()
    }
}

impl Wire {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        patiently(self.stream.write_all(bytes.as_ref())).await.expect("the receiver reads or drains");
    }

    /// Reads one answer.
    async fn answer(&mut self) -> Answered {
        self.answer_to("").await
    }

    async fn answer_to(&mut self, method: &str) -> Answered {
        let head_end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.read().await > 0, "closed before an answer: {:?}", String::from_utf8_lossy(&self.unread));
        };
        let head = String::from_utf8(self.unread.drain(..head_end).collect()).expect("heads are ASCII");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        let mut answered = Answered { status, head, body: String::new() };
        let length = match method {
            "HEAD" => 0,
            _ => answered.header("content-length").map_or(0, |length| length.parse().expect("a number")),
        };
        while self.unread.len() < length {
            assert!(self.read().await > 0, "closed inside an answer");
        }
        answered.body = String::from_utf8(self.unread.drain(..length).collect()).expect("answers are UTF-8");
        answered
    }

    async fn read(&mut self) -> usize {
        patiently(self.stream.read_buf(&mut self.unread)).await.expect("the connection is not reset")
    }

    /// Linux hands over what was received before a reset, other systems throw it away: so it is not enough to have read an answer.
    async fn ends_without_a_reset(&mut self) {
        assert!(self.is_closed().await);
        let reset = self.stream.take_error().expect("a socket knows its error");
        assert!(reset.is_none(), "the connection was reset: {reset:?}");
    }

    async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && self.read().await == 0
    }
}

fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("{method} {path} HTTP/1.1\r\nHost: hooks.example\r\nContent-Length: {length}\r\n{headers}\r\n")
            .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn post(body: &[u8]) -> Vec<u8> {
    request("POST", PATH, "", body)
}

fn chunked(chunks: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in chunks {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

#[tokio::test]
async fn a_body_that_is_not_json_is_stored_as_it_is() {
    let house = House::open(limits()).await;
    let body = b"event=Certificate\0 \xff\xfe\r\n\r\nnot json";
    let answered = house.ask(request("PUT", PATH, "Content-Type: application/x-odd; a=b\r\n", body)).await;
    assert_eq!((answered.status, answered.body.as_str()), (200, r#"{"status":"accepted"}"#));
    assert_eq!(answered.header("content-type"), Some("application/json"));
    let expected = RawEvent {
        portal: "main".to_owned(),
        method: "PUT".to_owned(),
        content_type: "application/x-odd; a=b".to_owned(),
        body: body.to_vec(),
    };
    assert_eq!(house.events(), [expected]);
}

#[tokio::test]
async fn an_empty_body_is_stored_with_or_without_a_length() {
    let house = House::open(limits()).await;
    assert_eq!(house.ask(post(b"")).await.status, 200);
    assert_eq!(house.ask(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\n\r\n")).await.status, 200);
    assert_eq!(house.ask(chunked(&[])).await.status, 200);
    let gzip_of_nothing = request("POST", PATH, "Content-Encoding: gzip\r\n", b"");
    assert_eq!(house.ask(gzip_of_nothing).await.status, 200);
    assert_eq!(house.events().len(), 4);
    assert!(house.events().iter().all(|event| event.body.is_empty() && event.content_type.is_empty()));
}

#[tokio::test]
async fn a_chunked_body_is_stored_whole_and_ends_its_connection() {
    let house = House::open(limits()).await;
    let mut wire = house.wire().await;
    wire.send(chunked(&[b"{\"a\"", b":1}"])).await;
    let answered = wire.answer().await;
    assert_eq!((answered.status, answered.header("connection")), (200, Some("close")));
    assert!(wire.is_closed().await);
    assert_eq!(house.events()[0].body, b"{\"a\":1}");
}

#[tokio::test]
async fn a_gzip_body_is_stored_decoded() {
    let house = House::open(limits()).await;
    let encoded = gzip(b"{\"eventName\":\"Certificate Awarded\"}");
    assert_eq!(house.ask(request("POST", PATH, "Content-Encoding: gzip\r\n", &encoded)).await.status, 200);
    // A gzip file may have several members.
    let two = [gzip(b"one "), gzip(b"two")].concat();
    assert_eq!(house.ask(request("POST", PATH, "content-encoding: GZIP\r\n", &two)).await.status, 200);
    let bodies: Vec<_> = house.events().into_iter().map(|event| event.body).collect();
    assert_eq!(bodies, [b"{\"eventName\":\"Certificate Awarded\"}".to_vec(), b"one two".to_vec()]);
}

#[tokio::test]
async fn the_test_button_is_told_that_it_worked_and_what_was_recognised() {
    let house = House::open(limits()).await;
    let answered = house.ask(post(b"test")).await;
    assert_eq!(answered.status, 200);
    let body: serde_json::Value = serde_json::from_str(&answered.body).expect("JSON");
    assert_eq!(body["status"], "test");
    let message = body["message"].as_str().expect("a sentence");
    assert!(message.starts_with("learnsync received the test;"), "{message}");
    assert!(message.contains("Certificate Awarded for one learner"), "{message}");
    assert_eq!(house.events().len(), 1);
}

#[tokio::test]
async fn a_body_at_the_limit_is_kept_and_one_byte_more_is_413() {
    let house = House::open(limits()).await;
    let body = vec![b'x'; 256 * 1024 + 1];
    assert_eq!(house.ask(post(&body[1..])).await.status, 200);
    assert_eq!(house.ask(chunked(&[&body[1..]])).await.status, 200);
    assert_eq!(house.ask(post(&body)).await.status, 413);
    assert_eq!(house.ask(chunked(&[&body])).await.status, 413);
    assert_eq!(house.events().len(), 2);
}

#[tokio::test]
async fn a_client_that_sends_300_kb_before_it_reads_can_read_its_413() {
    let house = House::open(limits()).await;
    let mut wire = house.wire().await;
    wire.send(post(&vec![b'x'; 300 * 1024])).await;
    let answered = wire.answer().await;
    assert_eq!((answered.status, answered.header("connection")), (413, Some("close")));
    assert_eq!(answered.error(), "webhook body is 300 KiB, the limit is 256 KiB (listen.body_bytes_max)");
    wire.ends_without_a_reset().await;
    assert!(house.events().is_empty());
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_before_it_is_sent() {
    let house = House::open(limits()).await;
    let head =
        |length: u64, more: &str| format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}\r\n");
    let answered = house.ask(head(1_468_006, "")).await;
    assert_eq!(answered.error(), "webhook body is 1.4 MiB, the limit is 256 KiB (listen.body_bytes_max)");
    assert_eq!(house.ask(head(300_000, "Expect: 100-continue\r\n")).await.status, 413);
}

#[tokio::test]
async fn a_body_that_is_worth_it_is_asked_for() {
    let house = House::open(limits()).await;
    let mut wire = house.wire().await;
    wire.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")).await;
    assert_eq!(wire.answer().await.status, 100);
    wire.send("ok").await;
    assert_eq!(wire.answer().await.status, 200);
}

#[tokio::test]
async fn too_large_in_chunks_is_413_and_the_answer_is_readable() {
    let house = House::open(limits()).await;
    let chunk = vec![b'x'; 50 * 1024];
    let answered = house.ask(chunked(&[&chunk[..]; 6])).await;
    assert_eq!(answered.status, 413);
    let expected = "webhook body is more than 256 KiB, which is the limit (listen.body_bytes_max)";
    assert_eq!(answered.error(), expected);
    assert!(house.events().is_empty());
}

#[tokio::test]
async fn a_gzip_bomb_is_413_and_stops_at_the_limit() {
    let house = House::open(limits()).await;
    let bomb = gzip(&vec![0; 64 * 1024 * 1024]);
    assert!(bomb.len() < 256 * 1024, "the bomb must pass the limit of encoded bytes");
    // Its end is cut off: whoever decoded it all would say 400.
    let cut = &bomb[..bomb.len() - 1];
    let answered = house.ask(request("POST", PATH, "Content-Encoding: gzip\r\n", cut)).await;
    assert_eq!(answered.status, 413);
    assert!(answered.error().contains("listen.body_bytes_max"));
    // At the limit exactly, it is an honest body.
    let honest = gzip(&vec![0; 256 * 1024]);
    assert_eq!(house.ask(request("POST", PATH, "Content-Encoding: gzip\r\n", &honest)).await.status, 200);
    assert_eq!(house.events().len(), 1);
}

#[tokio::test]
async fn broken_gzip_is_400() {
    let house = House::open(limits()).await;
    let whole = gzip(b"{\"eventName\":\"Certificate Awarded\"}");
    let mut flipped = whole.clone();
    flipped[14] ^= 0xff;
    let trailing = [whole.as_slice(), b"and more"].concat();
    for broken in [b"{}".as_slice(), &whole[..whole.len() - 1], &flipped, &trailing] {
        let answered = house.ask(request("POST", PATH, "Content-Encoding: gzip\r\n", broken)).await;
        assert_eq!(answered.status, 400, "{broken:?}");
        assert!(answered.error().contains("gzip"));
    }
    assert!(house.events().is_empty());
}

#[tokio::test]
async fn an_unknown_content_encoding_is_415_and_names_those_we_take() {
    let house = House::open(limits()).await;
    let answered = house.ask(request("POST", PATH, "Content-Encoding: br\r\n", b"odd")).await;
    assert_eq!((answered.status, answered.header("accept-encoding")), (415, Some("gzip, identity")));
    assert_eq!(answered.error(), "content encoding \"br\" is not decoded here, use gzip or none");
    assert!(house.events().is_empty());
}

#[tokio::test]
async fn a_wrong_token_is_answered_404_like_any_unknown_path_and_stored_nowhere() {
    let house = House::open(limits()).await;
    let unknown = house.ask(request("POST", "/", "", b"{}")).await;
    assert_eq!(unknown.status, 404);
    let guesses = [
        "/hooks/main/wrong-token-0123456789",
        "/hooks/main/main-token-012345678",
        "/hooks/main/emea-token-0123456789",
        "/hooks/emea/main-token-0123456789",
        "/hooks/other/main-token-0123456789",
        "/hooks/main/",
        "/hooks/main",
        "/hooks/",
        "/metrics",
        "/hooks/main/main-token-0123456789/more",
    ];
    for guess in guesses {
        for method in ["POST", "PUT", "GET", "DELETE", "TRACE"] {
            let answered = house.ask(request(method, guess, "Content-Encoding: br\r\n", b"{}")).await;
            assert_eq!((answered.status, &answered.body), (404, &unknown.body), "{method} {guess}");
        }
    }
    assert!(house.events().is_empty());
}

#[tokio::test]
async fn the_body_of_a_stranger_is_not_read() {
    let house = House::open(HttpLimits { body_time: PATIENCE * 10, ..limits() }).await;
    // The body never comes, and the answer does.
    let head = "POST /hooks/main/wrong HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
    let answered = house.ask(head).await;
    assert_eq!((answered.status, answered.header("connection")), (404, Some("close")));
}

#[tokio::test]
async fn a_stranger_who_sends_300_kb_can_read_the_404() {
    let house = House::open(limits()).await;
    let mut wire = house.wire().await;
    wire.send(request("POST", "/hooks/main/wrong", "", &vec![b'x'; 300 * 1024])).await;
    assert_eq!(wire.answer().await.status, 404);
    wire.ends_without_a_reset().await;
}

#[tokio::test]
async fn strangers_do_not_use_up_the_rate() {
    let house = House::open(HttpLimits { hooks_per_second_max: 1, hooks_burst_max: 1, ..limits() }).await;
    for _ in 0..5 {
        assert_eq!(house.ask(request("POST", "/hooks/main/wrong", "", b"{}")).await.status, 404);
    }
    assert_eq!(house.ask(post(b"{}")).await.status, 200);
}

#[tokio::test]
async fn get_and_head_on_a_webhook_url_say_alive_and_store_nothing() {
    let house = House::open(limits()).await;
    let answered = house.ask(format!("GET {PATH}?from=browser HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert_eq!(answered.status, 200);
    assert!(answered.body.contains("alive") && answered.body.contains("main") && !answered.body.contains(TOKEN));
    let mut wire = house.wire().await;
    wire.send(format!("HEAD {PATH} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert_eq!(wire.answer_to("HEAD").await.status, 200);
    // No body follows: the next answer begins at once.
    wire.send(post(b"next")).await;
    assert_eq!(wire.answer().await.status, 200);
    assert_eq!(house.events().len(), 1);
}

#[tokio::test]
async fn other_methods_on_a_webhook_url_are_405_with_allow() {
    let house = House::open(limits()).await;
    for method in ["DELETE", "PATCH", "OPTIONS", "TRACE", "ODD"] {
        let answered = house.ask(request(method, PATH, "", b"{}")).await;
        assert_eq!((answered.status, answered.header("allow")), (405, Some("GET, HEAD, POST, PUT")), "{method}");
    }
    assert!(house.events().is_empty());
}

#[tokio::test]
async fn a_request_with_two_lengths_is_400_in_any_order_and_place() {
    let house = House::open(limits()).await;
    let both = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "transfer-encoding: chunked\r\nCONTENT-LENGTH: 0\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: odd\r\n",
        "Content-Length: 5\r\nX-Between: y\r\nTransfer-Encoding: CHUNKED\r\nContent-Length: 5\r\n",
    ];
    for headers in both {
        let ambiguous = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\n{headers}\r\n0\r\n\r\n");
        let mut wire = house.wire().await;
        // Behind two good requests in one write, so that neither position nor pipelining hides it.
        wire.send([post(b"good"), post(b"good"), ambiguous.into_bytes(), post(b"smuggled")].concat()).await;
        assert_eq!([wire.answer().await.status, wire.answer().await.status], [200, 200]);
        let answered = wire.answer().await;
        assert_eq!((answered.status, answered.header("connection")), (400, Some("close")), "{headers}");
        assert!(answered.error().contains("both Content-Length and Transfer-Encoding"));
        assert!(wire.is_closed().await);
    }
    assert_eq!(house.events().len(), 2 * both.len());
    assert!(house.events().iter().all(|event| event.body == b"good"));
}

#[tokio::test]
async fn what_follows_a_chunked_request_is_not_a_request() {
    let house = House::open(limits()).await;
    let mut wire = house.wire().await;
    wire.send([chunked(&[b"good"]), post(b"smuggled")].concat()).await;
    assert_eq!(wire.answer().await.status, 200);
    assert!(wire.is_closed().await);
    assert_eq!(house.events().len(), 1);
}

#[tokio::test]
async fn lengths_and_headers_that_two_servers_may_read_differently_are_400() {
    let house = House::open(limits()).await;
    let odd = [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: 1, 1\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length : 1\r\n",
        "X: y\r\n folded: z\r\n",
    ];
    for headers in odd {
        let answered = house.ask(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\n{headers}\r\nab")).await;
        assert_eq!(answered.status, 400, "{headers}");
    }
    assert!(house.events().is_empty());
}

#[tokio::test]
async fn a_request_without_exactly_one_host_is_400() {
    let house = House::open(limits()).await;
    for (headers, count) in [("", 0), ("Host: a\r\nHost: a\r\n", 2), ("Host: a\r\nhost: b\r\n", 2)] {
        let answered = house.ask(format!("POST {PATH} HTTP/1.1\r\n{headers}Content-Length: 0\r\n\r\n")).await;
        assert_eq!(answered.status, 400);
        assert_eq!(answered.error(), format!("the request has {count} Host headers, send exactly one"));
    }
    assert!(house.events().is_empty());
    // HTTP/1.0 knew no Host.
    assert_eq!(house.ask(format!("POST {PATH} HTTP/1.0\r\nContent-Length: 0\r\n\r\n")).await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let house = House::open(limits()).await;
    let long = format!("X-Long: {}\r\n", "v".repeat(20 * 1024));
    assert_eq!(house.ask(request("POST", PATH, &long, b"")).await.status, 431);
    let many: String = (0..120).map(|index| format!("X-{index}: v\r\n")).collect();
    assert_eq!(house.ask(request("POST", PATH, &many, b"")).await.status, 431);
    assert!(house.events().is_empty());
}

#[tokio::test]
async fn a_slow_body_is_408() {
    let house = House::open(HttpLimits { body_time: Duration::from_millis(50), ..limits() }).await;
    let mut wire = house.wire().await;
    wire.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")).await;
    let answered = wire.answer().await;
    assert_eq!((answered.status, answered.header("connection")), (408, Some("close")));
    assert_eq!(answered.error(), "webhook body took longer than 50ms (listen.body_seconds_max)");
    assert!(wire.is_closed().await);
    assert!(house.events().is_empty());
}

#[tokio::test]
async fn a_slow_head_is_408_also_on_a_connection_that_was_used_before() {
    let house = House::open(HttpLimits { header_time: Duration::from_millis(50), ..limits() }).await;
    for before in [0, 1] {
        let mut wire = house.wire().await;
        for _ in 0..before {
            wire.send(post(b"{}")).await;
            assert_eq!(wire.answer().await.status, 200);
        }
        wire.send(format!("POST {PATH} HTTP/1.1\r\nHost:")).await;
        let answered = wire.answer().await;
        assert_eq!(answered.status, 408);
        assert!(answered.error().contains("listen.header_seconds_max"));
        assert!(wire.is_closed().await);
    }
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let house = House::open(HttpLimits { header_time: Duration::from_millis(50), ..limits() }).await;
    assert!(house.wire().await.is_closed().await);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_that_waits_for_the_inbox_is_not() {
    let brief = Duration::from_millis(50);
    let house = House::open(HttpLimits { idle_time: brief, header_time: brief, body_time: brief, ..limits() }).await;
    house.hold();
    let mut waiting = house.wire().await;
    waiting.send(post(b"{}")).await;
    house.event_waits().await;
    let mut idle = house.wire().await;
    idle.send(format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert_eq!(idle.answer().await.status, 200);
    // The one that idles began later and ends first.
    assert!(idle.is_closed().await);
    house.release();
    assert_eq!(waiting.answer().await.status, 200);
    assert!(waiting.is_closed().await);
}

#[tokio::test]
async fn a_pause_inside_a_body_is_bounded_by_the_time_for_bodies_alone() {
    let brief = Duration::from_millis(50);
    let house = House::open(HttpLimits { idle_time: brief, header_time: brief, ..limits() }).await;
    let mut pausing = house.wire().await;
    pausing.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf-")).await;
    // Two that idle, one after the other, both begun later.
    for _ in 0..2 {
        assert!(house.wire().await.is_closed().await);
    }
    pausing.send("whole").await;
    assert_eq!(pausing.answer().await.status, 200);
    assert_eq!(house.events()[0].body, b"half-whole");
}

#[tokio::test]
async fn a_body_that_ends_early_is_400_and_stored_nowhere() {
    let house = House::open(limits()).await;
    let mut wire = house.wire().await;
    wire.send(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")).await;
    wire.stream.shutdown().await.expect("our side can end");
    assert_eq!(wire.answer().await.status, 400);
    assert_eq!(
        house.ask(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")).await.status,
        400
    );
    assert!(house.events().is_empty());
}

#[tokio::test]
async fn a_client_that_has_ended_its_side_still_gets_its_answer() {
    let house = House::open(limits()).await;
    house.hold();
    let mut wire = house.wire().await;
    wire.send(post(b"{}")).await;
    wire.stream.shutdown().await.expect("our side can end");
    house.event_waits().await;
    house.release();
    assert_eq!(wire.answer().await.status, 200);
    assert_eq!(house.events().len(), 1);
}

#[tokio::test]
async fn a_full_inbox_is_503_with_retry_after_and_keeps_its_words_to_itself() {
    let house = House::open(limits()).await;
    let check = async |trouble: InboxError, retry_after: &str| {
        *house.inbox.trouble.lock().expect("no test panics inside") = Some(trouble);
        let mut wire = house.wire().await;
        wire.send(post(b"{}")).await;
        let answered = wire.answer().await;
        assert_eq!((answered.status, answered.header("retry-after")), (503, Some(retry_after)));
        assert!(answered.error().contains(&format!("{retry_after} s")) && !answered.body.contains("/var/lib"));
    };
    check(InboxError::Full("/var/lib/learnsync is full".to_owned()), "60").await;
    check(InboxError::Unavailable("/var/lib/learnsync is closed".to_owned()), "5").await;
    assert!(house.events().is_empty());
}

#[tokio::test]
async fn more_webhooks_than_the_rate_are_503_until_time_has_passed() {
    let house = House::open(HttpLimits { hooks_per_second_max: 2, hooks_burst_max: 3, ..limits() }).await;
    for _ in 0..3 {
        assert_eq!(house.ask(post(b"{}")).await.status, 200);
    }
    let answered = house.ask(post(b"{}")).await;
    assert_eq!((answered.status, answered.header("retry-after")), (503, Some("1")));
    assert!(answered.error().contains("listen.hooks_per_second_max"));
    // Looking whether we are alive costs nothing.
    assert_eq!(house.ask(format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n")).await.status, 200);
    house.clock.0.fetch_add(499, Ordering::SeqCst);
    assert_eq!(house.ask(post(b"{}")).await.status, 503);
    house.clock.0.fetch_add(1, Ordering::SeqCst);
    assert_eq!(house.ask(post(b"{}")).await.status, 200);
    assert_eq!(house.ask(post(b"{}")).await.status, 503);
    // A clock that was set back neither refills the bucket nor keeps it dry.
    house.clock.0.fetch_sub(900_000, Ordering::SeqCst);
    assert_eq!(house.ask(post(b"{}")).await.status, 503);
    house.clock.0.fetch_add(500, Ordering::SeqCst);
    assert_eq!(house.ask(post(b"{}")).await.status, 200);
    assert_eq!(house.events().len(), 5);
}

#[tokio::test]
async fn there_is_no_2xx_before_the_inbox_has_the_event() {
    let house = House::open(limits()).await;
    house.hold();
    let mut wire = house.wire().await;
    wire.send(post(b"{}")).await;
    house.event_waits().await;
    // Another client is served meanwhile: the receiver had its chance to answer the first.
    for _ in 0..10 {
        assert_eq!(house.ask(request("GET", PATH, "", b"")).await.status, 200);
    }
    let early = wire.stream.try_read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock), "answered before the commit");
    assert!(house.events().is_empty());
    house.release();
    assert_eq!(wire.answer().await.status, 200);
    assert_eq!(house.events().len(), 1);
}

#[tokio::test]
async fn stopping_finishes_requests_under_way_and_takes_no_new_connection() {
    let house = House::open(limits()).await;
    house.hold();
    let mut wire = house.wire().await;
    wire.send(post(b"{}")).await;
    house.event_waits().await;
    let mut idle = house.wire().await;
    idle.send(request("GET", PATH, "", b"")).await;
    assert_eq!(idle.answer().await.status, 200);
    house.stop.send(true).expect("the receiver runs");
    assert!(idle.is_closed().await, "an idle connection is closed at once");
    drop(idle);
    patiently(async {
        while TcpStream::connect(house.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!house.serving.is_finished());
    house.release();
    let answered = wire.answer().await;
    assert_eq!((answered.status, answered.header("connection")), (200, Some("close")));
    assert!(wire.is_closed().await);
    drop(wire);
    patiently(house.serving).await.expect("serve returns");
}

#[tokio::test]
async fn a_sender_of_stop_that_is_gone_stops_the_receiver() {
    let house = House::open(limits()).await;
    drop(house.stop);
    patiently(house.serving).await.expect("serve returns");
}

#[tokio::test]
async fn the_connection_above_the_limit_is_503_and_a_freed_place_is_given_again() {
    let house = House::open(HttpLimits { connections_max: 1, ..limits() }).await;
    let mut first = house.wire().await;
    first.send(post(b"{}")).await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = house.wire().await;
    second.send(post(b"{}")).await;
    let answered = second.answer().await;
    assert_eq!((answered.status, answered.header("retry-after")), (503, Some("1")));
    let expected = "1 connections are open, which is the limit (listen.connections_max), come back in 1 s";
    assert_eq!(answered.error(), expected);
    assert!(second.is_closed().await);
    assert_eq!(house.events().len(), 1);
    drop(first);
    patiently(async { while house.ask(post(b"{}")).await.status != 200 {} }).await;
}

#[tokio::test]
async fn a_connection_is_kept_and_pipelined_requests_are_answered_in_order() {
    let house = House::open(limits()).await;
    let mut wire = house.wire().await;
    for body in ["a", "b"] {
        wire.send(post(body.as_bytes())).await;
        assert_eq!(wire.answer().await.status, 200);
    }
    let alive = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    let deleted = request("DELETE", PATH, "", b"");
    wire.send([post(b"c"), alive, deleted, post(b"d")].concat()).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(wire.answer().await.status);
    }
    assert_eq!(statuses, [200, 200, 405, 200]);
    let bodies: Vec<_> = house.events().into_iter().map(|event| event.body).collect();
    assert_eq!(bodies, [b"a", b"b", b"c", b"d"]);
}

#[tokio::test]
async fn refusals_are_counted_by_portal_and_a_stranger_is_unknown() {
    let counted = Arc::new(Mutex::new(Vec::new()));
    let counts = Arc::clone(&counted);
    let count: CountRefusal = Arc::new(move |portal: &str, word| {
        counts.lock().expect("no test panics inside").push(format!("{portal} {word}"));
    });
    let house = House::open_with(HttpLimits { hooks_per_second_max: 1, hooks_burst_max: 1, ..limits() }, |receiver| {
        receiver.counting(count)
    })
    .await;
    assert_eq!(house.ask(post(b"{}")).await.status, 200);
    assert_eq!(house.ask(post(b"{}")).await.status, 503);
    assert_eq!(house.ask(request("DELETE", PATH, "", b"")).await.status, 405);
    assert_eq!(house.ask(request("GET", "/hooks/main/wrong-token-0123456789", "", b"")).await.status, 404);
    assert_eq!(*counted.lock().expect("no test panics inside"), ["main overloaded", "main refused", "unknown refused"]);
}

/// A log kept in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panics inside").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_refusal_is_logged_once_and_neither_tokens_nor_bodies_ever_are() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    // Everything of this test runs on this thread.
    let _logging = tracing::subscriber::set_default(subscriber);
    let house = House::open(limits()).await;
    let canary = b"canary-body";
    assert_eq!(house.ask(post(canary)).await.status, 200);
    assert_eq!(house.ask(request("POST", "/hooks/main/canary-guess", "", canary)).await.status, 404);
    assert_eq!(house.ask(request("DELETE", PATH, "", canary)).await.status, 405);
    assert_eq!(house.ask(request("POST", PATH, "Content-Encoding: a\tb\r\n", canary)).await.status, 415);
    let text = String::from_utf8(log.0.lock().expect("no test panics inside").clone()).expect("logs are UTF-8");
    assert_eq!(text.matches("Refused a request").count(), 3, "{text}");
    assert!(text.contains("status=405 portal=\"main\""), "{text}");
    for secret in [TOKEN, "canary"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn garbage_never_stops_the_receiver_nor_reaches_the_inbox() {
    let house = House::open(limits()).await;
    let chance = Generator::seeded(7);
    let below = |bound: usize| usize::try_from(chance.below(bound as u64)).expect("small");
    for round in 0..300 {
        let mut bytes = match round % 3 {
            0 => Vec::new(),
            // A stranger's requests, so that whatever survives the damage is refused.
            1 => request("POST", "/hooks/main/wrong", "Content-Encoding: gzip\r\n", &gzip(b"{}")),
            _ => {
                b"POST /hooks/main/wrong HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                    .to_vec()
            }
        };
        let mut noise = vec![0; below(600)];
        chance.fill(&mut noise);
        match bytes.is_empty() {
            true => bytes = noise,
            false => {
                for byte in noise.iter().take(1 + below(8)) {
                    let at = below(bytes.len());
                    bytes[at] = *byte;
                }
            }
        }
        let mut wire = house.wire().await;
        // The receiver may close in the middle; only that it lives matters.
        let _sent = wire.stream.write_all(&bytes).await;
        let _ended = wire.stream.shutdown().await;
        let mut answers = Vec::new();
        let _read = patiently(wire.stream.read_to_end(&mut answers)).await;
        assert!(!answers.starts_with(b"HTTP/1.1 2"), "round {round}: {:?}", String::from_utf8_lossy(&bytes));
    }
    assert!(house.events().is_empty());
    assert_eq!(house.ask(post(b"{}")).await.status, 200);
    assert!(!house.serving.is_finished());
}

#[tokio::test]
async fn garbage_after_the_right_token_never_stops_the_receiver() {
    let house = House::open(HttpLimits { header_time: Duration::from_millis(200), ..limits() }).await;
    let chance = Generator::seeded(11);
    for _ in 0..100 {
        let mut noise = vec![0; usize::try_from(chance.below(2_000)).expect("small")];
        chance.fill(&mut noise);
        let mut bytes = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n").into_bytes();
        if chance.below(2) == 0 {
            bytes.extend_from_slice(b"Content-Encoding: gzip\r\n\r\n");
        } else {
            bytes.extend_from_slice(b"X-Noise: ");
        }
        bytes.extend_from_slice(&noise);
        let mut wire = house.wire().await;
        let _sent = wire.stream.write_all(&bytes).await;
        let _ended = wire.stream.shutdown().await;
        let _read = patiently(wire.stream.read_to_end(&mut Vec::new())).await;
    }
    assert!(house.events().is_empty());
    assert_eq!(house.ask(post(b"{}")).await.status, 200);
}
