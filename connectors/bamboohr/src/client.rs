//! What BambooHR speaks: one method a request, no decisions.

use learnsync_sdk::{DeliveryError, ErrorKind, refusal};
use reqwest::{Method, Response, Url};
use serde_json::{Map, Value as Json};

use crate::values::text_of;

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest words of the target that we keep, in characters.
const WORDS_CHARACTERS_MAX: usize = 512;

/// Speaks to one company with one key.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    api_key: String,
}

/// What the target answered to a write that it took.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The body as text, shortened.
    pub(crate) words: String,
    /// The body as JSON, when it is some.
    pub(crate) body: Option<Json>,
    /// The last part of the `Location` header.
    location: Option<String>,
}

impl Answer {
    /// The row's id, when the answer names it.
    pub(crate) fn row(&self) -> Option<String> {
        let named = self.body.as_ref().and_then(|body| body.get("id")).and_then(text_of);
        named.or_else(|| self.location.clone()).filter(|id| !id.is_empty())
    }
}

/// One row of a list: its id, and its fields as they came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) values: Map<String, Json>,
}

/// A person's rows, and the status of the answer that listed them.
pub(crate) struct Rows {
    pub(crate) status: u16,
    pub(crate) rows: Vec<Row>,
}

impl Client {
    pub(crate) fn new(http: reqwest::Client, base: Url, api_key: String) -> Self {
        Self { http, base, api_key }
    }

    /// `GET /api/v1/company_information`.
    pub(crate) async fn company(&self) -> Result<Json, DeliveryError> {
        Ok(self.read(Method::GET, &["v1", "company_information"], None, "the company information").await?.1)
    }

    /// `GET /api/v1/training/type`: an object keyed by id, or an array, or `[]` when there is none.
    pub(crate) async fn training_types(&self) -> Result<Vec<Row>, DeliveryError> {
        let (_, body) = self.read(Method::GET, &["v1", "training", "type"], None, "the training types").await?;
        rows_of(body, "the training types")
    }

    /// `POST /api/v2/datasets/employee/data`: one page of people, active or not, unless the filter says otherwise.
    pub(crate) async fn employees(&self, query: &Json, what: &str) -> Result<Json, DeliveryError> {
        let path = ["v2", "datasets", "employee", "data"];
        Ok(self.read(Method::POST, &path, Some(query), what).await?.1)
    }

    /// `GET /api/v1/training/record/employee/{person}`: an object keyed by id, **or `[]` when there is none**.
    pub(crate) async fn training_records(&self, person: &str) -> Result<Rows, DeliveryError> {
        self.list(&["v1", "training", "record", "employee", person], "the list of training records").await
    }

    /// `POST /api/v1/training/record/employee/{person}`.
    pub(crate) async fn create_training_record(
        &self,
        person: &str,
        body: &Json,
        what: &str,
    ) -> Result<Answer, DeliveryError> {
        self.write(Method::POST, &["v1", "training", "record", "employee", person], Some(body), what).await
    }

    /// `PUT /api/v1/training/record/{row}`; answered 201, although nothing is created.
    pub(crate) async fn update_training_record(
        &self,
        row: &str,
        body: &Json,
        what: &str,
    ) -> Result<Answer, DeliveryError> {
        self.write(Method::PUT, &["v1", "training", "record", row], Some(body), what).await
    }

    /// `DELETE /api/v1/training/record/{row}`.
    pub(crate) async fn delete_training_record(&self, row: &str, what: &str) -> Result<Answer, DeliveryError> {
        self.write(Method::DELETE, &["v1", "training", "record", row], None, what).await
    }

    /// `GET /api/v1/employees/{person}/tables/{table}`: an array; columns that the key may not read are left out.
    pub(crate) async fn table_rows(&self, person: &str, table: &str) -> Result<Rows, DeliveryError> {
        let what = format!("the list of table {table}");
        self.list(&["v1", "employees", person, "tables", table], &what).await
    }

    /// `GET /api/v1/employees/all/tables/{table}`: the rows of all people whom the key may see, in no order; each row names its `employeeId`.
    /// None where the answer is larger than what is read.
    pub(crate) async fn all_table_rows(&self, table: &str) -> Result<Option<Rows>, DeliveryError> {
        let what = format!("the list of all rows of table {table}");
        let (status, bytes) =
            self.fetch(Method::GET, &["v1", "employees", "all", "tables", table], None, &what).await?;
        let Some(bytes) = bytes else { return Ok(None) };
        Ok(Some(Rows { status, rows: rows_of(parsed(&bytes, &what)?, &what)? }))
    }

    /// `POST /api/v1_1/employees/{person}/tables/{table}`; the answer has no body.
    pub(crate) async fn create_table_row(
        &self,
        person: &str,
        table: &str,
        body: &Json,
        what: &str,
    ) -> Result<Answer, DeliveryError> {
        self.write(Method::POST, &["v1_1", "employees", person, "tables", table], Some(body), what).await
    }

    /// `POST /api/v1_1/employees/{person}/tables/{table}/{row}`; the answer has no body.
    pub(crate) async fn update_table_row(
        &self,
        (person, table, row): (&str, &str, &str),
        body: &Json,
        what: &str,
    ) -> Result<Answer, DeliveryError> {
        self.write(Method::POST, &["v1_1", "employees", person, "tables", table, row], Some(body), what).await
    }

    /// `DELETE /api/v1/employees/{person}/tables/{table}/{row}`; a 200 may still say `"success": false`.
    pub(crate) async fn delete_table_row(
        &self,
        (person, table, row): (&str, &str, &str),
        what: &str,
    ) -> Result<Answer, DeliveryError> {
        self.write(Method::DELETE, &["v1", "employees", person, "tables", table, row], None, what).await
    }

    async fn list(&self, path: &[&str], what: &str) -> Result<Rows, DeliveryError> {
        let (status, body) = self.read(Method::GET, path, None, what).await?;
        Ok(Rows { status, rows: rows_of(body, what)? })
    }

    /// A request that changes nothing: whatever goes wrong, we know that nothing was written.
    async fn read(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Json>,
        what: &str,
    ) -> Result<(u16, Json), DeliveryError> {
        let (status, bytes) = self.fetch(method, path, body, what).await?;
        let bytes = bytes.ok_or_else(|| unreadable(what, "it is larger than 16 MiB"))?;
        Ok((status, parsed(&bytes, what)?))
    }

    /// The same, with the body as it came; none where it is larger than what is read.
    async fn fetch(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Json>,
        what: &str,
    ) -> Result<(u16, Option<Vec<u8>>), DeliveryError> {
        let response = self.send(method, path, body, what).await.map_err(nothing_written)?;
        let status = response.status().as_u16();
        Ok((status, collect(response).await.map_err(nothing_written)?))
    }

    /// A request that changes something. A 2xx whose body is lost is still a 2xx: only the row's id is missing then.
    async fn write(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Json>,
        what: &str,
    ) -> Result<Answer, DeliveryError> {
        let response = self.send(method, path, body, what).await?;
        let status = response.status().as_u16();
        let location = response.headers().get("location").and_then(|value| value.to_str().ok()).and_then(last_part);
        let bytes = collect(response).await.ok().flatten().unwrap_or_default();
        let words = shorten(&String::from_utf8_lossy(&bytes));
        Ok(Answer { status, words, body: serde_json::from_slice(&bytes).ok(), location })
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Json>,
        what: &str,
    ) -> Result<Response, DeliveryError> {
        let mut request = self
            .http
            .request(method, self.url(path))
            .basic_auth(&self.api_key, Some("x"))
            // The older endpoints answer XML unless asked.
            .header("accept", "application/json");
        if let Some(body) = body {
            // `json` sends exactly `application/json`: with a charset, the older endpoints parse the body as XML.
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| DeliveryError::from_transport(&error.without_url()))?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response, what).await) }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("http URLs have a path").pop_if_empty().push("api").extend(path);
        url
    }
}

/// Reads the refusal's words, which the older endpoints put into a header.
async fn refused(response: Response, what: &str) -> DeliveryError {
    let header = response.headers().get("x-bamboohr-error-message").and_then(|value| value.to_str().ok());
    let header = header.map(str::trim).filter(|words| !words.is_empty()).map(str::to_owned);
    let mut error = refusal(response, what).await;
    if let Some(words) = header.filter(|words| !error.message.contains(words)) {
        error.message = shorten(&format!("{}: {words}", error.message));
    }
    error
}

/// Makes an unknown outcome of a read what it is: nothing happened, try again.
fn nothing_written(mut error: DeliveryError) -> DeliveryError {
    if error.kind == ErrorKind::Ambiguous {
        error.kind = ErrorKind::Unavailable;
    }
    error
}

/// The body; none where it is larger than what is read.
async fn collect(mut response: Response) -> Result<Option<Vec<u8>>, DeliveryError> {
    let mut bytes = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| DeliveryError::from_transport(&error.without_url()))?
    {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

fn parsed(bytes: &[u8], what: &str) -> Result<Json, DeliveryError> {
    serde_json::from_slice(bytes).map_err(|error| unreadable(what, &error.to_string()))
}

pub(crate) fn unreadable(what: &str, why: &str) -> DeliveryError {
    let message = format!("bamboohr's answer to {what} cannot be read: {why}");
    // An answer came, so the status tells that the target is there.
    DeliveryError { status: Some(200), ..DeliveryError::new(ErrorKind::Unavailable, message) }
}

fn shorten(text: &str) -> String {
    text.trim().chars().take(WORDS_CHARACTERS_MAX).collect()
}

fn last_part(location: &str) -> Option<String> {
    let last = location.trim_end_matches('/').rsplit('/').next()?;
    let is_id = !last.is_empty() && last.chars().all(|letter| letter.is_ascii_digit());
    is_id.then(|| last.to_owned())
}

/// Reads a list: an object keyed by id, or an array of objects with ids. Sorted by id, so that every choice among rows is stable.
pub(crate) fn rows_of(body: Json, what: &str) -> Result<Vec<Row>, DeliveryError> {
    let entries: Vec<(Option<String>, Json)> = match body {
        Json::Array(list) => list.into_iter().map(|row| (None, row)).collect(),
        Json::Object(map) => map.into_iter().map(|(key, row)| (Some(key), row)).collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            return Err(unreadable(what, "it is neither an object nor a list"));
        }
    };
    let mut rows = Vec::with_capacity(entries.len());
    for (key, row) in entries {
        let Json::Object(values) = row else { return Err(unreadable(what, "a row is not an object")) };
        // A row that we cannot address might be ours; leaving it out would make us create it again.
        let id = values.get("id").and_then(text_of).or(key).filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| unreadable(what, "a row has no id"))?;
        rows.push(Row { id, values });
    }
    rows.sort_by_cached_key(|row| (row.id.parse::<u64>().unwrap_or(u64::MAX), row.id.clone()));
    Ok(rows)
}
