//! Listing all rows of an object: a table by one call for everybody, else person by person.

use learnsync_sdk::{DeliveryError, ErrorKind, ListedPage, ListedRow};

use crate::Destination;
use crate::client::Row;
use crate::deliver::check_person;
use crate::objects::{self, Object, rejected};
use crate::people;
use crate::values::text_of;

/// How many people's rows are on one page. Each is a call, and a page should be done before its caller loses patience.
const PAGE_PEOPLE_MAX: usize = 100;
/// A page's name is this and the employee id behind which it begins.
const BEHIND: &str = "behind:";

/// One page of all rows of an object.
// The list of people is read anew for each page, a thousand by a call: a page begins behind an id and not at a number of people, which would
// leave somebody out when another is removed meanwhile.
pub(crate) async fn list(
    destination: &Destination,
    name: &str,
    page: Option<&str>,
) -> Result<ListedPage, DeliveryError> {
    let object = objects::parse(name, &destination.settings).map_err(rejected)?;
    let behind = match page {
        None => match object.list_all(&destination.client).await? {
            Some(rows) => return everybody(destination, object.as_ref(), &rows.rows),
            None => "",
        },
        Some(word) => word.strip_prefix(BEHIND).ok_or_else(|| rejected(format!("{name} has no page {word:?}")))?,
    };
    let all = people::all(&destination.client, &destination.settings).await?;
    // Any order will do that stays the same.
    let mut people = all.iter().filter(|person| person.as_str() > behind);
    let mut listed = ListedPage::default();
    for person in people.by_ref().take(PAGE_PEOPLE_MAX) {
        check_person(person)?;
        let rows = object.list(&destination.client, person).await.map_err(|error| gone(person, error))?;
        listed.rows.extend(rows.rows.iter().map(|row| told(destination, object.as_ref(), row, person.clone())));
        listed.next = Some(format!("{BEHIND}{person}"));
    }
    if people.next().is_none() {
        listed.next = None;
    }
    Ok(listed)
}

fn everybody(destination: &Destination, object: &dyn Object, rows: &[Row]) -> Result<ListedPage, DeliveryError> {
    let row = |row: &Row| {
        let person = row.values.get("employeeId").and_then(text_of).filter(|person| !person.is_empty());
        // Left out it would count as missing where its person is.
        let person = person.ok_or_else(|| unavailable(format!("bamboohr does not say whose row {} is", row.id)))?;
        Ok(told(destination, object, row, person))
    };
    Ok(ListedPage { rows: rows.iter().map(row).collect::<Result<_, DeliveryError>>()?, next: None })
}

fn told(destination: &Destination, object: &dyn Object, row: &Row, person: String) -> ListedRow {
    let mark = objects::mark_in(&object.marked(row), &destination.installation);
    let fields = object.observed(row, mark.as_deref().unwrap_or_default());
    ListedRow { row: row.id.clone(), person: Some(person), mark, fields: Ok(fields) }
}

/// Somebody who was removed after the list of people was read has no rows any more; but a gateway, too, may answer 404, and would so empty the
/// list of all rows. Whoever asks again is told of the people who are left.
fn gone(person: &str, error: DeliveryError) -> DeliveryError {
    if error.status != Some(404) {
        return error;
    }
    let message = format!("employee {person} is on the list of people, and the next call does not know them");
    DeliveryError { status: error.status, ..unavailable(message) }
}

fn unavailable(message: String) -> DeliveryError {
    DeliveryError::new(ErrorKind::Unavailable, message)
}
