//! Fake targets at the `Connector` trait: four kinds, each with rows that people can edit, and with faults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::Timelike;
use learnsync::domain::time::Clock;
use learnsync_sdk::{
    Account, Action, BlindRepeat, Change, Claim, Connector, DeliveryError, Description, ErrorKind, FieldType, Fields,
    Learner, ListedPage, ListedRow, MatchRule, Observation, PersonMatch, Place, Receipt, Reference, RetryAfter,
    TargetField, TargetObject, Value,
};

use crate::fault::Fault;
use crate::lms::Pause;
use crate::world::{World, lock};

/// How long the key-less target may still be committing after its answer was lost, in seconds.
pub const SETTLE_SECONDS: u32 = 60;

/// From and until which hour nothing is told, in UTC.
pub const QUIET: (u32, u32) = (1, 6);

/// How far apart the batches of a target that takes messages must be, in milliseconds.
const BATCH_INTERVAL_MS: u32 = 1_000;

/// Rows on a page of a list: few, so that a list has pages.
const PAGE_ROWS: usize = 4;

/// The longest title that targets take, in characters.
pub const TITLE_MAX: usize = 40;

/// What kind of target it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An upsert by our mark; cannot be read back.
    Keyed,
    /// No key: whoever creates twice has two rows. Can be read back, and lists all that it holds. Never looks for itself: all the looking is the daemon's.
    ReadBack,
    /// One row a person and course. Can be read back place by place, and lists nothing.
    Pair,
    /// Takes messages; neither key nor read-back.
    Append(BlindRepeat),
}

/// Where a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// We wrote it.
    Ours,
    /// It was there before us, or carries another installation's mark.
    Foreign,
    /// Somebody copied one of ours.
    Copied,
    /// Somebody removed our mark from one of ours: it is theirs now.
    Taken,
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The person's id.
    pub person: String,
    /// The mark; none on rows that people made.
    pub mark: Option<String>,
    /// What it holds.
    pub fields: Fields,
    /// Where it comes from.
    pub origin: Origin,
    /// The fields that somebody changed since we last wrote them, with what we had written.
    pub theirs: BTreeMap<String, Value>,
    /// When we made it.
    pub made_ms: i64,
}

/// The fake system behind one destination; lives longer than any daemon.
pub struct Target {
    /// The destination's name.
    pub name: String,
    /// What kind it is.
    pub kind: Kind,
    world: Arc<World>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    account: u32,
    rows: BTreeMap<u64, Row>,
    next_row: u64,
    /// How often each mark was told, for targets that append.
    told: BTreeMap<String, u64>,
    armed: Vec<Fault>,
    pause: Option<Pause>,
    down_until_ms: i64,
    revoked_until_ms: i64,
    cursed: Option<String>,
    unlisted: BTreeSet<String>,
    missing: BTreeSet<String>,
    twins: BTreeSet<String>,
    /// Slots in which somebody entered something newer.
    newer: BTreeSet<String>,
    /// Rows that somebody deleted and that we have not written since.
    deleted: BTreeSet<String>,
    /// Rows from which somebody removed our mark, and that we have not written since.
    unmarked: BTreeSet<String>,
    /// Rows that somebody moved to another person, and that we have not written since.
    moved: BTreeSet<String>,
    /// Since when an operator wants nothing to be written.
    operator_paused_ms: Option<i64>,
    /// When the last batch began, and how wrong the daemon's clock was.
    last_batch: (i64, i64),
    /// When a backup of the ledger was last restored.
    restored_ms: i64,
    /// Changes that are made later than their answer.
    late: Vec<(i64, Change)>,
    /// Marks of which a write is under way: two at once are a broken claim.
    under_way: BTreeSet<String>,
    /// The account that the daemon was last told to trust.
    trusted_account: u32,
    /// For each mark: the row as it was when the mapping was last changed.
    before_mapping: BTreeMap<String, Row>,
}

impl Target {
    /// An empty system with three rows that are none of our business.
    #[must_use]
    pub fn new(name: &str, kind: Kind, world: &Arc<World>) -> Arc<Self> {
        let target = Self {
            name: name.to_owned(),
            kind,
            world: Arc::clone(world),
            state: Mutex::new(State { next_row: 1, ..State::default() }),
        };
        for mark in [None, Some("learnsync:other:completion/e1"), Some("learnsync:other:certificate/c1")] {
            let mut state = lock(&target.state);
            let fields = Fields::from([("title".to_owned(), Value::Text("by hand".to_owned()))]);
            let row = Row {
                person: "A0-P1".to_owned(),
                mark: mark.map(str::to_owned),
                fields,
                origin: Origin::Foreign,
                theirs: BTreeMap::new(),
                made_ms: 0,
            };
            let id = state.next_row;
            state.next_row += 1;
            state.rows.insert(id, row);
        }
        Arc::new(target)
    }

    /// What its connector says.
    #[must_use]
    pub fn description(&self) -> Description {
        let (claims, settle_seconds, persons_per_batch_max, blind_repeat): (&'static [Claim], _, _, _) = match self.kind
        {
            Kind::Keyed => (&[Claim::People, Claim::UpsertByMark, Claim::Withdraw], 0, 3, BlindRepeat::MayLose),
            Kind::ReadBack => {
                let claims = &[Claim::People, Claim::ReadBack, Claim::List, Claim::Withdraw];
                (claims, SETTLE_SECONDS, 1, BlindRepeat::MayLose)
            }
            Kind::Pair => (
                &[Claim::People, Claim::UpsertByMark, Claim::ReadBack, Claim::Withdraw],
                SETTLE_SECONDS,
                1,
                BlindRepeat::MayLose,
            ),
            Kind::Append(blind) => (&[], 0, 3, blind),
        };
        Description {
            name: "fake",
            summary: "A fake target.",
            documentation: "https://example.org",
            claims,
            blind_repeat,
            reference_kinds: &["course_type"],
            settle_seconds,
            persons_per_batch_max,
            concurrency_max: 2,
            batch_interval_ms: if matches!(self.kind, Kind::Append(_)) { BATCH_INTERVAL_MS } else { 0 },
            settings: &[],
            default_routes: Vec::new(),
        }
    }

    /// The next call that it fits meets this fault.
    pub fn arm(&self, fault: Fault) {
        lock(&self.state).armed.push(fault);
    }

    /// Down until then.
    pub fn goes_down(&self, until_ms: i64) {
        lock(&self.state).down_until_ms = until_ms;
    }

    /// The credentials are refused until then.
    pub fn revokes(&self, until_ms: i64) {
        lock(&self.state).revoked_until_ms = until_ms;
    }

    /// A place that fails while all others work, or none any more.
    pub fn curses(&self, mark: Option<String>) {
        lock(&self.state).cursed = mark;
    }

    /// A course has no reference, or has one again.
    pub fn lists(&self, course: &str, is_listed: bool) {
        let mut state = lock(&self.state);
        if is_listed {
            state.unlisted.remove(course)
        } else {
            state.unlisted.insert(course.to_owned())
        };
    }

    /// A person, by external id, is unknown, or hired.
    pub fn employs(&self, external_id: &str, is_employed: bool) {
        let mut state = lock(&self.state);
        if is_employed {
            state.missing.remove(external_id)
        } else {
            state.missing.insert(external_id.to_owned())
        };
    }

    /// A person is there twice, or once again.
    pub fn doubles(&self, external_id: &str, is_double: bool) {
        let mut state = lock(&self.state);
        if is_double {
            state.twins.insert(external_id.to_owned())
        } else {
            state.twins.remove(external_id)
        };
    }

    /// Whether a person cannot be told from another, or is not there.
    #[must_use]
    pub fn is_unfindable(&self, external_id: &str) -> (bool, bool) {
        let state = lock(&self.state);
        (state.missing.contains(external_id), state.twins.contains(external_id))
    }

    /// Whether the slot behind a mark is one in which somebody entered something newer.
    #[must_use]
    pub fn has_newer(&self, mark: &str) -> bool {
        lock(&self.state).newer.contains(mark)
    }

    /// Whether somebody deleted the row of this mark and we have not written it since.
    #[must_use]
    pub fn was_deleted(&self, mark: &str) -> bool {
        lock(&self.state).deleted.contains(mark)
    }

    /// Whether somebody removed this mark from our row and we have not written it since.
    #[must_use]
    pub fn was_unmarked(&self, mark: &str) -> bool {
        lock(&self.state).unmarked.contains(mark)
    }

    /// Whether somebody moved the row of this mark to another person and we have not written it since.
    #[must_use]
    pub fn was_moved(&self, mark: &str) -> bool {
        lock(&self.state).moved.contains(mark)
    }

    /// An operator pauses the destination, or resumes it.
    pub fn is_paused_by_operator(&self, is_paused: bool) {
        let now = self.world.clock.true_ms();
        lock(&self.state).operator_paused_ms = is_paused.then_some(now);
    }

    /// Whether a course has no reference.
    #[must_use]
    pub fn is_unlisted(&self, course: &str) -> bool {
        lock(&self.state).unlisted.contains(course)
    }

    /// A crash took a pause that the daemon had just heard of: it cannot keep to it.
    pub fn forgives(&self) {
        let mut state = lock(&self.state);
        state.pause = state.pause.filter(|pause| pause.begun_ms <= self.world.pause_kept_ms());
    }

    /// An old ledger knows no pause of today.
    pub fn forgives_all(&self) {
        let mut state = lock(&self.state);
        state.pause = None;
        state.restored_ms = self.world.clock.true_ms();
    }

    /// No more faults; what people did to rows and persons stays.
    pub fn behaves(&self) {
        let mut state = lock(&self.state);
        state.armed.clear();
        state.down_until_ms = 0;
        state.revoked_until_ms = 0;
        state.cursed = None;
    }

    /// Another account, empty and with other ids for the same people.
    pub fn swaps_account(&self) {
        let mut state = lock(&self.state);
        state.account += 1;
        state.rows.retain(|_, row| row.origin == Origin::Foreign);
        state.newer.clear();
        state.deleted.clear();
        state.unmarked.clear();
        state.moved.clear();
        state.late.clear();
        state.before_mapping.clear();
    }

    /// Whether the account is one that the operator has not confirmed.
    #[must_use]
    pub fn is_swapped(&self) -> bool {
        let state = lock(&self.state);
        state.account != state.trusted_account
    }

    /// The operator confirms the account.
    pub fn trust(&self) {
        let mut state = lock(&self.state);
        state.trusted_account = state.account;
    }

    /// The account behind the credentials.
    #[must_use]
    pub fn account(&self) -> u32 {
        lock(&self.state).account
    }

    /// The account that was last confirmed.
    #[must_use]
    pub fn trusts(&self) -> u32 {
        lock(&self.state).trusted_account
    }

    /// Whether a ledger that trusts this account must ask again.
    #[must_use]
    pub fn is_distrusted_by(&self, account: u32) -> bool {
        let mut state = lock(&self.state);
        state.trusted_account = account;
        state.account != account
    }

    /// What was written until now is by the old mapping: with the same facts it must not be written again by the new one.
    pub fn remembers_mapping(&self, settled: &BTreeSet<String>) {
        let mut state = lock(&self.state);
        let is_settled = |row: &&Row| row.mark.as_ref().is_some_and(|mark| settled.contains(mark));
        let rows = state.rows.values().filter(|row| row.origin == Origin::Ours && row.theirs.is_empty());
        let rows: Vec<Row> = rows.filter(is_settled).cloned().collect();
        state.before_mapping = rows.into_iter().filter_map(|row| Some((row.mark.clone()?, row))).collect();
    }

    /// Somebody had a reason to write everything, or one place, again.
    pub fn forgets_mapping(&self, mark: Option<&str>) {
        let mut state = lock(&self.state);
        match mark {
            Some(mark) => {
                state.before_mapping.remove(mark);
            }
            None => state.before_mapping.clear(),
        }
    }

    /// The rows, with what is late made.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<u64, Row> {
        self.make_late_changes();
        lock(&self.state).rows.clone()
    }

    /// How often each mark was told.
    #[must_use]
    pub fn told(&self) -> BTreeMap<String, u64> {
        lock(&self.state).told.clone()
    }

    /// The person's id of a learner by external id.
    #[must_use]
    pub fn person_of(&self, external_id: &str) -> String {
        format!("A{}-P{}", lock(&self.state).account, external_id.trim_start_matches(['E', 'e']))
    }

    /// A pin is undone by hand: the rows go back to who the person is by the rules.
    pub fn moves_back(&self, pinned: &str, person: &str) {
        for row in lock(&self.state).rows.values_mut().filter(|row| row.person == pinned) {
            row.person = person.to_owned();
        }
    }

    /// Rows that were made after a time, and whose fact belongs to somebody else by now, go to who that is.
    pub fn moves_made_since(&self, ms: i64, owner: impl Fn(&str) -> Option<String>) {
        let made_since: Vec<(u64, String)> = lock(&self.state)
            .rows
            .iter()
            .filter(|(_, row)| row.origin == Origin::Ours && row.made_ms >= ms)
            .filter_map(|(id, row)| Some((*id, row.mark.clone()?)))
            .collect();
        for (id, mark) in made_since {
            if let Some(person) = owner(&mark)
                && let Some(row) = lock(&self.state).rows.get_mut(&id)
            {
                row.person = person;
            }
        }
    }

    /// Somebody does something to one of our rows; answers whether there was one.
    pub fn by_hand(&self, fault: Fault, pick: usize) -> Option<String> {
        self.make_late_changes();
        let mut state = lock(&self.state);
        let ours: Vec<u64> =
            state.rows.iter().filter(|(_, row)| row.origin == Origin::Ours).map(|(id, _)| *id).collect();
        let id = *ours.get(pick % ours.len().max(1))?;
        let row = state.rows[&id].clone();
        let mark = row.mark.clone().unwrap_or_default();
        state.before_mapping.remove(&mark);
        match fault {
            Fault::RowEdited | Fault::FieldBlanked => {
                let (name, theirs) = match fault {
                    Fault::RowEdited => ("title", Value::Text("edited by hand".to_owned())),
                    _ => ("score", Value::Null),
                };
                let row = state.rows.get_mut(&id)?;
                let ours = row.fields.insert(name.to_owned(), theirs)?;
                row.theirs.entry(name.to_owned()).or_insert(ours);
            }
            Fault::RowUnmarked => {
                let row = state.rows.get_mut(&id)?;
                (row.mark, row.origin) = (None, Origin::Taken);
                state.unmarked.insert(mark.clone());
            }
            Fault::RowMoved => {
                let row = state.rows.get_mut(&id)?;
                row.person = format!("{}-m", row.person);
                state.moved.insert(mark.clone());
            }
            Fault::RowDeleted => {
                state.rows.remove(&id);
                state.deleted.insert(mark.clone());
            }
            Fault::RowCopied => {
                let copy = state.next_row;
                state.next_row += 1;
                state.rows.insert(copy, Row { origin: Origin::Copied, ..row });
            }
            Fault::RowNewer if self.kind == Kind::Pair => {
                state.newer.insert(mark.clone());
            }
            _ => return None,
        }
        Some(mark)
    }

    /// The copies that somebody made are removed again.
    pub fn removes_copies(&self) {
        lock(&self.state).rows.retain(|_, row| row.origin != Origin::Copied);
    }

    fn make_late_changes(&self) {
        let now = self.world.clock.true_ms();
        loop {
            let next = {
                let mut state = lock(&self.state);
                let place = state.late.iter().position(|(at, _)| *at <= now);
                place.map(|place| state.late.remove(place).1)
            };
            let Some(change) = next else { return };
            self.world.say(&format!("late commit at {} of {}", self.name, change.mark));
            let _answer = self.make(&change);
        }
    }

    fn take(&self, fitting: &[Fault]) -> Option<Fault> {
        let mut state = lock(&self.state);
        let place = state.armed.iter().position(|fault| fitting.contains(fault))?;
        Some(state.armed.remove(place))
    }

    fn error(&self, kind: ErrorKind, words: &str) -> DeliveryError {
        self.world.reached("error_kind", kind.as_str());
        DeliveryError::new(kind, words)
    }

    /// What every request meets.
    async fn enter(&self, call: &str) -> Result<(), DeliveryError> {
        self.world.point(&format!("before {call}")).await;
        let sent_ms = self.world.clock.true_ms();
        self.world.takes_ms(1..200).await;
        self.make_late_changes();
        let (pause, down_until_ms, revoked_until_ms) = {
            let state = lock(&self.state);
            (state.pause, state.down_until_ms, state.revoked_until_ms)
        };
        if pause.is_some_and(|pause| pause.is_broken_by(sent_ms, &self.world)) {
            self.world
                .violated("no request inside a pause", &format!("{} asked us to wait, and {call} came", self.name));
        }
        let now = self.world.clock.true_ms();
        if now < down_until_ms {
            self.world.fired(Fault::TargetDown, &self.name);
            return Err(self.error(ErrorKind::Unavailable, "503"));
        }
        if now < revoked_until_ms {
            self.world.fired(Fault::CredentialsRevoked, &self.name);
            return Err(self.error(ErrorKind::Unauthorized, "401"));
        }
        let throttles = [Fault::TargetThrottledSeconds, Fault::TargetThrottledDate, Fault::TargetThrottledUnsaid];
        let Some(fault) = self.take(&throttles) else { return Ok(()) };
        self.world.fired(fault, &self.name);
        let seconds = self.world.draw(61..5_400);
        let until_ms = now + seconds * 1_000;
        let (until_ms, after) = match fault {
            Fault::TargetThrottledSeconds => (until_ms, RetryAfter::For(Duration::from_secs(seconds.unsigned_abs()))),
            Fault::TargetThrottledDate => {
                (until_ms, RetryAfter::Until(chrono::DateTime::from_timestamp_millis(until_ms).unwrap_or_default()))
            }
            _ => (now + 60_000, RetryAfter::Unsaid),
        };
        let is_dated = fault == Fault::TargetThrottledDate;
        lock(&self.state).pause =
            Some(Pause { begun_ms: now, until_ms, offset_ms: self.world.clock.offset_ms(), is_dated });
        Err(self.error(ErrorKind::Throttled(after), "429"))
    }

    /// Makes a change, now.
    fn make(&self, change: &Change) -> Result<Receipt, DeliveryError> {
        let mut state = lock(&self.state);
        if self.knows_people() && !change.person.starts_with(&format!("A{}-", state.account)) {
            drop(state);
            return Err(self.error(ErrorKind::Unmatched, "no such person"));
        }
        let number: String =
            change.person.split("-P").nth(1).unwrap_or("").chars().take_while(char::is_ascii_digit).collect();
        if self.knows_people() && state.missing.contains(&format!("E{number}")) {
            // Whoever hears that counts the row as gone; it is out of everybody's reach, until they are hired again.
            if let Action::Withdraw { row } = &change.action
                && let Ok(id) = row.trim_start_matches('r').parse::<u64>()
                && let Some(left_behind) = state.rows.get_mut(&id)
            {
                left_behind.origin = Origin::Copied;
            }
            drop(state);
            return Err(self.error(ErrorKind::Unmatched, "no such person any more"));
        }
        if state.account != state.trusted_account {
            self.world.violated(
                "nothing is written to an account that nobody confirmed",
                &format!("{} {}", self.name, change.mark),
            );
        }
        let receipt =
            |row: u64, status, wrote| Ok(Receipt { row: format!("r{row}"), status, words: "taken".to_owned(), wrote });
        match &change.action {
            Action::Put { fields, row, .. } => {
                if matches!(self.kind, Kind::Append(_)) {
                    *state.told.entry(change.mark.clone()).or_default() += 1;
                    let id = state.next_row;
                    state.next_row += 1;
                    return receipt(id, 200, true);
                }
                if state.newer.contains(&change.mark) {
                    drop(state);
                    return Err(self.error(ErrorKind::Superseded, "holds something newer"));
                }
                self.check_mapping(&state, change, fields);
                state.before_mapping.remove(&change.mark);
                let known = row.as_ref().and_then(|row| row.trim_start_matches('r').parse::<u64>().ok());
                let place = match self.kind {
                    Kind::Keyed | Kind::Pair => state
                        .rows
                        .iter()
                        .find(|(_, row)| row.origin == Origin::Ours && row.mark.as_ref() == Some(&change.mark))
                        .map(|(id, _)| *id),
                    Kind::ReadBack | Kind::Append(_) => {
                        known.filter(|id| state.rows.get(id).is_some_and(|row| row.mark.as_ref() == Some(&change.mark)))
                    }
                };
                state.deleted.remove(&change.mark);
                state.unmarked.remove(&change.mark);
                let was_moved = state.moved.remove(&change.mark);
                let wanted = Row {
                    person: change.person.clone(),
                    mark: Some(change.mark.clone()),
                    fields: fields.clone(),
                    origin: Origin::Ours,
                    theirs: BTreeMap::new(),
                    made_ms: self.world.clock.true_ms(),
                };
                if let Some(id) = place {
                    let is_ours = |(other, row): (&u64, &Row)| {
                        *other != id && row.mark == wanted.mark && row.origin == Origin::Ours
                    };
                    // Who finds a copy where the row stood before somebody moved it takes it for the row.
                    if was_moved && state.rows.get(&id).is_some_and(|row| row.origin == Origin::Copied) {
                        let moved = state.rows.iter_mut().find(|(other, row)| is_ours((*other, &**row)));
                        if let Some((_, row)) = moved {
                            row.origin = Origin::Copied;
                        }
                    }
                    // Where only a copy is left it is the row.
                    let has_another = state.rows.iter().any(is_ours);
                    let row = state.rows.get_mut(&id).expect("was just found");
                    let origin = if has_another { row.origin } else { Origin::Ours };
                    let is_same = row.fields == *fields && row.person == change.person;
                    // What is not sent stays as somebody left it.
                    let left = std::mem::take(&mut row.theirs);
                    let theirs: BTreeMap<String, Value> =
                        left.into_iter().filter(|(name, _)| !fields.contains_key(name)).collect();
                    let mut wanted = Row { origin, made_ms: row.made_ms, ..wanted };
                    for (name, value) in std::mem::take(&mut row.fields) {
                        wanted.fields.entry(name).or_insert(value);
                    }
                    *row = Row { theirs, ..wanted };
                    return receipt(id, 200, !is_same);
                }
                // What a life of the ledger that was lost wrote for somebody who was merged since: only a list of all our rows would show it.
                let restored_ms = state.restored_ms;
                for row in state.rows.values_mut().filter(|row| row.origin == Origin::Ours && row.mark == wanted.mark) {
                    // Nor does who looks under a person find what somebody moved to another.
                    if (row.made_ms < restored_ms || was_moved) && row.person != change.person {
                        row.origin = Origin::Copied;
                    }
                }
                let others =
                    state.rows.values().filter(|row| row.origin == Origin::Ours && row.mark == wanted.mark).count();
                if others > 0 {
                    self.world
                        .violated("never two objects of ours for one slot", &format!("{} {}", self.name, change.mark));
                }
                let id = state.next_row;
                state.next_row += 1;
                state.rows.insert(id, wanted);
                receipt(id, 201, true)
            }
            Action::Withdraw { row } => {
                let id = row.trim_start_matches('r').parse::<u64>().unwrap_or(0);
                match state.rows.get(&id) {
                    // Who removes looks first whether it is still ours.
                    Some(found) if found.origin == Origin::Taken => {}
                    Some(found) if found.mark.as_ref() != Some(&change.mark) => {
                        self.world.violated("nothing foreign is touched", &format!("{} row {id}", self.name));
                    }
                    Some(_) => {
                        state.rows.remove(&id);
                    }
                    None => {}
                }
                state.before_mapping.remove(&change.mark);
                receipt(id, 200, true)
            }
        }
    }

    /// What a target that takes messages wants: some time between two, and none at night, by the clock that the daemon sees.
    fn check_manners(&self) {
        if !matches!(self.kind, Kind::Append(_)) {
            return;
        }
        let (now, offset) = (self.world.clock.true_ms(), self.world.clock.offset_ms());
        let last = std::mem::replace(&mut lock(&self.state).last_batch, (now, offset));
        let is_same_life = last.0 >= self.world.life_began_ms() && last.1 == offset;
        if is_same_life && now - last.0 < i64::from(BATCH_INTERVAL_MS) {
            self.world.violated("batches keep their distance", &self.name);
        }
        if (QUIET.0..QUIET.1).contains(&self.world.clock.now().utc().hour()) {
            self.world.violated("nothing is told in quiet hours", &self.name);
        }
    }

    fn check_mapping(&self, state: &State, change: &Change, fields: &Fields) {
        let Some(row) = state.before_mapping.get(&change.mark) else { return };
        let is_only_the_mapping = without_mapping(&row.fields) == without_mapping(fields) && row.fields != *fields;
        // To whom it moves it must be written, by whatever mapping there is.
        if is_only_the_mapping && row.person == change.person {
            self.world.violated("a changed mapping rewrites no history", &format!("{} {}", self.name, change.mark));
        }
    }

    fn knows_people(&self) -> bool {
        !matches!(self.kind, Kind::Append(_))
    }

    /// One change of a batch, with the faults of one place.
    fn one(&self, change: &Change) -> Result<Receipt, DeliveryError> {
        if lock(&self.state).cursed.as_ref() == Some(&change.mark) {
            self.world.fired(Fault::TargetCursed, &change.mark);
            return Err(self.error(ErrorKind::Unavailable, "500"));
        }
        self.make(change)
    }

    async fn write(&self, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>> {
        if let Err(error) = self.enter(&format!("{}.deliver", self.name)).await {
            return batch.iter().map(|_| Err(error.clone())).collect();
        }
        let all = |error: DeliveryError| batch.iter().map(|_| Err(error.clone())).collect::<Vec<_>>();
        let lost = || self.error(ErrorKind::Ambiguous, "the connection was cut");
        const WRITES: [Fault; 5] =
            [Fault::TargetRefuses, Fault::TargetSlow, Fault::AnswerLost, Fault::LateCommit, Fault::PartialBatch];
        // A keyed target says that it has settled when its answer is lost, and a blind one has nothing to settle.
        let fitting: &[Fault] = if self.description().settle_seconds > 0 { &WRITES } else { &WRITES[..3] };
        let Some(fault) = self.take(fitting) else { return batch.iter().map(|change| self.one(change)).collect() };
        self.world.fired(fault, &self.name);
        match fault {
            Fault::TargetRefuses => {
                let refused = self.error(ErrorKind::Rejected, "not today");
                let rest = batch.iter().skip(1).map(|change| self.one(change));
                std::iter::once(Err(refused)).chain(rest).collect()
            }
            Fault::TargetSlow => {
                let made = batch.iter().map(|change| self.one(change)).collect();
                self.world.takes_ms(20_000..180_000).await;
                made
            }
            Fault::AnswerLost => {
                for change in batch {
                    let _lost = self.one(change);
                }
                all(lost())
            }
            Fault::LateCommit => {
                let until = i64::from(SETTLE_SECONDS) * 1_000;
                let at = self.world.clock.true_ms() + self.world.draw(1_000..until - 1_000);
                lock(&self.state).late.extend(batch.iter().map(|change| (at, change.clone())));
                all(lost())
            }
            _ => batch
                .iter()
                .enumerate()
                .map(|(place, change)| match place % 3 {
                    0 => self.one(change).and(Err(lost())),
                    1 => Err(self.error(ErrorKind::Unavailable, "503 for this one")),
                    _ => self.one(change),
                })
                .collect(),
        }
    }

    async fn look(&self, batch: &[Place]) -> Vec<Result<Observation, DeliveryError>> {
        if let Err(error) = self.enter(&format!("{}.observe", self.name)).await {
            return batch.iter().map(|_| Err(error.clone())).collect();
        }
        let state = lock(&self.state);
        let seen = |place: &Place| {
            let rows: Vec<_> = state
                .rows
                .iter()
                .filter(|(_, row)| row.mark.as_ref() == Some(&place.mark) && row.person == place.person)
                .collect();
            match rows.as_slice() {
                [] => Observation::Absent,
                [(id, row)] => Observation::Holds { row: format!("r{id}"), fields: row.fields.clone() },
                several => Observation::Several { rows: several.iter().map(|(id, _)| format!("r{id}")).collect() },
            }
        };
        batch.iter().map(|place| Ok(seen(place))).collect()
    }

    /// A page of all rows, whoever wrote them, from a row on: whatever comes or goes meanwhile, each row is on one page.
    async fn page(&self, from: Option<&str>) -> Result<ListedPage, DeliveryError> {
        self.enter(&format!("{}.list", self.name)).await?;
        let from = from.and_then(|row| row.trim_start_matches('r').parse::<u64>().ok()).unwrap_or(0);
        let state = lock(&self.state);
        let mut rows = state.rows.range(from..);
        let listed = |(id, row): (&u64, &Row)| ListedRow {
            row: format!("r{id}"),
            person: Some(row.person.clone()),
            mark: row.mark.clone(),
            fields: Ok(row.fields.clone()),
        };
        let some = rows.by_ref().take(PAGE_ROWS).map(listed).collect();
        Ok(ListedPage { rows: some, next: rows.next().map(|(id, _)| format!("r{id}")) })
    }

    async fn find(&self, learner: &Learner) -> Result<PersonMatch, DeliveryError> {
        self.enter(&format!("{}.find_person", self.name)).await?;
        let rule = MatchRule::EXTERNAL_ID;
        let Some(external_id) = learner.external_id.clone() else { return Ok(PersonMatch::NotFound) };
        let person = self.person_of(&external_id);
        Ok(match self.is_unfindable(&external_id) {
            (true, _) => PersonMatch::NotFound,
            (_, true) => PersonMatch::Ambiguous { rule, candidates: vec![format!("{person}-twin"), person] },
            (false, false) => PersonMatch::Found { person, rule },
        })
    }
}

fn without_mapping(fields: &Fields) -> Fields {
    fields.iter().filter(|(name, _)| *name != "mapping").map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The connector that a daemon holds: the target itself, seen from outside.
pub struct FakeConnector(pub Arc<Target>);

impl FakeConnector {
    async fn leave<T>(&self, call: &str, words: String, answer: T) -> T {
        let target = &self.0;
        target.world.say(&format!("call {}.{call} {words}", target.name));
        target.world.point(&format!("after {}.{call}", target.name)).await;
        answer
    }
}

fn words<T>(answers: &[Result<T, DeliveryError>], say: impl Fn(&T) -> String) -> String {
    let words: Vec<String> =
        answers.iter().map(|answer| answer.as_ref().map_or_else(ToString::to_string, &say)).collect();
    words.join(", ")
}

#[async_trait]
impl Connector for FakeConnector {
    fn object(&self, name: &str) -> Result<TargetObject, String> {
        let field =
            |name: &str, kind, required, length_max| TargetField { name: name.to_owned(), kind, required, length_max };
        Ok(TargetObject {
            name: name.to_owned(),
            fields: vec![
                field("title", FieldType::Text, true, Some(TITLE_MAX)),
                field("on", FieldType::Date, true, None),
                field("until", FieldType::Date, false, None),
                field("score", FieldType::Number, false, None),
                field("record", FieldType::Text, true, None),
                field("mapping", FieldType::Text, false, None),
                field("type", FieldType::Reference, false, None),
            ],
            open: false,
        })
    }

    async fn probe(&self) -> Result<Account, DeliveryError> {
        let answer = self.0.enter(&format!("{}.probe", self.0.name)).await;
        let identity = format!("account {}", lock(&self.0.state).account);
        let words = answer.as_ref().map_or_else(ToString::to_string, |()| identity.clone());
        self.leave("probe", words, answer.map(|()| Account { identity })).await
    }

    async fn references(&self, _kind: &str) -> Result<Vec<Reference>, DeliveryError> {
        let answer = self.0.enter(&format!("{}.references", self.0.name)).await;
        let unlisted = lock(&self.0.state).unlisted.clone();
        let listed = (0..crate::play::COURSES)
            .map(crate::play::course_name)
            .filter(|name| !unlisted.contains(name))
            .map(|name| Reference { id: format!("type of {name}"), name })
            .collect();
        let words = answer.as_ref().map_or_else(ToString::to_string, |()| "listed".to_owned());
        self.leave("references", words, answer.map(|()| listed)).await
    }

    async fn find_person(&self, learner: &Learner, _rules: &[MatchRule]) -> Result<PersonMatch, DeliveryError> {
        let answer = self.0.find(learner).await;
        let words = answer.as_ref().map_or_else(ToString::to_string, |found| format!("{found:?}"));
        self.leave("find_person", words, answer).await
    }

    async fn deliver(&self, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>> {
        self.0.world.reached("state", "sending");
        for change in batch {
            if !lock(&self.0.state).under_way.insert(change.mark.clone()) {
                self.0.world.violated("one write of a place at a time", &format!("{} {}", self.0.name, change.mark));
            }
        }
        // What had begun when the pause came may end.
        let paused_ms = lock(&self.0.state).operator_paused_ms;
        if paused_ms.is_some_and(|since| self.0.world.clock.true_ms() > since + 300_000) {
            self.0.world.violated("nothing is written while an operator pauses", &self.0.name);
        }
        if self.0.name == crate::play::SHADOW {
            self.0.world.violated("nothing is written in shadow", &format!("{} changes", batch.len()));
        }
        self.0.check_manners();
        let guard = UnderWay { target: &self.0, marks: batch.iter().map(|change| change.mark.clone()).collect() };
        let answers = self.0.write(batch).await;
        drop(guard);
        let marks: Vec<String> = batch
            .iter()
            .map(|change| {
                let verb = if matches!(change.action, Action::Put { .. }) { "put" } else { "withdraw" };
                format!("{verb} {}@{}", change.mark.trim_start_matches("learnsync:sim:"), change.person)
            })
            .collect();
        let words = format!("{} -> {}", marks.join(" "), words(&answers, |receipt| receipt.row.clone()));
        self.leave("deliver", words, answers).await
    }

    async fn observe(&self, batch: &[Place]) -> Vec<Result<Observation, DeliveryError>> {
        self.0.world.reached("state", "uncertain");
        let answers = self.0.look(batch).await;
        let words = words(&answers, |seen| match seen {
            Observation::Holds { row, .. } => row.clone(),
            Observation::Absent => "absent".to_owned(),
            Observation::Several { .. } => "several".to_owned(),
        });
        let places: Vec<String> = batch
            .iter()
            .map(|place| format!("{}@{}", place.mark.trim_start_matches("learnsync:sim:"), place.person))
            .collect();
        self.leave("observe", format!("{} -> {words}", places.join(" ")), answers).await
    }

    async fn list(&self, _object: &str, page: Option<&str>) -> Result<ListedPage, DeliveryError> {
        let answer = self.0.page(page).await;
        let words = answer.as_ref().map_or_else(ToString::to_string, |page| format!("{} rows", page.rows.len()));
        self.leave("list", words, answer).await
    }
}

/// Ends with the call, however it ends.
struct UnderWay<'a> {
    target: &'a Target,
    marks: Vec<String>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.target.state);
        for mark in &self.marks {
            state.under_way.remove(mark);
        }
    }
}
