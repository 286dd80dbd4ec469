//! Named points at which a test can stop the daemon's thread and then kill the process. Compiled in debug builds only.
//!
//! `LEARNSYNC_FAIL_POINT=<name>:<n>` stops at the n-th time that the point is reached: the line `fail point <name>` goes to standard
//! error, and the thread never goes on.

/// After the event's row is written, before the commit.
pub const AFTER_APPEND: &str = "after_append";
/// After the commit of an event, before its answer.
pub const BEFORE_ANSWER: &str = "before_answer";
/// After intake has committed.
pub const AFTER_INTAKE: &str = "after_intake";
/// Between two requests of a read of the LMS.
pub const MID_PAGE: &str = "mid_page";
/// After `sending` is committed, before the target is called.
pub const AFTER_SENDING: &str = "after_sending";
/// After the target has answered, before anything else happens.
pub const AFTER_WRITE: &str = "after_write";
/// Within the transaction that keeps the outcome, before its commit.
pub const BEFORE_OUTCOME: &str = "before_outcome";

/// All points, in the order of a webhook's path.
pub const ALL: [&str; 7] =
    [AFTER_APPEND, BEFORE_ANSWER, AFTER_INTAKE, MID_PAGE, AFTER_SENDING, AFTER_WRITE, BEFORE_OUTCOME];

/// Stops here for ever if the environment says so.
#[cfg(debug_assertions)]
pub fn reach(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);

    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("LEARNSYNC_FAIL_POINT").ok()?;
        let (name, times) = text.split_once(':')?;
        Some((name.to_owned(), times.parse().ok()?))
    });
    let Some((point, times)) = wanted else { return };
    if point == name && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == *times {
        // Written in one piece, so that a test can wait for the line.
        let _closed = std::io::Write::write_all(&mut std::io::stderr(), format!("fail point {name}\n").as_bytes());
        loop {
            std::thread::park();
        }
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reach(_name: &str) {}

/// Promises that tests break on purpose, to prove that they would notice; see `is_broken_on_purpose`.
pub const PROMISES: [&str; 15] = [
    "commit",
    "lookup",
    "settle",
    "generation",
    "older_read",
    "lease",
    "retry_after",
    "absence",
    "mapping",
    "guess",
    "pace",
    "quiet",
    "shadow",
    "guard",
    "removal",
];

#[cfg(debug_assertions)]
thread_local! {
    static BROKEN: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Breaks a promise for all that runs on this thread, or no more. Debug builds only.
pub fn break_on_this_thread(what: Option<&'static str>) {
    #[cfg(debug_assertions)]
    BROKEN.set(what);
    #[cfg(not(debug_assertions))]
    let _never = what;
}

/// Whether a promise is broken on purpose: on this thread, or by `LEARNSYNC_BREAK` for the whole process. Debug builds only.
#[must_use]
#[inline]
pub fn is_broken_on_purpose(what: &str) -> bool {
    #[cfg(debug_assertions)]
    {
        use std::sync::OnceLock;
        static EVERYWHERE: OnceLock<Option<String>> = OnceLock::new();
        let everywhere = EVERYWHERE.get_or_init(|| std::env::var("LEARNSYNC_BREAK").ok());
        BROKEN.get() == Some(what) || everywhere.as_deref() == Some(what)
    }
    #[cfg(not(debug_assertions))]
    {
        let _never = what;
        false
    }
}
