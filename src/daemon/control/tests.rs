//! The socket: what stands on it, its limits, and a slow command that blocks nobody.

use super::*;
use crate::store::tests::Ledger;

struct Served {
    ledger: Ledger,
    path: PathBuf,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

async fn served() -> Served {
    let ledger = Ledger::new().await;
    let path = socket(ledger.folder.path());
    let (stop, stopped) = watch::channel(false);
    let desk = Arc::new(Desk { store: Arc::clone(&ledger.store), running: None });
    let task = tokio::spawn(serve(path.clone(), desk, stopped));
    // Bound at the task's first turn; until then there is no file to connect to.
    while !path.exists() {
        tokio::task::yield_now().await;
    }
    Served { ledger, path, stop, task }
}

impl Served {
    async fn connect(&self) -> BufReader<UnixStream> {
        BufReader::new(UnixStream::connect(&self.path).await.expect("connects"))
    }

    async fn says(&self, line: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(line).await.expect("asks");
        answer_on(&mut stream).await
    }
}

async fn answer_on(stream: &mut BufReader<UnixStream>) -> String {
    String::from_utf8(read_line(stream, ANSWER_BYTES_MAX).await.expect("reads")).expect("is text")
}

fn pause() -> Order {
    Order::Pause { destination: "hr".to_owned(), reason: "a test".to_owned() }
}

#[tokio::test]
async fn an_order_is_one_line_of_json_and_so_is_its_answer() {
    assert_eq!(line_of(&pause()), "{\"order\":\"pause\",\"destination\":\"hr\",\"reason\":\"a test\"}\n");
    assert_eq!(line_of(&Order::Reconcile), "{\"order\":\"reconcile\"}\n");
    let served = served().await;
    let answer = served.says(line_of(&pause()).as_bytes()).await;
    assert!(answer.starts_with("{\"answer\":\"done\",\"words\":\"hr is paused"), "{answer}");
    assert_eq!(served.ledger.view().list_destinations().expect("lists")[0].state, "paused");
}

#[tokio::test]
async fn a_request_that_nobody_knows_or_that_is_too_long_is_refused_with_the_reason() {
    let served = served().await;
    let answer = served.says(b"{\"order\":\"dance\"}\n").await;
    assert!(answer.contains("unknown variant `dance`") && answer.contains("restart the daemon"), "{answer}");
    let answer = served.says(b"{\"order\":\"resume\",\"destination\":\"hr\",\"force\":true}\n").await;
    assert!(answer.contains("unknown field `force`"), "{answer}");
    let long = vec![b' '; usize::try_from(REQUEST_BYTES_MAX).expect("fits") + 1];
    assert!(served.says(&long).await.contains("longer than 16 KiB"));
}

#[tokio::test]
async fn a_command_that_says_nothing_blocks_nobody() {
    let served = served().await;
    let _silent = served.connect().await;
    assert!(served.says(line_of(&pause()).as_bytes()).await.contains("hr is paused"));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_says_nothing_for_too_long_is_told_so() {
    let served = served().await;
    let mut silent = served.connect().await;
    assert!(answer_on(&mut silent).await.contains("no request came within 10 s"));
}

#[tokio::test]
async fn one_command_too_many_is_told_to_come_back() {
    let served = served().await;
    let mut silent = Vec::new();
    for _ in 0..COMMANDS_MAX {
        silent.push(served.connect().await);
    }
    let mut surplus = served.connect().await;
    assert!(answer_on(&mut surplus).await.contains("16 commands already"));
    // One leaves, and there is room again. Whether the daemon has noticed yet shows when it answers.
    silent.clear();
    while !served.says(line_of(&pause()).as_bytes()).await.contains("hr is paused") {}
}

#[tokio::test]
async fn who_asks_when_nobody_serves_is_told_that_no_daemon_runs() {
    let served = served().await;
    let _silent = served.connect().await;
    served.stop.send(true).expect("it listens");
    served.task.await.expect("it ends though a command says nothing");
    assert_eq!(ask(&served.path, &pause()).await.expect("asks"), None);
    // What a killed daemon leaves is a file that nobody answers.
    drop(UnixListener::bind(&served.path).expect("binds"));
    assert_eq!(ask(&served.path, &pause()).await.expect("asks"), None);
}
