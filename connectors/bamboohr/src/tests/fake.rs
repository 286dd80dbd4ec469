//! A small BambooHR on loopback, after the vendor's OpenAPI description, with switchable faults.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use learnsync_sdk::{Connector, ConnectorType, Toolbox};
use serde_json::{Map, Value as Json, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::BambooHr;

/// The key that it takes; no other text looks like it.
pub(super) const API_KEY: &str = "key-5f3c81";
/// The same as the header says it: Basic, with any password.
const AUTHORIZATION: &str = "Basic a2V5LTVmM2M4MTp4";

/// What happens to the next request that matches.
pub(super) enum Fault {
    /// This answer, and nothing is done.
    Answer(u16, Vec<(&'static str, &'static str)>, &'static str),
    /// The write is done, and the connection is closed without an answer.
    LoseAnswer,
}

/// What the company holds.
#[derive(Default)]
pub(super) struct Company {
    /// Id, employee number, e-mail, whether active.
    pub(super) people: Vec<(String, String, String, bool)>,
    /// Row id -> (employee, fields).
    pub(super) training: BTreeMap<u64, (String, Map<String, Json>)>,
    /// Row id -> (employee, table, fields).
    pub(super) tables: BTreeMap<u64, (String, String, Map<String, Json>)>,
    /// Columns of tables; others are passed over in silence.
    pub(super) columns: Vec<&'static str>,
    /// Serves everybody, whatever the filter says.
    pub(super) ignores_filter: bool,
    /// The largest page of people; 0 for that of the vendor.
    pub(super) people_per_page_max: usize,
    /// Hides this field from the key.
    pub(super) hides: Option<&'static str>,
    /// Requests, as `METHOD path`.
    pub(super) calls: Vec<String>,
    /// Bodies of the requests that had one.
    pub(super) bodies: Vec<Json>,
    /// Beginning of `METHOD path` -> what happens, once each.
    faults: VecDeque<(&'static str, Fault)>,
    /// Refuses the key.
    pub(super) refuses_key: bool,
    next_id: u64,
}

impl Company {
    /// A company with three people and one table.
    fn new() -> Self {
        let mut company = Self {
            columns: vec!["certification", "issued", "expires", "course", "customReference"],
            ..Self::default()
        };
        company.add_person("7", "E-7", "ada@example.com", true);
        company.add_person("8", "E-8", "grace@example.com", false);
        company.add_person("9", "O'9", "alan@example.com", true);
        company
    }

    /// Adds a person.
    pub(super) fn add_person(&mut self, id: &str, number: &str, email: &str, is_active: bool) {
        self.people.push((id.to_owned(), number.to_owned(), email.to_owned(), is_active));
    }

    fn knows(&self, person: &str) -> bool {
        self.people.iter().any(|(id, ..)| id == person)
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Puts a training record that somebody else wrote.
    pub(super) fn put_training(&mut self, person: &str, fields: Json) -> String {
        let id = self.id();
        self.training.insert(id, (person.to_owned(), map(fields)));
        id.to_string()
    }

    /// Puts a table row that somebody else wrote.
    pub(super) fn put_row(&mut self, person: &str, table: &str, fields: Json) -> String {
        let id = self.id();
        self.tables.insert(id, (person.to_owned(), table.to_owned(), map(fields)));
        id.to_string()
    }

    /// A training record's field.
    pub(super) fn training_field(&self, row: &str, field: &str) -> Json {
        self.training[&number(row)].1.get(field).cloned().unwrap_or_default()
    }

    /// A table row's field.
    pub(super) fn row_field(&self, row: &str, field: &str) -> Json {
        self.tables[&number(row)].2.get(field).cloned().unwrap_or_default()
    }

    /// Does this to the next request that begins so.
    pub(super) fn fail(&mut self, request: &'static str, fault: Fault) {
        self.faults.push_back((request, fault));
    }

    /// The requests so far that begin so; forgets them all.
    pub(super) fn take_calls(&mut self, beginning: &str) -> usize {
        std::mem::take(&mut self.calls).iter().filter(|call| call.starts_with(beginning)).count()
    }

    fn fault(&mut self, call: &str) -> Option<Fault> {
        let place = self.faults.iter().position(|(beginning, _)| call.starts_with(beginning))?;
        self.faults.remove(place).map(|(_, fault)| fault)
    }
}

/// The running fake; ends with the test.
pub(super) struct Fake {
    address: SocketAddr,
    company: Arc<Mutex<Company>>,
    server: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    /// Starts one with three people.
    pub(super) async fn start() -> Self {
        let company = Arc::new(Mutex::new(Company::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let server = tokio::spawn(serve(listener, Arc::clone(&company)));
        Self { address, company, server }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// As it was at the start.
    pub(super) fn reset(&self) {
        *self.company() = Company::new();
    }

    /// The settings of a destination that finds it here.
    pub(super) fn settings(&self, url: &str) -> Json {
        json!({"url": url, "api_key": API_KEY})
    }

    /// What the company holds.
    pub(super) fn company(&self) -> MutexGuard<'_, Company> {
        self.company.lock().expect("no test panics while it holds this")
    }

    /// How many training records and table rows there are.
    pub(super) fn counts(&self) -> (usize, usize) {
        let company = self.company();
        (company.training.len(), company.tables.len())
    }

    /// A connector that is configured for this fake.
    pub(super) fn connector(&self) -> Box<dyn Connector> {
        self.built("acme", false)
    }

    /// A connector of the crash test, which does not look before it writes.
    pub(super) fn blind_connector(&self) -> Box<dyn Connector> {
        self.built("acme", true)
    }

    fn built(&self, installation: &str, test_skip_lookup: bool) -> Box<dyn Connector> {
        let settings = self.settings(&format!("http://{}", self.address));
        let toolbox = Toolbox { test_skip_lookup, ..learnsync_testkit::toolbox(installation) };
        BambooHr.build(&settings, toolbox).expect("these settings are right")
    }
}

async fn serve(listener: TcpListener, company: Arc<Mutex<Company>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let company = Arc::clone(&company);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&company)));
            // A lost answer ends the connection with an error, on purpose.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Reply = (u16, Vec<(&'static str, &'static str)>, String);

async fn answer(
    request: Request<Incoming>,
    company: Arc<Mutex<Company>>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let call = format!("{} {}", head.method, head.uri.path());
    let mut company = company.lock().expect("no test panics while it holds this");
    company.calls.push(call.clone());
    let fault = company.fault(&call);
    let reply = if company.refuses_key || header("authorization") != AUTHORIZATION {
        words(401, "wrong key")
    } else if header("accept") != "application/json" {
        words(200, "<xml/>")
    } else if !body.is_empty() && header("content-type") != "application/json" {
        words(400, "the body is no XML")
    } else if let Some(Fault::Answer(status, headers, words)) = fault {
        (status, headers, words.to_owned())
    } else {
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let Ok(reply) = route(&mut company, &head.method, head.uri.path(), body);
        if matches!(fault, Some(Fault::LoseAnswer)) {
            return Err(std::io::Error::other("the answer is lost"));
        }
        reply
    };
    let mut response = Response::builder().status(reply.0);
    for (name, value) in reply.1 {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::from(reply.2))).map_err(std::io::Error::other)
}

fn words(status: u16, text: &str) -> Reply {
    (status, Vec::new(), text.to_owned())
}

fn shown(status: u16, body: &Json) -> Reply {
    (status, Vec::new(), body.to_string())
}

fn route(company: &mut Company, method: &Method, path: &str, body: Json) -> Result<Reply, Infallible> {
    if !body.is_null() {
        company.bodies.push(body.clone());
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    Ok(match (method.as_str(), parts.as_slice()) {
        ("GET", ["api", "v1", "company_information"]) => shown(200, &json!({"displayName": "Acme"})),
        ("GET", ["api", "v1", "training", "type"]) => {
            shown(200, &json!({"4": {"id": "4", "name": "First aid"}, "7": {"name": "Fire"}}))
        }
        ("POST", ["api", "v2", "datasets", "employee", "data"]) => employees(company, &body),
        ("GET", ["api", "v1", "training", "record", "employee", person]) => trainings(company, person),
        ("POST", ["api", "v1", "training", "record", "employee", person]) => create_training(company, person, body),
        ("PUT", ["api", "v1", "training", "record", row]) => update_training(company, row, body),
        ("DELETE", ["api", "v1", "training", "record", row]) => match company.training.remove(&number(row)) {
            Some(_) => words(200, ""),
            None => words(404, "no such record"),
        },
        ("GET", ["api", "v1", "employees", "all", "tables", table]) => all_rows(company, table),
        ("GET", ["api", "v1", "employees", person, "tables", table]) => rows(company, person, table),
        ("POST", ["api", "v1_1", "employees", person, "tables", table]) => create_row(company, person, table, body),
        ("POST", ["api", "v1_1", "employees", _, "tables", _, row]) => update_row(company, row, body),
        ("DELETE", ["api", "v1", "employees", _, "tables", _, row]) => match company.tables.remove(&number(row)) {
            Some(_) => shown(200, &json!({"success": true})),
            None => shown(200, &json!({"success": false, "error": "row not found"})),
        },
        _ => words(404, "no such endpoint"),
    })
}

/// One page of people; without `orderBy` the last ones first, since the vendor promises no order.
fn employees(company: &Company, body: &Json) -> Reply {
    let fields: Vec<&str> = body["fields"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let mut people: Vec<_> = company.people.iter().filter(|person| is_wanted(company, body, person)).collect();
    match body["orderBy"].as_str() {
        None => people.reverse(),
        Some("eeid asc") if fields.contains(&"eeid") => people.sort_by_key(|(id, ..)| number(id)),
        Some(_) => return words(400, "UE-1001"),
    }
    let size = body["pageSize"].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(100);
    let size = if company.people_per_page_max == 0 { size } else { size.min(company.people_per_page_max) };
    let page = body["page"].as_u64().and_then(|page| usize::try_from(page).ok()).unwrap_or(1);
    let (total, pages) = (people.len(), people.len().div_ceil(size));
    let shown_people = people.into_iter().skip((page - 1) * size).take(size);
    let rows: Vec<Json> = shown_people.map(|person| shown_person(company, &fields, person)).collect();
    let links = if page < pages { json!({"next": "the next page"}) } else { json!({}) };
    let meta = json!({"page": page, "pageSize": size, "totalPages": pages, "totalItems": total});
    shown(200, &json!({"data": rows, "links": links, "meta": meta}))
}

fn is_wanted(company: &Company, body: &Json, (_, number, email, _): &(String, String, String, bool)) -> bool {
    let Some(filter) = body["filter"].as_str() else { return true };
    let wanted: Vec<&str> = filter.split(" or ").collect();
    let equals =
        |field: &str, value: &str| wanted.contains(&format!("{field} eq '{}'", value.replace('\'', "''")).as_str());
    company.ignores_filter || equals("employeeNumber", number) || equals("email", email)
}

fn shown_person(company: &Company, wanted: &[&str], (id, number, email, _): &(String, String, String, bool)) -> Json {
    let mut fields = Map::new();
    for field in wanted {
        let value = match *field {
            _ if company.hides == Some(field) => "",
            "eeid" => id.as_str(),
            "employeeNumber" => number.as_str(),
            "email" => email.as_str(),
            _ => panic!("unknown field {field}"),
        };
        fields.insert((*field).to_owned(), value.into());
    }
    if let Some(hidden) = company.hides {
        fields.insert("_restrictedFields".to_owned(), json!([format!("employee_{hidden}")]));
    }
    json!({"fields": fields})
}

fn trainings(company: &Company, person: &str) -> Reply {
    if !company.knows(person) {
        return words(404, "no such employee");
    }
    let rows: Map<String, Json> = company
        .training
        .iter()
        .filter(|(_, (owner, _))| owner == person)
        .map(|(id, (owner, fields))| {
            let mut row = map(json!({"id": id.to_string(), "employeeId": owner}));
            row.extend(fields.iter().map(|(name, value)| (name.clone(), as_text(name, value))));
            (id.to_string(), Json::Object(row))
        })
        .collect();
    shown(200, &if rows.is_empty() { json!([]) } else { Json::Object(rows) })
}

/// Numbers come back as text, with two decimals.
fn as_text(name: &str, value: &Json) -> Json {
    match value.as_f64() {
        Some(number) if name != "type" => Json::from(format!("{number:.2}")),
        Some(_) => Json::from(value.to_string()),
        None => value.clone(),
    }
}

fn create_training(company: &mut Company, person: &str, body: Json) -> Reply {
    if !body["type"].is_number() || !body["completed"].is_string() {
        return words(400, "completed and type are required");
    }
    let id = company.put_training(person, body);
    shown(201, &json!({"id": number(&id)}))
}

fn update_training(company: &mut Company, row: &str, body: Json) -> Reply {
    let Some((_, held)) = company.training.get_mut(&number(row)) else { return words(404, "no such record") };
    if !body["type"].is_null() || !body["completed"].is_string() {
        return words(400, "completed is required, and the type cannot be changed");
    }
    // What is not named is blanked: the harsher of the two readings of the vendor's description.
    let kind = held.get("type").cloned();
    *held = map(body);
    held.extend(kind.map(|kind| ("type".to_owned(), kind)));
    shown(201, &json!({"id": row}))
}

fn rows(company: &Company, person: &str, table: &str) -> Reply {
    if !company.knows(person) {
        return words(404, "no such employee");
    }
    shown_rows(company, table, |owner| owner == person)
}

/// "The result is not sorted in any particular order."
fn all_rows(company: &Company, table: &str) -> Reply {
    shown_rows(company, table, |_| true)
}

fn shown_rows(company: &Company, table: &str, is_wanted: impl Fn(&str) -> bool) -> Reply {
    let rows: Vec<Json> = company
        .tables
        .iter()
        .rev()
        .filter(|(_, (owner, place, _))| is_wanted(owner) && place == table)
        .map(|(id, (owner, _, fields))| {
            let mut row = map(json!({"id": id.to_string(), "employeeId": owner}));
            row.extend(
                company
                    .columns
                    .iter()
                    .map(|column| ((*column).to_owned(), fields.get(*column).cloned().unwrap_or_default())),
            );
            Json::Object(row)
        })
        .collect();
    shown(200, &Json::Array(rows))
}

fn create_row(company: &mut Company, person: &str, table: &str, body: Json) -> Reply {
    if !company.knows(person) {
        return words(404, "no such employee");
    }
    if !is_date(&body["issued"]) {
        return words(400, "issued is no date");
    }
    let fields = known(company, body);
    company.put_row(person, table, fields);
    words(200, "")
}

fn update_row(company: &mut Company, row: &str, body: Json) -> Reply {
    if !is_date(&body["issued"]) {
        return words(400, "issued is no date");
    }
    let fields = known(company, body);
    let held = &mut company.tables.get_mut(&number(row)).expect("tests update rows that exist").2;
    held.extend(map(fields));
    words(200, "")
}

/// A date, or nothing.
fn is_date(value: &Json) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.is_empty() || text.parse::<chrono::NaiveDate>().is_ok()
}

fn known(company: &Company, body: Json) -> Json {
    let columns = &company.columns;
    Json::Object(map(body).into_iter().filter(|(name, _)| columns.contains(&name.as_str())).collect())
}

fn map(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        other => panic!("{other} is not an object"),
    }
}

fn number(id: &str) -> u64 {
    id.parse().expect("ids are numbers here")
}
