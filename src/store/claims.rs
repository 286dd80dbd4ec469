//! Who works on what, in memory: one process owns the store, so a claim needs no row, no lease and no clock.
//!
//! A claim ends when its guard is dropped, whatever the way: finished, failed, cancelled. What a crash interrupts, the next epoch finds
//! in `sending`, or still marked and queued.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The claims of this process.
#[derive(Default)]
pub(crate) struct Claims {
    subjects: Mutex<BTreeSet<i64>>,
    lanes: Mutex<BTreeSet<(i64, i64)>>,
}

impl Claims {
    /// The subjects that are being read.
    pub(crate) fn subjects(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The (destination, person) lanes that are being written.
    pub(crate) fn lanes(&self) -> MutexGuard<'_, BTreeSet<(i64, i64)>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a subject; `None` when somebody has it.
    pub(crate) fn claim_subject(self: &Arc<Self>, subject: i64) -> Option<SubjectClaim> {
        let is_free = self.subjects().insert(subject) || crate::fail_point::is_broken_on_purpose("older_read");
        is_free.then(|| SubjectClaim { claims: Arc::clone(self), subject })
    }

    /// Claims a lane; `None` when somebody has it.
    pub(crate) fn claim_lane(self: &Arc<Self>, lane: (i64, i64)) -> Option<LaneClaim> {
        let is_free = self.lanes().insert(lane) || crate::fail_point::is_broken_on_purpose("lease");
        is_free.then(|| LaneClaim { claims: Arc::clone(self), lane })
    }
}

/// The right to read one subject, until dropped.
pub(crate) struct SubjectClaim {
    claims: Arc<Claims>,
    subject: i64,
}

impl Drop for SubjectClaim {
    fn drop(&mut self) {
        self.claims.subjects().remove(&self.subject);
    }
}

/// The right to write one person's rows at one destination, until dropped.
pub(crate) struct LaneClaim {
    claims: Arc<Claims>,
    lane: (i64, i64),
}

impl Drop for LaneClaim {
    fn drop(&mut self) {
        self.claims.lanes().remove(&self.lane);
    }
}
