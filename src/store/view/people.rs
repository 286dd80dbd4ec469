//! Who learners are in a destination, person by person; what a trial of other rules is compared with.

use diesel::prelude::*;
use learnsync_sdk::Learner;

use super::View;
use crate::domain::ids::{DestinationId, SubjectId};
use crate::store::StoreError;
use crate::store::queue::from_json;
use crate::store::schema::{link, person};
use crate::store::seal::person_scope;

/// People who are read at once.
const PERSONS_AT_ONCE: i64 = 200;

/// A learner, and who the ledger says that they are.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownPerson {
    /// What the LMS knows of them. Personal.
    pub learner: Learner,
    /// The person in the target; none where nobody was found, or several.
    pub person: Option<String>,
    /// Whether a person said so: no rule is asked.
    pub is_pinned: bool,
}

type Row = (i64, i64, Option<Vec<u8>>, (Option<String>, Option<String>, Option<i64>));

impl View {
    /// The next learners of the ledger behind this one, without the erased, and who they are in a destination. Answers the last one's number;
    /// none at the end.
    ///
    /// # Errors
    /// The store failed, or a person's key is gone.
    pub fn known_people(
        &mut self,
        destination_id: DestinationId,
        after: i64,
    ) -> Result<(Vec<KnownPerson>, Option<i64>), StoreError> {
        let here = link::person_id.eq(person::id).and(link::destination_id.eq(destination_id.0));
        let rows: Vec<Row> = person::table
            .left_join(link::table.on(here))
            .filter(person::id.gt(after).and(person::state.ne("erased")))
            .order(person::id)
            .limit(PERSONS_AT_ONCE)
            .select((
                person::id,
                person::subject_id,
                person::profile,
                (link::state.nullable(), link::remote_person.nullable(), link::is_pinned.nullable()),
            ))
            .load(&mut self.db)?;
        let last = rows.last().map(|(id, ..)| *id);
        let mut people = Vec::with_capacity(rows.len());
        for (_, subject, profile, (state, remote, pinned)) in rows {
            let Some(profile) = profile else { continue };
            let learner = from_json(&self.sealer.open_sealed(&person_scope(SubjectId(subject)), &profile)?)?;
            people.push(KnownPerson {
                learner,
                person: remote.filter(|_| state.as_deref() == Some("linked")),
                is_pinned: pinned == Some(1),
            });
        }
        Ok((people, last))
    }
}
