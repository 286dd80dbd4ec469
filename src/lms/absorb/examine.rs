//! What our role sees of a portal, and what it does not: for `check --online`.
//!
//! "Available to the current, authenticated administrator" (<https://docs.myabsorb.com/integration-api/v2/docs>): a role that is too narrow
//! gives fewer rows and no error. So what is seen is compared with what the rows themselves name.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::list::{Page, ROWS_PER_PAGE};
use super::row::Row;
use super::{Absorb, Answer, misunderstood, segment};
use crate::domain::time::{Clock, Timestamp};
use crate::lms::LmsError;

/// Learners whose enrolments are looked at.
const LEARNERS_ENROLLED_MAX: usize = 20;
/// Courses that are asked for one by one.
const COURSES_ASKED_MAX: usize = 50;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examination {
    /// Learners that our role sees.
    pub learners: u64,
    /// Learners who were looked at: one page.
    pub looked_at: usize,
    /// Departments that our role sees; none when it may not see them at all.
    pub departments: Option<usize>,
    /// Departments that those learners are in and our role does not see.
    pub hidden_departments: BTreeSet<String>,
    /// Courses that the first of them are enrolled in, and how many of those were asked for.
    pub courses: usize,
    /// Those of them that are answered 403 or 404.
    pub hidden_courses: BTreeSet<String>,
    /// End points with the status of their answer: 200 is there, 403 and 404 are not, for this role.
    pub end_points: Vec<(String, u16)>,
    /// How far the portal's clock is ahead of ours, in seconds; it tells no parts of a second.
    pub clock_ahead_seconds: Option<i64>,
    /// When the token ends, if it says so itself.
    pub token_ends_at: Option<Timestamp>,
}

impl Absorb {
    /// Looks at what our role sees: at most about a hundred calls.
    ///
    /// # Errors
    /// The portal does not answer, refuses our login, or answers what we do not understand.
    pub async fn examine(&self, clock: &dyn Clock) -> Result<Examination, LmsError> {
        let query = [("_limit", ROWS_PER_PAGE.to_string()), ("_offset", "0".to_owned())];
        let reply = self.client.reply("/users", &query).await?;
        let date = reply.date.as_deref().and_then(|text| chrono::DateTime::parse_from_rfc2822(text).ok());
        let ahead = date.map(|date| (date.timestamp_millis() - clock.now().0).div_euclid(1_000));
        if !(200..300).contains(&reply.status) {
            return Err(misunderstood("/users")(reply.words()));
        }
        let rows = serde_json::from_slice::<Value>(&reply.body).map_err(|error| error.to_string());
        let page = rows.and_then(|value| Page::read(value, ROWS_PER_PAGE)).map_err(misunderstood("/users"))?;
        let mut found = Examination {
            learners: page.total.unwrap_or(page.rows.len() as u64),
            looked_at: page.rows.len(),
            clock_ahead_seconds: ahead,
            token_ends_at: token_end(&self.client.token().await?),
            ..Examination::default()
        };
        self.compare_departments(&page.rows, &mut found).await?;
        self.compare_courses(&page.rows, &mut found).await?;
        let first = page.rows.first().and_then(|row| id_of(row, "id"));
        self.knock(first.as_deref(), &mut found).await?;
        Ok(found)
    }

    async fn compare_departments(&self, learners: &[Value], found: &mut Examination) -> Result<(), LmsError> {
        let seen = match self.client.list("departments", "/departments").await {
            Ok(Some(rows)) => rows,
            Ok(None) | Err(LmsError::Forbidden(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let seen: BTreeSet<String> = seen.iter().filter_map(|row| id_of(row, "id")).collect();
        found.departments = Some(seen.len());
        let named = learners.iter().filter_map(|row| id_of(row, "departmentid"));
        found.hidden_departments = named.filter(|id| !seen.contains(id)).collect();
        Ok(())
    }

    async fn compare_courses(&self, learners: &[Value], found: &mut Examination) -> Result<(), LmsError> {
        let mut courses = BTreeSet::new();
        for learner in learners.iter().take(LEARNERS_ENROLLED_MAX).filter_map(|row| id_of(row, "id")) {
            let path = format!("/users/{}/enrollments", segment(&learner)?);
            let rows = match self.client.list("enrollments", &path).await {
                Ok(rows) => rows.unwrap_or_default(),
                Err(LmsError::Forbidden(_)) => Vec::new(),
                Err(error) => return Err(error),
            };
            courses.extend(rows.iter().filter_map(|row| id_of(row, "courseid")));
        }
        for course in courses.into_iter().take(COURSES_ASKED_MAX) {
            found.courses += 1;
            match self.client.get(&format!("/courses/{}", segment(&course)?), &[]).await {
                Ok(Answer::Found(_)) => {}
                Ok(Answer::Missing) | Err(LmsError::Forbidden(_)) => {
                    found.hidden_courses.insert(course);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Asks each end point for one row.
    async fn knock(&self, learner: Option<&str>, found: &mut Examination) -> Result<(), LmsError> {
        let mut paths: Vec<String> =
            ["users", "departments", "groups", "courses"].map(|name| format!("/{name}")).into();
        if let Some(learner) = learner {
            let user = segment(learner)?;
            paths.push(format!("/users/{user}/enrollments"));
            paths.push(self.certificates_path.replace("{user}", &user));
            paths.push(self.competencies_path.replace("{user}", &user));
        }
        for path in paths {
            let status = self.client.reply(&path, &[("_limit", "1".to_owned())]).await?.status;
            let shown = learner.map_or_else(|| path.clone(), |learner| path.replace(learner, "{user}"));
            found.end_points.push((shown, status));
        }
        Ok(())
    }
}

fn id_of(row: &Value, name: &str) -> Option<String> {
    Row::of(row).ok()?.id(&[name])
}

/// The end of a token that is a JSON Web Token (RFC 7519, `exp`); nothing is concluded from it but this.
fn token_end(token: &str) -> Option<Timestamp> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let seconds = claims.get("exp")?.as_f64().filter(|seconds| (0.0..1e11).contains(seconds))?;
    Some(Timestamp(seconds as i64 * 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token_is_read_only_from_one_that_says_it() {
        let jwt = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(r#"{"sub":"a","exp":1800000000}"#));
        let table = [
            (jwt.as_str(), Some(Timestamp(1_800_000_000_000))),
            ("e30.e30.x", None),
            ("opaque", None),
            ("a.b.c", None),
            ("", None),
        ];
        for (token, expected) in table {
            assert_eq!(token_end(token), expected, "{token}");
        }
    }
}
