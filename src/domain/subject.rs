//! Subjects: what events make us re-read.

use learnsync_sdk::RecordKind;

/// What is re-read as a whole: one learner, or one list of what a portal offers.
///
/// A list is one subject, not a thousand: an event about a course often does not say which one, and a list of courses is one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKind {
    /// A learner, with all their records.
    Learner,
    /// All courses, curricula and bundles of a portal.
    Courses,
    /// All departments of a portal.
    Departments,
    /// All groups of a portal.
    Groups,
}

impl SubjectKind {
    /// The lists.
    pub const LISTS: [Self; 3] = [Self::Courses, Self::Departments, Self::Groups];

    /// The word in the ledger. A list has this as its id, too: a portal has one of each.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::Courses => "courses",
            Self::Departments => "departments",
            Self::Groups => "groups",
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Learner, Self::Courses, Self::Departments, Self::Groups].into_iter().find(|kind| kind.as_str() == word)
    }

    /// The records that a list holds; none for a learner, who has several kinds.
    #[must_use]
    pub fn listed(self) -> Option<RecordKind> {
        match self {
            Self::Learner => None,
            Self::Courses => Some(RecordKind::Course),
            Self::Departments => Some(RecordKind::Department),
            Self::Groups => Some(RecordKind::Group),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nobodys_is_in_exactly_one_list() {
        for kind in RecordKind::ALL {
            let lists = SubjectKind::LISTS.into_iter().filter(|list| list.listed() == Some(kind)).count();
            assert_eq!(lists, usize::from(!kind.is_about_learner()), "{kind}");
        }
    }
}
