//! What happens when the disk fails or the process dies: before each step once, by an error and by a death.

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use learnsync_sdk::{Change, Connector, ErrorKind, Fields};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::{Stage, fields, held, mark, names_in, put, seen, taken, text, withdraw};
use crate::folder::Step;

/// More steps than one batch has.
const STEPS_MAX: usize = 40;
/// Where a child finds its folder, and before which step it dies.
const FOLDER: &str = "LEARNSYNC_FILE_TEST_FOLDER";
const STEP: &str = "LEARNSYNC_FILE_TEST_STEP";

fn title(title: &str) -> Fields {
    fields([("title", text(title))])
}

fn first() -> Vec<Change> {
    vec![put("mine", 1, title("old")), put("mine", 2, title("stays")), put("mine", 3, title("goes"))]
}

fn second() -> Vec<Change> {
    vec![put("mine", 1, title("new")), withdraw("mine", 3), put("mine", 4, title("comes"))]
}

fn modes() -> [Json; 3] {
    [json!({}), json!({"format": "json_lines"}), json!({"mode": "delta"})]
}

/// A watch that does this before the n-th step (from 0).
fn before_step(
    nth: usize,
    then: impl Fn() -> io::Result<()> + Send + Sync,
) -> impl Fn(Step) -> io::Result<()> + Send + Sync {
    let count = AtomicUsize::new(0);
    move |_| if count.fetch_add(1, Ordering::SeqCst) == nth { then() } else { Ok(()) }
}

/// Every file that has a manifest is the one that the manifest is about; answers those files, by name.
fn whole_files(stage: &Stage) -> BTreeMap<String, String> {
    let names = stage.names();
    let described = names.iter().filter_map(|name| name.strip_suffix(".manifest.json"));
    let whole = described.map(|name| {
        let (bytes, manifest) = (stage.read(name), stage.manifest(name));
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((&manifest["sha256"], &manifest["bytes"]), (&json!(digest), &json!(bytes.len())), "{name}");
        (name.to_owned(), bytes)
    });
    whole.collect()
}

fn full_name(settings: &Json) -> &'static str {
    if settings["format"] == "json_lines" { "mine.jsonl" } else { "mine.csv" }
}

/// Whatever happened: the next life of the daemon looks, writes again, and all is well.
async fn recovers(stage: &Stage, settings: &Json, case: &str) {
    let destination = stage.destination(settings);
    let place_1 = seen(&destination, "mine", 1).await;
    let is_old_or_new = place_1 == held(1, title("old")) || place_1 == held(1, title("new"));
    assert!(is_old_or_new, "{case}: {place_1:?}");
    taken(&destination, &second()).await;
    for (place, words) in [(1, "new"), (2, "stays"), (4, "comes")] {
        assert_eq!(seen(&destination, "mine", place).await, held(place, title(words)), "{case}");
    }
    assert_eq!(seen(&destination, "mine", 3).await, Ok(learnsync_sdk::Observation::Absent), "{case}");
    let left = [stage.path().to_owned(), stage.path().join(".learnsync")].map(|folder| names_in(&folder)).concat();
    assert!(!left.iter().any(|name| name.ends_with(".tmp")), "{case}: {left:?}");
    let whole = whole_files(stage);
    if settings["mode"] == "delta" {
        let last = folded(whole.values());
        assert_eq!(
            last,
            [(mark(1), "new"), (mark(2), "stays"), (mark(4), "comes")]
                .map(|(mark, words)| (mark, words.to_owned()))
                .into()
        );
    } else {
        assert!(whole.contains_key(full_name(settings)), "{case}: the manifest is back: {whole:?}");
    }
}

/// What an importer knows that took all deltas, in the order of their names.
fn folded<'a>(deltas: impl Iterator<Item = &'a String>) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for line in deltas.flat_map(|delta| delta.lines().skip(1)) {
        let cells: Vec<&str> = line.split(',').map(|cell| cell.trim_matches('"')).collect();
        match cells[0] {
            "put" => rows.insert(cells[1].to_owned(), cells[2].to_owned()),
            _ => rows.remove(cells[1]),
        };
    }
    rows
}

#[tokio::test]
async fn before_whatever_step_the_disk_fails_the_file_is_the_old_or_the_new_one_and_the_error_says_which() {
    for settings in modes() {
        let mut kinds = Vec::new();
        for nth in 0..STEPS_MAX {
            let case = format!("{settings}, step {nth}");
            let stage = Stage::new();
            taken(&stage.destination(&settings), &first()).await;
            let before = whole_files(&stage);
            let fails = before_step(nth, || Err(io::Error::from(io::ErrorKind::StorageFull)));
            let outcomes = stage.watched(&settings, fails).deliver(&second()).await;
            let after = whole_files(&stage);
            let Some(error) = outcomes.iter().find_map(|outcome| outcome.as_ref().err()) else {
                assert!(outcomes.len() == 3 && kinds.contains(&ErrorKind::Ambiguous), "{case}: all steps are passed");
                break;
            };
            assert!(nth + 1 < STEPS_MAX && outcomes.iter().all(Result::is_err), "{case}: they share their fate");
            if settings["mode"] != "delta" {
                let is_new = stage.read(full_name(&settings)).contains("comes");
                let expected = if is_new { ErrorKind::Ambiguous } else { ErrorKind::Unavailable };
                assert_eq!(error.kind, expected, "{case}: {error}");
            } else if error.kind == ErrorKind::Unavailable {
                assert_eq!(after, before, "{case}: nothing was handed over");
            }
            kinds.push(error.kind.clone());
            recovers(&stage, &settings, &case).await;
        }
        assert!(kinds.contains(&ErrorKind::Unavailable), "{settings}: {kinds:?}");
    }
}

/// Runs a test of this file in a process of its own, below a shell that first does what it is told.
fn run_child(test: &str, stage: &Stage, step: usize, shell: &str) -> std::process::ExitStatus {
    let program = std::env::current_exe().expect("this test is a program");
    let script = format!("{shell} exec \"$0\" --exact --ignored tests::crashes::{test}");
    let mut child = Command::new("sh");
    child.arg("-c").arg(script).arg(program).env(FOLDER, stage.path()).env(STEP, step.to_string());
    child.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("there is a shell")
}

/// What a child works on: the settings, the folder, and the step.
fn childs_work() -> (Json, crate::settings::Settings, usize) {
    let folder = std::env::var(FOLDER).expect("a parent says where");
    let step: usize = std::env::var(STEP).expect("a parent says when").parse().expect("a number");
    let mut settings = modes()[step / 100].clone();
    settings["folder"] = json!(folder);
    let read = crate::settings::Settings::read(&settings).expect("right settings");
    (settings, read, step % 100)
}

fn childs_destination(nth: usize, settings: crate::settings::Settings) -> crate::Destination {
    let watch = Arc::new(before_step(nth, || std::process::abort()));
    let path = settings.folder.clone();
    let folder = crate::folder::Folder { path, installation: super::INSTALLATION.to_owned(), watch };
    let clock = learnsync_testkit::toolbox(super::INSTALLATION).clock;
    crate::Destination::new(folder, settings, clock)
}

#[tokio::test]
#[ignore = "runs in a process of its own, and dies"]
async fn child_dies_before_a_step() {
    let (_, settings, nth) = childs_work();
    taken(&childs_destination(nth, settings), &second()).await;
}

#[tokio::test]
async fn before_whatever_step_the_process_dies_the_next_one_finds_the_old_or_the_new_file_and_goes_on() {
    for (index, settings) in modes().into_iter().enumerate() {
        let mut deaths = 0;
        for nth in 0..STEPS_MAX {
            let stage = Stage::new();
            taken(&stage.destination(&settings), &first()).await;
            let ended = run_child("child_dies_before_a_step", &stage, index * 100 + nth, "");
            whole_files(&stage);
            recovers(&stage, &settings, &format!("{settings}, death before step {nth}")).await;
            if ended.success() {
                break;
            }
            deaths += 1;
        }
        assert!((7..STEPS_MAX).contains(&deaths), "{settings}: {deaths} deaths");
    }
}

#[tokio::test]
#[ignore = "runs in a process of its own, whose files cannot grow"]
async fn child_fills_the_disk() {
    let (_, settings, _) = childs_work();
    let big = put("mine", 1, title(&"x".repeat(100_000)));
    let error =
        childs_destination(STEPS_MAX, settings).deliver(&[big]).await.remove(0).expect_err("no file may grow so large");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.message.starts_with("cannot write"), "{error}");
}

#[tokio::test]
async fn a_disk_that_takes_no_more_leaves_the_old_file_and_says_unavailable() {
    for (index, settings) in modes().into_iter().enumerate() {
        let stage = Stage::new();
        taken(&stage.destination(&settings), &first()).await;
        let before = whole_files(&stage);
        // No file beyond 4 KiB: the write itself fails, as on a full disk.
        let ended = run_child("child_fills_the_disk", &stage, index * 100, "ulimit -f 8; trap '' XFSZ;");
        assert!(ended.success(), "{settings}: the child says what went wrong");
        assert_eq!(whole_files(&stage), before, "{settings}");
        recovers(&stage, &settings, "full disk").await;
    }
}

#[tokio::test]
async fn a_call_that_was_given_up_is_never_overtaken_by_the_next() {
    let stage = Stage::new();
    let (arrived, (gate, opened)) = (Arc::new(Notify::new()), mpsc::channel::<()>());
    let opened = std::sync::Mutex::new(opened);
    let told = Arc::clone(&arrived);
    let count = AtomicUsize::new(0);
    let destination = Arc::new(stage.watched(&json!({}), move |step| {
        if step == Step::Rename && count.fetch_add(1, Ordering::SeqCst) == 0 {
            told.notify_one();
            let _opened = opened.lock().expect("only one waits").recv();
        }
        Ok(())
    }));
    let late = Arc::clone(&destination);
    let given_up = tokio::spawn(async move { late.deliver(&[put("mine", 1, title("late"))]).await });
    arrived.notified().await;
    given_up.abort();
    assert!(given_up.await.expect_err("it was given up").is_cancelled());
    // The next one waits; only then is the gate opened.
    let newest = [put("mine", 1, title("newest"))];
    let (outcomes, ()) = tokio::join!(destination.deliver(&newest), async { gate.send(()).expect("somebody waits") });
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    assert_eq!(seen(&destination, "mine", 1).await, held(1, title("newest")));
}

/// The most memory that this process ever had, in KiB.
fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("it tells the peak");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
}

const MANY_ROWS: usize = 100_000;
const MEMORY_KIB_MAX: usize = 8 * 1_024;

#[tokio::test]
#[ignore = "runs in a process of its own, so that its memory is its own"]
async fn child_changes_a_large_file() {
    let (_, settings, _) = childs_work();
    let destination = childs_destination(STEPS_MAX, settings);
    let before = peak_kib();
    let batch: Vec<Change> = (0..500).map(|place| put("mine", place * 150, title("changed"))).collect();
    taken(&destination, &batch).await;
    let grown = peak_kib() - before;
    assert!(grown < MEMORY_KIB_MAX, "{grown} KiB");
}

#[tokio::test]
async fn a_file_of_a_hundred_thousand_rows_is_rewritten_in_a_few_mebibytes() {
    let stage = Stage::new();
    let mut table = String::from("learnsync_mark,title,note\n");
    for place in 0..MANY_ROWS {
        table.push_str(&format!("\"{}\",\"row {place}\",\"{}\"\n", mark(place), "n".repeat(200)));
    }
    assert!(table.len() > 2 * MEMORY_KIB_MAX * 1_024, "or holding it whole would pass unseen");
    stage.write("mine.csv", &table);
    let ended = run_child("child_changes_a_large_file", &stage, 0, "");
    assert!(ended.success(), "it needs more than {MEMORY_KIB_MAX} KiB, or fails");
    assert_eq!(stage.manifest("mine.csv")["rows"], json!(MANY_ROWS));
    let after = stage.read("mine.csv");
    assert_eq!(after.matches("\"changed\"").count(), 500);
    assert_eq!(after.lines().nth(1), Some(format!("\"{}\",\"changed\",\"{}\"", mark(0), "n".repeat(200)).as_str()));
}
