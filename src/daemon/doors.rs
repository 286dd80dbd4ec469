//! Where rooms that must not know each other meet: the receiver's inbox and the LMS client's vault are the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tracing::warn;

use crate::domain::event::{EventName, RawEvent, Reading};
use crate::domain::time::Timestamp;
use crate::fail_point;
use crate::http::{Inbox, InboxError, Recognised};
use crate::lms::absorb::payload::{self, Aliases};
use crate::lms::absorb::{StoredToken, TokenVault};
use crate::pipeline::intake::ReadEvent;
use crate::pipeline::worker::Bell;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// The receiver's way into the event log.
pub struct StoreInbox {
    /// The ledger.
    pub store: Arc<Store>,
    /// Rung when an event was kept.
    pub intake: Arc<Bell>,
    /// Counts webhooks.
    pub metrics: Arc<Metrics>,
}

#[async_trait]
impl Inbox for StoreInbox {
    async fn append_event(&self, event: RawEvent) -> Result<i64, InboxError> {
        if fail_point::is_broken_on_purpose("commit") {
            // The crash test proves with this that it would notice an answer before the commit.
            let (store, intake) = (Arc::clone(&self.store), Arc::clone(&self.intake));
            tokio::spawn(async move {
                let _lost = store.append_event(event).await;
                intake.ring();
            });
            return Ok(0);
        }
        let portal = event.portal.clone();
        let kept = self.store.append_event(event).await;
        fail_point::reach(fail_point::BEFORE_ANSWER);
        self.intake.ring();
        let outcome = match &kept {
            Ok(_) => "accepted",
            Err(StoreError::Full(_)) => "full",
            Err(_) => "unavailable",
        };
        self.metrics.hook_received(&portal, outcome);
        kept.map_err(|error| match error {
            StoreError::Full(words) => InboxError::Full(words),
            other => InboxError::Unavailable(other.to_string()),
        })
    }
}

/// The LMS client's sealed token.
pub(super) struct StoreVault {
    pub(super) store: Arc<Store>,
    pub(super) portal: String,
}

#[async_trait]
impl TokenVault for StoreVault {
    async fn load(&self) -> Option<StoredToken> {
        match self.store.load_token(&self.portal).await {
            Ok(found) => found.map(|(token, obtained_at)| StoredToken { token, obtained_at }),
            Err(error) => {
                warn!(portal = self.portal, %error, "The kept LMS token cannot be read; logging in anew");
                None
            }
        }
    }

    async fn save(&self, token: Option<StoredToken>) {
        let token = token.map(|stored| (stored.token, stored.obtained_at));
        if let Err(error) = self.store.save_token(&self.portal, token).await {
            warn!(portal = self.portal, %error, "The LMS token could not be kept; a restart will log in anew");
        }
    }

    async fn reserve_login(&self) -> Result<(), String> {
        match self.store.reserve_login(&self.portal).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(free_at)) => Err(refusal(&self.portal, free_at)),
            Err(error) => Err(format!("the login could not be counted: {error}")),
        }
    }
}

fn refusal(portal: &str, free_at: Timestamp) -> String {
    format!(
        "portal {portal}: 4 logins in the last hour, the next is free at {free_at}; \
         does another program use the same account? Each of its logins ends ours"
    )
}

/// The names of events that each portal's configuration adds.
pub(super) type PortalAliases = Arc<BTreeMap<String, Aliases>>;

fn read(aliases: &PortalAliases, event: &RawEvent) -> Vec<Reading> {
    payload::read(event, aliases.get(&event.portal).unwrap_or(&Aliases::default()))
}

/// How intake reads a raw event.
pub(super) fn read_event(aliases: PortalAliases) -> ReadEvent {
    Arc::new(move |event| {
        let with_text = |reading: Reading| {
            let text = payload::dedupe_text(&event.portal, &reading, event);
            (reading, text)
        };
        read(&aliases, event).into_iter().map(with_text).collect()
    })
}

/// How the receiver knows the Test button, and what it tells the administrator.
pub(super) fn recognise(aliases: PortalAliases) -> Arc<dyn Fn(&RawEvent) -> Recognised + Send + Sync> {
    Arc::new(move |event| {
        let readings = read(&aliases, event);
        Recognised {
            is_test: readings.iter().all(|reading| reading.name == EventName::Test),
            words: payload::describe(&readings),
        }
    })
}
