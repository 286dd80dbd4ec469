//! The portal's two clocks: one for tokens and limits, and a calendar for what happens.
//!
//! They show the same until a year is played: then the calendar is elsewhere and runs at another speed. Tokens do not follow it, for at a
//! day a second each would be dead before its first use. `advance` moves both.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::time::{Clock, Timestamp};

/// Both clocks of one portal.
pub(super) struct PortalClock {
    base: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How far the portal is ahead of the clock that was handed in, in milliseconds.
    ahead_ms: i64,
    calendar: Option<Calendar>,
}

/// A calendar that goes its own way since an instant of the portal's clock.
#[derive(Clone, Copy)]
struct Calendar {
    since: Timestamp,
    at: Timestamp,
    /// Calendar seconds per second; 0 stands still until it is set.
    speed: u32,
}

impl Calendar {
    fn now(self, portal: Timestamp) -> Timestamp {
        let passed = portal.0.saturating_sub(self.since.0).max(0);
        self.at.plus_ms(passed.saturating_mul(i64::from(self.speed)))
    }
}

impl PortalClock {
    pub(super) fn new(base: Arc<dyn Clock>) -> Self {
        Self { base, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The portal's time: tokens, codes and limits.
    pub(super) fn now(&self) -> Timestamp {
        self.base.now().plus_ms(self.state().ahead_ms)
    }

    /// The date and time of what happens, to the second: Absorb's answers carry no more.
    pub(super) fn calendar(&self) -> Timestamp {
        let now = self.now();
        let shown = self.state().calendar.map_or(now, |calendar| calendar.now(now));
        shown.plus_ms(-shown.0.rem_euclid(1_000))
    }

    /// Moves both clocks ahead.
    pub(super) fn advance(&self, seconds: u32) {
        let ms = i64::from(seconds) * 1_000;
        let mut state = self.state();
        state.ahead_ms = state.ahead_ms.saturating_add(ms);
        if let Some(calendar) = &mut state.calendar {
            calendar.since = calendar.since.plus_ms(ms);
            calendar.at = calendar.at.plus_ms(ms);
        }
    }

    /// The calendar shows this from now on, and runs at this many seconds per second.
    pub(super) fn set_calendar(&self, at: Timestamp, speed: u32) {
        let since = self.now();
        self.state().calendar = Some(Calendar { since, at, speed });
    }

    /// A calendar that goes its own way shows this at least from now on.
    pub(super) fn reach(&self, at: Timestamp) {
        let now = self.now();
        if let Some(calendar) = &mut self.state().calendar
            && calendar.now(now) < at
        {
            (calendar.since, calendar.at) = (now, at);
        }
    }

    /// The calendar runs at this speed from where it is.
    pub(super) fn set_speed(&self, speed: u32) {
        self.set_calendar(self.calendar(), speed);
    }

    /// The calendar shows the portal's time again.
    pub(super) fn join(&self) {
        self.state().calendar = None;
    }
}
