//! What a sweep by lists costs beyond transferring and parsing the same pages; run by `tests/sweep_bench.sh`, which says what is asked of it.
//!
//! The portal is the sandbox in another process; client, store and sweep are the daemon's own, in this one, so its peak memory is theirs.
//! Rounds of both are alternated, because only their ratio carries over from one machine to another.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use learnsync::domain::chance::Generator;
use learnsync::domain::lane::Lane;
use learnsync::domain::listing::ListReading;
use learnsync::domain::standing::Calendar;
use learnsync::domain::time::SystemClock;
use learnsync::lms::absorb::{Absorb, AbsorbSettings, Credentials, StoredToken, TokenVault};
use learnsync::lms::{Bulk, BulkPage, Lms};
use learnsync::pipeline::portal::Portal;
use learnsync::pipeline::worker::{Turn, Work};
use learnsync::reconcile::schedule::Schedule;
use learnsync::reconcile::sweep::{Ask, Lists, Sweep};
use learnsync::store::{ALL_LEARNERS, ListPage, Open, ShownRow, StagedRow, Store, Threading};
use learnsync_sdk::RecordKind;

/// One of so many enrolments changes between two nights.
const CHANGED_PER: u64 = 1_000;

/// Keeps the one token of this run.
#[derive(Default)]
struct Vault(tokio::sync::Mutex<Option<StoredToken>>);

#[async_trait]
impl TokenVault for Vault {
    async fn load(&self) -> Option<StoredToken> {
        self.0.lock().await.clone()
    }

    async fn save(&self, token: Option<StoredToken>) {
        *self.0.lock().await = token;
    }

    async fn reserve_login(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The sandbox in its own process; it ends with this.
struct Sandbox {
    process: Child,
    url: String,
    username: String,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

impl Sandbox {
    fn start(folder: &Path, learners: u64, courses: u64, enrolments: u64) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_learnsync"))
            .args(["sandbox", "--port-base", "0", "--quirk", "rate=0"])
            .args(["--learners", &learners.to_string(), "--courses", &courses.to_string()])
            .args(["--enrollments", &enrolments.to_string(), "--credentials"])
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sandbox starts");
        let mut lines = BufReader::new(process.stdout.take().expect("is piped")).lines();
        let (mut url, mut username) = (String::new(), String::new());
        for line in lines.by_ref().map(|line| line.expect("it tells where it is")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["fake", "Absorb", "portal", address, ..] = words.as_slice() {
                url = (*address).to_owned();
            }
            if let Some(place) = words.iter().position(|word| *word == "--username") {
                username = words[place + 1].to_owned();
                break;
            }
        }
        assert!(!url.is_empty() && !username.is_empty(), "the sandbox tells where it is");
        Self { process, url, username }
    }

    fn client(&self, folder: &Path) -> Absorb {
        let credential = |name: &str| std::fs::read_to_string(folder.join(name)).expect("the sandbox keeps it");
        let settings = AbsorbSettings {
            portal: "main".to_owned(),
            url: self.url.clone(),
            api_key: credential("absorb_api_key"),
            credentials: Credentials::Password {
                username: self.username.clone(),
                password: credential("absorb_password"),
            },
            certificates_path: "/users/{user}/certificates".to_owned(),
            competencies_path: "/users/{user}/competencies".to_owned(),
            learning_paths_path: None,
            kinds: BTreeSet::from([RecordKind::Completion, RecordKind::Certificate]),
            // Neither limit is what is measured.
            calls_per_second_max: 100_000,
            calls_at_once_max: 4,
        };
        let http = learnsync::daemon::http_client().expect("a client");
        Absorb::new(settings, http, Arc::new(Vault::default()), Arc::new(SystemClock), Arc::new(Generator::from_os()))
    }

    /// A night's changes: scores are corrected, and no webhook tells.
    async fn change(&self, count: u64) {
        let http = learnsync::daemon::http_client().expect("a client");
        for _ in 0..count {
            let fields = [("event", "score-corrected"), ("learner", ""), ("what", "")];
            let request = http.post(format!("{}/sandbox/happen", self.url)).header("accept", "text/plain");
            let answer = request.form(&fields).send().await.expect("the sandbox answers");
            assert!(answer.status().is_success(), "{}", answer.status());
        }
    }
}

/// Calls `each` with every page of every list, as the sweep reads them; answers how many rows and pages there were.
async fn read_all(bulk: &dyn Bulk, mut each: impl AsyncFnMut(&str, u32, BulkPage)) -> (u64, u64) {
    let (mut rows, mut pages) = (0, 0);
    let plan = bulk.plan().await.expect("the courses");
    for list in std::iter::once(ALL_LEARNERS).chain(plan.courses.iter().map(String::as_str)) {
        for number in 0.. {
            let page = match list {
                ALL_LEARNERS => bulk.learners(number).await,
                course => bulk.enrolments(course, number).await,
            };
            let page = page.expect("a page");
            let more = page.more;
            (rows, pages) = (rows + page.rows.len() as u64, pages + 1);
            each(list, number, page).await;
            if !more {
                break;
            }
        }
    }
    (rows, pages)
}

fn list_page(page: &BulkPage) -> ListPage {
    let row = |row: &learnsync::lms::BulkRow| ShownRow {
        learner: row.learner_id.clone(),
        row_id: row.row_id.clone(),
        row: row.row.clone(),
    };
    ListPage {
        rows: page.rows.iter().map(row).collect(),
        total: page.total,
        is_last: !page.more,
        is_whole: page.is_whole,
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The most memory that this process ever held, in MB.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("Linux tells");
    let kib: f64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number");
    kib * 1.024 / 1_000.0
}

/// The processor time that this process has used, in seconds: on a machine that others use too, it says more than the wall's.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells");
    let (_, behind_name) = stat.rsplit_once(')').expect("Linux tells");
    let ticks = |place: usize| -> f64 {
        behind_name.split_whitespace().nth(place).and_then(|word| word.parse().ok()).expect("a number")
    };
    // A tick is a hundredth of a second on every Linux that we know.
    (ticks(11) + ticks(12)) / 100.0
}

fn open(folder: &Path) -> Arc<Store> {
    let open = Open {
        path: folder.to_owned(),
        installation: "bench".to_owned(),
        threading: Threading::Thread,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(Generator::from_os()),
        pages_max: None,
    };
    Arc::new(open.open().expect("the store opens"))
}

#[tokio::test]
#[ignore = "minutes, and only with a release build do its numbers say something: tests/sweep_bench.sh"]
async fn a_sweep_by_lists_finds_what_changed_and_says_what_it_cost() {
    let learners = number("LEARNERS", 1_000);
    let courses = number("COURSES", 5);
    let enrolments = number("ENROLMENTS", 10_000);
    // Of transferring alone and sweeping; at most six, for the seventh night reads everybody.
    let rounds = number("ROUNDS", 5).clamp(1, 6);
    let folder = tempfile::tempdir().expect("a folder");
    let credentials = folder.path().join("credentials");
    let sandbox = Sandbox::start(&credentials, learners, courses, enrolments);
    let absorb = sandbox.client(&credentials);
    let store = open(&folder.path().join("store"));
    let lms: Arc<dyn Lms> = Arc::new(absorb.clone());
    let portal = Arc::new(Portal::load("main", lms, Calendar::default(), &store).await.expect("loads"));
    let bulk = portal.lms(Lane::Sweep).bulk().expect("Absorb has lists");

    // The first look fills the table, as a backfill does; what that costs beside staging is told, too.
    let (backfill, _) = store.begin_backfill("main", None).await.expect("begins");
    let (mut staging, mut keeping) = (Duration::ZERO, Duration::ZERO);
    let mut reading = ListReading::default();
    let begun = Instant::now();
    let (rows, pages) = read_all(bulk, async |list, number, page| {
        if number == 0 {
            reading = ListReading::of(list.to_owned());
        }
        let begun = Instant::now();
        let shown = list_page(&page);
        reading = store.keep_page("main", reading.clone(), shown).await.expect("is kept");
        keeping += begun.elapsed();
        let begun = Instant::now();
        let staged = page.rows.into_iter();
        let staged = staged.map(|row| StagedRow { lms_id: row.learner_id, row_id: row.row_id, row: row.row });
        store.stage(backfill.id, staged.collect(), backfill.progress.clone()).await.expect("is staged");
        staging += begun.elapsed();
    })
    .await;
    let filling = begun.elapsed();
    store.finish_backfill(backfill.id, true).await.expect("ends");

    let sweep = Sweep {
        portal: Arc::clone(&portal),
        store: Arc::clone(&store),
        schedule: Schedule::parse("15 2 * * *", chrono_tz::Tz::UTC).expect("parses"),
        asked: Arc::default(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(Generator::from_os()),
        refresh: Arc::default(),
        destinations: BTreeMap::new(),
        backfill: Arc::default(),
        lists: Vec::new(),
        under_way: AtomicBool::new(false),
        known: Lists::default(),
    };
    let (mut ratios, mut cpu_ratios) = (Vec::new(), Vec::new());
    println!("{learners} learners, {courses} courses, {enrolments} enrolments: {rows} rows are kept of {pages} pages");
    println!("round  transfer and parse  sweep    ratio  of processor time");
    for round in 1..=rounds {
        sandbox.change((enrolments / CHANGED_PER).max(1)).await;
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        read_all(bulk, async |_, _, page| drop(page)).await;
        let (parsing, parsing_cpu) = (begun.elapsed(), cpu_seconds() - cpu);
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        sweep.asked.ask(Ask::Changes);
        while sweep.run_once().await.expect("the store works") == Turn::Worked && sweep.under_way.load(Ordering::SeqCst)
        {
        }
        let (sweeping, sweeping_cpu) = (begun.elapsed(), cpu_seconds() - cpu);
        let (ratio, cpu_ratio) = (sweeping.as_secs_f64() / parsing.as_secs_f64(), sweeping_cpu / parsing_cpu);
        let (parsing, sweeping) = (parsing.as_secs_f64(), sweeping.as_secs_f64());
        println!(
            "{round:>5}  {parsing:>16.2} s  {sweeping:>5.2} s  {ratio:.3}  {cpu_ratio:.3} ({parsing_cpu:.2} s, {sweeping_cpu:.2} s)"
        );
        ratios.push(ratio);
        cpu_ratios.push(cpu_ratio);
    }
    let view = learnsync::store::view::View::open(&folder.path().join("store")).and_then(|mut view| view.status());
    let status = view.expect("the store can be looked into");
    let marked: i64 = status.dirty.iter().map(|(_, count)| count).sum();
    let in_turn = rounds * learners / 7;
    println!("learners to read again after {rounds} nights: {marked}, of whom about {in_turn} in their turn");
    let other = filling.saturating_sub(keeping).as_secs_f64();
    println!(
        "a backfill's lists: {:.2} s, of which staging {:.2} s and keeping for the sweep {:.2} s ({:+.1} %)",
        filling.as_secs_f64(),
        staging.as_secs_f64(),
        keeping.as_secs_f64(),
        100.0 * keeping.as_secs_f64() / other
    );
    let database = std::fs::metadata(folder.path().join("store/learnsync.db")).expect("is there").len();
    println!("the store's file: {:.1} MB", database as f64 / 1e6);
    println!("peak memory {:.1} MB (VmHWM)", peak_mb());
    println!("median ratio {:.3}, of processor time {:.3}", median(ratios), median(cpu_ratios));
    assert!(marked > 0 && (marked as u64) < in_turn * 3 / 2 + rounds * 2 * (enrolments / CHANGED_PER).max(1));
}
