//! The connector for BambooHR: completions become training records, certificates and competencies become rows of custom tables.
//!
//! BambooHR has no external key, no upsert, no batch and no uniqueness of any kind, so a person's rows are listed before anything is
//! written, and each row of ours carries our mark: a line of a training record's notes, or a column of a table.
//! The vendor's API: <https://documentation.bamboohr.com/reference>.
#![warn(missing_docs)]

mod client;
mod people;
mod rows;
mod settings;
mod write;

use learnsync_sdk::{
    Account, Change, Connector, ConnectorType, DefaultField, DefaultRoute, DeliveryError, Description, FieldType,
    Learner, MatchRule, Observation, PersonMatch, Place, Receipt, RecordKind, Reference, RouteMode, SettingsError,
    TargetField, TargetObject, Toolbox, async_trait,
};

use client::Client;
use rows::Object;
use settings::Settings;

/// The only kind of reference data: what was trained, <https://documentation.bamboohr.com/reference/list-training-types>.
const TRAINING_TYPE: &str = "training_type";

/// BambooHR as a kind of target.
pub struct BambooHr;

/// One BambooHR company.
struct Company {
    settings: Settings,
    client: Client,
    skips_lookup: bool,
}

impl ConnectorType for BambooHr {
    fn describe(&self) -> Description {
        Description {
            name: "bamboohr",
            summary: "BambooHR: training records and rows of custom tables",
            documentation: "https://documentation.bamboohr.com/reference",
            reference_kinds: &[TRAINING_TYPE],
            settle_seconds: 60,
            persons_per_batch_max: 1,
            concurrency_max: 4,
            settings: settings::KNOWN,
            default_routes: default_routes(),
        }
    }

    fn build(&self, settings: &serde_json::Value, toolbox: Toolbox) -> Result<Box<dyn Connector>, SettingsError> {
        let settings = Settings::read(settings)?;
        let client = Client::new(toolbox.http, settings.url.clone(), settings.api_key.clone());
        Ok(Box::new(Company { settings, client, skips_lookup: toolbox.test_skip_lookup }))
    }
}

fn default_routes() -> Vec<DefaultRoute> {
    let fields = |lines: &[(&'static str, (&'static str, &'static str))]| {
        lines.iter().map(|(field, source)| DefaultField { field, source: *source }).collect()
    };
    vec![
        DefaultRoute {
            name: "completions",
            record: RecordKind::Completion,
            object: "training",
            mode: RouteMode::State,
            fields: fields(&[
                ("completed", ("path", "achieved")),
                ("type", ("reference", TRAINING_TYPE)),
                ("hours", ("path", "hours")),
                ("credits", ("path", "credits")),
            ]),
        },
        DefaultRoute {
            name: "certificates",
            record: RecordKind::Certificate,
            object: "table:customCertifications",
            mode: RouteMode::State,
            fields: fields(&[
                ("certification", ("path", "title")),
                ("issued", ("path", "achieved")),
                ("expires", ("path", "valid_until")),
                ("course", ("path", "course.name")),
            ]),
        },
        DefaultRoute {
            name: "competencies",
            record: RecordKind::Competency,
            object: "table:customCompetencies",
            mode: RouteMode::State,
            fields: fields(&[("competency", ("path", "title")), ("awarded", ("path", "achieved"))]),
        },
    ]
}

#[async_trait]
impl Connector for Company {
    fn object(&self, name: &str) -> Result<TargetObject, String> {
        let field =
            |name: &str, kind, required| TargetField { name: name.to_owned(), kind, required, length_max: None };
        match Object::parse(name)? {
            // There is no expiry on a training record: when it is due again follows from its type's frequency.
            Object::Training => Ok(TargetObject {
                name: name.to_owned(),
                fields: vec![
                    field("completed", FieldType::Date, true),
                    field("type", FieldType::Reference, true),
                    field("hours", FieldType::Number, false),
                    field("credits", FieldType::Number, false),
                    field("instructor", FieldType::Text, false),
                    field("notes", FieldType::Text, false),
                ],
                open: false,
            }),
            Object::Table(_) => Ok(TargetObject { name: name.to_owned(), fields: Vec::new(), open: true }),
        }
    }

    async fn probe(&self) -> Result<Account, DeliveryError> {
        self.client.company_information().await?;
        // The company's domain is its identity: its displayed name may change any day.
        Ok(Account { identity: self.client.host() })
    }

    async fn references(&self, kind: &str) -> Result<Vec<Reference>, DeliveryError> {
        match kind {
            TRAINING_TYPE => self.client.training_types().await,
            _ => Ok(Vec::new()),
        }
    }

    async fn find_person(&self, learner: &Learner, rules: &[MatchRule]) -> Result<PersonMatch, DeliveryError> {
        people::find(&self.client, &self.settings, learner, rules).await
    }

    async fn deliver(&self, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>> {
        write::deliver(&self.client, &self.settings, batch, self.skips_lookup).await
    }

    async fn observe(&self, batch: &[Place]) -> Vec<Result<Observation, DeliveryError>> {
        write::observe(&self.client, &self.settings, batch).await
    }
}

#[cfg(test)]
mod tests;
