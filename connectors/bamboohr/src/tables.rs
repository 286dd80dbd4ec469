//! Rows of employee tables: the mark stands in a column of its own.

use learnsync_sdk::{DeliveryError, Fields, TargetObject, Value, async_trait};
use serde_json::{Map, Value as Json};

use crate::client::{Answer, Client, Row, Rows};
use crate::objects::{Object, rejected};
use crate::values::{EXACT, is_blank, is_equal, json_of, text_of, typed};

/// One table, standard or made by the customer.
pub(crate) struct Table {
    name: String,
    mark_column: String,
}

impl Table {
    pub(crate) fn new(name: &str, mark_column: &str) -> Self {
        Self { name: name.to_owned(), mark_column: mark_column.to_owned() }
    }

    /// The columns that a mapping fills. Ids are the target's and the mark is ours, whatever a mapping says.
    fn mapped<'a>(&'a self, fields: &'a Fields) -> impl Iterator<Item = (&'a String, &'a Value)> {
        fields.iter().filter(|(name, _)| self.is_column(name))
    }

    fn is_column(&self, name: &str) -> bool {
        name != "id" && name != "employeeId" && name != self.mark_column
    }

    fn mark<'a>(&self, row: &'a Row) -> Option<&'a Json> {
        row.values.get(&self.mark_column)
    }
}

#[async_trait]
impl Object for Table {
    fn describe(&self) -> TargetObject {
        TargetObject { name: format!("table:{}", self.name), fields: Vec::new(), open: true }
    }

    fn marked(&self, row: &Row) -> String {
        self.mark(row).and_then(text_of).unwrap_or_default()
    }

    /// All columns alike, at least one of them filled, and nothing at all in the mark's column.
    fn is_adoptable(&self, row: &Row, fields: &Fields) -> bool {
        let says_something = self.mapped(fields).any(|(_, value)| *value != Value::Null);
        says_something && is_blank(self.mark(row)) && self.holds(row, fields)
    }

    fn check(&self, _row: &Row, _fields: &Fields) -> Result<(), DeliveryError> {
        Ok(())
    }

    fn holds(&self, row: &Row, fields: &Fields) -> bool {
        self.mapped(fields).all(|(name, want)| is_equal(row.values.get(name), want, EXACT))
    }

    fn body(&self, row: Option<&Row>, fields: &Fields, mark: &str) -> Json {
        let mut body = Map::new();
        for (name, value) in self.mapped(fields) {
            if *value == Value::Null && is_blank(row.and_then(|row| row.values.get(name))) {
                continue;
            }
            // Empty text is what blanks a column; null is not documented for it.
            body.insert(name.clone(), if *value == Value::Null { Json::from("") } else { json_of(value) });
        }
        body.insert(self.mark_column.clone(), Json::from(mark));
        Json::Object(body)
    }

    /// A write is answered without a body, and a column that does not exist may be passed over in silence.
    fn needs_proof(&self) -> bool {
        true
    }

    fn observed(&self, row: &Row, _mark: &str) -> Fields {
        let columns = row.values.iter().filter(|(name, _)| self.is_column(name));
        columns.map(|(name, value)| (name.clone(), typed(value))).collect()
    }

    async fn list(&self, client: &Client, person: &str) -> Result<Rows, DeliveryError> {
        client.table_rows(person, &self.name).await
    }

    async fn list_all(&self, client: &Client) -> Result<Option<Rows>, DeliveryError> {
        client.all_table_rows(&self.name).await
    }

    async fn create(&self, client: &Client, person: &str, body: &Json, what: &str) -> Result<Answer, DeliveryError> {
        client.create_table_row(person, &self.name, body, what).await
    }

    async fn update(
        &self,
        client: &Client,
        person: &str,
        row: &str,
        body: &Json,
        what: &str,
    ) -> Result<Answer, DeliveryError> {
        client.update_table_row((person, &self.name, row), body, what).await
    }

    async fn delete(&self, client: &Client, person: &str, row: &str, what: &str) -> Result<Answer, DeliveryError> {
        let answer = client.delete_table_row((person, &self.name, row), what).await?;
        let success = answer.body.as_ref().and_then(|body| body.get("success")).and_then(Json::as_bool);
        if success == Some(false) {
            return Err(DeliveryError {
                status: Some(answer.status),
                ..rejected(format!("bamboohr did not delete row {row} of table {}: {}", self.name, answer.words))
            });
        }
        Ok(answer)
    }
}
