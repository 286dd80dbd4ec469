//! Reference data: which piece of the target's data a course is.

use std::collections::BTreeMap;

use learnsync_sdk::Reference;

use super::Trouble;
use crate::config::ReferenceConfig;
use crate::domain::record::Record;

/// The target's reference data, by kind.
#[derive(Clone, Debug, Default)]
pub struct ReferenceTable {
    kinds: BTreeMap<String, Kind>,
}

#[derive(Clone, Debug, Default)]
struct Kind {
    ids: std::collections::BTreeSet<String>,
    by_name: BTreeMap<String, Vec<String>>,
}

impl ReferenceTable {
    /// Keeps the list of one kind.
    pub fn insert(&mut self, kind: String, references: Vec<Reference>) {
        let mut listed = Kind::default();
        for reference in references {
            listed.by_name.entry(fold(&reference.name)).or_default().push(reference.id.clone());
            listed.ids.insert(reference.id);
        }
        self.kinds.insert(kind, listed);
    }

    /// The id of the reference that a record's course is: as configured for the course's id, external id or name; else the one of the
    /// same name; else the default.
    pub(super) fn resolve(&self, kind: &str, record: &Record, config: &ReferenceConfig) -> Result<String, Trouble> {
        let course = record.course.as_ref();
        let name = course.map_or(record.title.as_str(), |course| course.name.as_str());
        let unmapped = || Trouble::Unmapped { kind: kind.to_owned(), course: name.to_owned() };
        let keys = [
            course.map(|course| course.id.as_str()),
            course.and_then(|course| course.external_id.as_deref()),
            Some(name),
        ];
        let configured = keys.into_iter().flatten().find_map(|key| config.courses.get(key));
        let listed = self.kinds.get(kind);
        if let Some(wish) = configured {
            return self.named(listed, kind, wish);
        }
        if !config.explicit_only
            && let Some([only]) = listed.and_then(|listed| listed.by_name.get(&fold(name))).map(Vec::as_slice)
        {
            return Ok(only.clone());
        }
        match &config.default {
            Some(wish) => self.named(listed, kind, wish),
            None => Err(unmapped()),
        }
    }

    /// A configured wish: an id, or a name that only one reference has.
    fn named(&self, listed: Option<&Kind>, kind: &str, wish: &str) -> Result<String, Trouble> {
        let Some(listed) = listed else {
            return Err(Trouble::Failed(format!("the target lists no {kind}")));
        };
        if listed.ids.contains(wish) {
            return Ok(wish.to_owned());
        }
        match listed.by_name.get(&fold(wish)).map(Vec::as_slice) {
            Some([only]) => Ok(only.clone()),
            Some(several) => Err(Trouble::Failed(format!(
                "the target has {} {kind} of the name \"{wish}\" ({}): write the id",
                several.len(),
                several.join(", ")
            ))),
            None => Err(Trouble::Unmapped { kind: kind.to_owned(), course: wish.to_owned() }),
        }
    }
}

/// Names differ in case and in blanks at their ends between systems.
fn fold(name: &str) -> String {
    name.trim().to_lowercase()
}
