//! The checks that open what is sealed. They go person by person, so that each key is asked for once.

use std::path::Path;

use diesel::connection::DefaultLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use learnsync_sdk::Learner;

use super::Tally;
use crate::domain::digest::digest_of;
use crate::domain::drift::Holding;
use crate::domain::fingerprint;
use crate::domain::ids::SubjectId;
use crate::domain::record::Record;
use crate::store::StoreError;
use crate::store::copies::connect_reading;
use crate::store::log::DAY_MS;
use crate::store::refresh::{fingerprint_of, instant_of, without_standing};
use crate::store::schema::{installation, person};
use crate::store::seal::{Sealer, person_scope};
use crate::store::vault::{grant_scope, token_scope};

/// Under which key a backfill seals what it stages.
const STAGING_SCOPE: &str = "staging";

/// The keys, as they are now, and the ledger as it is now: the audit itself looks at an older instant.
pub(super) struct Keys {
    sealer: Sealer,
    now: SqliteConnection,
}

/// What is in a sealed column.
enum Opened {
    Plain(Vec<u8>),
    /// Its person was erased since the audit began.
    Erased,
    /// It cannot be opened.
    Closed,
}

impl Keys {
    /// Opens the store's key file. `db` is the snapshot.
    pub(super) fn open(db: &mut SqliteConnection, folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("learnsync.keys");
        // Taken before the keys are opened: whatever is sealed in the snapshot has its key by then.
        let check: Vec<u8> = installation::table.select(installation::blind_key_check).first(db)?;
        if !path.exists() {
            return Err(StoreError::Mismatch(format!("there is no {}", path.display())));
        }
        let sealer = Sealer::read(&path)?;
        if sealer.blind("key-check", b"learnsync") != check {
            return Err(StoreError::Mismatch("learnsync.keys does not belong to learnsync.db".to_owned()));
        }
        Ok(Self { sealer, now: connect_reading(&folder.join("learnsync.db"))? })
    }

    fn opens(&mut self, scope: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        self.sealer.open_sealed(scope, sealed).ok()
    }

    fn open_of(&mut self, subject: i64, sealed: &[u8]) -> Result<Opened, StoreError> {
        match self.opens(&person_scope(SubjectId(subject)), sealed) {
            Some(plain) => Ok(Opened::Plain(plain)),
            // Erasing leaves the tombstone before the key goes: where the key is gone for that reason, the tombstone is there.
            None if self.is_erased_by_now(subject)? => Ok(Opened::Erased),
            None => Ok(Opened::Closed),
        }
    }

    fn is_erased_by_now(&mut self, subject: i64) -> Result<bool, StoreError> {
        let state: Option<String> = person::table
            .filter(person::subject_id.eq(subject))
            .select(person::state)
            .first(&mut self.now)
            .optional()?;
        Ok(state.is_some_and(|state| state == "erased"))
    }
}

pub(super) fn facts(db: &mut SqliteConnection, keys: &mut Keys, tally: &mut Tally) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = BigInt)]
        subject: i64,
        #[diesel(sql_type = Text)]
        kind: String,
        #[diesel(sql_type = Text)]
        key: String,
        #[diesel(sql_type = Binary)]
        facts: Vec<u8>,
        #[diesel(sql_type = Binary)]
        fingerprint: Vec<u8>,
        #[diesel(sql_type = BigInt)]
        version: i64,
        #[diesel(sql_type = Nullable<Text>)]
        course: Option<String>,
        #[diesel(sql_type = Nullable<BigInt>)]
        achieved_on: Option<i64>,
    }
    // `cross join` is an inner join that SQLite does not turn round.
    let all = "select r.id as id, p.subject_id as subject, r.kind as kind, r.key as key, r.facts as facts, r.fingerprint as fingerprint,
            r.fingerprint_version as version, r.course_id as course, r.achieved_on as achieved_on
        from person p cross join record r on r.person_id = p.id where p.state <> 'erased' order by p.id";
    for row in diesel::sql_query(all).load_iter::<Row, DefaultLoadingMode>(db)? {
        let row = row?;
        tally.rows += 1;
        let name = |what: &str| format!("record {} ({}): {what}", row.id, row.key);
        let plain = match keys.open_of(row.subject, &row.facts)? {
            Opened::Plain(plain) => plain,
            Opened::Erased => continue,
            Opened::Closed => {
                tally.found(|| name("cannot be opened"));
                continue;
            }
        };
        let Ok(record) = serde_json::from_slice::<Record>(&plain) else {
            tally.found(|| name("cannot be read"));
            continue;
        };
        let says = (record.kind.as_str(), record.key(), record.course.as_ref().map(|course| &course.id));
        if says != (row.kind.as_str(), row.key.clone(), row.course.as_ref())
            || record.achieved.map(instant_of) != row.achieved_on
        {
            tally.found(|| name("its columns are another fact's"));
        } else if fingerprint_of(&keys.sealer, &record, row.version).is_none_or(|own| own != row.fingerprint) {
            tally.found(|| name("its fingerprint is another's"));
        }
    }
    Ok(())
}

/// `facts` has proven the record's own fingerprint, so only what differs from it is computed.
///
/// A record that was written again after its delivery says nothing: nobody plans for a route that is no longer configured, nor for a place
/// that the record has left, nor changes what was told.
pub(super) fn wanted(db: &mut SqliteConnection, keys: &mut Keys, tally: &mut Tally) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = BigInt)]
        subject: i64,
        #[diesel(sql_type = Binary)]
        facts: Vec<u8>,
        #[diesel(sql_type = BigInt)]
        version: i64,
        #[diesel(sql_type = Binary)]
        wanted: Vec<u8>,
    }
    tally.looks_at(
        db,
        "delivery d join record r on r.id = d.record_id join person p on p.id = r.person_id
         where p.state <> 'erased' and d.wanted_at >= r.state_since",
    )?;
    let differing = "select d.id as id, p.subject_id as subject, r.facts as facts, r.fingerprint_version as version,
            d.wanted_fingerprint as wanted
        from person p cross join record r on r.person_id = p.id cross join delivery d on d.record_id = r.id
        where p.state <> 'erased' and d.wanted_at >= r.state_since and d.wanted_fingerprint <> r.fingerprint order by p.id";
    for row in diesel::sql_query(differing).load_iter::<Row, DefaultLoadingMode>(db)? {
        let row = row?;
        // What cannot be opened or read is told by `facts`.
        let Opened::Plain(plain) = keys.open_of(row.subject, &row.facts)? else { continue };
        let Ok(record) = serde_json::from_slice::<Record>(&plain) else { continue };
        // A mapping that does not say how a record stands wants the facts without it.
        let plain = without_standing(&record);
        let is_of_record = [(&record, fingerprint::VERSION), (&plain, fingerprint::VERSION), (&plain, row.version)]
            .into_iter()
            .any(|(record, version)| fingerprint_of(&keys.sealer, record, version).as_ref() == Some(&row.wanted));
        if !is_of_record {
            tally.found(|| format!("delivery {}", row.id));
        }
    }
    Ok(())
}

pub(super) fn profiles(db: &mut SqliteConnection, keys: &mut Keys, tally: &mut Tally) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = BigInt)]
        subject: i64,
        #[diesel(sql_type = Nullable<Binary>)]
        profile: Option<Vec<u8>>,
        #[diesel(sql_type = Binary)]
        digest: Vec<u8>,
    }
    let all = "select id, subject_id as subject, profile, profile_digest as digest from person where state <> 'erased' order by id";
    for row in diesel::sql_query(all).load_iter::<Row, DefaultLoadingMode>(db)? {
        let row = row?;
        tally.rows += 1;
        let plain = match keys.open_of(row.subject, row.profile.as_deref().unwrap_or_default())? {
            Opened::Plain(plain) => plain,
            Opened::Erased => continue,
            Opened::Closed => {
                tally.found(|| format!("person {}: cannot be opened", row.id));
                continue;
            }
        };
        if serde_json::from_slice::<Learner>(&plain).is_err() {
            tally.found(|| format!("person {}: cannot be read", row.id));
        } else if keys.sealer.blind("profile", &plain) != row.digest {
            tally.found(|| format!("person {}: the digest is another's", row.id));
        }
    }
    Ok(())
}

pub(super) fn words(db: &mut SqliteConnection, keys: &mut Keys, tally: &mut Tally) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = BigInt)]
        subject: i64,
        #[diesel(sql_type = Binary)]
        words: Vec<u8>,
        #[diesel(sql_type = Binary)]
        digest: Vec<u8>,
    }
    let all = "select a.id as id, p.subject_id as subject, a.words as words, a.words_digest as digest
        from person p cross join delivery d on d.person_id = p.id cross join attempt a on a.delivery_id = d.id
        where a.words is not null order by p.id";
    for row in diesel::sql_query(all).load_iter::<Row, DefaultLoadingMode>(db)? {
        let row = row?;
        tally.rows += 1;
        match keys.open_of(row.subject, &row.words)? {
            Opened::Plain(plain) if keys.sealer.blind("words", &plain) == row.digest => {}
            Opened::Plain(_) => tally.found(|| format!("attempt {}: the words are another's", row.id)),
            Opened::Erased => {}
            Opened::Closed => tally.found(|| format!("attempt {}: the words cannot be opened", row.id)),
        }
    }
    Ok(())
}

pub(super) fn receipts(db: &mut SqliteConnection, keys: &mut Keys, tally: &mut Tally) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = BigInt)]
        subject: i64,
        #[diesel(sql_type = Binary)]
        receipt: Vec<u8>,
        #[diesel(sql_type = Nullable<Binary>)]
        digest: Option<Vec<u8>>,
    }
    /// A receipt, and whether an attempt with its words has come by.
    struct Current {
        id: i64,
        digest: Option<Vec<u8>>,
        is_proven: bool,
    }
    let mut current: Option<Current> = None;
    let end = |current: Option<Current>, tally: &mut Tally| {
        if let Some(Current { id, digest: Some(_), is_proven: false }) = current {
            tally.found(|| format!("delivery {id}: no attempt brought these words"));
        }
    };
    // One row an attempt, those of a delivery together.
    let all = "select d.id as id, p.subject_id as subject, d.receipt as receipt, a.words_digest as digest
        from person p cross join delivery d on d.person_id = p.id left join attempt a on a.delivery_id = d.id
        where d.receipt is not null order by p.id, d.destination_id, d.id";
    for row in diesel::sql_query(all).load_iter::<Row, DefaultLoadingMode>(db)? {
        let row = row?;
        if current.as_ref().is_none_or(|current| current.id != row.id) {
            end(current.take(), tally);
            tally.rows += 1;
            let digest = match keys.open_of(row.subject, &row.receipt)? {
                Opened::Plain(plain) => Some(keys.sealer.blind("words", &plain)),
                Opened::Erased => None,
                Opened::Closed => {
                    tally.found(|| format!("delivery {}: the receipt cannot be opened", row.id));
                    None
                }
            };
            current = Some(Current { id: row.id, digest, is_proven: false });
        }
        if let Some(current) = &mut current {
            current.is_proven |= current.digest == row.digest;
        }
    }
    end(current, tally);
    Ok(())
}

/// What is remembered of places.
pub(super) fn holdings(db: &mut SqliteConnection, keys: &mut Keys, tally: &mut Tally) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = BigInt)]
        subject: i64,
        #[diesel(sql_type = Binary)]
        state: Vec<u8>,
        #[diesel(sql_type = Nullable<Binary>)]
        digest: Option<Vec<u8>>,
    }
    let all = "select d.id as id, p.subject_id as subject, h.state as state, d.held_fields_digest as digest
        from person p cross join delivery d on d.person_id = p.id cross join holding h on h.delivery_id = d.id order by p.id";
    for row in diesel::sql_query(all).load_iter::<Row, DefaultLoadingMode>(db)? {
        let row = row?;
        tally.rows += 1;
        let plain = match keys.open_of(row.subject, &row.state)? {
            Opened::Plain(plain) => plain,
            Opened::Erased => continue,
            Opened::Closed => {
                tally.found(|| format!("delivery {}: what is remembered cannot be opened", row.id));
                continue;
            }
        };
        let written = match serde_json::from_slice::<Holding>(&plain) {
            Ok(holding) => holding.written,
            Err(_) => {
                tally.found(|| format!("delivery {}: what is remembered cannot be read", row.id));
                continue;
            }
        };
        if written.zip(row.digest).is_some_and(|(written, digest)| digest_of(&written) != digest) {
            tally.found(|| format!("delivery {}: what is remembered was not written there last", row.id));
        }
    }
    Ok(())
}

pub(super) fn bodies(db: &mut SqliteConnection, keys: &mut Keys, tally: &mut Tally) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = BigInt)]
        received_at: i64,
        #[diesel(sql_type = BigInt)]
        day: i64,
        #[diesel(sql_type = Binary)]
        body: Vec<u8>,
    }
    let all = "select id, received_at, day, body from event order by id";
    for row in diesel::sql_query(all).load_iter::<Row, DefaultLoadingMode>(db)? {
        let row = row?;
        tally.rows += 1;
        if row.day != row.received_at.div_euclid(DAY_MS) {
            tally.found(|| format!("event {}: the day is another", row.id));
        } else if keys.opens(&format!("day/{}", row.day), &row.body).is_none() {
            tally.found(|| format!("event {}: cannot be opened", row.id));
        }
    }
    Ok(())
}

pub(super) fn secrets(db: &mut SqliteConnection, keys: &mut Keys, tally: &mut Tally) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Portal {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Nullable<Binary>)]
        token: Option<Vec<u8>>,
        #[diesel(sql_type = Nullable<Binary>)]
        grant_token: Option<Vec<u8>>,
    }
    #[derive(QueryableByName)]
    struct Staged {
        #[diesel(sql_type = Text)]
        lms_id: String,
        #[diesel(sql_type = BigInt)]
        run: i64,
        #[diesel(sql_type = Binary)]
        row: Vec<u8>,
    }
    for portal in diesel::sql_query("select name, token, grant_token from portal").load::<Portal>(db)? {
        // The grant's inner layer opens with a secret of the configuration, which is nobody's here.
        for (what, scope, sealed) in [
            ("token", token_scope(&portal.name), portal.token),
            ("login by OAuth", grant_scope(&portal.name), portal.grant_token),
        ] {
            let Some(sealed) = sealed else { continue };
            tally.rows += 1;
            if keys.opens(&scope, &sealed).is_none() {
                tally.found(|| format!("the {what} of portal {}", portal.name));
            }
        }
    }
    let all = "select lms_id, run_id as run, row from staged";
    for staged in diesel::sql_query(all).load_iter::<Staged, DefaultLoadingMode>(db)? {
        let staged = staged?;
        tally.rows += 1;
        if keys.opens(STAGING_SCOPE, &staged.row).is_none() {
            tally.found(|| format!("a row of learner {} in run {}", staged.lms_id, staged.run));
        }
    }
    Ok(())
}

pub(super) fn keys(db: &mut SqliteConnection, keys: &mut Keys, tally: &mut Tally) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = BigInt)]
        subject: i64,
    }
    let erased = "select id, subject_id as subject from person where state = 'erased' order by id";
    for row in diesel::sql_query(erased).load_iter::<Row, DefaultLoadingMode>(db)? {
        let row = row?;
        tally.rows += 1;
        if keys.sealer.has_key(&person_scope(SubjectId(row.subject)))? {
            tally.found(|| format!("person {}: erase them again", row.id));
        }
    }
    Ok(())
}
