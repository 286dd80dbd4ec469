//! What a destination does about what people changed in it: its policies, by seed and destination.

use std::fmt;

use learnsync::config::GuardConfig;
use learnsync::domain::drift::{GonePolicy, Policies, Policy};
use rand::Rng;

use crate::scenario::Scenario;

/// The policies of a destination, by what is particular about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// As given: what is missing or edited is written again, what was moved or lost its mark is said.
    Given,
    /// Everything is put right.
    RepairAll,
    /// What somebody entered is taken for right until the fact changes.
    AdoptEdited,
    /// What was moved comes back.
    RepairMoved,
    /// What lost its mark is made again.
    RepairUnmarked,
    /// What is gone in the LMS is removed.
    WithdrawGone,
}

impl Habit {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Given, Self::RepairAll, Self::AdoptEdited, Self::RepairMoved, Self::RepairUnmarked, Self::WithdrawGone];

    /// That of a destination in the world of a seed.
    #[must_use]
    pub fn of(scenario: &Scenario, destination: &str) -> Self {
        Self::ALL[scenario.stream(&format!("habit of {destination}")).random_range(0..Self::ALL.len())]
    }

    /// What a night must not do without the operator's yes.
    #[must_use]
    pub fn guard(self) -> GuardConfig {
        match self {
            // So little that a night of a small world comes to more.
            Self::WithdrawGone => GuardConfig { withdrawn_rows_max: 1, ..GuardConfig::default() },
            Self::RepairAll => GuardConfig { changed_rows_min: 1, ..GuardConfig::default() },
            Self::Given | Self::AdoptEdited | Self::RepairMoved | Self::RepairUnmarked => GuardConfig::default(),
        }
    }

    /// As a route has them.
    #[must_use]
    pub fn policies(self) -> Policies {
        let given = Policies::default();
        match self {
            Self::Given => given,
            Self::RepairAll => Policies { moved: Policy::Repair, unmarked: Policy::Repair, ..given },
            Self::AdoptEdited => Policies { edited: Policy::Adopt, ..given },
            Self::RepairMoved => Policies { moved: Policy::Repair, ..given },
            Self::RepairUnmarked => Policies { unmarked: Policy::Repair, ..given },
            Self::WithdrawGone => Policies { gone: GonePolicy::Withdraw, ..given },
        }
    }
}

impl fmt::Display for Habit {
    /// The word in the coverage table: `AdoptEdited`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}")
    }
}
