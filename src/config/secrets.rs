//! Finds secrets where the configuration says that they stand.

use std::fmt;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::source::{ConfigErrors, Source};
use super::{PortalConfig, Secret, StoreConfig};

/// The largest secret file, in bytes.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// The shortest webhook token, in characters: it is all that keeps strangers out of the inbox.
const WEBHOOK_TOKEN_CHARS_MIN: usize = 16;

/// The secrets of a portal. Never printed.
#[derive(Clone)]
pub struct PortalSecrets {
    /// The API key.
    pub api_key: String,
    /// The password of the admin account; none with OAuth.
    pub password: Option<String>,
    /// The secret of the OAuth client; none with a password.
    pub client_secret: Option<String>,
    /// The secret last part of the webhook URL: at least 16 of `A-Z a-z 0-9 - _`.
    pub webhook_token: String,
}

impl fmt::Debug for PortalSecrets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PortalSecrets(..)")
    }
}

/// What could be any of the secrets of a portal.
const EXAMPLE: &str = "0123456789abcdef0123456789abcdef";

/// Finds the secrets of a portal, with `find` from where one stands and an example of it, and checks the webhook token.
///
/// # Errors
/// Each secret that is not to be found, and a webhook token that is too short or cannot stand in a URL.
pub fn portal_secrets(
    name: &str,
    portal: &PortalConfig,
    source: &Source,
    find: &dyn Fn(&Secret, &str) -> Result<String, String>,
) -> Result<PortalSecrets, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let mut checked = |below: &[&str], secret: &Secret, check: fn(&str) -> Result<(), String>| {
        let found = find(secret, EXAMPLE).and_then(|text| check(&text).map(|()| text));
        found.unwrap_or_else(|message| {
            let path: Vec<&str> = ["portals", name].into_iter().chain(below.iter().copied()).collect();
            errors.0.push(source.at_value(&path, message));
            String::new()
        })
    };
    let any = |_: &str| Ok(());
    let secrets = PortalSecrets {
        api_key: checked(&["api_key"], &portal.api_key, any),
        password: portal.password.as_ref().map(|secret| checked(&["password"], secret, any)),
        client_secret: portal
            .oauth
            .as_ref()
            .map(|oauth| checked(&["oauth", "client_secret"], &oauth.client_secret, any)),
        webhook_token: checked(&["webhook_token"], &portal.webhook_token, check_webhook_token),
    };
    errors.into_result().map(|()| secrets)
}

/// The shortest `store.token_key`, in characters.
const TOKEN_KEY_CHARS_MIN: usize = 16;

/// Finds the secret under which logins by OAuth are sealed; none where it is not configured.
///
/// # Errors
/// It is not to be found, or too short.
pub fn token_key(
    store: &StoreConfig,
    source: &Source,
    find: &dyn Fn(&Secret, &str) -> Result<String, String>,
) -> Result<Option<String>, ConfigErrors> {
    let Some(secret) = &store.token_key else { return Ok(None) };
    let found = find(secret, EXAMPLE).and_then(|text| match text.chars().count() {
        TOKEN_KEY_CHARS_MIN.. => Ok(text),
        length => Err(format!(
            "the key has {length} characters, the least is {TOKEN_KEY_CHARS_MIN}; make one with `openssl rand -hex 32`"
        )),
    });
    found.map(Some).map_err(|message| ConfigErrors(vec![source.at_value(&["store", "token_key"], message)]))
}

fn check_webhook_token(token: &str) -> Result<(), String> {
    let length = token.chars().count();
    if length < WEBHOOK_TOKEN_CHARS_MIN {
        return Err(format!(
            "the token has {length} characters, the least is {WEBHOOK_TOKEN_CHARS_MIN}; make one with `openssl rand -hex 16`"
        ));
    }
    if !token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        return Err("the token has characters that change their form in a URL, use A-Z a-z 0-9 - _ alone".to_owned());
    }
    Ok(())
}

/// Reads a secret; the last line end is cut. `env` reads an environment variable.
///
/// # Errors
/// It is not there, cannot be read, is empty or larger than 64 KiB; the message names the place, never the value.
pub fn resolve(secret: &Secret, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    match secret {
        Secret::Credential(name) => read_file(&credential_path(name, env)?),
        Secret::File(path) => read_file(path),
        Secret::Env(name) => {
            let value = env(name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
            not_empty(value, &format!("the environment variable {name}"))
        }
    }
}

fn credential_path(name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, String> {
    let is_file_name = Path::new(name).file_name().is_some_and(|file| file == name);
    if !is_file_name {
        return Err(format!("\"{name}\" is not the name of a credential: it is a file name without a folder"));
    }
    let folder = env("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty()).ok_or_else(|| {
        format!(
            "there is no credential \"{name}\": CREDENTIALS_DIRECTORY is not set; \
             run under systemd with LoadCredential={name}:/path, or use file or env"
        )
    })?;
    Ok(Path::new(&folder).join(name))
}

fn read_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| format!("the secret file {shown} cannot be read: {error}");
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(format!("the secret file {shown} has {} bytes, the limit is {SECRET_BYTES_MAX}", metadata.len()));
    }
    if is_readable_by_others(&metadata) {
        warn!(file = %shown, "The secret file {shown} can be read by every user of this machine; take that right away with chmod o-r");
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    not_empty(text, &format!("the secret file {shown}"))
}

#[cfg(unix)]
fn is_readable_by_others(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o004 != 0
}

#[cfg(not(unix))]
fn is_readable_by_others(_: &std::fs::Metadata) -> bool {
    false
}

fn not_empty(text: String, place: &str) -> Result<String, String> {
    let cut = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if cut.trim().is_empty() { Err(format!("{place} is empty")) } else { Ok(cut.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_secret_is_read_from_each_place_and_its_last_line_end_is_cut() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        let credentials = folder.path().display().to_string();
        let env = move |name: &str| match name {
            "CREDENTIALS_DIRECTORY" => Some(credentials.clone()),
            "KEY" => Some("from-env\n".to_owned()),
            _ => None,
        };
        for (written, expected) in [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), (" a\nb\n\n", " a\nb\n")] {
            std::fs::write(&file, written).expect("written");
            assert_eq!(resolve(&Secret::File(file.clone()), &env).as_deref(), Ok(expected));
            assert_eq!(resolve(&Secret::Credential("key".to_owned()), &env).as_deref(), Ok(expected));
        }
        assert_eq!(resolve(&Secret::Env("KEY".to_owned()), &env).as_deref(), Ok("from-env"));
    }

    #[test]
    fn a_secret_that_is_absent_empty_or_elsewhere_is_an_error_that_names_the_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        std::fs::write(&file, "\n").expect("written");
        for (secret, expected) in [
            (Secret::File(file), "key is empty"),
            (Secret::File("/nowhere/key".into()), "/nowhere/key cannot be read"),
            (Secret::Env("KEY".to_owned()), "variable KEY is not set"),
            (Secret::Credential("key".to_owned()), "CREDENTIALS_DIRECTORY is not set"),
            (Secret::Credential("../key".to_owned()), "\"../key\" is not the name of a credential"),
        ] {
            let message = resolve(&secret, &nothing).expect_err("no secret");
            assert!(message.contains(expected), "{message}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_every_user_can_read_is_noticed() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (mode, expected) in [(0o600, false), (0o640, false), (0o644, true)] {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).expect("set");
            assert_eq!(is_readable_by_others(&file.path().metadata().expect("metadata")), expected, "{mode:o}");
        }
    }

    #[test]
    fn a_webhook_token_is_long_and_fit_for_a_url() {
        assert_eq!(check_webhook_token("0123456789abcdef"), Ok(()));
        let short = check_webhook_token("0123456789abcde").expect_err("too short");
        assert!(short.contains("15 characters, the least is 16") && !short.contains("01234"), "{short}");
        assert!(check_webhook_token("0123456789abcdef/x").is_err());
    }

    #[test]
    fn every_secret_of_a_portal_that_is_absent_is_told_with_its_place() {
        let text = include_str!("../../tests/fixtures/learnsync.toml");
        let (config, source) = super::super::parse(Path::new("learnsync.toml"), text).expect("a good file");
        let short = |name: &str| (name == "WEBHOOK_TOKEN").then(|| "short".to_owned());
        let errors = portal_secrets("main", &config.portals["main"], &source, &|secret, _| resolve(secret, &short))
            .expect_err("no secrets");
        let keys: Vec<_> = errors.0.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(keys, ["portals.main.api_key", "portals.main.password", "portals.main.webhook_token"]);
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secrets = PortalSecrets {
            api_key: "k".into(),
            password: Some("p".into()),
            client_secret: None,
            webhook_token: "t".into(),
        };
        assert_eq!(format!("{secrets:?}"), "PortalSecrets(..)");
    }
}
