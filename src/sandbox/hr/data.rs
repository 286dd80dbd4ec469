//! What the fake BambooHR holds, and the writes that change it.

use std::collections::{BTreeMap, VecDeque};

use super::HrRow;
use crate::sandbox::population::Employee;

/// How many lines the write log keeps.
const LOG_LINES_MAX: usize = 100_000;
/// How many rows the page shows.
const RECENT_ROWS_MAX: usize = 200;

/// A kind of row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    /// Training records.
    Training,
    /// The custom table of certifications.
    Certifications,
    /// The custom table of competencies.
    Competencies,
}

/// One column: its name, whether it is a date, whether it is a number.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: ColumnKind,
}

/// What a column takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Text,
    Date,
    Number,
    TrainingType,
    Json,
}

const fn column(name: &'static str, kind: ColumnKind) -> Column {
    Column { name, kind }
}

const TRAINING: [Column; 7] = [
    column("completed", ColumnKind::Date),
    column("type", ColumnKind::TrainingType),
    column("hours", ColumnKind::Number),
    column("credits", ColumnKind::Number),
    column("instructor", ColumnKind::Text),
    column("notes", ColumnKind::Text),
    column("cost", ColumnKind::Json),
];
const CERTIFICATIONS: [Column; 5] = [
    column("certification", ColumnKind::Text),
    column("issued", ColumnKind::Date),
    column("expires", ColumnKind::Date),
    column("course", ColumnKind::Text),
    column("customReference", ColumnKind::Text),
];
const COMPETENCIES: [Column; 3] = [
    column("competency", ColumnKind::Text),
    column("awarded", ColumnKind::Date),
    column("customReference", ColumnKind::Text),
];

impl Object {
    pub(super) const ALL: [Self; 3] = [Self::Training, Self::Certifications, Self::Competencies];

    /// Its name in connectors: `training` or `table:<name>`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Certifications => "table:customCertifications",
            Self::Competencies => "table:customCompetencies",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|object| object.name() == name)
    }

    /// The table of this name in the API.
    pub(super) fn table(name: &str) -> Option<Self> {
        Self::parse(&format!("table:{name}"))
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Training => &TRAINING,
            Self::Certifications => &CERTIFICATIONS,
            Self::Competencies => &COMPETENCIES,
        }
    }

    pub(super) fn column(self, name: &str) -> Option<&'static str> {
        self.columns().iter().find(|column| column.name == name).map(|column| column.name)
    }
}

/// One row.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) employee: u32,
    /// The fields that are not blank.
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Row {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.fields.retain(|(field, _)| *field != name);
        if !value.is_empty() {
            self.fields.push((name, value.to_owned()));
        }
    }
}

/// One write, checked and not yet done.
#[derive(Clone)]
pub(super) enum Write {
    /// A new row.
    Create { object: Object, employee: u32, fields: Vec<(&'static str, String)> },
    /// New values for some fields of a row; `employee` when the path names one.
    Update { object: Object, row: u32, fields: Vec<(&'static str, String)> },
    /// A row goes.
    Delete { object: Object, row: u32 },
    /// A new training type.
    CreateType { name: String },
}

/// The person or the row of a write does not exist.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// The rows of one object.
#[derive(Default)]
struct Rows {
    rows: BTreeMap<u32, Row>,
    last_id: u32,
}

/// All that HR holds.
pub(super) struct Data {
    employees: BTreeMap<u32, Person>,
    numbers: BTreeMap<String, Vec<u32>>,
    emails: BTreeMap<String, Vec<u32>>,
    types: BTreeMap<u32, String>,
    rows: [Rows; 3],
    recent: VecDeque<(Object, u32)>,
    /// Writes that will be committed late.
    pub(super) late: Vec<Write>,
    /// Committed writes of the API.
    pub(super) writes: u64,
    /// One line per committed write of the API.
    pub(super) log: VecDeque<String>,
}

/// An employee, and the ids of their rows by object.
struct Person {
    employee: Employee,
    rows: [Vec<u32>; 3],
}

impl Data {
    pub(super) fn new(employees: Vec<Employee>, courses: &[String]) -> Self {
        // A type that no course has comes first, so that nobody takes ids for positions.
        let names = ["Onboarding day"].into_iter().map(str::to_owned).chain(courses.iter().cloned());
        let mut data = Self {
            employees: BTreeMap::new(),
            numbers: BTreeMap::new(),
            emails: BTreeMap::new(),
            types: (1..).zip(names).collect(),
            rows: Default::default(),
            recent: VecDeque::new(),
            late: Vec::new(),
            writes: 0,
            log: VecDeque::new(),
        };
        for employee in employees {
            data.add(employee);
        }
        data
    }

    fn add(&mut self, employee: Employee) {
        self.numbers.entry(employee.employee_number.to_lowercase()).or_default().push(employee.id);
        self.emails.entry(employee.email.to_lowercase()).or_default().push(employee.id);
        self.employees.insert(employee.id, Person { employee, rows: Default::default() });
    }

    pub(super) fn employee(&self, id: u32) -> Option<&Employee> {
        self.employees.get(&id).map(|person| &person.employee)
    }

    pub(super) fn employees(&self) -> impl Iterator<Item = &Employee> {
        self.employees.values().map(|person| &person.employee)
    }

    /// The employees with this number, in lower case.
    pub(super) fn by_number(&self, number: &str) -> &[u32] {
        self.numbers.get(number).map_or(&[], Vec::as_slice)
    }

    /// The employees with this e-mail address, in lower case.
    pub(super) fn by_email(&self, email: &str) -> &[u32] {
        self.emails.get(email).map_or(&[], Vec::as_slice)
    }

    pub(super) fn types(&self) -> &BTreeMap<u32, String> {
        &self.types
    }

    pub(super) fn type_named(&self, name: &str) -> Option<u32> {
        self.types.iter().find(|(_, known)| known.as_str() == name).map(|(id, _)| *id)
    }

    pub(super) fn row(&self, object: Object, id: u32) -> Option<&Row> {
        self.rows[object as usize].rows.get(&id)
    }

    /// The rows of one employee, oldest first; `None` when there is no such employee.
    pub(super) fn rows_of(&self, object: Object, employee: u32) -> Option<Vec<(u32, &Row)>> {
        let ids = &self.employees.get(&employee)?.rows[object as usize];
        Some(ids.iter().filter_map(|id| Some((*id, self.row(object, *id)?))).collect())
    }

    pub(super) fn rows(&self, object: Object) -> impl ExactSizeIterator<Item = (u32, &Row)> {
        self.rows[object as usize].rows.iter().map(|(id, row)| (*id, row))
    }

    /// The rows written last, newest first.
    pub(super) fn recent(&self) -> impl Iterator<Item = (Object, u32, &Row)> {
        self.recent.iter().rev().filter_map(|(object, id)| Some((*object, *id, self.row(*object, *id)?)))
    }

    pub(super) fn all_rows(&self) -> Vec<HrRow> {
        let mut all = Vec::new();
        for object in Object::ALL {
            all.extend(self.rows(object).map(|(id, row)| HrRow {
                employee_number: self.employee(row.employee).map(|e| e.employee_number.clone()).unwrap_or_default(),
                employee_id: row.employee.to_string(),
                object: object.name().to_owned(),
                row_id: id.to_string(),
                fields: row.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            }));
        }
        all
    }

    /// Does a write of the API: as `apply`, counted and logged. Returns the id of the row or type.
    pub(super) fn commit(&mut self, write: &Write) -> Result<u32, Gone> {
        let id = self.apply(write)?;
        let line = match write {
            Write::Create { object, employee, .. } => format!("create {} {id} of employee {employee}", object.name()),
            Write::Update { object, .. } => format!("update {} {id}", object.name()),
            Write::Delete { object, .. } => format!("delete {} {id}", object.name()),
            Write::CreateType { .. } => format!("create training type {id}"),
        };
        self.writes += 1;
        if self.log.len() == LOG_LINES_MAX {
            self.log.pop_front();
        }
        self.log.push_back(line);
        Ok(id)
    }

    /// Does a write. Returns the id of the row or type.
    pub(super) fn apply(&mut self, write: &Write) -> Result<u32, Gone> {
        match write {
            Write::Create { object, employee, fields } => {
                let mut row = Row { employee: *employee, fields: Vec::new() };
                fields.iter().for_each(|(name, value)| row.set(name, value));
                self.insert(*object, row)
            }
            Write::Update { object, row: id, fields } => {
                let row = self.rows[*object as usize].rows.get_mut(id).ok_or(Gone)?;
                fields.iter().for_each(|(name, value)| row.set(name, value));
                self.touch(*object, *id);
                Ok(*id)
            }
            Write::Delete { object, row } => self.delete_row(*object, *row).then_some(*row).ok_or(Gone),
            Write::CreateType { name } => {
                let id = self.types.last_key_value().map_or(1, |(last, _)| last + 1);
                self.types.insert(id, name.clone());
                Ok(id)
            }
        }
    }

    fn insert(&mut self, object: Object, row: Row) -> Result<u32, Gone> {
        let person = self.employees.get_mut(&row.employee).ok_or(Gone)?;
        let rows = &mut self.rows[object as usize];
        rows.last_id += 1;
        let id = rows.last_id;
        person.rows[object as usize].push(id);
        rows.rows.insert(id, row);
        self.touch(object, id);
        Ok(id)
    }

    fn touch(&mut self, object: Object, id: u32) {
        self.recent.retain(|seen| *seen != (object, id));
        if self.recent.len() == RECENT_ROWS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((object, id));
    }

    pub(super) fn hire(&mut self, employee_number: &str, email: &str) -> u32 {
        let id = self.employees.last_key_value().map_or(1, |(last, _)| last + 1);
        self.add(Employee {
            id,
            employee_number: employee_number.to_owned(),
            email: email.to_owned(),
            first_name: "New".to_owned(),
            last_name: "Hire".to_owned(),
            is_active: true,
        });
        id
    }

    pub(super) fn remove_person(&mut self, id: u32) -> bool {
        let Some(person) = self.employees.remove(&id) else { return false };
        for object in Object::ALL {
            for row in &person.rows[object as usize] {
                self.rows[object as usize].rows.remove(row);
            }
        }
        for ids in [
            self.numbers.get_mut(&person.employee.employee_number.to_lowercase()),
            self.emails.get_mut(&person.employee.email.to_lowercase()),
        ] {
            ids.into_iter().for_each(|ids| ids.retain(|known| *known != id));
        }
        true
    }

    pub(super) fn edit_row(&mut self, object: Object, id: u32, field: &str, value: &str) -> bool {
        let Some(name) = object.column(field) else { return false };
        self.apply(&Write::Update { object, row: id, fields: vec![(name, value.to_owned())] }).is_ok()
    }

    pub(super) fn delete_row(&mut self, object: Object, id: u32) -> bool {
        let Some(row) = self.rows[object as usize].rows.remove(&id) else { return false };
        if let Some(person) = self.employees.get_mut(&row.employee) {
            person.rows[object as usize].retain(|known| *known != id);
        }
        true
    }

    pub(super) fn copy_row(&mut self, object: Object, id: u32) -> Option<u32> {
        let row = self.row(object, id)?.clone();
        self.insert(object, row).ok()
    }
}
