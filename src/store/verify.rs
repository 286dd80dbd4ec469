//! Verify's use cases: what a destination lists is staged, compared with the deliveries page by page, and what was found is kept before anything
//! follows from it. Memory does not grow with the number of rows.

use std::collections::BTreeMap;

use diesel::prelude::*;
use learnsync_sdk::{Fields, ListedRow};
use serde::{Deserialize, Serialize};

use super::queue::from_json;
use super::schema::{delivery, finding, holding, mark, person, record, route, run, target_row};
use super::seal::person_scope;
use super::writer::Tx;
use super::{Store, StoreError};
use crate::domain::delivery::DeliveryState;
use crate::domain::drift::{DriftClass, Holding};
use crate::domain::ids::{DeliveryId, DestinationId, RouteId, RunId, SubjectId};
use crate::domain::time::Timestamp;

/// Most rows that one use case touches.
pub const ROWS_AT_ONCE: usize = 200;

/// Runs of a destination of which the findings are kept; those of older ones go.
const RUNS_KEPT: i64 = 30;

/// Under which key listed rows are sealed: they may be anybody's.
const SCOPE: &str = "listed";

/// What a verify does at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyPhase {
    /// Lists what the destination holds, object by object.
    #[default]
    Listing,
    /// Compares the deliveries with it.
    Comparing,
    /// Looks for rows that belong to no delivery.
    Strays,
    /// All is found: the guard decides whether anything follows from it.
    Judging,
    /// Makes due what is to be written.
    Acting,
    /// Waits until that is written, and reads it back once.
    Confirming,
}

/// How far a verify is, and what it counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifyProgress {
    /// What it does.
    pub phase: VerifyPhase,
    /// The object that is listed, or was listed last.
    pub object: Option<String>,
    /// The next page of its list.
    pub page: Option<String>,
    /// The delivery, finding or row after which it goes on.
    pub after: i64,
    /// The row of the list after which it goes on.
    pub after_row: String,
    /// The newest delivery when it began: later ones are the next run's.
    pub until: i64,
    /// When listing began: what was written since is not concluded about.
    pub listed_from: Option<Timestamp>,
    /// When it began to act.
    pub acted_at: Option<Timestamp>,
    /// Whether a person said that what the guard held may go on.
    pub is_approved: bool,
    /// What it counted.
    pub counts: VerifyCounts,
}

/// What a verify counted. In sync, to be written, differing, acknowledged, waiting, parked and left out make all deliveries, or the run is red.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifyCounts {
    /// Deliveries of the destination when it began.
    pub deliveries: u64,
    /// The target holds what it should.
    pub in_sync: u64,
    /// It does not, and is written (or removed) again.
    pub to_write: u64,
    /// It does not, and that is reported.
    pub differing: u64,
    /// It does not, and a person knows.
    pub acknowledged: u64,
    /// Waits to be written, or is being written.
    pub waiting: u64,
    /// Set aside with a cause.
    pub parked: u64,
    /// Not delivered on purpose.
    pub left_out: u64,
    /// Of those to be written: rows that are removed.
    pub withdrawals: u64,
    /// Rows that the target listed, whoever wrote them.
    pub listed: u64,
    /// Whether the target was listed; else places were read back one by one.
    pub is_listed: bool,
    /// Places that were looked at: the ledger says that they hold something of ours.
    pub looked: u64,
    /// Findings by class.
    pub classes: BTreeMap<DriftClass, u64>,
}

impl VerifyCounts {
    /// Whether each delivery was counted once.
    #[must_use]
    pub fn add_up(&self) -> bool {
        self.counted() == self.deliveries
    }

    /// All that was counted.
    #[must_use]
    pub fn counted(&self) -> u64 {
        [self.in_sync, self.to_write, self.differing, self.acknowledged, self.waiting, self.parked, self.left_out]
            .iter()
            .sum()
    }

    /// Findings of a class.
    #[must_use]
    pub fn of(&self, class: DriftClass) -> u64 {
        self.classes.get(&class).copied().unwrap_or(0)
    }
}

/// A verify that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Verify {
    /// Its run.
    pub id: RunId,
    /// When it began.
    pub started_at: Timestamp,
    /// Why its guard holds it; none when it goes on.
    pub held: Option<String>,
    /// How far it is.
    pub progress: VerifyProgress,
}

/// A place of a delivery, and what stands there.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its route.
    pub route: RouteId,
    /// Its slot.
    pub slot: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Whether its route only appends.
    pub is_told: bool,
    /// Whether the place should hold the record, or nothing.
    pub is_wanted: bool,
    /// Whether the facts that the place holds are those that it should.
    pub is_current: bool,
    /// Whether the LMS no longer shows the fact, as two complete reads say.
    pub is_gone: bool,
    /// The row that we know.
    pub held_row: Option<String>,
    /// Under whom.
    pub held_person: Option<String>,
    /// When we knew it last.
    pub held_at: Option<Timestamp>,
    /// What is remembered of the place.
    pub holding: Holding,
    /// What the target listed with our mark for it; empty where it was not listed.
    pub seen: Vec<SeenRow>,
    /// The row that we know, as the target listed it without our mark.
    pub unmarked: Option<SeenRow>,
}

/// A row as the target shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenRow {
    /// Its id.
    pub row: String,
    /// Under whom; none where the target knows no people.
    pub person: Option<String>,
    /// Its fields, or why they cannot be read.
    pub fields: Result<Fields, String>,
}

/// What was found that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whose place it is; none for rows that belong to no delivery.
    pub delivery: Option<DeliveryId>,
    /// How it differs.
    pub class: DriftClass,
    /// The target object.
    pub object: String,
    /// The row.
    pub row: Option<String>,
    /// Its mark, where no delivery says it.
    pub mark: Option<String>,
    /// Whose row it is in the target.
    pub person: Option<String>,
    /// The fields that differ, by name.
    pub fields: Vec<String>,
    /// What follows.
    pub action: DriftAction,
    /// When we knew last what the place holds: what was written since is not touched.
    pub held_at: Option<Timestamp>,
}

/// What follows from a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftAction {
    /// The place is written again.
    Repair,
    /// It is said.
    Report,
    /// It is taken for right.
    Adopt,
    /// The row is removed.
    Withdraw,
    /// Nothing more: it is on its way already.
    Nothing,
}

impl DriftAction {
    /// The word in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repair => "repair",
            Self::Report => "report",
            Self::Adopt => "adopt",
            Self::Withdraw => "withdraw",
            Self::Nothing => "none",
        }
    }

    fn parse(word: &str) -> Self {
        let all = [Self::Repair, Self::Report, Self::Adopt, Self::Withdraw, Self::Nothing];
        all.into_iter().find(|action| action.as_str() == word).expect("a CHECK constraint spells the actions")
    }
}

/// A place that was written again, and is to be read back once.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewritten {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The target object.
    pub object: String,
    /// Its slot.
    pub slot: String,
    /// The row.
    pub row: String,
    /// Under whom.
    pub person: String,
    /// What is remembered of the place.
    pub holding: Holding,
}

impl Store {
    /// The verify of a destination that has not ended.
    ///
    /// # Errors
    /// The store failed.
    pub async fn verify_under_way(&self, destination: DestinationId) -> Result<Option<Verify>, StoreError> {
        self.writer.run("verify_under_way", move |tx| under_way(tx.db, destination)).await
    }

    /// When the newest verify of a destination began.
    ///
    /// # Errors
    /// The store failed.
    pub async fn last_verify_at(&self, destination: DestinationId) -> Result<Option<Timestamp>, StoreError> {
        self.writer
            .run("last_verify_at", move |tx| {
                let runs = run::table.filter(run::kind.eq("verify").and(run::destination_id.eq(destination.0)));
                let at: Option<i64> = runs.select(diesel::dsl::max(run::started_at)).first(tx.db)?;
                Ok(at.map(Timestamp))
            })
            .await
    }

    /// Whether learners whom the sweep marked are still to be read: then the night's first half is not over.
    ///
    /// # Errors
    /// The store failed.
    pub async fn is_sweeping(&self) -> Result<bool, StoreError> {
        self.writer
            .run("is_sweeping", |tx| {
                let runs = run::table.filter(run::kind.eq_any(["sweep", "backfill"]).and(run::state.eq("running")));
                if diesel::select(diesel::dsl::exists(runs)).get_result(tx.db)? {
                    return Ok(true);
                }
                let marks = mark::table.filter(mark::lane.eq("sweep"));
                Ok(diesel::select(diesel::dsl::exists(marks)).get_result(tx.db)?)
            })
            .await
    }

    /// Begins a verify; one that its guard holds ends, overtaken.
    ///
    /// # Errors
    /// The store failed.
    pub async fn begin_verify(&self, destination: DestinationId) -> Result<Verify, StoreError> {
        let now = self.clock.now();
        self.writer
            .run("begin_verify", move |tx| {
                if let Some(old) = under_way(tx.db, destination)? {
                    end(tx.db, old.id, "failed", Some("overtaken by a newer run"), now)?;
                }
                forget_old(tx.db, destination)?;
                let of_destination = delivery::table.filter(delivery::destination_id.eq(destination.0));
                let (until, deliveries): (Option<i64>, i64) =
                    of_destination.select((diesel::dsl::max(delivery::id), diesel::dsl::count_star())).first(tx.db)?;
                let mut progress = VerifyProgress { until: until.unwrap_or(0), ..VerifyProgress::default() };
                progress.listed_from = Some(now);
                progress.counts.deliveries = deliveries.unsigned_abs();
                let id: i64 = diesel::insert_into(run::table)
                    .values((
                        run::kind.eq("verify"),
                        run::destination_id.eq(destination.0),
                        run::state.eq("running"),
                        run::started_at.eq(now.0),
                        run::counts.eq(as_text(&progress)),
                    ))
                    .returning(run::id)
                    .get_result(tx.db)?;
                Ok(Verify { id: RunId(id), started_at: now, held: None, progress })
            })
            .await
    }

    /// Stages a page of a list, and how far that is.
    ///
    /// # Errors
    /// The store failed; the page will be listed again.
    pub async fn keep_listed(
        &self,
        id: RunId,
        object: &str,
        own_prefix: &str,
        rows: Vec<ListedRow>,
        progress: VerifyProgress,
    ) -> Result<(), StoreError> {
        let mut rows = rows.into_iter().peekable();
        loop {
            let some: Vec<ListedRow> = rows.by_ref().take(ROWS_AT_ONCE).collect();
            let last = rows.peek().is_none().then(|| progress.clone());
            let is_last = last.is_some();
            let (object, prefix) = (object.to_owned(), own_prefix.to_owned());
            self.writer
                .run("keep_listed", move |tx| {
                    for row in some {
                        stage(tx, id, &object, &prefix, row)?;
                    }
                    if let Some(progress) = last {
                        keep_progress(tx.db, id, &progress)?;
                    }
                    Ok(())
                })
                .await?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// The next places of a destination, in the order of their numbers, each with what the target listed for it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn places(
        &self,
        destination: DestinationId,
        verify: &Verify,
        objects: &BTreeMap<RouteId, String>,
    ) -> Result<Vec<Placed>, StoreError> {
        let (id, after, until) = (verify.id, verify.progress.after, verify.progress.until);
        let objects = objects.clone();
        let is_listed = verify.progress.counts.is_listed;
        self.writer
            .run("places", move |tx| {
                let rows: Vec<PlaceRow> = delivery::table
                    .inner_join(record::table)
                    .inner_join(route::table)
                    .inner_join(person::table.on(person::id.eq(delivery::person_id)))
                    .left_join(holding::table)
                    .filter(delivery::destination_id.eq(destination.0))
                    .filter(delivery::id.gt(after).and(delivery::id.le(until)))
                    .order(delivery::id)
                    .limit(ROWS_AT_ONCE as i64)
                    .select(PlaceRow::as_select())
                    .load(tx.db)?;
                rows.into_iter().map(|row| placed(tx, id, row, &objects, is_listed)).collect()
            })
            .await
    }

    /// Keeps what was found on a page, with how far that is.
    ///
    /// # Errors
    /// The store failed; the page will be compared again.
    pub async fn keep_findings(
        &self,
        id: RunId,
        findings: Vec<Finding>,
        holdings: Vec<(DeliveryId, Holding)>,
        progress: VerifyProgress,
    ) -> Result<(), StoreError> {
        self.writer
            .run("keep_findings", move |tx| {
                for finding in &findings {
                    insert_finding(tx.db, id, finding)?;
                }
                for (delivery_id, state) in &holdings {
                    let scope = super::holding::scope_of(tx.db, delivery_id.0)?;
                    super::holding::keep(tx, &scope, delivery_id.0, state)?;
                }
                keep_progress(tx.db, id, &progress)
            })
            .await
    }

    /// The next listed rows of an object that belong to no delivery and are somebody's business all the same: they carry our mark, or say the
    /// same as a row that does. Answers the last row looked at, too; none when there are no more.
    ///
    /// # Errors
    /// The store failed.
    pub async fn strays(
        &self,
        destination: DestinationId,
        id: RunId,
        object: &str,
        after: &str,
    ) -> Result<(Vec<Finding>, Option<String>), StoreError> {
        let (object, after) = (object.to_owned(), after.to_owned());
        self.writer.run("strays", move |tx| strays(tx.db, destination, id, &object, &after)).await
    }

    /// Goes on with another phase.
    ///
    /// # Errors
    /// The store failed.
    pub async fn advance_verify(&self, id: RunId, progress: VerifyProgress) -> Result<(), StoreError> {
        self.writer.run("advance_verify", move |tx| keep_progress(tx.db, id, &progress)).await
    }

    /// The guard holds a verify: nothing follows from it until a person approves.
    ///
    /// # Errors
    /// The store failed.
    pub async fn hold_verify(&self, id: RunId, because: &str) -> Result<(), StoreError> {
        let because = because.to_owned();
        self.writer
            .run("hold_verify", move |tx| {
                diesel::update(run::table.find(id.0))
                    .set((run::state.eq("held"), run::cause.eq(because)))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Lets a run that its guard holds go on; answers the destination, or none if no run of this number is held.
    ///
    /// # Errors
    /// The store failed.
    pub async fn approve_run(&self, id: RunId) -> Result<Option<DestinationId>, StoreError> {
        self.writer
            .run("approve_run", move |tx| {
                let held: Option<(String, Option<i64>, String)> = run::table
                    .filter(run::id.eq(id.0).and(run::state.eq("held")))
                    .select((run::kind, run::destination_id, run::counts))
                    .first(tx.db)
                    .optional()?;
                let Some((kind, destination, counts)) = held else { return Ok(None) };
                diesel::update(run::table.find(id.0))
                    .set((run::state.eq("running"), run::cause.eq(None::<String>)))
                    .execute(tx.db)?;
                // A plan that is applied knows by its causes what was said yes to.
                if kind == "verify" {
                    let mut progress: VerifyProgress = from_json(counts.as_bytes())?;
                    progress.is_approved = true;
                    keep_progress(tx.db, id, &progress)?;
                }
                Ok(destination.map(DestinationId))
            })
            .await
    }

    /// Makes due what the next findings of a run say is to be written; what changed since they were found is left alone. Answers how many
    /// there are due, and whether there are more.
    ///
    /// # Errors
    /// The store failed.
    pub async fn act_on_findings(&self, id: RunId, mut progress: VerifyProgress) -> Result<(usize, bool), StoreError> {
        let now = self.clock.now();
        let epoch = self.epoch;
        self.writer
            .run("act_on_findings", move |tx| {
                let rows: Vec<FindingRow> = finding::table
                    .filter(finding::run_id.eq(id.0).and(finding::id.gt(progress.after)))
                    .order(finding::id)
                    .limit(ROWS_AT_ONCE as i64)
                    .select(FindingRow::as_select())
                    .load(tx.db)?;
                let mut due = 0;
                for row in &rows {
                    progress.after = row.id;
                    due += usize::from(act(tx, row, epoch, now)?);
                }
                keep_progress(tx.db, id, &progress)?;
                Ok((due, rows.len() == ROWS_AT_ONCE))
            })
            .await
    }

    /// Whether something that a run wrote again is still on its way.
    ///
    /// # Errors
    /// The store failed.
    pub async fn is_acting(&self, id: RunId) -> Result<bool, StoreError> {
        self.writer
            .run("is_acting", move |tx| {
                let waiting = finding::table
                    .inner_join(delivery::table)
                    .filter(finding::run_id.eq(id.0).and(finding::action.eq_any(["repair", "withdraw"])))
                    .filter(delivery::state.eq_any(["pending", "sending", "uncertain"]));
                Ok(diesel::select(diesel::dsl::exists(waiting)).get_result(tx.db)?)
            })
            .await
    }

    /// The next places in which a run wrote fields again.
    ///
    /// # Errors
    /// The store failed.
    pub async fn rewritten(&self, id: RunId, after: i64) -> Result<Vec<Rewritten>, StoreError> {
        type Row = (i64, i64, String, String, Option<String>, Option<String>, Option<Vec<u8>>);
        self.writer
            .run("rewritten", move |tx| {
                let rows: Vec<Row> = finding::table
                    .inner_join(delivery::table.inner_join(person::table).left_join(holding::table))
                    .filter(finding::run_id.eq(id.0).and(finding::action.eq("repair")))
                    .filter(finding::class.eq(DriftClass::Edited.as_str()))
                    .filter(delivery::state.eq("settled").and(delivery::id.gt(after)))
                    .order(delivery::id)
                    .limit(ROWS_AT_ONCE as i64)
                    .select((
                        delivery::id,
                        person::subject_id,
                        finding::object,
                        delivery::slot,
                        delivery::held_row,
                        delivery::held_person,
                        holding::state.nullable(),
                    ))
                    .load(tx.db)?;
                let mut places = Vec::with_capacity(rows.len());
                for (delivery, subject, object, slot, row, person, state) in rows {
                    let (Some(row), Some(person)) = (row, person) else { continue };
                    let holding = super::holding::open(tx, &person_scope(SubjectId(subject)), state)?;
                    places.push(Rewritten { delivery: DeliveryId(delivery), object, slot, row, person, holding });
                }
                Ok(places)
            })
            .await
    }

    /// Ends a verify; what was listed goes, a step at a time.
    ///
    /// # Errors
    /// The store failed.
    pub async fn finish_verify(&self, id: RunId, is_done: bool, cause: Option<String>) -> Result<(), StoreError> {
        let now = self.clock.now();
        while self.writer.run("forget_listed", move |tx| forget_listed(tx.db, id)).await? > 0 {}
        let state = if is_done { "done" } else { "failed" };
        self.writer.run("finish_verify", move |tx| end(tx.db, id, state, cause.as_deref(), now)).await
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = delivery)]
struct PlaceRow {
    id: i64,
    route_id: i64,
    slot: String,
    state: String,
    wanted: String,
    wanted_fingerprint: Vec<u8>,
    held_fingerprint: Option<Vec<u8>>,
    held_row: Option<String>,
    held_person: Option<String>,
    held_at: Option<i64>,
    #[diesel(select_expression = route::mode)]
    mode: String,
    #[diesel(select_expression = record::state)]
    record_state: String,
    #[diesel(select_expression = person::subject_id)]
    subject: i64,
    #[diesel(select_expression = holding::state.nullable())]
    holding: Option<Vec<u8>>,
}

fn placed(
    tx: &mut Tx<'_>,
    id: RunId,
    row: PlaceRow,
    objects: &BTreeMap<RouteId, String>,
    is_listed: bool,
) -> Result<Placed, StoreError> {
    let holding = super::holding::open(tx, &person_scope(SubjectId(row.subject)), row.holding)?;
    let (mut seen, mut unmarked) = (Vec::new(), None);
    if let Some(object) = objects.get(&RouteId(row.route_id)).filter(|_| is_listed) {
        let of_object = target_row::table.filter(target_row::run_id.eq(id.0).and(target_row::object.eq(object)));
        let rows: Vec<Listed> =
            of_object.filter(target_row::slot.eq(&row.slot)).select(Listed::as_select()).load(tx.db)?;
        seen = rows.into_iter().map(|row| row.opened(tx)).collect::<Result<_, _>>()?;
        if let Some(known) = row.held_row.as_ref().filter(|_| seen.is_empty()) {
            let bare: Option<Listed> = of_object
                .filter(target_row::row.eq(known).and(target_row::slot.is_null()).and(target_row::mark.is_null()))
                .select(Listed::as_select())
                .first(tx.db)
                .optional()?;
            unmarked = bare.map(|row| row.opened(tx)).transpose()?;
        }
    }
    Ok(Placed {
        delivery: DeliveryId(row.id),
        route: RouteId(row.route_id),
        slot: row.slot,
        state: DeliveryState::parse(&row.state).expect("a CHECK constraint spells the states"),
        is_told: row.mode == "append",
        is_wanted: row.wanted == "present",
        is_current: row.held_fingerprint.as_ref() == Some(&row.wanted_fingerprint),
        is_gone: row.record_state == "gone",
        held_row: row.held_row,
        held_person: row.held_person,
        held_at: row.held_at.map(Timestamp),
        holding,
        seen,
        unmarked,
    })
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = target_row)]
struct Listed {
    row: String,
    person: Option<String>,
    fields: Option<Vec<u8>>,
}

impl Listed {
    fn opened(self, tx: &mut Tx<'_>) -> Result<SeenRow, StoreError> {
        let fields = match self.fields {
            Some(sealed) => Ok(from_json(&tx.sealer.open_sealed(SCOPE, &sealed)?)?),
            None => Err("the target shows a row that cannot be read".to_owned()),
        };
        Ok(SeenRow { row: self.row, person: self.person, fields })
    }
}

fn stage(tx: &mut Tx<'_>, id: RunId, object: &str, own_prefix: &str, row: ListedRow) -> Result<(), StoreError> {
    let slot = row.mark.as_deref().and_then(|mark| mark.strip_prefix(own_prefix)).map(str::to_owned);
    let mark = row.mark.filter(|_| slot.is_none());
    let (mut digest, mut fields) = (None, None);
    if let Ok(shown) = &row.fields {
        let plain = serde_json::to_vec(shown).expect("fields are plain data");
        // Blind: whoever has the ledger without its keys learns nothing from it.
        digest = Some(tx.sealer.blind("listed", &said(row.person.as_deref(), shown)));
        fields = Some(tx.seal(SCOPE, &plain)?);
    }
    diesel::insert_into(target_row::table)
        .values((
            target_row::run_id.eq(id.0),
            target_row::object.eq(object),
            target_row::row.eq(row.row),
            target_row::person.eq(row.person),
            target_row::slot.eq(slot),
            target_row::mark.eq(mark),
            target_row::digest.eq(digest),
            target_row::fields.eq(fields),
        ))
        .on_conflict_do_nothing()
        .execute(tx.db)?;
    Ok(())
}

/// What a row says of a person: two rows that say the same are alike. Blank fields say nothing.
fn said(person: Option<&str>, fields: &Fields) -> Vec<u8> {
    let shown = |value: &learnsync_sdk::Value| value.to_string().trim().to_lowercase();
    let fields: BTreeMap<&String, String> =
        fields.iter().map(|(name, value)| (name, shown(value))).filter(|(_, text)| !text.is_empty()).collect();
    serde_json::to_vec(&(person, fields)).expect("texts are plain data")
}

fn strays(
    db: &mut SqliteConnection,
    destination: DestinationId,
    id: RunId,
    object: &str,
    after: &str,
) -> Result<(Vec<Finding>, Option<String>), StoreError> {
    type Row = (String, Option<String>, Option<String>, Option<String>, Option<Vec<u8>>);
    let of_object = target_row::table.filter(target_row::run_id.eq(id.0).and(target_row::object.eq(object)));
    let rows: Vec<Row> = of_object
        .filter(target_row::row.gt(after))
        .order(target_row::row)
        .limit(ROWS_AT_ONCE as i64)
        .select((target_row::row, target_row::person, target_row::slot, target_row::mark, target_row::digest))
        .load(db)?;
    let last = rows.last().map(|row| row.0.clone());
    let mut findings = Vec::new();
    for (row, person, slot, mark, digest) in rows {
        let stray = |class, mark| Finding {
            delivery: None,
            class,
            object: object.to_owned(),
            row: Some(row.clone()),
            mark,
            person: person.clone(),
            fields: Vec::new(),
            action: DriftAction::Report,
            held_at: None,
        };
        if let Some(slot) = slot {
            let known =
                delivery::table.filter(delivery::destination_id.eq(destination.0).and(delivery::slot.eq(&slot)));
            if !diesel::select(diesel::dsl::exists(known)).get_result(db)? {
                findings.push(stray(DriftClass::Orphaned, Some(slot)));
            }
            continue;
        }
        let Some(digest) = digest else { continue };
        let known = delivery::table
            .filter(delivery::destination_id.eq(destination.0).and(delivery::state.eq("settled")))
            .filter(delivery::held_row.eq(&row));
        // The very row that we know, without our mark, is told with its delivery.
        if mark.is_none() && diesel::select(diesel::dsl::exists(known)).get_result(db)? {
            continue;
        }
        let ours = of_object.filter(target_row::digest.eq(&digest).and(target_row::slot.is_not_null()));
        if diesel::select(diesel::dsl::exists(ours)).get_result(db)? {
            findings.push(stray(DriftClass::Foreign, mark));
        }
    }
    Ok((findings, last))
}

fn insert_finding(db: &mut SqliteConnection, id: RunId, found: &Finding) -> Result<(), StoreError> {
    diesel::insert_into(finding::table)
        .values((
            finding::run_id.eq(id.0),
            finding::delivery_id.eq(found.delivery.map(|delivery| delivery.0)),
            finding::class.eq(found.class.as_str()),
            finding::object.eq(&found.object),
            finding::row.eq(&found.row),
            finding::mark.eq(&found.mark),
            finding::fields.eq(serde_json::to_string(&found.fields).expect("names are plain data")),
            finding::action.eq(found.action.as_str()),
            finding::held_at.eq(found.held_at.map(|at| at.0)),
            finding::person.eq(&found.person),
        ))
        .execute(db)?;
    Ok(())
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = finding)]
struct FindingRow {
    id: i64,
    delivery_id: Option<i64>,
    class: String,
    row: Option<String>,
    fields: String,
    action: String,
    held_at: Option<i64>,
    person: Option<String>,
}

/// Makes due what a finding says; answers whether it is.
fn act(tx: &mut Tx<'_>, found: &FindingRow, epoch: i64, now: Timestamp) -> Result<bool, StoreError> {
    let Some(id) = found.delivery_id else { return Ok(false) };
    let action = DriftAction::parse(&found.action);
    if !matches!(action, DriftAction::Repair | DriftAction::Withdraw) {
        return Ok(false);
    }
    let row = delivery::table.find(id);
    let (state, held_at): (String, Option<i64>) = row.select((delivery::state, delivery::held_at)).first(tx.db)?;
    if state != "settled" || held_at != found.held_at {
        return Ok(false);
    }
    let destination: i64 = row.select(delivery::destination_id).first(tx.db)?;
    // It waits from now on, so that it need not have a row.
    let waits = (delivery::state.eq("pending"), delivery::due_at.eq(now.0), delivery::tries.eq(0));
    let unknown = delivery::held_fields_digest.eq(None::<Vec<u8>>);
    match DriftClass::parse(&found.class).expect("a CHECK constraint spells the classes") {
        // There is no row of ours: it is looked for by its mark once more, and then made.
        DriftClass::Missing | DriftClass::Unmarked => {
            let nowhere = (delivery::held_person.eq(None::<String>), delivery::held_row.eq(None::<String>));
            diesel::update(row).set((waits, nowhere, unknown)).execute(tx.db)?;
        }
        // It stands under somebody else: from there it moves.
        DriftClass::Moved => {
            let there = (delivery::held_person.eq(&found.person), delivery::held_row.eq(&found.row));
            diesel::update(row).set((waits, there, unknown)).execute(tx.db)?;
        }
        DriftClass::Edited => {
            diesel::update(row).set((waits, unknown)).execute(tx.db)?;
            note_rewrites(tx, id, &found.fields, now)?;
        }
        DriftClass::Gone => {
            diesel::update(row)
                .set((waits, delivery::wanted.eq("absent"), delivery::wanted_at.eq(now.0)))
                .execute(tx.db)?;
        }
        DriftClass::Stale
        | DriftClass::Duplicate
        | DriftClass::Foreign
        | DriftClass::Orphaned
        | DriftClass::Unreadable => return Ok(false),
    }
    super::ledger::becomes_due(tx.db, destination, id, epoch, now)?;
    Ok(true)
}

fn note_rewrites(tx: &mut Tx<'_>, id: i64, fields: &str, now: Timestamp) -> Result<(), StoreError> {
    let scope = super::holding::scope_of(tx.db, id)?;
    let mut state = super::holding::read(tx, &scope, id)?;
    let names: Vec<String> = from_json(fields.as_bytes())?;
    for name in names {
        // What is left as it is was not written again.
        if !state.left.contains_key(&name) {
            state.rewrites(&name, now);
        }
    }
    super::holding::keep(tx, &scope, id, &state)
}

fn under_way(db: &mut SqliteConnection, destination: DestinationId) -> Result<Option<Verify>, StoreError> {
    let found: Option<(i64, i64, String, String, Option<String>)> = run::table
        .filter(run::kind.eq("verify").and(run::destination_id.eq(destination.0)).and(run::finished_at.is_null()))
        .select((run::id, run::started_at, run::state, run::counts, run::cause))
        .first(db)
        .optional()?;
    let Some((id, started_at, state, counts, cause)) = found else { return Ok(None) };
    Ok(Some(Verify {
        id: RunId(id),
        started_at: Timestamp(started_at),
        held: cause.filter(|_| state == "held"),
        progress: from_json(counts.as_bytes())?,
    }))
}

fn end(
    db: &mut SqliteConnection,
    id: RunId,
    state: &str,
    cause: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    diesel::update(run::table.find(id.0))
        .set((run::state.eq(state), run::finished_at.eq(now.0), run::cause.eq(cause)))
        .execute(db)?;
    Ok(())
}

fn keep_progress(db: &mut SqliteConnection, id: RunId, progress: &VerifyProgress) -> Result<(), StoreError> {
    diesel::update(run::table.find(id.0)).set(run::counts.eq(as_text(progress))).execute(db)?;
    Ok(())
}

fn as_text(progress: &VerifyProgress) -> String {
    serde_json::to_string(progress).expect("a progress is plain data")
}

fn forget_listed(db: &mut SqliteConnection, id: RunId) -> Result<usize, StoreError> {
    let some: Vec<(String, String)> = target_row::table
        .filter(target_row::run_id.eq(id.0))
        .order((target_row::object, target_row::row))
        .limit(ROWS_AT_ONCE as i64)
        .select((target_row::object, target_row::row))
        .load(db)?;
    for (object, row) in &some {
        diesel::delete(target_row::table.find((id.0, object, row))).execute(db)?;
    }
    Ok(some.len())
}

/// Findings of runs that nobody asks for any more, and what a run left staged that was overtaken.
fn forget_old(db: &mut SqliteConnection, destination: DestinationId) -> Result<(), StoreError> {
    let runs: Vec<i64> = run::table
        .filter(run::kind.eq("verify").and(run::destination_id.eq(destination.0)))
        .order(run::id.desc())
        .offset(RUNS_KEPT)
        .limit(1)
        .select(run::id)
        .load(db)?;
    for id in runs {
        diesel::delete(
            finding::table.filter(finding::run_id.le(id)).filter(
                finding::run_id.eq_any(run::table.filter(run::destination_id.eq(destination.0)).select(run::id)),
            ),
        )
        .execute(db)?;
    }
    let overtaken = run::table.filter(run::destination_id.eq(destination.0).and(run::state.ne("running")));
    diesel::delete(target_row::table.filter(target_row::run_id.eq_any(overtaken.select(run::id)))).execute(db)?;
    Ok(())
}
