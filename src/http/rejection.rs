//! Why a request is refused: each reason knows its status and its sentence.

use std::time::Duration;

use http::StatusCode;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// No such path, portal or token: always the same answer, so that it tells nothing.
    NotFound,
    /// No such path on the admin listener.
    NothingToAsk,
    /// The path is right, the method is not; carries the allowed ones.
    Method(&'static str),
    /// Both `Content-Length` and `Transfer-Encoding`: two servers in a row may disagree where the request ends.
    AmbiguousLength,
    /// Not exactly one `Host` in HTTP/1.1, or several in HTTP/1.0.
    Hosts(usize),
    /// The head took too long.
    HeadLate(Duration),
    /// The body took too long.
    BodyLate(Duration),
    /// The body is too large; its size, if it was announced.
    BodyTooLarge { bytes: Option<u64>, limit: usize },
    /// The body ended early or broke the rules of chunks.
    BodyBroken,
    /// The body is not the gzip that it says to be.
    GzipBroken,
    /// A content encoding that we do not decode.
    Encoding(String),
    /// More webhooks than the rate allows.
    TooManyHooks { per_second: u32, burst: u32 },
    /// More connections than allowed.
    TooManyConnections(usize),
    /// The inbox is full.
    InboxFull,
    /// The inbox cannot take it now.
    InboxUnavailable,
}

impl Rejection {
    /// The status of the answer. Overload is 503, not 429: a webhook sender takes 4xx for a fault of its own and gives up.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound | Self::NothingToAsk => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::AmbiguousLength | Self::Hosts(_) | Self::BodyBroken | Self::GzipBroken => StatusCode::BAD_REQUEST,
            Self::HeadLate(_) | Self::BodyLate(_) => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Encoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyHooks { .. } | Self::TooManyConnections(_) | Self::InboxFull | Self::InboxUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// The word by which it is counted; none for what the inbox refused, which it has counted itself.
    pub(super) fn outcome(&self) -> Option<&'static str> {
        match self {
            Self::InboxFull | Self::InboxUnavailable => None,
            Self::TooManyHooks { .. } | Self::TooManyConnections(_) => Some("overloaded"),
            Self::NotFound
            | Self::NothingToAsk
            | Self::Method(_)
            | Self::AmbiguousLength
            | Self::Hosts(_)
            | Self::HeadLate(_)
            | Self::BodyLate(_)
            | Self::BodyTooLarge { .. }
            | Self::BodyBroken
            | Self::GzipBroken
            | Self::Encoding(_) => Some("refused"),
        }
    }

    /// In how many seconds the sender should come back.
    pub(super) fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Self::TooManyHooks { .. } | Self::TooManyConnections(_) => Some(1),
            Self::InboxUnavailable => Some(5),
            Self::InboxFull => Some(60),
            Self::NotFound
            | Self::NothingToAsk
            | Self::Method(_)
            | Self::AmbiguousLength
            | Self::Hosts(_)
            | Self::HeadLate(_)
            | Self::BodyLate(_)
            | Self::BodyTooLarge { .. }
            | Self::BodyBroken
            | Self::GzipBroken
            | Self::Encoding(_) => None,
        }
    }

    /// Tells the sender what is wrong, with the value, the limit and the setting.
    pub(super) fn sentence(&self) -> String {
        match self {
            Self::NotFound => "nothing is here; a webhook URL ends with /hooks/<portal>/<token>".to_owned(),
            Self::NothingToAsk => "nothing is here; ask for /healthz, /readyz and /metrics".to_owned(),
            Self::Method(allowed) => format!("this method is not allowed here, use one of {allowed}"),
            Self::AmbiguousLength => {
                "the request has both Content-Length and Transfer-Encoding, send only one of them".to_owned()
            }
            Self::Hosts(count) => format!("the request has {count} Host headers, send exactly one"),
            Self::HeadLate(limit) => {
                format!("the head of the request took longer than {limit:?} (listen.header_seconds_max)")
            }
            Self::BodyLate(limit) => format!("webhook body took longer than {limit:?} (listen.body_seconds_max)"),
            Self::BodyTooLarge { bytes, limit } => {
                let limit_bytes = u64::try_from(*limit).unwrap_or(u64::MAX);
                let limit = size(limit_bytes);
                match bytes {
                    Some(bytes) => {
                        format!("webhook body is {}, the limit is {limit} (listen.body_bytes_max)", size(*bytes))
                    }
                    None => format!("webhook body is more than {limit}, which is the limit (listen.body_bytes_max)"),
                }
            }
            Self::BodyBroken => "webhook body ended early or has broken chunks".to_owned(),
            Self::GzipBroken => "webhook body is not the gzip that its Content-Encoding names".to_owned(),
            Self::Encoding(name) => format!("content encoding \"{name}\" is not decoded here, use gzip or none"),
            Self::TooManyHooks { per_second, burst } => format!(
                "more webhooks than {per_second} a second (listen.hooks_per_second_max) after a burst of {burst} \
                 (listen.hooks_burst_max), come back in 1 s"
            ),
            Self::TooManyConnections(limit) => {
                format!("{limit} connections are open, which is the limit (listen.connections_max), come back in 1 s")
            }
            Self::InboxFull => "the inbox is full, come back in 60 s".to_owned(),
            Self::InboxUnavailable => "the inbox cannot take webhooks now, come back in 5 s".to_owned(),
        }
    }
}

/// A size for people, rounded up so that what is over a limit also looks so: `256 KiB`, `1.4 MiB`.
fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1024 => return format!("{bytes} bytes"),
        1024..1_048_576 => (1024, "KiB"),
        _ => (1_048_576, "MiB"),
    };
    let tenths = (u128::from(bytes) * 10).div_ceil(unit);
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        tenth => format!("{}.{tenth} {name}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_over_a_limit_never_looks_like_the_limit() {
        let check = |bytes, expected: &str| assert_eq!(size(bytes), expected);
        check(0, "0 bytes");
        check(1023, "1023 bytes");
        check(262_144, "256 KiB");
        check(262_145, "256.1 KiB");
        check(1_468_006, "1.4 MiB");
        check(u64::MAX, "17592186044416 MiB");
    }
}
