//! The one writer: a thread that owns the only writable connection and commits in groups.
//!
//! Each use case runs in its own savepoint inside the group's transaction, so one that fails leaves its neighbours; answers go out after
//! COMMIT. A group is what queued while the last commit was under way: there is no waiting window, it would only add latency.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sqlite::Sqlite;
use tokio::sync::oneshot;

use super::error::StoreError;
use super::seal::Sealer;
use crate::domain::chance::Entropy;

/// Most use cases in one group.
const GROUP_MAX: usize = 256;

/// What a use case works with.
pub(crate) struct Tx<'a> {
    /// The connection, inside the group's transaction.
    pub(crate) db: &'a mut SqliteConnection,
    /// Opens and seals personal columns.
    pub(crate) sealer: &'a mut Sealer,
    /// Randomness, for keys and nonces.
    pub(crate) entropy: &'a dyn Entropy,
}

impl Tx<'_> {
    /// Seals bytes under a scope.
    pub(crate) fn seal(&mut self, scope: &str, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.sealer.seal(scope, plain, self.entropy)
    }
}

/// The connection and its keys.
pub(crate) struct Engine {
    pub(crate) db: SqliteConnection,
    pub(crate) sealer: Sealer,
    pub(crate) entropy: Arc<dyn Entropy>,
}

type Job = Box<dyn FnOnce(&mut Tx<'_>) -> Result<Answer, StoreError> + Send>;
/// Sends the answer: `None` when the commit succeeded, else why it did not.
type Answer = Box<dyn FnOnce(Option<StoreError>) + Send>;
/// A use case, and how to say that it failed before any commit.
pub(crate) struct Request {
    job: Job,
    refuse: Box<dyn FnOnce(StoreError) + Send>,
}

/// Sees every use case of a store that works inline. The simulation writes its trace with it, and stops the world at any commit.
#[async_trait]
pub trait Witness: Send + Sync {
    /// A use case is about to begin. One that never returns is a crash before the commit.
    async fn begins(&self, use_case: &'static str);

    /// It was committed, or failed with these words. One that never returns is a crash after the commit.
    async fn ended(&self, use_case: &'static str, failure: Option<String>);
}

/// What stands around use cases. Statements of their own, so that each is prepared once: `batch_execute` parses its text at every use.
#[derive(Clone, Copy)]
enum Bracket {
    Begin,
    Commit,
    Rollback,
    Savepoint,
    Release,
}

impl QueryId for Bracket {
    type QueryId = ();

    // Known by its text.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Sqlite> for Bracket {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(match self {
            Self::Begin => "begin immediate",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
            Self::Savepoint => "savepoint use_case",
            Self::Release => "release use_case",
        });
        Ok(())
    }
}

impl RunQueryDsl<SqliteConnection> for Bracket {}

/// Where use cases are sent.
pub(crate) enum Writer {
    /// To a thread that groups them.
    Thread(Thread),
    /// Run on the spot, one commit each: for the simulation, whose paused clock would jump while a thread works.
    Inline(Box<Mutex<Engine>>, Option<Arc<dyn Witness>>),
}

/// The writer thread. Dropping it waits until everything sent is done and the file is let go.
pub(crate) struct Thread {
    sender: Option<mpsc::SyncSender<Request>>,
    handle: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(handle) = self.handle.take() {
            // A writer that panicked has told its callers `Closed`.
            let _panicked = handle.join();
        }
    }
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(engine: Engine) -> Self {
        let (sender, receiver) = mpsc::sync_channel::<Request>(GROUP_MAX * 4);
        let handle = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(engine, &receiver))
            .expect("a thread can be started while the daemon starts");
        Self::Thread(Thread { sender: Some(sender), handle: Some(handle) })
    }

    /// Runs one use case, known by this name, in a transaction; returns after the commit.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        name: &'static str,
        use_case: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let sender = match self {
            Self::Inline(engine, witness) => {
                if let Some(witness) = witness {
                    witness.begins(name).await;
                }
                let result = run_inline(&mut engine.lock().unwrap_or_else(PoisonError::into_inner), use_case);
                if let Some(witness) = witness {
                    witness.ended(name, result.as_ref().err().map(ToString::to_string)).await;
                }
                return result;
            }
            Self::Thread(thread) => thread.sender.as_ref().ok_or(StoreError::Closed)?,
        };
        let (answer, result) = oneshot::channel::<Result<T, StoreError>>();
        // Whoever comes first takes it: the use case's own error, the commit's answer, or the refusal.
        let slot = Arc::new(Mutex::new(Some(answer)));
        let for_refusal = Arc::clone(&slot);
        let send = |slot: &Mutex<Option<oneshot::Sender<Result<T, StoreError>>>>, result| {
            if let Some(answer) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // The caller may have gone; the work is done all the same.
                let _gone = answer.send(result);
            }
        };
        let request = Request {
            job: Box::new(move |tx| {
                let value = use_case(tx)?;
                Ok(Box::new(move |failure: Option<StoreError>| send(&slot, failure.map_or(Ok(value), Err))) as Answer)
            }),
            refuse: Box::new(move |error| send(&for_refusal, Err(error))),
        };
        let mut request = request;
        loop {
            match sender.try_send(request) {
                Ok(()) => break,
                Err(mpsc::TrySendError::Disconnected(_)) => return Err(StoreError::Closed),
                Err(mpsc::TrySendError::Full(back)) => {
                    request = back;
                    tokio::task::yield_now().await;
                }
            }
        }
        result.await.unwrap_or(Err(StoreError::Closed))
    }
}

fn run_inline<T>(
    engine: &mut Engine,
    use_case: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    Bracket::Begin.execute(&mut engine.db)?;
    let mut tx = Tx { db: &mut engine.db, sealer: &mut engine.sealer, entropy: &*engine.entropy };
    let result = use_case(&mut tx);
    let result = result.and_then(|value| {
        engine.sealer.save()?;
        Bracket::Commit.execute(&mut engine.db)?;
        Ok(value)
    });
    if result.is_err() {
        engine.sealer.forget_unsaved();
        // After some errors SQLite has rolled back already.
        let _already = Bracket::Rollback.execute(&mut engine.db);
    }
    result
}

fn run(mut engine: Engine, requests: &mpsc::Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX {
            match requests.try_recv() {
                Ok(next) => group.push(next),
                Err(_) => break,
            }
        }
        run_group(&mut engine, group);
    }
}

fn run_group(engine: &mut Engine, group: Vec<Request>) {
    if let Err(error) = Bracket::Begin.execute(&mut engine.db) {
        let words = StoreError::from(error);
        for request in group {
            (request.refuse)(copy_of(&words));
        }
        return;
    }
    let mut answers = Vec::with_capacity(group.len());
    let mut broken: Option<StoreError> = None;
    for Request { job, refuse } in group {
        if let Some(error) = &broken {
            refuse(copy_of(error));
            continue;
        }
        let mut tx = Tx { db: &mut engine.db, sealer: &mut engine.sealer, entropy: &*engine.entropy };
        match in_savepoint(&mut tx, job) {
            Ok(answer) => answers.push(answer),
            Err((error, false)) => refuse(error),
            Err((error, true)) => {
                // The whole transaction is gone (disk full rolls back everything): nobody of this group was kept.
                broken = Some(copy_of(&error));
                refuse(error);
            }
        }
    }
    let committed = match broken {
        Some(error) => Err(error),
        None => engine
            .sealer
            .save()
            .and_then(|()| Bracket::Commit.execute(&mut engine.db).map(drop).map_err(StoreError::from)),
    };
    if committed.is_err() {
        engine.sealer.forget_unsaved();
        let _already = Bracket::Rollback.execute(&mut engine.db);
    }
    let failure = committed.err();
    for answer in answers {
        answer(failure.as_ref().map(copy_of));
    }
}

/// Runs a use case in a savepoint; the flag says whether the transaction around it is lost too.
fn in_savepoint(tx: &mut Tx<'_>, job: Job) -> Result<Answer, (StoreError, bool)> {
    Bracket::Savepoint.execute(tx.db).map_err(|error| (error.into(), true))?;
    match job(tx) {
        Ok(answer) => match Bracket::Release.execute(tx.db) {
            Ok(_) => Ok(answer),
            Err(error) => Err((error.into(), true)),
        },
        Err(error) => {
            let undone = tx.db.batch_execute("rollback to use_case; release use_case");
            let is_lost = undone.is_err() || matches!(error, StoreError::Full(_));
            Err((error, is_lost))
        }
    }
}

/// The same failure for everybody whose commit it was.
fn copy_of(error: &StoreError) -> StoreError {
    match error {
        StoreError::Full(words) => StoreError::Full(words.clone()),
        StoreError::Closed => StoreError::Closed,
        other => StoreError::Mismatch(other.to_string()),
    }
}
