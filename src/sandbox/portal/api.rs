//! The API of the fake portal: reads.
//!
//! What is documented (<https://docs.myabsorb.com/integration-api/v2/docs>): the key on every call, one live token per account for four
//! hours, `_limit` at most 1000, `_offset` as a page number, the envelope, the filter language, the error body. What is only
//! known from clients: 200 calls a second and a burst of 100, dates without offset, the fields. The paths of competencies are a guess.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use hyper::Method;
use serde_json::json;
use tracing::debug;
use uuid::Uuid;

use super::data::Data;
use super::quirks::{Feature, Scope, State};
use super::shape::{
    CERTIFICATES, COMPETENCIES, COURSES, DEPARTMENTS, ENROLLMENTS, GROUPS, LEARNING_PATHS, SESSIONS, Schema, Spelling,
    Thing, USERS, write_key,
};
use super::{ADMIN, Portal, PortalHandle, page};
use crate::domain::time::Timestamp;
use crate::sandbox::faults::{Area, PortalFault, Wait};
use crate::sandbox::filter::{self, Cell};
use crate::sandbox::population::{CourseKind, Learner};
use crate::sandbox::server::{Reply, Request, Service};

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
    LearningPaths(Uuid),
    Sessions(Uuid, Uuid),
    Session(Uuid, Uuid, Uuid),
    /// All, or those of one kind.
    Courses(Option<CourseKind>),
    Course(Uuid),
    CourseEnrollments(Uuid),
    Departments,
    Department(Uuid),
    Groups,
    Group(Uuid),
    MyDetails,
}

impl Call {
    /// Paths know no case. An id that is not a GUID is of nothing, so it ends as a 404.
    fn of(request: &Request, is_v1: bool) -> Option<Self> {
        let lower: Vec<String> = request.segments.iter().map(|part| part.to_ascii_lowercase()).collect();
        let mut path: Vec<&str> = lower.iter().map(String::as_str).collect();
        // SEEN second hand (<https://github.com/npezza93/absorb_api>): version 1 lives below this.
        if is_v1 && path.starts_with(&["api", "rest", "v1"]) {
            path.drain(..3);
        }
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
            // INFERRED: no published page names these paths.
            ["users", user, "learning-paths"] => Self::LearningPaths(id(user)),
            ["users", user, "enrollments", course, "sessions"] => Self::Sessions(id(user), id(course)),
            ["users", user, "enrollments", course, "sessions", session] => {
                Self::Session(id(user), id(course), id(session))
            }
            ["courses"] => Self::Courses(None),
            ["onlinecourses"] => Self::Courses(Some(CourseKind::Online)),
            ["instructorledcourses"] => Self::Courses(Some(CourseKind::InstructorLed)),
            ["curriculums"] => Self::Courses(Some(CourseKind::Curriculum)),
            ["coursebundles"] => Self::Courses(Some(CourseKind::Bundle)),
            ["courses", course] => Self::Course(id(course)),
            ["courses", course, "enrollments"] => Self::CourseEnrollments(id(course)),
            ["departments"] => Self::Departments,
            ["departments", department] => Self::Department(id(department)),
            ["groups"] => Self::Groups,
            ["groups", group] => Self::Group(id(group)),
            ["my-details"] | ["api", "my-details"] => Self::MyDetails,
            _ => return None,
        };
        Some(call)
    }

    fn area(&self) -> Area {
        match self {
            Self::Login => Area::Login,
            Self::Users | Self::User(_) | Self::MyDetails => Area::Users,
            Self::UserEnrollments(_) | Self::UserEnrollment(..) | Self::CourseEnrollments(_) => Area::Enrollments,
            Self::Certificates(_) | Self::Certificate(..) => Area::Certificates,
            Self::Competencies(_) => Area::Competencies,
            Self::LearningPaths(_) => Area::LearningPaths,
            Self::Sessions(..) | Self::Session(..) => Area::Sessions,
            Self::Groups | Self::Group(_) => Area::Groups,
            Self::Courses(_) | Self::Course(_) => Area::Courses,
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
            [room, thing] if room == "sandbox" && thing == "quirks" => self.portal.control_quirks(&request),
            [room, thing] if room == "sandbox" && thing == "clock" => self.portal.control_clock(&request),
            [room, door] if room == "oauth" && door == "authorize" && request.method == Method::GET => {
                self.portal.authorize(&request)
            }
            [room, door] if room == "oauth" && door == "token" && request.method == Method::POST => {
                self.portal.grant(&request)
            }
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
        let quirks = self.quirks.state();
        let Some(call) = Call::of(request, quirks.is_v1) else { return error(404, "There is no such route.") };
        let reply = self.answer_call(&call, request, &quirks).await;
        debug!(method = %request.method, area = ?call.area(), status = reply.status(), "The sandbox portal answered.");
        reply
    }

    async fn answer_call(&self, call: &Call, request: &Request, quirks: &State) -> Reply {
        if !self.is_within_rate(quirks) {
            let (wait, is_body_empty) = self.faults.throttled_as();
            let wait = if wait == Wait::Unsaid { quirks.retry_after } else { wait };
            return self.throttled(wait, is_body_empty || quirks.has_empty_429);
        }
        let mut spoiled = Spoiled::default();
        for fault in self.faults.take(call.area()) {
            match fault {
                PortalFault::Slow(pause) => pause.wait().await,
                PortalFault::KillToken => self.grants().kill_login(),
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
        let reply = self.serve(call, request, quirks, spoiled);
        if spoiled.is_half { reply.cut_in_half() } else { reply }
    }

    fn serve(&self, call: &Call, request: &Request, quirks: &State, spoiled: Spoiled) -> Reply {
        if !self.has_key(request) {
            return error(401, "The API key is missing or not valid.");
        }
        if let Call::Login = call {
            return self.log_in(request);
        }
        if !self.is_authorized(request) {
            return error(401, "The token is missing, expired or replaced by a newer one.");
        }
        // SEEN second hand: single calls with a valid token are refused so under parallel load.
        let number = self.authorized.fetch_add(1, Ordering::Relaxed) + 1;
        if quirks.transient401 > 0 && number.is_multiple_of(u64::from(quirks.transient401)) {
            return error(401, "Unauthorized");
        }
        let feature = match call.area() {
            Area::Certificates => quirks.certificates,
            Area::Competencies => quirks.competencies,
            Area::LearningPaths => quirks.learning_paths,
            _ => Feature::On,
        };
        match feature {
            Feature::On => {}
            Feature::Forbidden => return error(403, "You do not have permission to do this."),
            Feature::Absent => return error(404, "Not found."),
        }
        let mut data = self.data();
        let sight = self.sight(&data, quirks);
        let spelling = Spelling { has_z: quirks.has_z || self.faults.is_with_z(), is_pascal: quirks.is_v1 };
        let view = View { portal: self, request, quirks, spoiled, sight, spelling };
        view.read(&mut data, call).unwrap_or_else(|problem| problem)
    }

    /// What the account sees.
    fn sight(&self, data: &Data, quirks: &State) -> Sight {
        let there = data.departments.iter().filter(|row| !row.is_deleted).count();
        let count = u32::try_from(data.departments.len()).unwrap_or(u32::MAX);
        let departments = match &quirks.scope {
            Scope::All => None,
            Scope::Department(name) => {
                let above = (0..count).find(|at| data.departments[*at as usize].name.eq_ignore_ascii_case(name));
                Some((0..count).map(|at| above.is_some_and(|above| data.is_within(at, above))).collect())
            }
            Scope::Share(percent) => {
                // The newest first, so that the root is what a narrow role loses first.
                let seen = (there * *percent as usize).div_ceil(100);
                let places: Vec<u32> =
                    (0..count).rev().filter(|at| !data.departments[*at as usize].is_deleted).collect();
                Some((0..count).map(|at| places[..seen].contains(&at)).collect())
            }
        };
        Sight { learners: data.learners.len().saturating_sub(self.faults.hidden_learners()), departments }
    }

    /// By the portal's clock.
    fn is_within_rate(&self, quirks: &State) -> bool {
        if quirks.rate == 0 {
            return true;
        }
        let now = self.clock.now();
        self.data().limiter.take(now, quirks.rate, quirks.burst)
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
}

/// Absorb's error body.
pub(super) fn error(status: u16, message: &str) -> Reply {
    Reply::json(
        status,
        &json!({"code": status, "message": message, "term": "ErrorGeneric", "validations": [message], "_meta": {}}),
    )
}

/// Whom and what the account sees. SEEN (<https://docs.myabsorb.com/docs/integration-api>): users and departments are those "available to
/// the current, authenticated administrator"; what is beyond is missing, and no error says so.
struct Sight {
    /// The learners before this position.
    learners: usize,
    /// By the department's position; none for all.
    departments: Option<Vec<bool>>,
}

/// The deprecated parameters of `/users` (SEEN: <https://docs.myabsorb.com/docs/integration-api>), looked up once for all learners.
struct Asked<'a> {
    email: Option<&'a str>,
    username: Option<&'a str>,
    external_id: Option<&'a str>,
    modified_since: Option<Timestamp>,
}

impl<'a> Asked<'a> {
    fn of(request: &'a Request) -> Self {
        Self {
            email: request.parameter("email"),
            username: request.parameter("username"),
            external_id: request.parameter("externalId"),
            modified_since: request.parameter("modifiedSince").and_then(filter::instant),
        }
    }

    fn covers(&self, learner: &Learner) -> bool {
        let is = |asked: Option<&str>, value: Option<&str>| {
            asked.is_none_or(|asked| value.is_some_and(|value| value.eq_ignore_ascii_case(asked)))
        };
        is(self.email, Some(&learner.email))
            && is(self.username, Some(&learner.username))
            && is(self.external_id, learner.external_id.as_deref())
            && self.modified_since.is_none_or(|since| learner.edited >= since)
    }
}

/// In which order the things of a list come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Ids,
    Other,
}

/// One authorised read.
struct View<'a> {
    portal: &'a Portal,
    request: &'a Request,
    quirks: &'a State,
    spoiled: Spoiled,
    sight: Sight,
    spelling: Spelling,
}

impl View<'_> {
    fn read(&self, data: &mut Data, call: &Call) -> Result<Reply, Reply> {
        match call {
            Call::Login => Err(error(404, "There is no such route.")),
            Call::Users => {
                let asked = Asked::of(self.request);
                let all = data.learner_at.values().copied().filter(|at| self.sees(data, *at));
                let things = all.filter(|at| asked.covers(data.learner(*at))).map(Thing::User).collect();
                self.list(data, &USERS, things, Order::Ids)
            }
            Call::User(id) => Ok(self.one(data, &USERS, Thing::User(self.learner(data, *id)?))),
            Call::MyDetails => {
                let id = self.portal.admin;
                Ok(Reply::json(200, &json!({"id": id, "username": ADMIN, "activeStatus": 0, "isAdmin": true})))
            }
            Call::UserEnrollments(id) => {
                let learner = self.learner(data, *id)?;
                let rows = data.learner(learner).enrollments.clone();
                self.enrollments(data, rows, Order::Other)
            }
            Call::UserEnrollment(user, course) => {
                let (learner, course) = (self.learner(data, *user)?, self.course(data, *course)?);
                let at = data.active_enrollment(learner, course).ok_or_else(|| error(404, "Enrollment not found."))?;
                let reply = self.one(data, &ENROLLMENTS, Thing::Enrollment(at));
                show_after_read(data, &[at]);
                Ok(reply)
            }
            Call::Certificates(id) => {
                let learner = self.learner(data, *id)?;
                let mut rows = data.learner(learner).certificates.clone();
                rows.retain(|at| data.certificates.get_mut(*at).is_some_and(|row| is_shown(&mut row.hidden_reads)));
                self.list(data, &CERTIFICATES, rows.into_iter().map(Thing::Certificate).collect(), Order::Other)
            }
            Call::Certificate(user, id) => {
                let learner = self.learner(data, *user)?;
                let at = data.certificates.find(*id);
                let row = at.and_then(|at| data.certificates.get(at));
                let is_visible = row.is_some_and(|row| row.learner == learner && row.hidden_reads == 0);
                match at.filter(|_| is_visible) {
                    Some(at) => Ok(self.one(data, &CERTIFICATES, Thing::Certificate(at))),
                    None => Err(error(404, "Certificate not found.")),
                }
            }
            Call::Competencies(id) => {
                let learner = self.learner(data, *id)?;
                let mut rows = data.learner(learner).competencies.clone();
                rows.retain(|at| data.competencies.get_mut(*at).is_some_and(|row| is_shown(&mut row.hidden_reads)));
                self.list(data, &COMPETENCIES, rows.into_iter().map(Thing::Competency).collect(), Order::Other)
            }
            Call::LearningPaths(id) => {
                let learner = self.learner(data, *id)?;
                let rows = data.learner(learner).paths.iter().copied().map(Thing::LearningPath).collect();
                self.list(data, &LEARNING_PATHS, rows, Order::Other)
            }
            Call::Sessions(user, course) => self.sessions(data, *user, *course),
            Call::Session(user, course, id) => {
                let (learner, course) = (self.learner(data, *user)?, self.course(data, *course)?);
                let is_it =
                    |at: &u32| data.sessions.get(*at).is_some_and(|row| (row.learner, row.course) == (learner, course));
                let at = data.sessions.find(*id).filter(is_it).ok_or_else(|| error(404, "Session not found."))?;
                Ok(self.one(data, &SESSIONS, Thing::Session(at)))
            }
            Call::Courses(kind) => {
                let is_it = |at: &u32| {
                    let row = data.course(*at);
                    !row.is_deleted && kind.is_none_or(|kind| row.kind == kind)
                };
                let things = data.course_at.values().copied().filter(is_it).map(Thing::Course).collect();
                self.list(data, &COURSES, things, Order::Ids)
            }
            Call::Course(id) => Ok(self.one(data, &COURSES, Thing::Course(self.course(data, *id)?))),
            Call::CourseEnrollments(id) => {
                let course = self.course(data, *id)?;
                let mut rows = data.course(course).enrollments.clone();
                rows.retain(|at| data.enrollments.get(*at).is_some_and(|row| self.sees(data, row.learner)));
                self.enrollments(data, rows, Order::Ids)
            }
            Call::Departments => {
                let all = 0..u32::try_from(data.departments.len()).unwrap_or(u32::MAX);
                let things = all.filter(|at| self.sees_department(data, *at)).map(Thing::Department).collect();
                self.list(data, &DEPARTMENTS, things, Order::Other)
            }
            Call::Department(id) => {
                let mut all = 0..u32::try_from(data.departments.len()).unwrap_or(u32::MAX);
                let at = all.find(|at| data.departments[*at as usize].id == *id && self.sees_department(data, *at));
                at.map(|at| self.one(data, &DEPARTMENTS, Thing::Department(at)))
                    .ok_or_else(|| error(404, "Department not found."))
            }
            Call::Groups => {
                let all = (0..).zip(&data.groups).filter(|(_, row)| !row.is_deleted);
                let things = all.map(|(at, _)| Thing::Group(at)).collect();
                self.list(data, &GROUPS, things, Order::Other)
            }
            Call::Group(id) => {
                let found = (0..).zip(&data.groups).find(|(_, row)| row.id == *id && !row.is_deleted);
                found
                    .map(|(at, _)| self.one(data, &GROUPS, Thing::Group(at)))
                    .ok_or_else(|| error(404, "Group not found."))
            }
        }
    }

    /// Whether the account sees a learner.
    fn sees(&self, data: &Data, at: u32) -> bool {
        let row = data.learner(at);
        let sees_department = self.sight.departments.as_ref().is_none_or(|seen| seen[row.department as usize]);
        !row.is_deleted && (at as usize) < self.sight.learners && sees_department
    }

    fn sees_department(&self, data: &Data, at: u32) -> bool {
        let is_seen = self.sight.departments.as_ref().is_none_or(|seen| seen[at as usize]);
        is_seen && !data.departments[at as usize].is_deleted
    }

    fn learner(&self, data: &Data, id: Uuid) -> Result<u32, Reply> {
        let found = data.find_learner(id).filter(|at| self.sees(data, *at));
        found.ok_or_else(|| error(404, "User not found."))
    }

    fn course(&self, data: &Data, id: Uuid) -> Result<u32, Reply> {
        data.find_course(id).ok_or_else(|| error(404, "Course not found."))
    }

    fn enrollments(&self, data: &mut Data, rows: Vec<u32>, order: Order) -> Result<Reply, Reply> {
        let reply = self.list(data, &ENROLLMENTS, rows.iter().copied().map(Thing::Enrollment).collect(), order);
        if reply.is_ok() {
            show_after_read(data, &rows);
        }
        reply
    }

    /// SEEN (<https://docs.myabsorb.com/integration-api/v2/docs>, enrollments): a bare array, by `status` and `modifiedSince`.
    /// INFERRED: the path, and that a course without sessions has an empty list.
    fn sessions(&self, data: &mut Data, user: Uuid, course: Uuid) -> Result<Reply, Reply> {
        let (learner, course) = (self.learner(data, user)?, self.course(data, course)?);
        let since = self.request.parameter("modifiedSince").and_then(filter::instant);
        let status = self.request.parameter("status");
        let mut rows = data.learner(learner).sessions.clone();
        rows.retain(|at| {
            data.sessions.get_mut(*at).is_some_and(|row| {
                row.course == course && is_shown(&mut row.hidden_reads) && since.is_none_or(|since| row.edited >= since)
            })
        });
        rows.retain(|at| {
            let held = data.cell(Thing::Session(*at), "status");
            status.is_none_or(|asked| asked.parse().ok().map(Cell::Number) == Some(held))
        });
        let mut out = Vec::new();
        self.write_rows(&mut out, data, &SESSIONS, rows.into_iter().map(Thing::Session));
        Ok(Reply::written(200, out))
    }

    fn one(&self, data: &Data, schema: &Schema, thing: Thing) -> Reply {
        let mut out = Vec::new();
        data.write(&mut out, thing, schema, self.spelling);
        Reply::written(200, out)
    }

    fn write_rows(&self, out: &mut Vec<u8>, data: &Data, schema: &Schema, things: impl Iterator<Item = Thing>) {
        out.push(b'[');
        for (place, thing) in things.enumerate() {
            if place > 0 {
                out.push(b',');
            }
            data.write(out, thing, schema, self.spelling);
        }
        out.push(b']');
    }

    /// One page of a list: filtered, sorted, cut. Only the rows of the page are written.
    fn list(&self, data: &Data, schema: &Schema, mut things: Vec<Thing>, order: Order) -> Result<Reply, Reply> {
        if self.quirks.is_v1 {
            things.truncate(things.len().saturating_sub(usize::from(self.spoiled.is_short)));
            let mut out = Vec::new();
            self.write_rows(&mut out, data, schema, things.into_iter());
            return Ok(Reply::written(200, out));
        }
        let (limit, offset) = self.page()?;
        let filter = self.request.parameter("_filter").filter(|text| !text.trim().is_empty());
        if let Some(text) = filter {
            let mut allowed = schema.filterable.to_vec();
            allowed.retain(|field| !self.portal.faults.is_unfilterable(field));
            let parsed = filter::parse(text, &allowed).map_err(|problem| error(422, &problem.to_string()))?;
            things.retain(|thing| parsed.matches(&|field| self.cell(data, *thing, field)));
        }
        self.sort(data, schema, &mut things, order)?;
        let total = things.len();
        let has_empty = self.quirks.has_empty_filtered_pages || self.spoiled.has_empty_filtered_pages;
        let is_lost = has_empty && filter.is_some() && offset > 0;
        let from = limit.saturating_mul(offset).min(total);
        let mut page = &things[from..from.saturating_add(if is_lost { 0 } else { limit }).min(total)];
        if self.spoiled.is_short {
            page = &page[..page.len().saturating_sub(1)];
        }
        let mut out = Vec::with_capacity(64 + page.len() * 768);
        let is_bare = self.quirks.is_bare || self.spoiled.is_bare;
        if !is_bare {
            let totals = [("totalItems", total), ("returnedItems", page.len()), ("limit", limit), ("offset", offset)];
            out.push(b'{');
            for (name, number) in totals.iter().skip(usize::from(self.quirks.has_no_totals)) {
                out.push(b'"');
                write_key(&mut out, name, false);
                out.extend_from_slice(format!("\":{number},").as_bytes());
            }
            out.extend_from_slice(format!("\"{}\":", schema.collection).as_bytes());
        }
        self.write_rows(&mut out, data, schema, page.iter().copied());
        if !is_bare {
            out.push(b'}');
        }
        Ok(Reply::written(200, out))
    }

    fn cell(&self, data: &Data, thing: Thing, field: &str) -> Cell {
        let Some((parent, child)) = field.split_once('/') else { return data.cell(thing, field) };
        match data.cell(thing, parent) {
            Cell::Json(object) => match object.get(child) {
                Some(serde_json::Value::String(text)) => Cell::Text(text.clone()),
                Some(serde_json::Value::Number(number)) => number.as_f64().map_or(Cell::Null, Cell::Number),
                Some(serde_json::Value::Bool(value)) => Cell::Bool(*value),
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
        let most = Some(self.quirks.page_rows_max as usize).filter(|most| *most > 0).unwrap_or(LIMIT_MAX);
        Ok((limit.min(most), offset))
    }

    /// `_sort=name,-date`: a minus is descending.
    fn sort(&self, data: &Data, schema: &Schema, things: &mut [Thing], order: Order) -> Result<(), Reply> {
        let text = self.request.parameter("_sort").map(str::trim).filter(|text| !text.is_empty());
        if text.is_some() && self.quirks.is_unsortable {
            return Err(error(422, "This list cannot be sorted."));
        }
        // How learnsync asks: the order in which all learners, all courses and a course's enrolments are held.
        if text.is_some_and(|text| text.eq_ignore_ascii_case("id")) {
            if order == Order::Other {
                things.sort_by_cached_key(|thing| data.id_of(*thing));
            }
            return Ok(());
        }
        for key in text.unwrap_or(schema.default_sort).split(',').rev() {
            let key = key.trim();
            let (name, is_descending) = key.strip_prefix('-').map_or((key, false), |name| (name, true));
            let known = filter::canonical(name, schema.fields).or_else(|| filter::canonical(name, schema.filterable));
            let field = known.ok_or_else(|| error(422, &format!("'{name}' cannot be sorted by.")))?;
            let mut keyed: Vec<(Cell, Thing)> =
                things.iter().map(|thing| (self.cell(data, *thing, field), *thing)).collect();
            // The sort is stable, so the last key goes first.
            keyed.sort_by(|left, right| {
                let order = left.0.order(&right.0);
                if is_descending { order.reverse() } else { order }
            });
            for (place, (_, thing)) in things.iter_mut().zip(keyed) {
                *place = thing;
            }
        }
        Ok(())
    }
}

/// One read less until these enrolments show that they are completed.
fn show_after_read(data: &mut Data, rows: &[u32]) {
    for at in rows {
        if let Some(row) = data.enrollments.get_mut(*at) {
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
