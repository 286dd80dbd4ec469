//! Whose folder and whose files they are, and what is not trusted.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;

use learnsync_sdk::{Account, Connector, ConnectorType, DeliveryError, ErrorKind, Fields, Observation};
use serde_json::json;

use super::{Stage, fields, held, mark, names_in, put, refused, seen, taken, text, withdraw};
use crate::File;
use crate::folder::cannot;

fn title(title: &str) -> Fields {
    fields([("title", text(title))])
}

async fn stage_with_three_rows() -> Stage {
    let stage = Stage::new();
    let batch = [put("mine", 1, title("one")), put("mine", 2, title("two")), put("mine", 3, title("three"))];
    taken(&stage.destination(&json!({})), &batch).await;
    stage
}

/// Both ways say that the file cannot be used, and leave it as it is.
async fn not_trusted(stage: &Stage, words: &str) {
    let before = fs::read(stage.path().join("mine.csv")).ok();
    let destination = stage.destination(&json!({}));
    let error = refused(&destination, &[put("mine", 4, title("four")), withdraw("mine", 1)]).await;
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.message.starts_with("cannot read mine.csv: ") && error.message.contains(words), "{error}");
    assert_eq!(seen(&destination, "mine", 1).await, Err(error));
    assert_eq!(fs::read(stage.path().join("mine.csv")).ok(), before);
}

#[tokio::test]
async fn probing_looking_and_an_empty_batch_leave_no_trace() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({}));
    let folder = stage.path().canonicalize().expect("it is there");
    let identity = format!("{} of acme", folder.display());
    assert_eq!(destination.probe().await, Ok(Account { identity }));
    assert_eq!(seen(&destination, "mine", 1).await, Ok(Observation::Absent));
    assert_eq!((destination.deliver(&[]).await.len(), destination.observe(&[]).await.len()), (0, 0));
    assert!(names_in(stage.path()).is_empty(), "{:?}", names_in(stage.path()));
}

#[tokio::test]
async fn the_folder_of_another_installation_is_refused_and_left_alone() {
    let stage = Stage::new();
    let toolbox = learnsync_testkit::toolbox("another");
    let other = File.build(&json!({"folder": stage.path()}), toolbox).expect("right settings");
    other.deliver(&[put("mine", 1, title("theirs"))]).await.remove(0).expect("the folder is nobody's yet");
    let before = stage.read("mine.csv");
    let ours = stage.destination(&json!({}));
    let error = refused(&ours, &[put("mine", 1, title("ours")), put("yours", 1, title("ours"))]).await;
    assert_eq!(error.kind, ErrorKind::Unauthorized);
    assert!(error.message.contains("belongs to the installation \"another\""), "{error}");
    assert_eq!(ours.probe().await.expect_err("it is not ours"), error);
    assert_eq!(seen(&ours, "mine", 1).await, Err(error));
    assert_eq!(stage.read("mine.csv"), before);
}

#[tokio::test]
async fn while_another_process_is_busy_in_the_folder_nothing_is_written() {
    let stage = stage_with_three_rows().await;
    let destination = stage.destination(&json!({}));
    let owner = fs::File::open(stage.path().join(".learnsync/owner")).expect("the folder is ours");
    owner.lock().expect("nobody has it");
    let error = refused(&destination, &[put("mine", 1, title("ours"))]).await;
    assert_eq!(
        (error.kind.clone(), error.message.as_str()),
        (ErrorKind::Unavailable, "another process of learnsync is busy in the folder")
    );
    assert_eq!(seen(&destination, "mine", 1).await, Err(error));
    owner.unlock().expect("we have it");
    taken(&destination, &[put("mine", 1, title("ours"))]).await;
}

#[tokio::test]
async fn a_file_where_the_folder_should_be_is_unavailable() {
    let stage = Stage::new();
    stage.write("a-file", "");
    let settings = json!({"folder": stage.path().join("a-file")});
    let destination = File.build(&settings, learnsync_testkit::toolbox("acme")).expect("right settings");
    let error = destination.probe().await.expect_err("it is no folder");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.ends_with("a-file is no folder"), "{error}");
}

#[test]
fn what_the_system_does_not_permit_needs_a_person_and_all_else_may_pass() {
    let check = |kind: io::ErrorKind, expected: ErrorKind| {
        let DeliveryError { kind, message, .. } = cannot("write mine.csv", &kind.into());
        assert_eq!(kind, expected, "{message}");
        assert!(message.starts_with("cannot write mine.csv: "), "{message}");
    };
    check(io::ErrorKind::PermissionDenied, ErrorKind::Unauthorized);
    for kind in [
        io::ErrorKind::StorageFull,
        io::ErrorKind::NotFound,
        io::ErrorKind::ReadOnlyFilesystem,
        io::ErrorKind::QuotaExceeded,
    ] {
        check(kind, ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_foreign_file_of_the_same_name_is_left_alone() {
    for foreign in ["employee,name\n1,Ada\n", "", "\u{0}\u{1}\n", "no line end", "\"learnsync_mark\n"] {
        let stage = Stage::new();
        stage.write("mine.csv", foreign);
        not_trusted(&stage, "").await;
    }
}

#[tokio::test]
async fn half_a_file_is_not_trusted_wherever_it_was_cut() {
    let stage = stage_with_three_rows().await;
    let whole = stage.read("mine.csv");
    for length in 0..whole.len() {
        stage.write("mine.csv", &whole[..length]);
        not_trusted(&stage, "").await;
    }
    stage.write("mine.csv", &whole);
    taken(&stage.destination(&json!({})), &[put("mine", 1, title("whole again"))]).await;
}

#[tokio::test]
async fn without_its_manifest_a_file_that_ends_within_a_row_is_not_trusted() {
    let stage = stage_with_three_rows().await;
    let whole = stage.read("mine.csv");
    fs::remove_file(stage.path().join("mine.csv.manifest.json")).expect("it is there");
    stage.write("mine.csv", whole.strip_suffix("ee\"\n").expect("it ends so"));
    not_trusted(&stage, "line 4: it ends within a row, so it is not whole").await;
}

#[tokio::test]
async fn a_file_that_somebody_edited_is_taken_as_it_is_once_they_remove_its_manifest() {
    let stage = stage_with_three_rows().await;
    let edited = stage.read("mine.csv").replace(&format!("\"{}\",\"two\"\n", mark(2)), ",by hand\n");
    stage.write("mine.csv", &edited);
    not_trusted(&stage, "its manifest tells another sha256").await;
    fs::remove_file(stage.path().join("mine.csv.manifest.json")).expect("it is there");
    let destination = stage.destination(&json!({}));
    assert_eq!(seen(&destination, "mine", 2).await, Ok(Observation::Absent), "somebody removed it");
    taken(&destination, &[put("mine", 1, title("one again"))]).await;
    let expected =
        format!("learnsync_mark,title\n\"{}\",\"one again\"\n,by hand\n\"{}\",\"three\"\n", mark(1), mark(3));
    assert_eq!(stage.read("mine.csv"), expected, "what is not ours stays, to the letter");
    assert_eq!(stage.manifest("mine.csv")["rows"], 3);
}

#[tokio::test]
async fn a_full_file_that_was_taken_away_without_its_manifest_is_not_begun_anew() {
    let stage = stage_with_three_rows().await;
    fs::remove_file(stage.path().join("mine.csv")).expect("it is there");
    not_trusted(&stage, "it is gone, and its manifest is not").await;
    fs::remove_file(stage.path().join("mine.csv.manifest.json")).expect("it is there");
    let destination = stage.destination(&json!({}));
    taken(&destination, &[put("mine", 4, title("four"))]).await;
    assert_eq!(seen(&destination, "mine", 4).await, held(4, title("four")));
}

#[tokio::test]
async fn one_file_that_cannot_be_used_does_not_hold_up_the_others() {
    let stage = Stage::new();
    stage.write("theirs.csv", "employee\n1\n");
    let batch = [put("theirs", 1, title("x")), put("mine", 2, title("two")), put("theirs", 3, title("x"))];
    let outcomes = stage.destination(&json!({})).deliver(&batch).await;
    assert!(outcomes[0].is_err() && outcomes[2].is_err(), "{outcomes:?}");
    assert_eq!(outcomes[1].as_ref().map(|receipt| receipt.row.clone()), Ok(mark(2)));
}

#[tokio::test]
async fn what_a_dead_process_left_is_removed_and_nothing_else() {
    let stage = Stage::new();
    for name in ["mine.csv.learnsync.tmp", "old-delta.csv.manifest.json.learnsync.tmp", "theirs.tmp"] {
        stage.write(name, "half a f");
    }
    taken(&stage.destination(&json!({})), &[put("mine", 1, title("one"))]).await;
    assert_eq!(stage.names(), ["mine.csv", "mine.csv.manifest.json", "theirs.tmp"]);
}

#[tokio::test]
async fn the_group_may_read_the_files_and_nobody_else_may() {
    let stage = stage_with_three_rows().await;
    for name in ["mine.csv", "mine.csv.manifest.json"] {
        let mode = fs::metadata(stage.path().join(name)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
    }
    let ours = fs::metadata(stage.path().join(".learnsync")).expect("it is there").permissions().mode();
    assert_eq!(ours & 0o777, 0o700);
}
