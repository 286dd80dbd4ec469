//! The page that shows what the fake portal holds.

use super::admin::{self, Webhook};
use super::data::{Data, Fact};
use crate::domain::time::Timestamp;
use crate::sandbox::server::{Reply, page};

/// Counts, and the last 200 facts.
pub(super) fn show(data: &Data, webhook: Option<&Webhook>, logins: u64, calls: u64) -> Reply {
    let completions = data.enrollments.values().filter(|enrollment| enrollment.completed.is_some()).count();
    let counts = [
        ("Learners", data.learners.len().to_string()),
        ("Courses", data.courses.len().to_string()),
        ("Enrolments", data.enrollments.len().to_string()),
        ("Completed", completions.to_string()),
        ("Certificates", data.certificates.len().to_string()),
        ("Competencies", data.competencies.len().to_string()),
        ("Logins", logins.to_string()),
        ("API calls", calls.to_string()),
    ];
    let rows: Vec<Vec<String>> = data.recent.iter().rev().filter_map(|fact| row(data, *fact)).collect();
    page(
        "Sandbox portal",
        "A fake Absorb LMS. It holds made-up people; the last 200 things that happened are below.",
        &admin::forms(data, webhook),
        &counts,
        &["Fact", "Id", "Learner", "What", "When"],
        &rows,
    )
}

fn row(data: &Data, fact: Fact) -> Option<Vec<String>> {
    let line = |kind: &str, id: uuid::Uuid, learner: u32, what: &str, when: Timestamp| {
        let name = admin::name_of(data.learner(learner));
        vec![kind.to_owned(), id.to_string(), name, what.to_owned(), when.to_string()]
    };
    match fact {
        Fact::Completion(id) => {
            let enrollment = data.enrollments.get(&id)?;
            let course = data.course(enrollment.course);
            Some(line("completion", id, enrollment.learner, &course.name, enrollment.completed?))
        }
        Fact::Certificate(id) => {
            let certificate = data.certificates.get(&id)?;
            let course = data.course(certificate.course);
            Some(line("certificate", id, certificate.learner, &course.name, certificate.acquired))
        }
        Fact::Competency(id) => {
            let competency = data.competencies.get(&id)?;
            Some(line("competency", id, competency.learner, &competency.name, competency.acquired))
        }
    }
}
