//! What a place's state and what stands there come to: in sync, or which drift, and what follows by the policies. Pure.

use crate::domain::delivery::DeliveryState;
use crate::domain::drift::{DriftClass, GonePolicy, Holding, Policies, Policy, compare};
use crate::domain::time::Timestamp;
use crate::store::{DriftAction, Finding, Placed, SeenRow, VerifyCounts};

/// What the target was asked about a place, and answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// These rows carry our mark for it; several: somebody copied one.
    Rows(Vec<SeenRow>),
    /// No row carries our mark; the row that we know is there without it, if the target shows it.
    Nothing(Option<SeenRow>),
    /// The target could not tell.
    Unreadable(String),
}

/// In which sum of the report a delivery is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The target holds what it should.
    InSync,
    /// It does not, and is written again.
    ToWrite,
    /// It does not, and the row is removed.
    ToWithdraw,
    /// It does not, and that is reported.
    Differs,
    /// It does not, and a person knows.
    Acknowledged,
    /// It waits to be written.
    Waits,
    /// It is set aside.
    Parked,
    /// It is not delivered on purpose.
    LeftOut,
}

/// What one place came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Where it is counted.
    pub counted: Counted,
    /// What was found.
    pub finding: Option<Finding>,
    /// What is to be remembered of the place; none when it is as before.
    pub holding: Option<Holding>,
}

/// Whether a place must be looked at: the ledger says that it holds something, and nothing is on its way there.
#[must_use]
pub fn is_to_be_seen(place: &Placed, listed_from: Timestamp) -> bool {
    place.state == DeliveryState::Settled
        && !place.is_told
        && (place.held_row.is_some() || !place.is_wanted)
        // What was written since the list was begun may not stand in it yet.
        && place.held_at.is_none_or(|at| at < listed_from)
}

/// Judges one place. `sight` is none where it was not looked at.
#[must_use]
pub fn judge(place: &Placed, object: &str, sight: Option<Sight>, policies: &Policies, now: Timestamp) -> Judged {
    match place.state {
        DeliveryState::Pending | DeliveryState::Sending | DeliveryState::Uncertain => waits(place, object),
        DeliveryState::Parked => counted(Counted::Parked),
        DeliveryState::Skipped | DeliveryState::Superseded => counted(Counted::LeftOut),
        DeliveryState::Settled => match sight {
            None => counted(Counted::InSync),
            Some(sight) => settled(place, object, sight, policies, now),
        },
    }
}

fn counted(counted: Counted) -> Judged {
    Judged { counted, finding: None, holding: None }
}

/// Older facts stand there until the newer ones are written.
fn waits(place: &Placed, object: &str) -> Judged {
    let is_stale = place.held_row.is_some() && !place.is_current && !place.is_told;
    let row = (place.held_row.clone(), place.held_person.clone());
    let finding = is_stale.then(|| found(place, object, DriftClass::Stale, DriftAction::Nothing, row, Vec::new()));
    Judged { counted: Counted::Waits, finding, holding: None }
}

fn settled(place: &Placed, object: &str, sight: Sight, policies: &Policies, now: Timestamp) -> Judged {
    let known = (place.held_row.clone(), place.held_person.clone());
    let finds = |class, policy: Policy, row, fields| {
        let (action, counted) = match policy {
            Policy::Repair => (DriftAction::Repair, Counted::ToWrite),
            Policy::Adopt => (DriftAction::Adopt, Counted::InSync),
            Policy::Report if is_acknowledged(place, now) => (DriftAction::Report, Counted::Acknowledged),
            Policy::Report => (DriftAction::Report, Counted::Differs),
            Policy::Ignore => return self::counted(Counted::InSync),
        };
        Judged { counted, finding: Some(found(place, object, class, action, row, fields)), holding: None }
    };
    match sight {
        Sight::Unreadable(_) => finds(DriftClass::Unreadable, Policy::Report, known, Vec::new()),
        Sight::Rows(rows) if rows.len() > 1 => finds(DriftClass::Duplicate, Policy::Report, known, Vec::new()),
        // What was withdrawn is there again.
        Sight::Rows(rows) if !place.is_wanted => {
            let row = rows.into_iter().next().map(|row| (Some(row.row), row.person)).unwrap_or_default();
            finds(DriftClass::Orphaned, Policy::Report, row, Vec::new())
        }
        Sight::Nothing(_) if !place.is_wanted => counted(Counted::InSync),
        Sight::Nothing(Some(row)) => {
            finds(DriftClass::Unmarked, policies.unmarked, (Some(row.row), row.person), Vec::new())
        }
        // What the LMS does not show any more is not written again, so nothing is missing.
        Sight::Nothing(None) if place.is_gone => counted(Counted::InSync),
        Sight::Nothing(None) => finds(DriftClass::Missing, policies.missing, known, Vec::new()),
        Sight::Rows(rows) => {
            let Some(row) = rows.into_iter().next() else {
                return finds(DriftClass::Missing, policies.missing, known, Vec::new());
            };
            let stands_at = (Some(row.row.clone()), row.person.clone());
            if row.person.is_some() && row.person != place.held_person {
                return finds(DriftClass::Moved, policies.moved, stands_at, Vec::new());
            }
            let fields = match row.fields {
                Ok(fields) => fields,
                Err(_) => return finds(DriftClass::Unreadable, Policy::Report, stands_at, Vec::new()),
            };
            if place.is_gone {
                return gone(place, object, policies.gone, now);
            }
            let compared = compare(&place.holding, &fields, policies, now);
            let Some(policy) = strongest(&compared.drift) else {
                return Judged { holding: compared.holding, ..counted(Counted::InSync) };
            };
            let names = compared.drift.into_iter().map(|drift| drift.field).collect();
            Judged { holding: compared.holding, ..finds(DriftClass::Edited, policy, stands_at, names) }
        }
    }
}

/// One field that is to be written decides for the row; then one that is only said; what flaps is only said.
fn strongest(drift: &[crate::domain::drift::FieldDrift]) -> Option<Policy> {
    let policy =
        |drift: &crate::domain::drift::FieldDrift| if drift.is_flapping { Policy::Report } else { drift.policy };
    drift.iter().map(policy).min()
}

fn gone(place: &Placed, object: &str, policy: GonePolicy, now: Timestamp) -> Judged {
    let (action, sum) = match policy {
        GonePolicy::Keep => return counted(Counted::InSync),
        GonePolicy::Report if is_acknowledged(place, now) => (DriftAction::Report, Counted::Acknowledged),
        GonePolicy::Report => (DriftAction::Report, Counted::Differs),
        GonePolicy::Withdraw => (DriftAction::Withdraw, Counted::ToWithdraw),
    };
    let row = (place.held_row.clone(), place.held_person.clone());
    Judged {
        counted: sum,
        finding: Some(found(place, object, DriftClass::Gone, action, row, Vec::new())),
        holding: None,
    }
}

fn is_acknowledged(place: &Placed, now: Timestamp) -> bool {
    place.holding.acknowledged.as_ref().is_some_and(|known| known.until > now)
}

fn found(
    place: &Placed,
    object: &str,
    class: DriftClass,
    action: DriftAction,
    (row, person): (Option<String>, Option<String>),
    fields: Vec<String>,
) -> Finding {
    Finding {
        delivery: Some(place.delivery),
        class,
        object: object.to_owned(),
        row,
        mark: None,
        person,
        fields,
        action,
        held_at: place.held_at,
    }
}

/// Counts what one place came to.
pub fn count(counts: &mut VerifyCounts, judged: &Judged) {
    let sum = match judged.counted {
        Counted::InSync => &mut counts.in_sync,
        Counted::ToWrite => &mut counts.to_write,
        Counted::ToWithdraw => {
            counts.withdrawals += 1;
            &mut counts.to_write
        }
        Counted::Differs => &mut counts.differing,
        Counted::Acknowledged => &mut counts.acknowledged,
        Counted::Waits => &mut counts.waiting,
        Counted::Parked => &mut counts.parked,
        Counted::LeftOut => &mut counts.left_out,
    };
    *sum += 1;
    if let Some(finding) = &judged.finding {
        *counts.classes.entry(finding.class).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use learnsync_sdk::{Fields, Value};

    use super::*;
    use crate::domain::ids::{DeliveryId, RouteId};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn fields(text: &str) -> Fields {
        Fields::from([("title".to_owned(), Value::Text(text.to_owned()))])
    }

    fn place(state: DeliveryState) -> Placed {
        let holding = Holding { written: Some(fields("Fire Safety")), is_seen: true, ..Holding::default() };
        Placed {
            delivery: DeliveryId(1),
            route: RouteId(1),
            slot: "completion/e".to_owned(),
            state,
            is_told: false,
            is_wanted: true,
            is_current: true,
            is_gone: false,
            held_row: Some("7".to_owned()),
            held_person: Some("p".to_owned()),
            held_at: Some(NOW.plus_ms(-1_000)),
            holding,
            seen: Vec::new(),
            unmarked: None,
        }
    }

    fn row(person: &str, text: &str) -> SeenRow {
        SeenRow { row: "7".to_owned(), person: Some(person.to_owned()), fields: Ok(fields(text)) }
    }

    fn came_to(place: &Placed, sight: Sight, policies: &Policies) -> (Counted, Option<(DriftClass, DriftAction)>) {
        let judged = judge(place, "training", Some(sight), policies, NOW);
        (judged.counted, judged.finding.map(|finding| (finding.class, finding.action)))
    }

    #[test]
    fn what_stands_there_decides_the_class_and_the_policy_what_follows() {
        use Counted::{Differs, InSync, ToWithdraw, ToWrite};
        use DriftAction::{Adopt, Repair, Report, Withdraw};
        use DriftClass::{Duplicate, Edited, Gone, Missing, Moved, Orphaned, Unmarked, Unreadable};
        let settled = place(DeliveryState::Settled);
        let given = Policies::default();
        let all =
            |policy| Policies { missing: policy, moved: policy, unmarked: policy, edited: policy, ..given.clone() };
        let check = |place: &Placed, sight: Sight, policies: &Policies, expected| {
            assert_eq!(came_to(place, sight.clone(), policies), expected, "{sight:?} by {policies:?}");
        };
        let right = Sight::Rows(vec![row("p", "Fire Safety")]);
        let edited = Sight::Rows(vec![row("p", "Fire")]);
        let moved = Sight::Rows(vec![row("q", "Fire Safety")]);
        let unmarked = Sight::Nothing(Some(row("p", "Fire Safety")));
        check(&settled, right.clone(), &given, (InSync, None));
        check(&settled, Sight::Nothing(None), &given, (ToWrite, Some((Missing, Repair))));
        check(&settled, edited.clone(), &given, (ToWrite, Some((Edited, Repair))));
        check(&settled, moved.clone(), &given, (Differs, Some((Moved, Report))));
        check(&settled, unmarked.clone(), &given, (Differs, Some((Unmarked, Report))));
        check(&settled, moved, &all(Policy::Repair), (ToWrite, Some((Moved, Repair))));
        check(&settled, unmarked, &all(Policy::Repair), (ToWrite, Some((Unmarked, Repair))));
        check(&settled, edited.clone(), &all(Policy::Adopt), (InSync, Some((Edited, Adopt))));
        check(&settled, edited.clone(), &all(Policy::Report), (Differs, Some((Edited, Report))));
        check(&settled, edited.clone(), &all(Policy::Ignore), (InSync, None));
        check(&settled, Sight::Nothing(None), &all(Policy::Ignore), (InSync, None));
        let copied = Sight::Rows(vec![row("p", "Fire Safety"), row("p", "Fire Safety")]);
        check(&settled, copied, &all(Policy::Repair), (Differs, Some((Duplicate, Report))));
        let broken = Sight::Rows(vec![SeenRow { fields: Err("half a row".to_owned()), ..row("p", "") }]);
        check(&settled, broken, &given, (Differs, Some((Unreadable, Report))));
        check(&settled, Sight::Unreadable("500".to_owned()), &given, (Differs, Some((Unreadable, Report))));
        let withdrawn = Placed { is_wanted: false, held_row: None, ..settled.clone() };
        check(&withdrawn, Sight::Nothing(None), &given, (InSync, None));
        check(&withdrawn, right.clone(), &given, (Differs, Some((Orphaned, Report))));
        let gone = Placed { is_gone: true, ..settled };
        let by = |gone| Policies { gone, ..given.clone() };
        check(&gone, right.clone(), &by(GonePolicy::Keep), (InSync, None));
        check(&gone, right.clone(), &by(GonePolicy::Report), (Differs, Some((Gone, Report))));
        check(&gone, edited, &by(GonePolicy::Withdraw), (ToWithdraw, Some((Gone, Withdraw))));
        check(&gone, Sight::Nothing(None), &by(GonePolicy::Withdraw), (InSync, None));
    }

    #[test]
    fn every_delivery_is_counted_once_wherever_it_stands() {
        let mut counts = VerifyCounts::default();
        for state in DeliveryState::ALL {
            counts.deliveries += 1;
            count(&mut counts, &judge(&place(state), "training", None, &Policies::default(), NOW));
        }
        assert!(counts.add_up(), "{counts:?}");
        assert_eq!((counts.in_sync, counts.waiting, counts.parked, counts.left_out), (1, 3, 1, 2));
    }

    #[test]
    fn what_waits_with_older_facts_in_the_target_is_stale() {
        let waiting = |is_current| {
            let place = Placed { is_current, ..place(DeliveryState::Pending) };
            judge(&place, "training", None, &Policies::default(), NOW).finding.map(|finding| finding.class)
        };
        assert_eq!(waiting(false), Some(DriftClass::Stale));
        assert_eq!(waiting(true), None);
    }

    #[test]
    fn what_a_person_knows_is_counted_apart_until_that_ends() {
        let mut known = place(DeliveryState::Settled);
        let until = NOW.plus_ms(1);
        known.holding.acknowledged =
            Some(crate::domain::drift::Acknowledged { until, reason: "moved to SAP".to_owned() });
        let report = Policies { edited: Policy::Report, ..Policies::default() };
        let sight = Sight::Rows(vec![row("p", "Fire")]);
        assert_eq!(judge(&known, "t", Some(sight.clone()), &report, NOW).counted, Counted::Acknowledged);
        assert_eq!(judge(&known, "t", Some(sight), &report, until).counted, Counted::Differs);
    }

    #[test]
    fn what_was_written_since_the_list_began_is_not_concluded_about() {
        let settled = place(DeliveryState::Settled);
        assert!(is_to_be_seen(&settled, NOW));
        assert!(!is_to_be_seen(&settled, NOW.plus_ms(-1_000)));
        assert!(!is_to_be_seen(&Placed { is_told: true, ..settled }, NOW));
        assert!(!is_to_be_seen(&place(DeliveryState::Pending), NOW));
    }
}
