//! A connector that cannot write: what a destination in shadow is given in place of its own.

use std::sync::Arc;

use async_trait::async_trait;
use learnsync_sdk::{
    Account, Change, Connector, DeliveryError, ErrorKind, Learner, ListedPage, MatchRule, Observation, PersonMatch,
    Place, Receipt, Reference, TargetObject,
};

/// Passes on what reads, and refuses what writes without a call.
pub struct ReadOnly(pub Arc<dyn Connector>);

#[async_trait]
impl Connector for ReadOnly {
    fn object(&self, name: &str) -> Result<TargetObject, String> {
        self.0.object(name)
    }

    async fn probe(&self) -> Result<Account, DeliveryError> {
        self.0.probe().await
    }

    async fn references(&self, kind: &str) -> Result<Vec<Reference>, DeliveryError> {
        self.0.references(kind).await
    }

    async fn find_person(&self, learner: &Learner, rules: &[MatchRule]) -> Result<PersonMatch, DeliveryError> {
        self.0.find_person(learner, rules).await
    }

    async fn deliver(&self, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>> {
        let refused =
            || DeliveryError::new(ErrorKind::Rejected, "this destination is in shadow: nothing is written to it");
        batch.iter().map(|_| Err(refused())).collect()
    }

    async fn observe(&self, batch: &[Place]) -> Vec<Result<Observation, DeliveryError>> {
        self.0.observe(batch).await
    }

    async fn list(&self, object: &str, page: Option<&str>) -> Result<ListedPage, DeliveryError> {
        self.0.list(object, page).await
    }
}
