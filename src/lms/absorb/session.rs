//! The one token: Absorb keeps a single token for a user, and a new login kills the former one.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tracing::info;

use super::AbsorbSettings;
use crate::domain::time::{Clock, Timestamp};
use crate::lms::LmsError;

/// A token lives 4 hours; it is renewed at 70 % of that, in milliseconds.
const RENEW_AFTER_MS: i64 = 4 * 3_600_000 * 7 / 10;

/// After a refused login the next one waits this long: a wrong password must not lock the account.
const REFUSED_MS: i64 = 60_000;

/// Where the token is kept across restarts, and logins are counted.
#[async_trait]
pub trait TokenVault: Send + Sync {
    /// The kept token.
    async fn load(&self) -> Option<StoredToken>;

    /// Keeps a token, or forgets it.
    async fn save(&self, token: Option<StoredToken>);

    /// Takes one of the logins that an hour allows.
    ///
    /// # Errors
    /// None is left; the words say until when.
    async fn reserve_login(&self) -> Result<(), String>;
}

/// A token and its age.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// The token.
    pub token: String,
    /// When it was obtained.
    pub obtained_at: Timestamp,
}

/// Hands out the token; one task at a time obtains a new one, all others wait for it.
pub(super) struct Session {
    vault: Arc<dyn TokenVault>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_loaded: bool,
    token: Option<StoredToken>,
    refused: Option<(Timestamp, String)>,
}

impl Session {
    pub(super) fn new(vault: Arc<dyn TokenVault>, clock: Arc<dyn Clock>) -> Self {
        Self { vault, clock, state: Mutex::default() }
    }

    /// The current token; logs in when there is none, or it is old.
    pub(super) async fn token(&self, http: &reqwest::Client, settings: &AbsorbSettings) -> Result<String, LmsError> {
        let mut state = self.state.lock().await;
        if !state.is_loaded {
            state.token = self.vault.load().await;
            state.is_loaded = true;
        }
        match &state.token {
            Some(kept) if self.clock.now().0 - kept.obtained_at.0 < RENEW_AFTER_MS => Ok(kept.token.clone()),
            Some(_) | None => self.renew(&mut state, http, settings).await,
        }
    }

    /// A token other than the one that was refused; only the first of many who come with it logs in.
    pub(super) async fn replace(
        &self,
        refused: &str,
        http: &reqwest::Client,
        settings: &AbsorbSettings,
    ) -> Result<String, LmsError> {
        let mut state = self.state.lock().await;
        match &state.token {
            Some(kept) if kept.token != refused => Ok(kept.token.clone()),
            Some(_) | None => self.renew(&mut state, http, settings).await,
        }
    }

    async fn renew(
        &self,
        state: &mut State,
        http: &reqwest::Client,
        settings: &AbsorbSettings,
    ) -> Result<String, LmsError> {
        let now = self.clock.now();
        if let Some((at, words)) = &state.refused
            && now.0 - at.0 < REFUSED_MS
        {
            return Err(LmsError::Unauthorized(words.clone()));
        }
        self.vault.reserve_login().await.map_err(LmsError::LoginLimit)?;
        info!(portal = settings.portal, "Logging in to the LMS");
        match login(http, settings).await {
            Ok(token) => {
                let stored = StoredToken { token: token.clone(), obtained_at: now };
                state.refused = None;
                state.token = Some(stored.clone());
                self.vault.save(Some(stored)).await;
                Ok(token)
            }
            Err(error) => {
                if let LmsError::Unauthorized(words) = &error {
                    state.refused = Some((now, words.clone()));
                    state.token = None;
                }
                Err(error)
            }
        }
    }
}

/// `POST /authenticate` answers the token as a bare JSON string.
async fn login(http: &reqwest::Client, settings: &AbsorbSettings) -> Result<String, LmsError> {
    let url = format!("{}/authenticate", settings.url.trim_end_matches('/'));
    let body = json!({
        "username": settings.username,
        "password": settings.password,
        "privateKey": settings.api_key,
    });
    let response = http
        .post(url)
        .header("x-api-key", &settings.api_key)
        .header("x-api-version", "2")
        .json(&body)
        .send()
        .await
        .map_err(|error| LmsError::Unavailable(format!("the login did not get through: {}", error.without_url())))?;
    let status = response.status().as_u16();
    let retry_after = super::client::retry_after(&response);
    let text = response
        .text()
        .await
        .map_err(|error| LmsError::Unavailable(format!("the login's answer broke off: {}", error.without_url())))?;
    match status {
        200..=299 => {
            token_in(&text).ok_or_else(|| LmsError::Misunderstood("the login's answer holds no token".to_owned()))
        }
        400 | 401 | 403 => Err(LmsError::Unauthorized(format!(
            "the login is refused (HTTP {status}): check api_key, username and password of portal {}",
            settings.portal
        ))),
        429 => Err(LmsError::Throttled(retry_after)),
        _ => Err(LmsError::Unavailable(format!("the login answers HTTP {status}"))),
    }
}

fn token_in(text: &str) -> Option<String> {
    let token = match serde_json::from_str::<Value>(text.trim()) {
        Ok(Value::String(token)) => token,
        Ok(Value::Object(object)) => {
            ["token", "access_token", "Token"].iter().find_map(|key| object.get(*key))?.as_str()?.to_owned()
        }
        Ok(_) => return None,
        Err(_) => text.trim().to_owned(),
    };
    let fits = !token.is_empty() && token.len() <= 8_192 && token.chars().all(|c| c.is_ascii_graphic());
    fits.then_some(token)
}
