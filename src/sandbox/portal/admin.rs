//! What an administrator does in the fake portal: lets things happen, says where webhooks go, presses Test Webhook. By the buttons of its
//! page, or by posting the same forms (`learnsync sandbox complete`).

use std::sync::{Mutex, PoisonError};

use learnsync_sdk::nearest;
use uuid::Uuid;

use super::data::Data;
use super::deeds::DEEDS;
use super::{HookBody, Portal, PortalHandle};
use crate::sandbox::population::{Course, Learner};
use crate::sandbox::server::{Reply, Request, escape, page};

/// How many learners the page offers.
const OFFERED_LEARNERS_MAX: usize = 200;
/// How much of an answer to a webhook is shown, in characters.
const ANSWER_CHARACTERS_MAX: usize = 200;
/// The longest webhook URL, in characters.
const URL_CHARACTERS_MAX: usize = 2_000;

/// Where webhooks go.
pub(super) struct Webhook {
    http: reqwest::Client,
    url: Mutex<String>,
}

impl Webhook {
    pub(super) fn new(http: reqwest::Client, url: String) -> Self {
        Self { http, url: Mutex::new(url) }
    }

    pub(super) fn url(&self) -> String {
        self.url.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, url: String) {
        *self.url.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }

    /// Sends a webhook as Absorb does: once, whatever comes back. Says what came back.
    pub(super) async fn send(&self, hook: HookBody) -> Result<String, String> {
        let url = self.url();
        let mut request = self.http.post(&url).body(hook.body);
        if !hook.content_type.is_empty() {
            request = request.header("content-type", hook.content_type);
        }
        let Ok(response) = request.send().await else {
            return Err(format!("The webhook \"{}\" was lost: nobody answers at {url}.", hook.event));
        };
        let status = response.status();
        let words: String = response.text().await.unwrap_or_default().chars().take(ANSWER_CHARACTERS_MAX).collect();
        let said = format!("The webhook \"{}\" to {url} was answered with {}: {words}", hook.event, status.as_u16());
        if status.is_success() { Ok(said) } else { Err(said) }
    }
}

/// What came of a button.
enum Outcome {
    /// It was done, and its webhook acknowledged.
    Done(String),
    /// It was done, and its webhook was not acknowledged.
    Untold(String),
    /// It was not done.
    Refused(String),
}

impl Outcome {
    fn of(happened: &str, sent: Result<String, String>) -> Self {
        match sent {
            Ok(said) => Self::Done(format!("{happened} {said}")),
            Err(said) => Self::Untold(format!(
                "{happened} {said} It stands in the portal all the same: the next sweep finds it, or `learnsync reconcile` now."
            )),
        }
    }

    /// A page for browsers, a line for those who say that they take text.
    fn reply(self, request: &Request) -> Reply {
        let (status, words) = match self {
            Self::Done(words) => (200, words),
            Self::Untold(words) => (502, words),
            Self::Refused(words) => (422, words),
        };
        if request.header("accept").is_some_and(|accepted| accepted.starts_with("text/plain")) {
            return Reply::text(status, "text/plain; charset=utf-8", words);
        }
        page("Sandbox portal", &words, "<p><a href=/>Back</a>", &[], &[], &[])
    }
}

impl Portal {
    /// One button of the page.
    pub(super) async fn press(&self, handle: &PortalHandle, button: &str, request: &Request) -> Reply {
        let Some(webhook) = self.webhook.get() else {
            let words = "This portal has no buttons: it is not told where webhooks go.".to_owned();
            return Outcome::Refused(words).reply(request);
        };
        let outcome = match button {
            "complete" | "certify" => match self.find(&request.form("learner"), &request.form("course")) {
                Err(words) => Outcome::Refused(words),
                Ok(found) => {
                    let (hook, verb) = match button {
                        "complete" => (handle.complete_course(&found.learner, &found.course), "completed"),
                        _ => (handle.award_certificate(&found.learner, &found.course), "earned the certificate of"),
                    };
                    let happened = format!("{} {verb} {}.", found.learner_name, found.course_name);
                    Outcome::of(&happened, tell(webhook, handle.post(vec![hook])).await)
                }
            },
            "happen" => {
                let (deed, learner, what) = (request.form("event"), request.form("learner"), request.form("what"));
                match handle.happen(&deed, &learner, &what) {
                    Err(words) => Outcome::Refused(words),
                    Ok(happened) if happened.hooks.is_empty() => {
                        Outcome::Done(format!("{} No webhook tells of it.", happened.words))
                    }
                    Ok(happened) => Outcome::of(&happened.words, tell(webhook, handle.post(happened.hooks)).await),
                }
            }
            "test" => match webhook.send(handle.test_hook()).await {
                Ok(said) => Outcome::Done(said),
                Err(said) => Outcome::Untold(said),
            },
            "webhook" => save(webhook, request.form("url")),
            _ => Outcome::Refused(format!("The portal has no button \"{button}\".")),
        };
        outcome.reply(request)
    }

    fn find(&self, learner: &str, course: &str) -> Result<Found, String> {
        let data = self.data();
        let (learner, course) = (find_learner(&data, learner)?, find_course(&data, course)?);
        let (learner, course) = (data.learner(learner), data.course(course));
        Ok(Found {
            learner: learner.id.to_string(),
            learner_name: name_of(learner),
            course: course.id.to_string(),
            course_name: course.name.clone(),
        })
    }
}

/// Sends what goes out now, and says what came back.
async fn tell(webhook: &Webhook, hooks: Vec<HookBody>) -> Result<String, String> {
    let (mut said, mut is_lost) = (Vec::new(), false);
    for hook in hooks {
        let sent = webhook.send(hook).await;
        is_lost |= sent.is_err();
        said.push(sent.unwrap_or_else(|words| words));
    }
    if said.is_empty() {
        said.push("Its webhook did not go out now: a quirk holds or drops it.".to_owned());
    }
    if is_lost { Err(said.join(" ")) } else { Ok(said.join(" ")) }
}

fn save(webhook: &Webhook, url: String) -> Outcome {
    let is_url = url.starts_with("http://") || url.starts_with("https://");
    if !is_url || url.chars().count() > URL_CHARACTERS_MAX {
        let words = "A webhook URL begins with http:// or https:// and has at most 2000 characters.";
        return Outcome::Refused(words.to_owned());
    }
    let words = format!("Webhooks go to {url} from now on.");
    webhook.change(url);
    Outcome::Done(words)
}

struct Found {
    learner: String,
    learner_name: String,
    course: String,
    course_name: String,
}

pub(super) fn name_of(learner: &Learner) -> String {
    format!("{} {}", learner.first_name, learner.last_name)
}

/// The position of a learner, by e-mail, external id, employee number, id or full name; letters of any case.
///
/// # Errors
/// In words, when there is none or more than one.
pub(super) fn find_learner(data: &Data, word: &str) -> Result<u32, String> {
    if let Ok(id) = Uuid::parse_str(word) {
        return data.find_learner(id).ok_or_else(|| format!("The portal knows no learner \"{word}\""));
    }
    let is = |text: &str| text.eq_ignore_ascii_case(word);
    let name = word.to_lowercase();
    let is_meant = |learner: &Learner| {
        is(&learner.email)
            || learner.external_id.as_deref().is_some_and(is)
            || learner.employee_number.as_deref().is_some_and(is)
            || name_of(learner).to_lowercase() == name
    };
    let there = || (0..).zip(&data.learners).filter(|(_, learner)| !learner.is_deleted);
    let found: Vec<(u32, &Learner)> = there().filter(|(_, learner)| is_meant(learner)).collect();
    match found.as_slice() {
        [(at, _)] => Ok(*at),
        [] => {
            let emails = there().map(|(_, learner): (u32, _)| (learner.email.as_str(), learner.email.as_str()));
            let hint = nearest(word, emails)
                .map_or_else(|| "the portal's page lists all".to_owned(), |near| format!("did you mean \"{near}\"?"));
            Err(format!("The portal knows no learner \"{word}\", {hint}"))
        }
        several => {
            let emails: Vec<&str> = several.iter().map(|(_, learner)| learner.email.as_str()).collect();
            Err(format!("{} learners are called \"{word}\", say which: {}", several.len(), emails.join(", ")))
        }
    }
}

/// The position of a course, by name, external id or id.
///
/// # Errors
/// In words, when there is none.
pub(super) fn find_course(data: &Data, word: &str) -> Result<u32, String> {
    let is = |text: &str| text.eq_ignore_ascii_case(word);
    let there = || (0..).zip(&data.courses).filter(|(_, course)| !course.is_deleted);
    let is_meant = |course: &Course| is(&course.name) || is(&course.external_id) || is(&course.id.to_string());
    let found = there().find(|(_, course)| is_meant(course)).map(|(at, _)| at);
    found.ok_or_else(|| {
        let names: Vec<&str> = there().map(|(_, course): (u32, _)| course.name.as_str()).collect();
        let hint = nearest(word, names.iter().map(|name| (*name, *name)))
            .map_or_else(|| format!("there are {}", names.join(", ")), |near| format!("did you mean \"{near}\"?"));
        format!("The portal has no course \"{word}\", {hint}")
    })
}

/// The forms of the page; none when nobody said where webhooks go.
pub(super) fn forms(data: &Data, webhook: Option<&Webhook>) -> String {
    let Some(webhook) = webhook else { return String::new() };
    let option = |value: &str, shown: &str| format!("<option value=\"{}\">{}", escape(value), escape(shown));
    let there = data.learners.iter().filter(|learner| !learner.is_deleted).take(OFFERED_LEARNERS_MAX);
    let learners: String = there.map(|learner| option(&learner.email, &name_of(learner))).collect();
    let courses = data.courses.iter().filter(|course| !course.is_deleted);
    let courses: String = courses.map(|course| option(&course.name, &course.name)).collect();
    let deeds: String = DEEDS.iter().map(|row| option(row.word, row.event.unwrap_or(row.word))).collect();
    format!(
        "<form method=post action=/sandbox/complete><p><select name=learner>{learners}</select> \
         <select name=course>{courses}</select> <button>Complete the course</button> \
         <button formaction=/sandbox/certify>Award the certificate</button></form>\
         <form method=post action=/sandbox/happen><p><select name=event>{deeds}</select> \
         <input name=learner size=30 placeholder=\"learner: any\"> <input name=what size=30 placeholder=\"what: any\"> \
         <button>Let it happen</button></form>\
         <form method=post action=/sandbox/webhook><p>Webhook URL <input name=url size=70 value=\"{}\"> \
         <button>Save</button> <button formaction=/sandbox/test>Test Webhook</button></form>",
        escape(&webhook.url())
    )
}
