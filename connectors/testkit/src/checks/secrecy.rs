//! Secrecy: whatever went wrong until now, no message told what it must not.

use learnsync_sdk::Learner;
use serde_json::{Value as Json, json};

use crate::bench::{Bench, Checked, ensure};
use crate::checks::people::{EMAIL, NUMBER};
use crate::{Fault, Which};

pub(crate) async fn no_message_holds_a_secret(bench: &Bench<'_>) -> Checked {
    say_all_settings_errors(bench);
    bench.hear(&bench.description);
    let plain = bench.fake.secrets();
    // As they go over the wire, for example in Base64.
    let sent = bench.proxy.credentials();
    for secret in plain.iter().chain(&sent).filter(|secret| !secret.is_empty()) {
        not_said(bench, secret, "a secret")?;
    }
    Ok(())
}

/// Makes the connector complain about each setting in turn, with the value still in its hands.
fn say_all_settings_errors(bench: &Bench<'_>) {
    let right = bench.fake.settings(&bench.proxy.url());
    let names: Vec<String> = right.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    for name in &names {
        for make_wrong in [|value: &Json| json!([value]), |value: &Json| json!(format!("\u{7} {value}"))] {
            let mut wrong = right.clone();
            wrong[name] = make_wrong(&right[name]);
            // Some take it nevertheless.
            if let Err(error) = bench.kind.build(&wrong, bench.toolbox()) {
                bench.hear_text(format!("{error} {error:?}"));
            }
        }
    }
}

pub(crate) async fn no_message_names_a_person(bench: &Bench<'_>) -> Checked {
    bench.needs_the_proxy()?;
    let learner = Learner {
        external_id: Some(NUMBER.to_owned()),
        employee_number: Some(NUMBER.to_owned()),
        email: Some(EMAIL.to_owned()),
        ..Learner::default()
    };
    for fault in [Fault::answer(400, "no"), Fault::answer(500, ""), Fault::CutBefore, Fault::BreakOff, Fault::Garble] {
        for rule in bench.fake.match_rules() {
            bench.proxy.plan(Which::Any, 1, fault.clone());
            let _whatever = bench.find(&learner, &[rule]).await?;
        }
    }
    // In a URL the address is encoded, but for its name.
    let name = EMAIL.split('@').next().unwrap_or(EMAIL);
    for personal in [NUMBER, name] {
        not_said(bench, personal, "a person's number or address")?;
    }
    Ok(())
}

fn not_said(bench: &Bench<'_>, what: &str, kind: &str) -> Checked {
    let said = bench.said.lock().expect("nothing panics while it holds this");
    let what = what.to_lowercase();
    let texts = said.iter().map(|text| text.to_lowercase());
    // The report is no better place for it than the message was.
    let told = texts.filter(|text| text.contains(&what)).map(|text| text.replace(&what, "[...]")).next();
    ensure(told.is_none(), || format!("{kind} is in a message: {}", told.unwrap_or_default()))
}
