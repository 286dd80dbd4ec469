//! A destination's settings.

use learnsync_sdk::SettingsError;
use serde_json::Value;

/// Name, what it is, whether it is required.
pub(crate) const KNOWN: &[(&str, &str, bool)] = &[
    ("company", "the company's domain: `acme` for https://acme.bamboohr.com", false),
    ("url", "the API's base URL, instead of `company`: for a proxy or the sandbox", false),
    ("api_key", "an API key; its owner's rights are ours", true),
    ("mark_column", "the column of custom tables that carries our mark", false),
    ("employee_number_field", "the dataset field that holds the employee number", false),
    ("email_field", "the dataset field that holds the e-mail address", false),
];

/// The settings, read and checked.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) url: reqwest::Url,
    pub(crate) api_key: String,
    pub(crate) mark_column: String,
    pub(crate) employee_number_field: String,
    pub(crate) email_field: String,
}

impl Settings {
    /// Reads the settings; no I/O.
    pub(crate) fn read(value: &Value) -> Result<Self, SettingsError> {
        let empty = serde_json::Map::new();
        let table = value.as_object().unwrap_or(&empty);
        for name in table.keys() {
            if !KNOWN.iter().any(|(known, ..)| known == name) {
                return Err(unknown(name));
            }
        }
        let text = |name: &str| match table.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
            Some(other) => Err(wrong(name, format!("{name} must be a text that is not empty, not {other}"))),
        };
        let url = match (text("company")?, text("url")?) {
            (_, Some(url)) => url,
            (Some(company), None) if company.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
                format!("https://{company}.bamboohr.com")
            }
            (Some(company), None) => {
                let message =
                    format!("company \"{company}\" is not a domain: write `acme` for https://acme.bamboohr.com");
                return Err(wrong("company", message));
            }
            (None, None) => {
                return Err(wrong(
                    "company",
                    "company is missing: write `acme` for https://acme.bamboohr.com".to_owned(),
                ));
            }
        };
        let parsed =
            reqwest::Url::parse(&url).map_err(|error| wrong("url", format!("\"{url}\" is not a URL: {error}")))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(wrong("url", format!("\"{url}\" is not an http or https URL")));
        }
        let api_key = text("api_key")?.ok_or_else(|| {
            wrong("api_key", "api_key is missing: name it under `secrets`, never in the file".to_owned())
        })?;
        let or = |name: &str, default: &str| Ok(text(name)?.unwrap_or_else(|| default.to_owned()));
        Ok(Self {
            url: parsed,
            api_key,
            mark_column: or("mark_column", "customReference")?,
            employee_number_field: or("employee_number_field", "employeeNumber")?,
            email_field: or("email_field", "email")?,
        })
    }
}

fn unknown(name: &str) -> SettingsError {
    let names: Vec<&str> = KNOWN.iter().map(|(known, ..)| *known).collect();
    let nearest = names
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), *known))
        .min()
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 3));
    let hint = match nearest {
        Some((_, near)) => format!("did you mean \"{near}\"?"),
        None => format!("the settings are {}", names.join(", ")),
    };
    wrong(name, format!("unknown setting \"{name}\", {hint}"))
}

fn wrong(name: &str, message: String) -> SettingsError {
    SettingsError { path: vec![name.to_owned()], message }
}
