//! The page that shows what the fake BambooHR holds.

use super::data::{Data, Object};
use crate::sandbox::server::{Reply, page};

/// Counts, and the last 200 rows.
pub(super) fn show(data: &Data) -> Reply {
    let mut counts = vec![("Employees", data.employees().count().to_string())];
    counts.extend(Object::ALL.map(|object| (object.name(), data.rows(object).len().to_string())));
    counts.push(("Writes", data.writes.to_string()));
    let rows: Vec<Vec<String>> = data
        .recent()
        .map(|(object, id, row)| {
            let person = data.employee(row.employee);
            let name = person.map(|person| format!("{} {}", person.first_name, person.last_name)).unwrap_or_default();
            let number = person.map(|person| person.employee_number.clone()).unwrap_or_default();
            let fields: Vec<String> = row.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            vec![object.name().to_owned(), id.to_string(), number, name, fields.join(" · ")]
        })
        .collect();
    page(
        "Sandbox HR system",
        "A fake BambooHR. It holds made-up people and whatever was written to it; the last 200 rows are below.",
        "",
        &counts,
        &["Object", "Row", "Number", "Person", "Fields"],
        &rows,
    )
}
