//! Erasing a person: their key is destroyed, so that nobody can read what was sealed with it, in no copy either that is opened with this
//! key file. What the chain and the counts need stays: numbers, times, digests, the ids of rows.

use diesel::prelude::*;

use super::claims::Claims;
use super::queue::dequeue;
use super::schema::{attempt, delivery, destination, finding, holding, link, mark, person, promise, record};
use super::seal::person_scope;
use super::writer::Tx;
use super::{Store, StoreError};
use crate::domain::delivery::Cause;
use crate::domain::ids::{PersonId, SubjectId};

/// What came of erasing a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Erased {
    /// It is done.
    Done(Remains),
    /// A write for them is under way: its outcome would be sealed anew.
    Busy,
    /// They were erased before.
    Already,
}

/// What is left of a person who was erased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Deliveries, without words.
    pub deliveries: usize,
    /// Rows that targets hold, by destination: nobody removes them.
    pub rows: Vec<(String, i64)>,
}

impl Store {
    /// Erases a person for good. The tombstone stays: they are never read from the LMS again.
    ///
    /// # Errors
    /// The store failed.
    pub async fn erase_person(&self, id: PersonId) -> Result<Erased, StoreError> {
        let subject = self
            .writer
            .run("subject_of", move |tx| Ok(person::table.find(id.0).select(person::subject_id).first(tx.db)?))
            .await?;
        self.erase_subject(SubjectId(subject)).await
    }

    /// The same by the subject that was read.
    ///
    /// # Errors
    /// The store failed.
    pub async fn erase_subject(&self, subject: SubjectId) -> Result<Erased, StoreError> {
        let claims = std::sync::Arc::clone(&self.claims);
        let erased = self.writer.run("erase_person", move |tx| erase(tx, subject, &claims)).await?;
        if matches!(erased, Erased::Busy) {
            return Ok(erased);
        }
        // The key goes last, and again if it was stopped between the two: without the tombstone a read would make a new key.
        self.writer.run("destroy_key", move |tx| tx.sealer.destroy(&person_scope(subject))).await?;
        Ok(erased)
    }
}

fn erase(tx: &mut Tx<'_>, subject: SubjectId, claims: &Claims) -> Result<Erased, StoreError> {
    let (id, state): (i64, String) =
        person::table.filter(person::subject_id.eq(subject.0)).select((person::id, person::state)).first(tx.db)?;
    if state == "erased" {
        return Ok(Erased::Already);
    }
    // The claim tells, and not the state: `sending` may be what an earlier life left, whose outcome nobody will bring any more.
    if claims.lanes().iter().any(|(_, person)| *person == id) {
        return Ok(Erased::Busy);
    }
    let remains = Remains { deliveries: end_deliveries(tx.db, id)?, rows: rows_left(tx.db, id)? };
    diesel::update(record::table.filter(record::person_id.eq(id)))
        .set((record::facts.eq(Vec::<u8>::new()), record::fingerprint.eq(Vec::<u8>::new())))
        .execute(tx.db)?;
    diesel::delete(link::table.filter(link::person_id.eq(id))).execute(tx.db)?;
    diesel::delete(mark::table.filter(mark::subject_id.eq(subject.0))).execute(tx.db)?;
    diesel::update(promise::table.filter(promise::subject_id.eq(subject.0).and(promise::state.eq("open"))))
        .set(promise::state.eq("expired"))
        .execute(tx.db)?;
    diesel::update(person::table.find(id))
        .set((
            person::state.eq("erased"),
            person::profile.eq(None::<Vec<u8>>),
            person::profile_digest.eq(Vec::<u8>::new()),
            person::external_id_index.eq(None::<Vec<u8>>),
            person::email_index.eq(None::<Vec<u8>>),
            person::name_index.eq(None::<Vec<u8>>),
        ))
        .execute(tx.db)?;
    Ok(Erased::Done(remains))
}

/// Nothing of theirs is delivered any more, and no words of a target are left. The chain covers digests of the words only.
fn end_deliveries(db: &mut SqliteConnection, person: i64) -> Result<usize, StoreError> {
    let rows: Vec<(i64, i64, Option<i64>)> = delivery::table
        .filter(delivery::person_id.eq(person))
        .select((delivery::id, delivery::destination_id, delivery::due_at))
        .load(db)?;
    for (id, destination, due_at) in &rows {
        if let Some(due_at) = due_at {
            dequeue(db, *destination, *id, *due_at)?;
        }
        // Settled ones, too: a rebase or a restore would look them up, and nobody knows any more what they should hold.
        diesel::update(delivery::table.find(id))
            .set((
                delivery::state.eq("skipped"),
                delivery::cause.eq(Cause::Erased.word()),
                delivery::cause_detail.eq(None::<String>),
                delivery::receipt.eq(None::<Vec<u8>>),
                delivery::due_at.eq(None::<i64>),
                delivery::sending_epoch.eq(None::<i64>),
                delivery::sending_at.eq(None::<i64>),
                delivery::sending_person.eq(None::<String>),
            ))
            .execute(db)?;
        diesel::update(attempt::table.filter(attempt::delivery_id.eq(id)))
            .set(attempt::words.eq(None::<Vec<u8>>))
            .execute(db)?;
        diesel::delete(holding::table.find(id)).execute(db)?;
        diesel::update(finding::table.filter(finding::delivery_id.eq(id)))
            .set(finding::person.eq(None::<String>))
            .execute(db)?;
    }
    Ok(rows.len())
}

fn rows_left(db: &mut SqliteConnection, person: i64) -> Result<Vec<(String, i64)>, StoreError> {
    Ok(delivery::table
        .inner_join(destination::table.on(destination::id.eq(delivery::destination_id)))
        .filter(delivery::person_id.eq(person).and(delivery::held_row.is_not_null()))
        .group_by(destination::name)
        .order(destination::name)
        .select((destination::name, diesel::dsl::count_star()))
        .load(db)?)
}

#[cfg(test)]
mod tests;
