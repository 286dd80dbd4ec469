//! In whose interest an LMS is asked, and how much of the budget that took.

use serde::{Deserialize, Serialize};

use super::time::{Timestamp, as_utc};

/// In whose interest the LMS is asked. The lanes share one budget of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// An event just came, or a person waits for the answer.
    Live,
    /// A read that is repeated: it failed, or did not show what an event promised.
    Retry,
    /// The nightly sweep.
    Sweep,
    /// History that nobody waits for.
    Backfill,
}

impl Lane {
    /// All, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Live, Self::Retry, Self::Sweep, Self::Backfill];

    /// Its word in the ledger, in metrics and on screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Retry => "retry",
            Self::Sweep => "sweep",
            Self::Backfill => "backfill",
        }
    }

    /// The lane of a word of the ledger; a word of a later version counts as the least urgent.
    #[must_use]
    pub fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|lane| lane.as_str() == word).unwrap_or(Self::Backfill)
    }

    /// What it gets of the budget at least, in percent, while it has calls to make; together 100. What a lane leaves, the others use.
    #[must_use]
    pub fn share_percent(self) -> u32 {
        match self {
            Self::Live => 40,
            Self::Retry => 20,
            Self::Sweep => 30,
            Self::Backfill => 10,
        }
    }
}

/// What the calls of one hour to a portal were for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LmsUse {
    /// The end of the hour.
    #[serde(serialize_with = "as_utc", deserialize_with = "from_utc")]
    pub until: Timestamp,
    /// Calls a second that the budget allows.
    pub calls_per_second_max: u32,
    /// Calls by lane, in the order of `Lane::ALL`.
    pub calls: Vec<(Lane, u64)>,
    /// How many of them the LMS answered with 429, or with 503 and a time to wait.
    pub throttled: u64,
}

fn from_utc<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(input)?;
    let instant = chrono::DateTime::parse_from_rfc3339(&text).map_err(serde::de::Error::custom)?;
    Ok(Timestamp::from(instant.with_timezone(&chrono::Utc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_the_whole_and_every_word_is_read_back() {
        assert_eq!(Lane::ALL.into_iter().map(Lane::share_percent).sum::<u32>(), 100);
        for lane in Lane::ALL {
            assert_eq!(Lane::of(lane.as_str()), lane);
        }
        assert_eq!(Lane::of("of a later version"), Lane::Backfill);
    }

    #[test]
    fn what_was_used_is_read_back_as_it_was_written() {
        let used = LmsUse {
            until: Timestamp(1_800_000_000_000),
            calls_per_second_max: 50,
            calls: Lane::ALL.into_iter().map(|lane| (lane, 7)).collect(),
            throttled: 1,
        };
        let text = serde_json::to_string(&used).expect("plain data");
        assert_eq!(serde_json::from_str::<LmsUse>(&text).expect("it is read"), used);
    }
}
