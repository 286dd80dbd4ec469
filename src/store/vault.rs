//! What must outlive a restart of our dealings with an LMS: its sealed token, the count of logins (a second one would kill the first
//! token), and a wait that it asked for.

use diesel::prelude::*;

use super::schema::{login, portal};
use super::{Store, StoreError};
use crate::domain::time::Timestamp;

/// Most logins in one hour, also across restarts: a crash loop must not lock the account.
pub const LOGINS_PER_HOUR_MAX: i64 = 4;

const HOUR_MS: i64 = 3_600_000;

impl Store {
    /// The portal's token and when it was obtained.
    ///
    /// # Errors
    /// The store failed, or the token's key is gone.
    pub async fn load_token(&self, name: &str) -> Result<Option<(String, Timestamp)>, StoreError> {
        let name = name.to_owned();
        self.writer
            .run("load_token", move |tx| {
                let found: Option<(Option<Vec<u8>>, Option<i64>)> = portal::table
                    .filter(portal::name.eq(&name))
                    .select((portal::token, portal::token_obtained_at))
                    .first(tx.db)
                    .optional()?;
                let Some((Some(sealed), Some(at))) = found else { return Ok(None) };
                let plain = tx.sealer.open_sealed(&format!("portal/{name}"), &sealed)?;
                Ok(Some((String::from_utf8_lossy(&plain).into_owned(), Timestamp(at))))
            })
            .await
    }

    /// Keeps the portal's token, or forgets it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn save_token(&self, name: &str, token: Option<(String, Timestamp)>) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.writer
            .run("save_token", move |tx| {
                let id = super::log::portal_id(tx.db, &name)?;
                let sealed = match &token {
                    Some((token, _)) => Some(tx.seal(&format!("portal/{name}"), token.as_bytes())?),
                    None => None,
                };
                diesel::update(portal::table.find(id))
                    .set((portal::token.eq(sealed), portal::token_obtained_at.eq(token.map(|(_, at)| at.0))))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Keeps until when a portal is left alone, and why, so that a restart keeps to it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn rest_portal(&self, name: &str, cause: &'static str, until: Timestamp) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.writer
            .run("rest_portal", move |tx| {
                let id = super::log::portal_id(tx.db, &name)?;
                diesel::update(portal::table.find(id))
                    .set((portal::rests_until.eq(until.0), portal::rest_cause.eq(cause)))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Until when an earlier life of the daemon was to leave a portal alone.
    ///
    /// # Errors
    /// The store failed.
    pub async fn portal_rests_until(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        let name = name.to_owned();
        self.writer
            .run("portal_rests_until", move |tx| {
                let until: Option<Option<i64>> =
                    portal::table.filter(portal::name.eq(&name)).select(portal::rests_until).first(tx.db).optional()?;
                Ok(until.flatten().map(Timestamp))
            })
            .await
    }

    /// Takes one of the hour's logins; when they are used up, answers when the next is free.
    ///
    /// # Errors
    /// The store failed.
    pub async fn reserve_login(&self, name: &str) -> Result<Result<(), Timestamp>, StoreError> {
        let name = name.to_owned();
        let now = self.clock.now().0;
        self.writer
            .run("reserve_login", move |tx| {
                let id = super::log::portal_id(tx.db, &name)?;
                let of_portal = login::table.filter(login::portal_id.eq(id));
                diesel::delete(of_portal.filter(login::at.le(now - HOUR_MS))).execute(tx.db)?;
                let taken: i64 = of_portal.count().get_result(tx.db)?;
                if taken >= LOGINS_PER_HOUR_MAX {
                    let first: Option<i64> = login::table
                        .filter(login::portal_id.eq(id))
                        .select(diesel::dsl::min(login::at))
                        .first(tx.db)?;
                    return Ok(Err(Timestamp(first.unwrap_or(now) + HOUR_MS)));
                }
                diesel::insert_into(login::table)
                    .values((login::portal_id.eq(id), login::at.eq(now)))
                    .execute(tx.db)?;
                Ok(Ok(()))
            })
            .await
    }
}
