//! The rules of this connector, proved against the three services on loopback.

mod conformance;
mod defaults;
mod failures;
mod fake;
mod payloads;

use learnsync_sdk::{Action, Change, Connector, DeliveryError, Fields, Receipt, Value};

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), Value::Text((*text).to_owned()))).collect()
}

/// The change of the n-th place.
fn put(number: usize, pairs: &[(&str, &str)]) -> Change {
    let mark = format!("learnsync:acme:certificate/{number}");
    let action = Action::Put { fields: fields(pairs), row: None, idempotency_key: format!("{mark}:5eed") };
    Change { object: "message".to_owned(), person: format!("u{number}"), mark, action }
}

async fn deliver_one(connector: &dyn Connector, change: Change) -> Result<Receipt, DeliveryError> {
    connector.deliver(&[change]).await.pop().expect("one outcome per change")
}
