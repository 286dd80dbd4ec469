//! What must outlive a restart of our dealings with an LMS: its sealed token, the count of logins (a second one would kill the first
//! token), and a wait that it asked for.

use diesel::prelude::*;

use super::schema::{login, mark, portal};
use super::seal::TokenKey;
use super::{Store, StoreError};
use crate::domain::lane::LmsUse;
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
                let plain = tx.sealer.open_sealed(&token_scope(&name), &sealed)?;
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
                    Some((token, _)) => Some(tx.seal(&token_scope(&name), token.as_bytes())?),
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

    /// Until when the LMS asked to leave the portal alone, as far as is known.
    ///
    /// # Errors
    /// The store failed.
    pub async fn asked_until(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        let name = name.to_owned();
        self.writer
            .run("asked_until", move |tx| {
                let until: Option<Option<i64>> =
                    portal::table.filter(portal::name.eq(&name)).select(portal::asked_until).first(tx.db).optional()?;
                Ok(until.flatten().map(Timestamp))
            })
            .await
    }

    /// Keeps until when the LMS asked to leave the portal alone; a later time stands.
    ///
    /// # Errors
    /// The store failed.
    pub async fn keep_asked_until(&self, name: &str, until: Timestamp) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.writer
            .run("keep_asked_until", move |tx| {
                let id = super::log::portal_id(tx.db, &name)?;
                let earlier = portal::asked_until.is_null().or(portal::asked_until.lt(until.0));
                diesel::update(portal::table.find(id).filter(earlier))
                    .set(portal::asked_until.eq(until.0))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Keeps what the calls of the last hour were for.
    ///
    /// # Errors
    /// The store failed.
    pub async fn keep_use(&self, name: &str, used: LmsUse) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.writer
            .run("keep_use", move |tx| {
                let id = super::log::portal_id(tx.db, &name)?;
                let text = serde_json::to_string(&used).expect("counts are plain data");
                diesel::update(portal::table.find(id)).set(portal::budget_use.eq(text)).execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Counts that another program's login ended our session.
    ///
    /// # Errors
    /// The store failed.
    pub async fn note_contest(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        let now = self.clock.now().0;
        self.writer
            .run("note_contest", move |tx| {
                let id = super::log::portal_id(tx.db, &name)?;
                diesel::update(portal::table.find(id))
                    .set((portal::contests.eq(portal::contests + 1), portal::contested_at.eq(now)))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// The portal's login by OAuth, as its sealed bytes; opened with the key that the configuration names and with the installation's.
    ///
    /// # Errors
    /// The store failed, or one of the keys is another than the one that sealed it.
    pub async fn load_grant(&self, name: &str, key: TokenKey) -> Result<Option<Vec<u8>>, StoreError> {
        let name = name.to_owned();
        self.writer
            .run("load_grant", move |tx| {
                let found: Option<Option<Vec<u8>>> =
                    portal::table.filter(portal::name.eq(&name)).select(portal::grant_token).first(tx.db).optional()?;
                let Some(sealed) = found.flatten() else { return Ok(None) };
                let scope = grant_scope(&name);
                let inner = tx.sealer.open_sealed(&scope, &sealed)?;
                Ok(Some(key.open(&scope, &inner)?))
            })
            .await
    }

    /// Keeps the portal's login by OAuth with its life, or forgets it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn save_grant(&self, name: &str, key: TokenKey, grant: Option<KeptGrant>) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.writer
            .run("save_grant", move |tx| {
                let id = super::log::portal_id(tx.db, &name)?;
                let scope = grant_scope(&name);
                let sealed = match &grant {
                    Some(grant) => {
                        let inner = key.seal(&scope, &grant.bytes, tx.entropy);
                        Some(tx.seal(&scope, &inner)?)
                    }
                    None => None,
                };
                diesel::update(portal::table.find(id))
                    .set((
                        portal::grant_token.eq(sealed),
                        portal::grant_obtained_at.eq(grant.as_ref().map(|grant| grant.obtained_at.0)),
                        portal::grant_ends_at.eq(grant.as_ref().map(|grant| grant.ends_at.0)),
                    ))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Ends a rest that no longer has a reason, because a person logged in.
    ///
    /// # Errors
    /// The store failed.
    pub async fn wake_portal(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.writer
            .run("wake_portal", move |tx| {
                let rests = portal::table.filter(portal::name.eq(&name)).filter(portal::rest_cause.ne("throttled"));
                diesel::update(rests)
                    .set((portal::rests_until.eq(None::<i64>), portal::rest_cause.eq(None::<String>)))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// How many learners wait for portals other than these, by portal.
    ///
    /// # Errors
    /// The store failed.
    pub async fn marks_elsewhere(&self, configured: Vec<String>) -> Result<Vec<(String, i64)>, StoreError> {
        self.writer
            .run("marks_elsewhere", move |tx| {
                Ok(mark::table
                    .inner_join(portal::table.on(portal::id.eq(mark::portal_id)))
                    .filter(portal::name.ne_all(configured))
                    .group_by(portal::name)
                    .select((portal::name, diesel::dsl::count_star()))
                    .load(tx.db)?)
            })
            .await
    }
}

/// A login by OAuth as the store keeps it.
pub struct KeptGrant {
    /// All of it; sealed.
    pub bytes: Vec<u8>,
    /// When it was given; in plain sight, for `status`.
    pub obtained_at: Timestamp,
    /// When it ends.
    pub ends_at: Timestamp,
}

/// Under which key the token of a portal's session is sealed.
pub(super) fn token_scope(name: &str) -> String {
    format!("portal/{name}")
}

/// Under which key a portal's login by OAuth is sealed.
pub(super) fn grant_scope(name: &str) -> String {
    format!("portal/{name}/grant")
}

#[cfg(test)]
mod tests;
