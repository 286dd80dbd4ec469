//! The guard: what a night must not do without a person's yes. Pure; a guard that cannot be evaluated trips.

use crate::config::GuardConfig;
use crate::domain::drift::DriftClass;
use crate::fail_point;
use crate::store::VerifyCounts;

/// Whether what a verify found may be acted upon.
///
/// # Errors
/// Why not, with the figure and the limit, for the operator.
pub fn judge(counts: &VerifyCounts, limits: &GuardConfig) -> Result<(), String> {
    if !counts.add_up() {
        return Err(format!(
            "{} of {} deliveries were counted: what cannot be added up is not acted upon",
            counts.counted(),
            counts.deliveries
        ));
    }
    if counts.to_write == 0 || fail_point::is_broken_on_purpose("guard") {
        return Ok(());
    }
    if counts.looked == 0 || counts.to_write > counts.looked {
        return Err(format!(
            "{} rows are to be written again and {} were looked at: a share cannot be told",
            counts.to_write, counts.looked
        ));
    }
    let missing = counts.of(DriftClass::Missing);
    if missing == counts.looked && missing > 1 && (!counts.is_listed || counts.listed == 0) {
        return Err(format!("the target shows none of our {missing} rows: it is another one, or shows us nothing"));
    }
    if counts.withdrawals > u64::from(limits.withdrawn_rows_max) {
        return Err(format!(
            "{} rows would be removed, the limit is {} (guard.withdrawn_rows_max)",
            counts.withdrawals, limits.withdrawn_rows_max
        ));
    }
    let unreadable = counts.of(DriftClass::Unreadable);
    if percent(unreadable, counts.looked) > limits.unreadable_percent_max {
        return Err(format!(
            "{unreadable} of {} rows cannot be read, the limit is {} % (guard.unreadable_percent_max)",
            counts.looked, limits.unreadable_percent_max
        ));
    }
    if counts.to_write > u64::from(limits.changed_rows_min)
        && percent(counts.to_write, counts.looked) > limits.changed_percent_max
    {
        return Err(format!(
            "{} of {} rows would be written again, the limit is {} % (guard.changed_percent_max)",
            counts.to_write, counts.looked, limits.changed_percent_max
        ));
    }
    Ok(())
}

/// The part in percent, rounded up: what is beyond a limit by a little is beyond it.
fn percent(part: u64, whole: u64) -> u32 {
    u32::try_from((u128::from(part) * 100).div_ceil(u128::from(whole.max(1)))).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn counts(looked: u64, to_write: u64) -> VerifyCounts {
        VerifyCounts {
            deliveries: looked,
            looked,
            to_write,
            in_sync: looked - to_write.min(looked),
            listed: 1,
            is_listed: true,
            ..VerifyCounts::default()
        }
    }

    fn with(class: DriftClass, number: u64, counts: VerifyCounts) -> VerifyCounts {
        VerifyCounts { classes: BTreeMap::from([(class, number)]), ..counts }
    }

    #[test]
    fn a_night_that_would_change_too_much_is_held_and_says_why() {
        let limits = GuardConfig::default();
        let check = |counts: VerifyCounts, expected: Option<&str>| match (judge(&counts, &limits), expected) {
            (Ok(()), None) => {}
            (Err(words), Some(part)) => assert!(words.contains(part), "{words}"),
            (found, expected) => panic!("{counts:?}: {found:?}, and not {expected:?}"),
        };
        check(counts(1_000, 0), None);
        check(counts(1_000, 200), None);
        check(counts(1_000, 201), Some("201 of 1000 rows would be written again"));
        check(counts(30, 20), None);
        check(counts(30, 21), Some("guard.changed_percent_max"));
        let removing = |number| VerifyCounts { withdrawals: number, ..counts(1_000, number) };
        check(removing(10), None);
        check(removing(11), Some("11 rows would be removed, the limit is 10"));
        check(with(DriftClass::Unreadable, 201, counts(1_000, 1)), Some("201 of 1000 rows cannot be read"));
        check(
            VerifyCounts { listed: 0, ..with(DriftClass::Missing, 5, counts(5, 5)) },
            Some("shows none of our 5 rows"),
        );
    }

    #[test]
    fn a_guard_that_cannot_be_evaluated_trips() {
        let limits = GuardConfig::default();
        let lost = VerifyCounts { deliveries: 9, ..counts(8, 1) };
        assert!(judge(&lost, &limits).expect_err("one was not counted").contains("8 of 9"));
        let unseen = VerifyCounts { looked: 0, ..counts(8, 1) };
        assert!(judge(&unseen, &limits).expect_err("nothing was looked at").contains("cannot be told"));
    }
}
