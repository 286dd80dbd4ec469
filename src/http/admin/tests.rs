//! The admin listener over real sockets.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::*;

#[derive(Default)]
struct Patient(Mutex<Vec<Trouble>>);

#[async_trait]
impl Health for Patient {
    async fn troubles(&self) -> Vec<Trouble> {
        self.0.lock().expect("no test panics inside").clone()
    }

    async fn metrics(&self) -> String {
        "learnsync_inbox_backlog 7\n".to_owned()
    }
}

struct House {
    address: AdminAddress,
    patient: Arc<Patient>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl House {
    async fn open(address: &str) -> Self {
        let listener = AdminListener::bind(&address.parse().expect("an address")).await.expect("it is free");
        let address = listener.address().expect("it is known");
        let patient = Arc::new(Patient::default());
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(listener.serve(Arc::clone(&patient) as Arc<dyn Health>, stopping));
        Self { address, patient, stop, serving }
    }

    /// Status and body.
    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let question = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut text = String::new();
        match &self.address {
            AdminAddress::Tcp(address) => exchange(TcpStream::connect(address).await, &question, &mut text).await,
            AdminAddress::Unix(path) => exchange(UnixStream::connect(path).await, &question, &mut text).await,
        }
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        (status, text.split_once("\r\n\r\n").expect("a head").1.to_owned())
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(stream: io::Result<S>, question: &str, text: &mut String) {
    let mut stream = stream.expect("it listens");
    stream.write_all(question.as_bytes()).await.expect("it reads");
    stream.read_to_string(text).await.expect("it answers");
}

#[tokio::test]
async fn alive_ready_and_metrics_are_answered() {
    let house = House::open("127.0.0.1:0").await;
    assert_eq!(house.ask("GET", "/healthz").await, (200, r#"{"status":"alive"}"#.to_owned()));
    assert_eq!(house.ask("GET", "/readyz").await, (200, r#"{"status":"ready"}"#.to_owned()));
    assert_eq!(house.ask("GET", "/metrics").await, (200, "learnsync_inbox_backlog 7\n".to_owned()));
    assert_eq!(house.ask("HEAD", "/readyz").await, (200, String::new()));
    assert_eq!(house.ask("POST", "/readyz").await.0, 405);
    let (status, body) = house.ask("GET", "/hooks/main/token").await;
    assert!(status == 404 && body.contains("/healthz, /readyz and /metrics"), "{status} {body}");
}

#[tokio::test]
async fn who_is_not_ready_says_why_and_is_alive_all_the_same() {
    let house = House::open("127.0.0.1:0").await;
    let trouble = Trouble { part: "store".to_owned(), words: "the disk is \"full\"".to_owned() };
    house.patient.0.lock().expect("no test panics inside").push(trouble);
    let (status, body) = house.ask("GET", "/readyz").await;
    let expected = r#"{"status":"not ready","reasons":[{"part":"store","words":"the disk is \"full\""}]}"#;
    assert_eq!((status, body.as_str()), (503, expected));
    assert_eq!(house.ask("GET", "/healthz").await.0, 200);
}

#[tokio::test]
async fn a_socket_that_a_killed_daemon_left_is_replaced_and_one_that_is_served_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = format!("unix:{}/admin.sock", folder.path().display());
    let orphan = AdminListener::bind(&address.parse().expect("an address")).await.expect("it is free");
    drop(orphan);
    let house = House::open(&address).await;
    assert_eq!(house.ask("GET", "/readyz").await.0, 200);
    let second = AdminListener::bind(&house.address).await.map(drop).map_err(|error| error.kind());
    assert_eq!(second, Err(io::ErrorKind::AddrInUse));
    house.stop.send(true).expect("it serves");
    house.serving.await.expect("it returns");
    assert!(!folder.path().join("admin.sock").exists(), "the socket is left behind");
}
