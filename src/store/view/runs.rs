//! Looking at reconciliation runs: what each counted, and what a verify found.

use std::collections::BTreeMap;

use diesel::prelude::*;
use serde::Serialize;

use super::View;
use crate::domain::time::Timestamp;
use crate::store::queue::from_json;
use crate::store::schema::{delivery, destination, finding, person, portal, run, subject};
use crate::store::{StoreError, VerifyCounts, VerifyPhase, VerifyProgress};

/// Runs, newest first.
#[derive(Clone, Debug, Serialize)]
pub struct RunList {
    /// How many there are, shown or not.
    pub total: i64,
    /// The newest of them.
    pub runs: Vec<RunLine>,
}

/// One run in a list.
#[derive(Clone, Debug, Serialize)]
pub struct RunLine {
    /// Its number.
    pub id: i64,
    /// `sweep`, `backfill`, `verify` or `apply`.
    pub kind: String,
    /// The portal that it reads, or the destination.
    pub of: String,
    /// `running`, `held`, `paused`, `done` or `failed`.
    pub state: String,
    /// Why it is held, or failed.
    pub cause: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What a verify does at present.
    pub phase: Option<VerifyPhase>,
    /// What a verify counted.
    pub verify: Option<VerifyCounts>,
    /// What another run counted, as the store keeps it.
    pub counts: Option<serde_json::Value>,
}

/// One run with what it found.
#[derive(Clone, Debug, Serialize)]
pub struct RunDetail {
    /// The run.
    pub run: RunLine,
    /// How many findings there are, shown or not.
    pub total: i64,
    /// The first of them, in the order in which they were found.
    pub findings: Vec<FindingLine>,
}

/// One finding.
#[derive(Clone, Debug, Serialize)]
pub struct FindingLine {
    /// How the place differs.
    pub class: String,
    /// What follows: `repair`, `report`, `adopt`, `withdraw`, or `none`.
    pub action: String,
    /// The delivery, if it is one's place.
    pub delivery: Option<i64>,
    /// Where that stands now.
    pub state: Option<String>,
    /// The record's key or slot.
    pub record: Option<String>,
    /// The learner's LMS id.
    pub learner: Option<String>,
    /// The target object.
    pub object: String,
    /// The row's id in the target.
    pub row: Option<String>,
    /// The person's id in the target.
    pub person: Option<String>,
    /// The mark of a row that is no delivery's.
    pub mark: Option<String>,
    /// The fields that differ, by their names in the target.
    pub fields: Vec<String>,
}

type RunRow = (i64, String, Option<String>, Option<String>, String, Option<String>, i64, Option<i64>, String);

impl View {
    /// Runs, newest first; of one destination or portal, or of all.
    ///
    /// # Errors
    /// The store failed.
    pub fn list_runs(&mut self, of: Option<&str>, limit: u32) -> Result<RunList, StoreError> {
        let total = match of {
            None => run::table.count().get_result(&mut self.db)?,
            Some(name) => run::table
                .left_join(portal::table.on(portal::id.nullable().eq(run::portal_id)))
                .left_join(destination::table.on(destination::id.nullable().eq(run::destination_id)))
                .filter(portal::name.nullable().eq(name).or(destination::name.nullable().eq(name)))
                .count()
                .get_result(&mut self.db)?,
        };
        Ok(RunList { total, runs: self.runs_where(None, of, limit)? })
    }

    /// One run, with its first findings; none if there is no such run.
    ///
    /// # Errors
    /// The store failed.
    pub fn show_run(&mut self, id: i64, limit: u32) -> Result<Option<RunDetail>, StoreError> {
        let Some(run) = self.runs_where(Some(id), None, 1)?.pop() else { return Ok(None) };
        type Row = (
            String,
            String,
            Option<i64>,
            Option<String>,
            Option<String>,
            Option<String>,
            String,
            Option<String>,
            Option<String>,
            Option<String>,
            String,
        );
        let rows: Vec<Row> = finding::table
            .left_join(delivery::table)
            .left_join(person::table.on(person::id.nullable().eq(delivery::person_id.nullable())))
            .left_join(subject::table.on(subject::id.nullable().eq(person::subject_id.nullable())))
            .filter(finding::run_id.eq(id))
            .order(finding::id)
            .limit(limit.into())
            .select((
                finding::class,
                finding::action,
                finding::delivery_id,
                delivery::state.nullable(),
                delivery::slot.nullable(),
                subject::lms_id.nullable(),
                finding::object,
                finding::row,
                finding::person,
                finding::mark,
                finding::fields,
            ))
            .load(&mut self.db)?;
        let total = finding::table.filter(finding::run_id.eq(id)).count().get_result(&mut self.db)?;
        let findings = rows
            .into_iter()
            .map(|(class, action, delivery, state, record, learner, object, row, person, mark, fields)| {
                let fields = from_json(fields.as_bytes())?;
                Ok(FindingLine { class, action, delivery, state, record, learner, object, row, person, mark, fields })
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Some(RunDetail { run, total, findings }))
    }

    /// The newest verify of each destination that ended, or that its guard holds.
    pub(super) fn newest_verifies(&mut self) -> Result<BTreeMap<i64, RunLine>, StoreError> {
        let newest: Vec<(Option<i64>, Option<i64>)> = run::table
            .filter(run::kind.eq("verify").and(run::state.ne("running")))
            .group_by(run::destination_id)
            .select((run::destination_id, diesel::dsl::max(run::id)))
            .load(&mut self.db)?;
        let mut found = BTreeMap::new();
        for (destination_id, id) in newest {
            let (Some(destination_id), Some(id)) = (destination_id, id) else { continue };
            found.extend(self.runs_where(Some(id), None, 1)?.pop().map(|line| (destination_id, line)));
        }
        Ok(found)
    }

    fn runs_where(&mut self, id: Option<i64>, of: Option<&str>, limit: u32) -> Result<Vec<RunLine>, StoreError> {
        let mut runs = run::table
            .left_join(portal::table.on(portal::id.nullable().eq(run::portal_id)))
            .left_join(destination::table.on(destination::id.nullable().eq(run::destination_id)))
            .order(run::id.desc())
            .limit(limit.into())
            .select((
                run::id,
                run::kind,
                portal::name.nullable(),
                destination::name.nullable(),
                run::state,
                run::cause,
                run::started_at,
                run::finished_at,
                run::counts,
            ))
            .into_boxed();
        if let Some(id) = id {
            runs = runs.filter(run::id.eq(id));
        }
        if let Some(name) = of {
            runs = runs.filter(portal::name.nullable().eq(name).or(destination::name.nullable().eq(name)));
        }
        let rows: Vec<RunRow> = runs.load(&mut self.db)?;
        rows.into_iter().map(line).collect()
    }
}

fn line(row: RunRow) -> Result<RunLine, StoreError> {
    let (id, kind, portal, destination, state, cause, started_at, finished_at, counts) = row;
    let (mut phase, mut verify, mut others) = (None, None, None);
    if kind == "verify" {
        let progress: VerifyProgress = from_json(counts.as_bytes())?;
        (phase, verify) = (finished_at.is_none().then_some(progress.phase), Some(progress.counts));
    } else {
        others = Some(from_json(counts.as_bytes())?);
    }
    Ok(RunLine {
        id,
        kind,
        of: portal.or(destination).unwrap_or_default(),
        state,
        cause,
        started_at: Timestamp(started_at),
        finished_at: finished_at.map(Timestamp),
        phase,
        verify,
        counts: others,
    })
}
