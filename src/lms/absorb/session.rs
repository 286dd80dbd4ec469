//! The token: one for the account, renewed by one caller at a time, and never more logins than the limit allows.
//!
//! Absorb keeps one token per account: a login anywhere kills the former token, and it lives for 4 hours
//! (<https://docs.myabsorb.com/integration-api/v2/docs>).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::row::Row;
use super::wire::{Reply, Wire, WireError};
use crate::domain::time::{Clock, Timestamp};
use crate::lms::LmsError;

/// How long a token lives.
const LIFE: Duration = Duration::from_secs(4 * 3600);
/// When it is renewed: at 70 % of its life, which leaves 72 minutes for a login that does not succeed at once.
const RENEW_AFTER: Duration = Duration::from_secs(4 * 3600 * 7 / 10);
/// After a refused login none is tried for so long: accounts get locked.
const REFUSAL_PAUSE: Duration = Duration::from_secs(60);
/// After a login that failed otherwise none is tried for so long, so that waiting callers do not each try it.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);
/// A token that dies younger than this was most probably killed by another program's login.
const SUSPICIOUS_AGE: Duration = Duration::from_secs(3600);

/// A token and when we got it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// What goes after `Bearer`.
    pub token: String,
    /// When the login was answered.
    pub obtained_at: Timestamp,
}

impl fmt::Debug for StoredToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("StoredToken").field("obtained_at", &self.obtained_at).finish_non_exhaustive()
    }
}

/// Keeps the token across restarts, sealed, and counts logins.
#[async_trait]
pub trait TokenVault: Send + Sync {
    /// The token as last saved.
    async fn load(&self) -> Option<StoredToken>;

    /// Keeps the token; `None` forgets it.
    async fn save(&self, token: Option<StoredToken>);

    /// Reserves one login.
    ///
    /// # Errors
    /// In words, when the logins of the last hour are used up.
    async fn reserve_login(&self) -> Result<(), String>;
}

/// Who logs in.
pub(super) struct Account {
    pub(super) portal: String,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) api_key: String,
}

/// The account's session.
pub(super) struct Session {
    account: Account,
    vault: Arc<dyn TokenVault>,
    clock: Arc<dyn Clock>,
    // Held during a login, on purpose: who comes meanwhile waits for its token instead of killing it with another login.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether the vault was asked.
    recalled: bool,
    token: Option<StoredToken>,
    /// A login that was reserved and certainly gave no token: the next try uses it up, so that an outage does not eat the limit.
    reserved: bool,
    failure: Option<Failure>,
}

/// The last login, when it failed.
struct Failure {
    at: Timestamp,
    error: LmsError,
}

impl Failure {
    /// Whether it is too early for another login.
    fn holds(&self, now: Timestamp) -> bool {
        let pause = if matches!(self.error, LmsError::Unauthorized(_)) { REFUSAL_PAUSE } else { FAILURE_PAUSE };
        // A clock that was set back must not prolong the pause.
        age(self.at, now).is_some_and(|age| age < pause)
    }
}

/// A failed login.
struct LoginError {
    error: LmsError,
    /// Whether it may have made a token, or counts as a wrong password: then its reservation is used up.
    counts: bool,
}

impl Session {
    pub(super) fn new(account: Account, vault: Arc<dyn TokenVault>, clock: Arc<dyn Clock>) -> Self {
        Self { account, vault, clock, state: Mutex::default() }
    }

    /// A token to use now.
    pub(super) async fn token(&self, wire: &Wire) -> Result<String, LmsError> {
        let mut state = self.state.lock().await;
        if !state.recalled {
            state.token = self.vault.load().await;
            state.recalled = true;
        }
        let Some(held) = state.token.clone() else { return self.log_in(&mut state, wire).await };
        match age(held.obtained_at, self.clock.now()) {
            Some(age) if age < RENEW_AFTER => Ok(held.token),
            Some(age) if age < LIFE => match self.log_in(&mut state, wire).await {
                Err(LmsError::Unauthorized(words)) => Err(LmsError::Unauthorized(words)),
                // The old token still lives: it carries us over a login that does not work just now.
                Err(_) => Ok(held.token),
                renewed => renewed,
            },
            _ => self.log_in(&mut state, wire).await,
        }
    }

    /// A token instead of one that was refused: another caller's, when there is one by now, else from one login.
    pub(super) async fn replace(&self, refused: &str, wire: &Wire) -> Result<String, LmsError> {
        let mut state = self.state.lock().await;
        if let Some(held) = &state.token {
            if held.token != refused {
                return Ok(held.token.clone());
            }
            let lived = age(held.obtained_at, self.clock.now());
            if lived.is_some_and(|age| age < SUSPICIOUS_AGE) {
                warn!(
                    portal = %self.account.portal,
                    lived_seconds = lived.unwrap_or_default().as_secs(),
                    "The LMS token died early: another program probably logs in with the same account"
                );
            }
        }
        self.log_in(&mut state, wire).await
    }

    /// Notes that even a new token is refused, so that calls do not log in again and again.
    pub(super) async fn note_refusal(&self, words: &str) {
        let error = LmsError::Unauthorized(words.to_owned());
        self.state.lock().await.failure = Some(Failure { at: self.clock.now(), error });
    }

    async fn log_in(&self, state: &mut State, wire: &Wire) -> Result<String, LmsError> {
        if let Some(failure) = &state.failure
            && failure.holds(self.clock.now())
        {
            return Err(failure.error.clone());
        }
        if !state.reserved {
            self.vault.reserve_login().await.map_err(|limit| match &state.failure {
                // The reason why we tried so often says more than that we did.
                Some(Failure { error: LmsError::Unauthorized(words), .. }) => {
                    LmsError::Unauthorized(format!("{words}; {limit}"))
                }
                Some(_) | None => LmsError::LoginLimit(limit),
            })?;
        }
        // Counts as used up while the login is under way: who is dropped in the middle of it cannot tell whether it happened.
        state.reserved = false;
        match self.authenticate(wire).await {
            Ok(token) => {
                let held = StoredToken { token: token.clone(), obtained_at: self.clock.now() };
                self.vault.save(Some(held.clone())).await;
                *state = State { recalled: true, token: Some(held), reserved: false, failure: None };
                info!(portal = %self.account.portal, "Logged in to the LMS");
                Ok(token)
            }
            Err(LoginError { error, counts }) => {
                state.reserved = !counts;
                if matches!(error, LmsError::Unauthorized(_)) {
                    state.token = None;
                    self.vault.save(None).await;
                }
                warn!(portal = %self.account.portal, %error, "The login to the LMS failed");
                state.failure = Some(Failure { at: self.clock.now(), error: error.clone() });
                Err(error)
            }
        }
    }

    async fn authenticate(&self, wire: &Wire) -> Result<String, LoginError> {
        let Account { username, password, api_key, .. } = &self.account;
        let body = json!({ "username": username, "password": password, "privateKey": api_key });
        let reply = wire.post("/authenticate", &body).await.map_err(|error| match error {
            WireError::Unbuildable(words) => LoginError { error: LmsError::Misunderstood(words), counts: false },
            WireError::Broken { words, never_arrived } => {
                LoginError { error: LmsError::Unavailable(format!("login: {words}")), counts: !never_arrived }
            }
            WireError::TooLarge => LoginError {
                error: LmsError::Misunderstood("the login's answer is too large".to_owned()),
                counts: true,
            },
        })?;
        if !(200..300).contains(&reply.status) {
            return Err(self.refused(&reply));
        }
        read_token(&reply.body).ok_or_else(|| LoginError {
            error: LmsError::Misunderstood("the login's answer holds no token".to_owned()),
            counts: true,
        })
    }

    fn refused(&self, reply: &Reply) -> LoginError {
        let words = format!("login: {}", self.discreet(reply.words()));
        match (reply.pause(), reply.status) {
            (Some(pause), _) => LoginError { error: LmsError::Throttled(pause), counts: false },
            // Absorb documents 400 for missing parameters; in practice it also means wrong ones.
            (None, 400 | 401 | 403) => LoginError { error: LmsError::Unauthorized(words), counts: true },
            (None, 408 | 425 | 500..=599) => LoginError { error: LmsError::Unavailable(words), counts: false },
            (None, _) => {
                let words = format!("{words}; is the portal's url the API's host of its region?");
                LoginError { error: LmsError::Misunderstood(words), counts: false }
            }
        }
    }

    /// The vendor's words, unless they repeat what must not be logged.
    fn discreet(&self, words: String) -> String {
        let Account { username, password, api_key, .. } = &self.account;
        let tells = |secret: &String| !secret.is_empty() && words.contains(secret.as_str());
        if [username, password, api_key].into_iter().any(tells) { "words withheld".to_owned() } else { words }
    }
}

/// How old something is; `None` when it lies in the future, because a clock was set back.
fn age(since: Timestamp, now: Timestamp) -> Option<Duration> {
    u64::try_from(now.0.saturating_sub(since.0)).ok().map(Duration::from_millis)
}

/// Reads the token: a JSON text as documented, an object that holds one, or the bare text.
fn read_token(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim().trim_start_matches('\u{feff}');
    let token = match serde_json::from_str::<Value>(text) {
        Ok(Value::String(token)) => token.trim().to_owned(),
        Ok(value @ Value::Object(_)) => Row::of(&value).ok()?.text(&["token", "accesstoken"])?,
        Ok(_) => return None,
        Err(_) => text.to_owned(),
    };
    let is_token =
        !token.is_empty() && token.bytes().all(|letter| letter.is_ascii_graphic()) && !token.starts_with('<');
    is_token.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_read_from_a_json_text_an_object_or_bare_text() {
        let table: [(&str, Option<&str>); 9] = [
            (r#""abc.DEF=""#, Some("abc.DEF=")),
            ("\u{feff}\"abc\"\r\n", Some("abc")),
            (r#"{"token":"abc"}"#, Some("abc")),
            (r#"{"access_token":"abc","expires_in":1}"#, Some("abc")),
            ("abc.DEF=", Some("abc.DEF=")),
            ("<html></html>", None),
            ("Service is starting", None),
            (r#"{"error":"no"}"#, None),
            ("", None),
        ];
        for (body, token) in table {
            assert_eq!(read_token(body.as_bytes()).as_deref(), token, "{body:?}");
        }
    }

    #[test]
    fn a_token_is_not_shown_by_debug() {
        let token = StoredToken { token: "sesame".to_owned(), obtained_at: Timestamp(7) };
        assert!(!format!("{token:?}").contains("sesame"));
    }
}
