//! The API of the fake portal.
//!
//! What is documented (<https://docs.myabsorb.com/integration-api/v2/docs>): the key on every call, one live token per account for four
//! hours, `_limit` at most 1000, `_offset` as a page number, the envelope, the filter language, the error body. What is only
//! known from clients: 200 calls a second and a burst of 100, dates without offset, the fields. The paths of competencies are a guess.

use std::cmp::Ordering as Order;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use hyper::Method;
use serde_json::{Map, Value, json};
use tracing::debug;
use uuid::Uuid;

use super::data::{CERTIFICATES, COMPETENCIES, COURSES, DEPARTMENTS, Data, ENROLLMENTS, Schema, Thing, Token, USERS};
use super::page;
use super::{Portal, PortalHandle};
use crate::sandbox::faults::{Area, PortalFault, Wait};
use crate::sandbox::filter::{self, Cell};
use crate::sandbox::population::{DAY_MS, guid};
use crate::sandbox::server::{Reply, Request, Service};

/// How long a token lives, in milliseconds: four hours.
const TOKEN_MS: i64 = DAY_MS / 6;
/// Rows of a page when the request does not say.
const LIMIT_DEFAULT: usize = 20;
/// Most rows of a page.
const LIMIT_MAX: usize = 1_000;
/// Highest page number.
const OFFSET_MAX: usize = 65_535;

/// What a request asks for, once it is understood.
enum Call {
    Login,
    Users,
    User(Uuid),
    UserEnrollments(Uuid),
    UserEnrollment(Uuid, Uuid),
    Certificates(Uuid),
    Certificate(Uuid, Uuid),
    Competencies(Uuid),
    Courses,
    Course(Uuid),
    CourseEnrollments(Uuid),
    Departments,
    Department(Uuid),
}

impl Call {
    /// Paths know no case. An id that is not a GUID is of nothing, so it ends as a 404.
    fn of(request: &Request) -> Option<Self> {
        let lower: Vec<String> = request.segments.iter().map(|part| part.to_ascii_lowercase()).collect();
        let path: Vec<&str> = lower.iter().map(String::as_str).collect();
        let id = super::parsed;
        if request.method == Method::POST {
            return (path == ["authenticate"]).then_some(Self::Login);
        }
        if request.method != Method::GET {
            return None;
        }
        let call = match path.as_slice() {
            ["users"] => Self::Users,
            ["users", user] => Self::User(id(user)),
            ["users", user, "enrollments"] => Self::UserEnrollments(id(user)),
            ["users", user, "enrollments", course] => Self::UserEnrollment(id(user), id(course)),
            ["users", user, "certificates"] => Self::Certificates(id(user)),
            ["users", user, "certificates", certificate] => Self::Certificate(id(user), id(certificate)),
            ["users", user, "competencies"] => Self::Competencies(id(user)),
            ["courses"] => Self::Courses,
            ["courses", course] => Self::Course(id(course)),
            ["courses", course, "enrollments"] => Self::CourseEnrollments(id(course)),
            ["departments"] => Self::Departments,
            ["departments", department] => Self::Department(id(department)),
            _ => return None,
        };
        Some(call)
    }

    fn area(&self) -> Area {
        match self {
            Self::Login => Area::Login,
            Self::Users | Self::User(_) => Area::Users,
            Self::UserEnrollments(_) | Self::UserEnrollment(..) | Self::CourseEnrollments(_) => Area::Enrollments,
            Self::Certificates(_) | Self::Certificate(..) => Area::Certificates,
            Self::Competencies(_) => Area::Competencies,
            Self::Courses | Self::Course(_) => Area::Courses,
            Self::Departments | Self::Department(_) => Area::Departments,
        }
    }
}

/// Faults that change an answer instead of replacing it.
#[derive(Clone, Copy, Default)]
struct Spoiled {
    is_half: bool,
    is_short: bool,
    is_bare: bool,
    has_empty_filtered_pages: bool,
}

#[async_trait]
impl Service for PortalHandle {
    async fn answer(&self, request: Request) -> Reply {
        match request.segments.as_slice() {
            [] => self.portal.show(),
            [room, button] if room == "sandbox" && request.method == Method::POST => {
                self.portal.press(self, button, &request).await
            }
            _ => self.portal.serve_api(&request).await,
        }
    }
}

impl Portal {
    fn show(&self) -> Reply {
        let (logins, calls) = (self.logins.load(Ordering::Relaxed), self.calls.load(Ordering::Relaxed));
        page::show(&self.data(), self.webhook.get(), logins, calls)
    }

    async fn serve_api(&self, request: &Request) -> Reply {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let Some(call) = Call::of(request) else { return error(404, "There is no such route.") };
        let reply = self.answer_call(&call, request).await;
        debug!(method = %request.method, area = ?call.area(), status = reply.status(), "The sandbox portal answered.");
        reply
    }

    async fn answer_call(&self, call: &Call, request: &Request) -> Reply {
        if !self.is_within_rate() {
            let (wait, is_body_empty) = self.faults.throttled_as();
            return self.throttled(wait, is_body_empty);
        }
        let mut spoiled = Spoiled::default();
        for fault in self.faults.take(call.area()) {
            match fault {
                PortalFault::Slow(pause) => pause.wait().await,
                PortalFault::KillToken => self.data().token = None,
                PortalFault::HalfPage => spoiled.is_half = true,
                PortalFault::FewRows => spoiled.is_short = true,
                PortalFault::BareArray => spoiled.is_bare = true,
                PortalFault::FilteredPagesEmpty => spoiled.has_empty_filtered_pages = true,
                PortalFault::Unavailable(status) => {
                    let html = "<html><body><h1>Service Unavailable</h1></body></html>".to_owned();
                    return Reply::text(status, "text/html", html);
                }
                PortalFault::Unauthorized => return error(401, "Unauthorized"),
                PortalFault::Forbid => return error(403, "You do not have permission to do this."),
                PortalFault::NotFound => return error(404, "Not found."),
                PortalFault::Unprocessable => return error(422, "The request could not be processed."),
                PortalFault::Throttle(wait) => return self.throttled(wait, false),
            }
        }
        let reply = self.serve(call, request, spoiled);
        if spoiled.is_half { reply.cut_in_half() } else { reply }
    }

    fn serve(&self, call: &Call, request: &Request, spoiled: Spoiled) -> Reply {
        let key = request.header("x-api-key").map(str::trim).and_then(|key| Uuid::parse_str(key).ok());
        if key != Some(self.api_key) {
            return error(401, "The API key is missing or not valid.");
        }
        if let Call::Login = call {
            return self.log_in(request);
        }
        if !self.is_authorized(request) {
            return error(401, "The token is missing, expired or replaced by a newer one.");
        }
        let mut data = self.data();
        let view = View { portal: self, request, spoiled };
        view.read(&mut data, call).unwrap_or_else(|problem| problem)
    }

    /// One bucket of calls: it holds the burst and fills at the rate, by the injected clock.
    fn is_within_rate(&self) -> bool {
        let Some(rate) = self.rate_per_second else { return true };
        let now = self.clock.now();
        let full = i64::from(self.rate_burst) * 1_000;
        let mut data = self.data();
        let bucket = &mut data.bucket;
        let passed = now.0.saturating_sub(bucket.filled.0).max(0);
        bucket.level = bucket.level.saturating_add(passed.saturating_mul(i64::from(rate))).min(full);
        bucket.filled = now;
        let is_within = bucket.level >= 1_000;
        bucket.level -= if is_within { 1_000 } else { 0 };
        is_within
    }

    fn throttled(&self, wait: Wait, is_body_empty: bool) -> Reply {
        let reply = if is_body_empty { Reply::empty(429) } else { error(429, "Too many requests.") };
        match wait {
            Wait::Unsaid => reply,
            Wait::Seconds(seconds) => reply.with("retry-after", seconds.to_string()),
            Wait::Date(seconds) => {
                let until = self.clock.now().plus_ms(i64::from(seconds) * 1_000).utc();
                reply.with("retry-after", until.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
            }
        }
    }

    /// Makes the account's new token; the former one dies.
    fn log_in(&self, request: &Request) -> Reply {
        let body = request.json().unwrap_or_default();
        // `username` and `Username` are both accepted.
        let field = |name: &str| {
            let fields = body.as_object()?;
            fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.as_str())
        };
        let (Some(username), Some(password), Some(key)) = (field("username"), field("password"), field("privateKey"))
        else {
            return error(400, "username, password and privateKey are required.");
        };
        let is_key = Uuid::parse_str(key).is_ok_and(|key| key == self.api_key);
        if !username.eq_ignore_ascii_case("learnsync.admin") || password != self.password || !is_key {
            return error(401, "The credentials are not valid.");
        }
        let chance = self.entropy.as_ref();
        let text = format!("{}{}", guid(chance).simple(), guid(chance).simple());
        self.data().token = Some(Token { text: text.clone(), expires: self.clock.now().plus_ms(TOKEN_MS) });
        self.logins.fetch_add(1, Ordering::Relaxed);
        Reply::json(200, &Value::String(text))
    }

    /// The token is accepted with and without `Bearer`.
    fn is_authorized(&self, request: &Request) -> bool {
        let Some(header) = request.header("authorization") else { return false };
        let sent = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => header.trim(),
        };
        let data = self.data();
        data.token.as_ref().is_some_and(|token| token.text == sent && self.clock.now() < token.expires)
    }
}

/// Absorb's error body.
fn error(status: u16, message: &str) -> Reply {
    Reply::json(
        status,
        &json!({"code": status, "message": message, "term": "ErrorGeneric", "validations": [message], "_meta": {}}),
    )
}

/// One authorised read.
struct View<'a> {
    portal: &'a Portal,
    request: &'a Request,
    spoiled: Spoiled,
}

impl View<'_> {
    fn read(&self, data: &mut Data, call: &Call) -> Result<Reply, Reply> {
        match call {
            Call::Login => Err(error(404, "There is no such route.")),
            Call::Users => {
                let all = 0..u32::try_from(data.learners.len()).unwrap_or(u32::MAX);
                let things = all.filter(|at| self.sees(data, *at)).map(Thing::User).collect();
                self.list(data, &USERS, things)
            }
            Call::User(id) => self.one(data, &USERS, Thing::User(self.learner(data, *id)?)),
            Call::UserEnrollments(id) => {
                let learner = self.learner(data, *id)?;
                let ids = data.learner(learner).enrollments.clone();
                self.enrollments(data, ids)
            }
            Call::UserEnrollment(user, course) => {
                let learner = self.learner(data, *user)?;
                let course = data.course_at.get(course).copied().ok_or_else(|| error(404, "Course not found."))?;
                let id = data.active_enrollment(learner, course).ok_or_else(|| error(404, "Enrollment not found."))?;
                let reply = self.one(data, &ENROLLMENTS, Thing::Enrollment(id));
                show_after_read(data, &[id]);
                reply
            }
            Call::Certificates(id) => self.certificates(data, *id),
            Call::Certificate(user, id) => {
                let learner = self.learner(data, *user)?;
                let row = data.certificates.get(id);
                let is_visible = row.is_some_and(|row| row.learner == learner && row.hidden_reads == 0);
                if !is_visible {
                    return Err(error(404, "Certificate not found."));
                }
                self.one(data, &CERTIFICATES, Thing::Certificate(*id))
            }
            Call::Competencies(id) => self.competencies(data, *id),
            Call::Courses => {
                let all = 0..u32::try_from(data.courses.len()).unwrap_or(u32::MAX);
                self.list(data, &COURSES, all.map(Thing::Course).collect())
            }
            Call::Course(id) => self.one(data, &COURSES, Thing::Course(self.course(data, *id)?)),
            Call::CourseEnrollments(id) => {
                let course = self.course(data, *id)?;
                let ids = data.course(course).enrollments.clone();
                self.enrollments(data, ids)
            }
            Call::Departments => {
                self.list(data, &DEPARTMENTS, (0..data.departments.len()).map(Thing::Department).collect())
            }
            Call::Department(id) => {
                let at = data.departments.iter().position(|(known, _)| known == id);
                let at = at.ok_or_else(|| error(404, "Department not found."))?;
                self.one(data, &DEPARTMENTS, Thing::Department(at))
            }
        }
    }

    /// Whether the account sees a learner: the last ones may be outside of its departments.
    fn sees(&self, data: &Data, at: u32) -> bool {
        let hidden = self.portal.faults.hidden_learners();
        !data.learner(at).is_deleted && (at as usize) < data.learners.len().saturating_sub(hidden)
    }

    fn learner(&self, data: &Data, id: Uuid) -> Result<u32, Reply> {
        let found = data.find_learner(id).filter(|at| self.sees(data, *at));
        found.ok_or_else(|| error(404, "User not found."))
    }

    fn course(&self, data: &Data, id: Uuid) -> Result<u32, Reply> {
        data.course_at.get(&id).copied().ok_or_else(|| error(404, "Course not found."))
    }

    fn enrollments(&self, data: &mut Data, mut ids: Vec<Uuid>) -> Result<Reply, Reply> {
        ids.retain(|id| data.enrollments.get(id).is_some_and(|row| self.sees(data, row.learner)));
        let reply = self.list(data, &ENROLLMENTS, ids.iter().copied().map(Thing::Enrollment).collect());
        show_after_read(data, &ids);
        reply
    }

    fn certificates(&self, data: &mut Data, user: Uuid) -> Result<Reply, Reply> {
        let learner = self.learner(data, user)?;
        let mut ids = data.learner(learner).certificates.clone();
        ids.retain(|id| data.certificates.get_mut(id).is_some_and(|row| is_shown(&mut row.hidden_reads)));
        self.list(data, &CERTIFICATES, ids.into_iter().map(Thing::Certificate).collect())
    }

    fn competencies(&self, data: &mut Data, user: Uuid) -> Result<Reply, Reply> {
        let learner = self.learner(data, user)?;
        let mut ids = data.learner(learner).competencies.clone();
        ids.retain(|id| data.competencies.get_mut(id).is_some_and(|row| is_shown(&mut row.hidden_reads)));
        self.list(data, &COMPETENCIES, ids.into_iter().map(Thing::Competency).collect())
    }

    fn one(&self, data: &Data, schema: &Schema, thing: Thing) -> Result<Reply, Reply> {
        Ok(Reply::json(200, &data.json(thing, schema, self.portal.faults.is_with_z())))
    }

    /// One page of a list: filtered, sorted, cut.
    fn list(&self, data: &Data, schema: &Schema, mut things: Vec<Thing>) -> Result<Reply, Reply> {
        let (limit, offset) = self.page()?;
        let filter = self.request.parameter("_filter").filter(|text| !text.trim().is_empty());
        if let Some(text) = filter {
            let mut allowed = schema.filterable.to_vec();
            allowed.retain(|field| !self.portal.faults.is_unfilterable(field));
            let parsed = filter::parse(text, &allowed).map_err(|problem| error(422, &problem.to_string()))?;
            things.retain(|thing| parsed.matches(&|field| self.cell(data, *thing, field)));
        }
        self.sort(data, schema, &mut things)?;
        let total = things.len();
        let is_lost = self.spoiled.has_empty_filtered_pages && filter.is_some() && offset > 0;
        let taken = if is_lost { 0 } else { limit };
        let mut rows: Vec<Value> = things
            .into_iter()
            .skip(limit.saturating_mul(offset))
            .take(taken)
            .map(|thing| data.json(thing, schema, self.portal.faults.is_with_z()))
            .collect();
        if self.spoiled.is_short {
            rows.pop();
        }
        Ok(self.envelope(schema, (total, limit, offset), rows))
    }

    fn envelope(&self, schema: &Schema, (total, limit, offset): (usize, usize, usize), rows: Vec<Value>) -> Reply {
        if self.spoiled.is_bare {
            return Reply::json(200, &Value::Array(rows));
        }
        let mut body = Map::new();
        body.insert("totalItems".to_owned(), total.into());
        body.insert("returnedItems".to_owned(), rows.len().into());
        body.insert("limit".to_owned(), limit.into());
        body.insert("offset".to_owned(), offset.into());
        body.insert(schema.collection.to_owned(), Value::Array(rows));
        Reply::json(200, &Value::Object(body))
    }

    fn cell(&self, data: &Data, thing: Thing, field: &str) -> Cell {
        let Some((parent, child)) = field.split_once('/') else { return data.cell(thing, field) };
        match data.cell(thing, parent) {
            Cell::Json(object) => match object.get(child) {
                Some(Value::String(text)) => Cell::Text(text.clone()),
                Some(Value::Number(number)) => number.as_f64().map_or(Cell::Null, Cell::Number),
                Some(Value::Bool(value)) => Cell::Bool(*value),
                _ => Cell::Null,
            },
            _ => Cell::Null,
        }
    }

    /// `_limit` and `_offset`; their deprecated twins have no underscore. The offset counts pages, not rows.
    fn page(&self) -> Result<(usize, usize), Reply> {
        let number = |name: &str, default: usize| {
            let text = self.request.parameter(name).or_else(|| self.request.parameter(name.trim_start_matches('_')));
            text.map_or(Ok(default), |text| {
                text.parse::<usize>().map_err(|_| error(422, &format!("{name} must be a number, not {text:?}.")))
            })
        };
        let (limit, offset) = (number("_limit", LIMIT_DEFAULT)?, number("_offset", 0)?);
        if limit == 0 || limit > LIMIT_MAX {
            return Err(error(422, &format!("_limit is {limit}; it must be 1 to {LIMIT_MAX}.")));
        }
        if offset > OFFSET_MAX {
            return Err(error(422, &format!("_offset is {offset}; it must be at most {OFFSET_MAX}.")));
        }
        Ok((limit, offset))
    }

    /// `_sort=name,-date`: a minus is descending.
    fn sort(&self, data: &Data, schema: &Schema, things: &mut [Thing]) -> Result<(), Reply> {
        let text = self.request.parameter("_sort").filter(|text| !text.trim().is_empty());
        for key in text.unwrap_or(schema.default_sort).split(',').rev() {
            let key = key.trim();
            let (name, is_descending) = key.strip_prefix('-').map_or((key, false), |name| (name, true));
            let known = filter::canonical(name, schema.fields).or_else(|| filter::canonical(name, schema.filterable));
            let field = known.ok_or_else(|| error(422, &format!("'{name}' cannot be sorted by.")))?;
            // The sort is stable, so the last key goes first.
            let order = |left: &(Cell, Thing), right: &(Cell, Thing)| -> Order {
                let order = left.0.order(&right.0);
                if is_descending { order.reverse() } else { order }
            };
            let mut keyed: Vec<(Cell, Thing)> =
                things.iter().map(|thing| (self.cell(data, *thing, field), *thing)).collect();
            keyed.sort_by(order);
            for (place, (_, thing)) in things.iter_mut().zip(keyed) {
                *place = thing;
            }
        }
        Ok(())
    }
}

/// One read less until these enrolments show that they are completed.
fn show_after_read(data: &mut Data, ids: &[Uuid]) {
    for id in ids {
        if let Some(row) = data.enrollments.get_mut(id) {
            row.hidden_reads = row.hidden_reads.saturating_sub(1);
        }
    }
}

/// Whether a row shows in this read; if not, it is one read closer.
fn is_shown(hidden_reads: &mut u32) -> bool {
    let is_shown = *hidden_reads == 0;
    *hidden_reads = hidden_reads.saturating_sub(1);
    is_shown
}
