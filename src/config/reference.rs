//! The list of all settings: the schema of the file, and the reference page made of it.

use std::fmt::Write;

/// One setting, as the reference page shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its path with dots; `<portal>` stands for any name.
    pub path: &'static str,
    /// What it is: the doc comment of its field, word for word.
    pub doc: &'static str,
    /// What holds when the file does not say.
    pub given: Given,
    /// Which values are allowed beyond its type.
    pub limit: Limit,
    /// Whether it is a secret.
    pub kind: Kind,
    /// The type of its value.
    pub value: Type,
}

/// The type of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// True or false.
    Bool,
    /// Any value.
    Any,
    /// A table; the settings in it are listed, or the connector's.
    Table,
    /// A table of texts.
    Texts,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Ways to recognise somebody, as `MatchRule` reads them.
    Rules,
    /// A time zone of the IANA list.
    Zone,
    /// An address with a port.
    Address,
    /// An address with a port, or `unix:` and a path.
    AdminAddress,
    /// `"none"`, `"all"` or a date.
    History,
    /// A time of the day.
    DayTime,
}

impl Type {
    /// The type in the words of the reference.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "whole number",
            Self::Bool => "true or false",
            Self::Any => "any value",
            Self::Table => "table",
            Self::Texts => "table of texts",
            Self::Word(_) => "one word",
            Self::Rules => "list of rules",
            Self::Zone => "time zone",
            Self::Address => "address:port",
            Self::AdminAddress => "address:port or unix:path",
            Self::History => "word or date",
            Self::DayTime => "time of the day",
        }
    }
}

/// What holds when the file does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// The file must say.
    Required,
    /// Nothing.
    Optional,
    /// This value, as TOML.
    Default(&'static str),
}

/// Which values are allowed beyond the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// All.
    None,
    /// Whole numbers from the first to the second, both included.
    Range(i64, i64),
    /// As the words say; checked by code.
    Words(&'static str),
}

/// Whether a setting is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No.
    Plain,
    /// A secret: `{ credential = ".." }`, `{ file = ".." }` or `{ env = ".." }`.
    Secret,
    /// A table of secrets.
    Secrets,
}

const fn required(path: &'static str, doc: &'static str) -> Setting {
    Setting { path, doc, given: Given::Required, limit: Limit::None, kind: Kind::Plain, value: Type::Text }
}

const fn optional(path: &'static str, doc: &'static str) -> Setting {
    Setting { given: Given::Optional, ..required(path, doc) }
}

const fn default(path: &'static str, doc: &'static str, value: &'static str) -> Setting {
    Setting { given: Given::Default(value), ..required(path, doc) }
}

const fn optional_secret(path: &'static str, doc: &'static str) -> Setting {
    Setting { given: Given::Optional, ..secret(path, doc) }
}

const fn secret(path: &'static str, doc: &'static str) -> Setting {
    Setting { kind: Kind::Secret, ..required(path, doc) }
}

impl Setting {
    const fn range(self, least: i64, most: i64) -> Self {
        Self { limit: Limit::Range(least, most), value: Type::Integer, ..self }
    }

    const fn limit(self, words: &'static str) -> Self {
        Self { limit: Limit::Words(words), ..self }
    }

    const fn of(self, value: Type) -> Self {
        Self { value, ..self }
    }

    const fn secrets(self) -> Self {
        Self { kind: Kind::Secrets, ..self }
    }
}

/// All settings, in the order of the types in `config`. A test compares paths, words and defaults with those types.
pub static SETTINGS: &[Setting] = &[
    required(
        "installation",
        "The name of this installation; part of every mark that we leave in a target: 1 to 32 of `a-z 0-9 -`.",
    )
    .limit("1 to 32 of `a-z 0-9 -`"),
    required("store", "Where the store and its key file live.").of(Type::Table),
    required("store.path", "The folder; holds `learnsync.db`, `learnsync.keys` and the lock file."),
    optional_secret(
        "store.token_key",
        "A secret under which logins by OAuth are sealed in the store, too; required where a portal has `oauth`.",
    )
    .limit("at least 16 characters"),
    optional("listen", "The webhook listener.").of(Type::Table),
    default("listen.address", "Address and port; put a TLS reverse proxy in front.", "\"127.0.0.1:8480\"").of(Type::Address),
    default("listen.body_bytes_max", "Largest webhook body after decoding, in bytes.", "262144").range(1024, 16_777_216),
    default("listen.header_seconds_max", "Longest time for the head of a request, in seconds.", "10").range(1, 300),
    default("listen.body_seconds_max", "Longest time for the body of a request, in seconds.", "15").range(1, 300),
    default("listen.connections_max", "Most connections at once.", "1024").range(1, 65_536),
    default("listen.hooks_per_second_max", "Webhooks accepted per second, sustained.", "2000").range(1, 100_000),
    default("listen.hooks_burst_max", "Webhooks accepted in one burst.", "50000").range(1, 1_000_000),
    optional("admin", "The admin listener.").of(Type::Table),
    optional(
        "admin.listen",
        "A loopback address and port, or `unix:` and the path of a socket; without it, `admin.sock` in the store's folder.",
    )
    .limit("loopback; an absolute path of at most 107 bytes").of(Type::AdminAddress),
    required("portals", "The LMS portals, by name.").limit("at least one; names: 1 to 32 of `a-z 0-9 -`").of(Type::Table),
    optional("portals.<portal>.region", "The region that hosts the portal; or else `url`.")
        .limit("`us`, `ca`, `eu`, `au`").of(Type::Word(&["us", "ca", "eu", "au"])),
    default("portals.<portal>.sandbox", "Whether it is the region's sandbox.", "false").of(Type::Bool),
    optional(
        "portals.<portal>.url",
        "The API's base URL, for example `https://rest.myabsorb.com`; instead of `region`.",
    )
    .limit("https; http for this machine only"),
    secret("portals.<portal>.api_key", "The portal's private API key (sent as `x-api-key`)."),
    optional(
        "portals.<portal>.username",
        "The admin account that only learnsync uses; with `password`, or else `oauth`.",
    )
    .limit("not blank"),
    optional_secret("portals.<portal>.password", "Its password."),
    optional(
        "portals.<portal>.oauth",
        "A login by OAuth 2 instead of a password; then `learnsync login <portal>` asks an administrator once.",
    )
    .of(Type::Table),
    required("portals.<portal>.oauth.client_id", "The client's id, from the portal's settings.").limit("not blank"),
    secret("portals.<portal>.oauth.client_secret", "Its secret."),
    required(
        "portals.<portal>.oauth.portal_url",
        "The portal's own address, for example `https://acme.myabsorb.com`.",
    )
    .limit("https; http for this machine only"),
    required(
        "portals.<portal>.oauth.redirect_uri",
        "Where the portal sends the administrator after the login, as set there; nothing needs to answer.",
    )
    .limit("https"),
    secret("portals.<portal>.webhook_token", "The secret last part of the webhook URL: at least 16 characters.")
        .limit("at least 16 of `A-Z a-z 0-9 - _`"),
    default(
        "portals.<portal>.zone",
        "The zone of the portal's people, for turning instants into dates.",
        "\"UTC\"",
    ).of(Type::Zone),
    default("portals.<portal>.calls_per_second_max", "API calls per second, shared by all that we do.", "50")
        .range(1, 1_000),
    default("portals.<portal>.calls_at_once_max", "API calls under way at once.", "6").range(1, 64),
    default(
        "portals.<portal>.competencies_path",
        "Where a learner's competencies are; Absorb does not document it. `{user}` stands for the learner's id.",
        "\"/users/{user}/competencies\"",
    )
    .limit("starts with `/`, contains `{user}`"),
    default(
        "portals.<portal>.certificates_path",
        "Where a learner's certificates are.",
        "\"/users/{user}/certificates\"",
    )
    .limit("starts with `/`, contains `{user}`"),
    optional(
        "portals.<portal>.learning_paths_path",
        "Where a learner's learning paths are; Absorb does not document it. Without it they are taken as their webhooks tell them.",
    )
    .limit("starts with `/`, contains `{user}`"),
    default("portals.<portal>.expiring_days", "So many days before its last one a certificate is said to expire.", "30")
        .range(0, 3_650),
    optional(
        "portals.<portal>.event_aliases",
        "Names that this portal's webhooks give to events, each with the name on Absorb's list.",
    ).of(Type::Texts),
    optional(
        "portals.<portal>.expected_learners",
        "How many learners the portal shows to its administrators; `check --online` compares, and so finds a role that sees too little.",
    )
    .range(1, 100_000_000),
    optional("destinations", "The destinations, by name.").limit("names: 1 to 32 of `a-z 0-9 - _`").of(Type::Table),
    required("destinations.<destination>.connector", "The connector's name, for example `bamboohr`.")
        .limit("a connector of this build"),
    optional("destinations.<destination>.settings", "The connector's own settings.").of(Type::Table),
    optional("destinations.<destination>.secrets", "Secrets for the settings: setting name -> where it stands.")
        .secrets().of(Type::Table),
    required(
        "destinations.<destination>.history",
        "Which facts of before the first start are delivered: `\"none\"`, `\"all\"`, or since a date. There is no default.",
    ).of(Type::History),
    default(
        "destinations.<destination>.match_rules",
        "How learners are recognised, in order.",
        "[\"external_id\", \"employee_number\", \"email\"]",
    )
    .limit("at least one; each `external_id`, `employee_number`, `email`, `username = FIELD` or `custom:NAME = FIELD`; behind vertical bars the forms `digits`, `letters_and_digits`, `no_leading_zeros`, `before_at`, `pad:8`")
    .of(Type::Rules),
    optional("destinations.<destination>.routes", "The routes, by name; without any, the connector's default ones.")
        .limit("names: 1 to 32 of `a-z 0-9 - _`").of(Type::Table),
    required("destinations.<destination>.routes.<route>.record", "Which records it takes.")
        .limit("`completion`, `certificate`, `competency`").of(Type::Word(&["completion", "certificate", "competency"])),
    required("destinations.<destination>.routes.<route>.object", "The target object, in the connector's words."),
    default("destinations.<destination>.routes.<route>.mode", "State or append.", "\"state\"")
        .limit("`state`, `append`").of(Type::Word(&["state", "append"])),
    default(
        "destinations.<destination>.routes.<route>.slot",
        "Which records share one place in the target: `record` (none), or `person_course` for targets with one row a person and course.",
        "\"record\"",
    )
    .limit("`record`, `person_course`").of(Type::Word(&["record", "person_course"])),
    optional(
        "destinations.<destination>.routes.<route>.fields",
        "Target field <- source; without any, the connector's default mapping for this kind of record.",
    )
    .limit("each exactly one of path, constant, template, lookup, reference").of(Type::Table),
    optional(
        "destinations.<destination>.routes.<route>.fields.<field>.path",
        "A path into the record, for example `course.name`.",
    ),
    optional("destinations.<destination>.routes.<route>.fields.<field>.constant", "A fixed value.").of(Type::Any),
    optional(
        "destinations.<destination>.routes.<route>.fields.<field>.template",
        "A MiniJinja template over the record.",
    )
    .limit("50,000 steps, 32 KiB of output"),
    optional(
        "destinations.<destination>.routes.<route>.fields.<field>.lookup",
        "A path whose value is looked up in `table`.",
    ),
    optional("destinations.<destination>.routes.<route>.fields.<field>.table", "The table of `lookup`.").of(Type::Texts),
    optional(
        "destinations.<destination>.routes.<route>.fields.<field>.reference",
        "A kind of reference data; the course finds it as `references.<kind>` says.",
    ),
    default(
        "destinations.<destination>.routes.<route>.fields.<field>.when_missing",
        "What happens when the record has no value: `keep` leaves the field as it is, unless an earlier value was ours: that is blanked; `clear` blanks it in any case; `park` sets the record aside.",
        "\"keep\"",
    )
    .limit("`keep`, `clear`, `park`").of(Type::Word(&["keep", "clear", "park"])),
    optional(
        "destinations.<destination>.routes.<route>.drift",
        "What the night does about this route's rows that are not as we wrote them; what is not set here is as for the destination.",
    )
    .of(Type::Table),
    optional(
        "destinations.<destination>.routes.<route>.drift.missing",
        "A row that is not there any more: `repair`, `report` or `ignore`.",
    )
    .of(Type::Word(&["repair", "report", "ignore"])),
    optional(
        "destinations.<destination>.routes.<route>.drift.moved",
        "A row that stands under another person now: `repair`, `report` or `ignore`.",
    )
    .of(Type::Word(&["repair", "report", "ignore"])),
    optional("destinations.<destination>.routes.<route>.drift.unmarked", "A row that lost our mark: `repair`, `report` or `ignore`.")
        .of(Type::Word(&["repair", "report", "ignore"])),
    optional(
        "destinations.<destination>.routes.<route>.drift.edited",
        "A field that somebody changed: `repair`, `report`, `adopt` or `ignore`.",
    )
    .of(Type::Word(&["repair", "report", "adopt", "ignore"])),
    optional(
        "destinations.<destination>.routes.<route>.drift.fields",
        "The same for single fields of the target: name -> policy.",
    )
    .of(Type::Texts),
    optional(
        "destinations.<destination>.routes.<route>.drift.gone",
        "A row whose fact the LMS no longer shows, as two complete reads say: `keep`, `report` or `withdraw`.",
    )
    .of(Type::Word(&["keep", "report", "withdraw"])),
    optional("destinations.<destination>.references", "Reference data: kind -> how courses find theirs.").of(Type::Table),
    optional(
        "destinations.<destination>.references.<reference>.courses",
        "Course id, external id or name -> reference id or name.",
    ).of(Type::Texts),
    optional(
        "destinations.<destination>.references.<reference>.default",
        "The reference for every course that is not in `courses`.",
    ),
    default(
        "destinations.<destination>.references.<reference>.explicit_only",
        "Switches off the last rule: a reference of the very same name as the course.",
        "false",
    ).of(Type::Bool),
    optional(
        "destinations.<destination>.zone",
        "The zone in which instants become dates; without it, the portal's.",
    ).of(Type::Zone),
    optional(
        "destinations.<destination>.settle_seconds",
        "How long after a write of unknown outcome the target may still be committing, in seconds; without it, the connector's own.",
    )
    .range(0, 3_600),
    optional(
        "destinations.<destination>.quiet_hours",
        "Daily hours in which routes that append tell nothing; what gathers meanwhile is told afterwards.",
    )
    .limit("shorter than `late_after_hours`").of(Type::Table),
    required("destinations.<destination>.quiet_hours.from", "When they begin, such as `\"20:00\"`.").of(Type::DayTime),
    required(
        "destinations.<destination>.quiet_hours.until",
        "When they end, such as `\"07:00\"`; on the next day, if that is earlier.",
    )
    .of(Type::DayTime),
    optional("destinations.<destination>.quiet_hours.zone", "The zone of both; without it, the destination's.").of(Type::Zone),
    default(
        "destinations.<destination>.late_after_hours",
        "How long after it was achieved something is still told by routes that append, in hours.",
        "24",
    )
    .range(1, 8_760),
    default(
        "destinations.<destination>.mode",
        "`live`, or `shadow`: then it is read and compared, and nothing can be written to it.",
        "\"live\"",
    )
    .of(Type::Word(&["live", "shadow"])),
    optional(
        "destinations.<destination>.drift",
        "What the night does about rows that are not as we wrote them.",
    )
    .of(Type::Table),
    optional(
        "destinations.<destination>.drift.missing",
        "A row that is not there any more: `repair`, `report` or `ignore`.",
    )
    .of(Type::Word(&["repair", "report", "ignore"])),
    optional(
        "destinations.<destination>.drift.moved",
        "A row that stands under another person now: `repair`, `report` or `ignore`.",
    )
    .of(Type::Word(&["repair", "report", "ignore"])),
    optional("destinations.<destination>.drift.unmarked", "A row that lost our mark: `repair`, `report` or `ignore`.")
        .of(Type::Word(&["repair", "report", "ignore"])),
    optional(
        "destinations.<destination>.drift.edited",
        "A field that somebody changed: `repair`, `report`, `adopt` or `ignore`.",
    )
    .of(Type::Word(&["repair", "report", "adopt", "ignore"])),
    optional(
        "destinations.<destination>.drift.fields",
        "The same for single fields of the target: name -> policy.",
    )
    .of(Type::Texts),
    optional(
        "destinations.<destination>.drift.gone",
        "A row whose fact the LMS no longer shows, as two complete reads say: `keep`, `report` or `withdraw`.",
    )
    .of(Type::Word(&["keep", "report", "withdraw"])),
    optional("destinations.<destination>.guard", "What the night must not do without a person's yes.").of(Type::Table),
    default(
        "destinations.<destination>.guard.changed_percent_max",
        "The largest part of the rows that one night may write again, in percent.",
        "20",
    )
    .range(0, 100),
    default("destinations.<destination>.guard.changed_rows_min", "So many rows may always be written again.", "20")
        .range(0, 1_000_000),
    default("destinations.<destination>.guard.withdrawn_rows_max", "The most rows that one night may remove.", "10")
        .range(0, 1_000_000),
    default(
        "destinations.<destination>.guard.unreadable_percent_max",
        "The largest part of the rows that may be unreadable, in percent.",
        "20",
    )
    .range(0, 100),
    optional("reconcile", "The nightly reconciliation.").of(Type::Table),
    default(
        "reconcile.cron",
        "When it is due: a cron expression with five fields.",
        "\"15 2 * * *\"",
    )
    .limit("minute hour day month weekday"),
    default("reconcile.zone", "The zone of the cron expression.", "\"UTC\"").of(Type::Zone),
    default(
        "read_only",
        "Whether nothing at all is written to any destination: all of them are in shadow.",
        "false",
    )
    .of(Type::Bool),
];

/// What may stand in the table at a path: the next part of each path below, with its setting where that is one itself.
pub(super) fn children(path: &[String]) -> Vec<(&'static str, Option<&'static Setting>)> {
    let mut found: Vec<(&str, Option<&Setting>)> = Vec::new();
    for setting in SETTINGS {
        let mut parts = setting.path.split('.');
        let is_below = path.iter().all(|key| parts.next().is_some_and(|part| part.starts_with('<') || part == key));
        let Some(name) = parts.next().filter(|_| is_below) else { continue };
        let own = parts.next().is_none().then_some(setting);
        if !found.iter().any(|(known, _)| *known == name) {
            found.push((name, own));
        }
    }
    found
}

/// All settings with their types, defaults and limits, as a Markdown table.
#[must_use]
pub fn settings_table() -> String {
    let mut page = String::from("| setting | what it is | type | default | limit |\n|---|---|---|---|---|\n");
    for setting in SETTINGS {
        let default = match setting.given {
            Given::Required => "required".to_owned(),
            Given::Optional => "none".to_owned(),
            Given::Default(value) => format!("`{value}`"),
        };
        let limit = match setting.limit {
            Limit::None => String::new(),
            Limit::Range(least, most) => format!("{least} to {most}"),
            Limit::Words(words) => words.to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{}` | {} | {} | {default} | {limit} |", setting.path, setting.doc, type_of(setting));
    }
    page
}

fn type_of(setting: &Setting) -> &'static str {
    match setting.kind {
        Kind::Plain => setting.value.as_str(),
        Kind::Secret => "where a secret stands",
        Kind::Secrets => "table of where secrets stand",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    /// Field name, doc comment, type.
    type Field = (String, String, String);

    /// The fields of every struct in the source of the configuration types.
    fn structs(source: &str) -> BTreeMap<String, Vec<Field>> {
        let mut found: BTreeMap<String, Vec<Field>> = BTreeMap::new();
        let (mut current, mut doc) = (String::new(), String::new());
        for line in source.lines() {
            let text = line.trim();
            if let Some(words) = text.strip_prefix("///") {
                doc.push_str(words);
            } else if let Some(name) = line.strip_prefix("pub struct ") {
                current = name.trim_end_matches(" {").to_owned();
                doc.clear();
            } else if line.starts_with('}') {
                current.clear();
            } else if let Some((name, kind)) = text.strip_prefix("pub ").and_then(|rest| rest.split_once(": ")) {
                if !current.is_empty() {
                    let field = (name.to_owned(), doc.trim().to_owned(), kind.trim_end_matches(',').to_owned());
                    found.entry(current.clone()).or_default().push(field);
                }
                doc.clear();
            } else if !text.starts_with('#') {
                doc.clear();
            }
        }
        found
    }

    fn expected(structs: &BTreeMap<String, Vec<Field>>, name: &str, prefix: &str, out: &mut Vec<Field>) {
        for (field, doc, kind) in &structs[name] {
            let path = format!("{prefix}{field}");
            out.push((path.clone(), doc.clone(), kind.clone()));
            let kind = kind.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>')).unwrap_or(kind);
            let inner = kind.strip_prefix("BTreeMap<String, ").and_then(|rest| rest.strip_suffix('>'));
            match inner {
                Some(inner) if structs.contains_key(inner) => {
                    let one = field.trim_end_matches('s');
                    expected(structs, inner, &format!("{path}.<{one}>."), out);
                }
                Some(_) => {}
                None if structs.contains_key(kind) => expected(structs, kind, &format!("{path}."), out),
                None => {}
            }
        }
    }

    #[test]
    fn every_setting_stands_in_the_reference_with_the_words_of_its_doc_comment() {
        let structs = structs(include_str!("mod.rs"));
        let mut expected_settings = Vec::new();
        expected(&structs, "Config", "", &mut expected_settings);
        assert!(expected_settings.len() > 40, "the doc comments were not read: {expected_settings:?}");
        let listed: BTreeMap<_, _> = SETTINGS.iter().map(|setting| (setting.path, setting.doc)).collect();
        assert_eq!(listed.len(), SETTINGS.len(), "a setting is listed twice");
        for (path, doc, _) in &expected_settings {
            assert_eq!(listed.get(path.as_str()), Some(&doc.as_str()), "{path} in SETTINGS");
        }
        for path in listed.keys() {
            assert!(expected_settings.iter().any(|(known, ..)| known == path), "{path} is no field any more");
        }
    }

    #[test]
    fn every_setting_has_the_type_of_its_field() {
        let structs = structs(include_str!("mod.rs"));
        let mut fields = Vec::new();
        expected(&structs, "Config", "", &mut fields);
        for (path, _, kind) in &fields {
            let setting = SETTINGS.iter().find(|setting| setting.path == path).expect("it is listed");
            let kind = kind.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>')).unwrap_or(kind);
            let expected = match kind {
                "String" | "PathBuf" | "Secret" => "text",
                "usize" | "u64" | "u32" => "whole number",
                "bool" => "true or false",
                "toml::Value" => "any value",
                "Tz" => "time zone",
                "SocketAddr" => "address:port",
                "AdminAddress" => "address:port or unix:path",
                "History" => "word or date",
                "DayTime" => "time of the day",
                "Region" | "RecordKind" | "RouteMode" | "SlotRule" | "WhenMissing" | "DestinationMode" | "Policy"
                | "GonePolicy" => "one word",
                "BTreeMap<String, Policy>" => "table of texts",
                "Vec<MatchRule>" => "list of rules",
                "BTreeMap<String, String>" => "table of texts",
                _ => "table",
            };
            assert_eq!(setting.value.as_str(), expected, "{path}: {kind}");
            assert_eq!(setting.kind == Kind::Secret, kind == "Secret", "{path}: {kind}");
        }
    }

    #[test]
    fn every_word_of_the_reference_is_taken_and_no_other_is() {
        let read = |text: &str| super::super::parse(Path::new("x.toml"), text).is_ok();
        for setting in SETTINGS {
            let Type::Word(words) = setting.value else { continue };
            let path = setting
                .path
                .replace("<portal>", "p")
                .replace("<destination>", "d")
                .replace("<route>", "r")
                .replace("<field>", "f");
            // A region stands in the place of a URL.
            let instead = path.replace(".region", ".url");
            let is_other = |line: &&str| !line.starts_with(&path) && !line.starts_with(&instead);
            let other = file(false).lines().filter(is_other).collect::<Vec<_>>().join("\n");
            for word in words {
                assert!(read(&format!("{other}\n{path} = \"{word}\"\n")), "{path} = {word}");
            }
            assert!(!read(&format!("{other}\n{path} = \"another\"\n")), "{path}");
        }
    }

    /// A small file with one of everything; `spell` adds the settings that have a default.
    fn file(spell: bool) -> String {
        let mut text = String::from("installation = \"a\"\nstore.path = \"/s\"\n");
        for (name, secret) in [("api_key", true), ("password", true), ("webhook_token", true), ("username", false)] {
            let value = if secret { "{ env = \"X\" }" } else { "\"u\"" };
            text.push_str(&format!("portals.p.{name} = {value}\n"));
        }
        text.push_str("portals.p.url = \"https://a.example\"\n");
        text.push_str("destinations.d.connector = \"c\"\ndestinations.d.history = \"all\"\n");
        text.push_str("destinations.d.routes.r.record = \"completion\"\ndestinations.d.routes.r.object = \"o\"\n");
        text.push_str(
            "destinations.d.routes.r.fields.f.path = \"title\"\ndestinations.d.references.k.default = \"x\"\n",
        );
        for setting in SETTINGS.iter().filter(|_| spell) {
            if let Given::Default(value) = setting.given {
                let path = setting.path.replace("<portal>", "p").replace("<destination>", "d");
                let path = path.replace("<route>", "r").replace("<field>", "f").replace("<reference>", "k");
                text.push_str(&format!("{path} = {value}\n"));
            }
        }
        text
    }

    #[test]
    fn the_defaults_of_the_reference_are_those_of_the_code() {
        let read = |text: &str| match super::super::parse(Path::new("x.toml"), text) {
            Ok((config, _)) => format!("{config:?}"),
            Err(errors) => panic!("{errors}"),
        };
        let spelled = file(true);
        assert!(spelled.contains("listen.hooks_burst_max"), "the defaults were not spelled out");
        assert_eq!(read(&spelled), read(&file(false)));
    }

    #[test]
    fn the_page_shows_defaults_and_limits() {
        let page = settings_table();
        assert!(page.contains(
            "| `listen.body_bytes_max` | Largest webhook body after decoding, in bytes. | whole number | `262144` | 1024 to 16777216 |"
        ));
        assert!(
            page.contains("| `portals.<portal>.password` | Its password. | where a secret stands | none |  |"),
            "{page}"
        );
    }
}
