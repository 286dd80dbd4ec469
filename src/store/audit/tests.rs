//! Each kind of damage is found, by the check that is named after it; and where nothing is damaged nothing is found.

mod million;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use learnsync_sdk::{MatchRule, PersonMatch, RecordKind};

use super::*;
use crate::domain::delivery::{Attempt, AttemptAction, Cause, LinkFound, Next, Outcome};
use crate::domain::event::RawEvent;
use crate::domain::record::ReadRecords;
use crate::domain::subject::SubjectKind;
use crate::domain::time::{Clock, Timestamp};
use crate::store::tests::{Ledger, Says, assert_sound, lms_id, open};
use crate::store::{KeptGrant, NextLane, Phase, Progress, StagedRow, Store, TokenKey};

/// A ledger with something in every table and a delivery in every state; nobody has it open.
struct Healthy {
    ledger: PathBuf,
    keys: PathBuf,
    _folder: tempfile::TempDir,
}

/// Someone's first delivery that is due is sent, and this came of it.
async fn send(ledger: &Ledger, next: impl FnOnce(&Ledger) -> Option<Next>) {
    let NextLane::Due(lane) = ledger.store.next_lane(ledger.hr.id).await.expect("claims") else { panic!("is due") };
    let due = &lane.work.due[0];
    let ids = vec![(due.id, "p9".to_owned())];
    ledger.store.begin_sending(ledger.hr.id, ids).await.expect("sending is kept");
    let Some(next) = next(ledger) else { return };
    let at = ledger.clock.now();
    let attempt = Attempt {
        action: AttemptAction::Put,
        started_at: at,
        finished_at: at,
        outcome: "ambiguous",
        status: Some(504),
        remote_row: None,
        words: "nobody knows".to_owned(),
        fields_digest: None,
    };
    let outcome = Outcome::of_sent(due, Some(attempt), next);
    ledger.store.commit_outcomes(ledger.hr.id, vec![outcome]).await.expect("is kept");
}

async fn keep_portals_secrets(store: &Store, at: Timestamp) {
    store.save_token("main", Some(("a token".to_owned(), at))).await.expect("keeps");
    let grant = KeptGrant { bytes: b"a grant".to_vec(), obtained_at: at, ends_at: at.plus_ms(1) };
    store.save_grant("main", TokenKey::derive("0123456789abcdef"), Some(grant)).await.expect("keeps");
}

async fn stage(store: &Store) {
    let (backfill, _) = store.begin_backfill("main", None).await.expect("begins");
    let row = StagedRow { lms_id: lms_id(77), row_id: String::new(), row: b"{}".to_vec() };
    let progress = Progress { phase: Phase::Enrolments, ..Progress::default() };
    store.stage(backfill.id, vec![row], progress).await.expect("stages");
}

async fn healthy() -> Healthy {
    let mut ledger = Ledger::new().await;
    // What was delivered before a destination was forgotten leaves links in the chain.
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.deliver(&Says::Takes).await;
    ledger.configure(&["crm"]).await;
    ledger.store.forget_destination(ledger.hr.id).await.expect("is retired");
    ledger.later(86_400_000 * 3);
    ledger.hr = ledger.configure(&["crm", "hr"]).await.remove("hr").expect("is configured again");
    for number in 2..=4 {
        ledger.completes(number, "Bo", "Li").await;
    }
    ledger.deliver(&Says::Takes).await;
    ledger.completes(5, "Cy", "Ode").await;
    ledger.deliver(&Says::Refuses(Cause::Rejected)).await;
    ledger.store.erase_person(ledger.person(4).await).await.expect("erases");
    let store = std::sync::Arc::clone(&ledger.store);
    store.pin_link(ledger.hr.id, ledger.person(3).await, "p9").await.expect("pins");
    let found = PersonMatch::Ambiguous { rule: MatchRule::EMAIL, candidates: vec!["7".to_owned(), "8".to_owned()] };
    store.commit_link(ledger.hr.id, LinkFound { person: ledger.person(1).await, found }).await.expect("keeps");
    send(&ledger, |ledger| Some(Next::Uncertain { due_at: Timestamp(ledger.clock_ms() + 86_400_000), counts: true }))
        .await;
    ledger.completes(6, "Di", "Poe").await;
    send(&ledger, |_| None).await;
    ledger.hook_of("Certificate Awarded", 7, &[]).await;
    let day = Timestamp(ledger.clock_ms()).plus_ms(86_400_000);
    let complete = BTreeSet::from([RecordKind::Certificate]);
    ledger.read_until(7, ReadRecords { records: Vec::new(), complete }, Some(day)).await;
    keep_portals_secrets(&store, ledger.clock.now()).await;
    store.mark_lists("main", vec![SubjectKind::Courses]).await.expect("marks");
    let sweep = store.begin_sweep("main").await.expect("begins");
    store.finish_sweep(sweep.id, true).await.expect("ends");
    stage(&store).await;
    ledger.completes(8, "Ed", "Quin").await;
    ledger.hook_odd(8, "its name is new").await;
    let unread = RawEvent {
        portal: "main".to_owned(),
        method: "POST".to_owned(),
        content_type: "application/json".to_owned(),
        body: b"{}".to_vec(),
    };
    store.append_event(unread).await.expect("is kept");
    let states = ledger.states();
    for state in ["pending", "sending", "uncertain", "settled", "parked", "skipped"] {
        assert!(states.iter().any(|one| one == state), "no delivery is {state}: {states:?}");
    }
    // One more life, so that the first one's number stands in attempts only.
    let folder = tempfile::tempdir().expect("a folder");
    let copied = store.back_up(&folder.path().join("copy.db"), true).expect("copies");
    Healthy { ledger: copied.ledger, keys: copied.keys.expect("was asked for"), _folder: folder }
}

/// A damage.
struct Damage {
    what: &'static str,
    /// Each is done by a connection of its own.
    ledger: &'static [&'static str],
    keys: &'static str,
    /// Who finds it; the first is its name.
    finds: &'static [&'static str],
}

const fn rows(what: &'static str, ledger: &'static [&'static str], finds: &'static [&'static str]) -> Damage {
    Damage { what, ledger, keys: "", finds }
}

const SEALED: [&str; 9] = ["facts", "wanted", "profiles", "words", "receipts", "holdings", "bodies", "secrets", "keys"];

const DAMAGES: &[Damage] = &[
    rows(
        "an index lacks a row",
        &[
            "pragma writable_schema = on; create table kept as select * from sqlite_master where name = 'mark_by_due';
             delete from sqlite_master where name = 'mark_by_due';",
            "update mark set due_at = due_at + 1;",
            "pragma writable_schema = on; insert into sqlite_master select * from kept; delete from kept;",
        ],
        &["pages"],
    ),
    rows("an index is gone", &["drop index mark_by_due"], &["schema"]),
    rows("a trigger is gone", &["drop trigger mark_knows_its_portal"], &["schema"]),
    rows("a word that no constraint allows", &["update destination set state = 'asleep' where name = 'crm'"], &["constraints"]),
    rows("a life of the daemon is gone", &["delete from epoch"], &["references"]),
    rows("a route is gone", &["update delivery set route_id = 99 where state = 'parked'"], &["references"]),
    rows("the calendar names nobody", &["insert into calendar values (999, 0)"], &["references"]),
    rows("a webhook that nobody has read is gone", &["delete from event where id = (select max(id) from event)"], &["events"]),
    rows("a webhook was passed unread", &["delete from reading where oddity is not null"], &["events"]),
    rows("intake stands too far back", &["update intake set last_event_id = last_event_id - 1"], &["events"]),
    rows("intake stands beyond the log", &["update intake set last_event_id = last_event_id + 7"], &["events"]),
    rows("a webhook in the middle is gone", &["delete from event where id = 2"], &["events", "references"]),
    rows("a reading lost its subject", &["update reading set subject_id = null where oddity is not null"], &["readings"]),
    rows("a reading is missing", &["update reading set position = 1 where event_id = 1"], &["readings"]),
    rows(
        "a reading is about another portal's learner",
        &["insert into portal (id, name) values (2, 'second');
           insert into subject (id, portal_id, kind, lms_id) values (99, 2, 'learner', 'x');
           update reading set subject_id = 99 where oddity is not null"],
        &["readings"],
    ),
    rows("a promise is another learner's", &["update promise set subject_id = 1"], &["promises"]),
    rows("a promise is of no kind", &["update promise set record_kind = 'planet'"], &["promises"]),
    rows("a list has another name", &["update subject set lms_id = 'x' where kind = 'courses'"], &["subjects"]),
    rows("a subject is of no kind", &["update subject set kind = 'planet' where kind = 'courses'"], &["subjects", "constraints"]),
    rows(
        "a mark is in another portal",
        &["insert into portal (id, name) values (2, 'second'); update mark set portal_id = 2"],
        &["marks"],
    ),
    rows(
        "a person is of another portal",
        &["insert into portal (id, name) values (2, 'second'); update person set portal_id = 2 where id = 1"],
        &["people"],
    ),
    rows("a list holds a completion", &["update subject set kind = 'groups', lms_id = 'groups' where id = 1"], &["records"]),
    rows("a record is of another kind", &["update record set kind = 'certificate' where id = 1"], &["records", "facts"]),
    rows("a run's counts are torn", &["update run set counts = '{\"learners' where kind = 'sweep'"], &["runs"]),
    rows("a backfill's counts are another's", &["update run set counts = '{\"phase\":\"x\"}' where kind = 'backfill'"], &["runs"]),
    rows(
        "two sweeps are under way",
        &["insert into run (kind, portal_id, state, started_at) values ('sweep', 1, 'running', 0), ('sweep', 1, 'running', 0)"],
        &["runs"],
    ),
    rows("a backfill ended too early", &["update run set state = 'done', finished_at = 1 where kind = 'backfill'"], &["staged"]),
    rows("a rule claims to be a person", &["update link set rule = 'pinned' where rule = 'email' and state = 'linked'"], &["links"]),
    rows("the people in question are gone", &["update link set candidates = null"], &["links"]),
    rows(
        "a delivery has another destination's route",
        &["update delivery set route_id = (select t.id from route t join destination d on d.id = t.destination_id where d.name = 'crm')
           where state = 'settled'"],
        &["deliveries"],
    ),
    rows(
        "a delivery has another person's record",
        &["update delivery set record_id = 2 where state = 'parked'"],
        &["deliveries", "wanted"],
    ),
    rows("a delivery waits for ever", &["delete from delivery_queue where delivery_id in (select id from delivery where state = 'pending')"], &["queue"]),
    rows("a delivery waits for another time", &["update delivery_queue set due_at = due_at + 1"], &["queue"]),
    rows("a settled delivery waits", &["insert into delivery_queue select destination_id, 0, id from delivery where state = 'settled'"], &["queue"]),
    rows("a delivery of nobody waits", &["insert into delivery_queue values (1, 0, 999)"], &["queue"]),
    rows("a delivery waits elsewhere", &["update delivery_queue set destination_id = destination_id + 1"], &["queue"]),
    rows("a cause that nobody knows", &["update delivery set cause = 'full_moon' where state = 'parked'"], &["causes"]),
    rows("what is settled has a cause", &["update delivery set cause = 'rejected' where state = 'settled'"], &["causes"]),
    rows("what is set aside has no cause", &["update delivery set cause = null where state = 'parked'"], &["causes", "constraints"]),
    rows("a place holds other facts", &["update delivery set held_fingerprint = x'00' where state = 'settled'"], &["settled"]),
    rows("a place holds nothing known", &["update delivery set held_fingerprint = null where state = 'settled'"], &["settled"]),
    rows("a row is under nobody", &["update delivery set held_person = null where state = 'settled'"], &["held"]),
    rows("a row was held at no time", &["update delivery set held_at = null where state = 'settled'"], &["held"]),
    rows(
        "two deliveries hold one row",
        &["update delivery set held_row = 'row1', held_person = 'p' where state in ('settled', 'uncertain')"],
        &["places"],
    ),
    rows("a write for nobody", &["update delivery set sending_person = null where state = 'sending'"], &["sending"]),
    rows("an attempt was not counted", &["update delivery set attempts = attempts - 1 where state = 'parked'"], &["attempts"]),
    rows(
        "the newest attempt is gone",
        &["update delivery set attempts = attempts - 1 where id = (select delivery_id from attempt order by id desc limit 1);
           delete from attempt where id = (select max(id) from attempt)"],
        &["chain"],
    ),
    rows("an attempt's outcome was changed", &["update attempt set outcome = 'found' where outcome = 'rejected'"], &["chain"]),
    rows("a link of the chain is gone", &["delete from chain_link"], &["chain"]),
    rows(
        "attempts have other numbers",
        &["update attempt set number = number + 1 where outcome = 'rejected'"],
        &["attempts", "chain"],
    ),
    rows(
        "something is remembered of who was erased",
        &["insert into holding (delivery_id, state)
           select d.id, zeroblob(60) from delivery d join person p on p.id = d.person_id where p.state = 'erased' limit 1"],
        &["erased"],
    ),
    rows("an erased person can be found", &["update person set email_index = x'01' where state = 'erased'"], &["erased"]),
    rows(
        "an erased person's facts are back",
        &["update record set facts = x'01' where person_id = (select id from person where state = 'erased')"],
        &["erased"],
    ),
    rows(
        "an erased person is written again",
        &["update delivery set state = 'parked', cause = 'rejected' where cause = 'erased'"],
        &["erased"],
    ),
    rows("facts are torn", &["update record set facts = zeroblob(60) where id = 1"], &["facts"]),
    rows(
        "facts are another person's",
        &["update record set facts = (select facts from record where id = 2) where id = 1"],
        &["facts"],
    ),
    rows("a fingerprint is another's", &["update record set fingerprint = x'00' where id = 1"], &["facts"]),
    rows("a record has another date", &["update record set achieved_on = achieved_on + 1 where id = 1"], &["facts"]),
    rows("a delivery wants other facts", &["update delivery set wanted_fingerprint = x'00' where state = 'parked'"], &["wanted"]),
    rows("a profile is torn", &["update person set profile = zeroblob(60) where id = 1"], &["profiles"]),
    rows("a profile's digest is another's", &["update person set profile_digest = x'00' where id = 1"], &["profiles"]),
    rows("a target's words are torn", &["update attempt set words = zeroblob(60) where outcome = 'rejected'"], &["words"]),
    rows(
        "a target's words are others",
        &["update attempt set words = (select r.facts from record r join delivery d on d.record_id = r.id where d.id = delivery_id)
           where outcome = 'rejected'"],
        &["words"],
    ),
    rows("a receipt is torn", &["update delivery set receipt = zeroblob(60) where state = 'settled'"], &["receipts"]),
    rows(
        "a receipt's words are nobody's",
        &["update delivery set receipt = (select facts from record where id = record_id) where state = 'settled'"],
        &["receipts"],
    ),
    rows("what is remembered is torn", &["update holding set state = zeroblob(60)"], &["holdings"]),
    rows(
        "what is remembered was written by nobody",
        &["update delivery set held_fields_digest = x'00' where held_fields_digest is not null"],
        &["holdings"],
    ),
    rows("a webhook is torn", &["update event set body = zeroblob(60) where id = 1"], &["bodies"]),
    rows("a webhook is of another day", &["update event set day = day + 1 where id = 1"], &["bodies"]),
    rows("the token is torn", &["update portal set token = zeroblob(60)"], &["secrets"]),
    rows("the login by OAuth is torn", &["update portal set grant_token = zeroblob(60)"], &["secrets"]),
    rows("a staged row is torn", &["update staged set row = zeroblob(60)"], &["secrets"]),
    Damage {
        what: "an erased person's key is back",
        ledger: &[],
        keys: "update secret set scope = cast(bytes as text), bytes = zeroblob(32) where scope like 'erased/%'",
        finds: &["keys"],
    },
    Damage {
        what: "a day's key is gone",
        ledger: &[],
        keys: "delete from secret where scope = (select max(scope) from secret where scope like 'day/%')",
        finds: &["bodies"],
    },
    Damage {
        what: "a person's key is gone",
        ledger: &[],
        keys: "delete from secret where scope = 'person/2'",
        finds: &["facts", "holdings", "profiles", "receipts", "words"],
    },
    rows("the key file is another store's", &["update installation set blind_key_check = x'00'"], &SEALED),
];

impl Damage {
    fn inflict(&self, folder: &Path) {
        for statements in self.ledger {
            let mut db = connect_to(&folder.join("learnsync.db"));
            db.batch_execute("pragma foreign_keys = off; pragma ignore_check_constraints = on;")
                .expect("takes down its guard");
            db.batch_execute(statements).unwrap_or_else(|error| panic!("{}: {error}", self.what));
        }
        connect_to(&folder.join("learnsync.keys")).batch_execute(self.keys).expect("damages the keys");
    }
}

fn connect_to(path: &Path) -> SqliteConnection {
    SqliteConnection::establish(&path.to_string_lossy()).expect("opens")
}

impl Healthy {
    fn copy(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::copy(&self.ledger, folder.path().join("learnsync.db")).expect("copies");
        std::fs::copy(&self.keys, folder.path().join("learnsync.keys")).expect("copies");
        folder
    }
}

#[tokio::test]
async fn each_kind_of_damage_is_found_by_the_check_that_is_named_after_it_and_by_no_other() {
    let healthy = healthy().await;
    let whole = healthy.copy();
    assert_sound(whole.path());
    let looked_at_nothing: Vec<&str> =
        audit(whole.path()).expect("audits").checks.iter().filter(|one| one.rows == 0).map(|one| one.check).collect();
    assert_eq!(looked_at_nothing, [""; 0], "a check that sees no row proves nothing here");
    let mut wrong = Vec::new();
    for damage in DAMAGES {
        let folder = healthy.copy();
        damage.inflict(folder.path());
        let found = audit(folder.path()).unwrap_or_else(|error| panic!("{}: {error}", damage.what));
        let by: BTreeSet<&str> = found.broken().map(|checked| checked.check).collect();
        if by != damage.finds.iter().copied().collect() {
            let broken: Vec<_> =
                found.broken().map(|checked| (checked.check, &checked.examples, &checked.not_done)).collect();
            wrong.push(format!("{}: wanted {:?}, got {broken:?}", damage.what, damage.finds));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let names: BTreeSet<&str> = CHECKS.iter().map(|check| check.name).collect();
    let found: BTreeSet<&str> = DAMAGES.iter().map(|damage| damage.finds[0]).collect();
    assert_eq!(names, found, "every check is named after a damage that is tried");
    assert_eq!(names.len(), CHECKS.len());
}

#[tokio::test]
async fn findings_are_told_by_numbers_and_keys_alone_and_counted_beyond_the_examples() {
    let ledger = Ledger::new().await;
    for number in 1..=5 {
        ledger.completes(number, "Ana", "Nowak").await;
    }
    ledger.deliver(&Says::Takes).await;
    ledger.folder.spoil();
    connect_to(&ledger.folder.path().join("learnsync.db"))
        .batch_execute("update delivery set held_fingerprint = x'00'; update record set facts = zeroblob(60)")
        .expect("damages");
    let found = audit(ledger.folder.path()).expect("audits");
    let told = |name: &str| found.broken().find(|checked| checked.check == name).expect("is found").clone();
    let settled = told("settled");
    assert_eq!((settled.rows, settled.findings), (5, 5));
    assert_eq!(settled.examples, ["delivery 1", "delivery 2", "delivery 3"]);
    assert_eq!(told("facts").examples[0], "record 1 (completion/e1): cannot be opened");
    let json = serde_json::to_string(&found).expect("is plain data");
    assert!(!json.contains("Ana") && !json.contains("example.org"), "{json}");
}

#[tokio::test]
async fn without_its_keys_a_store_proves_nothing_of_what_is_sealed_and_says_so() {
    let healthy = healthy().await;
    let folder = healthy.copy();
    std::fs::remove_file(folder.path().join("learnsync.keys")).expect("removes");
    let found = audit(folder.path()).expect("audits the rest");
    let not_done: Vec<&str> = found.broken().map(|checked| checked.check).collect();
    assert_eq!(not_done, SEALED);
    assert!(found.broken().all(|one| one.not_done.as_deref().is_some_and(|why| why.contains("learnsync.keys"))));
}

#[tokio::test]
async fn who_is_erased_while_the_audit_goes_on_is_no_finding() {
    let ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.deliver(&Says::Takes).await;
    let folder = ledger.folder.path();
    let mut db = connect_reading(&folder.join("learnsync.db")).expect("opens");
    let person = ledger.person(1).await;
    db.batch_execute("begin").expect("begins");
    let mut keys = Keys::open(&mut db, folder);
    ledger.store.erase_person(person).await.expect("erases");
    for check in CHECKS {
        let checked = carry_out(check, &mut db, &mut keys);
        assert!(checked.is_kept(), "{checked:?}");
    }
    let facts = CHECKS.iter().find(|check| check.name == "facts").expect("there is one");
    assert_eq!(carry_out(facts, &mut db, &mut keys).rows, 1, "the snapshot knows them still");
}

#[test]
fn what_is_no_store_or_one_of_another_version_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = || audit(folder.path()).expect_err("is refused").to_string();
    assert!(refused().contains("learnsync run"), "{}", refused());
    drop(open(folder.path(), crate::store::tests::HandClock::at(0), 1));
    let database = folder.path().join("learnsync.db");
    let newest = "(select max(version) from __diesel_schema_migrations)";
    connect_to(&database)
        .batch_execute(&format!("delete from __diesel_schema_migrations where version = {newest}"))
        .expect("goes back in time");
    assert!(refused().contains("older version"), "{}", refused());
    connect_to(&database)
        .batch_execute("insert into __diesel_schema_migrations (version) values ('29991231000001')")
        .expect("goes forth in time");
    assert!(refused().contains("29991231000001"), "{}", refused());
}
