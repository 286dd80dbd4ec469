//! Faults and disturbances, each applied at its time, and how those end that last.

use std::collections::BTreeSet;
use std::path::Path;

use chrono_tz::Tz;
use learnsync::config::History;
use learnsync::domain::delivery::OPERATOR;
use learnsync::domain::time::{LmsTime, Timestamp};
use learnsync::store::StoreError;
use learnsync_sdk::RecordKind;
use rand::Rng;

use crate::check;
use crate::fault::Fault;
use crate::habit::Habit;
use crate::hook::Hook;
use crate::life::{Life, PORTAL, Planned};
use crate::play::{BeforeStart, COURSES, End, Event, HOUR_MS, Pin, Play, course_name};
use crate::scenario::DAY_MS;
use crate::target::{Kind, Target};

/// When an operator asks again for what may not have been kept, in milliseconds.
const PIN_AGAIN_MS: i64 = 10 * 60_000;

impl Play {
    /// Tries a fault; answers whether the daemon is to be stopped for it.
    pub(crate) async fn disturb(&mut self, fault: Fault, pick: u64, life: &mut Life) -> Option<BeforeStart> {
        let now = self.now();
        let pick = usize::try_from(pick >> 1).unwrap_or(0);
        let target = std::sync::Arc::clone(&self.destinations[pick % self.destinations.len()].target);
        let everybody = self.lms.everybody();
        let learner = everybody[pick % everybody.len()].clone();
        match fault {
            Fault::HookLost | Fault::HookRepeated | Fault::HookDelayed | Fault::HookReordered | Fault::HookEarly => {
                self.hook_faults.push(fault);
            }
            Fault::HookForged => {
                self.world.fired(fault, "");
                self.send(Hook::forged(&learner, pick as u64), life);
            }
            Fault::HookBurst => {
                self.world.fired(fault, "");
                for learner in &everybody {
                    self.learns_twice(learner);
                }
                // Soon: hours later, reading what is suspected to be gone once more has put much right that was wrong.
                self.plan(now + self.world.draw(60_000..10 * 60_000), Event::Heard);
            }
            Fault::FactCorrected => self.correct(fault, &learner, pick),
            Fault::FactRevoked => {
                let facts = self.lms.facts(&learner);
                if let Some(key) = facts.keys().nth(pick % facts.len().max(1)) {
                    self.world.fired(fault, key);
                    self.lms.change(&learner, |facts| {
                        facts.remove(key);
                    });
                }
            }
            Fault::ReEnrolled => self.enrol_again(fault, &learner),
            Fault::UserMerged => self.merge(fault, &learner, &everybody[(pick + 1) % everybody.len()]),
            Fault::UserDeactivated => {
                self.world.fired(fault, &learner);
                self.lms.change_profile(&learner, |profile| profile.is_active = false);
            }
            Fault::LmsUnauthorized
            | Fault::LmsTokenKilled
            | Fault::LmsThrottledSeconds
            | Fault::LmsThrottledDate
            | Fault::LmsThrottledUnsaid
            | Fault::LmsHalfPage
            | Fault::LmsEmpty
            | Fault::LmsSlow
            | Fault::LmsForbidden => {
                self.lms.arm(fault);
                // Somebody asks soon.
                self.learns(&learner);
            }
            Fault::LmsRowInserted => {
                self.lms.arm(fault);
                life.sweep();
            }
            Fault::LmsDown => {
                self.lms.goes_down(now + self.world.draw(60_000..40 * 60_000));
                self.learns(&learner);
            }
            Fault::LmsShowsNothing => {
                // Shorter than what proves that a fact is gone.
                self.lms.shows_nothing(now + self.world.draw(HOUR_MS..5 * HOUR_MS));
                self.learns(&learner);
            }
            Fault::LmsRoleShrunk => {
                let hidden: BTreeSet<String> = everybody.iter().skip(pick % 2).step_by(2).cloned().collect();
                self.world.fired(fault, &format!("{} hidden", hidden.len()));
                self.lms.hide(hidden);
                self.plan(now + self.world.draw(HOUR_MS..12 * HOUR_MS), Event::End(End::RoleSeesAll));
            }
            Fault::TargetRefuses
            | Fault::TargetThrottledSeconds
            | Fault::TargetThrottledDate
            | Fault::TargetThrottledUnsaid
            | Fault::TargetSlow
            | Fault::AnswerLost => {
                target.arm(fault);
                self.learns(&learner);
            }
            Fault::LateCommit | Fault::PartialBatch => {
                // Only targets that can still be committing, or that take a batch.
                let fitting = if pick % 2 == 0 { "listed" } else { "pair" };
                self.named(fitting).arm(fault);
                self.learns(&learner);
                self.learns(&learner);
            }
            Fault::TargetDown => {
                target.goes_down(now + self.world.draw(60_000..3 * HOUR_MS));
                for learner in everybody.iter().take(3) {
                    self.learns(learner);
                }
            }
            Fault::TargetCursed => self.curse(fault, pick),
            Fault::ReferenceMissing => {
                let name = if pick % 2 == 0 { "listed" } else { "pair" };
                let course = course_name(pick % COURSES);
                self.world.fired(fault, &format!("{course} at {name}"));
                self.named(name).lists(&course, false);
                let end = End::Listed(name.to_owned(), course);
                self.plan(now + self.world.draw(HOUR_MS..30 * HOUR_MS), Event::End(end));
            }
            Fault::RowEdited | Fault::RowDeleted | Fault::RowCopied | Fault::RowNewer => {
                let name = match (fault, pick % 3) {
                    (Fault::RowNewer, _) | (_, 0) => "pair",
                    (Fault::RowCopied, _) | (_, 1) => "listed",
                    _ => "keyed",
                };
                if let Some(mark) = self.named(name).by_hand(fault, pick) {
                    self.world.fired(fault, &format!("{mark} at {name}"));
                    self.correct_slot(&mark, pick);
                }
            }
            Fault::FieldBlanked | Fault::RowUnmarked | Fault::RowMoved => {
                let name = if pick.is_multiple_of(3) { "pair" } else { "listed" };
                if let Some(mark) = self.named(name).by_hand(fault, pick) {
                    self.world.fired(fault, &format!("{mark} at {name}"));
                    // Sometimes its fact changes before the night looks.
                    if (pick / 3).is_multiple_of(3) {
                        self.correct_slot(&mark, pick | 1);
                    }
                }
            }
            Fault::PersonMissing if pick.is_multiple_of(2) => self.dismiss(fault, &learner, &target),
            Fault::PersonMissing | Fault::PersonTwice => self.newcomer(fault, &target),
            Fault::CredentialsRevoked => {
                target.revokes(now + self.world.draw(HOUR_MS..6 * HOUR_MS));
                self.learns(&learner);
            }
            Fault::AccountSwapped => {
                let name = ["listed", "pair", "keyed"][pick % 3];
                // Nobody can tell another account from the first that a ledger ever sees.
                let is_known = check::accounts(self.folder.path()).contains_key(name);
                if is_known && self.swapped.insert(name.to_owned()) {
                    self.world.fired(fault, name);
                    self.named(name).swaps_account();
                    self.plan(now + self.world.draw(HOUR_MS..8 * HOUR_MS), Event::End(End::Rebased(name.to_owned())));
                    return Some(BeforeStart::Nothing);
                }
            }
            Fault::Restart => {
                self.world.fired(fault, "");
                return Some(BeforeStart::Nothing);
            }
            Fault::Crash => {
                self.world.arm_crash(1 + pick as u64 % 300);
                self.learns(&learner);
            }
            Fault::ClockForward | Fault::ClockBack => {
                let ms = self.world.draw(60_000..3 * HOUR_MS);
                let ms = if fault == Fault::ClockBack { -ms } else { ms };
                self.world.fired(fault, &format!("{} s", ms / 1_000));
                self.world.clock.jump_ms(ms);
            }
            Fault::DaylightSaving => self.world.fired(fault, &self.scenario.zone().to_string()),
            Fault::DiskFull => {
                if life.store.limit_growth(true).await.is_ok() {
                    self.world.fired(fault, "");
                    self.plan(now + self.world.draw(60_000..10 * 60_000), Event::End(End::DiskFree));
                    for learner in &everybody {
                        self.learns(learner);
                    }
                }
            }
            Fault::MappingChanged => {
                self.world.fired(fault, "");
                self.mapping_version += 1;
                // An old ledger may rightly write what a target had from its later life.
                for planned in self.destinations.iter().filter(|_| self.restored_ms.is_none()) {
                    planned.target.remembers_mapping(&check::settled(self.folder.path(), &planned.target.name));
                }
                // Some operators look what that would change in what was written.
                for number in 0..pick % 4 {
                    let at = now + self.world.draw(5 * 60_000..8 * HOUR_MS);
                    self.plan(at, Event::Planning((pick / 4 + number) as u64));
                }
                return Some(BeforeStart::Nothing);
            }
            Fault::DestinationPaused => {
                let name = target.name.clone();
                if let Some(destination) = life.destinations.get(&name) {
                    // Planned first: a command that is ended by a crash may have been kept all the same.
                    self.operator_paused.insert(name.clone());
                    self.plan(now + self.world.draw(HOUR_MS..8 * HOUR_MS), Event::End(End::Resumed(name.clone())));
                    if life.store.pause_destination(destination.id, OPERATOR, None).await.is_ok() {
                        self.world.fired(fault, &name);
                        target.is_paused_by_operator(true);
                    }
                }
            }
            Fault::AddedNone | Fault::AddedAll | Fault::AddedSince => {
                self.add_destination(fault);
                return Some(BeforeStart::Nothing);
            }
            Fault::LinkPinned => self.pin(fault, &learner, pick, life).await,
            Fault::BackupRestored => {
                if let Some(backup) = self.back_up(life) {
                    let restore_ms = now + self.world.draw(20 * HOUR_MS..28 * HOUR_MS);
                    self.plan(restore_ms, Event::End(End::Restored(Box::new(backup))));
                }
            }
        }
        None
    }

    /// Ends a fault; answers whether the daemon is to be stopped for it.
    pub(crate) async fn end(&mut self, end: End, life: &mut Life) -> Option<BeforeStart> {
        self.world.say(&format!("ends {end:?}"));
        match end {
            End::RoleSeesAll => self.lms.hide(BTreeSet::new()),
            End::Hired(name, external_id) => self.named(&name).employs(&external_id, true),
            End::OneAgain(name, external_id) => self.named(&name).doubles(&external_id, false),
            End::Listed(name, course) => self.named(&name).lists(&course, true),
            End::Uncursed(name) => self.named(&name).curses(None),
            End::DiskFree => {
                if let Err(error) = life.store.limit_growth(false).await {
                    self.world.violated("a full disk gets room again", &error.to_string());
                }
            }
            End::Resumed(name) => {
                self.named(&name).is_paused_by_operator(false);
                if let Some(destination) = life.destinations.get(&name) {
                    match life.store.resume_destination(destination.id).await {
                        Ok(asked_until) => destination.gate.open(asked_until),
                        Err(StoreError::Full(_)) => return None,
                        Err(error) => self.world.violated("the operator can resume", &error.to_string()),
                    }
                }
                self.operator_paused.remove(&name);
                life.ring(&name);
            }
            End::Rebased(name) => {
                let target = self.named(&name);
                target.is_paused_by_operator(false);
                target.trust();
                // People have other ids in another account: pins are forgotten with the links.
                self.pins.retain(|pin| pin.destination != name);
                target.forgets_mapping(None);
                if self.restored_ms.is_some() {
                    // What an old ledger wrote there, under somebody who was merged since, nobody can name.
                    target.moves_made_since(0, |mark| self.owner_of(mark, &target));
                }
                if let Some(destination) = life.destinations.get(&name) {
                    match life.store.rebase_destination(destination.id).await {
                        Ok(asked_until) => destination.gate.rebase(asked_until),
                        // They ask again later, as those do whose command is ended by a crash.
                        Err(StoreError::Full(_)) => return None,
                        Err(error) => self.world.violated("the operator can rebase", &error.to_string()),
                    }
                }
                self.swapped.remove(&name);
                self.operator_paused.remove(&name);
                life.ring(&name);
            }
            End::Pinned(pin) => self.pin_again(pin, life).await,
            End::Restored(backup) => return Some(BeforeStart::Restore(backup)),
        }
        None
    }

    /// What an operator does while no daemon runs.
    pub(crate) fn before_start(&mut self, before: BeforeStart) {
        let BeforeStart::Restore(backup) = before else { return };
        self.world.fired(Fault::BackupRestored, "");
        match put_back(&backup.path, self.folder.path()) {
            Ok(()) => self.go_back_to(*backup),
            Err(error) => self.world.violated("a backup can be restored", &error.to_string()),
        }
    }

    /// The target of a destination; all names come from the list of destinations.
    pub(crate) fn named(&self, name: &str) -> std::sync::Arc<Target> {
        let found = self.destinations.iter().find(|planned| planned.target.name == name);
        std::sync::Arc::clone(&found.expect("a destination of this world").target)
    }

    /// A fact of a learner is corrected without any event.
    fn correct(&mut self, fault: Fault, learner: &str, pick: usize) {
        let facts = self.lms.facts(learner);
        let Some(key) = facts.keys().nth(pick % facts.len().max(1)).cloned() else { return };
        self.world.fired(fault, &key);
        self.lms.change(learner, |facts| {
            if let Some(record) = facts.get_mut(&key) {
                record.score = Some(f64::from(u8::try_from(pick % 50).unwrap_or(0)));
                if pick.is_multiple_of(3) {
                    let shift = |time| match time {
                        LmsTime::Instant(at) => LmsTime::Instant(at.plus_ms(-DAY_MS)),
                        LmsTime::Date(date) => LmsTime::Date(date.pred_opt().unwrap_or(date)),
                    };
                    record.achieved = record.achieved.map(shift);
                }
            }
        });
    }

    /// The fact behind a mark is corrected, and this time a webhook says so: the row will be written again.
    fn correct_slot(&mut self, mark: &str, pick: usize) {
        for learner in self.lms.everybody() {
            for (key, record) in self.lms.facts(&learner) {
                let course = record.course.as_ref().map(|course| format!("{}/of/{learner}/{}", record.kind, course.id));
                let is_it = mark.ends_with(&format!(":{key}")) || course.is_some_and(|slot| mark.ends_with(&slot));
                if is_it && !pick.is_multiple_of(4) {
                    self.lms.change(&learner, |facts| {
                        if let Some(record) = facts.get_mut(&key) {
                            record.score = Some(f64::from(u8::try_from(pick % 49).unwrap_or(0)) + 0.5);
                        }
                    });
                    let at = self.now() + 1_000;
                    self.plan(at, Event::Hook(Hook::of_fact(&learner, record.kind, None)));
                }
            }
        }
    }

    /// A completion goes, and the same course is completed again later.
    fn enrol_again(&mut self, fault: Fault, learner: &str) {
        let facts = self.lms.facts(learner);
        let Some(old) = facts.into_values().find(|record| record.kind == RecordKind::Completion) else { return };
        self.world.fired(fault, &old.key());
        self.lms.change(learner, |facts| {
            facts.remove(&old.key());
        });
        let at = self.now() + self.world.draw(HOUR_MS..20 * HOUR_MS);
        let mut again = self.new_record(learner, at);
        again.kind = RecordKind::Completion;
        again.course = old.course;
        again.title = old.title;
        again.valid_until = None;
        again.achieved = Some(LmsTime::Instant(Timestamp(at)));
        self.plan(at, Event::Appears(Box::new(again)));
        self.plan(at + 2_000, Event::Hook(Hook::of_fact(learner, RecordKind::Completion, None)));
    }

    /// One account is merged into another: its facts move, ids and all, and it goes inactive. There is no event for it.
    fn merge(&mut self, fault: Fault, gone: &str, survivor: &str) {
        if gone == survivor {
            return;
        }
        self.world.fired(fault, &format!("{gone} into {survivor}"));
        let moved = self.lms.facts(gone);
        self.lms.change(gone, std::collections::BTreeMap::clear);
        self.lms.change_profile(gone, |profile| profile.is_active = false);
        self.lms.change(survivor, |facts| {
            for (key, mut record) in moved {
                record.learner_id = survivor.to_owned();
                facts.insert(key, record);
            }
        });
        // Sometimes somebody touches the survivor at once, sometimes only the night finds it.
        if self.chance.random_ratio(1, 2) {
            self.learns(survivor);
        }
    }

    /// One place fails while all others work, and its fact changes.
    fn curse(&mut self, fault: Fault, pick: usize) {
        let name = if pick.is_multiple_of(2) { "listed" } else { "keyed" };
        let target = self.named(name);
        let rows: Vec<_> =
            target.rows().into_values().filter(|row| row.origin == crate::target::Origin::Ours).collect();
        let Some(mark) = rows.get(pick % rows.len().max(1)).and_then(|row| row.mark.clone()) else { return };
        self.world.say(&format!("{fault} set on {mark} at {name}"));
        target.curses(Some(mark.clone()));
        self.correct_slot(&mark, pick | 1);
        let now = self.now();
        // Others succeed meanwhile.
        for (place, learner) in self.lms.everybody().into_iter().enumerate() {
            let record = self.new_record(&learner, now);
            let at = now + 60_000 * (1 + i64::try_from(place).unwrap_or(0) * 3);
            let kind = record.kind;
            self.plan(at, Event::Appears(Box::new(record)));
            self.plan(at + 1_000, Event::Hook(Hook::of_fact(&learner, kind, None)));
        }
        let end = End::Uncursed(name.to_owned());
        self.plan(now + self.world.draw(2 * HOUR_MS..20 * HOUR_MS), Event::End(end));
    }

    /// Somebody new learns at once, and a target does not know them yet, or twice.
    fn newcomer(&mut self, fault: Fault, target: &Target) {
        let number = 100 + self.lms.everybody().len();
        let learner = self.lms.enlist(number, false);
        let external_id = format!("E{number}");
        self.world.fired(fault, &format!("{external_id} at {}", target.name));
        let (name, at) = (target.name.clone(), self.now() + self.world.draw(HOUR_MS..30 * HOUR_MS));
        if fault == Fault::PersonMissing {
            target.employs(&external_id, false);
            self.plan(at, Event::End(End::Hired(name, external_id)));
        } else {
            target.doubles(&external_id, true);
            self.plan(at, Event::End(End::OneAgain(name, external_id)));
        }
        self.learns(&learner);
        self.learns(&learner);
    }

    /// Somebody whom a target knew is unknown there, and hired again later.
    fn dismiss(&mut self, fault: Fault, learner: &str, target: &Target) {
        let external_id = self.lms.profile(learner).and_then(|profile| profile.external_id).unwrap_or_default();
        self.world.fired(fault, &format!("{external_id} left {}", target.name));
        target.employs(&external_id, false);
        let at = self.now() + self.world.draw(HOUR_MS..30 * HOUR_MS);
        self.plan(at, Event::End(End::Hired(target.name.clone(), external_id)));
        self.learns(learner);
    }

    fn add_destination(&mut self, fault: Fault) {
        let begins = Timestamp(self.scenario.begins_ms());
        let (name, kind, history) = match fault {
            Fault::AddedNone => ("from-now", Kind::Keyed, History::None),
            Fault::AddedAll => ("from-ever", Kind::ReadBack, History::All),
            _ => ("since", Kind::Pair, History::Since(begins.plus_ms(-50 * DAY_MS).utc().date_naive())),
        };
        self.world.fired(fault, name);
        let planned = Planned {
            target: Target::new(name, kind, &self.world),
            habit: Habit::of(&self.scenario, name),
            is_shadow: false,
            history,
            zone: Tz::Asia__Tokyo,
            records: vec![RecordKind::Completion, RecordKind::Certificate],
        };
        self.destinations.push(planned);
    }

    async fn pin(&mut self, fault: Fault, learner: &str, pick: usize, life: &Life) {
        let name = ["listed", "pair", "keyed"][pick % 3];
        let target = self.named(name);
        if target.is_swapped() {
            return;
        }
        let (Some(destination), Some(profile)) = (life.destinations.get(name), self.lms.profile(learner)) else {
            return;
        };
        let Ok(Some(person)) = life.store.person_of(PORTAL, learner).await else { return };
        let remote = format!("{}-b{}", target.person_of(&profile.external_id.unwrap_or_default()), pick % 3);
        // Planned first: a command that is ended by a crash may have been kept all the same, and its operator asks again.
        let pin = Pin { destination: name.to_owned(), learner: learner.to_owned(), person: remote.clone() };
        self.pins.push(pin.clone());
        self.plan(self.now() + PIN_AGAIN_MS, Event::End(End::Pinned(pin)));
        if life.store.pin_link(destination.id, person, &remote).await.is_ok() {
            self.world.fired(fault, &format!("{learner} is {remote}"));
            life.ring(name);
        }
    }

    /// An operator looks whether a pin was kept, and asks again if not.
    async fn pin_again(&mut self, pin: Pin, life: &Life) {
        if self.person(&pin.destination, &pin.learner).as_deref() != Some(&pin.person) {
            return;
        }
        let Some(destination) = life.destinations.get(&pin.destination) else { return };
        let Ok(Some(person)) = life.store.person_of(PORTAL, &pin.learner).await else { return };
        match life.store.pin_link(destination.id, person, &pin.person).await {
            Ok(_) => life.ring(&pin.destination),
            Err(_) => self.plan(self.now() + PIN_AGAIN_MS, Event::End(End::Pinned(pin))),
        }
    }
}

/// Puts a copy in place of the ledger; the keys stay those of today.
fn put_back(copy: &Path, folder: &Path) -> std::io::Result<()> {
    for leftover in ["learnsync.db-wal", "learnsync.db-shm"] {
        match std::fs::remove_file(folder.join(leftover)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    std::fs::rename(copy, folder.join("learnsync.db"))
}
