//! A golden text for every state, cause and way of not being there; and a sweep that no combination leaves without an answer.

mod from_store;
mod screens;
mod strangers;
mod sweep;

use std::collections::BTreeMap;
use std::path::Path;

use chrono::NaiveDate;
use chrono_tz::Tz;
use learnsync_sdk::{AfterUnknown, BlindRepeat, Learner, MatchRule, RecordKind, SlotRule};

use super::*;
use crate::domain::delivery::{Cause, DeliveryState};
use crate::domain::drift::DriftClass;
use crate::domain::record::{Course, Record};
use crate::domain::time::LmsTime;
use crate::store::view::{AttemptView, DriftView, EventView, LearnerView, LinkView, PromiseView, RecordView};

/// 3 March 2026, 09:30 in Berlin.
const NOW: Timestamp = Timestamp(1_772_526_600_000);
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

const ID: &str = "a14c149a-2ce0-41d4-b532-02189ad3cb22";

fn given() -> Given {
    Given {
        now: NOW,
        zone: Tz::Europe__Berlin,
        // 4 March, 02:15 in Berlin.
        next_night: Some(Timestamp(1_772_586_900_000)),
        is_running: Some(true),
        file: "/etc/learnsync/learnsync.toml".to_owned(),
        destinations: vec![hr()],
    }
}

fn hr() -> Configured {
    let route = |name: &str, record| ConfiguredRoute {
        name: name.to_owned(),
        record,
        slot: SlotRule::Record,
        is_append: false,
    };
    Configured {
        name: "hr".to_owned(),
        connector: "bamboohr".to_owned(),
        file: "/etc/learnsync/destinations.d/hr.toml".to_owned(),
        has_own_file: true,
        wrong: None,
        routes: vec![route("completions", RecordKind::Completion), route("certificates", RecordKind::Certificate)],
        history: History::None,
        match_rules: vec![MatchRule::EXTERNAL_ID, MatchRule::EMPLOYEE_NUMBER, MatchRule::EMAIL],
        after_unknown: AfterUnknown::Look,
        is_shadow: false,
    }
}

fn chat() -> Configured {
    Configured {
        name: "news".to_owned(),
        connector: "chat".to_owned(),
        file: "/etc/learnsync/destinations.d/news.toml".to_owned(),
        routes: vec![ConfiguredRoute {
            name: "completions".to_owned(),
            record: RecordKind::Completion,
            slot: SlotRule::Record,
            is_append: true,
        }],
        after_unknown: AfterUnknown::Blind(BlindRepeat::MayLose),
        is_shadow: false,
        ..hr()
    }
}

fn place() -> PlaceView {
    PlaceView {
        name: "hr".to_owned(),
        connector: "bamboohr".to_owned(),
        state: "active".to_owned(),
        pause_cause: None,
        paused_until: None,
        // 2 February 2026, 10:00 in Berlin.
        first_seen_at: Timestamp(1_770_022_800_000),
    }
}

fn paused(cause: &str, until: Option<Timestamp>) -> PlaceView {
    PlaceView { state: "paused".to_owned(), pause_cause: Some(cause.to_owned()), paused_until: until, ..place() }
}

fn at(hour: i64, minute: i64, second: i64) -> Timestamp {
    NOW.plus_ms(((hour - 9) * 60 + minute - 30) * MINUTE + second * 1_000)
}

fn facts(kind: RecordKind, id: &str, title: &str) -> Record {
    Record {
        title: title.to_owned(),
        achieved: Some(LmsTime::Instant(at(9, 11, 58))),
        course: Some(Course { id: "c1".to_owned(), name: "Fire Safety".to_owned(), external_id: None }),
        score: Some(92.0),
        ..Record::new(kind, id.to_owned(), ID.to_owned())
    }
}

fn attempt(number: i64, action: &str, outcome: &str, status: Option<i64>, words: &str) -> AttemptView {
    AttemptView {
        number,
        epoch: 3,
        action: action.to_owned(),
        started_at: at(9, 14, number),
        outcome: outcome.to_owned(),
        status,
        words: Some(words.to_owned()),
    }
}

/// Due now, and never tried.
fn delivery() -> DeliveryView {
    DeliveryView {
        destination: "hr".to_owned(),
        route: "completions".to_owned(),
        slot: "completion/e1".to_owned(),
        state: "pending".to_owned(),
        cause: None,
        cause_detail: None,
        due_at: Some(NOW),
        wanted: "present".to_owned(),
        wanted_at: at(9, 12, 6),
        tries: 0,
        sending_at: None,
        is_of_this_life: false,
        held_person: None,
        held_row: None,
        held_at: None,
        mapping: None,
        receipt: None,
        receipt_status: None,
        attempts: Vec::new(),
        drift: None,
    }
}

fn held(delivery: DeliveryView) -> DeliveryView {
    DeliveryView {
        held_person: Some("118".to_owned()),
        held_row: Some("4711".to_owned()),
        held_at: Some(at(9, 14, 1)),
        mapping: Some("5f3a90c1d2e4b6a7".to_owned()),
        receipt: Some("created".to_owned()),
        receipt_status: Some(201),
        attempts: vec![attempt(1, "put", "taken", Some(201), "created")],
        ..delivery
    }
}

fn parked_for(cause: &Cause, state: DeliveryState, detail: &str) -> DeliveryView {
    DeliveryView {
        state: state.as_str().to_owned(),
        cause: Some(cause.word()),
        cause_detail: Some(detail.to_owned()),
        due_at: None,
        ..delivery()
    }
}

fn lost(state: &str) -> DeliveryView {
    DeliveryView {
        state: state.to_owned(),
        due_at: Some(at(9, 30, 20)),
        tries: 1,
        sending_at: Some(at(9, 14, 1)),
        is_of_this_life: true,
        attempts: vec![attempt(1, "put", "ambiguous", None, "the connection broke off before the answer came")],
        ..delivery()
    }
}

fn learner(deliveries: Vec<DeliveryView>) -> LearnerView {
    LearnerView {
        portal: "main".to_owned(),
        learner: Some(Learner {
            id: ID.to_owned(),
            external_id: Some("E-4071".to_owned()),
            email: Some("ana.lima@example.org".to_owned()),
            first_name: Some("Ana".to_owned()),
            last_name: Some("Lima".to_owned()),
            is_active: true,
            ..Learner::default()
        }),
        lms_id: ID.to_owned(),
        state: "active".to_owned(),
        read_at: Some(at(9, 12, 5)),
        next_read_at: None,
        next_read_lane: None,
        is_unread_since_restore: false,
        events: vec![EventView {
            id: 17,
            received_at: at(9, 12, 3),
            name: "enrollment_completed".to_owned(),
            disposition: "marked".to_owned(),
            oddity: None,
        }],
        promises: vec![PromiseView {
            kind: RecordKind::Completion,
            thing: None,
            received_at: at(9, 12, 3),
            tries: 1,
            state: "kept".to_owned(),
        }],
        links: vec![LinkView {
            destination: "hr".to_owned(),
            state: "linked".to_owned(),
            person: Some("118".to_owned()),
            rule: Some("external_id".to_owned()),
            is_pinned: false,
            candidates: Vec::new(),
            checked_at: at(9, 14, 0),
        }],
        places: vec![place(), PlaceView { name: "news".to_owned(), connector: "chat".to_owned(), ..place() }],
        records: vec![RecordView {
            key: "completion/e1".to_owned(),
            facts: facts(RecordKind::Completion, "e1", "Fire Safety"),
            state: "present".to_owned(),
            state_since: at(9, 12, 6),
            read_at: at(9, 12, 5),
            deliveries,
        }],
    }
}

/// Who is known to nobody, or to several.
fn unlinked(state: &str, candidates: &[&str], delivery: DeliveryView) -> LearnerView {
    let mut learner = learner(vec![delivery]);
    learner.links[0] = LinkView {
        state: state.to_owned(),
        person: None,
        rule: (!candidates.is_empty()).then(|| "email".to_owned()),
        candidates: candidates.iter().map(|&id| id.to_owned()).collect(),
        ..learner.links[0].clone()
    };
    learner
}

fn told(story: &LearnerView, given: &Given) -> String {
    render_story(&super::story(story, given, &Filter::default()), given, Paint::Plain)
}

fn in_state(state: DeliveryState) -> LearnerView {
    learner(vec![match state {
        DeliveryState::Pending => delivery(),
        DeliveryState::Sending => DeliveryView { due_at: None, sending_at: Some(at(9, 29, 55)), ..lost("sending") },
        DeliveryState::Uncertain => lost("uncertain"),
        DeliveryState::Settled => DeliveryView { state: "settled".to_owned(), due_at: None, ..held(delivery()) },
        DeliveryState::Parked => DeliveryView {
            attempts: vec![attempt(1, "put", "rejected", Some(400), "Invalid employee id")],
            ..parked_for(&Cause::Rejected, state, "Invalid employee id")
        },
        DeliveryState::Skipped => return of_cause(&Cause::BeforeStart),
        DeliveryState::Superseded => parked_for(&Cause::Superseded, state, ""),
    }])
}

fn of_cause(cause: &Cause) -> LearnerView {
    let parked = |detail: &str| parked_for(cause, DeliveryState::Parked, detail);
    let left_out = |detail: &str| parked_for(cause, DeliveryState::Skipped, detail);
    match cause {
        Cause::Unmatched => {
            let words = "hr knows nobody by external_id, employee_number, email";
            let attempts = vec![attempt(1, "link", "unmatched", None, words)];
            unlinked("unmatched", &[], DeliveryView { attempts, ..parked(words) })
        }
        Cause::AmbiguousPerson => {
            let words = "hr knows several by email: 118, 206";
            let attempts = vec![attempt(1, "link", "unmatched", None, words)];
            unlinked("ambiguous", &["118", "206"], DeliveryView { attempts, ..parked(words) })
        }
        Cause::Unmapped { .. } => {
            let cause = Cause::Unmapped { kind: "training_type".to_owned(), course: "Fire Safety".to_owned() };
            let detail = "no training_type for the course Fire Safety";
            learner(vec![parked_for(&cause, DeliveryState::Parked, detail)])
        }
        Cause::MissingField(_) => {
            let cause = Cause::MissingField("expires".to_owned());
            learner(vec![parked_for(&cause, DeliveryState::Parked, "completion/e1 has no value for expires")])
        }
        Cause::MappingFailed(_) => {
            let cause = Cause::MappingFailed("hours".to_owned());
            learner(vec![parked_for(&cause, DeliveryState::Parked, "cannot divide \"two\" by 60")])
        }
        Cause::Rejected => in_state(DeliveryState::Parked),
        Cause::Poison => {
            let words = "the server failed while it wrote";
            let attempts = (1..=8).map(|number| attempt(number, "put", "unavailable", Some(500), words)).collect();
            let detail = "8 failures while others succeeded, the last: the server failed while it wrote";
            learner(vec![DeliveryView { attempts, ..parked(detail) }])
        }
        Cause::BeforeStart => {
            let mut old = learner(vec![left_out("")]);
            old.records[0].facts.achieved = NaiveDate::from_ymd_opt(2024, 6, 1).map(LmsTime::Date);
            old.promises.clear();
            old
        }
        Cause::FoundLate => {
            let mut late = learner(vec![DeliveryView { destination: "news".to_owned(), ..left_out("") }]);
            late.records[0].facts.achieved = Some(LmsTime::Instant(NOW.plus_ms(-9 * DAY)));
            late.promises.clear();
            late
        }
        Cause::WaitedTooLong => {
            let detail = "it waited until it was older than 24 h";
            let mut late = learner(vec![DeliveryView { destination: "news".to_owned(), ..left_out(detail) }]);
            late.records[0].facts.achieved = Some(LmsTime::Instant(NOW.plus_ms(-2 * DAY)));
            late
        }
        Cause::QuietHours => learner(vec![DeliveryView {
            destination: "news".to_owned(),
            due_at: Some(at(18, 0, 0)),
            ..parked_for(cause, DeliveryState::Pending, "it is quiet at news until 2026-03-03 17:00:00")
        }]),
        Cause::Erased => learner(vec![parked("")]),
        Cause::Superseded => {
            let words = "a newer completion of this course is already recorded";
            let attempts = vec![attempt(1, "put", "superseded", Some(409), words)];
            learner(vec![DeliveryView { attempts, ..parked_for(cause, DeliveryState::Superseded, "") }])
        }
        Cause::Duplicated => learner(vec![parked("rows 4711, 4790 all carry our mark: remove all but one")]),
        Cause::MaybeLost => learner(vec![DeliveryView {
            destination: "news".to_owned(),
            attempts: vec![attempt(1, "put", "ambiguous", None, "the connection broke off before the answer came")],
            ..left_out("no answer came, and news cannot be asked whether it took it")
        }]),
        Cause::Vanished => {
            let mut gone = learner(vec![parked("the LMS no longer shows the fact, and it was never written")]);
            gone.records[0].state = "suspected_absent".to_owned();
            gone.records[0].state_since = at(9, 20, 0);
            gone
        }
    }
}

fn with_place(place: PlaceView, delivery: DeliveryView) -> LearnerView {
    LearnerView { places: vec![place], ..learner(vec![delivery]) }
}

fn changed<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}

/// Every golden text: its name, and who is explained, under which circumstances.
fn cases() -> BTreeMap<String, (LearnerView, Given)> {
    let mut cases = BTreeMap::new();
    let mut case = |name: &str, learner: LearnerView, given: Given| {
        assert!(cases.insert(name.to_owned(), (learner, given)).is_none(), "{name} is told twice");
    };
    let with = |destinations: Vec<Configured>| Given { destinations, ..given() };
    for state in DeliveryState::ALL {
        case(&format!("state-{}", state.as_str()), in_state(state), given());
    }
    for cause in Cause::examples() {
        let word = cause.word();
        let word = Cause::kind_of(&word);
        let is_news = matches!(cause, Cause::FoundLate | Cause::WaitedTooLong | Cause::QuietHours | Cause::MaybeLost);
        case(&format!("cause-{word}"), of_cause(&cause), with(vec![if is_news { chat() } else { hr() }]));
    }
    for (cause, until) in [
        ("throttled", Some(at(9, 42, 0))),
        ("circuit_open", Some(at(9, 30, 25))),
        ("unauthorized", Some(at(9, 44, 0))),
        ("account_changed", None),
        ("operator", None),
        ("restored", Some(at(9, 31, 0))),
        ("of_tomorrow", Some(at(18, 0, 0))),
    ] {
        case(&format!("pause-{cause}"), with_place(paused(cause, until), delivery()), given());
    }
    case("pause-uncertain", with_place(paused("throttled", Some(at(9, 42, 0))), lost("uncertain")), given());

    let failed = |wanted_at, due_at| DeliveryView {
        wanted_at,
        due_at: Some(due_at),
        tries: 3,
        attempts: (1..=3)
            .map(|number| attempt(number, "put", "unavailable", Some(503), "down for maintenance"))
            .collect(),
        ..delivery()
    };
    case("pending-retry", learner(vec![failed(at(9, 12, 6), at(9, 36, 0))]), given());
    case("pending-retry-for-hours", learner(vec![failed(at(5, 0, 0), at(9, 55, 0))]), given());
    case("pending-update", learner(vec![held(delivery())]), given());
    case("pending-overdue", learner(vec![DeliveryView { due_at: Some(at(8, 0, 0)), ..delivery() }]), given());
    case(
        "pending-withdrawal",
        learner(vec![held(DeliveryView { wanted: "absent".to_owned(), ..delivery() })]),
        given(),
    );
    let restored = changed(learner(vec![delivery()]), |learner| {
        learner.is_unread_since_restore = true;
        learner.next_read_at = Some(at(9, 31, 0));
    });
    case("pending-restored", restored, given());
    case("pending-not-running", learner(vec![delivery()]), Given { is_running: Some(false), ..given() });
    let stuck = DeliveryView { due_at: None, is_of_this_life: false, ..lost("sending") };
    case("sending-stopped", learner(vec![stuck]), given());
    let doubted = DeliveryView { attempts: Vec::new(), tries: 0, ..lost("uncertain") };
    case("uncertain-restored", learner(vec![doubted]), given());
    let keyed = Configured { after_unknown: AfterUnknown::Repeat, ..hr() };
    case("uncertain-keyed", learner(vec![lost("uncertain")]), with(vec![keyed]));
    let news = |delivery: DeliveryView| DeliveryView { destination: "news".to_owned(), ..delivery };
    case("uncertain-told-once", learner(vec![news(lost("uncertain"))]), with(vec![chat()]));
    let twice = Configured { after_unknown: AfterUnknown::Blind(BlindRepeat::MayRepeat), ..chat() };
    case("uncertain-told-twice", learner(vec![news(lost("uncertain"))]), with(vec![twice]));
    let settled = || DeliveryView { state: "settled".to_owned(), due_at: None, ..held(delivery()) };
    case("settled-told", learner(vec![news(settled())]), with(vec![chat()]));
    let removed =
        DeliveryView { held_row: None, wanted: "absent".to_owned(), receipt: Some("deleted".to_owned()), ..settled() };
    case("settled-removed", learner(vec![removed]), given());
    let suspected =
        changed(learner(vec![settled()]), |learner| learner.records[0].state = "suspected_absent".to_owned());
    case("settled-suspected", suspected, given());
    case(
        "settled-retired",
        with_place(PlaceView { state: "retired".to_owned(), ..place() }, settled()),
        with(Vec::new()),
    );
    let no_route = parked_for(
        &Cause::MappingFailed("route".to_owned()),
        DeliveryState::Parked,
        "its route is no longer configured",
    );
    case("cause-mapping_failed-route", learner(vec![no_route]), given());
    let person_gone = DeliveryView {
        attempts: vec![attempt(1, "put", "unmatched", Some(404), "employee 118 does not exist")],
        ..parked_for(&Cause::Unmatched, DeliveryState::Parked, "employee 118 does not exist")
    };
    case("cause-unmatched-by-target", changed(learner(vec![person_gone]), |learner| learner.links.clear()), given());
    let update_refused = DeliveryView {
        attempts: vec![attempt(2, "put", "rejected", Some(422), "completed: is in the future")],
        ..held(parked_for(&Cause::Rejected, DeliveryState::Parked, "completed: is in the future"))
    };
    case("cause-rejected-update", learner(vec![update_refused]), given());

    let drifted = |class: DriftClass, action: &str, held: Option<&str>| {
        let fields =
            if class == DriftClass::Edited { vec!["completed".to_owned(), "hours".to_owned()] } else { Vec::new() };
        let drift = DriftView {
            run: 12,
            found_at: at(9, 20, 0),
            class: class.as_str().to_owned(),
            action: action.to_owned(),
            fields,
            row: Some("77".to_owned()),
            held: held.map(str::to_owned),
        };
        learner(vec![DeliveryView { drift: Some(drift), ..settled() }])
    };
    for class in DriftClass::ALL {
        case(&format!("drift-{}", class.as_str()), drifted(class, "report", None), given());
    }
    case("drift-edited-repair", drifted(DriftClass::Edited, "repair", None), given());
    case("drift-edited-adopt", drifted(DriftClass::Edited, "adopt", None), given());
    case("drift-gone-withdraw", drifted(DriftClass::Gone, "withdraw", None), given());
    let limit = "300 of 1000 rows would be written again, the limit is 20 % (guard.changed_percent_max)";
    case("drift-missing-held", drifted(DriftClass::Missing, "repair", Some(limit)), given());
    let shadow = || with(vec![Configured { is_shadow: true, ..hr() }]);
    case("shadow-waiting", learner(vec![delivery()]), shadow());
    case("shadow-settled", learner(vec![settled()]), shadow());

    let nowhere = || learner(Vec::new());
    let certificate = changed(nowhere(), |learner| {
        learner.records[0].facts = facts(RecordKind::Competency, "k1", "Forklift");
        learner.records[0].key = "competency/k1".to_owned();
        learner.promises.clear();
    });
    case("not-routed", certificate, given());
    case("not-planned-yet", nowhere(), given());
    case("not-started", LearnerView { places: Vec::new(), ..nowhere() }, given());
    let wrong =
        Configured { wrong: Some("hr.toml:3:12: destinations.hr.history: \"al\" is not a history".to_owned()), ..hr() };
    case("switched-off", with_place(place(), delivery()), with(vec![wrong]));
    let shown_before = changed(nowhere(), |learner| learner.records[0].state = "suspected_absent".to_owned());
    case("no-longer-shown", shown_before, given());
    let shared = changed(hr(), |hr| hr.routes[0].slot = SlotRule::PersonCourse);
    let overtaken = changed(nowhere(), |learner| {
        let slot = format!("completion/of/{ID}/c1");
        let mut newer = learner.records[0].clone();
        newer.key = "completion/e2".to_owned();
        newer.facts.id = "e2".to_owned();
        newer.deliveries = vec![DeliveryView { slot, ..settled() }];
        learner.records[0].facts.achieved = NaiveDate::from_ymd_opt(2025, 3, 1).map(LmsTime::Date);
        learner.records.push(newer);
    });
    case("overtaken-by-another", overtaken, with(vec![shared]));

    let promise = |state: &str| PromiseView {
        kind: RecordKind::Certificate,
        thing: None,
        received_at: at(9, 27, 0),
        tries: 2,
        state: state.to_owned(),
    };
    let open = changed(learner(vec![settled()]), |learner| {
        learner.promises.push(promise("open"));
        learner.next_read_at = Some(at(9, 32, 0));
    });
    case("learner-promise-open", open, given());
    case(
        "learner-promise-expired",
        changed(learner(vec![settled()]), |learner| learner.promises.push(promise("expired"))),
        given(),
    );
    for state in ["gone", "inactive"] {
        case(
            &format!("learner-{state}"),
            changed(learner(vec![settled()]), |learner| learner.state = state.to_owned()),
            given(),
        );
    }
    let erased = changed(learner(Vec::new()), |learner| {
        learner.state = "erased".to_owned();
        learner.learner = None;
        learner.records.clear();
        learner.events.clear();
        learner.links.clear();
    });
    case("learner-erased", erased, given());
    case("learner-without-records", changed(nowhere(), |learner| learner.records.clear()), given());
    let found_by_sweep = changed(learner(vec![settled()]), |learner| {
        learner.promises.clear();
        learner.events.clear();
    });
    case("found-without-a-webhook", found_by_sweep, given());
    cases
}

const FOLDER: &str = "tests/fixtures/explain";

/// Compares with the golden text; with `UPDATE_EXPECTED=1` writes it instead: then read the diff aloud.
fn is_golden(name: &str, text: &str, differences: &mut Vec<String>) {
    let path = Path::new(FOLDER).join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::create_dir_all(FOLDER).expect("the folder can be made");
        std::fs::write(&path, text).expect("written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if expected != text {
        differences.push(format!("{} should be\n{expected}\nand is\n{text}", path.display()));
    }
}

#[test]
fn each_state_cause_and_way_of_not_being_there_has_its_golden_text() {
    let mut differences = Vec::new();
    let cases = cases();
    for (name, (learner, given)) in &cases {
        is_golden(name, &told(learner, given), &mut differences);
    }
    assert!(differences.is_empty(), "{} differ:\n\n{}", differences.len(), differences.join("\n"));
    for state in DeliveryState::ALL {
        assert!(Path::new(FOLDER).join(format!("state-{}.txt", state.as_str())).exists(), "{state:?} is not told");
    }
    for cause in Cause::examples() {
        let word = cause.word();
        let word = Cause::kind_of(&word);
        assert!(Path::new(FOLDER).join(format!("cause-{word}.txt")).exists(), "{cause:?} is not told");
    }
}

#[test]
fn no_golden_text_is_left_over() {
    let mut names: Vec<String> = cases().into_keys().collect();
    names.extend(screens::screens().into_iter().map(|(name, ..)| name.to_owned()));
    names.extend(strangers::strangers().into_iter().map(|(name, ..)| name.to_owned()));
    for entry in std::fs::read_dir(FOLDER).expect("the folder is there") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        let is_told = names.iter().any(|told| name == format!("{told}.txt"));
        assert!(is_told, "nobody tells {name} any more");
    }
}
