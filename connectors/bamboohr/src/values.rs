//! Values as BambooHR holds them, and as we mean them: comparing after the target's own normalisation, and turning one into the other.

use chrono::NaiveDate;
use learnsync_sdk::Value;
use serde_json::{Number, Value as Json};

/// How far a number may be from ours and still be it.
// Tables give numbers back as they were written; hours and credits come with two decimals ("1.50"), so 50 minutes are 0.83 hours there.
pub(crate) const EXACT: f64 = 1e-9;
/// The same for numbers that BambooHR keeps with two decimals.
pub(crate) const TWO_DECIMALS: f64 = 0.005 + EXACT;

/// Text, a number or a boolean as text; none for all else.
pub(crate) fn text_of(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.trim().to_owned()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(value) => Some(value.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// Whether a field holds nothing: absent, null, empty text, or the date that stands for none.
pub(crate) fn is_blank(value: Option<&Json>) -> bool {
    match value {
        None | Some(Json::Null) => true,
        Some(Json::String(text)) => matches!(text.trim(), "" | "0000-00-00"),
        Some(Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_)) => false,
    }
}

/// Whether a field of the target holds what we want there.
pub(crate) fn is_equal(have: Option<&Json>, want: &Value, tolerance: f64) -> bool {
    let Some(have) = have.filter(|have| !is_blank(Some(have))) else {
        return match want {
            // A checkbox that nobody ticked is blank.
            Value::Null | Value::Bool(false) => true,
            Value::Text(text) => text.trim().is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::Date(_) => false,
        };
    };
    match want {
        Value::Null => false,
        Value::Bool(want) => truth_of(have) == Some(*want),
        Value::Number(want) => number_of(have).is_some_and(|have| (have - want).abs() <= tolerance),
        Value::Date(want) => text_of(have).and_then(|have| date_of(&have)) == Some(*want),
        Value::Text(want) => is_same_text(have, want),
    }
}

fn is_same_text(have: &Json, want: &str) -> bool {
    match have {
        Json::Number(_) => number_of(have).is_some_and(|have| want.trim().parse() == Ok(have)),
        Json::String(_) | Json::Bool(_) | Json::Null | Json::Array(_) | Json::Object(_) => {
            text_of(have).is_some_and(|have| lines_of(&have) == lines_of(want))
        }
    }
}

/// Text with plain line ends, and without blanks at the end of lines and of the text.
pub(crate) fn lines_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim().to_owned()
}

fn truth_of(value: &Json) -> Option<bool> {
    match text_of(value)?.to_lowercase().as_str() {
        "true" | "yes" | "1" | "on" => Some(true),
        "false" | "no" | "0" | "off" => Some(false),
        _ => None,
    }
}

/// A number, or a number in text.
pub(crate) fn number_of(value: &Json) -> Option<f64> {
    match value {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

/// A date, also when a time of day follows it.
fn date_of(text: &str) -> Option<NaiveDate> {
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let is_alone = rest.is_empty() || rest.starts_with(['T', ' ']);
    if is_alone { NaiveDate::parse_from_str(date, "%Y-%m-%d").ok() } else { None }
}

/// Our value as JSON: dates as yyyy-mm-dd, whole numbers without a point.
pub(crate) fn json_of(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(number) => json_number(*number),
        Value::Text(text) => Json::String(text.clone()),
        Value::Date(date) => Json::String(date.format("%Y-%m-%d").to_string()),
    }
}

/// Our value as a number where it is one, also in text; as it is otherwise.
pub(crate) fn json_of_numeric(value: &Value) -> Json {
    match numeric(value) {
        Value::Number(number) => json_number(number),
        other @ (Value::Null | Value::Bool(_) | Value::Text(_) | Value::Date(_)) => json_of(&other),
    }
}

/// A number in text as a number, for fields that are numbers; a template renders text.
pub(crate) fn numeric(value: &Value) -> Value {
    match value {
        Value::Text(text) => match text.trim().parse() {
            Ok(number) if f64::is_finite(number) => Value::Number(number),
            _ => value.clone(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Date(_) => value.clone(),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "only whole numbers far inside the range of i64")]
fn json_number(number: f64) -> Json {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return Json::from(number as i64);
    }
    Number::from_f64(number).map_or(Json::Null, Json::Number)
}

/// A field of the target as a typed value, as well as its form tells: dates by their shape.
pub(crate) fn typed(value: &Json) -> Value {
    if is_blank(Some(value)) {
        return Value::Null;
    }
    match value {
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number.as_f64().map_or(Value::Null, Value::Number),
        Json::String(text) => date_of(text.trim()).map_or_else(|| Value::Text(lines_of(text)), Value::Date),
        Json::Null | Json::Array(_) | Json::Object(_) => Value::Text(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn date(text: &str) -> Value {
        Value::Date(text.parse().expect("a date"))
    }

    #[test]
    fn values_are_compared_after_the_target_s_normalisation() {
        let text = |text: &str| Value::Text(text.to_owned());
        for (have, want, equal) in [
            (json!("1.50"), Value::Number(1.5), true),
            (json!(1.5), Value::Number(1.5), true),
            (json!("1.51"), Value::Number(1.5), false),
            (json!("2026-03-12"), date("2026-03-12"), true),
            (json!("2026-03-12T00:00:00+00:00"), date("2026-03-12"), true),
            (json!("2026-03-13"), date("2026-03-12"), false),
            (json!("2026-03-121"), date("2026-03-12"), false),
            (json!("0000-00-00"), Value::Null, true),
            (json!("0000-00-00"), date("2026-03-12"), false),
            (json!(null), Value::Null, true),
            (json!(""), Value::Null, true),
            (json!(null), text(""), true),
            (json!("x"), Value::Null, false),
            (json!("a\r\nb \n"), text("a\nb"), true),
            (json!("007"), text("7"), false),
            (json!(4), text("4"), true),
            (json!(5), text("4"), false),
            (json!("Yes"), Value::Bool(true), true),
            (json!(null), Value::Bool(false), true),
            (json!(null), Value::Bool(true), false),
        ] {
            assert_eq!(is_equal(Some(&have), &want, EXACT), equal, "{have} and {want:?}");
        }
        assert!(is_equal(Some(&json!("0.83")), &Value::Number(50.0 / 60.0), TWO_DECIMALS));
        assert!(!is_equal(Some(&json!("0.83")), &Value::Number(0.84), TWO_DECIMALS));
    }

    #[test]
    fn fields_are_typed_by_their_form() {
        assert_eq!(typed(&json!("2026-03-12")), date("2026-03-12"));
        assert_eq!(typed(&json!("0000-00-00")), Value::Null);
        assert_eq!(typed(&json!(2)), Value::Number(2.0));
        assert_eq!(typed(&json!("2")), Value::Text("2".to_owned()));
    }
}
