//! What a plan is made from: the places of a destination with the facts, as the ledger holds them, person by person.

use std::collections::BTreeMap;

use diesel::prelude::*;
use learnsync_sdk::Learner;

use super::View;
use crate::domain::delivery::DeliveryState;
use crate::domain::drift::Holding;
use crate::domain::ids::{DeliveryId, DestinationId, MappingId, RouteId, SubjectId};
use crate::domain::record::Record;
use crate::domain::time::Timestamp;
use crate::store::queue::from_json;
use crate::store::schema::{
    attempt, delivery, destination, holding, installation, mapping_version, person, record, route,
};
use crate::store::seal::{keyed_plan, person_scope};
use crate::store::topology::{Access, access_of};
use crate::store::{DestinationRows, RouteRows, StoreError};

/// People whose places are read at once.
const PERSONS_AT_ONCE: i64 = 50;

/// Newest writes by which it is told how long one takes.
const WRITES_MEASURED: i64 = 1_000;

/// A place, with what it should hold.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanRow {
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
    /// Whether the LMS shows the fact, and the place should hold it.
    pub is_wanted: bool,
    /// The facts.
    pub record: Record,
    /// Whose they are.
    pub learner: Learner,
    /// Digest of the facts that the place should hold.
    pub wanted: Vec<u8>,
    /// The row.
    pub row: Option<String>,
    /// The person in the target.
    pub person: Option<String>,
    /// Digest of the fields that it is known to hold.
    pub held: Option<Vec<u8>>,
    /// What is remembered of it.
    pub holding: Holding,
}

type Row = (
    i64,
    i64,
    String,
    String,
    String,
    String,
    Vec<u8>,
    (i64, String, Option<Vec<u8>>, Vec<u8>),
    (Option<String>, Option<String>, Option<Vec<u8>>, Option<Vec<u8>>),
);

impl View {
    /// The name of the installation whose ledger this is.
    ///
    /// # Errors
    /// The store failed.
    pub fn installation(&mut self) -> Result<String, StoreError> {
        Ok(installation::table.select(installation::name).first(&mut self.db)?)
    }

    /// A keyed digest over a plan: nobody without the keys can make it.
    #[must_use]
    pub fn plan_seal(&self, digest: &[u8]) -> Vec<u8> {
        keyed_plan(&self.sealer, digest)
    }

    /// The rows of a destination that the ledger knows; none if it knows no such.
    ///
    /// # Errors
    /// The store failed.
    pub fn destination_rows(&mut self, name: &str) -> Result<Option<DestinationRows>, StoreError> {
        let found: Option<(i64, i64)> = destination::table
            .filter(destination::name.eq(name))
            .select((destination::id, destination::first_seen_at))
            .first(&mut self.db)
            .optional()?;
        let Some((id, first_seen_at)) = found else { return Ok(None) };
        let mut routes = BTreeMap::new();
        let rows: Vec<(i64, String)> =
            route::table.filter(route::destination_id.eq(id)).select((route::id, route::name)).load(&mut self.db)?;
        for (route_id, name) in rows {
            let newest: Option<i64> = mapping_version::table
                .filter(mapping_version::route_id.eq(route_id))
                .select(diesel::dsl::max(mapping_version::id))
                .first(&mut self.db)?;
            let mapping = MappingId(newest.unwrap_or(0));
            routes.insert(name, RouteRows { id: RouteId(route_id), mapping });
        }
        Ok(Some(DestinationRows { id: DestinationId(id), first_seen_at: Timestamp(first_seen_at), routes }))
    }

    /// The places of the next people of a destination, in the order in which they would be written; and the last of these people, none when
    /// there are no more.
    ///
    /// # Errors
    /// The store failed, or a person's key is gone.
    pub fn plan_rows(
        &mut self,
        destination_id: DestinationId,
        after: i64,
    ) -> Result<(Vec<PlanRow>, Option<i64>), StoreError> {
        let here = delivery::table.filter(delivery::destination_id.eq(destination_id.0));
        let people: Vec<i64> = person::table
            .filter(person::id.gt(after).and(person::state.ne("erased")))
            .order(person::id)
            .limit(PERSONS_AT_ONCE)
            .select(person::id)
            .load(&mut self.db)?;
        let mut places = Vec::new();
        for person_id in &people {
            let rows: Vec<Row> = here
                .inner_join(record::table)
                .inner_join(route::table)
                .inner_join(person::table.on(person::id.eq(delivery::person_id)))
                .left_join(holding::table)
                .filter(delivery::person_id.eq(person_id))
                .order((record::achieved_on, delivery::id))
                .select((
                    delivery::id,
                    delivery::route_id,
                    delivery::slot,
                    delivery::state,
                    delivery::wanted,
                    route::mode,
                    delivery::wanted_fingerprint,
                    (person::subject_id, record::state, person::profile, record::facts),
                    (
                        delivery::held_row,
                        delivery::held_person,
                        delivery::held_fields_digest,
                        holding::state.nullable(),
                    ),
                ))
                .load(&mut self.db)?;
            for row in rows {
                places.extend(self.plan_row(row)?);
            }
        }
        Ok((places, people.last().copied()))
    }

    fn plan_row(&mut self, row: Row) -> Result<Option<PlanRow>, StoreError> {
        let (id, route_id, slot, state, wanted, mode, fingerprint, of_person, held) = row;
        let (subject, record_state, profile, facts) = of_person;
        let (row, person, digest, remembered) = held;
        let scope = person_scope(SubjectId(subject));
        let Some(profile) = profile else { return Ok(None) };
        let learner: Learner = from_json(&self.sealer.open_sealed(&scope, &profile)?)?;
        let record: Record = from_json(&self.sealer.open_sealed(&scope, &facts)?)?;
        let holding = match remembered {
            Some(sealed) => from_json(&self.sealer.open_sealed(&scope, &sealed)?)?,
            None => Holding::default(),
        };
        Ok(Some(PlanRow {
            delivery: DeliveryId(id),
            route: RouteId(route_id),
            slot,
            state: DeliveryState::parse(&state).expect("a CHECK constraint spells the states"),
            is_told: mode == "append",
            is_wanted: wanted == "present" && record_state == "present",
            record,
            learner,
            wanted: fingerprint,
            row,
            person,
            held: digest,
            holding,
        }))
    }

    /// Why nobody may ask a destination anything now, and until when; none when one may.
    ///
    /// # Errors
    /// The store failed.
    pub fn pause_of(
        &mut self,
        destination_id: DestinationId,
        now: Timestamp,
    ) -> Result<Option<(String, Option<Timestamp>)>, StoreError> {
        Ok(match access_of(&mut self.db, destination_id)? {
            Access::Paused { cause, until } if until.is_none_or(|until| until > now) => Some((cause, until)),
            Access::Paused { .. } | Access::Open | Access::Retired => None,
        })
    }

    /// How long the newest writes to a destination took on average, in milliseconds; none where nothing was written.
    ///
    /// # Errors
    /// The store failed.
    pub fn write_ms(&mut self, destination_id: DestinationId) -> Result<Option<f64>, StoreError> {
        let times: Vec<(i64, i64)> = attempt::table
            .inner_join(delivery::table.on(delivery::id.eq(attempt::delivery_id)))
            .filter(delivery::destination_id.eq(destination_id.0).and(attempt::outcome.eq("taken")))
            .order(attempt::id.desc())
            .limit(WRITES_MEASURED)
            .select((attempt::started_at, attempt::finished_at))
            .load(&mut self.db)?;
        let sum: i64 = times.iter().map(|(began, ended)| ended - began).sum();
        Ok((!times.is_empty()).then(|| sum as f64 / times.len() as f64))
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::time::Timestamp;
    use crate::store::tests::Ledger;

    #[tokio::test]
    async fn a_pause_holds_to_its_end_and_one_by_an_operator_until_a_person_ends_it() {
        let ledger = Ledger::new().await;
        let hr = ledger.hr.id;
        let (now, until) = (Timestamp(ledger.clock_ms()), Timestamp(ledger.clock_ms() + 60_000));
        let pause_at = |at| ledger.view().pause_of(hr, at).expect("reads");
        assert_eq!(pause_at(now), None);
        ledger.store.pause_destination(hr, "throttled", Some(until)).await.expect("pauses");
        assert_eq!(pause_at(now), Some(("throttled".to_owned(), Some(until))));
        assert_eq!(pause_at(until), None, "it is over");
        // The time that the target asked for is kept beside it, and does not end it.
        ledger.store.pause_by_operator(hr, "an upgrade").await.expect("pauses");
        assert_eq!(pause_at(until), Some(("operator".to_owned(), None)));
    }
}
