//! Which path is which: finds the portal of a webhook URL without telling a guesser how close the guess was.

use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::HookPortal;

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// The webhook URL of the portal with this name.
    Hook(&'a str),
    /// Anything else, also a portal or token that is wrong.
    Unknown,
}

/// The portals' webhook URLs, by digest: comparing digests of one length tells nothing about the length of a token.
pub(super) struct Doors(Vec<Door>);

struct Door {
    portal: String,
    portal_digest: [u8; 32],
    token_digest: [u8; 32],
}

impl Doors {
    pub(super) fn new(portals: Vec<HookPortal>) -> Self {
        let door = |portal: HookPortal| Door {
            portal_digest: digest(portal.name.bytes()),
            token_digest: digest(portal.token.bytes()),
            portal: portal.name,
        };
        Self(portals.into_iter().map(door).collect())
    }

    /// Finds what a path leads to. A query string is no part of it.
    pub(super) fn route(&self, path: &str) -> Route<'_> {
        let parts = path.strip_prefix("/hooks/").and_then(|rest| rest.split_once('/'));
        match parts {
            Some((portal, token)) if !token.is_empty() && !token.contains('/') => {
                self.open(portal, token).map_or(Route::Unknown, Route::Hook)
            }
            Some(_) | None => Route::Unknown,
        }
    }

    /// The portal whose name and token these are. Looks at all portals, whether or not one fits.
    fn open(&self, portal: &str, token: &str) -> Option<&str> {
        let portal_digest = digest(percent_decode_str(portal));
        let token_digest = digest(percent_decode_str(token));
        let mut found = u64::MAX;
        for (index, door) in (0..).zip(&self.0) {
            let fits = door.portal_digest.ct_eq(&portal_digest) & door.token_digest.ct_eq(&token_digest);
            found.conditional_assign(&index, fits);
        }
        let door = self.0.get(usize::try_from(found).ok()?)?;
        Some(&door.portal)
    }
}

fn digest(bytes: impl Iterator<Item = u8>) -> [u8; 32] {
    Sha256::digest(bytes.collect::<Vec<u8>>()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_portal_with_its_own_token_is_found() {
        let portal = |name: &str, token: &str| HookPortal { name: name.to_owned(), token: token.to_owned() };
        let doors = Doors::new(vec![
            portal("main", "main-token-0123456789"),
            portal("emea", "emea-token-0123456789"),
            portal("odd name", "odd/token %41 0123456789"),
            portal("closed", ""),
        ]);
        let check = |path: &str, expected| assert_eq!(doors.route(path), expected, "{path}");
        check("/hooks/main/main-token-0123456789", Route::Hook("main"));
        check("/hooks/emea/emea-token-0123456789", Route::Hook("emea"));
        check("/hooks/m%61in/main-token-012345678%39", Route::Hook("main"));
        check("/hooks/odd%20name/odd%2Ftoken%20%2541%200123456789", Route::Hook("odd name"));
        check("/hooks/main/emea-token-0123456789", Route::Unknown);
        check("/hooks/emea/main-token-0123456789", Route::Unknown);
        check("/hooks/main/main-token-012345678", Route::Unknown);
        check("/hooks/main/main-token-01234567890", Route::Unknown);
        check("/hooks/main/MAIN-token-0123456789", Route::Unknown);
        check("/hooks/main/main-token-0123456789/", Route::Unknown);
        check("/hooks//main-token-0123456789", Route::Unknown);
        check("/hooks/closed/", Route::Unknown);
        check("/hooks/main/", Route::Unknown);
        check("/hooks/main", Route::Unknown);
        check("/hooks", Route::Unknown);
        check("/", Route::Unknown);
        check("", Route::Unknown);
        // They belong to the admin listener.
        check("/healthz", Route::Unknown);
        check("/metrics", Route::Unknown);
    }

    #[test]
    fn the_debug_form_of_a_portal_hides_its_token() {
        let portal = HookPortal { name: "main".to_owned(), token: "main-token-0123456789".to_owned() };
        let shown = format!("{portal:?}");
        assert!(shown.contains("main") && !shown.contains("0123456789"), "{shown}");
    }
}
