//! The two files, with every setting, its sentence, and its default behind a `#`.

use learnsync_sdk::{DefaultRoute, RouteMode, Setting, SettingType, SlotRule};

use super::answers::{Main, Place, Target};
use crate::config::{Given, Kind, Limit, SETTINGS, Setting as Listed, Type};

/// The longest line of a comment, in characters.
const LINE_CHARS_MAX: usize = 110;

/// `learnsync.toml`.
pub(super) fn main_file(main: &Main) -> String {
    let mut page = Page::default();
    page.comment("The configuration of learnsync. `learnsync check` says whether it is right, `learnsync reference` what else there is.");
    page.comment("What begins with # and no blank is a default: take the # away to change it.");
    let portal = main.portal.as_str();
    page.table("", "", |name| (name == "installation").then(|| text(&main.installation)));
    page.table("store", "store", |name| (name == "path").then(|| text(&main.store)));
    page.table("listen", "listen", |name| (name == "address").then(|| text(&main.listen)));
    page.table("portals.<portal>", &format!("portals.{portal}"), |name| match name {
        "url" => Some(text(&main.url)),
        "username" => Some(text(&main.username)),
        "zone" => Some(text(&main.zone)),
        _ => main.secrets.iter().find(|(secret, _)| *secret == name).map(|(_, place)| secret(place)),
    });
    page.comment("Instead of username and password, an administrator may say yes once, with `learnsync login`. It needs store.token_key.");
    page.line(&format!("# [portals.{portal}.oauth]"));
    page.line("# client_id = \"from the portal's settings\"");
    page.line("# client_secret = { credential = \"absorb_client_secret\" }");
    page.line("# portal_url = \"https://acme.myabsorb.com\"");
    page.line("# redirect_uri = \"https://acme.example/learnsync\"");
    page.table("reconcile", "reconcile", |name| (name == "zone").then(|| text(&main.zone)));
    page.blank();
    page.comment("The destinations stand beside this file, one file each: destinations.d/<name>.toml.");
    page.text
}

/// `destinations.d/<name>.toml`.
pub(super) fn destination_file(target: &Target) -> String {
    let about = &target.description;
    let mut page = Page { settle_seconds: about.settle_seconds, ..Page::default() };
    page.comment(&format!("The destination \"{}\". {}", target.name, about.summary));
    page.comment(about.documentation);
    page.table("destinations.<destination>", "", |name| match name {
        "connector" => Some(text(about.name)),
        "history" => Some(text(&target.history)),
        _ => None,
    });
    page.line("\n[settings]");
    for setting in about.settings.iter().filter(|setting| !setting.is_secret) {
        page.comment(setting.doc);
        let given = target.settings.get(setting.name);
        let value = value_of(setting, given.map_or(setting.example, String::as_str));
        page.key(setting.name, &value, given.is_some());
    }
    page.line("\n[secrets]");
    for setting in about.settings.iter().filter(|setting| setting.is_secret) {
        page.comment(setting.doc);
        let given = target.secrets.iter().find(|(name, _)| *name == setting.name);
        let credential = Place::Credential(format!("{}_{}", target.name, setting.name));
        page.key(setting.name, &secret(given.map_or(&credential, |(_, place)| place)), given.is_some());
    }
    if !about.default_routes.is_empty() {
        page.blank();
        page.comment("The routes, as they are without any here. Whoever names one names all.");
        about.default_routes.iter().for_each(|one| route(&mut page, one));
    }
    for kind in about.reference_kinds {
        page.blank();
        page.comment(&format!(
            "How a course finds its {kind}: as written here, else by the same name, else the default."
        ));
        page.line(&format!("#[references.{kind}]"));
        page.line("#courses = { \"The course in the LMS\" = \"Its name or id in the target\" }");
        page.line("#explicit_only = false");
    }
    page.text
}

fn route(page: &mut Page, route: &DefaultRoute) {
    page.line(&format!("\n#[routes.{}]", route.name));
    page.key("record", &text(route.record.as_str()), false);
    page.key("object", &text(route.object), false);
    let mode = match route.mode {
        RouteMode::State => "state",
        RouteMode::Append => "append",
    };
    page.key("mode", &text(mode), false);
    let slot = match route.slot {
        SlotRule::Record => "record",
        SlotRule::PersonCourse => "person_course",
    };
    page.key("slot", &text(slot), false);
    if route.fields.is_empty() {
        return;
    }
    page.line(&format!("#[routes.{}.fields]", route.name));
    for line in &route.fields {
        let (word, source) = line.source;
        let key = toml_key(line.field);
        page.key(&key, &format!("{{ {word} = {} }}", text(source)), false);
    }
}

fn toml_key(name: &str) -> String {
    let is_bare = name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'));
    if is_bare { name.to_owned() } else { text(name) }
}

fn text(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn value_of(setting: &Setting, value: &str) -> String {
    match setting.kind {
        SettingType::Text => text(value),
        SettingType::Integer | SettingType::Bool => value.to_owned(),
    }
}

fn secret(place: &Place) -> String {
    match place {
        Place::Credential(name) => format!("{{ credential = {} }}", text(name)),
        Place::File(path) => format!("{{ file = {} }}", text(path)),
        Place::Env(name) => format!("{{ env = {} }}", text(name)),
    }
}

#[derive(Default)]
struct Page {
    text: String,
    settle_seconds: u32,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn blank(&mut self) {
        self.line("");
    }

    /// A comment, broken into lines.
    fn comment(&mut self, words: &str) {
        let mut line = String::from("#");
        for word in words.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > LINE_CHARS_MAX {
                self.line(&line);
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }

    fn key(&mut self, name: &str, value: &str, is_given: bool) {
        let hash = if is_given { "" } else { "#" };
        self.line(&format!("{hash}{name} = {value}"));
    }

    /// All plain settings of a table of the reference, with the values that are given.
    fn table(&mut self, path: &str, header: &str, given: impl Fn(&str) -> Option<String>) {
        self.blank();
        if let Some(table) = SETTINGS.iter().find(|setting| setting.path == path) {
            self.comment(table.doc);
        }
        if !header.is_empty() {
            self.line(&format!("[{header}]"));
        }
        let below = if path.is_empty() { String::new() } else { format!("{path}.") };
        for setting in SETTINGS {
            let Some(name) = setting.path.strip_prefix(&below).filter(|name| !name.contains('.')) else { continue };
            if setting.value == Type::Table {
                continue;
            }
            self.comment(&with_limit(setting));
            let value = given(name);
            let shown = value.clone().unwrap_or_else(|| self.default_of(setting));
            self.key(name, &shown, value.is_some());
        }
    }

    fn default_of(&self, setting: &Listed) -> String {
        match (setting.given, setting.value) {
            (Given::Default(value), _) => value.to_owned(),
            (Given::Optional, Type::Integer) if last(setting.path) == "expected_learners" => "1".to_owned(),
            (Given::Required | Given::Optional, Type::Integer) => self.settle_seconds.to_string(),
            (_, _) if setting.kind == Kind::Secret => secret(&Place::Credential(last(setting.path).to_owned())),
            (Given::Required | Given::Optional, Type::Word(words)) => text(words[0]),
            (Given::Required | Given::Optional, Type::Zone) => text("Europe/Berlin"),
            (Given::Required | Given::Optional, Type::Texts) => "{}".to_owned(),
            (Given::Required | Given::Optional, _) if setting.path.ends_with("_path") => {
                text("/users/{user}/learning-paths")
            }
            (Given::Required | Given::Optional, _) => text(""),
        }
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn with_limit(setting: &Listed) -> String {
    match setting.limit {
        Limit::Range(least, most) => format!("{} {least} to {most}.", setting.doc),
        Limit::None | Limit::Words(_) => setting.doc.to_owned(),
    }
}
