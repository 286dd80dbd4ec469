//! What the vendor speaks: one method a request. Basic authentication, JSON both ways; numbers may come as texts.

use std::collections::BTreeMap;

use learnsync_sdk::{DeliveryError, ErrorKind, Reference, read_json, refusal};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde_json::{Value, json};

/// One row of a list, its values as texts; what is null or not there is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) values: BTreeMap<String, String>,
}

/// Speaks to one company.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    api_key: String,
}

impl Client {
    pub(crate) fn new(http: reqwest::Client, base: Url, api_key: String) -> Self {
        Self { http, base, api_key }
    }

    /// Host and port of the company.
    pub(crate) fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// <https://documentation.bamboohr.com/reference/get-company-information>
    pub(crate) async fn company_information(&self) -> Result<(), DeliveryError> {
        let request = self.request(Method::GET, &["api", "v1", "company_information"]);
        read(request, "a read of the company").await.map(drop)
    }

    /// <https://documentation.bamboohr.com/reference/list-training-types>: an object keyed by id, or `[]`.
    pub(crate) async fn training_types(&self) -> Result<Vec<Reference>, DeliveryError> {
        let request = self.request(Method::GET, &["api", "v1", "training", "type"]);
        let rows = rows_of(read(request, "the list of training types").await?);
        Ok(rows
            .into_iter()
            .map(|row| Reference { name: row.values.get("name").cloned().unwrap_or_default(), id: row.id })
            .collect())
    }

    /// <https://documentation.bamboohr.com/reference/get-data-from-dataset-v2>: inactive people are included unless a filter says not.
    pub(crate) async fn employees_where(
        &self,
        field: &str,
        value: &str,
    ) -> Result<Vec<BTreeMap<String, String>>, DeliveryError> {
        let body = json!({
            "fields": ["employeeId", field],
            "filter": format!("{field} eq '{}'", value.replace('\'', "''")),
            "page": 1,
            "pageSize": 100,
        });
        let request = self.request(Method::POST, &["api", "v2", "datasets", "employee", "data"]).json(&body);
        let answer = read(request, "a look-up of a person").await?;
        let Some(people) = answer.get("data").and_then(Value::as_array) else {
            let message = "BambooHR's answer to a look-up of a person has no \"data\"";
            return Err(DeliveryError::new(ErrorKind::Unavailable, message));
        };
        // Some versions nest what was asked for under `fields`.
        Ok(people.iter().map(|person| texts(person.get("fields").unwrap_or(person), person)).collect())
    }

    /// <https://documentation.bamboohr.com/reference/list-employee-trainings>: an object keyed by record id, or `[]` when empty.
    pub(crate) async fn trainings(&self, person: &str) -> Result<Vec<Row>, DeliveryError> {
        let request = self.request(Method::GET, &["api", "v1", "training", "record", "employee", person]);
        Ok(rows_of(read(request, "the list of training records").await?))
    }

    /// <https://documentation.bamboohr.com/reference/add-new-employee-training-record>; 201 with the record.
    pub(crate) async fn create_training(&self, person: &str, body: &Value) -> Result<(u16, Value), DeliveryError> {
        let request = self.request(Method::POST, &["api", "v1", "training", "record", "employee", person]).json(body);
        write(request, "a new training record").await
    }

    /// <https://documentation.bamboohr.com/reference/update-employee-training-record>; answers 201, and the type cannot be changed.
    pub(crate) async fn update_training(&self, row: &str, body: &Value) -> Result<(u16, Value), DeliveryError> {
        let request = self.request(Method::PUT, &["api", "v1", "training", "record", row]).json(body);
        write(request, "a change of a training record").await
    }

    /// <https://documentation.bamboohr.com/reference/delete-employee-training-record>
    pub(crate) async fn delete_training(&self, row: &str) -> Result<(u16, Value), DeliveryError> {
        let request = self.request(Method::DELETE, &["api", "v1", "training", "record", row]);
        write(request, "the removal of a training record").await
    }

    /// <https://documentation.bamboohr.com/reference/get-employee-table-row>
    pub(crate) async fn table(&self, person: &str, table: &str) -> Result<Vec<Row>, DeliveryError> {
        let request = self.request(Method::GET, &["api", "v1", "employees", person, "tables", table]);
        Ok(rows_of(read(request, &format!("the rows of {table}")).await?))
    }

    /// <https://documentation.bamboohr.com/reference/add-employee-table-row-1>
    pub(crate) async fn create_row(
        &self,
        person: &str,
        table: &str,
        body: &Value,
    ) -> Result<(u16, Value), DeliveryError> {
        let request = self.request(Method::POST, &["api", "v1_1", "employees", person, "tables", table]).json(body);
        write(request, &format!("a new row of {table}")).await
    }

    /// <https://documentation.bamboohr.com/reference/update-employee-table-row-1>
    pub(crate) async fn update_row(
        &self,
        person: &str,
        table: &str,
        row: &str,
        body: &Value,
    ) -> Result<(u16, Value), DeliveryError> {
        let request =
            self.request(Method::POST, &["api", "v1_1", "employees", person, "tables", table, row]).json(body);
        write(request, &format!("a change of a row of {table}")).await
    }

    /// <https://documentation.bamboohr.com/reference/delete-employee-table-row-1>
    pub(crate) async fn delete_row(&self, person: &str, table: &str, row: &str) -> Result<(u16, Value), DeliveryError> {
        let request = self.request(Method::DELETE, &["api", "v1", "employees", person, "tables", table, row]);
        write(request, &format!("the removal of a row of {table}")).await
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        // Old end points answer in XML unless asked for JSON.
        self.http.request(method, url).basic_auth(&self.api_key, Some("x")).header("accept", "application/json")
    }
}

/// A read: whatever goes wrong on the way, nothing was written, so nothing is unknown.
async fn read(request: RequestBuilder, what: &str) -> Result<Value, DeliveryError> {
    let certain = |mut error: DeliveryError| {
        if error.kind == ErrorKind::Ambiguous {
            error.kind = ErrorKind::Unavailable;
        }
        error
    };
    let response = request.send().await.map_err(|error| certain(DeliveryError::from_transport(&error)))?;
    if response.status().is_success() {
        return read_json(response, what).await.map_err(certain);
    }
    let is_missing = response.status().as_u16() == 404;
    let mut error = certain(refusal(response, what).await);
    if is_missing && what.starts_with("the ") && error.kind == ErrorKind::Rejected {
        // The lists of a person answer 404 for a person who does not exist.
        error.kind = ErrorKind::Unmatched;
    }
    Err(error)
}

/// A write: the answer's status, and its body if it is JSON.
async fn write(request: RequestBuilder, what: &str) -> Result<(u16, Value), DeliveryError> {
    let response: Response = request.send().await.map_err(|error| DeliveryError::from_transport(&error))?;
    let status = response.status();
    if !status.is_success() {
        return Err(refusal(response, what).await);
    }
    let body = response.bytes().await.map_err(|error| DeliveryError::from_transport(&error))?;
    Ok((status.as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

/// The rows of an answer: an object keyed by id, or an array whose items carry an id.
fn rows_of(answer: Value) -> Vec<Row> {
    match answer {
        Value::Object(rows) => rows.into_iter().map(|(id, row)| Row { id, values: texts(&row, &row) }).collect(),
        Value::Array(rows) => rows
            .into_iter()
            .filter_map(|row| Some(Row { id: text(row.get("id")?)?, values: texts(&row, &row) }))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// The scalars of two objects as texts; the second adds what the first lacks.
fn texts(first: &Value, second: &Value) -> BTreeMap<String, String> {
    [second, first]
        .into_iter()
        .filter_map(Value::as_object)
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), text(value)?)))
        .collect()
}

/// A scalar as text.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
