//! What one change says: the fields of the object `message`.

use learnsync_sdk::{DeliveryError, ErrorKind, Fields};
use reqwest::Url;

use crate::text::{clean, clean_line};

/// The one object.
pub(crate) const MESSAGE: &str = "message";

/// Its fields, and whether a message cannot be made without them. All are text.
pub(crate) const FIELDS: &[(&str, bool)] = &[("title", true), ("text", false), ("link", false), ("link_text", false)];

/// Longest link, in characters; an `&` counts for five, as Slack wants it, whose texts have at most 3,000.
const LINK_CHARACTERS_MAX: usize = 2_000;

/// What a link is called that has no `link_text`.
const LINK_TEXT: &str = "Open";

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Our mark; it goes where programs see it and people do not.
    pub(crate) mark: String,
    /// One line: who did what.
    pub(crate) title: String,
    /// More lines; may be empty.
    pub(crate) text: String,
    pub(crate) link: Option<Link>,
}

/// Where more can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// An absolute http or https URL, without spaces, quotes and angle brackets.
    pub(crate) url: String,
    pub(crate) text: String,
}

impl Message {
    /// Reads a message from mapped fields.
    ///
    /// # Errors
    /// `Rejected`: it has no title, or its link is none.
    pub(crate) fn read(fields: &Fields, mark: &str) -> Result<Self, DeliveryError> {
        let text = |name: &str| fields.get(name).map(|value| clean(&value.to_string())).unwrap_or_default();
        let title = clean_line(&text("title"));
        if title.is_empty() {
            return Err(DeliveryError::new(ErrorKind::Rejected, "the message has no title"));
        }
        let link = match clean_line(&text("link")) {
            link if link.is_empty() => None,
            link => {
                let words = clean_line(&text("link_text"));
                let text = if words.is_empty() { LINK_TEXT.to_owned() } else { words };
                Some(Link { url: absolute(&link)?, text })
            }
        };
        Ok(Self { mark: mark.to_owned(), title, text: text("text"), link })
    }
}

/// Other schemes than http and https would run something when they are clicked.
fn absolute(link: &str) -> Result<String, DeliveryError> {
    let refuse = |why: &str| DeliveryError::new(ErrorKind::Rejected, format!("the message's link {why}"));
    let url = Url::parse(link).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| refuse("is not an http or https URL"))?;
    let url = url.to_string().replace('\'', "%27").replace('|', "%7C");
    if url.replace('&', "&amp;").len() > LINK_CHARACTERS_MAX {
        return Err(refuse(&format!("is longer than {LINK_CHARACTERS_MAX} characters (an & counts for five)")));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use learnsync_sdk::Value;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Message, DeliveryError> {
        let value = |text: &str| if text.is_empty() { Value::Null } else { Value::Text(text.to_owned()) };
        let fields = pairs.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
        Message::read(&fields, "learnsync:acme:completion/1")
    }

    #[test]
    fn a_title_is_one_line_and_the_rest_may_be_missing() {
        let message = read(&[("title", "Ann\n Lee"), ("text", ""), ("link", "")]).expect("a title is enough");
        assert_eq!((message.title.as_str(), message.text.as_str(), message.link), ("Ann Lee", "", None));
        for pairs in [&[("text", "x")][..], &[("title", " \n ")]] {
            let error = read(pairs).expect_err("there is no title");
            assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Rejected, "the message has no title"));
        }
    }

    #[test]
    fn a_link_is_absolute_and_cannot_run_anything() {
        let link = |link: &str| read(&[("title", "x"), ("link", link)]).map(|message| message.link.expect("a link"));
        let taken = link("https://lms.example/c?a=1&b=<x>|\"y'").expect("a good link");
        assert_eq!(taken.url, "https://lms.example/c?a=1&b=%3Cx%3E%7C%22y%27");
        assert_eq!(taken.text, "Open");
        let long = format!("https://lms.example/{}", "x".repeat(2_000));
        let many = format!("https://lms.example/?{}", "&".repeat(400));
        for wrong in ["javascript:alert(1)", "data:text/html,x", "/certificates/7", "file:///etc/passwd", &long, &many]
        {
            assert_eq!(link(wrong).expect_err(wrong).kind, ErrorKind::Rejected);
        }
    }
}
