//! The checks: what must be true when webhooks alone have done their part, and what must be true at rest.
//!
//! They read the ledger as `learnsync explain` does, and compare it with the LMS's truth and the targets' rows by rules of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use learnsync::config::History;
use learnsync::domain::delivery::Cause;
use learnsync::domain::drift::{GonePolicy, Policy};
use learnsync::domain::record::Record;
use learnsync::store::audit::audit;
use learnsync::store::view::{DeliveryView, LearnerView, RecordView, View};
use learnsync::store::{VerifyCounts, VerifyProgress};
use learnsync_sdk::{BlindRepeat, Claim, Fields, SlotRule, Value};

use crate::life::{INSTALLATION, Planned};
use crate::play::Play;
use crate::target::{Kind, Origin, Row, TITLE_MAX};
use crate::world::{World, lock};

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = Text)]
    word: String,
    #[diesel(sql_type = Nullable<Text>)]
    cause: Option<String>,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn ledger(folder: &Path) -> Option<SqliteConnection> {
    SqliteConnection::establish(&format!("file:{}?mode=ro", folder.join("learnsync.db").display())).ok()
}

fn counted(folder: &Path, query: &str) -> Vec<Counted> {
    ledger(folder).and_then(|mut db| diesel::sql_query(query).load(&mut db).ok()).unwrap_or_default()
}

/// Notes which states and causes deliveries are in now.
pub(crate) fn notice(play: &Play) {
    let states = counted(
        play.folder.path(),
        "select state as word, cause, count(*) as count from delivery group by state, cause",
    );
    for row in states {
        play.world.reached("state", &row.word);
        if let Some(cause) = row.cause {
            play.world.reached("cause", Cause::kind_of(&cause));
        }
    }
}

/// The marks of a destination's places that the ledger holds for settled.
pub(crate) fn settled(folder: &Path, destination: &str) -> BTreeSet<String> {
    let query = "select d.name as word, y.slot as cause, 1 as count from delivery y
        join destination d on d.id = y.destination_id where y.state = 'settled'";
    let rows = counted(folder, query).into_iter().filter(|row| row.word == destination);
    rows.filter_map(|row| row.cause).map(|slot| mark_of(&slot)).collect()
}

/// The runs of plans that are held.
pub(crate) fn held_plans(folder: &Path) -> Vec<i64> {
    let query = "select '' as word, null as cause, id as count from run where kind = 'apply' and state = 'held'";
    counted(folder, query).into_iter().map(|row| row.count).collect()
}

/// Which account the ledger knows behind each destination; none for one that was never asked.
pub(crate) fn accounts(folder: &Path) -> BTreeMap<String, u32> {
    let rows =
        counted(folder, "select name as word, account as cause, 1 as count from destination where account is not null");
    let known = rows.into_iter().filter_map(|row| {
        let number = row.cause?.trim_start_matches("account ").parse().ok()?;
        Some((row.word, number))
    });
    known.collect()
}

/// What waits, in words.
pub(crate) fn what_waits(folder: &Path) -> String {
    let query = "select d.name || ' ' || y.state as word, d.state || ' ' || coalesce(d.pause_cause, '') as cause, count(*) as count
        from delivery y join destination d on d.id = y.destination_id where y.state in ('pending', 'sending', 'uncertain') and d.name <> 'shadow' group by 1, 2
        union all select 'marks ' || lane, null, count(*) from mark group by lane
        union all select 'events not taken', null, count(*) from event where id > (select last_event_id from intake)";
    let rows = counted(folder, query).into_iter().filter(|row| row.count > 0);
    let words: Vec<String> =
        rows.map(|row| format!("{} {} ({})", row.count, row.word, row.cause.unwrap_or_default().trim())).collect();
    words.join(", ")
}

/// Whether everybody was read of whom anything is known to be news.
pub(crate) fn has_read_all(folder: &Path) -> bool {
    let query = "select 'left' as word, null as cause, (select count(*) from mark)
        + (select count(*) from event where id > (select last_event_id from intake)) as count";
    counted(folder, query).first().is_some_and(|left| left.count == 0)
}

/// Webhooks alone: whoever was announced has been read since, and the ledger says what the LMS said then or later.
pub(crate) fn heard(play: &Play) {
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    let repeats = counted(
        play.folder.path(),
        "select cast(event_id as text) as word, null as cause, 1 as count from reading where disposition = 'duplicate'",
    );
    let repeats: BTreeSet<String> = repeats.into_iter().map(|row| row.word).collect();
    for acked in lock(&play.acked).iter() {
        // A repeat of the very same event tells nothing new.
        if acked.is_correlated && repeats.contains(&acked.id.to_string()) {
            continue;
        }
        if let Some(learner) = &acked.learner {
            let at = newest.entry(learner.clone()).or_insert(acked.at_ms);
            *at = (*at).max(acked.at_ms);
        }
    }
    let Some(mut view) = look(play) else { return };
    for (learner, at_ms) in newest {
        if play.lms.has_lied_since(&learner, at_ms) {
            continue;
        }
        let known = explain(&mut view, &learner, &play.world);
        let facts: BTreeMap<String, Record> = known
            .iter()
            .flat_map(|known| &known.records)
            .filter(|record| record.state == "present")
            .map(|record| (record.key.clone(), as_read(&record.facts)))
            .collect();
        if !play.lms.shown_since(&learner, at_ms).contains(&facts) {
            let detail =
                format!("{learner} was announced at {at_ms}; the ledger holds {:?}", facts.keys().collect::<Vec<_>>());
            play.world.violated("an acknowledged webhook is followed by a read", &detail);
        }
    }
}

/// Whatever ended a life of the daemon, its ledger keeps every promise.
pub(crate) fn audited(play: &Play) {
    const RULE: &str = "the ledger passes its audit";
    match audit(play.folder.path()) {
        Ok(found) => found.broken().for_each(|checked| play.world.violated(RULE, &format!("{checked:?}"))),
        Err(error) => play.world.violated(RULE, &error.to_string()),
    }
}

/// All that must be true after faults have stopped and one undisturbed sweep.
pub(crate) fn at_rest(play: &Play) {
    notice(play);
    events(play);
    let Some(mut view) = look(play) else { return };
    let mut slots: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for learner in play.lms.everybody() {
        let known = explain(&mut view, &learner, &play.world);
        let truth = play.lms.facts(&learner);
        let Some(known) = known.first() else {
            if !truth.is_empty() {
                play.world.violated("the ledger holds what the LMS holds", &format!("{learner} is unknown"));
            }
            continue;
        };
        let present: BTreeMap<String, Record> = known
            .records
            .iter()
            .filter(|record| record.state == "present")
            .map(|record| (record.key.clone(), as_read(&record.facts)))
            .collect();
        if present != truth {
            let differ = differing(&present, &truth);
            play.world.violated("the ledger holds what the LMS holds", &format!("{learner}: {differ:?}"));
        }
        for planned in &play.destinations {
            for delivery in known.records.iter().flat_map(|record| &record.deliveries) {
                if delivery.destination == planned.target.name {
                    slots.entry(planned.target.name.clone()).or_default().insert(mark_of(&delivery.slot));
                }
            }
            routed(play, planned, known);
        }
    }
    for planned in &play.destinations {
        verified(play, planned);
        strangers(play, planned, slots.get(&planned.target.name).cloned().unwrap_or_default());
    }
}

/// A record as the LMS showed it: how a certificate stands is of our own calendar.
fn as_read(facts: &Record) -> Record {
    Record { standing: None, ..facts.clone() }
}

fn look(play: &Play) -> Option<View> {
    match View::open(play.folder.path()) {
        Ok(view) => Some(view),
        Err(error) => {
            play.world.violated("the ledger can be read", &error.to_string());
            None
        }
    }
}

fn explain(view: &mut View, learner: &str, world: &World) -> Vec<LearnerView> {
    view.explain(learner).unwrap_or_else(|error| {
        world.violated("every learner can be explained", &format!("{learner}: {error}"));
        Vec::new()
    })
}

fn differing(left: &BTreeMap<String, Record>, right: &BTreeMap<String, Record>) -> Vec<String> {
    let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    keys.into_iter().filter(|key| left.get(*key) != right.get(*key)).cloned().collect()
}

/// Every acknowledged webhook is in the log, was taken, and was read as something.
fn events(play: &Play) {
    let taken = counted(
        play.folder.path(),
        "select cast(e.id as text) as word, min(r.disposition) as cause, count(r.position) as count from event e
         left join reading r on r.event_id = e.id where e.id <= (select last_event_id from intake) group by e.id",
    );
    let taken: BTreeMap<String, i64> = taken.into_iter().map(|row| (row.word, row.count)).collect();
    let acked = lock(&play.acked);
    let logged = counted(play.folder.path(), "select 'events' as word, null as cause, count(*) as count from event");
    let logged = logged.first().map_or(0, |row| row.count);
    if acked.len() as i64 > logged {
        play.world.violated(
            "every acknowledged webhook is accounted for",
            &format!("{} answered, {logged} kept", acked.len()),
        );
    }
    // Who answers before the commit knows no number yet.
    for acked in acked.iter().filter(|acked| acked.id > 0) {
        if taken.get(&acked.id.to_string()).is_none_or(|readings| *readings == 0) {
            play.world
                .violated("every acknowledged webhook is accounted for", &format!("webhook {} is lost", acked.id));
        }
    }
}

fn mark_of(slot: &str) -> String {
    format!("learnsync:{INSTALLATION}:{slot}")
}

/// Every record of a learner is where a destination's routes want it, or the ledger says why not.
fn routed(play: &Play, planned: &Planned, known: &LearnerView) {
    let name = &planned.target.name;
    if planned.is_shadow {
        for delivery in known.records.iter().flat_map(|record| &record.deliveries) {
            if delivery.destination == *name {
                play.world.reached("shadow", &delivery.state);
                // An old ledger cannot know what was written since it was copied: nobody looks it up until the destination is live.
                let is_doubted = delivery.state == "uncertain" && play.restored_ms.is_some();
                if !is_doubted && !matches!(delivery.state.as_str(), "pending" | "parked" | "skipped") {
                    play.world.violated("what is in shadow waits", &format!("{} is {}", delivery.slot, delivery.state));
                }
            }
        }
        return;
    }
    for record in known.records.iter().filter(|record| planned.records.contains(&record.facts.kind)) {
        let here: Vec<&DeliveryView> =
            record.deliveries.iter().filter(|delivery| delivery.destination == *name).collect();
        match here.as_slice() {
            [delivery] => delivered(play, planned, known, record, delivery),
            [] if record.state != "present" => {}
            [] if planned.slot() == SlotRule::PersonCourse
                && (is_left_out(planned, record) || gives_way(planned, record, &known.records)) => {}
            [] => {
                let others: Vec<_> = known
                    .records
                    .iter()
                    .filter(|other| other.facts.kind == record.facts.kind)
                    .map(|other| {
                        let here = other.deliveries.iter().filter(|delivery| delivery.destination == *name);
                        let here: Vec<_> = here.map(|delivery| (&delivery.slot, &delivery.state)).collect();
                        (&other.key, &other.state, other.facts.course.as_ref().map(|course| &course.id), here)
                    })
                    .collect();
                play.world.violated("every record is routed", &format!("{} at {name}: {others:?}", record.key));
            }
            several => {
                let slots: Vec<_> = several.iter().map(|delivery| &delivery.slot).collect();
                play.world.violated("one delivery for one place", &format!("{} at {name}: {slots:?}", record.key));
            }
        }
    }
}

/// Whether history leaves a record out.
fn is_left_out(planned: &Planned, record: &RecordView) -> bool {
    match planned.history {
        History::Since(date) => record.facts.achieved.is_none_or(|at| at.date_in(planned.zone) < date),
        History::All | History::None => false,
    }
}

/// Whether another record of the same course holds the place, rightly.
fn gives_way(planned: &Planned, record: &RecordView, all: &[RecordView]) -> bool {
    let course = |record: &RecordView| record.facts.course.as_ref().map(|course| course.id.clone());
    let rank = |record: &RecordView| {
        let facts = &record.facts;
        let is_delivered = !is_left_out(planned, record);
        (is_delivered, facts.valid_until.is_none(), facts.valid_until, facts.achieved, record.key.clone())
    };
    let holder = all.iter().find(|other| {
        course(other) == course(record)
            && other.facts.kind == record.facts.kind
            && other.deliveries.iter().any(|delivery| delivery.destination == planned.target.name)
    });
    holder.is_some_and(|holder| rank(holder) > rank(record))
}

fn delivered(play: &Play, planned: &Planned, known: &LearnerView, record: &RecordView, delivery: &DeliveryView) {
    let target = &planned.target;
    let mark = mark_of(&delivery.slot);
    let wrong = |rule: &str, detail: String| play.world.violated(rule, &format!("{mark} at {}: {detail}", target.name));
    let facts = &record.facts;
    let external_id = known.learner.as_ref().and_then(|learner| learner.external_id.clone()).unwrap_or_default();
    let course = facts.course.as_ref().map_or(facts.title.clone(), |course| course.name.clone());
    let cause = delivery.cause.clone().unwrap_or_default();
    let kind = Cause::kind_of(&cause);
    let is_explained = match (delivery.state.as_str(), kind) {
        ("settled", _) if delivery.wanted == "absent" => {
            withdrawn(play, planned, known, record, &mark, &wrong);
            return;
        }
        ("settled", _) => {
            match target.kind {
                Kind::Append(blind) => told(&mark, blind, planned, &wrong),
                Kind::Keyed | Kind::ReadBack | Kind::Pair => {
                    let person =
                        play.person(&target.name, &known.lms_id).unwrap_or_else(|| target.person_of(&external_id));
                    // What an old ledger held for right when the LMS showed the fact no more is not compared: it knows no better.
                    if play.restored_ms.is_none() || record.state == "present" {
                        let knows_its_writes = play.restored_ms.is_none();
                        held(&mark, planned, record, &person, knows_its_writes, &wrong);
                    }
                }
            }
            return;
        }
        ("skipped", "before_start") => planned.history != History::All,
        ("skipped", "found_late" | "waited_too_long") => matches!(target.kind, Kind::Append(_)),
        // One that would rather repeat may lose what it could repeat only too late.
        ("skipped", "maybe_lost") => matches!(target.kind, Kind::Append(_)),
        ("parked", "unmatched") => target.is_unfindable(&external_id).0,
        ("parked", "ambiguous_person") => target.is_unfindable(&external_id).1,
        ("parked", "unmapped") => planned.has_type(facts.kind) && target.is_unlisted(&course),
        ("parked", "missing_field") => facts.achieved.is_none(),
        ("parked", "mapping_failed") => facts.title.chars().count() > TITLE_MAX,
        ("parked", "vanished") => record.state != "present",
        ("superseded", _) => target.has_newer(&mark),
        _ => false,
    };
    if !is_explained {
        let detail = delivery.cause_detail.clone().unwrap_or_default();
        wrong("what is not delivered has a true reason", format!("{} {cause} {detail}", delivery.state));
    }
}

/// A row was removed: by policy, rightly, and it is not there any more.
fn withdrawn(
    play: &Play,
    planned: &Planned,
    known: &LearnerView,
    record: &RecordView,
    mark: &str,
    wrong: &dyn Fn(&str, String),
) {
    play.world.reached("withdrawn", "by policy");
    if planned.habit.policies().gone != GonePolicy::Withdraw {
        wrong("nothing is withdrawn but by policy", record.key.clone());
    }
    if play.lms.facts(&known.lms_id).contains_key(&record.key) {
        wrong("only what is gone is withdrawn", record.key.clone());
    }
    let is_there = |row: &Row| row.origin == Origin::Ours && row.mark.as_deref() == Some(mark);
    if !planned.target.was_moved(mark) && planned.target.rows().values().any(is_there) {
        wrong("what was withdrawn is not there", record.key.clone());
    }
}

fn told(mark: &str, blind: BlindRepeat, planned: &Planned, wrong: &dyn Fn(&str, String)) {
    match (planned.target.told().get(mark).copied().unwrap_or(0), blind) {
        (1, _) | (2.., BlindRepeat::MayRepeat) => {}
        (0, _) => wrong("what is settled was told", "nothing was told".to_owned()),
        (count, BlindRepeat::MayLose) => {
            wrong("nothing is told twice that could be known", format!("told {count} times"))
        }
    }
}

/// What the row holds by rules of our own: the mapping of this world, read once more.
fn expected(planned: &Planned, facts: &Record) -> Fields {
    let mut fields = Fields::from([("title".to_owned(), Value::Text(facts.title.clone()))]);
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    put("on", facts.achieved.map(|at| Value::Date(at.date_in(planned.zone))));
    put("until", facts.valid_until.map(|at| Value::Date(at.date_in(planned.zone))));
    put("score", facts.score.map(Value::Number));
    put("record", Some(Value::Text(facts.key())));
    if planned.has_type(facts.kind) {
        let course = facts.course.as_ref().map_or(&facts.title, |course| &course.name);
        put("type", Some(Value::Text(format!("type of {course}"))));
    }
    fields
}

fn held(
    mark: &str,
    planned: &Planned,
    record: &RecordView,
    person: &str,
    knows_its_writes: bool,
    wrong: &dyn Fn(&str, String),
) {
    let rows = planned.target.rows();
    let ours: Vec<&Row> =
        rows.values().filter(|row| row.origin == Origin::Ours && row.mark.as_deref() == Some(mark)).collect();
    // What people did is put right where it is read back; but what the LMS does not show any more is not written again.
    let is_put_right = planned.is_verified() && record.state == "present";
    let target = &planned.target;
    let policies = planned.habit.policies();
    let stays = |policy: Policy| !is_put_right || policy == Policy::Report;
    match ours.as_slice() {
        [] if target.was_deleted(mark) && stays(policies.missing) => {}
        // Where nothing is listed nobody sees what lost its mark: it is missing.
        [] if target.was_unmarked(mark) && stays(planned.when_listed(policies.unmarked, policies.missing)) => {}
        [] => wrong("the target holds what is settled", "there is no row".to_owned()),
        [_] if record.state == "gone"
            && planned.is_verified()
            && policies.gone == GonePolicy::Withdraw
            && !target.was_moved(mark) =>
        {
            wrong("what is gone is withdrawn where the policy says so", record.key.clone());
        }
        [row] => {
            let mut fields = row.fields.clone();
            fields.remove("mapping");
            fields.retain(|_, value| *value != Value::Null);
            let mut wanted = expected(planned, &record.facts);
            // Where nothing is listed nobody sees where it went: it is missing, and the upsert brings it back.
            let is_left = target.was_moved(mark) && stays(planned.when_listed(policies.moved, policies.missing));
            // What a lost life of the ledger filled may be somebody's by now: it is not blanked when the fact has no such value.
            fields.retain(|name, _| knows_its_writes || wanted.contains_key(name));
            // What was taken for right stays until the fact says something else than what we had written.
            let adopted =
                |name: &str, ours: &Value| policies.of_field(name) == Policy::Adopt && wanted.get(name) == Some(ours);
            let kept: Vec<String> = row
                .theirs
                .iter()
                .filter(|(name, ours)| !is_put_right || is_left || adopted(name, ours))
                .map(|(name, _)| name.clone())
                .collect();
            for name in kept {
                fields.remove(&name);
                wanted.remove(&name);
            }
            if fields != wanted {
                wrong("the target holds what is settled", format!("{fields:?} instead of {wanted:?}"));
            }
            if row.person != person && !is_left {
                wrong("the row is the right person's", format!("{} instead of {person}", row.person));
            }
        }
        several => wrong("never two objects of ours for one slot", format!("{} rows", several.len())),
    }
}

/// The newest verify of a destination counted each delivery once, and found nothing that it would write.
fn verified(play: &Play, planned: &Planned) {
    if !planned.is_verified() {
        return;
    }
    play.world.reached("habit", &planned.habit.to_string());
    let name = &planned.target.name;
    let query = "select d.name || ' ' || r.state as word, r.counts as cause, 1 as count
        from run r join destination d on d.id = r.destination_id where r.kind = 'verify' order by r.id desc";
    let runs = counted(play.folder.path(), query);
    let guard = planned.habit.guard();
    for run in runs.iter().filter(|run| run.word.split(' ').next() == Some(name)) {
        let progress: VerifyProgress =
            run.cause.as_deref().and_then(|counts| serde_json::from_str(counts).ok()).unwrap_or_default();
        if progress.is_approved {
            play.world.reached("run", "approved");
        }
        let VerifyCounts { withdrawals, to_write, looked, .. } = progress.counts;
        let is_too_much = withdrawals > u64::from(guard.withdrawn_rows_max)
            || to_write > u64::from(guard.changed_rows_min)
                && to_write * 100 > looked * u64::from(guard.changed_percent_max);
        if is_too_much && run.word.ends_with("done") && !progress.is_approved {
            play.world.violated("a guard holds what is too much", &format!("{} {:?}", run.word, progress.counts));
        }
    }
    let newest = runs.iter().find(|run| run.word.split(' ').next() == Some(name));
    let (state, counts) = newest.map(|run| (run.word.as_str(), run.cause.as_deref())).unwrap_or_default();
    let progress = counts.and_then(|counts| serde_json::from_str::<VerifyProgress>(counts).ok()).unwrap_or_default();
    if state != format!("{name} done") || !progress.counts.add_up() {
        play.world.violated("the newest verify adds up", &format!("{state} {:?}", progress.counts));
    }
    if progress.counts.to_write > 0 {
        play.world.violated("the night leaves nothing to write", &format!("{name} {:?}", progress.counts));
    }
    if progress.counts.is_listed != planned.target.description().claims(Claim::List) {
        play.world.violated("who can list is listed", name);
    }
}

/// Rows of ours that the ledger does not know, and foreign ones that changed.
fn strangers(play: &Play, planned: &Planned, known: BTreeSet<String>) {
    let rows = planned.target.rows();
    let foreign: Vec<&Row> = rows.values().filter(|row| row.origin == Origin::Foreign).collect();
    let by_hand = Value::Text("by hand".to_owned());
    if foreign.len() != 3 || foreign.iter().any(|row| row.fields.get("title") != Some(&by_hand)) {
        play.world.violated("nothing foreign is touched", &planned.target.name);
    }
    // Of what was taken back in the LMS after a backup, and written after it, yesterday's ledger knows nothing.
    if play.restored_ms.is_some() {
        return;
    }
    for row in rows.values().filter(|row| row.origin == Origin::Ours) {
        let mark = row.mark.clone().unwrap_or_default();
        if !known.contains(&mark) {
            play.world.violated("every row of ours is in the ledger", &format!("{mark} at {}", planned.target.name));
        }
    }
}
