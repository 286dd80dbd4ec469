//! The control end point: `/sandbox/quirks` and `/sandbox/clock`, for tests and for people with curl. It takes no key: it is no part of
//! Absorb.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::Portal;
use crate::sandbox::server::{Reply, Request};

impl Portal {
    /// Shows (GET) or sets (POST, a form or a flat JSON object) the quirks; nothing is set when one of several is refused.
    pub(super) fn control_quirks(&self, request: &Request) -> Reply {
        if request.method == Method::POST {
            let before = self.quirks.list();
            for (name, value) in request.fields() {
                if let Err(words) = self.quirks.set(&name, &value) {
                    for (quirk, text) in before {
                        self.quirks.set(quirk.name, &text).expect("what was held can be set again");
                    }
                    return refused(&words);
                }
            }
        }
        let list = self.quirks.list();
        let shown: Map<String, Value> =
            list.into_iter().map(|(quirk, value)| (quirk.name.to_owned(), Value::String(value))).collect();
        Reply::json(200, &Value::Object(shown))
    }

    /// Shows (GET) or changes (POST) the clock: `advance` seconds, and `speed` in calendar seconds per second.
    pub(super) fn control_clock(&self, request: &Request) -> Reply {
        let fields = if request.method == Method::POST { request.fields() } else { Default::default() };
        let mut changes: Vec<Box<dyn FnOnce(&Self)>> = Vec::new();
        for (name, value) in fields {
            let Ok(number) = value.parse::<u32>() else {
                return refused(&format!("{name} is a number of seconds, not \"{value}\""));
            };
            match name.as_str() {
                "advance" => changes.push(Box::new(move |portal| portal.clock.advance(number))),
                "speed" => changes.push(Box::new(move |portal| portal.clock.set_speed(number))),
                _ => return refused(&format!("the clock has no \"{name}\", but advance and speed")),
            }
        }
        changes.into_iter().for_each(|change| change(self));
        let (now, calendar) = (self.clock.now(), self.clock.calendar());
        Reply::json(200, &json!({"now": now.to_string(), "calendar": calendar.to_string()}))
    }
}

fn refused(words: &str) -> Reply {
    Reply::json(422, &json!({"message": words}))
}
