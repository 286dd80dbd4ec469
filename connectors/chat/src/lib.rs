//! The connector for chat spaces: tells Google Chat, Slack or Microsoft Teams when somebody earns something.
//!
//! It posts to an incoming webhook. A webhook is a one-way street: no key makes a second post harmless, nothing can be read back, and
//! nothing can be taken away. So it claims nothing, and all its routes append: what was told once is settled for good.
//!
//! **One batch is one request is one message.** A space of Google Chat takes one message a second, from all apps together
//! (<https://developers.google.com/workspace/chat/limits>), and so does a Slack webhook
//! (<https://docs.slack.dev/apis/web-api/rate-limits>). The daemon keeps the pace (`batch_interval_ms`); what gathers meanwhile becomes
//! the next message, and from `digest_from` changes on that message is a list. So all changes of a batch share one outcome.
#![warn(missing_docs)]

mod dialect;
mod google_chat;
mod hook;
mod message;
mod settings;
mod slack;
mod teams;
#[cfg(test)]
mod tests;
mod text;

use learnsync_sdk::{
    Account, Action, BlindRepeat, Change, Connector, ConnectorType, DefaultField, DefaultRoute, DeliveryError,
    Description, ErrorKind, FieldType, Learner, MatchRule, Observation, PersonMatch, Place, Receipt, RecordKind,
    Reference, RouteMode, SettingsError, SlotRule, TargetField, TargetObject, Toolbox, async_trait,
};

use crate::dialect::Told;
use crate::hook::Hook;
use crate::message::{FIELDS, MESSAGE, Message};
use crate::settings::Settings;

/// The connector type `chat`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chat;

impl ConnectorType for Chat {
    fn describe(&self) -> Description {
        Description {
            name: "chat",
            summary: "Tells a space of Google Chat, Slack or Microsoft Teams what people earned.",
            documentation: "https://developers.google.com/workspace/chat/quickstart/webhooks",
            claims: &[],
            // Everybody in the space sees a message that comes twice, and a lost answer to a digest would repeat all of its lines. A
            // message that is lost costs a congratulation: the fact itself stands in the LMS and in the destinations that keep records.
            blind_repeat: BlindRepeat::MayLose,
            reference_kinds: &[],
            settle_seconds: 0,
            // So that a burst becomes a few digests: a course that five hundred people complete in one import is ten messages.
            persons_per_batch_max: 50,
            concurrency_max: 1,
            batch_interval_ms: 1_000,
            settings: settings::SETTINGS,
            default_routes: default_routes(),
        }
    }

    fn build(&self, settings: &serde_json::Value, toolbox: Toolbox) -> Result<Box<dyn Connector>, SettingsError> {
        let settings = Settings::read(settings)?;
        let hook = Hook::new(toolbox.http, settings.url.clone());
        Ok(Box::new(Space { hook, settings }))
    }
}

/// The learner's name as far as the LMS tells it; templates are strict, so what may be missing has a default.
macro_rules! title {
    ($sign:literal, $earned:literal) => {
        concat!(
            $sign,
            " {{ [learner.first_name|default(''), learner.last_name|default('')]|select|join(' ') or 'Somebody' }} ",
            $earned,
            " {{ title }}"
        )
    };
}

/// Scores, notes and numbers of persons are not for a whole space to read: whoever wants them there maps them.
fn default_routes() -> Vec<DefaultRoute> {
    vec![
        route(
            "certificates",
            RecordKind::Certificate,
            &[
                ("title", title!("🎓", "earned")),
                ("text", "{% if valid_until is defined %}Valid until {{ valid_until }}{% endif %}"),
            ],
        ),
        route("completions", RecordKind::Completion, &[("title", title!("✅", "completed"))]),
        route("competencies", RecordKind::Competency, &[("title", title!("⭐", "achieved"))]),
    ]
}

fn route(name: &'static str, record: RecordKind, fields: &[(&'static str, &'static str)]) -> DefaultRoute {
    let fields =
        fields.iter().map(|&(field, template)| DefaultField { field, source: ("template", template) }).collect();
    DefaultRoute { name, record, object: MESSAGE, mode: RouteMode::Append, slot: SlotRule::Record, fields }
}

/// One configured chat space.
struct Space {
    hook: Hook,
    settings: Settings,
}

#[async_trait]
impl Connector for Space {
    /// No field has a longest text: a message that is too long is cut, since nobody would thank us for parking it.
    fn object(&self, name: &str) -> Result<TargetObject, String> {
        if name != MESSAGE {
            return Err(format!("chat has no object \"{name}\": write \"{MESSAGE}\""));
        }
        let field = |&(name, required): &(&str, bool)| TargetField {
            name: name.to_owned(),
            kind: FieldType::Text,
            required,
            length_max: None,
        };
        Ok(TargetObject { name: MESSAGE.to_owned(), fields: FIELDS.iter().map(field).collect(), open: false })
    }

    /// Asks nobody: a webhook answers nothing but a post, and a post would be seen. So a probe always succeeds, and only the next message
    /// shows whether the webhook still works. The identity is what the URL tells without its secret: Google's space, Slack's
    /// workspace, or a digest of the flow's address.
    async fn probe(&self) -> Result<Account, DeliveryError> {
        Ok(Account { identity: self.settings.service.dialect().identity(&self.settings.url) })
    }

    async fn references(&self, kind: &str) -> Result<Vec<Reference>, DeliveryError> {
        Err(rejected(format!("chat has no reference data \"{kind}\"")))
    }

    /// A webhook knows nobody; without the claim `People` the daemon does not ask.
    async fn find_person(&self, _learner: &Learner, _rules: &[MatchRule]) -> Result<PersonMatch, DeliveryError> {
        Ok(PersonMatch::NotFound)
    }

    async fn deliver(&self, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>> {
        // What cannot be told is refused by itself, before its neighbours are told.
        let read: Vec<Result<(Message, String), DeliveryError>> = batch.iter().map(read).collect();
        let messages: Vec<&Message> = read.iter().flatten().map(|(message, _)| message).collect();
        let told = if messages.is_empty() { None } else { Some(self.tell(&messages).await) };
        let outcome = |item: Result<(Message, String), DeliveryError>| {
            let (_, key) = item?;
            told.clone().expect("there is a message, so it was told").map(|told| receipt(told, key))
        };
        read.into_iter().map(outcome).collect()
    }

    async fn observe(&self, batch: &[Place]) -> Vec<Result<Observation, DeliveryError>> {
        batch.iter().map(|_| Err(rejected("a chat message cannot be read back through a webhook"))).collect()
    }
}

impl Space {
    /// One request, whatever the number of messages.
    async fn tell(&self, messages: &[&Message]) -> Result<Told, DeliveryError> {
        let dialect = self.settings.service.dialect();
        let payload = dialect::compose(dialect, messages, self.settings.digest_from, &self.settings.digest_title);
        let answer = self.hook.post(&payload).await?;
        dialect.taken(&answer).map_err(|kind| self.hook.refused(dialect, &answer, kind))
    }
}

/// What a change says, and the key by which it is known.
fn read(change: &Change) -> Result<(Message, String), DeliveryError> {
    if change.object != MESSAGE {
        return Err(rejected(format!("chat has no object \"{}\": write \"{MESSAGE}\"", change.object)));
    }
    match &change.action {
        Action::Put { fields, idempotency_key, .. } => {
            Ok((Message::read(fields, &change.mark)?, idempotency_key.clone()))
        }
        Action::Withdraw { .. } => Err(rejected("a chat message cannot be withdrawn through a webhook")),
    }
}

/// Slack and Teams do not say which message it became; then the key stands for it, which is the same for every try of this change.
fn receipt(told: Told, key: String) -> Receipt {
    Receipt { row: told.name.unwrap_or(key), status: told.status, words: told.words, wrote: true }
}

fn rejected(message: impl Into<String>) -> DeliveryError {
    DeliveryError::new(ErrorKind::Rejected, message)
}
