//! Reading back what our places hold.

use learnsync_sdk::{DeliveryError, Observation, Place};

use crate::Destination;
use crate::deliver::{Shelf, Shelves};
use crate::objects::Object;

/// Reads all places back; one observation per place, in their order.
pub(crate) async fn observe(destination: &Destination, batch: &[Place]) -> Vec<Result<Observation, DeliveryError>> {
    let mut shelves = Shelves::new(destination);
    let mut observations = Vec::with_capacity(batch.len());
    for place in batch {
        observations.push(one(&mut shelves, place).await);
    }
    observations
}

async fn one(shelves: &mut Shelves<'_>, place: &Place) -> Result<Observation, DeliveryError> {
    let object = shelves.object(&place.object)?;
    let shelf = shelves.take(object.as_ref(), &place.object, &place.person).await?;
    let observation = seen(object.as_ref(), &shelf, &place.mark);
    shelves.give_back(place.object.clone(), place.person.clone(), shelf);
    Ok(observation)
}

/// Only the mark counts: a row whose mark somebody took away is not ours any more, even if we know its id.
fn seen(object: &dyn Object, shelf: &Shelf, mark: &str) -> Observation {
    let ours: Vec<_> = shelf.carrying(object, mark).map(|(_, row)| row).collect();
    match ours.as_slice() {
        [] => Observation::Absent,
        [row] => Observation::Holds { row: row.id.clone(), fields: object.observed(row, mark) },
        several => Observation::Several { rows: several.iter().map(|row| row.id.clone()).collect() },
    }
}
