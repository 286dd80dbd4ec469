//! The proof: HR is read over its HTTP API, row by row and field by field, and compared with what the LMS holds.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::Stage;
use crate::sandbox::ExpectedRow;

/// Reads under way at once.
const AT_ONCE: usize = 16;

/// Most differences that are printed.
const SHOWN_MAX: usize = 20;

/// What our marks begin with in the demo.
const MARK: &str = "learnsync:demo:";

/// One row as HR's API gives it.
struct Row {
    employee_number: String,
    object: String,
    fields: BTreeMap<String, String>,
}

/// What the comparison found.
pub(super) struct Proof {
    records: usize,
    rows: usize,
    missing: Vec<String>,
    duplicates: Vec<String>,
    foreign: Vec<String>,
}

impl Proof {
    /// Reads everything and compares.
    pub(super) async fn read(stage: &Stage) -> anyhow::Result<Self> {
        let rows = read_hr(stage).await.context("read HR back")?;
        let expected = stage.sandbox.portal.expected_rows();
        Ok(Self::compare(stage.sandbox.portal.records_total(), &expected, &rows))
    }

    fn compare(records: usize, expected: &BTreeMap<String, ExpectedRow>, rows: &[Row]) -> Self {
        let mut proof =
            Self { records, rows: rows.len(), missing: Vec::new(), duplicates: Vec::new(), foreign: Vec::new() };
        let mut seen = BTreeSet::new();
        for row in rows {
            let Some(key) = mark_of(row) else {
                proof.foreign.push(format!("a row of {} without our mark: {:?}", row.object, row.fields));
                continue;
            };
            let Some(wanted) = expected.get(&key) else {
                proof.foreign.push(format!("{key} is in {}, and the LMS does not hold it", row.object));
                continue;
            };
            if !seen.insert(key.clone()) {
                proof.duplicates.push(format!("{key} is there twice"));
            }
            if let Some(difference) = difference(wanted, row) {
                proof.missing.push(format!("{key}: {difference}"));
            }
        }
        for key in expected.keys().filter(|key| !seen.contains(*key)) {
            proof.missing.push(format!("{key} is not there"));
        }
        proof
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Whether HR holds exactly what the LMS holds.
    pub(super) fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.duplicates.is_empty() && self.foreign.is_empty() && self.rows == self.records
    }

    pub(super) fn last_line(&self) -> String {
        format!(
            "demo: {} records in the LMS, {} rows in HR, {} missing, {} duplicates, {} foreign",
            self.records,
            self.rows,
            self.missing.len(),
            self.duplicates.len(),
            self.foreign.len()
        )
    }

    pub(super) fn differences(&self) -> String {
        let all: Vec<&str> = self
            .missing
            .iter()
            .chain(&self.duplicates)
            .chain(&self.foreign)
            .map(String::as_str)
            .take(SHOWN_MAX)
            .collect();
        all.join("\n")
    }
}

/// The record key in a row's mark.
fn mark_of(row: &Row) -> Option<String> {
    let column = if row.object == "training" { "notes" } else { "customReference" };
    let lines = row.fields.get(column)?.lines();
    lines.map(str::trim).find_map(|line| line.strip_prefix(MARK)).map(str::to_owned)
}

/// What differs; a row with a wrong field counts as missing.
fn difference(wanted: &ExpectedRow, row: &Row) -> Option<String> {
    if wanted.employee_number != row.employee_number {
        return Some(format!("stands with employee {}, not {}", row.employee_number, wanted.employee_number));
    }
    if wanted.object != row.object {
        return Some(format!("stands in {}, not in {}", row.object, wanted.object));
    }
    wanted.fields.iter().find_map(|(name, value)| {
        let held = row.fields.get(name).map(String::as_str).unwrap_or_default();
        (!is_same(value, held)).then(|| format!("{name} is \"{held}\", not \"{value}\""))
    })
}

/// Numbers are compared to two decimals: that is what a mapping sends and HR shows.
fn is_same(wanted: &str, held: &str) -> bool {
    match (wanted.parse::<f64>(), held.parse::<f64>()) {
        (Ok(wanted), Ok(held)) => (wanted - held).abs() < 0.0051,
        _ => wanted == held,
    }
}

async fn read_hr(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let mut people = Vec::new();
    for page in 1.. {
        let body = json!({"fields": ["employeeId", "employeeNumber"], "page": page, "pageSize": 1000});
        let url = format!("{}/api/v2/datasets/employee/data", stage.sandbox.hr.url());
        let request = stage.http.post(url).json(&body);
        let answer = call(stage, request).await?;
        let rows = answer.get("data").and_then(Value::as_array).context("a page of people has no data")?;
        for row in rows {
            let text = |name: &str| row["fields"].get(name).and_then(text_of).unwrap_or_default();
            people.push((text("employeeId"), text("employeeNumber")));
        }
        if rows.len() < 1000 {
            break;
        }
    }
    let reads = people.into_iter().flat_map(|(id, number)| {
        ["training", "table:customCertifications", "table:customCompetencies"]
            .map(|object| rows_of(stage, id.clone(), number.clone(), object))
    });
    let rows: Vec<Vec<Row>> = futures::stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(rows.into_iter().flatten().collect())
}

async fn rows_of(stage: &Stage, id: String, number: String, object: &str) -> anyhow::Result<Vec<Row>> {
    let path = match object.strip_prefix("table:") {
        None => format!("api/v1/training/record/employee/{id}"),
        Some(table) => format!("api/v1/employees/{id}/tables/{table}"),
    };
    let answer = call(stage, stage.http.get(format!("{}/{path}", stage.sandbox.hr.url()))).await?;
    let rows: Vec<Value> = match answer {
        Value::Array(rows) => rows,
        Value::Object(rows) => rows.into_iter().map(|(_, row)| row).collect(),
        other => bail!("{path} answers {other}"),
    };
    Ok(rows
        .iter()
        .filter_map(Value::as_object)
        .map(|row| Row {
            employee_number: number.clone(),
            object: object.to_owned(),
            fields: row.iter().filter_map(|(name, value)| Some((name.clone(), text_of(value)?))).collect(),
        })
        .collect())
}

async fn call(stage: &Stage, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let response = request
        .basic_auth(stage.sandbox.hr.api_key(), Some("x"))
        .header("accept", "application/json")
        .send()
        .await
        .context("call HR")?;
    let status = response.status();
    if !status.is_success() {
        bail!("HR answers HTTP {status}");
    }
    response.json().await.context("read HR's answer")
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
