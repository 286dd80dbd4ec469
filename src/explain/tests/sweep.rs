//! All combinations: none is without an answer, a next step and somebody who can help, and none speaks our own language.

use super::*;

/// Words of ours, which belong into the evidence.
const JARGON: [&str; 14] = [
    "slot",
    "fingerprint",
    "epoch",
    "ledger",
    "parked",
    "pending",
    "uncertain",
    "settled",
    "superseded",
    "attempt",
    "subject",
    "sweep",
    "watermark",
    "lane",
];

fn deliveries() -> Vec<DeliveryView> {
    let named = Cause::examples().into_iter().map(|cause| match cause {
        Cause::Unmapped { .. } => {
            Cause::Unmapped { kind: "training_type".to_owned(), course: "Fire Safety".to_owned() }
        }
        Cause::MissingField(_) => Cause::MissingField("expires".to_owned()),
        Cause::MappingFailed(_) => Cause::MappingFailed("hours".to_owned()),
        plain => plain,
    });
    let causes = named.map(Some).chain([None]);
    let mut all = Vec::new();
    for cause in causes {
        for state in DeliveryState::ALL {
            for is_held in [false, true] {
                for tries in [0, 9] {
                    let mut one = DeliveryView {
                        state: state.as_str().to_owned(),
                        cause: cause.as_ref().map(Cause::word),
                        tries,
                        sending_at: Some(at(9, 29, 50)),
                        ..delivery()
                    };
                    one.attempts = (0..tries).map(|n| attempt(n, "put", "unavailable", Some(503), "down")).collect();
                    all.push(if is_held { held(one) } else { one });
                }
            }
        }
    }
    all
}

fn places() -> Vec<Option<PlaceView>> {
    let pauses = ["throttled", "circuit_open", "unauthorized", "account_changed", "operator", "of a later version"];
    let paused = pauses.into_iter().flat_map(|cause| [paused(cause, None), paused(cause, Some(at(9, 42, 0)))]);
    let retired = PlaceView { state: "retired".to_owned(), ..place() };
    paused.map(Some).chain([Some(place()), Some(retired), None]).collect()
}

fn configurations() -> Vec<Given> {
    let unknowns = [AfterUnknown::Look, AfterUnknown::Repeat, AfterUnknown::Blind(BlindRepeat::MayLose)];
    let mut all: Vec<Given> = unknowns
        .into_iter()
        .map(|after_unknown| Given { destinations: vec![Configured { after_unknown, ..hr() }], ..given() })
        .collect();
    all.push(Given { destinations: Vec::new(), ..given() });
    all.push(Given {
        destinations: vec![Configured { wrong: Some("history is missing".to_owned()), ..hr() }],
        ..given()
    });
    all.push(Given { is_running: Some(false), next_night: None, ..given() });
    all.push(Given { is_running: None, destinations: vec![Configured { name: "hr".to_owned(), ..chat() }], ..given() });
    all
}

/// A sentence without what stands in quotes, in backticks or in brackets: those are names and the words of others.
fn spoken(words: &str) -> String {
    let mut out = String::new();
    let mut until = None;
    for letter in words.chars() {
        match (until, letter) {
            (Some(end), letter) if letter == end => until = None,
            (Some(_), _) => {}
            (None, '"') => until = Some('"'),
            (None, '`') => until = Some('`'),
            (None, '[') => until = Some(']'),
            (None, letter) => out.push(letter),
        }
    }
    out.to_lowercase()
}

/// What is wrong with an answer, in words.
fn faults(answer: &Answer) -> Vec<String> {
    let mut faults = Vec::new();
    for words in [&answer.headline, &answer.because, &answer.next] {
        if words.len() <= 5 || !words.ends_with('.') {
            faults.push(format!("no sentence: {words:?}"));
        }
    }
    let is_nobody = answer.help.what.is_empty() || answer.help.what.starts_with("Whoever");
    if (answer.help.who == Who::Nobody) != is_nobody {
        faults.push(format!("nobody and somebody at once: {:?}", answer.help));
    }
    for words in [&answer.headline, &answer.because, &answer.next, &answer.help.what] {
        if ["  ", "..", " .", ": .", "\"\""].iter().any(|odd| words.contains(odd)) {
            faults.push(format!("something is missing: {words:?}"));
        }
        let spoken = spoken(words);
        let said = |word: &&&str| spoken.split(|letter: char| !letter.is_alphanumeric()).any(|part| part == **word);
        faults.extend(JARGON.iter().find(said).map(|word| format!("{word} is a word of ours: {words:?}")));
    }
    faults
}

#[test]
fn no_combination_is_without_an_answer_a_next_step_and_somebody_who_can_help() {
    let deliveries = deliveries();
    let mut told = 0;
    let mut seen = std::collections::BTreeSet::new();
    let mut wrong = std::collections::BTreeSet::new();
    for given in configurations() {
        for place in places() {
            for (record_state, person_state) in
                [("present", "active"), ("suspected_absent", "inactive"), ("gone", "gone"), ("present", "erased")]
            {
                for delivery in deliveries.iter().map(Some).chain([None]) {
                    let mut learner = learner(delivery.cloned().into_iter().collect());
                    learner.state = person_state.to_owned();
                    learner.places = place.clone().into_iter().collect();
                    learner.records[0].state = record_state.to_owned();
                    let story = super::super::story(&learner, &given, &Filter::default());
                    let answers = &story.records[0].answers;
                    let is_nowhere = delivery.is_none() && given.destinations.is_empty();
                    assert_eq!(answers.is_empty(), is_nowhere, "{delivery:?}");
                    told += answers.len();
                    for answer in answers {
                        // Most combinations say the same.
                        let said =
                            [&answer.headline, &answer.because, &answer.next, &answer.help.what].map(String::as_str);
                        if seen.insert(said.join("|")) {
                            wrong.extend(faults(answer));
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} answers are wrong:\n{wrong:#?}", wrong.len());
    assert!(told > 10_000, "only {told} combinations were told");
}
