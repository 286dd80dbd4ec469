//! The fake BambooHR: people, training records, tables. Nothing in it is unique but ids, as in the real one.

mod api;
mod data;
mod page;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use learnsync_sdk::{Learner, MatchBy, MatchRule};

use super::faults::HrFaults;
use super::population::{Employee, guid};
use super::server::Service;
use crate::domain::chance::Entropy;
use crate::domain::time::Clock;
use data::{Data, Object, Write};

/// One row that HR holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HrRow {
    /// The person's employee number.
    pub employee_number: String,
    /// The person's id in HR.
    pub employee_id: String,
    /// `training`, or `table:<name>`.
    pub object: String,
    /// The row's id; unique within its object.
    pub row_id: String,
    /// Its fields, as the API gives them; blank ones are missing.
    pub fields: BTreeMap<String, String>,
}

/// The HR system behind its server.
pub(super) struct Hr {
    data: Mutex<Data>,
    faults: HrFaults,
    api_key: String,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    calls: AtomicU64,
}

impl Hr {
    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The employee whom the default match rules find for a learner; none when there is no one or more than one.
    pub(super) fn find(&self, learner: &Learner) -> Option<Employee> {
        let data = self.data();
        for rule in [MatchRule::EXTERNAL_ID, MatchRule::EMPLOYEE_NUMBER, MatchRule::EMAIL] {
            let Some(value) = rule.value_of(learner) else { continue };
            let found = match rule.by {
                MatchBy::Email => data.by_email(&value),
                MatchBy::ExternalId | MatchBy::EmployeeNumber | MatchBy::Username | MatchBy::Custom(_) => {
                    data.by_number(&value)
                }
            };
            match found {
                [] => {}
                [one] => return data.employee(*one).cloned(),
                _ => return None,
            }
        }
        None
    }

    /// The id of the first training type of this name.
    pub(super) fn type_named(&self, name: &str) -> Option<u32> {
        self.data().type_named(name)
    }
}

/// What a program that runs the sandbox can see and do in HR.
#[derive(Clone)]
pub struct HrHandle {
    hr: Arc<Hr>,
    address: SocketAddr,
}

impl HrHandle {
    pub(super) fn open(
        employees: Vec<Employee>,
        courses: &[String],
        chance: &dyn Entropy,
        (address, clock, entropy): (SocketAddr, Arc<dyn Clock>, Arc<dyn Entropy>),
    ) -> Self {
        let hr = Hr {
            data: Mutex::new(Data::new(employees, courses)),
            faults: HrFaults::default(),
            api_key: guid(chance).simple().to_string(),
            clock,
            entropy,
            calls: AtomicU64::new(0),
        };
        Self { hr: Arc::new(hr), address }
    }

    pub(super) fn service(&self) -> Arc<dyn Service> {
        Arc::clone(&self.hr) as Arc<dyn Service>
    }

    pub(super) fn hr(&self) -> Arc<Hr> {
        Arc::clone(&self.hr)
    }

    /// The base URL: the connector's setting `url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The API key: the user name of the Basic authentication; the password is not looked at.
    #[must_use]
    pub fn api_key(&self) -> String {
        self.hr.api_key.clone()
    }

    /// All rows: training records by id, then each table.
    #[must_use]
    pub fn rows(&self) -> Vec<HrRow> {
        self.hr.data().all_rows()
    }

    /// How many rows there are; cheap, for progress.
    #[must_use]
    pub fn rows_total(&self) -> usize {
        let data = self.hr.data();
        Object::ALL.into_iter().map(|object| data.rows(object).len()).sum()
    }

    /// The faults.
    #[must_use]
    pub fn faults(&self) -> &HrFaults {
        &self.hr.faults
    }

    /// How many API calls came in, whatever became of them.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.hr.calls.load(Ordering::Relaxed)
    }

    /// How many writes of the API were committed.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.hr.data().writes
    }

    /// One line per committed write, oldest first, for example `create training 17 of employee 12`; at most the last 100,000.
    #[must_use]
    pub fn write_log(&self) -> Vec<String> {
        self.hr.data().log.iter().cloned().collect()
    }

    /// Commits the writes that `HrFaults::late_commit` kept back, in order; says how many still could be.
    #[must_use]
    pub fn commit_late(&self) -> usize {
        let mut data = self.hr.data();
        let late = std::mem::take(&mut data.late);
        late.into_iter().filter(|write| data.commit(write).is_ok()).count()
    }

    /// The ids of all employees with this employee number.
    #[must_use]
    pub fn employee_ids(&self, employee_number: &str) -> Vec<String> {
        self.hr.data().by_number(&employee_number.to_lowercase()).iter().map(u32::to_string).collect()
    }

    /// A new employee; a number or address that another one has is no obstacle. Returns the id.
    #[must_use]
    pub fn hire(&self, employee_number: &str, email: &str) -> String {
        self.hr.data().hire(employee_number, email).to_string()
    }

    /// An employee and all rows of theirs are deleted; false when there is no such id.
    pub fn remove_person(&self, employee_id: &str) -> bool {
        employee_id.parse().is_ok_and(|id| self.hr.data().remove_person(id))
    }

    /// Somebody edits a field of a row by hand; an empty value blanks it. False when there is no such row or field.
    pub fn edit_row(&self, object: &str, row_id: &str, field: &str, value: &str) -> bool {
        let (Some(object), Ok(row)) = (Object::parse(object), row_id.parse()) else { return false };
        self.hr.data().edit_row(object, row, field, value)
    }

    /// Somebody deletes a row by hand; false when there is no such row.
    pub fn delete_row(&self, object: &str, row_id: &str) -> bool {
        let (Some(object), Ok(row)) = (Object::parse(object), row_id.parse()) else { return false };
        self.hr.data().delete_row(object, row)
    }

    /// Somebody copies a row by hand, its mark with it. Returns the copy's id; none when there is no such row.
    #[must_use]
    pub fn copy_row(&self, object: &str, row_id: &str) -> Option<String> {
        let (object, row) = (Object::parse(object)?, row_id.parse().ok()?);
        self.hr.data().copy_row(object, row).map(|id| id.to_string())
    }

    /// Somebody makes a row by hand. Returns its id; none when the object, the person or a field is unknown.
    #[must_use]
    pub fn add_row(&self, object: &str, employee_id: &str, fields: &[(&str, &str)]) -> Option<String> {
        let (object, employee) = (Object::parse(object)?, employee_id.parse().ok()?);
        let named: Option<Vec<(&'static str, String)>> =
            fields.iter().map(|(name, value)| Some((object.column(name)?, (*value).to_owned()))).collect();
        let write = Write::Create { object, employee, fields: named? };
        self.hr.data().apply(&write).ok().map(|id| id.to_string())
    }
}
