//! Looking through the ledger row by row: deliveries, events, links and destinations, each with what narrows it down.

use diesel::prelude::*;
use learnsync_sdk::Learner;
use serde::Serialize;

use super::{DeliveryView, View};
use crate::domain::delivery::OPERATOR;
use crate::domain::ids::SubjectId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::queue::from_json;
use crate::store::schema::{
    attempt, delivery, destination, event, intake, link, person, portal, reading, record, route, subject,
};
use crate::store::seal::person_scope;

/// Most rows of a list.
pub const ROWS_MAX: u32 = 10_000;

/// Which deliveries.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Of this destination.
    pub destination: Option<String>,
    /// In this state.
    pub state: Option<String>,
    /// For this cause: a whole word, or the part before its first colon.
    pub cause: Option<String>,
    /// Of these people.
    pub people: Option<Vec<Person>>,
}

/// A person whom the ledger knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Their row.
    #[serde(skip)]
    pub id: i64,
    /// The portal.
    pub portal: String,
    /// The LMS's id.
    pub learner: String,
    /// First and last name; none when the person was erased.
    pub name: Option<String>,
}

/// Deliveries, newest first.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryList {
    /// How many fit, shown or not.
    pub total: i64,
    /// The newest of them.
    pub deliveries: Vec<DeliveryLine>,
}

/// One delivery in a list.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryLine {
    /// Its number.
    pub id: i64,
    /// The destination.
    pub destination: String,
    /// The route.
    pub route: String,
    /// The record's key.
    pub record: String,
    /// The learner's LMS id.
    pub learner: String,
    /// First and last name; none when the person was erased.
    pub name: Option<String>,
    /// Where it stands.
    pub state: String,
    /// Why it is not settled.
    pub cause: Option<String>,
    /// When it is tried next.
    pub due_at: Option<Timestamp>,
    /// Since when this is wanted.
    pub wanted_at: Timestamp,
    /// Attempts ever made.
    pub attempts: i64,
}

/// One delivery with all that the ledger knows of it.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryDetail {
    /// Its number.
    pub id: i64,
    /// The learner's LMS id.
    pub learner: String,
    /// The record's key.
    pub record: String,
    /// As `explain --json` shows it.
    pub delivery: DeliveryView,
}

/// Deliveries that are parked for one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParkedCause {
    /// The destination.
    pub destination: String,
    /// The cause's whole word.
    pub cause: String,
    /// How many.
    pub deliveries: i64,
}

/// Events, newest first.
#[derive(Clone, Debug, Serialize)]
pub struct EventList {
    /// How many the log holds.
    pub total: i64,
    /// The newest of them.
    pub events: Vec<EventLine>,
}

/// One event in a list.
#[derive(Clone, Debug, Serialize)]
pub struct EventLine {
    /// Its number in the log.
    pub id: i64,
    /// When it came.
    pub received_at: Timestamp,
    /// The portal whose secret URL was called.
    pub portal: String,
    /// Whether intake has read it.
    pub is_taken: bool,
    /// What intake read from it.
    pub readings: Vec<ReadingLine>,
}

/// What intake read from an event; one event may hold several.
#[derive(Clone, Debug, Serialize)]
pub struct ReadingLine {
    /// What it says.
    pub name: String,
    /// The learner whom it names, by LMS id.
    pub learner: Option<String>,
    /// What became of it: `marked`, `duplicate`, `test`, `no_subject`, `unknown`, `not_a_learner`.
    pub disposition: String,
    /// What is odd about it.
    pub oddity: Option<String>,
}

/// One event as it was received.
#[derive(Clone, Debug, Serialize)]
pub struct EventDetail {
    /// As in the list.
    pub event: EventLine,
    /// `POST` or `PUT`.
    pub method: String,
    /// The `Content-Type` header as sent; empty when there was none.
    pub content_type: String,
    /// The body as text; bytes that are no UTF-8 are replaced.
    pub body: String,
}

/// Links, by destination and learner.
#[derive(Clone, Debug, Serialize)]
pub struct LinkList {
    /// How many fit, shown or not.
    pub total: i64,
    /// The first of them.
    pub links: Vec<LinkLine>,
}

/// Who a learner is in a destination.
#[derive(Clone, Debug, Serialize)]
pub struct LinkLine {
    /// The destination.
    pub destination: String,
    /// The learner's LMS id.
    pub learner: String,
    /// First and last name; none when the person was erased.
    pub name: Option<String>,
    /// `linked`, `unmatched` or `ambiguous`.
    pub state: String,
    /// The person's id there.
    pub person: Option<String>,
    /// The rule by which we know.
    pub rule: Option<String>,
    /// Whether a person said it.
    pub is_pinned: bool,
    /// The people among whom the target could not tell.
    pub candidates: Vec<String>,
    /// When it was looked up.
    pub checked_at: Timestamp,
}

/// One destination of the ledger.
#[derive(Clone, Debug, Serialize)]
pub struct DestinationLine {
    /// Its name.
    pub name: String,
    /// Its connector.
    pub connector: String,
    /// `active`, `paused` or `retired`.
    pub state: String,
    /// Why it is paused.
    pub pause_cause: Option<String>,
    /// Why, in the words of the operator who paused it.
    pub pause_reason: Option<String>,
    /// Until when.
    pub paused_until: Option<Timestamp>,
    /// The account behind the credentials, as it named itself at the first probe.
    pub account: Option<String>,
    /// Its routes.
    pub routes: Vec<String>,
    /// Deliveries, in all states.
    pub deliveries: i64,
    /// Attempts at them.
    pub attempts: i64,
}

impl View {
    /// The people whom a text names: an LMS id, an external id, an e-mail address, or a full name. At most `LEARNERS_SHOWN_MAX`.
    ///
    /// # Errors
    /// The store failed.
    pub fn people_named(&mut self, text: &str) -> Result<Vec<Person>, StoreError> {
        let folded = text.trim().to_lowercase();
        let index = |purpose: &str| self.sealer.blind(purpose, folded.as_bytes());
        let rows: Vec<(i64, String, String, i64, Option<Vec<u8>>)> = person::table
            .inner_join(subject::table)
            .inner_join(portal::table.on(portal::id.eq(person::portal_id)))
            .filter(
                subject::lms_id
                    .eq(&folded)
                    .or(person::external_id_index.eq(index("external_id")).assume_not_null())
                    .or(person::email_index.eq(index("email")).assume_not_null())
                    .or(person::name_index.eq(index("name")).assume_not_null()),
            )
            .order(person::id)
            .limit(i64::try_from(super::learner::LEARNERS_SHOWN_MAX).unwrap_or(i64::MAX))
            .select((person::id, portal::name, subject::lms_id, person::subject_id, person::profile))
            .load(&mut self.db)?;
        rows.into_iter()
            .map(|(id, portal, learner, subject, profile)| {
                Ok(Person { id, portal, learner, name: self.name_in(subject, profile)? })
            })
            .collect()
    }

    /// The newest deliveries that fit, at most `ROWS_MAX`.
    ///
    /// # Errors
    /// The store failed.
    pub fn list_deliveries(&mut self, filter: &DeliveryFilter, rows_max: u32) -> Result<DeliveryList, StoreError> {
        type Place = (i64, String, String, String, String, i64, Option<Vec<u8>>);
        type Standing = (String, Option<String>, Option<i64>, i64, i64);
        let fitting = || {
            let mut fitting = delivery::table
                .inner_join(route::table)
                .inner_join(destination::table.on(destination::id.eq(delivery::destination_id)))
                .inner_join(person::table.inner_join(subject::table))
                .inner_join(record::table)
                .into_boxed();
            if let Some(name) = &filter.destination {
                fitting = fitting.filter(destination::name.eq(name.clone()));
            }
            if let Some(state) = &filter.state {
                fitting = fitting.filter(delivery::state.eq(state.clone()));
            }
            if let Some(cause) = &filter.cause {
                fitting = fitting.filter(
                    delivery::cause
                        .eq(cause.clone())
                        .or(delivery::cause.like(kind_pattern(cause)).escape('\\'))
                        .assume_not_null(),
                );
            }
            if let Some(people) = &filter.people {
                fitting =
                    fitting.filter(delivery::person_id.eq_any(people.iter().map(|one| one.id).collect::<Vec<_>>()));
            }
            fitting
        };
        let total = fitting().count().get_result(&mut self.db)?;
        let rows: Vec<(Place, Standing)> = fitting()
            .order(delivery::id.desc())
            .limit(i64::from(rows_max.min(ROWS_MAX)))
            .select((
                (
                    delivery::id,
                    destination::name,
                    route::name,
                    record::key,
                    subject::lms_id,
                    person::subject_id,
                    person::profile,
                ),
                (delivery::state, delivery::cause, delivery::due_at, delivery::wanted_at, delivery::attempts),
            ))
            .load(&mut self.db)?;
        let mut deliveries = Vec::with_capacity(rows.len());
        for ((id, destination, route, record, learner, subject, profile), standing) in rows {
            let (state, cause, due_at, wanted_at, attempts) = standing;
            deliveries.push(DeliveryLine {
                id,
                destination,
                route,
                record,
                learner,
                name: self.name_in(subject, profile)?,
                state,
                cause,
                due_at: due_at.map(Timestamp),
                wanted_at: Timestamp(wanted_at),
                attempts,
            });
        }
        Ok(DeliveryList { total, deliveries })
    }

    /// One delivery; none when there is no such number.
    ///
    /// # Errors
    /// The store failed.
    pub fn show_delivery(&mut self, id: i64) -> Result<Option<DeliveryDetail>, StoreError> {
        let found: Option<(i64, String, String)> = delivery::table
            .inner_join(person::table.inner_join(subject::table))
            .inner_join(record::table)
            .filter(delivery::id.eq(id))
            .select((person::subject_id, subject::lms_id, record::key))
            .first(&mut self.db)
            .optional()?;
        let Some((subject, learner, record)) = found else { return Ok(None) };
        Ok(Some(DeliveryDetail { id, learner, record, delivery: self.delivery(id, SubjectId(subject))? }))
    }

    /// What is parked, by destination and cause.
    ///
    /// # Errors
    /// The store failed.
    pub fn parked_causes(&mut self) -> Result<Vec<ParkedCause>, StoreError> {
        let destinations: Vec<(i64, String)> = destination::table
            .order(destination::name)
            .select((destination::id, destination::name))
            .load(&mut self.db)?;
        let mut parked = Vec::new();
        for (id, name) in destinations {
            let causes: Vec<(String, i64)> = delivery::table
                .filter(delivery::destination_id.eq(id).and(delivery::state.eq("parked")))
                .group_by(delivery::cause)
                .order(delivery::cause)
                .select((delivery::cause.assume_not_null(), diesel::dsl::count_star()))
                .load(&mut self.db)?;
            parked.extend(causes.into_iter().map(|(cause, deliveries)| ParkedCause {
                destination: name.clone(),
                cause,
                deliveries,
            }));
        }
        Ok(parked)
    }

    /// Every cause that any delivery has, by its whole word.
    ///
    /// # Errors
    /// The store failed.
    pub fn causes(&mut self) -> Result<Vec<String>, StoreError> {
        Ok(delivery::table
            .filter(delivery::cause.is_not_null())
            .select(delivery::cause.assume_not_null())
            .distinct()
            .order(delivery::cause)
            .load(&mut self.db)?)
    }

    /// The newest events, at most `ROWS_MAX`; all, or only those in which something was odd: no event that we know, no learner.
    ///
    /// # Errors
    /// The store failed.
    pub fn list_events(&mut self, only_odd: bool, rows_max: u32) -> Result<EventList, StoreError> {
        let is_odd = || {
            let of_event = reading::table.filter(reading::event_id.eq(event::id));
            diesel::dsl::exists(of_event.filter(reading::oddity.is_not_null()))
        };
        let mut counted = event::table.count().into_boxed();
        let mut listed = event::table
            .inner_join(portal::table)
            .order(event::id.desc())
            .limit(i64::from(rows_max.min(ROWS_MAX)))
            .select((event::id, event::received_at, portal::name))
            .into_boxed();
        if only_odd {
            counted = counted.filter(is_odd());
            listed = listed.filter(is_odd());
        }
        let total = counted.get_result(&mut self.db)?;
        let rows: Vec<(i64, i64, String)> = listed.load(&mut self.db)?;
        let events = rows.into_iter().map(|row| self.event_line(row)).collect::<Result<_, _>>()?;
        Ok(EventList { total, events })
    }

    /// One event; none when the log has no such number.
    ///
    /// # Errors
    /// The store failed, or its day's key is gone.
    pub fn show_event(&mut self, id: i64) -> Result<Option<EventDetail>, StoreError> {
        let found: Option<((i64, i64, String), String, String, Vec<u8>, i64)> = event::table
            .inner_join(portal::table)
            .filter(event::id.eq(id))
            .select((
                (event::id, event::received_at, portal::name),
                event::method,
                event::content_type,
                event::body,
                event::day,
            ))
            .first(&mut self.db)
            .optional()?;
        let Some((row, method, content_type, body, day)) = found else { return Ok(None) };
        let body = self.sealer.open_sealed(&format!("day/{day}"), &body)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Some(EventDetail { event: self.event_line(row)?, method, content_type, body }))
    }

    fn event_line(&mut self, (id, received_at, portal): (i64, i64, String)) -> Result<EventLine, StoreError> {
        let taken: i64 = intake::table.select(intake::last_event_id).first(&mut self.db)?;
        let rows: Vec<(String, Option<String>, String, Option<String>)> = reading::table
            .left_join(subject::table.on(subject::id.nullable().eq(reading::subject_id)))
            .filter(reading::event_id.eq(id))
            .order(reading::position)
            .select((reading::name, subject::lms_id.nullable(), reading::disposition, reading::oddity))
            .load(&mut self.db)?;
        let readings = rows
            .into_iter()
            .map(|(name, learner, disposition, oddity)| ReadingLine { name, learner, disposition, oddity })
            .collect();
        Ok(EventLine { id, received_at: Timestamp(received_at), portal, is_taken: id <= taken, readings })
    }

    /// The links that fit, at most `ROWS_MAX`.
    ///
    /// # Errors
    /// The store failed.
    pub fn list_links(
        &mut self,
        of_destination: Option<&str>,
        in_state: Option<&str>,
        rows_max: u32,
    ) -> Result<LinkList, StoreError> {
        type Who = (String, String, i64, Option<Vec<u8>>);
        type Found = (String, Option<String>, Option<String>, i64, Option<String>, i64);
        let fitting = || {
            let mut fitting = link::table
                .inner_join(destination::table.on(destination::id.eq(link::destination_id)))
                .inner_join(person::table.on(person::id.eq(link::person_id)))
                .inner_join(subject::table.on(subject::id.eq(person::subject_id)))
                .into_boxed();
            if let Some(name) = of_destination {
                fitting = fitting.filter(destination::name.eq(name.to_owned()));
            }
            if let Some(state) = in_state {
                fitting = fitting.filter(link::state.eq(state.to_owned()));
            }
            fitting
        };
        let total = fitting().count().get_result(&mut self.db)?;
        let rows: Vec<(Who, Found)> = fitting()
            .order((destination::name, link::person_id))
            .limit(i64::from(rows_max.min(ROWS_MAX)))
            .select((
                (destination::name, subject::lms_id, person::subject_id, person::profile),
                (link::state, link::remote_person, link::rule, link::is_pinned, link::candidates, link::checked_at),
            ))
            .load(&mut self.db)?;
        let mut links = Vec::with_capacity(rows.len());
        for ((destination, learner, subject, profile), found) in rows {
            let (state, person, rule, is_pinned, candidates, checked_at) = found;
            links.push(LinkLine {
                destination,
                learner,
                name: self.name_in(subject, profile)?,
                state,
                person,
                rule,
                is_pinned: is_pinned == 1,
                candidates: candidates.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
                checked_at: Timestamp(checked_at),
            });
        }
        Ok(LinkList { total, links })
    }

    /// All destinations of the ledger, retired ones too, by name.
    ///
    /// # Errors
    /// The store failed.
    pub fn list_destinations(&mut self) -> Result<Vec<DestinationLine>, StoreError> {
        type Row = (i64, String, String, String, Option<String>, Option<String>, Option<i64>, Option<String>);
        let rows: Vec<Row> = destination::table
            .order(destination::name)
            .select((
                destination::id,
                destination::name,
                destination::connector,
                destination::state,
                destination::pause_cause,
                destination::pause_reason,
                destination::paused_until,
                destination::account,
            ))
            .load(&mut self.db)?;
        let db = &mut self.db;
        rows.into_iter()
            .map(|(id, name, connector, state, pause_cause, pause_reason, paused_until, account)| {
                // What an operator said of an earlier pause tells nothing of this one.
                let pause_reason = pause_reason.filter(|_| pause_cause.as_deref() == Some(OPERATOR));
                let here = delivery::table.filter(delivery::destination_id.eq(id));
                Ok(DestinationLine {
                    name,
                    connector,
                    state,
                    pause_cause,
                    pause_reason,
                    paused_until: paused_until.map(Timestamp),
                    account,
                    routes: route::table
                        .filter(route::destination_id.eq(id))
                        .order(route::name)
                        .select(route::name)
                        .load(db)?,
                    deliveries: here.count().get_result(db)?,
                    attempts: attempt::table
                        .filter(attempt::delivery_id.eq_any(here.select(delivery::id)))
                        .count()
                        .get_result(db)?,
                })
            })
            .collect()
    }

    /// Recomputes the whole chain of attempts; answers how many there are, or the first that does not fit.
    ///
    /// # Errors
    /// The store failed.
    pub fn verify_chain(&mut self) -> Result<Result<usize, i64>, StoreError> {
        crate::store::ledger::verify(&mut self.db)
    }

    fn name_in(&mut self, subject: i64, profile: Option<Vec<u8>>) -> Result<Option<String>, StoreError> {
        let Some(sealed) = profile else { return Ok(None) };
        let learner: Learner = from_json(&self.sealer.open_sealed(&person_scope(SubjectId(subject)), &sealed)?)?;
        let words: Vec<&str> =
            [&learner.first_name, &learner.last_name].into_iter().flatten().map(|word| word.trim()).collect();
        Ok(Some(words.join(" ")))
    }
}

/// SQL's pattern for all causes of a kind: what stands before the colon may itself hold SQL's wildcards.
fn kind_pattern(kind: &str) -> String {
    let escaped = kind.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("{escaped}:%")
}

#[cfg(test)]
mod tests;
