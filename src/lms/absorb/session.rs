//! The token: one for the account, renewed by one caller at a time, and never more logins than the limit allows.
//! It comes from a password, or from a login by OAuth.
//!
//! Absorb keeps one token per account: a login anywhere kills the former token, and it lives for 4 hours
//! (<https://docs.myabsorb.com/integration-api/v2/docs>).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use learnsync_sdk::RetryAfter;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::oauth::{self, Grant, OAuthClient};
use super::row::Row;
use super::wire::{Reply, Wire, WireError};
use crate::domain::lane::{Lane, LmsUse};
use crate::domain::time::{Clock, Timestamp};
use crate::lms::LmsError;

/// How long a token lives, unless the portal says otherwise.
pub const TOKEN_LIFE: Duration = Duration::from_secs(4 * 3600);
/// When it is renewed: at 70 % of its life, which leaves 72 minutes for a login that does not succeed at once.
const RENEW_PERCENT: u32 = 70;
/// After a refused login none is tried for so long: accounts get locked.
const REFUSAL_PAUSE: Duration = Duration::from_secs(60);
/// After a login that failed otherwise none is tried for so long, so that waiting callers do not each try it.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);
/// A token that dies younger than this was most probably killed by another program's login.
const SUSPICIOUS_AGE: Duration = Duration::from_secs(3600);
/// Two tokens that died so, in so long, are no accident.
const CONTEST_TIME: Duration = Duration::from_secs(15 * 60);

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

/// Keeps across restarts what the client must not forget: the token and the login by OAuth, both sealed, the logins of the hour, and until
/// when the portal asked to be left alone. Whoever only looks keeps nothing.
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

    /// The login by OAuth as last saved.
    async fn load_grant(&self) -> Option<Grant> {
        None
    }

    /// Keeps the login by OAuth; `None` forgets it.
    ///
    /// # Errors
    /// In words, when it could not be kept: a restart will need a new login.
    async fn save_grant(&self, _grant: Option<Grant>) -> Result<(), String> {
        Ok(())
    }

    /// Until when the portal asked to be left alone, as far as earlier lives know.
    async fn asked_until(&self) -> Option<Timestamp> {
        None
    }

    /// Keeps until when the portal asked to be left alone. Never shortens it.
    async fn keep_asked_until(&self, _until: Timestamp) {}

    /// Keeps what the calls of the last hour were for; about once a minute.
    async fn keep_use(&self, _used: LmsUse) {}

    /// Keeps that another program's login ended our session.
    async fn note_contest(&self) {}
}

/// How we log in.
#[derive(Clone)]
pub enum Credentials {
    /// As an admin account that nobody else uses: each login kills the former token.
    Password {
        /// Its user name.
        username: String,
        /// Its password.
        password: String,
    },
    /// By OAuth 2: an administrator says yes once.
    OAuth(OAuthClient),
}

/// Who logs in.
pub(super) struct Account {
    pub(super) portal: String,
    pub(super) credentials: Credentials,
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
    grant: Option<Grant>,
    /// When tokens died young, and a new login worked.
    kicks: Vec<Timestamp>,
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
        let is_refusal = matches!(self.error, LmsError::Unauthorized(_));
        let pause = if is_refusal { REFUSAL_PAUSE } else { FAILURE_PAUSE };
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
    pub(super) async fn token(&self, wire: &Wire, lane: Lane) -> Result<String, LmsError> {
        let mut state = self.state.lock().await;
        self.recall(&mut state).await;
        let Some(held) = state.token.clone() else { return self.log_in(&mut state, wire, lane).await };
        let life = state.grant.as_ref().map_or(TOKEN_LIFE, |grant| Duration::from_secs(grant.access_seconds));
        match age(held.obtained_at, self.clock.now()) {
            Some(age) if age < life * RENEW_PERCENT / 100 => Ok(held.token),
            Some(age) if age < life => match self.log_in(&mut state, wire, lane).await {
                // A refusal forgets the token, too.
                Err(error) if state.token.is_none() => Err(error),
                // The old token still lives: it carries us over a login that does not work just now.
                Err(_) => Ok(held.token),
                renewed => renewed,
            },
            _ => self.log_in(&mut state, wire, lane).await,
        }
    }

    async fn recall(&self, state: &mut State) {
        if !state.recalled {
            state.token = self.vault.load().await;
            state.grant = self.vault.load_grant().await;
            state.recalled = true;
        }
    }

    /// A token instead of one that was refused: another caller's, when there is one by now, else from one login.
    pub(super) async fn replace(&self, refused: &str, wire: &Wire, lane: Lane) -> Result<String, LmsError> {
        let mut state = self.state.lock().await;
        let mut died_young = false;
        if let Some(held) = &state.token {
            if held.token != refused {
                return Ok(held.token.clone());
            }
            died_young = age(held.obtained_at, self.clock.now()).is_some_and(|age| age < SUSPICIOUS_AGE);
        }
        let token = self.log_in(&mut state, wire, lane).await?;
        if died_young {
            self.note_kick(&mut state).await;
        }
        Ok(token)
    }

    /// A token of ours died young, and the account is right: once that is an accident, twice in some minutes it is another program.
    async fn note_kick(&self, state: &mut State) {
        let now = self.clock.now();
        state.kicks.retain(|at| age(*at, now).is_some_and(|age| age < CONTEST_TIME));
        state.kicks.push(now);
        if state.kicks.len() < 2 {
            return;
        }
        state.kicks.clear();
        let portal = &self.account.portal;
        warn!(
            portal = %portal,
            "Another program logs in with the same account of portal {portal}: each login ends the other's session; give learnsync an account of its own"
        );
        self.vault.note_contest().await;
    }

    /// Takes the code of a login by OAuth: from now on its tokens are used, whatever failed before.
    pub(super) async fn redeem(&self, code: &str, wire: &Wire) -> Result<Grant, LmsError> {
        let Credentials::OAuth(client) = &self.account.credentials else {
            return Err(LmsError::Misunderstood("the portal is configured with a password, not with oauth".to_owned()));
        };
        let mut state = self.state.lock().await;
        let reply = wire.post_form(&client.token_url(), &client.form_for_code(code), Lane::Live).await;
        let reply = reply.map_err(|error| login_error(error).error)?;
        if !(200..300).contains(&reply.status) {
            return Err(match oauth::error_word(&reply).as_deref() {
                Some("invalid_grant") => LmsError::LoginNeeded(
                    "the portal does not take this code: it is good once and for a short time; log in again".to_owned(),
                ),
                _ => self.refused(&reply).error,
            });
        }
        let given = oauth::read_tokens(&reply.body, None, TOKEN_LIFE, self.clock.now()).ok_or_else(no_tokens)?;
        // Kept before it is used: the code is spent.
        self.vault.save_grant(Some(given.grant.clone())).await.map_err(LmsError::LoginNeeded)?;
        let held = StoredToken { token: given.access_token, obtained_at: self.clock.now() };
        self.vault.save(Some(held.clone())).await;
        *state = State { recalled: true, token: Some(held), grant: Some(given.grant.clone()), ..State::default() };
        info!(portal = %self.account.portal, ends_at = %given.grant.ends_at, "An administrator logged in to the LMS");
        Ok(given.grant)
    }

    /// Notes that even a new token is refused, so that calls do not log in again and again.
    pub(super) async fn note_refusal(&self, words: &str) {
        let error = LmsError::Unauthorized(words.to_owned());
        self.state.lock().await.failure = Some(Failure { at: self.clock.now(), error });
    }

    async fn log_in(&self, state: &mut State, wire: &Wire, lane: Lane) -> Result<String, LmsError> {
        self.recall(state).await;
        if matches!(self.account.credentials, Credentials::OAuth(_)) && state.grant.is_none() {
            return Err(self.login_needed());
        }
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
        match self.new_token(state, wire, lane).await {
            Ok(token) => {
                let held = StoredToken { token: token.clone(), obtained_at: self.clock.now() };
                self.vault.save(Some(held.clone())).await;
                state.token = Some(held);
                state.failure = None;
                info!(portal = %self.account.portal, "Logged in to the LMS");
                Ok(token)
            }
            Err(LoginError { error, counts }) => {
                state.reserved = !counts;
                match &error {
                    LmsError::Unauthorized(_) => {
                        state.token = None;
                        self.vault.save(None).await;
                    }
                    LmsError::LoginNeeded(_) => {
                        // By its own rules the portal never takes this refresh token again.
                        (state.token, state.grant) = (None, None);
                        self.vault.save(None).await;
                        let _told = self.vault.save_grant(None).await;
                    }
                    _ => {}
                }
                warn!(portal = %self.account.portal, %error, "The login to the LMS failed");
                state.failure = Some(Failure { at: self.clock.now(), error: error.clone() });
                Err(error)
            }
        }
    }

    async fn new_token(&self, state: &mut State, wire: &Wire, lane: Lane) -> Result<String, LoginError> {
        match (&self.account.credentials, state.grant.clone()) {
            (Credentials::Password { username, password }, _) => {
                self.authenticate(username, password, wire, lane).await
            }
            (Credentials::OAuth(client), Some(held)) => {
                let (token, grant) = self.refresh(client, &held, wire, lane).await?;
                state.grant = Some(grant);
                Ok(token)
            }
            (Credentials::OAuth(_), None) => Err(LoginError { error: self.login_needed(), counts: false }),
        }
    }

    fn login_needed(&self) -> LmsError {
        let portal = &self.account.portal;
        LmsError::LoginNeeded(format!("nobody is logged in to portal {portal}: run `learnsync login {portal}`"))
    }

    /// A new access token for the login by OAuth, which goes on as it was or is renewed with it.
    async fn refresh(
        &self,
        client: &OAuthClient,
        held: &Grant,
        wire: &Wire,
        lane: Lane,
    ) -> Result<(String, Grant), LoginError> {
        let form = client.form_for_refresh(&held.refresh_token);
        let reply = wire.post_form(&client.token_url(), &form, lane).await.map_err(login_error)?;
        let portal = &self.account.portal;
        if !(200..300).contains(&reply.status) {
            return Err(match oauth::error_word(&reply).as_deref() {
                Some("invalid_grant") => LoginError {
                    error: LmsError::LoginNeeded(format!(
                        "the login of portal {portal} has ended or was revoked: run `learnsync login {portal}`"
                    )),
                    counts: true,
                },
                _ => self.refused(&reply),
            });
        }
        let now = self.clock.now();
        let given = oauth::read_tokens(&reply.body, Some(held), TOKEN_LIFE, now)
            .ok_or_else(|| LoginError { error: no_tokens(), counts: true })?;
        if given.grant != *held
            && let Err(error) = self.vault.save_grant(Some(given.grant.clone())).await
        {
            warn!(portal = %portal, error, "The renewed login could not be kept; a restart may need a new one");
        }
        if given.grant.ends_soon(now) {
            let ends_at = given.grant.ends_at;
            warn!(
                portal = %portal, %ends_at,
                "The OAuth login of portal {portal} ends on {}: run `learnsync login {portal}`",
                ends_at.utc().format("%Y-%m-%d")
            );
        }
        Ok((given.access_token, given.grant))
    }

    async fn authenticate(
        &self,
        username: &str,
        password: &str,
        wire: &Wire,
        lane: Lane,
    ) -> Result<String, LoginError> {
        let body = json!({ "username": username, "password": password, "privateKey": self.account.api_key });
        let reply = wire.post("/authenticate", &body, lane).await.map_err(login_error)?;
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
        let (who, secret) = match &self.account.credentials {
            Credentials::Password { username, password } => (username, password),
            Credentials::OAuth(client) => (&client.client_id, &client.client_secret),
        };
        let tells = |secret: &String| !secret.is_empty() && words.contains(secret.as_str());
        if [who, secret, &self.account.api_key].into_iter().any(tells) { "words withheld".to_owned() } else { words }
    }
}

/// Why a login's request got no answer.
fn login_error(error: WireError) -> LoginError {
    match error {
        WireError::Unbuildable(words) => LoginError { error: LmsError::Misunderstood(words), counts: false },
        WireError::Broken { words, never_arrived } => {
            LoginError { error: LmsError::Unavailable(format!("login: {words}")), counts: !never_arrived }
        }
        WireError::TooLarge => {
            LoginError { error: LmsError::Misunderstood("the login's answer is too large".to_owned()), counts: true }
        }
        WireError::LeftAlone(until) => {
            LoginError { error: LmsError::Throttled(RetryAfter::Until(until.utc())), counts: false }
        }
    }
}

fn no_tokens() -> LmsError {
    LmsError::Misunderstood("the portal's answer holds no access token and refresh token".to_owned())
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
