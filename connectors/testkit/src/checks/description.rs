//! What a connector says about itself, offline, and about the account behind it.

use std::collections::BTreeSet;

use learnsync_sdk::{Claim, Description, Need, TargetObject};
use serde_json::json;

use crate::bench::{Bench, Checked, ensure, fail, is_failure_of_target, skip, wants_error, wants_ok};
use crate::{Fault, Which};

/// Where the value of a default field may come from.
const SOURCES: [&str; 4] = ["path", "template", "reference", "constant"];

pub(crate) async fn a_description_says_all_that_people_and_tables_need(bench: &Bench<'_>) -> Checked {
    let about = &bench.description;
    let is_word = |name: &str| {
        let is_letter = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_-".contains(letter);
        name.starts_with(|first: char| first.is_ascii_lowercase()) && name.chars().all(is_letter)
    };
    ensure(is_word(about.name), || format!("{:?} is no name for a configuration", about.name))?;
    ensure(about.summary.ends_with('.'), || format!("the summary is no sentence: {:?}", about.summary))?;
    ensure(about.documentation.starts_with("https://"), || {
        format!("the vendor's page is no https link: {:?}", about.documentation)
    })?;
    let claims: BTreeSet<Claim> = about.claims.iter().copied().collect();
    ensure(claims.len() == about.claims.len(), || format!("a claim stands twice: {:?}", about.claims))?;
    let numbers = (about.persons_per_batch_max, about.concurrency_max);
    ensure(numbers.0 > 0 && numbers.1 > 0, || {
        format!("persons_per_batch_max and concurrency_max must be at least 1, they are {numbers:?}")
    })?;
    ensure(!about.default_routes.is_empty(), || "there is no default route".to_owned())?;
    let settings: BTreeSet<&str> = about.settings.iter().map(|setting| setting.name).collect();
    ensure(settings.len() == about.settings.len(), || format!("a setting stands twice: {:?}", about.settings))?;
    for setting in about.settings {
        let is_explained = !setting.name.is_empty() && !setting.doc.is_empty() && !setting.example.is_empty();
        ensure(is_explained, || format!("the setting {:?} is not explained", setting.name))?;
    }
    ensure(bench.kind.describe() == *about, || "it describes itself differently each time".to_owned())
}

pub(crate) async fn default_routes_fill_objects_and_fields_that_exist(bench: &Bench<'_>) -> Checked {
    let connector = bench.connector()?;
    let mut names = BTreeSet::new();
    for route in &bench.description.default_routes {
        ensure(names.insert(route.name), || format!("two default routes are named {:?}", route.name))?;
        let object = connector.object(route.object);
        let object = object.or_else(|error| fail(format!("{} fills {:?}: {error}", route.name, route.object)))?;
        for line in &route.fields {
            let known = object.fields.iter().any(|field| field.name == line.field);
            ensure(known || object.open, || {
                format!("{} fills {}, which {} lacks", route.name, line.field, object.name)
            })?;
            let (source, text) = line.source;
            ensure(SOURCES.contains(&source) && !text.is_empty(), || {
                format!("{} takes {} from {source:?} {text:?}", route.name, line.field)
            })?;
            ensure(source != "reference" || bench.description.reference_kinds.contains(&text), || {
                format!("{} refers to {text:?}, which reference_kinds does not name", route.name)
            })?;
        }
        let is_filled = |name: &str| route.fields.iter().any(|line| line.field == name);
        let empty = object.fields.iter().find(|field| field.required && !is_filled(&field.name));
        ensure(empty.is_none(), || format!("{} does not fill a required field: {empty:?}", route.name))?;
    }
    for sample in bench.fake.samples() {
        let object = connector.object(&sample.object);
        let object = object.or_else(|error| fail(format!("the sample's object does not exist: {error}")))?;
        let strange = sample.fields.keys().find(|name| !object.open && !has_field(&object, name));
        ensure(strange.is_none(), || format!("the sample fills {strange:?}, which {} lacks", object.name))?;
    }
    Ok(())
}

fn has_field(object: &TargetObject, name: &str) -> bool {
    object.fields.iter().any(|field| field.name == name)
}

pub(crate) async fn settings_that_are_missing_or_unknown_are_named(bench: &Bench<'_>) -> Checked {
    let right = bench.fake.settings(&bench.proxy.url());
    let given: Vec<&String> = right.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    let Description { settings, .. } = &bench.description;
    let strange = given.iter().find(|name| !settings.iter().any(|setting| setting.name == **name));
    ensure(strange.is_none(), || format!("the setting {strange:?} is taken and not described"))?;
    for setting in settings.iter().filter(|setting| setting.need == Need::Required) {
        let mut wrong = right.clone();
        wrong.as_object_mut().expect("settings are a table").remove(setting.name);
        refused_at(bench, &wrong, setting.name)?;
    }
    let mut wrong = right.clone();
    wrong["no_such_setting"] = json!("x");
    refused_at(bench, &wrong, "no_such_setting")
}

fn refused_at(bench: &Bench<'_>, settings: &serde_json::Value, name: &str) -> Checked {
    match bench.kind.build(settings, bench.toolbox()) {
        Ok(_) => fail(format!("settings with a wrong or missing {name} are taken")),
        Err(error) => ensure(error.path.iter().any(|part| part == name), || {
            format!("the error about {name} points at {:?}: {error}", error.path)
        }),
    }
}

pub(crate) async fn describing_and_building_ask_nobody(bench: &Bench<'_>) -> Checked {
    let settings = bench.fake.settings(&bench.proxy.url());
    // A thread without a runtime: what would wait for an answer panics here.
    let offline = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let connector = bench.kind.build(&settings, bench.toolbox())?;
            for route in bench.kind.describe().default_routes {
                // Whether it exists is another check's.
                let _whatever = connector.object(route.object);
            }
            Ok::<(), learnsync_sdk::SettingsError>(())
        });
        thread.join()
    });
    ensure(matches!(offline, Ok(Ok(()))), || format!("it cannot be built offline: {offline:?}"))?;
    let calls = bench.proxy.calls();
    ensure(calls.is_empty(), || format!("it asked the target: {calls:?}"))
}

pub(crate) async fn an_object_that_does_not_exist_is_refused_with_those_that_do(bench: &Bench<'_>) -> Checked {
    match bench.connector()?.object("no such object") {
        Ok(object) => fail(format!("\"no such object\" is taken for {object:?}")),
        Err(error) => {
            // The name, or the form that names of its kind have.
            let forms = bench.description.default_routes.iter().map(|route| route.object.split(':').next());
            let is_named = forms.flatten().all(|form| error.contains(form));
            ensure(is_named, || format!("the error does not list the objects that exist: {error}"))
        }
    }
}

pub(crate) async fn the_account_has_the_same_name_every_time(bench: &Bench<'_>) -> Checked {
    let first = wants_ok(bench.probe().await?, "the target was well, and yet the probe failed")?;
    ensure(!first.identity.trim().is_empty(), || "the account has no name".to_owned())?;
    let writes = bench.writes();
    ensure(writes == 0, || format!("the probe wrote {writes} times"))?;
    bench.put(1).await?;
    let second = wants_ok(bench.probe().await?, "the second probe failed")?;
    ensure(first == second, || format!("the account was {first:?}, and is {second:?} after a write"))
}

pub(crate) async fn a_failed_probe_names_no_account(bench: &Bench<'_>) -> Checked {
    if !bench.fake.can_be_probed() {
        return skip("the target tells nothing without a write");
    }
    bench.needs_the_proxy()?;
    for fault in [
        Fault::answer(500, ""),
        Fault::answer(503, ""),
        Fault::answer(200, "<html>please log in</html>"),
        Fault::CutBefore,
        Fault::BreakOff,
    ] {
        bench.proxy.plan(Which::Any, 1, fault.clone());
        let account = bench.probe().await?;
        wants_error(&account, &format!("Unavailable or Ambiguous for {fault:?}"), is_failure_of_target)?;
    }
    Ok(())
}

pub(crate) async fn a_list_of_reference_data_that_fails_is_no_empty_list(bench: &Bench<'_>) -> Checked {
    let unknown = bench.references("no such kind").await?;
    wants_error(&unknown, "an error for a kind that does not exist", |_| true)?;
    if bench.description.reference_kinds.is_empty() {
        return skip("it has no reference data");
    }
    bench.needs_the_proxy()?;
    for kind in bench.description.reference_kinds {
        let listed = wants_ok(bench.references(kind).await?, "the reference data cannot be listed")?;
        let ids: BTreeSet<&str> = listed.iter().map(|reference| reference.id.as_str()).collect();
        ensure(ids.len() == listed.len() && !ids.contains(""), || {
            format!("the ids of {kind} are not unique: {listed:?}")
        })?;
        for fault in
            [Fault::answer(500, ""), Fault::answer(200, "<html>"), Fault::CutBefore, Fault::Garble, Fault::BreakOff]
        {
            bench.proxy.plan(Which::Any, 1, fault.clone());
            let failed = bench.references(kind).await?;
            wants_error(&failed, &format!("Unavailable or Ambiguous for {fault:?}"), is_failure_of_target)?;
        }
    }
    Ok(())
}
