//! Writing and reading back: list a person's rows once, then make each place hold what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use learnsync_sdk::{Action, Change, DeliveryError, ErrorKind, Fields, Observation, Place, Receipt, Value};

use crate::client::{Client, Row};
use crate::rows::Object;
use crate::settings::Settings;

/// The rows of a person in an object, as listed and as we changed them since.
type Lists = BTreeMap<(String, Object), Result<Vec<Row>, DeliveryError>>;

pub(crate) async fn deliver(
    client: &Client,
    settings: &Settings,
    batch: &[Change],
    skips_lookup: bool,
) -> Vec<Result<Receipt, DeliveryError>> {
    let mut writer = Writer { client, settings, skips_lookup, lists: Lists::new(), adopted: BTreeSet::new() };
    let mut answers: Vec<Result<Receipt, DeliveryError>> = Vec::with_capacity(batch.len());
    let mut stopped: Option<DeliveryError> = None;
    for change in batch {
        if let Some(error) = &stopped {
            answers.push(Err(error.clone()));
            continue;
        }
        let answer = writer.change(change).await;
        if let Err(error) = &answer
            && matches!(error.kind, ErrorKind::Throttled(_) | ErrorKind::Unauthorized)
        {
            // The target does not want to hear from us now: the rest is not even tried.
            stopped = Some(error.clone());
        }
        answers.push(answer);
    }
    answers
}

pub(crate) async fn observe(
    client: &Client,
    settings: &Settings,
    batch: &[Place],
) -> Vec<Result<Observation, DeliveryError>> {
    let mut lists = Lists::new();
    let mut answers = Vec::with_capacity(batch.len());
    for place in batch {
        answers.push(observe_one(client, settings, &mut lists, place).await);
    }
    answers
}

async fn observe_one(
    client: &Client,
    settings: &Settings,
    lists: &mut Lists,
    place: &Place,
) -> Result<Observation, DeliveryError> {
    let object = parse(&place.object)?;
    let rows = list(client, lists, &place.person, &object).await?;
    let marked: Vec<&Row> =
        rows.iter().filter(|row| object.mark_of(settings, row) == Some(place.mark.as_str())).collect();
    Ok(match marked.as_slice() {
        [] => Observation::Absent,
        [row] => Observation::Holds { row: row.id.clone(), fields: object.fields_of(settings, row) },
        several => Observation::Several { rows: several.iter().map(|row| row.id.clone()).collect() },
    })
}

fn parse(object: &str) -> Result<Object, DeliveryError> {
    Object::parse(object).map_err(|message| DeliveryError::new(ErrorKind::Rejected, message))
}

async fn list<'a>(
    client: &Client,
    lists: &'a mut Lists,
    person: &str,
    object: &Object,
) -> Result<&'a mut Vec<Row>, DeliveryError> {
    let key = (person.to_owned(), object.clone());
    if !lists.contains_key(&key) {
        lists.insert(key.clone(), object.list(client, person).await);
    }
    match lists.get_mut(&key).expect("it was just listed") {
        Ok(rows) => Ok(rows),
        Err(error) => Err(error.clone()),
    }
}

struct Writer<'a> {
    client: &'a Client,
    settings: &'a Settings,
    skips_lookup: bool,
    lists: Lists,
    /// Rows without a mark that became ours in this batch: no second record may take them.
    adopted: BTreeSet<String>,
}

impl Writer<'_> {
    async fn change(&mut self, change: &Change) -> Result<Receipt, DeliveryError> {
        let object = parse(&change.object)?;
        match &change.action {
            Action::Put { fields, .. } if self.skips_lookup => self.create(&object, change, fields).await,
            Action::Put { fields, row, .. } => self.put(&object, change, fields, row.as_deref()).await,
            Action::Withdraw { row } => self.withdraw(&object, change, row).await,
        }
    }

    async fn put(
        &mut self,
        object: &Object,
        change: &Change,
        fields: &Fields,
        known: Option<&str>,
    ) -> Result<Receipt, DeliveryError> {
        let settings = self.settings;
        let adopted = &self.adopted;
        let rows = list(self.client, &mut self.lists, &change.person, object).await?;
        let ours: Vec<&Row> =
            rows.iter().filter(|row| object.mark_of(settings, row) == Some(change.mark.as_str())).collect();
        let row = match ours.as_slice() {
            [] => {
                // The row that we knew, if somebody took only its mark away; else an equal one that nobody marked.
                let unmarked = |row: &&Row| object.mark_of(settings, row).is_none() && !adopted.contains(&row.id);
                rows.iter()
                    .filter(unmarked)
                    .find(|row| known == Some(row.id.as_str()))
                    .or_else(|| rows.iter().filter(unmarked).find(|row| object.is_same_fact(row, fields)))
            }
            [only] => Some(*only),
            several => {
                let ids: Vec<&str> = several.iter().map(|row| row.id.as_str()).collect();
                let message = format!(
                    "{} rows of {} carry our mark {} ({}): somebody copied one; remove all but one",
                    ids.len(),
                    change.object,
                    change.mark,
                    ids.join(", ")
                );
                return Err(DeliveryError::new(ErrorKind::Rejected, message));
            }
        };
        match row.cloned() {
            Some(row) => self.make_hold(object, change, fields, &row).await,
            None => self.create(object, change, fields).await,
        }
    }

    async fn make_hold(
        &mut self,
        object: &Object,
        change: &Change,
        fields: &Fields,
        row: &Row,
    ) -> Result<Receipt, DeliveryError> {
        let is_marked = object.mark_of(self.settings, row).is_some();
        if is_marked && object.holds(row, fields) {
            let words = "the row was there already, field by field".to_owned();
            return Ok(Receipt { row: row.id.clone(), status: 200, words, wrote: false });
        }
        refuse_new_type(object, row, fields)?;
        let status = object.update(self.client, self.settings, &change.person, row, fields, &change.mark).await?;
        self.remember(object, change, fields, row.id.clone());
        let words = if is_marked { "updated" } else { "adopted a row that was there, and marked it" };
        Ok(Receipt { row: row.id.clone(), status, words: words.to_owned(), wrote: true })
    }

    async fn create(&mut self, object: &Object, change: &Change, fields: &Fields) -> Result<Receipt, DeliveryError> {
        let (status, said) = object.create(self.client, self.settings, &change.person, fields, &change.mark).await?;
        let row = match said {
            Some(row) => row,
            None => self.find_created(object, change, status).await?,
        };
        self.remember(object, change, fields, row.clone());
        Ok(Receipt { row, status, words: "created".to_owned(), wrote: true })
    }

    /// Tables answer without the new row's id: the list has it, under our mark.
    async fn find_created(&self, object: &Object, change: &Change, status: u16) -> Result<String, DeliveryError> {
        let unknown = |message: String| DeliveryError { kind: ErrorKind::Ambiguous, status: Some(status), message };
        let rows = object
            .list(self.client, &change.person)
            .await
            .map_err(|error| unknown(format!("the row was taken, but could not be read back: {}", error.message)))?;
        rows.iter()
            .rev()
            .find(|row| object.mark_of(self.settings, row) == Some(change.mark.as_str()))
            .map(|row| row.id.clone())
            .ok_or_else(|| {
                let column = &self.settings.mark_column;
                unknown(format!(
                    "the row was taken, but none with our mark is there: has {} a column \"{column}\"?",
                    change.object
                ))
            })
    }

    async fn withdraw(&mut self, object: &Object, change: &Change, row: &str) -> Result<Receipt, DeliveryError> {
        let settings = self.settings;
        let rows = list(self.client, &mut self.lists, &change.person, object).await?;
        let ours =
            rows.iter().any(|held| held.id == row && object.mark_of(settings, held) == Some(change.mark.as_str()));
        let gone = |words: &str| Receipt { row: row.to_owned(), status: 200, words: words.to_owned(), wrote: false };
        if !ours {
            return Ok(gone("no row of ours is there"));
        }
        match object.remove(self.client, &change.person, row).await {
            Ok(status) => Ok(Receipt { row: row.to_owned(), status, words: "removed".to_owned(), wrote: true }),
            Err(error) if error.status == Some(404) => Ok(gone("it was gone already")),
            Err(error) => Err(error),
        }
    }

    /// Keeps the list true to what we wrote, for the batch's later changes.
    fn remember(&mut self, object: &Object, change: &Change, fields: &Fields, id: String) {
        self.adopted.insert(id.clone());
        let Some(Ok(rows)) = self.lists.get_mut(&(change.person.clone(), object.clone())) else { return };
        let mut values: BTreeMap<String, String> =
            fields.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
        let column = match object {
            Object::Training => "notes".to_owned(),
            Object::Table(_) => self.settings.mark_column.clone(),
        };
        values.insert(column, change.mark.clone());
        rows.retain(|row| row.id != id);
        rows.push(Row { id, values });
    }
}

/// The vendor: the type of a training record cannot be changed.
fn refuse_new_type(object: &Object, row: &Row, fields: &Fields) -> Result<(), DeliveryError> {
    let (Object::Training, Some(Value::Text(wanted)), Some(held)) =
        (object, fields.get("type"), row.values.get("type"))
    else {
        return Ok(());
    };
    if wanted == held {
        return Ok(());
    }
    let message = format!(
        "the training type of a record cannot be changed (record {} has {held}, wanted is {wanted}): \
         delete the record in BambooHR, or map the course back",
        row.id
    );
    Err(DeliveryError::new(ErrorKind::Rejected, message))
}
