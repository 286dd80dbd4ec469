//! The checks that need no key: each is a query for the rows that break a promise.

use std::path::Path;
use std::sync::OnceLock;

use diesel::connection::DefaultLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use learnsync_sdk::RecordKind;

use super::{Finding, Tally, number, quoted};
use crate::domain::delivery::Cause;
use crate::domain::subject::SubjectKind;
use crate::store::open::{connect, migrate};
use crate::store::{Progress, StoreError, SweepCounts, ledger};

/// SQLite's own check: <https://sqlite.org/pragma.html#pragma_integrity_check>.
pub(super) fn pages(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.rows = number(db, "select page_count as number from pragma_page_count")?.unsigned_abs();
    // It tells a hundred at most.
    tally.finds(db, "select integrity_check as what from pragma_integrity_check where integrity_check <> 'ok'")
}

/// An index that is gone is no damage to SQLite: all is found as before, in a while.
pub(super) fn schema(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    let named = "select type || ' ' || name as what from sqlite_master where name not like 'sqlite_%' order by rowid";
    // What the migrations make does not change while a program runs.
    static WANTED: OnceLock<Vec<String>> = OnceLock::new();
    let wanted = match WANTED.get() {
        Some(wanted) => wanted,
        None => {
            let mut fresh = connect(Path::new(":memory:"))?;
            migrate(&mut fresh)?;
            let wanted: Vec<Finding> = diesel::sql_query(named).load(&mut fresh)?;
            WANTED.get_or_init(|| wanted.into_iter().map(|wanted| wanted.what).collect())
        }
    };
    let found: Vec<Finding> = diesel::sql_query(named).load(db)?;
    for wanted in wanted {
        tally.rows += 1;
        if !found.iter().any(|found| found.what == *wanted) {
            tally.found(|| format!("{wanted} is missing"));
        }
    }
    Ok(())
}

/// SQLite's own check leaves these out on a connection that only reads: it does not even learn them there.
pub(super) fn constraints(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Table {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Text)]
        sql: String,
        #[diesel(sql_type = BigInt)]
        without_rowid: i64,
    }
    let tables = "select m.name as name, m.sql as sql, l.wr as without_rowid
        from sqlite_master m join pragma_table_list l on l.name = m.name and l.schema = 'main' where m.type = 'table' order by m.name";
    for Table { name, sql, without_rowid } in diesel::sql_query(tables).load(db)? {
        let constraints = checks_of(&sql);
        if !constraints.is_empty() {
            tally.looks_at(db, &name)?;
        }
        for (constraint, condition) in constraints {
            let row = if without_rowid == 0 { "' ' || rowid" } else { "''" };
            let broken =
                format!("select '{name}' || {row} || ': {constraint}' as what from {name} where not ({condition})");
            tally.finds(db, &broken)?;
        }
    }
    Ok(())
}

/// The CHECK constraints of a table's definition: each one's name, and the condition in its parentheses.
fn checks_of(sql: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = sql;
    while let Some((before, behind)) = rest.split_once("check (") {
        let mut depth = 1_usize;
        let mut is_text = false;
        let end = behind.find(|letter| {
            is_text ^= letter == '\'';
            match letter {
                '(' if !is_text => depth += 1,
                ')' if !is_text => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let (condition, after) = behind.split_at(end.unwrap_or(behind.len()));
        let mut words = before.split_whitespace().rev();
        let name = words.next().filter(|_| words.next() == Some("constraint")).unwrap_or("unnamed");
        found.push((name, condition));
        rest = after;
    }
    found
}

/// <https://sqlite.org/pragma.html#pragma_foreign_key_check>
pub(super) fn references(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Table {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let naming =
        "select distinct m.name as name from sqlite_master m, pragma_foreign_key_list(m.name) where m.type = 'table'";
    for table in diesel::sql_query(naming).load::<Table>(db)? {
        tally.looks_at(db, &table.name)?;
    }
    tally.finds(
        db,
        r#"select "table" || coalesce(' ' || "rowid", '') || ' names a ' || parent || ' that is not there' as what from pragma_foreign_key_check"#,
    )
}

pub(super) fn events(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "event")?;
    // Numbers are given in their order and taken back with what is rolled back, and nothing prunes the log.
    tally.finds(
        db,
        "select 'event ' || (before + 1) || ' is missing' as what
         from (select id, lag(id, 1, 0) over (order by id) as before from event) where id <> before + 1",
    )?;
    tally.finds(
        db,
        "select 'event ' || seq || ' is missing at the end' as what from sqlite_sequence
         where name = 'event' and seq > (select coalesce(max(id), 0) from event)",
    )?;
    tally.finds(
        db,
        "select 'intake has passed event ' || last_event_id || ', which is not there' as what from intake
         where last_event_id > (select coalesce(max(id), 0) from event)
         union all select 'how far intake has read the log is not known' where not exists (select 1 from intake)",
    )?;
    tally.finds(
        db,
        "select 'event ' || id || ' was passed, and read as nothing' as what from event
         where id <= (select last_event_id from intake) and not exists (select 1 from reading where event_id = event.id)",
    )?;
    tally.finds(
        db,
        "select 'event ' || event_id || ' was read, and not passed' as what from reading
         where event_id > (select last_event_id from intake)",
    )
}

pub(super) fn readings(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "reading")?;
    tally.finds(
        db,
        "select 'event ' || event_id || ', reading ' || position || ': one before it is missing' as what
         from (select event_id, position, row_number() over (partition by event_id order by position) as at from reading)
         where position <> at - 1",
    )?;
    tally.finds(
        db,
        "select 'event ' || r.event_id || ', reading ' || r.position || ': ' || r.disposition as what
         from reading r join event e on e.id = r.event_id left join subject s on s.id = r.subject_id
         where (r.disposition in ('marked', 'duplicate') and r.subject_id is null)
            or (r.disposition in ('test', 'unknown', 'no_subject') and r.subject_id is not null)
            or s.portal_id <> e.portal_id",
    )
}

pub(super) fn promises(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "promise")?;
    let kinds = quoted(RecordKind::ALL.map(|kind| kind.as_str().to_owned()));
    tally.finds(
        db,
        &format!(
            "select 'promise ' || p.id || ' of event ' || p.event_id as what from promise p join event e on e.id = p.event_id
             where p.received_at <> e.received_at or p.record_kind not in ({kinds})
                or not exists (select 1 from reading r
                    where r.event_id = p.event_id and r.subject_id = p.subject_id and r.disposition = 'marked')"
        ),
    )
}

pub(super) fn subjects(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "subject")?;
    let lists = quoted(SubjectKind::LISTS.map(|kind| kind.as_str().to_owned()));
    tally.finds(
        db,
        &format!(
            "select 'subject ' || id as what from subject where kind <> 'learner' and (kind not in ({lists}) or lms_id <> kind)"
        ),
    )
}

pub(super) fn marks(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "mark")?;
    tally.finds(
        db,
        "select 'mark of subject ' || m.subject_id as what from mark m join subject s on s.id = m.subject_id
         where m.portal_id <> s.portal_id or m.generation < 1",
    )
}

pub(super) fn people(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "person")?;
    tally.finds(
        db,
        "select 'person ' || p.id as what from person p join subject s on s.id = p.subject_id where p.portal_id <> s.portal_id",
    )
}

pub(super) fn records(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "record")?;
    let about_learners = RecordKind::ALL.into_iter().filter(|kind| kind.is_about_learner());
    let about_learners = quoted(about_learners.map(|kind| kind.as_str().to_owned()));
    let listed = SubjectKind::LISTS.into_iter().filter_map(|list| Some((list.as_str(), list.listed()?.as_str())));
    let listed: String = listed.map(|(list, kind)| format!(" when '{list}' then r.kind = '{kind}'")).collect();
    tally.finds(
        db,
        &format!(
            "select 'record ' || r.id || ' (' || r.key || ')' as what
             from record r join person p on p.id = r.person_id join subject s on s.id = p.subject_id
             where substr(r.key, 1, length(r.kind) + 1) <> r.kind || '/'
                or not case s.kind when 'learner' then r.kind in ({about_learners}){listed} else true end"
        ),
    )
}

pub(super) fn runs(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Run {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Text)]
        kind: String,
        #[diesel(sql_type = Text)]
        counts: String,
    }
    for run in diesel::sql_query("select id, kind, counts from run").load_iter::<Run, DefaultLoadingMode>(db)? {
        let run = run?;
        tally.rows += 1;
        let is_read = match run.kind.as_str() {
            "sweep" => serde_json::from_str::<SweepCounts>(&run.counts).is_ok(),
            "backfill" => serde_json::from_str::<Progress>(&run.counts).is_ok(),
            _ => serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&run.counts).is_ok(),
        };
        if !is_read {
            tally.found(|| format!("run {}: its counts cannot be read", run.id));
        }
    }
    tally.finds(
        db,
        "select 'runs ' || min(id) || ' and ' || max(id) || ': both a ' || kind || ' under way' as what from run
         where finished_at is null and kind in ('sweep', 'backfill') group by portal_id, kind having count(*) > 1",
    )
}

pub(super) fn staged(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "staged")?;
    tally.finds(
        db,
        "select 'learner ' || s.lms_id || ' of run ' || s.run_id as what from staged s join run r on r.id = s.run_id
         where r.kind <> 'backfill' or r.finished_at is not null",
    )
}

pub(super) fn links(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "link")?;
    tally.finds(
        db,
        "select 'link of person ' || person_id || ' in destination ' || destination_id as what from link
         where (is_pinned = 1) is not (rule is 'pinned')
            or (is_pinned = 1 and state <> 'linked')
            or (state = 'ambiguous') <> (candidates is not null)
            or (state = 'unmatched') <> (rule is null)",
    )
}

pub(super) fn deliveries(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "delivery")?;
    // A slot is the record's key or names its kind in another way; which record holds it may change.
    tally.finds(
        db,
        "select 'delivery ' || d.id as what from delivery d
         join record r on r.id = d.record_id join route t on t.id = d.route_id
         left join mapping_version w on w.id = d.wanted_mapping_id left join mapping_version h on h.id = d.held_mapping_id
         where r.person_id <> d.person_id or t.destination_id <> d.destination_id
            or w.route_id <> d.route_id or h.route_id <> d.route_id
            or substr(d.slot, 1, instr(r.key, '/')) <> substr(r.key, 1, instr(r.key, '/'))",
    )
}

pub(super) fn queue(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "delivery")?;
    tally.finds(
        db,
        "select 'delivery ' || d.id || ' is ' || d.state || ', and not in the queue' as what from delivery d
         where d.state in ('pending', 'uncertain') and not exists (select 1 from delivery_queue q
            where q.destination_id = d.destination_id and q.due_at = d.due_at and q.delivery_id = d.id)",
    )?;
    tally.looks_at(db, "delivery_queue")?;
    tally.finds(
        db,
        "select 'delivery ' || q.delivery_id || ' is in the queue, and ' || coalesce('is ' || d.state, 'is not there') as what
         from delivery_queue q left join delivery d on d.id = q.delivery_id
         where d.id is null or d.state not in ('pending', 'uncertain') or d.destination_id <> q.destination_id or d.due_at <> q.due_at",
    )
}

pub(super) fn causes(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "delivery")?;
    let known = quoted(Cause::examples().iter().map(|cause| Cause::kind_of(&cause.word()).to_owned()));
    tally.finds(
        db,
        &format!(
            "select 'delivery ' || id || ' is ' || state || coalesce(' for ' || substr(cause, 1, instr(cause || ':', ':') - 1), '') as what
             from delivery
             where substr(cause, 1, instr(cause || ':', ':') - 1) not in ({known})
                or (state in ('settled', 'sending') and cause is not null)
                or (state in ('parked', 'skipped', 'superseded') and cause is null)
                or (state = 'superseded' and cause <> 'superseded')"
        ),
    )
}

pub(super) fn settled(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "delivery where state = 'settled'")?;
    // What an append route told stays told, whatever the facts are by now. And whom the LMS did not know after a restore is taken as the
    // ledger says it was (store::doubt): such a place keeps its doubt in sending_person.
    tally.finds(
        db,
        "select 'delivery ' || d.id as what from delivery d join route t on t.id = d.route_id
         where d.state = 'settled' and d.wanted = 'present' and t.mode = 'state' and d.sending_person is null
            and d.held_fingerprint is not d.wanted_fingerprint",
    )
}

pub(super) fn held(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "delivery")?;
    // A row that was only found has no time and no mapping of ours; nor has a place of which an account's change left nothing.
    tally.finds(
        db,
        "select 'delivery ' || id as what from delivery
         where (held_row is not null and held_person is null)
            or (held_at is null) <> (held_mapping_id is null)
            or (held_at is null and receipt is not null)
            or ((held_row is not null or held_at is not null) and attempts = 0)",
    )
}

pub(super) fn places(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "delivery where held_row is not null")?;
    // One message may tell several facts. What is skipped or superseded may name a row of an account that was replaced, or that somebody else
    // holds by now; what is being sent is about to learn its row.
    tally.finds(
        db,
        "select 'deliveries ' || min(d.id) || ' and ' || max(d.id) as what from delivery d join route t on t.id = d.route_id
         where d.held_row is not null and t.mode = 'state' and d.state in ('settled', 'pending', 'uncertain', 'parked')
         group by d.destination_id, d.route_id, d.held_row having count(*) > 1",
    )
}

pub(super) fn sending(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "delivery where sending_epoch is not null")?;
    tally.finds(db, "select 'delivery ' || id as what from delivery where state = 'sending' and sending_person is null")
}

pub(super) fn attempts(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "attempt")?;
    tally.finds(
        db,
        "select 'attempt ' || id || ' of delivery ' || delivery_id || ' is number ' || number || ', and the ' || at || '. of it' as what
         from (select id, delivery_id, number, row_number() over (partition by delivery_id order by id) as at from attempt)
         where number <> at",
    )?;
    tally.looks_at(db, "delivery")?;
    tally.finds(
        db,
        "select 'delivery ' || id || ' counts ' || attempts || ' attempts' as what from delivery
         where attempts <> (select count(*) from attempt where delivery_id = delivery.id)",
    )
}

pub(super) fn chain(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "attempt")?;
    tally.looks_at(db, "chain_link")?;
    if let Err(attempt) = ledger::verify(db)? {
        tally.found(|| format!("attempt {attempt}: it, or one before it, was changed or removed"));
    }
    // The hashes do not show what was cut off at the end, but SQLite never gives a number twice.
    tally.finds(
        db,
        "select 'attempt ' || seq || ' is missing at the end' as what from sqlite_sequence where name = 'attempt'
         and seq > (select max(coalesce((select max(id) from attempt), 0), coalesce((select max(attempt_id) from chain_link), 0)))",
    )
}

pub(super) fn erased(db: &mut SqliteConnection, tally: &mut Tally) -> Result<(), StoreError> {
    tally.looks_at(db, "person where state = 'erased'")?;
    // A person may pin them to somebody afterwards, by numbers alone.
    tally.finds(
        db,
        "select 'person ' || p.id as what from person p where p.state = 'erased' and (
            p.profile is not null or length(p.profile_digest) > 0 or p.external_id_index is not null
            or p.email_index is not null or p.name_index is not null
            or exists (select 1 from record r where r.person_id = p.id and (length(r.facts) > 0 or length(r.fingerprint) > 0))
            or exists (select 1 from link l where l.person_id = p.id and l.is_pinned = 0)
            or exists (select 1 from delivery d where d.person_id = p.id
                and (d.state <> 'skipped' or d.cause <> 'erased' or d.receipt is not null))
            or exists (select 1 from delivery d join holding h on h.delivery_id = d.id where d.person_id = p.id)
            or exists (select 1 from delivery d join attempt a on a.delivery_id = d.id where d.person_id = p.id and a.words is not null))",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_constraint_of_the_tables_is_read_from_their_definitions() {
        let sql = "create table a (id integer primary key check (id = 1), b text, constraint b_is_known check (b in ('x)', '(')), c text)";
        assert_eq!(checks_of(sql), [("unnamed", "id = 1"), ("b_is_known", "b in ('x)', '(')")]);
        assert_eq!(checks_of("create table a (checked text)"), []);
        let mut fresh = connect(Path::new(":memory:")).expect("opens");
        migrate(&mut fresh).expect("makes the tables");
        let all = number(
            &mut fresh,
            "select sum((length(sql) - length(replace(lower(sql), 'check', ''))) / 5) as number from sqlite_master where type = 'table'",
        );
        let definitions: Vec<Finding> =
            diesel::sql_query("select sql as what from sqlite_master where type = 'table' and sql is not null")
                .load(&mut fresh)
                .expect("reads");
        let read: usize = definitions.iter().map(|table| checks_of(&table.what).len()).sum();
        // `installation.blind_key_check` and `link.checked_at` are columns.
        assert_eq!(i64::try_from(read + 2).expect("few"), all.expect("counts"));
    }
}
