//! The page that shows what the fake portal holds.

use super::admin::{self, Webhook};
use super::data::{Data, Fact};
use crate::domain::time::Timestamp;
use crate::sandbox::server::{Reply, page};

/// Counts, and the last 200 facts.
pub(super) fn show(data: &Data, webhook: Option<&Webhook>, logins: u64, calls: u64) -> Reply {
    let counts = [
        ("Learners", data.learners.len().to_string()),
        ("Courses", data.courses.len().to_string()),
        ("Enrolments", data.enrollments.len().to_string()),
        ("Completed", data.completions.to_string()),
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
        Fact::Completion(at) => {
            let (id, enrollment) = (data.enrollments.id(at), data.enrollments.get(at)?);
            let course = data.course(enrollment.course);
            Some(line("completion", id, enrollment.learner, &course.name, enrollment.completed?))
        }
        Fact::Certificate(at) => {
            let (id, certificate) = (data.certificates.id(at), data.certificates.get(at)?);
            let course = data.course(certificate.course);
            Some(line("certificate", id, certificate.learner, &course.name, certificate.acquired))
        }
        Fact::Competency(at) => {
            let (id, competency) = (data.competencies.id(at), data.competencies.get(at)?);
            Some(line("competency", id, competency.learner, &competency.name, competency.acquired))
        }
    }
}
