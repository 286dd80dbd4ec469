//! Delivering a batch: list once, then keep, change, adopt or create, one place after the other.

use std::collections::{BTreeMap, BTreeSet};

use learnsync_sdk::{Action, Change, DeliveryError, ErrorKind, Fields, Receipt};
use serde_json::Value as Json;

use crate::Destination;
use crate::client::{Answer, Row};
use crate::objects::{self, Object, rejected};

/// Delivers all changes in their order; one outcome per change.
pub(crate) async fn deliver(destination: &Destination, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>> {
    let mut shelves = Shelves::new(destination);
    let mut outcomes = Vec::with_capacity(batch.len());
    for change in batch {
        outcomes.push(shelves.deliver(change).await);
    }
    outcomes
}

/// A person's rows of one object, as far as this batch knows them.
pub(crate) struct Shelf {
    pub(crate) status: u16,
    pub(crate) rows: Vec<Row>,
    /// Rows that this batch tried to adopt, whatever came of it: nobody else may.
    taken: BTreeSet<String>,
}

/// The shelves that a batch has looked at, and the error that ended it, if one did.
pub(crate) struct Shelves<'a> {
    destination: &'a Destination,
    listed: BTreeMap<(String, String), Result<Shelf, DeliveryError>>,
    stopped: Option<DeliveryError>,
}

/// One change, taken apart.
struct Task<'a> {
    object: &'a dyn Object,
    change: &'a Change,
}

impl<'a> Shelves<'a> {
    pub(crate) fn new(destination: &'a Destination) -> Self {
        Self { destination, listed: BTreeMap::new(), stopped: None }
    }

    async fn deliver(&mut self, change: &Change) -> Result<Receipt, DeliveryError> {
        let object = self.object(&change.object)?;
        let task = Task { object: object.as_ref(), change };
        if self.destination.skips_lookup
            && let Action::Put { fields, row: None, .. } = &change.action
        {
            return self.create_blindly(&task, fields).await.inspect_err(|error| self.note(error));
        }
        let mut shelf = self.take(task.object, &change.object, &change.person).await?;
        let outcome = match &change.action {
            // Only the mark counts: a known row that lost ours, or carries another's, is not ours any more.
            Action::Put { fields, .. } => self.put(&task, &mut shelf, fields).await,
            Action::Withdraw { row } => self.withdraw(&task, &mut shelf, row).await,
        };
        self.give_back(change.object.clone(), change.person.clone(), shelf);
        outcome.inspect_err(|error| self.note(error))
    }

    /// The object with this name.
    pub(crate) fn object(&self, name: &str) -> Result<Box<dyn Object>, DeliveryError> {
        objects::parse(name, &self.destination.settings).map_err(rejected)
    }

    /// Takes a shelf out, listing it if this batch has not yet; a list that failed fails for all that need it.
    pub(crate) async fn take(&mut self, object: &dyn Object, name: &str, person: &str) -> Result<Shelf, DeliveryError> {
        self.check(person)?;
        let key = (name.to_owned(), person.to_owned());
        let shelf = match self.listed.remove(&key) {
            Some(listed) => listed,
            None => self.list(object, person).await,
        };
        shelf.inspect_err(|error| {
            self.note(error);
            self.listed.insert(key, Err(error.clone()));
        })
    }

    /// Puts a shelf back for the next change.
    pub(crate) fn give_back(&mut self, name: String, person: String, shelf: Shelf) {
        self.listed.insert((name, person), Ok(shelf));
    }

    /// Refuses what needs no call: the rest of a batch that ended, and ids that are not one person's.
    fn check(&self, person: &str) -> Result<(), DeliveryError> {
        match &self.stopped {
            Some(error) => Err(error.clone()),
            None => check_person(person),
        }
    }

    async fn list(&self, object: &dyn Object, person: &str) -> Result<Shelf, DeliveryError> {
        let listed = object.list(&self.destination.client, person).await.map_err(unknown_person)?;
        Ok(Shelf { status: listed.status, rows: listed.rows, taken: BTreeSet::new() })
    }

    /// Remembers an error that says something of the whole target: the rest of the batch would only hear it again.
    fn note(&mut self, error: &DeliveryError) {
        let is_global = match &error.kind {
            ErrorKind::Unauthorized | ErrorKind::Throttled(_) => true,
            // Without a status nobody answered.
            ErrorKind::Unavailable => error.status.is_none(),
            ErrorKind::Rejected | ErrorKind::Unmatched | ErrorKind::Ambiguous | ErrorKind::Superseded => false,
        };
        if is_global {
            self.stopped = Some(error.clone());
        }
    }

    async fn put(&mut self, task: &Task<'_>, shelf: &mut Shelf, fields: &Fields) -> Result<Receipt, DeliveryError> {
        if let Some(place) = shelf.find(task.object, &task.change.mark)? {
            return self.keep(task, shelf, place, fields).await;
        }
        match shelf.adoptable(task.object, fields) {
            Some(place) => self.adopt(task, shelf, place, fields).await,
            None => self.create(task, shelf, fields).await,
        }
    }

    /// Leaves the row if it is as wanted, else changes it.
    async fn keep(
        &self,
        task: &Task<'_>,
        shelf: &mut Shelf,
        place: usize,
        fields: &Fields,
    ) -> Result<Receipt, DeliveryError> {
        let row = &shelf.rows[place];
        if task.object.holds(row, fields) {
            return Ok(shelf.found(row));
        }
        task.object.check(row, fields)?;
        let body = task.object.body(Some(row), fields, &task.change.mark);
        let answer = self.update(task, &row.id, &body).await?;
        let row = &mut shelf.rows[place];
        absorb(row, body);
        Ok(receipt(row.id.clone(), answer))
    }

    /// Writes our mark into a row that says the same already.
    async fn adopt(
        &mut self,
        task: &Task<'_>,
        shelf: &mut Shelf,
        place: usize,
        fields: &Fields,
    ) -> Result<Receipt, DeliveryError> {
        let row = &mut shelf.rows[place];
        let body = task.object.body(Some(row), fields, &task.change.mark);
        shelf.taken.insert(row.id.clone());
        let answer = self.update(task, &row.id, &body).await?;
        if task.object.needs_proof() {
            let proved = self.look_again(task, shelf).await?;
            return proved.map(|row| receipt(row, answer)).ok_or_else(|| self.without_mark(task));
        }
        absorb(row, body);
        Ok(receipt(row.id.clone(), answer))
    }

    async fn create(&mut self, task: &Task<'_>, shelf: &mut Shelf, fields: &Fields) -> Result<Receipt, DeliveryError> {
        let body = task.object.body(None, fields, &task.change.mark);
        let answer = self.post(task, &body).await?;
        match answer.row() {
            Some(id) if !task.object.needs_proof() => {
                let mut row = Row { id: id.clone(), values: serde_json::Map::new() };
                absorb(&mut row, body);
                shelf.rows.push(row);
                Ok(receipt(id, answer))
            }
            Some(_) | None => self.prove_created(task, shelf, answer).await,
        }
    }

    /// A row without our mark may be the one just made; if none came at all, nobody knows whether it is on its way.
    async fn prove_created(
        &mut self,
        task: &Task<'_>,
        shelf: &mut Shelf,
        answer: Answer,
    ) -> Result<Receipt, DeliveryError> {
        let before: BTreeSet<String> = shelf.rows.iter().map(|row| row.id.clone()).collect();
        let proved = self.look_again(task, shelf).await?;
        let has_new = shelf.rows.iter().any(|row| !before.contains(&row.id));
        match proved {
            Some(row) => Ok(receipt(row, answer)),
            None if has_new && task.object.needs_proof() => Err(self.without_mark(task)),
            None => Err(without_effect(task, &answer)),
        }
    }

    /// Lists again after a write, to learn the row's id and that our mark arrived; without it the next try would write again.
    async fn look_again(&mut self, task: &Task<'_>, shelf: &mut Shelf) -> Result<Option<String>, DeliveryError> {
        match self.list(task.object, &task.change.person).await {
            Ok(listed) => shelf.rows = listed.rows,
            Err(error) => {
                self.note(&error);
                let message = format!("bamboohr took the row, but it could not be read back: {}", error.message);
                return Err(DeliveryError {
                    status: error.status,
                    ..DeliveryError::new(ErrorKind::Ambiguous, message)
                });
            }
        }
        Ok(shelf.find(task.object, &task.change.mark)?.map(|place| shelf.rows[place].id.clone()))
    }

    fn without_mark(&self, task: &Task<'_>) -> DeliveryError {
        rejected(format!(
            "bamboohr took the row of {}, but does not show our mark in it: give the table a text column \"{}\" (mark_column) that the API key may read",
            task.change.object, self.destination.settings.mark_column
        ))
    }

    /// The crash test's way: no look before the write. The newest row with the mark is the one just made.
    async fn create_blindly(&mut self, task: &Task<'_>, fields: &Fields) -> Result<Receipt, DeliveryError> {
        self.check(&task.change.person)?;
        let body = task.object.body(None, fields, &task.change.mark);
        let answer = self.post(task, &body).await?;
        if let Some(id) = answer.row() {
            return Ok(receipt(id, answer));
        }
        let shelf = self.list(task.object, &task.change.person).await?;
        let newest = shelf.rows.iter().rev().find(|row| task.object.carries(row, &task.change.mark));
        newest
            .map(|row| receipt(row.id.clone(), answer))
            .ok_or_else(|| rejected("bamboohr took the row, but does not show our mark in it"))
    }

    async fn withdraw(&mut self, task: &Task<'_>, shelf: &mut Shelf, row: &str) -> Result<Receipt, DeliveryError> {
        let change = task.change;
        let Some(place) = shelf.find(task.object, &change.mark)? else {
            return match shelf.rows.iter().any(|other| other.id == row) {
                true => Err(rejected(format!("row {row} does not carry our mark {}: it is left alone", change.mark))),
                false => Ok(Receipt { row: row.to_owned(), status: shelf.status, words: String::new(), wrote: false }),
            };
        };
        let id = shelf.rows[place].id.clone();
        let deleted = task.object.delete(&self.destination.client, &change.person, &id, &what(change)).await;
        match deleted {
            Ok(answer) => {
                shelf.rows.remove(place);
                Ok(receipt(id, answer))
            }
            // Somebody was quicker; what we wanted is so.
            Err(error) if error.status == Some(404) => {
                shelf.rows.remove(place);
                Ok(Receipt { row: id, status: 404, words: error.message, wrote: false })
            }
            Err(error) if error.kind == ErrorKind::Rejected && task.object.needs_proof() => {
                self.check_gone(task, shelf, id, error).await
            }
            Err(error) => Err(error),
        }
    }

    /// A table says alike that a row could not be deleted and that it was not there: look which it is.
    async fn check_gone(
        &mut self,
        task: &Task<'_>,
        shelf: &mut Shelf,
        id: String,
        refusal: DeliveryError,
    ) -> Result<Receipt, DeliveryError> {
        shelf.rows = self.list(task.object, &task.change.person).await?.rows;
        if shelf.find(task.object, &task.change.mark)?.is_some() {
            return Err(refusal);
        }
        let status = refusal.status.unwrap_or(shelf.status);
        Ok(Receipt { row: id, status, words: refusal.message, wrote: false })
    }

    async fn post(&self, task: &Task<'_>, body: &Json) -> Result<Answer, DeliveryError> {
        let change = task.change;
        let answer = task.object.create(&self.destination.client, &change.person, body, &what(change)).await;
        answer.map_err(unknown_person)
    }

    async fn update(&self, task: &Task<'_>, row: &str, body: &Json) -> Result<Answer, DeliveryError> {
        let change = task.change;
        task.object.update(&self.destination.client, &change.person, row, body, &what(change)).await
    }
}

impl Shelf {
    /// The row that carries our mark, if any; several are nobody's to choose from.
    fn find(&self, object: &dyn Object, mark: &str) -> Result<Option<usize>, DeliveryError> {
        let places: Vec<usize> = self.carrying(object, mark).map(|(place, _)| place).collect();
        match places.as_slice() {
            [] => Ok(None),
            [place] => Ok(Some(*place)),
            several => {
                let ids: Vec<&str> = several.iter().map(|place| self.rows[*place].id.as_str()).collect();
                Err(rejected(format!(
                    "{} rows carry our mark {mark} ({}): somebody copied one; remove all but one",
                    ids.len(),
                    ids.join(", ")
                )))
            }
        }
    }

    /// All rows that carry a mark, with their places.
    pub(crate) fn carrying(&self, object: &dyn Object, mark: &str) -> impl Iterator<Item = (usize, &Row)> {
        self.rows.iter().enumerate().filter(move |(_, row)| object.carries(row, mark))
    }

    fn adoptable(&self, object: &dyn Object, fields: &Fields) -> Option<usize> {
        self.rows.iter().position(|row| !self.taken.contains(&row.id) && object.is_adoptable(row, fields))
    }

    fn found(&self, row: &Row) -> Receipt {
        Receipt { row: row.id.clone(), status: self.status, words: String::new(), wrote: false }
    }
}

fn absorb(row: &mut Row, body: Json) {
    if let Json::Object(written) = body {
        row.values.extend(written);
    }
}

fn receipt(row: String, answer: Answer) -> Receipt {
    Receipt { row, status: answer.status, words: answer.words, wrote: true }
}

/// A 2xx after which there is no new row: something else answered for BambooHR, or it is still on its way.
fn without_effect(task: &Task<'_>, answer: &Answer) -> DeliveryError {
    let what = what(task.change);
    let message = format!("bamboohr answered {} to {what}, but shows no new row: {:?}", answer.status, answer.words);
    DeliveryError { status: Some(answer.status), ..DeliveryError::new(ErrorKind::Ambiguous, message) }
}

/// The change's name in messages: the mark, which names the place without naming the person.
fn what(change: &Change) -> String {
    format!("{} in {}", change.mark, change.object)
}

/// BambooHR does not say whether it is the person or the table that it does not know.
fn unknown_person(mut error: DeliveryError) -> DeliveryError {
    if error.status == Some(404) {
        error.kind = ErrorKind::Unmatched;
    }
    error
}

/// Some words stand for people in BambooHR's paths: `0` is the key's owner, `all` is everybody.
pub(crate) fn check_person(person: &str) -> Result<(), DeliveryError> {
    let is_one_person = !person.is_empty() && person != "all" && person.bytes().any(|letter| letter != b'0');
    if is_one_person { Ok(()) } else { Err(rejected(format!("\"{person}\" is not the id of one employee"))) }
}
