//! Who may call: the private key, the one token of the account, and the tokens of OAuth.
//!
//! SEEN (<https://docs.myabsorb.com/integration-api/v2/docs>): the key on every call; a token lives for four hours, and a new login kills
//! the former one of the same user. SEEN (<https://docs.myabsorb.com/docs/integration-api/authentication/oauth>): the authorization code
//! flow with the scope `admin.v1`, access tokens of four hours, refresh tokens of a year, codes that serve once. SEEN second hand
//! (<https://github.com/NangoHQ/nango>, providers.yaml): the paths `/oauth/authorize` and `/oauth/token` on the portal's host.
//! INFERRED: the fields of the answers and errors are those of RFC 6749; a code lives for ten minutes; a login does not kill the tokens of
//! OAuth; a refresh token may be used again (the quirk `refresh_rotates` is the other guess).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use base64::Engine;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Portal;
use super::api::error;
use crate::domain::time::Timestamp;
use crate::sandbox::population::{DAY_MS, guid};
use crate::sandbox::server::{Reply, Request, escape, page};

/// How long a token lives, in milliseconds: four hours.
const TOKEN_MS: i64 = DAY_MS / 6;
/// How long a refresh token lives, in milliseconds: a year.
const REFRESH_MS: i64 = 365 * DAY_MS;
/// How long a code lives, in milliseconds: ten minutes.
const CODE_MS: i64 = 600_000;
/// The only scope.
const SCOPE: &str = "admin.v1";
/// Most codes and tokens of a kind that are kept; the oldest go first.
const GRANTS_MAX: usize = 1_000;

/// All that was granted.
#[derive(Default)]
pub(super) struct Grants {
    /// The account's only token of `/authenticate`.
    login: Option<(String, Timestamp)>,
    codes: BTreeMap<String, Code>,
    access: BTreeMap<String, Timestamp>,
    refresh: BTreeMap<String, Timestamp>,
}

/// A code, and the redirect that it was given to.
struct Code {
    redirect: String,
    expires: Timestamp,
}

impl Grants {
    /// The login's token is forgotten.
    pub(super) fn kill_login(&mut self) {
        self.login = None;
    }

    fn forget_expired(&mut self, now: Timestamp) {
        self.codes.retain(|_, code| now < code.expires);
        self.access.retain(|_, expires| now < *expires);
        self.refresh.retain(|_, expires| now < *expires);
        while self.codes.len() > GRANTS_MAX {
            self.codes.pop_first();
        }
        for tokens in [&mut self.access, &mut self.refresh] {
            while tokens.len() > GRANTS_MAX {
                tokens.pop_first();
            }
        }
    }
}

impl Portal {
    pub(super) fn has_key(&self, request: &Request) -> bool {
        let key = request.header("x-api-key").map(str::trim).and_then(|key| Uuid::parse_str(key).ok());
        key == Some(self.api_key)
    }

    fn new_token(&self) -> String {
        let chance = self.entropy.as_ref();
        format!("{}{}", guid(chance).simple(), guid(chance).simple())
    }

    /// Makes the account's new token; the former one dies.
    pub(super) fn log_in(&self, request: &Request) -> Reply {
        let body = request.json().unwrap_or_default();
        // `username` and `Username` are both accepted.
        let field = |name: &str| {
            let fields = body.as_object()?;
            fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.as_str())
        };
        let (Some(username), Some(password), Some(key)) = (field("username"), field("password"), field("privateKey"))
        else {
            return error(400, "username, password and privateKey are required.");
        };
        let is_key = Uuid::parse_str(key).is_ok_and(|key| key == self.api_key);
        if !username.eq_ignore_ascii_case("learnsync.admin") || password != self.password || !is_key {
            return error(401, "The credentials are not valid.");
        }
        let text = self.new_token();
        self.grants().login = Some((text.clone(), self.clock.now().plus_ms(TOKEN_MS)));
        self.logins.fetch_add(1, Ordering::Relaxed);
        Reply::json(200, &Value::String(text))
    }

    /// The token is accepted with and without `Bearer`, that of a login and that of OAuth.
    pub(super) fn is_authorized(&self, request: &Request) -> bool {
        let Some(header) = request.header("authorization") else { return false };
        let sent = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => header.trim(),
        };
        let now = self.clock.now();
        let grants = self.grants();
        let is_login = grants.login.as_ref().is_some_and(|(text, expires)| text == sent && now < *expires);
        is_login || grants.access.get(sent).is_some_and(|expires| now < *expires)
    }

    /// The front door of OAuth, for the administrator's browser: a redirect with a code, or first a page to agree on.
    pub(super) fn authorize(&self, request: &Request) -> Reply {
        let asked = |name: &str| request.parameter(name).unwrap_or_default();
        let refuse = |words: &str| Reply::text(400, "text/plain; charset=utf-8", format!("{words}\n"));
        if asked("client_id") != self.oauth_client().to_string() {
            return refuse("client_id is not one of this portal.");
        }
        let redirect = asked("redirect_uri");
        if !may_redirect_to(redirect) {
            // Never a redirect to where nobody is known to wait.
            return refuse("redirect_uri must begin with https://, or with http:// on this machine.");
        }
        if asked("response_type") != "code" {
            return leave(redirect, &[("error", "unsupported_response_type"), ("state", asked("state"))]);
        }
        if asked("scope") != SCOPE {
            return leave(redirect, &[("error", "invalid_scope"), ("state", asked("state"))]);
        }
        if self.quirks.state().has_consent_page && asked("consent") != "yes" {
            return consent_page(request);
        }
        let code = self.new_token();
        let now = self.clock.now();
        let mut grants = self.grants();
        grants.forget_expired(now);
        grants.codes.insert(code.clone(), Code { redirect: redirect.to_owned(), expires: now.plus_ms(CODE_MS) });
        leave(redirect, &[("code", &code), ("state", asked("state"))])
    }

    /// Turns a code or a refresh token into an access token.
    pub(super) fn grant(&self, request: &Request) -> Reply {
        let fields = request.fields();
        let sent = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let (id, secret) =
            basic(request).unwrap_or_else(|| (sent("client_id").to_owned(), sent("client_secret").to_owned()));
        if id != self.oauth_client().to_string() || secret != self.oauth_secret() {
            return refused("invalid_client", "client_id or client_secret is wrong.");
        }
        let now = self.clock.now();
        let mut grants = self.grants();
        grants.forget_expired(now);
        let refresh = match sent("grant_type") {
            "authorization_code" => {
                // Taken before it is looked at: a code that is tried with a wrong redirect is spent, too.
                let Some(code) = grants.codes.remove(sent("code")) else {
                    return refused("invalid_grant", "The code is unknown, used or expired.");
                };
                if code.redirect != sent("redirect_uri") {
                    return refused("invalid_grant", "redirect_uri is not the one that the code was given to.");
                }
                None
            }
            "refresh_token" => {
                if !grants.refresh.contains_key(sent("refresh_token")) {
                    return refused("invalid_grant", "The refresh token is unknown or expired.");
                }
                if self.quirks.state().rotates_refresh {
                    grants.refresh.remove(sent("refresh_token"));
                    None
                } else {
                    Some(sent("refresh_token").to_owned())
                }
            }
            _ => return refused("unsupported_grant_type", "grant_type is authorization_code or refresh_token."),
        };
        let access = self.new_token();
        grants.access.insert(access.clone(), now.plus_ms(TOKEN_MS));
        let refresh = refresh.unwrap_or_else(|| {
            let fresh = self.new_token();
            grants.refresh.insert(fresh.clone(), now.plus_ms(REFRESH_MS));
            fresh
        });
        Reply::json(
            200,
            &json!({
                "access_token": access, "token_type": "Bearer", "expires_in": TOKEN_MS / 1_000,
                "refresh_token": refresh, "scope": SCOPE,
            }),
        )
    }
}

/// SEEN: the redirect must be https; for a program on this machine the sandbox takes http, too.
fn may_redirect_to(uri: &str) -> bool {
    let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    let ends = |rest: &str| rest.is_empty() || rest.starts_with([':', '/', '?']);
    uri.starts_with("https://") || local.iter().any(|host| uri.strip_prefix(host).is_some_and(ends))
}

/// Sends the browser back, with these parameters; blank ones are left out.
fn leave(redirect: &str, parameters: &[(&str, &str)]) -> Reply {
    let given: Vec<_> = parameters.iter().filter(|(_, value)| !value.is_empty()).collect();
    let query = serde_urlencoded::to_string(given).expect("pairs of texts can always be encoded");
    let joint = if redirect.contains('?') { '&' } else { '?' };
    Reply::empty(302).with("location", format!("{redirect}{joint}{query}")).with("cache-control", "no-store")
}

fn consent_page(request: &Request) -> Reply {
    let hidden: String = request
        .query
        .iter()
        .map(|(name, value)| format!("<input type=hidden name=\"{}\" value=\"{}\">", escape(name), escape(value)))
        .collect();
    let form = format!(
        "<form action=/oauth/authorize>{hidden}<input type=hidden name=consent value=yes><p><button>Allow</button></form>"
    );
    let words = "A program asks to act as learnsync.admin, with the scope admin.v1.";
    page("Sandbox portal", words, &form, &[], &[], &[])
}

fn refused(code: &str, words: &str) -> Reply {
    Reply::json(400, &json!({"error": code, "error_description": words})).with("cache-control", "no-store")
}

/// Client id and secret as HTTP Basic, the other way that RFC 6749 has for them.
fn basic(request: &Request) -> Option<(String, String)> {
    let (scheme, text) = request.header("authorization")?.split_once(' ')?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    let text = String::from_utf8(bytes).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (id, secret) = text.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}
