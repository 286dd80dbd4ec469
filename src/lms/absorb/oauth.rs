//! Logging in by OAuth 2: the page where an administrator says yes, the code that comes back, and the tokens for it.
//!
//! Authorization code flow at the portal's own host, with the one scope `admin.v1` and without PKCE. An access token lives for 4 hours, a
//! refresh token for a year, a code is good for one use, and the redirect must be https
//! (<https://docs.myabsorb.com/docs/integration-api/authentication/oauth>).

use std::fmt;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::row::Row;
use super::wire::Reply;
use crate::domain::time::Timestamp;

/// All that may be asked for.
const SCOPE: &str = "admin.v1";

/// How long a refresh token lives where the portal does not say.
const GRANT_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// From this part of its life on, in percent, the end of a login is told.
const ALARM_PERCENT: i64 = 80;

/// The client that an administrator made in the portal's settings, "Integration API OAuth Client".
#[derive(Clone)]
pub struct OAuthClient {
    /// Its id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// The portal's own address, for example `https://acme.myabsorb.com`.
    pub portal_url: String,
    /// Where the portal sends the administrator afterwards; as set there.
    pub redirect_uri: String,
}

impl fmt::Debug for OAuthClient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("OAuthClient").field("portal_url", &self.portal_url).finish_non_exhaustive()
    }
}

impl OAuthClient {
    /// The page where an administrator says yes. `state` comes back with the code, and proves that both belong together.
    #[must_use]
    pub fn authorize_url(&self, state: &str) -> String {
        let query = [
            ("client_id", self.client_id.as_str()),
            ("redirect_uri", &self.redirect_uri),
            ("response_type", "code"),
            ("scope", SCOPE),
            ("state", state),
        ];
        let query: Vec<String> = query.into_iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        format!("{}/oauth/authorize?{}", self.portal_url.trim_end_matches('/'), query.join("&"))
    }

    pub(super) fn token_url(&self) -> String {
        format!("{}/oauth/token", self.portal_url.trim_end_matches('/'))
    }

    pub(super) fn form_for_code<'a>(&'a self, code: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri),
            ("client_id", &self.client_id),
            ("client_secret", &self.client_secret),
        ]
    }

    pub(super) fn form_for_refresh<'a>(&'a self, refresh_token: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
            ("client_id", &self.client_id),
            ("client_secret", &self.client_secret),
        ]
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The code in what an administrator pastes: the whole address to which the portal sent them, or the code alone, which carries no `state`.
///
/// # Errors
/// The portal refused, the address belongs to another login, or there is no code in it.
pub fn code_of(pasted: &str, state: &str) -> Result<String, String> {
    let pasted = pasted.trim();
    let Some((_, query)) = pasted.split_once('?') else {
        let is_code =
            !pasted.is_empty() && !pasted.contains("://") && pasted.bytes().all(|byte| byte.is_ascii_graphic());
        return if is_code {
            Ok(pasted.to_owned())
        } else {
            Err("there is no code in it: paste the whole address".to_owned())
        };
    };
    let query = query.split('#').next().unwrap_or_default();
    let value = |wanted: &str| {
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned())
    };
    if let Some(error) = value("error") {
        let more = value("error_description").map(|words| format!(": {words}")).unwrap_or_default();
        return Err(format!("the portal refused the login ({error}{more})"));
    }
    if value("state").as_deref() != Some(state) {
        return Err(
            "the address belongs to another login (its state differs): begin again, and use the newest page".to_owned()
        );
    }
    value("code")
        .filter(|code| !code.is_empty())
        .ok_or_else(|| "the address holds no code: paste the whole of it".to_owned())
}

/// What a login by OAuth leaves: the right to new access tokens, and until when.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What new access tokens are asked for with.
    pub refresh_token: String,
    /// When it was given.
    pub obtained_at: Timestamp,
    /// When it ends.
    pub ends_at: Timestamp,
    /// How long an access token of it lives, in seconds.
    pub access_seconds: u64,
}

impl fmt::Debug for Grant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Grant").field("ends_at", &self.ends_at).finish_non_exhaustive()
    }
}

impl Grant {
    /// Whether its end is near enough to be told.
    #[must_use]
    pub fn ends_soon(&self, now: Timestamp) -> bool {
        ends_soon(self.obtained_at, self.ends_at, now)
    }
}

/// Whether four fifths of a login's life are over.
#[must_use]
pub fn ends_soon(obtained_at: Timestamp, ends_at: Timestamp, now: Timestamp) -> bool {
    let life = ends_at.0.saturating_sub(obtained_at.0);
    now.0.saturating_sub(obtained_at.0) >= life / 100 * ALARM_PERCENT
}

/// What the token end point gave.
pub(super) struct Given {
    pub(super) access_token: String,
    pub(super) grant: Grant,
}

/// Reads the tokens; a refresh token that is not renewed stays as it was.
pub(super) fn read_tokens(body: &[u8], held: Option<&Grant>, life: Duration, now: Timestamp) -> Option<Given> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let row = Row::of(&value).ok()?;
    let seconds = |names: &[&str]| row.number(names).filter(|seconds| *seconds >= 1.0).map(|seconds| seconds as u64);
    let access_token = row.text(&["accesstoken"]).filter(|token| is_token(token))?;
    let access_seconds = seconds(&["expiresin"]).unwrap_or(life.as_secs());
    let grant = match (row.text(&["refreshtoken"]).filter(|token| is_token(token)), held) {
        (Some(same), Some(held)) if same == held.refresh_token => Grant { access_seconds, ..held.clone() },
        (None, Some(held)) => Grant { access_seconds, ..held.clone() },
        (Some(refresh_token), _) => {
            let said = seconds(&["refreshtokenexpiresin", "refreshexpiresin"]).map(Duration::from_secs);
            Grant { refresh_token, obtained_at: now, ends_at: now.plus(said.unwrap_or(GRANT_LIFE)), access_seconds }
        }
        (None, None) => return None,
    };
    Some(Given { access_token, grant })
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_graphic())
}

/// The word by which a token end point says why it refuses (RFC 6749, 5.2).
pub(super) fn error_word(reply: &Reply) -> Option<String> {
    let value: Value = serde_json::from_slice(&reply.body).ok()?;
    value.get("error").and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn client() -> OAuthClient {
        OAuthClient {
            client_id: "id 1".to_owned(),
            client_secret: "sesame".to_owned(),
            portal_url: "https://acme.myabsorb.com/".to_owned(),
            redirect_uri: "https://acme.example/done".to_owned(),
        }
    }

    #[test]
    fn the_page_names_client_redirect_scope_and_state_and_no_secret() {
        let url = client().authorize_url("s/1");
        assert_eq!(
            url,
            "https://acme.myabsorb.com/oauth/authorize?client_id=id%201&redirect_uri=https%3A%2F%2Facme%2Eexample%2Fdone\
             &response_type=code&scope=admin%2Ev1&state=s%2F1"
        );
        assert!(!format!("{:?}", client()).contains("sesame"));
    }

    #[test]
    fn the_code_is_taken_from_the_address_of_this_login_only() {
        let table = [
            ("https://acme.example/done?code=a%2Fb&state=s1", Ok("a/b")),
            ("  https://acme.example/done?state=s1&code=abc#top\n", Ok("abc")),
            ("abc-DEF_1", Ok("abc-DEF_1")),
            ("https://acme.example/done?code=abc&state=s2", Err("belongs to another login")),
            ("https://acme.example/done?code=abc", Err("belongs to another login")),
            ("https://acme.example/done?state=s1", Err("holds no code")),
            (
                "https://acme.example/done?error=access_denied&error_description=not+today&state=s1",
                Err("access_denied: not today"),
            ),
            ("https://acme.example/done", Err("no code in it")),
            ("", Err("no code in it")),
        ];
        for (pasted, expected) in table {
            match (code_of(pasted, "s1"), expected) {
                (Ok(code), Ok(expected)) => assert_eq!(code, expected, "{pasted}"),
                (Err(words), Err(part)) => assert!(words.contains(part), "{pasted}: {words}"),
                (found, _) => panic!("{pasted}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_refresh_token_that_is_not_renewed_keeps_its_age() {
        let (old, now) = (Timestamp(1_000), Timestamp(9_000));
        let held = Grant { refresh_token: "r1".to_owned(), obtained_at: old, ends_at: Timestamp(5), access_seconds: 1 };
        let read = |body: Value, held: Option<&Grant>| {
            read_tokens(body.to_string().as_bytes(), held, Duration::from_secs(60), now).map(|given| given.grant)
        };
        let kept = read(json!({"access_token": "a", "expires_in": 30}), Some(&held)).expect("it is read");
        assert_eq!(kept, Grant { access_seconds: 30, ..held.clone() });
        let same = read(json!({"access_token": "a", "refresh_token": "r1"}), Some(&held)).expect("it is read");
        assert_eq!(same, Grant { access_seconds: 60, ..held.clone() });
        let rotated = read(json!({"access_token": "a", "refresh_token": "r2"}), Some(&held)).expect("it is read");
        assert_eq!((rotated.obtained_at, rotated.ends_at), (now, now.plus(GRANT_LIFE)));
        assert_eq!(read(json!({"access_token": "a"}), None), None, "without any refresh token nothing lasts");
    }

    #[test]
    fn the_end_is_told_from_four_fifths_of_the_life_on() {
        let soon = |now| ends_soon(Timestamp(1_000), Timestamp(2_000), Timestamp(now));
        assert_eq!((soon(1_799), soon(1_800), soon(3_000)), (false, true, true));
    }
}
