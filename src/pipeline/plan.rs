//! Planning: records x routes x deliveries -> changes of what is wanted. Pure.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use learnsync_sdk::{RecordKind, RouteMode, SlotRule};

use super::telling::Telling;
use crate::config::History;
use crate::domain::delivery::{Cause, DeliveryState, KnownDelivery, KnownRecord, PersonFacts, WantedChange};
use crate::domain::ids::{DestinationId, RouteId};
use crate::domain::record::Record;
use crate::domain::time::{LmsTime, Timestamp};

/// What planning needs to know of a route.
#[derive(Clone, Debug)]
pub struct PlannedRoute {
    /// The destination.
    pub destination: DestinationId,
    /// The route.
    pub route: RouteId,
    /// The records that it takes.
    pub record: RecordKind,
    /// Whether its mapping says how a record stands, so that it is written again at a midnight.
    pub says_standing: bool,
    /// State or append.
    pub mode: RouteMode,
    /// Which records share one place.
    pub slot: SlotRule,
    /// Which facts of before the first start are delivered.
    pub history: History,
    /// When the destination was first configured.
    pub first_seen_at: Timestamp,
    /// The zone in which an instant becomes a date.
    pub zone: Tz,
    /// What is too old to be told, by a route that only appends.
    pub telling: Telling,
}

/// All routes of all destinations.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The routes.
    pub routes: Vec<PlannedRoute>,
}

impl Plan {
    /// What changes for one person.
    ///
    /// Wanted changes only when the facts did: a new mapping never rewrites history, and what is settled stays settled.
    #[must_use]
    pub fn changes(&self, facts: &PersonFacts) -> Vec<WantedChange> {
        let mut changes = Vec::new();
        for route in &self.routes {
            for (slot, known) in holders(route, facts) {
                let delivery = delivery_of(route, facts, &slot);
                changes.extend(change(route, known, slot, delivery, facts.now));
            }
        }
        changes
    }
}

fn delivery_of<'a>(route: &PlannedRoute, facts: &'a PersonFacts, slot: &str) -> Option<&'a KnownDelivery> {
    facts.deliveries.iter().find(|delivery| {
        delivery.destination == route.destination && delivery.route == route.route && delivery.slot == slot
    })
}

/// Which record each slot should hold: of those that share one, the greatest.
fn holders<'a>(route: &PlannedRoute, facts: &'a PersonFacts) -> BTreeMap<String, &'a KnownRecord> {
    let mut holders: BTreeMap<String, &KnownRecord> = BTreeMap::new();
    for known in facts.records.iter().filter(|known| known.record.kind == route.record) {
        let holder = holders.entry(slot_of(route.slot, &known.record)).or_insert(known);
        if rank(route, known, facts.now) > rank(route, holder, facts.now) {
            *holder = known;
        }
    }
    // What holds a place now and is only suspected to be gone keeps it: absence from one read gives nothing away.
    for absent in &facts.absent {
        let slot = slot_of(route.slot, &absent.record);
        let holds_it = delivery_of(route, facts, &slot).is_some_and(|delivery| delivery.record == absent.id);
        if holds_it
            && holders.get(&slot).is_some_and(|holder| rank(route, absent, facts.now) > rank(route, holder, facts.now))
        {
            holders.remove(&slot);
        }
    }
    holders
}

/// The place that a record fills.
#[must_use]
pub fn slot_of(rule: SlotRule, record: &Record) -> String {
    match (rule, &record.course) {
        (SlotRule::PersonCourse, Some(course)) => format!("{}/of/{}/{}", record.kind, record.learner_id, course.id),
        // Without a course there is nothing to share.
        (SlotRule::PersonCourse, None) | (SlotRule::Record, _) => record.key(),
    }
}

/// What is delivered at all wins over what history leaves out; then what is valid longest (for ever, when it does not expire), then the
/// newest, then the key.
fn rank(
    route: &PlannedRoute,
    known: &KnownRecord,
    now: Timestamp,
) -> (bool, bool, Option<LmsTime>, Option<LmsTime>, String) {
    let record = &known.record;
    let is_delivered = skip(route, record.achieved, now).is_none();
    (is_delivered, record.valid_until.is_none(), record.valid_until, record.achieved, record.key())
}

fn change(
    route: &PlannedRoute,
    known: &KnownRecord,
    slot: String,
    delivery: Option<&KnownDelivery>,
    now: Timestamp,
) -> Option<WantedChange> {
    let fingerprint = if route.says_standing { &known.fingerprint } else { &known.plain_fingerprint };
    let Some(delivery) = delivery else {
        return Some(WantedChange::Create {
            destination: route.destination,
            route: route.route,
            slot,
            record: known.id,
            fingerprint: fingerprint.clone(),
            skip: skip(route, known.record.achieved, now),
        });
    };
    // Either one: a mapping that begins to say how records stand, or no longer does, rewrites no history.
    if delivery.wanted_fingerprint == known.fingerprint || delivery.wanted_fingerprint == known.plain_fingerprint {
        return None;
    }
    let is_told = match delivery.state {
        // What a route that only appends has told, may have told, or left out, stays so: it cannot be changed.
        DeliveryState::Settled | DeliveryState::Skipped if route.mode == RouteMode::Append => true,
        DeliveryState::Skipped => skip(route, known.record.achieved, now).is_some(),
        DeliveryState::Settled => false,
        DeliveryState::Pending
        | DeliveryState::Sending
        | DeliveryState::Uncertain
        | DeliveryState::Parked
        | DeliveryState::Superseded => false,
    };
    (!is_told).then(|| WantedChange::Update {
        delivery: delivery.id,
        record: known.id,
        fingerprint: fingerprint.clone(),
    })
}

/// Why a new fact is not delivered.
fn skip(route: &PlannedRoute, achieved: Option<LmsTime>, now: Timestamp) -> Option<Cause> {
    let begins_on = match route.history {
        History::All => None,
        History::None => Some(route.first_seen_at.date_in(route.zone)),
        History::Since(date) => Some(date),
    };
    if let Some(begins_on) = begins_on {
        // A fact without a date cannot be shown to be new.
        let is_before = match (achieved, route.history) {
            (None, _) => true,
            // The LMS gives whole seconds: what is of the second of our start is not older.
            (Some(LmsTime::Instant(at)), History::None) => {
                at.0 < route.first_seen_at.0 - route.first_seen_at.0.rem_euclid(1_000)
            }
            (Some(time), _) => time.date_in(route.zone) < begins_on,
        };
        if is_before {
            return Some(Cause::BeforeStart);
        }
    }
    let is_late = route.mode == RouteMode::Append && route.telling.is_late(achieved, now, now);
    is_late.then_some(Cause::FoundLate)
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::domain::ids::{DeliveryId, RecordId};
    use crate::domain::record::Record;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const DAY_MS: i64 = 86_400_000;

    fn route(mode: RouteMode, history: History) -> PlannedRoute {
        PlannedRoute {
            destination: DestinationId(1),
            route: RouteId(1),
            record: RecordKind::Completion,
            says_standing: false,
            mode,
            slot: SlotRule::Record,
            history,
            first_seen_at: NOW.plus_ms(-DAY_MS / 2),
            zone: Tz::UTC,
            telling: Telling { quiet_hours: None, late_after_ms: DAY_MS, zone: Tz::UTC },
        }
    }

    fn facts(achieved: Option<LmsTime>, deliveries: Vec<KnownDelivery>) -> PersonFacts {
        let record =
            Record { title: "Fire Safety".to_owned(), achieved, ..Record::new(RecordKind::Completion, "e", "u") };
        PersonFacts {
            now: NOW,
            records: vec![KnownRecord { id: RecordId(7), record, fingerprint: vec![1], plain_fingerprint: vec![1] }],
            absent: Vec::new(),
            deliveries,
        }
    }

    fn delivery(state: DeliveryState, fingerprint: u8) -> KnownDelivery {
        KnownDelivery {
            id: DeliveryId(3),
            destination: DestinationId(1),
            route: RouteId(1),
            slot: "completion/e".to_owned(),
            record: RecordId(7),
            state,
            wanted_fingerprint: vec![fingerprint],
        }
    }

    fn skipped(route: PlannedRoute, achieved: Option<LmsTime>) -> Option<Cause> {
        let plan = Plan { routes: vec![route] };
        match &plan.changes(&facts(achieved, Vec::new()))[..] {
            [WantedChange::Create { skip, .. }] => skip.clone(),
            other => panic!("expected one new delivery, got {other:?}"),
        }
    }

    #[test]
    fn history_decides_which_old_facts_are_delivered() {
        let at = |ms: i64| Some(LmsTime::Instant(NOW.plus_ms(ms)));
        let state = |history| route(RouteMode::State, history);
        assert_eq!(skipped(state(History::All), at(-900 * DAY_MS)), None);
        assert_eq!(skipped(state(History::None), at(-DAY_MS)), Some(Cause::BeforeStart));
        assert_eq!(skipped(state(History::None), at(-DAY_MS / 4)), None);
        assert_eq!(skipped(state(History::None), None), Some(Cause::BeforeStart));
        let since = NaiveDate::from_ymd_opt(2026, 1, 1).expect("a date");
        assert_eq!(skipped(state(History::Since(since)), Some(LmsTime::Date(since))), None);
        let eve = since.pred_opt().expect("a date");
        assert_eq!(skipped(state(History::Since(since)), Some(LmsTime::Date(eve))), Some(Cause::BeforeStart));
    }

    #[test]
    fn what_is_achieved_in_the_second_of_the_first_start_is_new() {
        let mut started = route(RouteMode::State, History::None);
        started.first_seen_at = Timestamp(NOW.0 + 700);
        assert_eq!(skipped(started.clone(), Some(LmsTime::Instant(NOW))), None);
        assert_eq!(skipped(started, Some(LmsTime::Instant(NOW.plus_ms(-1)))), Some(Cause::BeforeStart));
    }

    #[test]
    fn a_certificate_of_today_is_delivered_though_its_date_begins_before_the_destination() {
        let today = NOW.date_in(Tz::UTC);
        assert_eq!(skipped(route(RouteMode::State, History::None), Some(LmsTime::Date(today))), None);
    }

    #[test]
    fn an_append_route_does_not_tell_what_was_found_late() {
        let old = Some(LmsTime::Instant(NOW.plus_ms(-2 * DAY_MS)));
        assert_eq!(skipped(route(RouteMode::Append, History::All), old), Some(Cause::FoundLate));
        assert_eq!(skipped(route(RouteMode::State, History::All), old), None);
    }

    #[test]
    fn only_changed_facts_change_what_is_wanted() {
        let achieved = Some(LmsTime::Instant(NOW));
        let changes = |mode, state, fingerprint| {
            Plan { routes: vec![route(mode, History::All)] }
                .changes(&facts(achieved, vec![delivery(state, fingerprint)]))
                .len()
        };
        for state in DeliveryState::ALL {
            assert_eq!(changes(RouteMode::State, state, 1), 0, "same facts, {state:?}");
        }
        assert_eq!(changes(RouteMode::State, DeliveryState::Settled, 2), 1);
        assert_eq!(changes(RouteMode::State, DeliveryState::Parked, 2), 1);
        assert_eq!(changes(RouteMode::Append, DeliveryState::Settled, 2), 0, "told is told");
        assert_eq!(changes(RouteMode::Append, DeliveryState::Skipped, 2), 0, "and so is what may have been told");
        assert_eq!(changes(RouteMode::Append, DeliveryState::Pending, 2), 1);
    }

    #[test]
    fn how_a_record_stands_makes_work_only_where_a_mapping_says_it() {
        let change = |says_standing, wanted: u8| {
            let mut facts = facts(None, vec![delivery(DeliveryState::Settled, wanted)]);
            // 7: the facts; 8: and that it is expiring; 9, until yesterday: and that it was valid.
            facts.records[0].fingerprint = vec![8];
            facts.records[0].plain_fingerprint = vec![7];
            let route = PlannedRoute { says_standing, ..route(RouteMode::State, History::All) };
            match &(Plan { routes: vec![route] }).changes(&facts)[..] {
                [] => None,
                [WantedChange::Update { fingerprint, .. }] => Some(fingerprint[0]),
                other => panic!("one place, several changes: {other:?}"),
            }
        };
        assert_eq!(change(true, 9), Some(8), "it was valid, and is expiring");
        assert_eq!(change(true, 8), None);
        assert_eq!(change(true, 7), None, "the mapping begins to say it: no history is rewritten");
        assert_eq!(change(false, 7), None, "the mapping does not say it");
        assert_eq!(change(false, 6), Some(7), "the facts changed");
    }

    #[test]
    fn of_records_that_share_a_place_the_longest_valid_then_the_newest_holds_it() {
        let day = |day| NaiveDate::from_ymd_opt(2026, 5, day).map(LmsTime::Date);
        let record = |id: i64, valid_until, achieved| {
            let mut known = facts(achieved, Vec::new()).records.remove(0);
            known.id = RecordId(id);
            known.record.id = format!("e{id}");
            known.record.valid_until = valid_until;
            known.record.course = Some(crate::domain::record::Course { id: "c".to_owned(), ..Default::default() });
            known.fingerprint = vec![u8::try_from(id).expect("small")];
            known.plain_fingerprint = known.fingerprint.clone();
            known
        };
        let plan = Plan {
            routes: vec![PlannedRoute { slot: SlotRule::PersonCourse, ..route(RouteMode::State, History::All) }],
        };
        let holder = |records: Vec<KnownRecord>, absent: Vec<KnownRecord>, held_by: Option<i64>| {
            let deliveries = held_by.into_iter().map(|id| KnownDelivery {
                slot: "completion/of/u/c".to_owned(),
                record: RecordId(id),
                ..delivery(DeliveryState::Settled, u8::try_from(id).expect("small"))
            });
            let facts = PersonFacts { now: NOW, records, absent, deliveries: deliveries.collect() };
            match &plan.changes(&facts)[..] {
                [WantedChange::Create { record, .. } | WantedChange::Update { record, .. }] => Some(record.0),
                [] => None,
                other => panic!("one place, several changes: {other:?}"),
            }
        };
        let (short, long, forever) = (record(1, day(1), day(9)), record(2, day(8), day(1)), record(3, None, day(1)));
        assert_eq!(holder(vec![short.clone(), long.clone()], Vec::new(), None), Some(2));
        assert_eq!(holder(vec![forever.clone(), long.clone()], Vec::new(), None), Some(3));
        assert_eq!(holder(vec![short.clone(), long.clone()], Vec::new(), Some(1)), Some(2));
        assert_eq!(
            holder(vec![short.clone()], vec![long.clone()], Some(2)),
            None,
            "absence from one read gives nothing away"
        );
        assert_eq!(holder(vec![forever.clone()], vec![long], Some(2)), Some(3), "something greater takes it");
        let mut left_out = forever;
        left_out.record.achieved = NaiveDate::from_ymd_opt(2019, 1, 1).map(LmsTime::Date);
        let since = NaiveDate::from_ymd_opt(2020, 1, 1).expect("a date");
        let plan = Plan {
            routes: vec![PlannedRoute {
                slot: SlotRule::PersonCourse,
                ..route(RouteMode::State, History::Since(since))
            }],
        };
        let facts =
            PersonFacts { now: NOW, records: vec![left_out, short], absent: Vec::new(), deliveries: Vec::new() };
        let changes = plan.changes(&facts);
        assert!(
            matches!(&changes[..], [WantedChange::Create { record: RecordId(1), skip: None, .. }]),
            "what history leaves out competes for nothing: {changes:?}"
        );
    }
}
