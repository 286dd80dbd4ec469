//! Whole lists for backfill and sweep: all learners, and the enrolments course by course; then of each learner only what no list has.
//!
//! Absorb has no list of all enrolments, only one of each course and one of each user. A course with 2,000 of them is two calls, and the same
//! learner by learner would be 2,000.

use std::collections::BTreeSet;

use async_trait::async_trait;
use learnsync_sdk::{Learner, RecordKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::list::{Page, ROWS_PER_PAGE};
use super::records::{self, Enrolment, Rows};
use super::row::Row;
use super::{Absorb, PAGE_NUMBER_MAX, lists, misunderstood, plain_id, segment};
use crate::domain::record::{ReadRecords, Record};
use crate::lms::{Bulk, BulkPage, BulkPlan, BulkRow, Lms, LmsError, Profile};

/// A learner as they are staged.
#[derive(Serialize, Deserialize)]
struct StagedProfile {
    learner: Learner,
    person: Option<Record>,
}

#[async_trait]
impl Bulk for Absorb {
    async fn plan(&self) -> Result<BulkPlan, LmsError> {
        let rows = self.client.list("courses", "/courses").await?;
        let rows = rows.ok_or_else(|| misunderstood("/courses")("is answered 404".to_owned()))?;
        let mut courses = BTreeSet::new();
        for row in &rows {
            let id = Row::of(row).ok().and_then(|row| row.id(&["id", "courseid"]));
            let id = id.ok_or_else(|| misunderstood("/courses")("a course has no id".to_owned()))?;
            // Whoever is read next names these courses: they need not be asked for one by one.
            self.courses.keep(&id, records::catalogue_course(row).map_err(misunderstood("/courses"))?);
            courses.insert(id);
        }
        Ok(BulkPlan { courses: courses.into_iter().collect(), kinds: self.probe().await?.available })
    }

    async fn learners(&self, number: u32) -> Result<BulkPage, LmsError> {
        let page = self.whole_page("users", "/users", number).await?;
        let rows = page.rows.iter().map(|value| {
            let id = Row::of(value)?.id(&["id"]).ok_or("a user has no id")?;
            let learner = records::learner(&id, value)?;
            let is_wanted = self.kinds.contains(&RecordKind::Person);
            let person = is_wanted.then(|| lists::person(&id, value)).transpose()?;
            let row = serde_json::to_vec(&StagedProfile { learner, person }).expect("a profile is plain data");
            Ok(BulkRow { learner_id: id, row_id: String::new(), achieved: None, row })
        });
        let rows: Result<Vec<BulkRow>, String> = rows.collect();
        Ok(bulk_page(&page, number, rows.map_err(misunderstood("/users"))?))
    }

    async fn enrolments(&self, course: &str, number: u32) -> Result<BulkPage, LmsError> {
        let path = format!("/courses/{}/enrollments", segment(course)?);
        let page = self.whole_page("enrollments", &path, number).await?;
        let mut rows = Vec::new();
        for value in &page.rows {
            let user = Row::of(value).ok().and_then(|row| row.id(&["userid"]));
            let user = user.ok_or_else(|| misunderstood(&path)("an enrollment names no user".to_owned()))?;
            let enrolment = records::enrolment(&user, value).map_err(misunderstood(&path))?;
            // What is not completed is no record; but whoever asks for sessions must know the courses.
            if !enrolment.is_complete() && !self.kinds.contains(&RecordKind::SessionAttendance) {
                continue;
            }
            let row = serde_json::to_vec(&enrolment).expect("an enrolment is plain data");
            let (row_id, achieved) = (enrolment.id().to_owned(), enrolment.completed());
            rows.push(BulkRow { learner_id: user, row_id, achieved, row });
        }
        Ok(bulk_page(&page, number, rows))
    }

    async fn rest_of(
        &self,
        id: &str,
        staged: &[Vec<u8>],
        kinds: &BTreeSet<RecordKind>,
    ) -> Result<Option<(Profile, ReadRecords)>, LmsError> {
        let Some((profile, enrolments)) = staged.split_first() else { return Ok(None) };
        let unreadable = |error: serde_json::Error| LmsError::Misunderstood(format!("what was staged: {error}"));
        let StagedProfile { learner, person } = match serde_json::from_slice(profile) {
            Ok(profile) => profile,
            // Whose enrolments are listed and who is not: a role that sees the course and not the learner.
            Err(_) => return Ok(None),
        };
        let (user, id) = (segment(id)?, plain_id(id));
        let mut rows = Rows::of(&id);
        for enrolment in enrolments {
            rows.enrolments.push(serde_json::from_slice::<Enrolment>(enrolment).map_err(unreadable)?);
        }
        let complete = self.add_awards(&user, &mut rows, |kind| kinds.contains(&kind)).await?;
        if self.kinds.contains(&RecordKind::SessionAttendance) {
            rows.attendances = self.attendances(&user, &id, &rows).await?;
        }
        // Of what was gathered course by course nothing is concluded from absence: a course may be hidden from our role.
        let records = self.with_courses(&rows).await?;
        Ok(Some((Profile { learner, person }, ReadRecords { records, complete })))
    }
}

impl Absorb {
    /// One page of a list that exists, whole.
    async fn whole_page(&self, name: &'static str, path: &str, number: u32) -> Result<Page, LmsError> {
        if number > PAGE_NUMBER_MAX {
            return Err(LmsError::Misunderstood(format!("page {number} of {path}, the limit is {PAGE_NUMBER_MAX}")));
        }
        let page = self.client.page(name, path, number, ROWS_PER_PAGE).await?;
        // A course that was deleted since it was listed has no enrolments.
        let page = page.unwrap_or_else(|| Page {
            rows: Vec::<Value>::new(),
            total: Some(0),
            rows_max: ROWS_PER_PAGE,
            returned: None,
        });
        page.verify_count().map_err(|words| LmsError::PartialRead(format!("GET {path}: {words}")))?;
        Ok(page)
    }
}

fn bulk_page(page: &Page, number: u32, rows: Vec<BulkRow>) -> BulkPage {
    let count = page.rows.len() as u64;
    let before = u64::from(number) * page.rows_max as u64;
    let (more, is_whole) = match page.total {
        Some(total) => {
            let belong = total.saturating_sub(before).min(page.rows_max as u64);
            (before + count < total && count > 0, count == belong)
        }
        None => (page.rows.len() == page.rows_max, true),
    };
    BulkPage { rows, total: page.total, more, is_whole }
}
