//! A validator for tests: the keywords of JSON Schema that we use, and a panic for any other.

use serde_json::{Map, Value};

/// A TOML text as JSON; dates are texts.
pub(crate) fn toml_as_json(text: &str) -> Value {
    fn convert(value: toml::Value) -> Value {
        match value {
            toml::Value::Table(table) => {
                table.into_iter().map(|(key, value)| (key, convert(value))).collect::<Map<_, _>>().into()
            }
            toml::Value::Array(items) => items.into_iter().map(convert).collect::<Vec<_>>().into(),
            toml::Value::Datetime(at) => at.to_string().into(),
            toml::Value::String(text) => text.into(),
            toml::Value::Integer(number) => number.into(),
            toml::Value::Float(number) => number.into(),
            toml::Value::Boolean(flag) => flag.into(),
        }
    }
    convert(toml::Value::Table(text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))))
}

/// What of the value breaks the schema, each with its place.
pub(crate) fn errors_of(schema: &Value, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    check(schema, schema, value, "", &mut errors);
    errors
}

fn keeps(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut errors = Vec::new();
    check(root, schema, value, "", &mut errors);
    errors.is_empty()
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, errors: &mut Vec<String>) {
    let schema = match schema {
        Value::Bool(true) => return,
        Value::Bool(false) => return errors.push(format!("{at}: nothing may stand here")),
        schema => schema.as_object().expect("a schema is an object"),
    };
    for (keyword, rule) in schema {
        check_keyword(root, schema, (keyword.as_str(), rule), value, at, errors);
    }
}

fn check_keyword(
    root: &Value,
    schema: &Map<String, Value>,
    (keyword, rule): (&str, &Value),
    value: &Value,
    at: &str,
    errors: &mut Vec<String>,
) {
    let list = || rule.as_array().expect("a list").iter();
    let words = || list().map(|word| word.as_str().expect("a word"));
    let number = || rule.as_i64().expect("a number");
    let holds = match keyword {
        "$schema" | "title" | "description" | "default" | "examples" | "$defs" | "then" => true,
        "$ref" => {
            let target = rule.as_str().and_then(|path| path.strip_prefix('#')).expect("a local reference");
            return check(root, root.pointer(target).expect("the reference leads somewhere"), value, at, errors);
        }
        "type" => match rule.as_str().expect("one type") {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64(),
            "boolean" => value.is_boolean(),
            other => panic!("the type {other}"),
        },
        "enum" => list().any(|one| one == value),
        "const" => rule == value,
        "minimum" => value.as_i64().is_none_or(|found| found >= number()),
        "maximum" => value.as_i64().is_none_or(|found| found <= number()),
        "minLength" => value.as_str().is_none_or(|text| text.chars().count() as i64 >= number()),
        "minItems" => value.as_array().is_none_or(|items| items.len() as i64 >= number()),
        "minProperties" => value.as_object().is_none_or(|table| table.len() as i64 >= number()),
        "pattern" => value.as_str().is_none_or(|text| matches(rule.as_str().expect("a pattern"), text)),
        "required" => value.as_object().is_none_or(|table| words().all(|word| table.contains_key(word))),
        "dependentRequired" => value.as_object().is_none_or(|table| {
            rule.as_object().expect("a table").iter().filter(|(key, _)| table.contains_key(*key)).all(|(_, needed)| {
                needed.as_array().expect("a list").iter().all(|one| table.contains_key(one.as_str().expect("a word")))
            })
        }),
        "propertyNames" => {
            value.as_object().is_none_or(|table| table.keys().all(|key| keeps(root, rule, &Value::from(key.as_str()))))
        }
        "properties" => {
            for (key, rule) in rule.as_object().expect("a table") {
                if let Some(inner) = value.get(key) {
                    check(root, rule, inner, &format!("{at}/{key}"), errors);
                }
            }
            true
        }
        "additionalProperties" => {
            let named = schema.get("properties").and_then(Value::as_object);
            for (key, inner) in value.as_object().into_iter().flatten() {
                if !named.is_some_and(|named| named.contains_key(key)) {
                    check(root, rule, inner, &format!("{at}/{key}"), errors);
                }
            }
            true
        }
        "items" => {
            for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
                check(root, rule, inner, &format!("{at}/{index}"), errors);
            }
            true
        }
        "allOf" => {
            list().for_each(|rule| check(root, rule, value, at, errors));
            true
        }
        "anyOf" => list().any(|rule| keeps(root, rule, value)),
        "oneOf" => list().filter(|rule| keeps(root, rule, value)).count() == 1,
        "if" => {
            if keeps(root, rule, value) {
                check(root, &schema["then"], value, at, errors);
            }
            true
        }
        other => panic!("the validator does not know \"{other}\""),
    };
    if !holds {
        errors.push(format!("{at}: {value} breaks {keyword} {rule}"));
    }
}

/// Patterns of the form `^[a-z0-9-]{1,32}$`, and several such pieces with letters between them.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pattern = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$')).expect("a whole pattern");
    let mut rest: Vec<char> = text.chars().rev().collect();
    while let Some(first) = pattern.chars().next() {
        if first != '[' {
            if rest.pop() != Some(first) {
                return false;
            }
            pattern = &pattern[first.len_utf8()..];
            continue;
        }
        let (class, after) = pattern[1..].split_once("]{").expect("a class with a count");
        let (count, after) = after.split_once('}').expect("a count");
        let (least, most) = count.split_once(',').unwrap_or((count, count));
        let most: usize = most.parse().expect("a number");
        let mut taken = 0;
        while taken < most && rest.last().is_some_and(|letter| is_in(class, *letter)) {
            rest.pop();
            taken += 1;
        }
        if taken < least.parse().expect("a number") {
            return false;
        }
        pattern = after;
    }
    rest.is_empty()
}

fn is_in(class: &str, letter: char) -> bool {
    let class: Vec<char> = class.chars().collect();
    let mut index = 0;
    while index < class.len() {
        if index + 2 < class.len() && class[index + 1] == '-' {
            if (class[index]..=class[index + 2]).contains(&letter) {
                return true;
            }
            index += 3;
        } else {
            if class[index] == letter {
                return true;
            }
            index += 1;
        }
    }
    false
}

#[test]
fn a_pattern_takes_exactly_its_letters() {
    for (pattern, text, expected) in [
        ("^[a-z0-9-]{1,32}$", "acme-2", true),
        ("^[a-z0-9-]{1,32}$", "", false),
        ("^[a-z0-9-]{1,32}$", "Acme", false),
        ("^[a-z0-9_-]{1,3}$", "a_b-", false),
        ("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "2026-01-31", true),
        ("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "2026-1-31", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}
