//! Shrinking: a failing scenario is made smaller while it still fails: fewer faults, a shorter span, fewer learners.

use crate::play;
use crate::scenario::Scenario;

/// The smallest scenario found that still breaks the same rule.
#[must_use]
pub fn shrink(scenario: &Scenario, violation: &str) -> Scenario {
    let rule = rule_of(violation);
    let still_fails = |candidate: &Scenario| {
        play::run(candidate, false).violations.iter().any(|violation| rule_of(violation) == rule)
    };
    let mut smallest = scenario.clone();
    loop {
        let before = smallest.clone();
        for fault in smallest.faults.clone() {
            let candidate = smallest.without(fault);
            if still_fails(&candidate) {
                smallest = candidate;
            }
        }
        while smallest.days > 1 {
            let candidate = Scenario { days: smallest.days - 1, ..smallest.clone() };
            if !still_fails(&candidate) {
                break;
            }
            smallest = candidate;
        }
        while smallest.learners > 1 {
            let candidate = Scenario { learners: smallest.learners - 1, ..smallest.clone() };
            if !still_fails(&candidate) {
                break;
            }
            smallest = candidate;
        }
        if smallest == before {
            return smallest;
        }
    }
}

fn rule_of(violation: &str) -> &str {
    violation.split(':').next().unwrap_or(violation)
}
