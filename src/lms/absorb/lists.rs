//! Rows of what a portal offers, as records: courses, departments, groups. Pure.

use serde_json::Value;

use learnsync_sdk::RecordKind;

use super::dates::Midnight;
use super::row::{Row, fold};
use crate::domain::record::{Course, Record, Standing};

/// Absorb appends this to the members of a group that has more than 50,000 (<https://docs.myabsorb.com/integration-api/v2/docs/groups>).
const MORE_MEMBERS: &str = "00000000-0000-0000-0000-000000000000";

/// Reads a course of any kind. Its category is Absorb's `courseType`: OnlineCourse, InstructorLedCourse, Curriculum or CourseBundle.
pub(super) fn course(value: &Value) -> Result<Record, String> {
    let row = Row::of(value)?;
    let id = row.id(&["id", "courseid"]).ok_or("a course has no id")?;
    let external_id = row.text(&["externalid"]);
    let title = row.text(&["name", "coursename"]).unwrap_or_else(|| id.clone());
    Ok(Record {
        course: Some(Course { id: id.clone(), name: title.clone(), external_id: external_id.clone() }),
        title,
        achieved: added(&row, &id)?,
        external_id,
        standing: Some(standing(&row)),
        category: row.text(&["coursetype", "type"]),
        ..Record::new(RecordKind::Course, id, "")
    })
}

/// Reads a department; its department is the one that it belongs to.
pub(super) fn department(value: &Value) -> Result<Record, String> {
    let row = Row::of(value)?;
    let id = row.id(&["id", "departmentid"]).ok_or("a department has no id")?;
    Ok(Record {
        title: row.text(&["name", "departmentname"]).unwrap_or_else(|| id.clone()),
        achieved: added(&row, &id)?,
        external_id: row.text(&["externalid"]),
        department: row.id(&["parentid", "parentdepartmentid"]),
        ..Record::new(RecordKind::Department, id, "")
    })
}

/// Reads a group. Of more than 50,000 members Absorb names only the first, so their number is not known.
pub(super) fn group(value: &Value) -> Result<Record, String> {
    let row = Row::of(value)?;
    let id = row.id(&["id", "groupid"]).ok_or("a group has no id")?;
    let members = row.get(&["userids"]).and_then(Value::as_array).filter(|ids| {
        let last = ids.last().and_then(Value::as_str);
        last != Some(MORE_MEMBERS)
    });
    Ok(Record {
        title: row.text(&["name", "groupname"]).unwrap_or_else(|| id.clone()),
        achieved: added(&row, &id)?,
        category: row.text(&["isautomatic"]).map(|flag| if flag == "true" { "automatic" } else { "manual" }.to_owned()),
        members: members.map(|ids| ids.len() as u64),
        ..Record::new(RecordKind::Group, id, "")
    })
}

/// Reads a user as a record.
pub(super) fn person(id: &str, value: &Value) -> Result<Record, String> {
    let row = Row::of(value)?;
    let words = [row.text(&["firstname"]), row.text(&["lastname"])];
    let name = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
    Ok(Record {
        title: if name.is_empty() { id.to_owned() } else { name },
        achieved: added(&row, id)?,
        external_id: row.text(&["externalid"]),
        standing: Some(standing(&row)),
        department: row.id(&["departmentid"]),
        category: row.text(&["jobtitle"]),
        ..Record::new(RecordKind::Person, id, id)
    })
}

fn added(row: &Row<'_>, id: &str) -> Result<Option<crate::domain::time::LmsTime>, String> {
    row.moment(&["dateadded", "datecreated"], Midnight::Instant).map_err(|words| format!("{id}: {words}"))
}

/// 0 is active, 1 inactive (of users: <https://docs.myabsorb.com/integration-api/v2/docs/users>; of courses inferred). What is not said is active.
fn standing(row: &Row<'_>) -> Standing {
    let status = row.text(&["activestatus", "isactive"]).map(|status| fold(&status));
    match status.as_deref() {
        None | Some("0" | "active" | "true") => Standing::Active,
        Some(_) => Standing::Inactive,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_course_is_read_with_its_kind_and_whether_it_is_active() {
        let row = json!({"Id": "K1", "name": "Fire", "courseType": "Curriculum", "externalId": "X", "activeStatus": 1,
            "dateAdded": "2026-08-24T04:30:00"});
        let course = course(&row).expect("it is a course");
        assert_eq!(course.key(), "course/K1");
        assert_eq!((course.title.as_str(), course.category.as_deref()), ("Fire", Some("Curriculum")));
        assert_eq!((course.standing, course.external_id.as_deref()), (Some(Standing::Inactive), Some("X")));
        assert!(course.achieved.is_some() && course.learner_id.is_empty());
        let standing =
            |status: Value| super::course(&json!({"id": "k", "activeStatus": status})).map(|row| row.standing);
        assert_eq!(standing(json!(0)), Ok(Some(Standing::Active)));
        assert_eq!(standing(json!("Active")), Ok(Some(Standing::Active)));
        assert_eq!(standing(json!(null)), Ok(Some(Standing::Active)));
        assert_eq!(standing(json!("Inactive")), Ok(Some(Standing::Inactive)));
        assert!(super::course(&json!({"name": "Fire"})).is_err());
    }

    #[test]
    fn a_department_knows_which_one_it_belongs_to() {
        let department =
            department(&json!({"id": "d2", "name": "North", "parentId": "d1", "externalId": 17})).expect("is read");
        assert_eq!((department.department.as_deref(), department.external_id.as_deref()), (Some("d1"), Some("17")));
    }

    #[test]
    fn the_members_of_a_group_are_counted_unless_absorb_cuts_their_list() {
        let members =
            |ids: &[&str]| group(&json!({"id": "g", "name": "Drivers", "userIds": ids})).map(|group| group.members);
        assert_eq!(members(&["a", "b"]), Ok(Some(2)));
        assert_eq!(members(&[]), Ok(Some(0)));
        assert_eq!(members(&["a", MORE_MEMBERS]), Ok(None));
        assert_eq!(group(&json!({"id": "g"})).map(|group| group.members), Ok(None));
    }

    #[test]
    fn a_person_is_a_record_of_their_own() {
        let row =
            json!({"id": "u", "firstName": "Ada", "lastName": "Lovelace", "departmentId": "d1", "activeStatus": 1});
        let person = person("u", &row).expect("is read");
        assert_eq!((person.key().as_str(), person.title.as_str()), ("person/u", "Ada Lovelace"));
        assert_eq!((person.standing, person.department.as_deref()), (Some(Standing::Inactive), Some("d1")));
    }
}
