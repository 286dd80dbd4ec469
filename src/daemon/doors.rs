//! Where rooms that must not know each other meet: the receiver's inbox and the LMS client's vault are the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tracing::warn;

use crate::domain::event::{EventName, RawEvent, Reading};
use crate::domain::lane::LmsUse;
use crate::domain::time::Timestamp;
use crate::fail_point;
use crate::http::{Inbox, InboxError, Recognised};
use crate::lms::absorb::payload::{self, Aliases};
use crate::lms::absorb::{Grant, StoredToken, TokenVault};
use crate::pipeline::intake::ReadEvent;
use crate::pipeline::worker::Bell;
use crate::store::{KeptGrant, Store, StoreError, TokenKey};
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
    /// None where no portal logs in by OAuth.
    pub(super) token_key: Option<TokenKey>,
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

    async fn load_grant(&self) -> Option<Grant> {
        let key = self.token_key.clone()?;
        let loaded = match self.store.load_grant(&self.portal, key).await {
            Ok(bytes) => {
                bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string())).transpose()
            }
            Err(error) => Err(error.to_string()),
        };
        loaded.unwrap_or_else(|error| {
            let portal = &self.portal;
            warn!(
                portal,
                error,
                "The kept login cannot be read; is store.token_key another than before? Run `learnsync login {portal}`"
            );
            None
        })
    }

    async fn save_grant(&self, grant: Option<Grant>) -> Result<(), String> {
        let Some(key) = self.token_key.clone() else { return Err("there is no store.token_key".to_owned()) };
        let kept = grant.map(|grant| KeptGrant {
            bytes: serde_json::to_vec(&grant).expect("a grant is plain data"),
            obtained_at: grant.obtained_at,
            ends_at: grant.ends_at,
        });
        self.store.save_grant(&self.portal, key, kept).await.map_err(|error| error.to_string())
    }

    async fn asked_until(&self) -> Option<Timestamp> {
        self.store.asked_until(&self.portal).await.unwrap_or_else(|error| {
            warn!(portal = self.portal, %error, "Whether the LMS asked us to wait cannot be read");
            None
        })
    }

    async fn keep_asked_until(&self, until: Timestamp) {
        if let Err(error) = self.store.keep_asked_until(&self.portal, until).await {
            warn!(portal = self.portal, %error, "A restart will not know that the LMS asked us to wait until {until}");
        }
    }

    async fn keep_use(&self, used: LmsUse) {
        if let Err(error) = self.store.keep_use(&self.portal, used).await {
            warn!(portal = self.portal, %error, "What the calls of the last hour were for could not be kept");
        }
    }

    async fn note_contest(&self) {
        if let Err(error) = self.store.note_contest(&self.portal).await {
            warn!(portal = self.portal, %error, "The status will not tell that another program uses the same account");
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
