//! The API of the fake BambooHR.
//!
//! Paths, statuses and shapes follow BambooHR's own OpenAPI description (<https://github.com/BambooHR/bhr-api-python>,
//! `specs/public.yaml`): training records as an object keyed by id or `[]`, numbers as strings, 201 for an update, XML from the older
//! endpoints unless JSON is asked for, no uniqueness anywhere.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::NaiveDate;
use hyper::Method;
use serde_json::{Map, Value, json};
use tracing::debug;

use super::Hr;
use super::data::{Column, ColumnKind, Data, Object, Row, Write};
use super::page;
use crate::sandbox::faults::{HrArea, HrFault, Wait};
use crate::sandbox::filter::{self, Cell};
use crate::sandbox::population::Employee;
use crate::sandbox::server::{Reply, Request, Service, has_content_type};

/// The fields of an employee that the data set knows.
const EMPLOYEE_FIELDS: [&str; 7] = ["eeid", "employeeId", "employeeNumber", "email", "firstName", "lastName", "status"];
/// Largest page of the data set.
const PAGE_SIZE_MAX: u64 = 1_000;

/// What a request asks for, once it is understood.
enum Call {
    Company,
    Tables,
    Fields,
    Data,
    Types,
    CreateType,
    Records { employee: String },
    CreateRecord { employee: String },
    UpdateRecord { record: String },
    DeleteRecord { record: String },
    Rows { employee: String, table: String },
    CreateRow { employee: String, table: String },
    UpdateRow { employee: String, table: String, row: String },
    DeleteRow { employee: String, table: String, row: String },
}

impl Call {
    fn of(request: &Request) -> Option<Self> {
        let path: Vec<&str> = request.segments.iter().map(String::as_str).collect();
        let ["api", version, rest @ ..] = path.as_slice() else { return None };
        let owned = |text: &str| text.to_owned();
        let call = match (&request.method, *version, rest) {
            (&Method::GET, "v1", ["company_information"]) => Self::Company,
            (&Method::GET, "v1", ["meta", "tables"]) => Self::Tables,
            (&Method::GET, "v1_2", ["datasets", "employee", "fields"]) => Self::Fields,
            (&Method::POST, "v2", ["datasets", "employee", "data"]) => Self::Data,
            (&Method::GET, "v1", ["training", "type"]) => Self::Types,
            (&Method::POST, "v1", ["training", "type"]) => Self::CreateType,
            (&Method::GET, "v1", ["training", "record", "employee", id]) => Self::Records { employee: owned(id) },
            (&Method::POST, "v1", ["training", "record", "employee", id]) => Self::CreateRecord { employee: owned(id) },
            (&Method::PUT, "v1", ["training", "record", id]) => Self::UpdateRecord { record: owned(id) },
            (&Method::DELETE, "v1", ["training", "record", id]) => Self::DeleteRecord { record: owned(id) },
            (&Method::GET, "v1", ["employees", id, "tables", table]) => {
                Self::Rows { employee: owned(id), table: owned(table) }
            }
            (&Method::POST, "v1" | "v1_1", ["employees", id, "tables", table]) => {
                Self::CreateRow { employee: owned(id), table: owned(table) }
            }
            (&Method::POST, "v1" | "v1_1", ["employees", id, "tables", table, row]) => {
                Self::UpdateRow { employee: owned(id), table: owned(table), row: owned(row) }
            }
            (&Method::DELETE, "v1", ["employees", id, "tables", table, row]) => {
                Self::DeleteRow { employee: owned(id), table: owned(table), row: owned(row) }
            }
            _ => return None,
        };
        Some(call)
    }

    fn area(&self) -> HrArea {
        match self {
            Self::Company | Self::Tables => HrArea::Company,
            Self::Fields | Self::Data => HrArea::People,
            Self::Types
            | Self::CreateType
            | Self::Records { .. }
            | Self::CreateRecord { .. }
            | Self::UpdateRecord { .. }
            | Self::DeleteRecord { .. } => HrArea::Training,
            Self::Rows { .. } | Self::CreateRow { .. } | Self::UpdateRow { .. } | Self::DeleteRow { .. } => {
                HrArea::Tables
            }
        }
    }

    fn is_write(&self) -> bool {
        match self {
            Self::CreateType
            | Self::CreateRecord { .. }
            | Self::UpdateRecord { .. }
            | Self::DeleteRecord { .. }
            | Self::CreateRow { .. }
            | Self::UpdateRow { .. }
            | Self::DeleteRow { .. } => true,
            Self::Company | Self::Tables | Self::Fields | Self::Data | Self::Types => false,
            Self::Records { .. } | Self::Rows { .. } => false,
        }
    }

    /// The older endpoints, which answer XML unless JSON is asked for.
    fn is_old(&self) -> bool {
        matches!(self, Self::Company | Self::Tables | Self::Rows { .. })
    }
}

/// What becomes of the answer to a write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Lost,
    Late,
}

#[async_trait]
impl Service for Hr {
    async fn answer(&self, request: Request) -> Reply {
        if request.segments.is_empty() {
            return page::show(&self.data());
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        let Some(call) = Call::of(&request) else { return words(404, "There is no such endpoint.") };
        let reply = self.answer_call(&call, &request).await;
        debug!(method = %request.method, area = ?call.area(), status = reply.status(), "The sandbox HR system answered.");
        reply
    }
}

impl Hr {
    async fn answer_call(&self, call: &Call, request: &Request) -> Reply {
        let mut fate = self.chance_fate(call);
        for fault in self.faults.take(call.area(), call.is_write()) {
            match fault {
                HrFault::Slow(pause) => pause.wait().await,
                HrFault::LoseAnswer => fate = Fate::Lost,
                HrFault::CommitLate => fate = Fate::Late,
                HrFault::Unavailable(status) => return words(status, "The service is temporarily unavailable."),
                HrFault::Unauthorized => return words(401, "Unauthorized"),
                HrFault::Throttle(wait) => return self.throttled(wait),
                HrFault::NotFound => return words(404, "Not found"),
                HrFault::Conflict => return words(409, "The resource was changed by another request."),
                HrFault::Reject(reason) => return words(400, &reason),
            }
        }
        if !self.is_authorized(request) {
            return words(401, "Unauthorized").with("www-authenticate", "Basic realm=\"BambooHR\"");
        }
        if call.is_old() && !request.header("accept").unwrap_or_default().contains("json") {
            return Reply::text(200, "text/xml", "<?xml version=\"1.0\"?>\n<result/>\n".to_owned());
        }
        if call.is_write() { self.write(call, request, fate) } else { self.read(call, request) }
    }

    fn chance_fate(&self, call: &Call) -> Fate {
        let per_mille = u64::from(self.faults.lose_answers_per_mille());
        if per_mille == 0 || !call.is_write() || self.entropy.below(1_000) >= per_mille {
            return Fate::Answered;
        }
        self.faults.count_lost();
        Fate::Lost
    }

    fn throttled(&self, wait: Wait) -> Reply {
        let reply = words(429, "Too many requests");
        match wait {
            Wait::Unsaid => reply,
            Wait::Seconds(seconds) => reply.with("retry-after", seconds.to_string()),
            Wait::Date(seconds) => {
                let until = self.clock.now().plus_ms(i64::from(seconds) * 1_000).utc();
                reply.with("retry-after", until.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
            }
        }
    }

    fn is_authorized(&self, request: &Request) -> bool {
        let Some(header) = request.header("authorization") else { return false };
        let Some(encoded) = header.strip_prefix("Basic ") else { return false };
        let Ok(decoded) = STANDARD.decode(encoded.trim()) else { return false };
        // The password is not looked at: the vendor's examples send `x`.
        decoded.split(|byte| *byte == b':').next() == Some(self.api_key.as_bytes())
    }

    fn read(&self, call: &Call, request: &Request) -> Reply {
        let data = self.data();
        match call {
            Call::Company => Reply::json(
                200,
                &json!({"legalName": "Sandbox Industries Ltd", "displayName": "Sandbox Industries",
                        "address": {"line1": "1 Loopback Road", "city": "Localhost"}, "phone": null}),
            ),
            Call::Tables => Reply::json(200, &tables()),
            Call::Fields => Reply::json(200, &dataset_fields()),
            Call::Data => dataset(&data, request).unwrap_or_else(|problem| problem),
            Call::Types => Reply::json(200, &types(&data)),
            Call::Records { employee } => match employee.parse().ok().and_then(|id| data.rows_of(Object::Training, id))
            {
                Some(rows) => Reply::json(200, &records(&rows, request.parameter("type"))),
                None => words(404, "Employee not found"),
            },
            Call::Rows { employee, table } => list_table(&data, employee, table).unwrap_or_else(|problem| problem),
            Call::CreateType
            | Call::CreateRecord { .. }
            | Call::UpdateRecord { .. }
            | Call::DeleteRecord { .. }
            | Call::CreateRow { .. }
            | Call::UpdateRow { .. }
            | Call::DeleteRow { .. } => words(405, "This is a write."),
        }
    }

    fn write(&self, call: &Call, request: &Request, fate: Fate) -> Reply {
        let mut data = self.data();
        let write = match check(&data, call, request) {
            Ok(write) => write,
            Err(problem) => return problem,
        };
        if fate == Fate::Late {
            data.late.push(write);
            return Reply::lost();
        }
        let Ok(id) = data.commit(&write) else { return words(404, "Not found") };
        if fate == Fate::Lost {
            return Reply::lost();
        }
        match (&write, data.row(Object::Training, id)) {
            (
                Write::Create { object: Object::Training, .. } | Write::Update { object: Object::Training, .. },
                Some(row),
            ) => {
                // An update is answered 201, too.
                Reply::json(201, &record(id, row))
            }
            (Write::Create { .. }, _) => Reply::empty(201),
            (Write::CreateType { name }, _) => Reply::json(201, &training_type(id, name)),
            (Write::Update { .. } | Write::Delete { .. }, _) => Reply::empty(200),
        }
    }
}

/// A refusal with BambooHR's words in the header, as the older endpoints do, and in the body.
fn words(status: u16, text: &str) -> Reply {
    let plain: String = text.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').collect();
    Reply::json(status, &json!({"title": text, "status": status, "detail": text}))
        .with("x-bamboohr-error-message", plain)
}

fn tables() -> Value {
    let described = [Object::Certifications, Object::Competencies].map(|object| {
        let fields: Vec<Value> = object
            .columns()
            .iter()
            .zip(4_001..)
            .map(|(column, id)| {
                let kind = if column.kind == ColumnKind::Date { "date" } else { "text" };
                json!({"id": id, "name": column.name, "alias": column.name, "type": kind})
            })
            .collect();
        json!({"alias": object.name().trim_start_matches("table:"), "fields": fields})
    });
    json!(described)
}

fn dataset_fields() -> Value {
    let fields: Vec<Value> = EMPLOYEE_FIELDS
        .iter()
        .map(|name| json!({"name": name, "label": name, "parentName": "Employee", "entityName": "employee"}))
        .collect();
    json!({"fields": fields, "pagination": {"total_records": fields.len(), "current_page": 1, "total_pages": 1}})
}

fn employee_cell(employee: &Employee, field: &str) -> Cell {
    Cell::Text(match field {
        "eeid" | "employeeId" => employee.id.to_string(),
        "employeeNumber" => employee.employee_number.clone(),
        "email" => employee.email.clone(),
        "firstName" => employee.first_name.clone(),
        "lastName" => employee.last_name.clone(),
        "status" => if employee.is_active { "Active" } else { "Inactive" }.to_owned(),
        _ => return Cell::Null,
    })
}

/// One page of employees: `fields` are wanted, `filter`, `orderBy`, `page` (from 1) and `pageSize` (100, at most 1,000) are not required.
fn dataset(data: &Data, request: &Request) -> Result<Reply, Reply> {
    // With a charset the real one takes the body for XML.
    if request.header("content-type") != Some("application/json") {
        return Err(words(415, "The content type must be application/json."));
    }
    let body = request.json().ok_or_else(|| words(400, "The body is not JSON."))?;
    let fields = wanted_fields(&body)?;
    let number = |name: &str, default: u64| body.get(name).map_or(Some(default), Value::as_u64);
    let (Some(page), Some(size)) = (number("page", 1), number("pageSize", 100)) else {
        return Err(words(400, "page and pageSize must be numbers."));
    };
    if page == 0 || size == 0 || size > PAGE_SIZE_MAX {
        return Err(words(400, "page must be at least 1, pageSize 1 to 1000."));
    }
    let matching = ordered(matching(data, body.get("filter"))?, &fields, body.get("orderBy"))?;
    let total = matching.len() as u64;
    let skip = usize::try_from((page - 1).saturating_mul(size)).unwrap_or(usize::MAX);
    let rows: Vec<Value> = matching
        .into_iter()
        .skip(skip)
        .take(usize::try_from(size).unwrap_or(usize::MAX))
        .map(|employee| shown(employee, &fields))
        .collect();
    let pages = total.div_ceil(size);
    let meta = json!({"page": page, "pageSize": size, "totalItems": total, "totalPages": pages});
    let links = if page < pages { json!({"next": format!("?page={}", page + 1)}) } else { json!({}) };
    Ok(Reply::json(200, &json!({"data": rows, "meta": meta, "links": links})))
}

fn wanted_fields(body: &Value) -> Result<Vec<&'static str>, Reply> {
    let list = body.get("fields").and_then(Value::as_array).filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| words(400, "fields must be a list of field names."))?;
    let known = |field: &Value| EMPLOYEE_FIELDS.into_iter().find(|name| field.as_str() == Some(name));
    list.iter().map(|field| known(field).ok_or_else(|| words(400, &format!("Unknown field {field}.")))).collect()
}

fn shown(employee: &Employee, fields: &[&str]) -> Value {
    let mut row = Map::new();
    for field in std::iter::once(&"employeeId").chain(fields) {
        if let Cell::Text(text) = employee_cell(employee, field) {
            row.insert((*field).to_owned(), Value::String(text));
        }
    }
    json!({"fields": row})
}

/// Rules of the form `<field> <asc|desc>`, with commas between; each field must be among those that are shown.
fn ordered<'a>(
    mut employees: Vec<&'a Employee>,
    shown: &[&str],
    order: Option<&Value>,
) -> Result<Vec<&'a Employee>, Reply> {
    let rules = order.and_then(Value::as_str).unwrap_or_default();
    // The last rule first: sorting keeps the order of what is equal.
    for rule in rules.rsplit(',').map(str::trim).filter(|rule| !rule.is_empty()) {
        let (field, direction) = rule.split_once(' ').unwrap_or((rule, ""));
        if !shown.contains(&field) || !["asc", "desc"].contains(&direction) {
            return Err(words(400, &format!("UE-1001: cannot order by {rule}.")));
        }
        employees.sort_by(|one, other| {
            let ascending = match field {
                "eeid" | "employeeId" => one.id.cmp(&other.id),
                _ => employee_cell(one, field).order(&employee_cell(other, field)),
            };
            if direction == "desc" { ascending.reverse() } else { ascending }
        });
    }
    Ok(employees)
}

fn matching<'a>(data: &'a Data, filter: Option<&Value>) -> Result<Vec<&'a Employee>, Reply> {
    let Some(filter) = filter.filter(|filter| !filter.is_null()) else { return Ok(data.employees().collect()) };
    let text = filter.as_str().ok_or_else(|| words(400, "filter must be text."))?;
    let filter = filter::parse(text, &EMPLOYEE_FIELDS).map_err(|error| words(400, &error.to_string()))?;
    let matches = |employee: &&Employee| filter.matches(&|field| employee_cell(employee, field));
    // With thousands of people and one look-up for each, scanning them all every time would be the demo's bottleneck.
    let ids: Option<Vec<u32>> = if let Some(numbers) = filter.wanted_texts("employeeNumber") {
        Some(numbers.iter().flat_map(|number| data.by_number(number)).copied().collect())
    } else {
        let emails = filter.wanted_texts("email");
        emails.map(|emails| emails.iter().flat_map(|email| data.by_email(email)).copied().collect())
    };
    let Some(mut ids) = ids else { return Ok(data.employees().filter(matches).collect()) };
    ids.sort_unstable();
    ids.dedup();
    Ok(ids.into_iter().filter_map(|id| data.employee(id)).filter(matches).collect())
}

fn training_type(id: u32, name: &str) -> Value {
    json!({"id": id.to_string(), "name": name, "renewable": false, "frequency": null, "required": false,
           "dueFromHireDate": null, "category": null, "linkUrl": null, "description": null,
           "allowEmployeesToMarkComplete": false})
}

fn types(data: &Data) -> Value {
    let types: Map<String, Value> =
        data.types().iter().map(|(id, name)| (id.to_string(), training_type(*id, name))).collect();
    Value::Object(types)
}

fn record(id: u32, row: &Row) -> Value {
    let mut shown = Map::new();
    shown.insert("id".to_owned(), id.to_string().into());
    shown.insert("employeeId".to_owned(), row.employee.to_string().into());
    for (name, value) in &row.fields {
        let value = match *name {
            "cost" => serde_json::from_str(value).unwrap_or(Value::Null),
            _ => Value::String(value.clone()),
        };
        shown.insert((*name).to_owned(), value);
    }
    Value::Object(shown)
}

/// An object keyed by record id, or an empty list when there is nothing.
fn records(rows: &[(u32, &Row)], type_id: Option<&str>) -> Value {
    let wanted = |row: &Row| type_id.is_none_or(|id| row.get("type") == Some(id));
    let shown: Map<String, Value> =
        rows.iter().filter(|(_, row)| wanted(row)).map(|(id, row)| (id.to_string(), record(*id, row))).collect();
    if shown.is_empty() { json!([]) } else { Value::Object(shown) }
}

fn table(name: &str) -> Result<Object, Reply> {
    Object::table(name).ok_or_else(|| words(400, &format!("Unknown table {name}.")))
}

fn employee(data: &Data, id: &str) -> Result<u32, Reply> {
    let id = id.parse().map_err(|_| words(404, "Employee not found"))?;
    data.employee(id).map(|employee| employee.id).ok_or_else(|| words(404, "Employee not found"))
}

fn list_table(data: &Data, id: &str, name: &str) -> Result<Reply, Reply> {
    let object = table(name)?;
    let rows: Vec<(u32, &Row)> = if id == "all" {
        data.rows(object).collect()
    } else {
        data.rows_of(object, employee(data, id)?).unwrap_or_default()
    };
    let shown: Vec<Value> = rows.into_iter().map(|(id, row)| table_row(object, id, row)).collect();
    Ok(Reply::json(200, &Value::Array(shown)))
}

/// A row of a table; blank columns are null.
fn table_row(object: Object, id: u32, row: &Row) -> Value {
    let mut shown = Map::new();
    shown.insert("id".to_owned(), id.to_string().into());
    shown.insert("employeeId".to_owned(), row.employee.to_string().into());
    for column in object.columns() {
        shown.insert(column.name.to_owned(), row.get(column.name).into());
    }
    Value::Object(shown)
}

/// Checks a write against what HR holds.
fn check(data: &Data, call: &Call, request: &Request) -> Result<Write, Reply> {
    match call {
        Call::CreateType => {
            let name = body(request)?.get("name").and_then(Value::as_str).map(str::to_owned);
            let name = name.filter(|name| !name.is_empty()).ok_or_else(|| words(400, "name is required."))?;
            Ok(Write::CreateType { name })
        }
        Call::CreateRecord { employee: id } => {
            let employee = employee(data, id)?;
            let fields = fields(data, Object::Training, &body(request)?)?;
            require(&fields, &["completed", "type"])?;
            Ok(Write::Create { object: Object::Training, employee, fields })
        }
        Call::UpdateRecord { record } => {
            let row = existing(data, Object::Training, record)?;
            let fields = fields(data, Object::Training, &body(request)?)?;
            require(&fields, &["completed"])?;
            if fields.iter().any(|(name, _)| *name == "type") {
                return Err(words(400, "The type of a training record cannot be changed."));
            }
            Ok(Write::Update { object: Object::Training, row, fields })
        }
        Call::DeleteRecord { record } => {
            Ok(Write::Delete { object: Object::Training, row: existing(data, Object::Training, record)? })
        }
        Call::CreateRow { employee: id, table: name } => {
            let (object, employee) = (table(name)?, employee(data, id)?);
            Ok(Write::Create { object, employee, fields: fields(data, object, &body(request)?)? })
        }
        Call::UpdateRow { employee: id, table: name, row } => {
            let object = table(name)?;
            let row = row_of(data, object, id, row)?;
            Ok(Write::Update { object, row, fields: fields(data, object, &body(request)?)? })
        }
        Call::DeleteRow { employee: id, table: name, row } => {
            let object = table(name)?;
            Ok(Write::Delete { object, row: row_of(data, object, id, row)? })
        }
        Call::Company | Call::Tables | Call::Fields | Call::Data | Call::Types => Err(words(405, "This is a read.")),
        Call::Records { .. } | Call::Rows { .. } => Err(words(405, "This is a read.")),
    }
}

fn body(request: &Request) -> Result<Map<String, Value>, Reply> {
    if !has_content_type(request, "application/json") {
        return Err(words(415, "The content type must be application/json."));
    }
    match request.json() {
        Some(Value::Object(body)) => Ok(body),
        _ => Err(words(400, "The body must be a JSON object.")),
    }
}

fn existing(data: &Data, object: Object, id: &str) -> Result<u32, Reply> {
    let row: u32 = id.parse().map_err(|_| words(404, "Not found"))?;
    data.row(object, row).map(|_| row).ok_or_else(|| words(404, "Not found"))
}

/// The row, if it exists and is this employee's.
fn row_of(data: &Data, object: Object, employee_id: &str, id: &str) -> Result<u32, Reply> {
    let (employee, row) = (employee(data, employee_id)?, existing(data, object, id)?);
    let is_theirs = data.row(object, row).is_some_and(|row| row.employee == employee);
    if is_theirs { Ok(row) } else { Err(words(404, "Not found")) }
}

fn require(fields: &[(&'static str, String)], names: &[&str]) -> Result<(), Reply> {
    for name in names {
        if !fields.iter().any(|(field, value)| field == name && !value.is_empty()) {
            return Err(words(400, &format!("{name} is required.")));
        }
    }
    Ok(())
}

fn fields(data: &Data, object: Object, body: &Map<String, Value>) -> Result<Vec<(&'static str, String)>, Reply> {
    body.iter()
        .map(|(name, value)| {
            let column = object.columns().iter().find(|column| column.name == name);
            let column = column.ok_or_else(|| words(400, &unknown_field(object, name)))?;
            Ok((column.name, field(data, column, value)?))
        })
        .collect()
}

fn unknown_field(object: Object, name: &str) -> String {
    match object {
        Object::Training => format!("Unknown field {name}: there is no expiry or other date on training records."),
        Object::Certifications | Object::Competencies => format!("Unknown column {name}."),
    }
}

/// Checks one value and writes it as the API would give it back.
fn field(data: &Data, column: &Column, value: &Value) -> Result<String, Reply> {
    let refuse = |what: &str| words(400, &format!("{} {value} is not {what}.", column.name));
    let text = match value {
        Value::Null => return Ok(String::new()),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) if column.kind == ColumnKind::Json => {
            return Ok(value.to_string());
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Err(refuse("text or a number")),
    };
    if text.is_empty() {
        return Ok(text);
    }
    match column.kind {
        ColumnKind::Text | ColumnKind::Json => Ok(text),
        ColumnKind::Date => match NaiveDate::parse_from_str(&text, "%Y-%m-%d") {
            Ok(date) => Ok(date.to_string()),
            Err(_) => Err(refuse("a date (yyyy-mm-dd)")),
        },
        ColumnKind::Number => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number.to_string()),
            _ => Err(refuse("a number")),
        },
        ColumnKind::TrainingType => match text.parse::<u32>() {
            Ok(id) if data.types().contains_key(&id) => Ok(id.to_string()),
            _ => Err(refuse("a known training type")),
        },
    }
}
