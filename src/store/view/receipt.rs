//! Receipts: what proves that a target took a delivery, and whether anybody changed that since.

use diesel::prelude::*;
use serde::Serialize;

use super::View;
use crate::domain::digest::hex;
use crate::domain::ids::SubjectId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::ledger::chained;
use crate::store::schema::{attempt, delivery, destination, person, record, route, subject};
use crate::store::seal::person_scope;

/// What proves that a target took a delivery.
#[derive(Clone, Debug, Serialize)]
pub struct Receipt {
    /// The delivery's number.
    pub delivery: i64,
    /// The destination.
    pub destination: String,
    /// The route.
    pub route: String,
    /// The record's key.
    pub record: String,
    /// The learner's LMS id.
    pub learner: String,
    /// Under whom the target holds it.
    pub person: Option<String>,
    /// The row's id in the target.
    pub row: Option<String>,
    /// Since when we know.
    pub held_at: Option<Timestamp>,
    /// The HTTP status of the target's answer.
    pub status: Option<i64>,
    /// The target's own words.
    pub words: String,
    /// The attempt that brought it: its place in the chain.
    pub attempt: i64,
    /// The how many-th attempt at this delivery it was.
    pub number: i64,
    /// The attempt's hash, in hexadecimal digits.
    pub hash: String,
    /// The hash of the attempt before it.
    pub previous_hash: String,
}

/// Whether a receipt is what it was when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ReceiptProof {
    /// The attempt's place in the chain.
    pub attempt: i64,
    /// Whether the attempt is as it was written, and follows the one before it.
    pub fits_the_chain: bool,
    /// Whether the words are those that the attempt brought.
    pub words_are_the_targets: bool,
}

impl View {
    /// A delivery's receipt and its proof; none when there is no such delivery, no target took it, or its learner was erased.
    ///
    /// # Errors
    /// The store failed.
    pub fn receipt(&mut self, id: i64) -> Result<Option<(Receipt, ReceiptProof)>, StoreError> {
        type Place = (String, String, String, String, i64);
        type Held = (Option<String>, Option<String>, Option<i64>, Option<Vec<u8>>, Option<i64>);
        let found: Option<(Place, Held)> = delivery::table
            .inner_join(route::table)
            .inner_join(destination::table.on(destination::id.eq(delivery::destination_id)))
            .inner_join(person::table.inner_join(subject::table))
            .inner_join(record::table)
            .filter(delivery::id.eq(id))
            .select((
                (destination::name, route::name, record::key, subject::lms_id, person::subject_id),
                (
                    delivery::held_person,
                    delivery::held_row,
                    delivery::held_at,
                    delivery::receipt,
                    delivery::receipt_status,
                ),
            ))
            .first(&mut self.db)
            .optional()?;
        let Some((place, (held_person, row, held_at, Some(sealed), status))) = found else { return Ok(None) };
        let (destination, route, record, learner, subject) = place;
        // Later attempts may have failed, and a look finds what an earlier one wrote: the receipt is of the newest that wrote.
        let brought: Option<i64> = attempt::table
            .filter(attempt::delivery_id.eq(id).and(attempt::outcome.eq_any(["taken", "found"])))
            .filter(attempt::action.ne("look"))
            .order(attempt::id.desc())
            .select(attempt::id)
            .first(&mut self.db)
            .optional()?;
        let Some(brought) = brought else { return Ok(None) };
        let chained = chained(&mut self.db, brought)?;
        let words = self.sealer.open_sealed(&person_scope(SubjectId(subject)), &sealed)?;
        let proof = ReceiptProof {
            attempt: brought,
            fits_the_chain: chained.fits,
            words_are_the_targets: self.sealer.blind("words", &words) == chained.words_digest,
        };
        let receipt = Receipt {
            delivery: id,
            destination,
            route,
            record,
            learner,
            person: held_person,
            row,
            held_at: held_at.map(Timestamp),
            status,
            words: String::from_utf8_lossy(&words).into_owned(),
            attempt: brought,
            number: chained.number,
            hash: hex(&chained.hash),
            previous_hash: hex(&chained.previous_hash),
        };
        Ok(Some((receipt, proof)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::delivery::Cause;
    use crate::store::tests::{Ledger, Says};

    async fn taken_twice() -> Ledger {
        let ledger = Ledger::new().await;
        ledger.completes(1, "Ana", "Nowak").await;
        ledger.completes(2, "Bo", "Li").await;
        ledger.deliver(&Says::Takes).await;
        ledger
    }

    async fn tamper(ledger: &Ledger, sql: &'static str) {
        ledger.folder.spoil();
        let tampered = ledger.store.writer.run("tamper", move |tx| {
            diesel::sql_query(sql).execute(tx.db)?;
            Ok(())
        });
        tampered.await.expect("tampers");
    }

    fn proof(ledger: &Ledger, id: i64) -> (bool, bool) {
        let (_, proof) = ledger.view().receipt(id).expect("reads").expect("is there");
        (proof.fits_the_chain, proof.words_are_the_targets)
    }

    #[tokio::test]
    async fn a_receipt_is_the_targets_words_with_the_attempt_that_brought_them() {
        let ledger = taken_twice().await;
        let (receipt, _) = ledger.view().receipt(2).expect("reads").expect("is there");
        assert_eq!((receipt.words.as_str(), receipt.status, receipt.attempt), ("its own words", Some(201), 2));
        assert_eq!(proof(&ledger, 2), (true, true));
        ledger.completes(3, "Cy", "Ng").await;
        ledger.deliver(&Says::Refuses(Cause::Rejected)).await;
        assert!(ledger.view().receipt(3).expect("reads").is_none(), "what was refused has no receipt");
        assert!(ledger.view().receipt(99).expect("reads").is_none());
    }

    #[tokio::test]
    async fn a_receipt_that_somebody_changed_does_not_verify() {
        let ledger = taken_twice().await;
        // Another receipt of the same person would be sealed as well: what tells is the digest in the chain.
        tamper(&ledger, "update attempt set words_digest = x'00' where id = 2").await;
        assert_eq!(proof(&ledger, 2), (false, false));
        assert_eq!(proof(&ledger, 1), (true, true));
        let ledger = taken_twice().await;
        tamper(&ledger, "delete from attempt where id = 1").await;
        assert_eq!(proof(&ledger, 2), (false, true), "the one before it is gone");
    }
}
