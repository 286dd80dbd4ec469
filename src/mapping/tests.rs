//! The rules of a mapping.

use std::collections::BTreeMap;

use chrono::{NaiveDate, TimeZone, Utc};
use learnsync_sdk::{RecordKind, Reference, TargetField, TargetObject};

use super::*;
use crate::config::SourceConfig;
use crate::domain::record::Course;
use crate::domain::time::{LmsTime, Timestamp};

fn object() -> TargetObject {
    let field =
        |name: &str, kind, required, length_max| TargetField { name: name.to_owned(), kind, required, length_max };
    TargetObject {
        name: "training".to_owned(),
        fields: vec![
            field("completed", FieldType::Date, true, None),
            field("type", FieldType::Reference, false, None),
            field("hours", FieldType::Number, false, None),
            field("notes", FieldType::Text, false, Some(20)),
        ],
        open: false,
    }
}

fn record() -> Record {
    // 23:30 in New York on the third of March.
    let at = Utc.with_ymd_and_hms(2026, 3, 4, 4, 30, 0).single().expect("an instant");
    Record {
        title: "Fire Safety".to_owned(),
        achieved: Some(LmsTime::Instant(Timestamp::from(at))),
        course: Some(Course {
            id: "c1".to_owned(),
            name: "Fire Safety".to_owned(),
            external_id: Some("FS-1".to_owned()),
        }),
        score: Some(90.0),
        minutes: Some(100.0),
        ..Record::new(RecordKind::Completion, "e1", "u1")
    }
}

fn sources(lines: &[(&str, SourceConfig)]) -> BTreeMap<String, SourceConfig> {
    let mut all: BTreeMap<String, SourceConfig> =
        lines.iter().map(|(name, source)| ((*name).to_owned(), source.clone())).collect();
    all.entry("completed".to_owned()).or_insert_with(|| path("achieved"));
    all
}

fn path(text: &str) -> SourceConfig {
    SourceConfig { path: Some(text.to_owned()), ..SourceConfig::default() }
}

fn template(text: &str) -> SourceConfig {
    SourceConfig { template: Some(text.to_owned()), ..SourceConfig::default() }
}

fn compile(lines: &[(&str, SourceConfig)]) -> Result<Mapping, Vec<MappingError>> {
    Mapping::compile(&sources(lines), &object(), Tz::America__New_York, &BTreeMap::new())
}

fn render(lines: &[(&str, SourceConfig)]) -> Rendered {
    compile(lines).unwrap_or_else(|errors| panic!("{errors:?}")).render(&record(), &Learner::default(), &table())
}

fn table() -> ReferenceTable {
    let mut table = ReferenceTable::default();
    let reference = |id: &str, name: &str| Reference { id: id.to_owned(), name: name.to_owned() };
    table.insert(
        "training_type".to_owned(),
        vec![reference("4", "fire safety "), reference("7", "First Aid"), reference("8", "First Aid")],
    );
    table
}

fn field(rendered: Rendered, name: &str) -> Option<Value> {
    match rendered {
        Rendered::Fields(mut fields) => fields.remove(name),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_completion_at_half_past_eleven_at_night_is_of_that_day_in_the_routes_zone() {
    let third = NaiveDate::from_ymd_opt(2026, 3, 3).expect("a date");
    assert_eq!(field(render(&[]), "completed"), Some(Value::Date(third)));
}

#[test]
fn minutes_become_hours_with_two_decimals() {
    assert_eq!(field(render(&[("hours", path("hours"))]), "hours"), Some(Value::Number(1.67)));
}

#[test]
fn a_wrong_path_or_field_names_the_nearest_right_one() {
    let errors = compile(&[("notes", path("course.nane")), ("hour", path("hours"))]).err().expect("is refused");
    let words: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(words.iter().any(|line| line.contains("did you mean \"course.name\"?")), "{words:?}");
    assert!(words.iter().any(|line| line.contains("did you mean \"hours\"?")), "{words:?}");
}

#[test]
fn a_path_of_the_wrong_type_is_found_before_anything_is_sent() {
    let errors = compile(&[("hours", path("course.name"))]).err().expect("is refused");
    assert!(errors[0].message.contains("hours is a number"), "{errors:?}");
}

#[test]
fn a_constant_or_a_table_of_the_wrong_type_is_found_before_anything_is_sent() {
    let constant = |value| SourceConfig { constant: Some(value), ..SourceConfig::default() };
    for (field, value) in [
        ("completed", toml::Value::from(3)),
        ("completed", toml::Value::from("soon")),
        ("hours", toml::Value::from(true)),
        ("hours", toml::Value::from("three")),
        ("notes", toml::Value::from(1.5)),
    ] {
        let errors = compile(&[(field, constant(value.clone()))]).err().unwrap_or_else(|| panic!("{field} <- {value}"));
        assert_eq!(errors[0].setting, Some("constant"), "{errors:?}");
    }
    let day: toml::Value = toml::Value::Datetime("2026-01-31".parse().expect("a date"));
    assert!(compile(&[("completed", constant(day))]).is_ok());
    let table = [("A".to_owned(), "many".to_owned()), ("B".to_owned(), "2".to_owned())].into_iter().collect();
    let lookup = SourceConfig { lookup: Some("title".to_owned()), table, ..SourceConfig::default() };
    let errors = compile(&[("hours", lookup)]).err().expect("is refused");
    assert_eq!((errors.len(), errors[0].setting), (1, Some("table")), "{errors:?}");
}

#[test]
fn a_source_is_exactly_one_thing_and_a_required_field_has_one() {
    let two =
        SourceConfig { path: Some("title".to_owned()), template: Some("x".to_owned()), ..SourceConfig::default() };
    assert!(compile(&[("notes", two)]).is_err());
    let without = Mapping::compile(&BTreeMap::new(), &object(), Tz::UTC, &BTreeMap::new()).err().expect("is refused");
    assert_eq!(without[0].field, "completed");
}

#[test]
fn a_missing_value_is_kept_cleared_or_parks_as_configured() {
    let with = |when_missing| SourceConfig { when_missing, ..path("notes") };
    assert_eq!(field(render(&[("notes", with(WhenMissing::Keep))]), "notes"), None);
    assert_eq!(field(render(&[("notes", with(WhenMissing::Clear))]), "notes"), Some(Value::Null));
    assert_eq!(render(&[("notes", with(WhenMissing::Park))]), Rendered::Missing { field: "notes".to_owned() });
}

#[test]
fn a_required_field_without_a_value_parks_whatever_its_policy() {
    let mapping = compile(&[("completed", path("valid_until"))]).unwrap_or_else(|errors| panic!("{errors:?}"));
    let rendered = mapping.render(&record(), &Learner::default(), &table());
    assert_eq!(rendered, Rendered::Missing { field: "completed".to_owned() });
}

#[test]
fn a_template_reads_the_record_and_an_unknown_name_in_it_is_found_before_anything_is_sent() {
    let made = render(&[("notes", template("{{ course.name }} {{ score }}"))]);
    assert_eq!(field(made, "notes"), Some(Value::Text("Fire Safety 90.0".to_owned())));
    for (text, expected) in [
        ("{{ course.nane }}", "\"course.nane\" is no path of a record, did you mean \"course.name\"?"),
        ("{% if scores %}a{% endif %}", "\"scores\" is no path of a record, did you mean \"score\"?"),
        ("{{ titel | upper }}", "\"titel\" is no path of a record, did you mean \"title\"?"),
    ] {
        let errors = compile(&[("notes", template(text))]).err().unwrap_or_else(|| panic!("{text} is accepted"));
        assert_eq!((errors[0].setting, errors[0].message.as_str()), (Some("template"), expected));
    }
    for text in [
        "{{ learner.custom.badge }}{{ learner.custom['cost centre'] }}",
        "{% set name = course.name %}{% for n in range(2) %}{{ loop.index }}{{ name }}{% endfor %}",
        "{% if course is defined %}{{ dict(a=learner.email).a }}{% endif %}",
    ] {
        assert!(compile(&[("notes", template(text))]).is_ok(), "{text} is refused");
    }
}

#[test]
fn a_runaway_template_stops_at_its_fuel_and_at_its_length() {
    let endless = "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
    let Rendered::Failed { message, .. } = render(&[("notes", template(endless))]) else { panic!("must fail") };
    assert!(message.contains("fuel"), "{message}");
    let long = "{% for a in range(900) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}";
    let Rendered::Failed { message, .. } = render(&[("notes", template(long))]) else { panic!("must fail") };
    assert!(message.contains("32768"), "{message}");
}

#[test]
fn a_text_longer_than_the_target_takes_is_refused_and_never_cut() {
    let rendered = render(&[("notes", template("123456789012345678901"))]);
    let Rendered::Failed { message, .. } = rendered else { panic!("must fail") };
    assert!(message.contains("21") && message.contains("20"), "{message}");
}

#[test]
fn a_lookup_names_the_value_that_its_table_lacks() {
    let lookup = |word: &str| SourceConfig {
        lookup: Some("course.external_id".to_owned()),
        table: BTreeMap::from([(word.to_owned(), "fire".to_owned())]),
        ..SourceConfig::default()
    };
    assert_eq!(field(render(&[("notes", lookup("FS-1"))]), "notes"), Some(Value::Text("fire".to_owned())));
    let Rendered::Failed { message, .. } = render(&[("notes", lookup("FS-2"))]) else { panic!("must fail") };
    assert!(message.contains("FS-1"), "{message}");
}

#[test]
fn a_course_finds_its_reference_as_configured_then_by_name_then_by_default() {
    let resolve = |config: ReferenceConfig| {
        let references = BTreeMap::from([("training_type".to_owned(), config)]);
        let source = SourceConfig { reference: Some("training_type".to_owned()), ..SourceConfig::default() };
        let mapping = Mapping::compile(&sources(&[("type", source)]), &object(), Tz::UTC, &references)
            .unwrap_or_else(|errors| panic!("{errors:?}"));
        mapping.render(&record(), &Learner::default(), &table())
    };
    let courses = |key: &str, wish: &str| ReferenceConfig {
        courses: BTreeMap::from([(key.to_owned(), wish.to_owned())]),
        ..ReferenceConfig::default()
    };
    let text = |id: &str| Some(Value::Text(id.to_owned()));
    assert_eq!(field(resolve(ReferenceConfig::default()), "type"), text("4"), "the same name, folded");
    assert_eq!(field(resolve(courses("FS-1", "7")), "type"), text("7"));
    assert!(matches!(resolve(courses("c1", "First Aid")), Rendered::Failed { .. }), "two have that name");
    assert!(matches!(resolve(courses("c1", "Nothing")), Rendered::Unmapped { .. }));
    let explicit = ReferenceConfig { explicit_only: true, ..ReferenceConfig::default() };
    assert_eq!(
        resolve(explicit.clone()),
        Rendered::Unmapped { kind: "training_type".to_owned(), course: "Fire Safety".to_owned() }
    );
    assert_eq!(field(resolve(ReferenceConfig { default: Some("8".to_owned()), ..explicit }), "type"), text("8"));
}

#[test]
fn the_digest_changes_exactly_when_the_mapping_does() {
    let digest = |lines: &[(&str, SourceConfig)]| {
        compile(lines).unwrap_or_else(|errors| panic!("{errors:?}")).digest().to_owned()
    };
    assert_eq!(digest(&[("notes", path("title"))]), digest(&[("notes", path("title"))]));
    assert_ne!(digest(&[("notes", path("title"))]), digest(&[("notes", path("course.name"))]));
    assert_ne!(digest(&[]), digest(&[("notes", path("title"))]));
}

#[test]
fn a_mapping_knows_whether_it_says_how_a_record_stands() {
    let says = |source: SourceConfig| {
        compile(&[("notes", source)]).unwrap_or_else(|errors| panic!("{errors:?}")).says_standing()
    };
    assert!(says(path("standing")));
    assert!(says(SourceConfig {
        template: Some("{{ title }} is {{ standing }}".to_owned()),
        ..SourceConfig::default()
    }));
    assert!(!says(SourceConfig {
        template: Some("{{ title }}, standing alone".to_owned()),
        ..SourceConfig::default()
    }));
    assert!(!says(path("title")));
}
