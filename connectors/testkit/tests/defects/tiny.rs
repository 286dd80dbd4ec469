//! A tiny connector that keeps all promises, and can be told to break any one of them.

use std::sync::Mutex;

use learnsync_sdk::{
    Account, Action, BlindRepeat, Change, Claim, Connector, ConnectorType, DefaultField, DefaultRoute, DeliveryError,
    Description, ErrorKind, FieldType, Fields, Learner, ListedPage, ListedRow, MatchRule, Observation, PersonMatch,
    Place, Receipt, RecordKind, Reference, RetryAfter, RouteMode, Setting, SettingsError, SlotRule, TargetField,
    TargetObject, Toolbox, Value, async_trait, read_json, refusal,
};
use reqwest::{Method, Response};
use serde_json::{Map, Value as Json};

const SETTINGS: &[Setting] = &[
    Setting::required("url", "The base URL.", "https://tiny.example.com"),
    Setting::required("token", "The token.", "a-token").secret(),
];

/// What is longer is cut, in characters.
pub(crate) const TITLE_SHOWN_MAX: usize = 1_000;

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Defect {
    AcceptsUnknownSettings,
    AnswersOutOfOrder,
    AsksForEmptyBatches,
    AsksWhileBuilding,
    BelievesInKnownRows,
    BlanksAbsentFields,
    CallsErrorsAbsence,
    CallsErrorsNobody,
    CallsFailedListsTheirEnd,
    CallsGoneRowsRefused,
    CallsLostAnswersUnavailable,
    CallsServerErrorsUnavailable,
    CallsThrottlingUnavailable,
    CallsTransportErrorsRejected,
    CallsUnknownPeopleRejected,
    CapsTheWait,
    ChoosesAmongCopies,
    CountsRowsFromPageToPage,
    CutsNothing,
    CutsText,
    DropsOutcomes,
    EndsAfterTheFirstPage,
    FillsFieldsThatDoNotExist,
    FindsMarksByTheirBeginning,
    FoldsNoLetters,
    FollowsRedirects,
    ForgetsHowManyRules,
    ForgetsTheScore,
    ForgetsTheSecondPlace,
    GivesUpOnSlowTargets,
    GoesOnAfterARefusedKey,
    GoesOnAfterThrottling,
    GuessesPeople,
    IgnoresDatesToWaitFor,
    KnowsOnlyAscii,
    LeaksTheToken,
    LinksWithoutTls,
    ListsAllAsOnePerson,
    ListsAnyObject,
    ListsNothingOnError,
    ListsOnlyOurs,
    ListsWithTheMarkAmongTheFields,
    LooksForBlanks,
    MakesANewRowForEachChange,
    MatchesTheBeginning,
    NamesPeopleInErrors,
    NamesTheAccountByItsRows,
    NamesTheAccountOnError,
    NeverBlanks,
    NeverLooks,
    ObservesInItsOwnOrder,
    ObservesTheTitleOnly,
    OnlyUpdatesKnownRows,
    PassesWordsOnInFull,
    RemembersARefusedKey,
    RemovesRowsOfOthers,
    RepeatsTheLastRowOfAPage,
    RetriesByItself,
    SaysItNeedNotSettle,
    SearchesUnescaped,
    SpoilsTheNeighbours,
    SwallowsRefusals,
    TakesAnyBodyForAReceipt,
    TakesAnyObject,
    TrustsRowIds,
    WithdrawsAnyRow,
    WithdrawsNothing,
    WritesAfterAFailedLook,
}

/// The connector type; without a defect it is healthy.
pub(crate) struct Tiny {
    pub(crate) defect: Option<Defect>,
    pub(crate) claims: &'static [Claim],
}

struct Destination {
    http: reqwest::Client,
    url: String,
    token: String,
    defect: Option<Defect>,
    /// What no connector should have: a memory.
    refused: Mutex<Option<DeliveryError>>,
}

struct Row {
    id: String,
    fields: Map<String, Json>,
}

impl Tiny {
    fn is(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }
}

impl ConnectorType for Tiny {
    fn describe(&self) -> Description {
        let field = if self.is(Defect::FillsFieldsThatDoNotExist) { "titel" } else { "title" };
        let line = |field, path| DefaultField { field, source: ("path", path) };
        Description {
            name: "tiny",
            summary: "Writes completions as rows.",
            documentation: if self.is(Defect::LinksWithoutTls) {
                "http://tiny.example"
            } else {
                "https://tiny.example"
            },
            claims: self.claims,
            blind_repeat: BlindRepeat::MayLose,
            reference_kinds: &["colour"],
            settle_seconds: if self.is(Defect::SaysItNeedNotSettle) { 0 } else { 30 },
            persons_per_batch_max: 1,
            concurrency_max: 1,
            batch_interval_ms: 0,
            settings: SETTINGS,
            default_routes: vec![DefaultRoute {
                name: "completions",
                record: RecordKind::Completion,
                object: "rows",
                mode: RouteMode::State,
                slot: SlotRule::Record,
                fields: vec![line(field, "title"), line("day", "achieved")],
            }],
        }
    }

    fn build(&self, settings: &Json, toolbox: Toolbox) -> Result<Box<dyn Connector>, SettingsError> {
        if self.is(Defect::AsksWhileBuilding) {
            let url = settings["url"].as_str().unwrap_or_default().to_owned();
            tokio::runtime::Handle::current().spawn(toolbox.http.get(url).send());
        }
        let wrong = |name: &str, what: &str| SettingsError { path: vec![name.to_owned()], message: what.to_owned() };
        let text = |name: &str| {
            let text = settings.get(name).and_then(Json::as_str);
            text.map(str::to_owned).ok_or_else(|| match self.defect {
                Some(Defect::LeaksTheToken) => wrong(name, &format!("{:?} is no text", settings[name])),
                _ => wrong(name, "it must be a text"),
            })
        };
        for name in settings.as_object().into_iter().flat_map(Map::keys) {
            if !["url", "token"].contains(&name.as_str()) && !self.is(Defect::AcceptsUnknownSettings) {
                return Err(wrong(name, "there is no such setting, only url and token"));
            }
        }
        Ok(Box::new(Destination {
            http: toolbox.http,
            url: text("url")?,
            token: text("token")?,
            defect: self.defect,
            refused: Mutex::default(),
        }))
    }
}

#[async_trait]
impl Connector for Destination {
    fn object(&self, name: &str) -> Result<TargetObject, String> {
        if name != "rows" && !self.is(Defect::TakesAnyObject) {
            return Err(format!("tiny has no object \"{name}\", only \"rows\""));
        }
        let field =
            |name: &str, kind, required| TargetField { name: name.to_owned(), kind, required, length_max: None };
        let fields = vec![
            field("title", FieldType::Text, true),
            field("day", FieldType::Date, true),
            field("score", FieldType::Number, false),
            field("note", FieldType::Text, false),
        ];
        Ok(TargetObject { name: name.to_owned(), fields, open: false })
    }

    async fn probe(&self) -> Result<Account, DeliveryError> {
        let account = match self.get(&["account"], &[], "the account").await {
            Err(_) if self.is(Defect::NamesTheAccountOnError) => Json::Null,
            account => account?,
        };
        let identity = match self.defect {
            Some(Defect::NamesTheAccountByItsRows) => account.to_string(),
            _ => format!("account {}", account["name"]),
        };
        Ok(Account { identity })
    }

    async fn references(&self, kind: &str) -> Result<Vec<Reference>, DeliveryError> {
        if kind != "colour" {
            return Err(DeliveryError::new(ErrorKind::Rejected, "tiny lists colours only"));
        }
        let listed = match self.get(&["colours"], &[], "the colours").await {
            Err(_) if self.is(Defect::ListsNothingOnError) => Json::Null,
            listed => listed?,
        };
        let reference = |colour: &Json| Reference { id: word(&colour["id"]), name: word(&colour["name"]) };
        Ok(listed.as_array().into_iter().flatten().map(reference).collect())
    }

    async fn find_person(&self, learner: &Learner, rules: &[MatchRule]) -> Result<PersonMatch, DeliveryError> {
        let mut rules = rules.to_vec();
        if self.is(Defect::ForgetsHowManyRules) {
            rules.truncate(1);
        }
        for rule in rules {
            let value = match rule.value_of(learner) {
                Some(value) => value,
                None if self.is(Defect::LooksForBlanks) => String::new(),
                None => continue,
            };
            let value = match self.defect {
                Some(Defect::FoldsNoLetters) => learner.email.clone().unwrap_or_default(),
                Some(Defect::MatchesTheBeginning) => value.trim_end_matches(".org").trim_end_matches("11").to_owned(),
                _ => value,
            };
            let name = if rule == MatchRule::EMAIL { "email" } else { "number" };
            let found = match self.people(name, &value).await {
                Err(_) if self.is(Defect::CallsErrorsNobody) => Vec::new(),
                Err(error) if self.is(Defect::NamesPeopleInErrors) => {
                    let message = format!("{} ({:?})", error.message, learner);
                    return Err(DeliveryError { message, ..error });
                }
                found => found?,
            };
            match found.as_slice() {
                [] => {}
                [person] => return Ok(PersonMatch::Found { person: person.clone(), rule }),
                [person, ..] if self.is(Defect::GuessesPeople) => {
                    return Ok(PersonMatch::Found { person: person.clone(), rule });
                }
                _ => return Ok(PersonMatch::Ambiguous { rule, candidates: found }),
            }
        }
        Ok(PersonMatch::NotFound)
    }

    async fn deliver(&self, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>> {
        if batch.is_empty() && self.is(Defect::AsksForEmptyBatches) {
            let _unused = self.probe().await;
        }
        let mut ended: Option<DeliveryError> = None;
        let mut outcomes = Vec::new();
        for change in batch {
            let outcome = match &ended {
                Some(error) => Err(error.clone()),
                None => self.one(change).await,
            };
            let outcome = match outcome {
                Err(error) if error.kind == ErrorKind::Rejected && self.is(Defect::SwallowsRefusals) => {
                    Ok(receipt("0", 200, true))
                }
                outcome => outcome,
            };
            if let Err(error) = &outcome
                && self.ends(&error.kind)
            {
                ended = Some(error.clone());
            }
            outcomes.push(outcome);
        }
        match self.defect {
            Some(Defect::AnswersOutOfOrder) => outcomes.reverse(),
            Some(Defect::DropsOutcomes) => outcomes.truncate(2),
            _ => {}
        }
        outcomes
    }

    async fn observe(&self, batch: &[Place]) -> Vec<Result<Observation, DeliveryError>> {
        let mut observations = Vec::new();
        for place in batch {
            observations.push(match self.observation(place).await {
                Err(_) if self.is(Defect::CallsErrorsAbsence) => Ok(Observation::Absent),
                observation => observation,
            });
        }
        match self.defect {
            Some(Defect::ObservesInItsOwnOrder) => observations.reverse(),
            Some(Defect::ForgetsTheSecondPlace) => observations.truncate(1),
            _ => {}
        }
        observations
    }

    async fn list(&self, object: &str, page: Option<&str>) -> Result<ListedPage, DeliveryError> {
        if object != "rows" && !self.is(Defect::ListsAnyObject) {
            return Err(DeliveryError::new(ErrorKind::Rejected, "tiny lists rows only"));
        }
        match self.page(page).await {
            Err(_) if self.is(Defect::CallsFailedListsTheirEnd) => Ok(ListedPage::default()),
            listed => listed,
        }
    }
}

impl Destination {
    fn is(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn ends(&self, kind: &ErrorKind) -> bool {
        match kind {
            ErrorKind::Unauthorized => !self.is(Defect::GoesOnAfterARefusedKey),
            ErrorKind::Throttled(_) => !self.is(Defect::GoesOnAfterThrottling),
            ErrorKind::Rejected => self.is(Defect::SpoilsTheNeighbours),
            _ => false,
        }
    }

    async fn one(&self, change: &Change) -> Result<Receipt, DeliveryError> {
        let remembered = self.refused.lock().expect("nothing panics while it holds this").clone();
        if let Some(error) = remembered {
            return Err(error);
        }
        let outcome = match &change.action {
            Action::Put { fields, row, .. } => self.put(change, fields, row.as_deref()).await,
            Action::Withdraw { row } => self.withdraw(change, row).await,
        };
        outcome.map_err(|error| self.distort(error))
    }

    async fn put(&self, change: &Change, fields: &Fields, known: Option<&str>) -> Result<Receipt, DeliveryError> {
        if self.is(Defect::TrustsRowIds)
            && let Some(row) = known
        {
            return self.write(Method::PATCH, &["rows", row], &self.body(change, fields), &change.mark).await;
        }
        let rows = match self.rows(&change.person).await {
            Err(error) if self.is(Defect::WritesAfterAFailedLook) && error.kind != ErrorKind::Unmatched => Vec::new(),
            rows => rows?,
        };
        let mut ours = rows.iter().filter(|row| self.is_marked(row, &change.mark));
        let body = self.body(change, fields);
        let is_blind = self.is(Defect::NeverLooks)
            || (self.is(Defect::MakesANewRowForEachChange) && known.is_none())
            || (self.is(Defect::OnlyUpdatesKnownRows) && known.is_some());
        match (ours.next(), ours.next()) {
            (Some(row), None) if !is_blind => self.write(Method::PATCH, &["rows", &row.id], &body, &change.mark).await,
            (Some(_), Some(_)) if !self.is(Defect::ChoosesAmongCopies) => {
                Err(DeliveryError::new(ErrorKind::Rejected, "several rows carry our mark"))
            }
            _ if known.is_some() && self.is(Defect::OnlyUpdatesKnownRows) => {
                let row = known.unwrap_or_default();
                self.write(Method::PATCH, &["rows", row], &body, &change.mark).await
            }
            _ => self.write(Method::POST, &["people", &change.person, "rows"], &body, &change.mark).await,
        }
    }

    async fn withdraw(&self, change: &Change, row: &str) -> Result<Receipt, DeliveryError> {
        let rows = self.rows(&change.person).await?;
        let is_ours =
            |held: &&Row| held.id == row && (self.is_marked(held, &change.mark) || self.is(Defect::WithdrawsAnyRow));
        if self.is(Defect::WithdrawsNothing) {
            return Ok(receipt(row, 200, true));
        }
        if rows.iter().find(is_ours).is_none() {
            return match self.defect {
                Some(Defect::CallsGoneRowsRefused) => Err(DeliveryError::new(ErrorKind::Rejected, "no such row")),
                _ => Ok(receipt(row, 200, false)),
            };
        }
        self.write(Method::DELETE, &["rows", row], &Json::Null, &change.mark).await
    }

    async fn observation(&self, place: &Place) -> Result<Observation, DeliveryError> {
        if self.is(Defect::BelievesInKnownRows)
            && let Some(row) = &place.row
        {
            return Ok(Observation::Holds { row: row.clone(), fields: Fields::new() });
        }
        let rows = self.rows(&place.person).await?;
        let ours: Vec<Row> = rows.into_iter().filter(|row| self.is_marked(row, &place.mark)).collect();
        match ours.as_slice() {
            [] => Ok(Observation::Absent),
            [row] => Ok(Observation::Holds { row: row.id.clone(), fields: self.fields(row) }),
            [row, ..] if self.is(Defect::ChoosesAmongCopies) => {
                Ok(Observation::Holds { row: row.id.clone(), fields: self.fields(row) })
            }
            several => Ok(Observation::Several { rows: several.iter().map(|row| row.id.clone()).collect() }),
        }
    }

    /// `page` is the id of the last row of the page before.
    async fn page(&self, page: Option<&str>) -> Result<ListedPage, DeliveryError> {
        let name = if self.is(Defect::CountsRowsFromPageToPage) { "skip" } else { "after" };
        let listed = self.get(&["rows"], &[(name, page.unwrap_or("0"))], "the list of all rows").await?;
        let unreadable = || DeliveryError::new(ErrorKind::Unavailable, "the list of all rows is no list");
        let is_last = listed["is_last"].as_bool().ok_or_else(unreadable)?;
        let mut rows = Vec::new();
        for json in listed["rows"].as_array().into_iter().flatten() {
            let row = Row { id: word(&json["id"]), fields: json["fields"].as_object().cloned().unwrap_or_default() };
            rows.push(self.listed(&row, word(&json["person"])));
        }
        let last = rows.last().map(|row| row.row.clone()).unwrap_or_default();
        let next = match self.defect {
            Some(Defect::CountsRowsFromPageToPage) => {
                (page.unwrap_or("0").parse().unwrap_or(0) + rows.len()).to_string()
            }
            Some(Defect::RepeatsTheLastRowOfAPage) => (last.parse().unwrap_or(1) - 1).to_string(),
            _ => last,
        };
        if self.is(Defect::RemovesRowsOfOthers) {
            for row in rows.iter().filter(|row| row.mark.as_ref().is_some_and(|mark| mark.contains(":other:"))) {
                self.write(Method::DELETE, &["rows", &row.row], &Json::Null, "a row of others").await?;
            }
        }
        rows.retain(|row| !self.is(Defect::ListsOnlyOurs) || row.mark.is_some());
        let ends = is_last || self.is(Defect::EndsAfterTheFirstPage);
        Ok(ListedPage { rows, next: (!ends).then_some(next) })
    }

    fn listed(&self, row: &Row, person: String) -> ListedRow {
        let mut fields = self.fields(row);
        if self.is(Defect::ListsWithTheMarkAmongTheFields) {
            fields.extend(row.fields.get("mark").map(|mark| ("mark".to_owned(), value(mark))));
        }
        let mark = row.fields.get("mark").map(word);
        let person = if self.is(Defect::ListsAllAsOnePerson) { "7".to_owned() } else { person };
        ListedRow { row: row.id.clone(), person: Some(person), mark, fields: Ok(fields) }
    }

    fn fields(&self, row: &Row) -> Fields {
        let is_told = |name: &str| match self.defect {
            Some(Defect::ObservesTheTitleOnly) => name == "title",
            _ => name != "mark",
        };
        row.fields.iter().filter(|(name, _)| is_told(name)).map(|(name, held)| (name.clone(), value(held))).collect()
    }

    fn is_marked(&self, row: &Row, mark: &str) -> bool {
        let held = word(row.fields.get("mark").unwrap_or(&Json::Null));
        if self.is(Defect::FindsMarksByTheirBeginning) { held.starts_with(mark) } else { held == mark }
    }

    fn body(&self, change: &Change, fields: &Fields) -> Json {
        let mut body: Map<String, Json> = Map::new();
        body.insert("mark".to_owned(), Json::from(change.mark.clone()));
        for (name, value) in fields {
            if name == "score" && self.is(Defect::ForgetsTheScore) {
                continue;
            }
            let json = match value {
                Value::Null if self.is(Defect::NeverBlanks) => continue,
                Value::Null => Json::Null,
                Value::Number(number) => Json::from(*number),
                Value::Text(text) if self.is(Defect::CutsText) => {
                    Json::from(text.chars().take(255).collect::<String>())
                }
                Value::Text(text) if self.is(Defect::KnowsOnlyAscii) => {
                    Json::from(text.replace(|letter: char| !letter.is_ascii(), "?"))
                }
                Value::Text(text) if text.chars().count() > TITLE_SHOWN_MAX && !self.is(Defect::CutsNothing) => {
                    Json::from(text.chars().take(TITLE_SHOWN_MAX - 1).chain(['…']).collect::<String>())
                }
                Value::Bool(_) | Value::Text(_) | Value::Date(_) => Json::from(value.to_string()),
            };
            body.insert(name.clone(), json);
        }
        if self.is(Defect::BlanksAbsentFields) {
            for name in ["title", "day", "score", "note"] {
                body.entry(name).or_insert(Json::Null);
            }
        }
        Json::Object(body)
    }

    async fn people(&self, name: &str, value: &str) -> Result<Vec<String>, DeliveryError> {
        let listed = if self.is(Defect::SearchesUnescaped) {
            let url = format!("{}/people?{name}={value}", self.url);
            let response = self.http.get(url).bearer_auth(&self.token).send().await;
            let response = response.map_err(|error| DeliveryError::from_transport(&error.without_url()))?;
            read_json(response, "the look-up of a person").await?
        } else {
            self.get(&["people"], &[(name, value)], "the look-up of a person").await?
        };
        Ok(listed.as_array().into_iter().flatten().map(|person| word(&person["id"])).collect())
    }

    async fn rows(&self, person: &str) -> Result<Vec<Row>, DeliveryError> {
        let listed = self.get(&["people", person, "rows"], &[], "the list of rows").await;
        let listed = listed.map_err(|error| self.unmatched(error))?;
        let row =
            |row: &Json| Row { id: word(&row["id"]), fields: row["fields"].as_object().cloned().unwrap_or_default() };
        Ok(listed.as_array().into_iter().flatten().map(row).collect())
    }

    /// A request that changes nothing: what is unknown of it did not happen.
    async fn get(&self, path: &[&str], query: &[(&str, &str)], what: &str) -> Result<Json, DeliveryError> {
        let response = self.send(Method::GET, path, query, &Json::Null, what).await;
        let read = match response {
            Ok(response) => read_json(response, what).await,
            Err(error) => Err(error),
        };
        read.map_err(|error| match error.kind {
            ErrorKind::Ambiguous => DeliveryError { kind: ErrorKind::Unavailable, ..error },
            _ => error,
        })
    }

    async fn write(&self, method: Method, path: &[&str], body: &Json, what: &str) -> Result<Receipt, DeliveryError> {
        let response = self.send(method, path, &[], body, what).await;
        let response = response.map_err(|error| self.unmatched(error))?;
        let status = response.status().as_u16();
        let answer: Json = match read_json(response, what).await {
            Err(_) if self.is(Defect::TakesAnyBodyForAReceipt) => Json::Null,
            answer => answer?,
        };
        Ok(receipt(&word(&answer["id"]), status, true))
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: &Json,
        what: &str,
    ) -> Result<Response, DeliveryError> {
        let mut url = reqwest::Url::parse(&self.url).expect("the tests give a URL");
        url.path_segments_mut().expect("http URLs have a path").clear().extend(path);
        let mut request = self.http.request(method, url).bearer_auth(&self.token).query(query);
        if !body.is_null() {
            request = request.json(body);
        }
        let again = request.try_clone().expect("the body is no stream");
        let mut answer = self.sent(request).await;
        let is_failed = answer.as_ref().map_or(true, |response| response.status().as_u16() >= 429);
        if is_failed && self.is(Defect::RetriesByItself) {
            answer = self.sent(again).await;
        }
        let response = answer.map_err(|error| DeliveryError::from_transport(&error.without_url()))?;
        let location = response.headers().get("location").and_then(|location| location.to_str().ok());
        if let (Some(location), true) = (location, self.is(Defect::FollowsRedirects)) {
            let followed = self.http.get(location).bearer_auth(&self.token).send().await;
            return followed.map_err(|error| DeliveryError::from_transport(&error.without_url()));
        }
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response, what).await) }
    }

    async fn sent(&self, request: reqwest::RequestBuilder) -> Result<Response, reqwest::Error> {
        if !self.is(Defect::GivesUpOnSlowTargets) {
            return request.send().await;
        }
        // A second request races the first.
        let second = request.try_clone().expect("the body is no stream");
        let (first, second) = futures::future::join(request.send(), second.send()).await;
        first.or(second)
    }

    async fn refused(&self, response: Response, what: &str) -> DeliveryError {
        if self.is(Defect::PassesWordsOnInFull) {
            let status = response.status().as_u16();
            let words = response.text().await.unwrap_or_default();
            return DeliveryError { kind: ErrorKind::Rejected, status: Some(status), message: words };
        }
        let error = refusal(response, what).await;
        if error.kind == ErrorKind::Unauthorized && self.is(Defect::RemembersARefusedKey) {
            *self.refused.lock().expect("nothing panics while it holds this") = Some(error.clone());
        }
        error
    }

    fn unmatched(&self, error: DeliveryError) -> DeliveryError {
        match error.status {
            Some(404) if !self.is(Defect::CallsUnknownPeopleRejected) => {
                DeliveryError { kind: ErrorKind::Unmatched, ..error }
            }
            _ => error,
        }
    }

    /// Gives an error another kind or message than it has.
    fn distort(&self, mut error: DeliveryError) -> DeliveryError {
        match (self.defect, &error.kind) {
            (Some(Defect::CapsTheWait), ErrorKind::Throttled(RetryAfter::For(wait))) => {
                error.kind = ErrorKind::Throttled(RetryAfter::For((*wait).min(std::time::Duration::from_secs(60))));
            }
            (Some(Defect::IgnoresDatesToWaitFor), ErrorKind::Throttled(RetryAfter::Until(_))) => {
                error.kind = ErrorKind::Throttled(RetryAfter::Unsaid);
            }
            (Some(Defect::CallsThrottlingUnavailable), ErrorKind::Throttled(_)) => error.kind = ErrorKind::Unavailable,
            (Some(Defect::CallsLostAnswersUnavailable), ErrorKind::Ambiguous) if error.status.is_none() => {
                error.kind = ErrorKind::Unavailable;
            }
            (Some(Defect::CallsServerErrorsUnavailable), ErrorKind::Ambiguous) if error.status.is_some() => {
                error.kind = ErrorKind::Unavailable;
            }
            (Some(Defect::CallsTransportErrorsRejected), ErrorKind::Unavailable | ErrorKind::Ambiguous) => {
                error.kind = ErrorKind::Rejected;
            }
            _ => {}
        }
        if self.is(Defect::LeaksTheToken) {
            error.message = format!("{} (with {})", error.message, self.token);
        }
        error
    }
}

fn receipt(row: &str, status: u16, wrote: bool) -> Receipt {
    Receipt { row: row.to_owned(), status, words: String::new(), wrote }
}

fn word(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

fn value(json: &Json) -> Value {
    match json {
        Json::String(text) => text.parse().map_or_else(|_| Value::Text(text.clone()), Value::Date),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or_default()),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => Value::Null,
    }
}
