//! What the metrics page says of the ledger: only what an index answers, because it is asked every few seconds.

use std::collections::BTreeMap;

use diesel::prelude::*;

use super::StoreError;
use super::schema::{delivery, delivery_queue, destination, event, intake, portal, run};
use super::view::View;
use crate::domain::delivery::Cause;
use crate::domain::health::HealthDay;
use crate::domain::rhythm::Hour;
use crate::domain::time::Timestamp;

/// What the ledger says now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerGauges {
    /// Events that intake has not taken yet.
    pub events_waiting: u64,
    /// The destinations that are not retired.
    pub destinations: Vec<DestinationLoad>,
    /// When the newest finished sweep of each portal began.
    pub sweeps: Vec<(String, Timestamp)>,
    /// When the login by OAuth of each portal that has one ends.
    pub logins: Vec<(String, Timestamp)>,
    /// What is known of each portal's webhooks.
    pub webhooks: Vec<WebhookLoad>,
}

/// What is known of a portal's webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookLoad {
    /// The portal's name.
    pub portal: String,
    /// What they announced, and what not, by day and kind.
    pub days: Vec<HealthDay>,
    /// In which hours they came.
    pub hours: Vec<Hour>,
    /// When the last one came.
    pub last_at: Option<Timestamp>,
}

/// What one destination has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationLoad {
    /// Its name.
    pub name: String,
    /// Whether it is paused.
    pub is_paused: bool,
    /// Deliveries in the queue, by state; the usual states also when there are none.
    pub waiting: BTreeMap<String, u64>,
    /// Deliveries that are set aside, by the first part of their cause: what stands behind it names courses and fields.
    pub causes: BTreeMap<String, u64>,
}

impl View {
    /// What the ledger says now. Costs a look at each waiting and each set aside delivery, and none at what is settled.
    ///
    /// # Errors
    /// The store failed.
    pub fn gauges(&mut self) -> Result<LedgerGauges, StoreError> {
        let taken: i64 = intake::table.select(intake::last_event_id).first(&mut self.db)?;
        let newest: Option<i64> = event::table.select(diesel::dsl::max(event::id)).first(&mut self.db)?;
        let sweeps: Vec<(String, Option<i64>)> = run::table
            .inner_join(portal::table)
            .filter(super::staging::reads_everybody())
            .filter(run::state.eq("done"))
            .group_by(portal::name)
            .select((portal::name, diesel::dsl::max(run::started_at)))
            .load(&mut self.db)?;
        let rows: Vec<(i64, String, String)> = destination::table
            .filter(destination::state.ne("retired"))
            .order(destination::name)
            .select((destination::id, destination::name, destination::state))
            .load(&mut self.db)?;
        let destinations = rows
            .into_iter()
            .map(|(id, name, state)| {
                let (waiting, causes) = (self.waiting(id)?, self.causes_at(id)?);
                Ok(DestinationLoad { name, is_paused: state == "paused", waiting, causes })
            })
            .collect::<Result<_, StoreError>>()?;
        let logins: Vec<(String, Option<i64>)> = portal::table
            .filter(portal::grant_ends_at.is_not_null())
            .order(portal::name)
            .select((portal::name, portal::grant_ends_at))
            .load(&mut self.db)?;
        let portals: Vec<(i64, String)> =
            portal::table.order(portal::name).select((portal::id, portal::name)).load(&mut self.db)?;
        let webhooks = portals
            .into_iter()
            .map(|(id, portal)| {
                let (hours, last_at) = super::health::hours(&mut self.db, id)?;
                Ok(WebhookLoad { portal, days: super::health::days(&mut self.db, id)?, hours, last_at })
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(LedgerGauges {
            webhooks,
            events_waiting: count(newest.unwrap_or(0) - taken),
            destinations,
            sweeps: sweeps.into_iter().filter_map(|(name, at)| Some((name, Timestamp(at?)))).collect(),
            logins: logins.into_iter().filter_map(|(name, at)| Some((name, Timestamp(at?)))).collect(),
        })
    }

    fn waiting(&mut self, destination: i64) -> Result<BTreeMap<String, u64>, StoreError> {
        let rows: Vec<(String, i64)> = delivery_queue::table
            .inner_join(delivery::table.on(delivery::id.eq(delivery_queue::delivery_id)))
            .filter(delivery_queue::destination_id.eq(destination))
            .group_by(delivery::state)
            .select((delivery::state, diesel::dsl::count_star()))
            .load(&mut self.db)?;
        let mut waiting = BTreeMap::from([("pending".to_owned(), 0), ("uncertain".to_owned(), 0)]);
        waiting.extend(rows.into_iter().map(|(state, rows)| (state, count(rows))));
        Ok(waiting)
    }

    fn causes_at(&mut self, destination: i64) -> Result<BTreeMap<String, u64>, StoreError> {
        let rows: Vec<(String, i64)> = delivery::table
            .filter(delivery::destination_id.eq(destination).and(delivery::cause.is_not_null()))
            .group_by(delivery::cause)
            .select((delivery::cause.assume_not_null(), diesel::dsl::count_star()))
            .load(&mut self.db)?;
        let mut causes = BTreeMap::new();
        for (cause, rows) in rows {
            *causes.entry(Cause::kind_of(&cause).to_owned()).or_insert(0) += count(rows);
        }
        Ok(causes)
    }
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}
