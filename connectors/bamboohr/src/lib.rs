//! The connector for BambooHR: training records, and rows of any employee table.
//!
//! The vendor's facts are those of its OpenAPI description (<https://github.com/BambooHR/bhr-api-python>) and of
//! <https://documentation.bamboohr.com/reference>. BambooHR has no external key and no upsert, so every row that we write carries our
//! mark: on a line of its own in a training record's notes, or in a column of a table (`mark_column`). One list of a person's rows
//! precedes every write; it is what makes a repeated delivery safe.
#![warn(missing_docs)]

mod client;
mod deliver;
mod listing;
mod objects;
mod observe;
mod people;
mod settings;
mod tables;
#[cfg(test)]
mod tests;
mod training;
mod values;

use learnsync_sdk::{
    Account, BlindRepeat, Change, Claim, Connector, ConnectorType, DefaultField, DefaultRoute, DeliveryError,
    Description, ErrorKind, Learner, ListedPage, MatchRule, Observation, PersonMatch, Place, Receipt, RecordKind,
    Reference, RouteMode, SettingsError, SlotRule, TargetObject, Toolbox, async_trait,
};

use crate::client::Client;
use crate::settings::Settings;

/// The reference data that a course needs: the type of a training record.
const TRAINING_TYPE: &str = "training_type";

/// The connector type `bamboohr`.
#[derive(Clone, Copy, Debug, Default)]
pub struct BambooHr;

impl ConnectorType for BambooHr {
    fn describe(&self) -> Description {
        Description {
            name: "bamboohr",
            summary: "Writes completions as training records, certificates and competencies as rows of employee tables.",
            documentation: "https://documentation.bamboohr.com/reference",
            claims: &[Claim::People, Claim::ReadBack, Claim::Withdraw, Claim::List],
            blind_repeat: BlindRepeat::MayLose,
            reference_kinds: &[TRAINING_TYPE],
            settle_seconds: 60,
            persons_per_batch_max: 1,
            concurrency_max: 4,
            batch_interval_ms: 0,
            settings: settings::SETTINGS,
            default_routes: default_routes(),
        }
    }

    fn build(&self, settings: &serde_json::Value, toolbox: Toolbox) -> Result<Box<dyn Connector>, SettingsError> {
        let settings = Settings::read(settings)?;
        let client = Client::new(toolbox.http, settings.url.clone(), settings.api_key.clone());
        let Toolbox { installation, test_skip_lookup: skips_lookup, .. } = toolbox;
        Ok(Box::new(Destination { client, settings, installation, skips_lookup }))
    }
}

fn default_routes() -> Vec<DefaultRoute> {
    vec![
        route(
            "completions",
            RecordKind::Completion,
            "training",
            &[
                ("completed", ("path", "achieved")),
                ("type", ("reference", TRAINING_TYPE)),
                ("hours", ("path", "hours")),
                ("credits", ("path", "credits")),
            ],
        ),
        route(
            "certificates",
            RecordKind::Certificate,
            "table:customCertifications",
            &[
                ("certification", ("path", "title")),
                ("issued", ("path", "achieved")),
                ("expires", ("path", "valid_until")),
                ("course", ("path", "course.name")),
            ],
        ),
        route(
            "competencies",
            RecordKind::Competency,
            "table:customCompetencies",
            &[("competency", ("path", "title")), ("awarded", ("path", "achieved"))],
        ),
    ]
}

fn route(
    name: &'static str,
    record: RecordKind,
    object: &'static str,
    fields: &[(&'static str, (&'static str, &'static str))],
) -> DefaultRoute {
    let fields = fields.iter().map(|&(field, source)| DefaultField { field, source }).collect();
    DefaultRoute { name, record, object, mode: RouteMode::State, slot: SlotRule::Record, fields }
}

/// One configured BambooHR company.
struct Destination {
    client: Client,
    settings: Settings,
    installation: String,
    skips_lookup: bool,
}

#[async_trait]
impl Connector for Destination {
    fn object(&self, name: &str) -> Result<TargetObject, String> {
        Ok(objects::parse(name, &self.settings)?.describe())
    }

    /// The identity is the answer's `id`; a company that does not show one is known by the host of its URL.
    async fn probe(&self) -> Result<Account, DeliveryError> {
        let company = self.client.company().await?;
        let id = company.get("id").and_then(values::text_of).filter(|id| !id.is_empty());
        let host = || self.settings.url.host_str().unwrap_or_default().to_owned();
        Ok(Account { identity: id.map_or_else(host, |id| format!("company {id}")) })
    }

    async fn references(&self, kind: &str) -> Result<Vec<Reference>, DeliveryError> {
        if kind != TRAINING_TYPE {
            let message = format!("bamboohr has no reference data \"{kind}\", only \"{TRAINING_TYPE}\"");
            return Err(DeliveryError::new(ErrorKind::Rejected, message));
        }
        training::types(&self.client).await
    }

    async fn find_person(&self, learner: &Learner, rules: &[MatchRule]) -> Result<PersonMatch, DeliveryError> {
        people::find(&self.client, &self.settings, learner, rules).await
    }

    async fn deliver(&self, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>> {
        deliver::deliver(self, batch).await
    }

    async fn observe(&self, batch: &[Place]) -> Vec<Result<Observation, DeliveryError>> {
        observe::observe(self, batch).await
    }

    async fn list(&self, object: &str, page: Option<&str>) -> Result<ListedPage, DeliveryError> {
        listing::list(self, object, page).await
    }
}
