//! The way of webhooks out of the portal, with what may befall them: lost, twice, late, in another order, all at once.
//!
//! SEEN (<https://support.absorblms.com/hc/en-us/articles/28999993938451-Webhooks>): nothing is promised about order, repeats or retries.
//! INFERRED: one try each.

use std::sync::{Mutex, PoisonError};

use super::hooks::HookBody;
use super::quirks::State;
use crate::domain::chance::Entropy;
use crate::domain::time::Timestamp;

/// Most webhooks that wait; the oldest are lost beyond that, as with a real queue.
const WAITING_MAX: usize = 100_000;

/// Webhooks that have not gone out yet.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// With the time at which it goes out.
    late: Vec<(Timestamp, HookBody)>,
    /// It goes out after the next one.
    overtaken: Option<HookBody>,
    /// They go out together.
    burst: Vec<HookBody>,
}

impl Outbox {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes webhooks in; what goes out now, in order.
    pub(super) fn post(
        &self,
        hooks: Vec<HookBody>,
        quirks: &State,
        now: Timestamp,
        chance: &dyn Entropy,
    ) -> Vec<HookBody> {
        let hits = |percent: u32| percent > 0 && chance.below(100) < u64::from(percent);
        let mut waiting = self.waiting();
        for hook in hooks {
            if hits(quirks.hook_drop) {
                continue;
            }
            let copies = if hits(quirks.hook_duplicate) { 2 } else { 1 };
            let due = now.plus_ms(i64::from(quirks.hook_delay) * 1_000);
            for hook in std::iter::repeat_n(hook, copies) {
                if waiting.late.len() == WAITING_MAX {
                    waiting.late.remove(0);
                }
                waiting.late.push((due, hook));
            }
        }
        let due = waiting.take_due(now);
        let ordered = due.into_iter().flat_map(|hook| waiting.reorder(hook, hits(quirks.hook_reorder))).collect();
        waiting.gather(ordered, quirks.hook_burst)
    }
}

impl Waiting {
    fn take_due(&mut self, now: Timestamp) -> Vec<HookBody> {
        let (due, late) = std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = late;
        let due: Vec<(Timestamp, HookBody)> = due;
        due.into_iter().map(|(_, hook)| hook).collect()
    }

    fn reorder(&mut self, hook: HookBody, is_held: bool) -> Vec<HookBody> {
        match self.overtaken.take() {
            Some(held) => vec![hook, held],
            None if is_held => {
                self.overtaken = Some(hook);
                Vec::new()
            }
            None => vec![hook],
        }
    }

    fn gather(&mut self, hooks: Vec<HookBody>, burst: u32) -> Vec<HookBody> {
        self.burst.extend(hooks);
        if self.burst.len() < burst as usize { Vec::new() } else { std::mem::take(&mut self.burst) }
    }
}
