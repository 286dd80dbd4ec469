//! People: found by the rules, in their order, or not at all.

use learnsync_sdk::{ErrorKind, Learner, MatchBy, MatchRule, PersonMatch};

use crate::bench::{Bench, Checked, ensure, fail, skip, wants_error, wants_kind_of, wants_ok};
use crate::{Fault, Which};

/// A person's employee number.
pub(crate) const NUMBER: &str = "K-4711";
/// The same person's address.
pub(crate) const EMAIL: &str = "kit.person@example.com";

fn learner(number: &str, email: &str) -> Learner {
    let some = |value: &str| Some(value.to_owned());
    Learner { external_id: some(number), employee_number: some(number), email: some(email), ..Learner::default() }
}

async fn found(bench: &Bench<'_>, learner: &Learner, rules: &[MatchRule]) -> Checked<PersonMatch> {
    wants_ok(bench.find(learner, rules).await?, "the target was well, and yet nobody could be looked up")
}

async fn wants_found(
    bench: &Bench<'_>,
    learner: &Learner,
    rules: &[MatchRule],
    person: &str,
    by: &MatchRule,
) -> Checked {
    let answer = found(bench, learner, rules).await?;
    let wanted = PersonMatch::Found { person: person.to_owned(), rule: by.clone() };
    ensure(answer == wanted, || format!("wanted {wanted:?}, got {answer:?}"))
}

pub(crate) async fn a_person_is_found_by_each_rule(bench: &Bench<'_>) -> Checked {
    bench.fake.add_person("K-1", "another@example.com");
    let person = bench.fake.add_person(NUMBER, EMAIL);
    // The LMS does not fold letters, nor does it trim.
    let learner = learner(&format!(" {NUMBER}"), "Kit.Person@Example.COM ");
    for rule in bench.fake.match_rules() {
        wants_found(bench, &learner, std::slice::from_ref(&rule), &person, &rule).await?;
    }
    Ok(())
}

pub(crate) async fn the_first_rule_that_matches_anyone_decides(bench: &Bench<'_>) -> Checked {
    let rules = bench.fake.match_rules();
    let (Some(number), true) = (
        rules.iter().find(|rule| matches!(rule.by, MatchBy::EmployeeNumber | MatchBy::ExternalId)),
        rules.contains(&MatchRule::EMAIL),
    ) else {
        return skip("the target finds people by one thing only");
    };
    let by_number = bench.fake.add_person(NUMBER, "another@example.com");
    let by_email = bench.fake.add_person("K-1", EMAIL);
    let both = learner(NUMBER, EMAIL);
    let order = [number.clone(), MatchRule::EMAIL];
    wants_found(bench, &both, &order, &by_number, number).await?;
    let reversed = [MatchRule::EMAIL, number.clone()];
    wants_found(bench, &both, &reversed, &by_email, &MatchRule::EMAIL).await?;
    // A rule that finds nobody hands over to the next.
    wants_found(bench, &learner("K-0", EMAIL), &order, &by_email, &MatchRule::EMAIL).await
}

pub(crate) async fn nobody_is_not_found(bench: &Bench<'_>) -> Checked {
    bench.fake.add_person(NUMBER, EMAIL);
    // One letter more or less is another person.
    for (number, email) in [("K-471", "it.person@example.com"), ("K-47111", "kit.person@example.com.org")] {
        let answer = found(bench, &learner(number, email), &bench.fake.match_rules()).await?;
        ensure(answer == PersonMatch::NotFound, || format!("nobody is there, got {answer:?}"))?;
    }
    Ok(())
}

pub(crate) async fn several_people_are_ambiguous_and_never_guessed(bench: &Bench<'_>) -> Checked {
    for rule in bench.fake.match_rules() {
        bench.fake.reset();
        let (first, second, by_other) = match rule.by {
            MatchBy::ExternalId | MatchBy::EmployeeNumber => {
                ((NUMBER, "one@example.com"), (NUMBER, EMAIL), learner(NUMBER, EMAIL))
            }
            // The fake's people have a number and an address.
            MatchBy::Email | MatchBy::Username | MatchBy::Custom(_) => {
                (("K-1", EMAIL), (NUMBER, EMAIL), learner(NUMBER, EMAIL))
            }
        };
        let mut wanted = [bench.fake.add_person(first.0, first.1), bench.fake.add_person(second.0, second.1)];
        wanted.sort();
        // The other rules would find one of the two: that would be a guess.
        let rest = bench.fake.match_rules().into_iter().filter(|other| *other != rule);
        let rules: Vec<MatchRule> = std::iter::once(rule.clone()).chain(rest).collect();
        match found(bench, &by_other, &rules).await? {
            PersonMatch::Ambiguous { rule: by, mut candidates } if by == rule => {
                candidates.sort();
                ensure(candidates == wanted, || format!("the candidates are {wanted:?}, got {candidates:?}"))?;
            }
            other => return fail(format!("{rule} finds {wanted:?}, got {other:?}")),
        }
    }
    Ok(())
}

pub(crate) async fn a_blank_value_matches_nobody(bench: &Bench<'_>) -> Checked {
    bench.fake.add_person("", "");
    let nothing = Learner { external_id: None, employee_number: None, email: None, ..Learner::default() };
    for learner in [learner("", ""), learner("  ", "  "), nothing] {
        let answer = found(bench, &learner, &bench.fake.match_rules()).await?;
        ensure(answer == PersonMatch::NotFound, || format!("the learner has no value to match, got {answer:?}"))?;
    }
    Ok(())
}

pub(crate) async fn a_value_cannot_widen_the_search(bench: &Bench<'_>) -> Checked {
    bench.fake.add_person(NUMBER, EMAIL);
    for value in
        ["*", "%", "x' or '1' eq '1", "x\" OR \"1\"=\"1", "a&email=kit.person@example.com", "../people", "?", "#"]
    {
        let answer = found(bench, &learner(value, value), &bench.fake.match_rules()).await?;
        ensure(answer == PersonMatch::NotFound, || format!("{value:?} is nobody's, got {answer:?}"))?;
    }
    let odd = "o'hara+%41&x=1#\"@example.com";
    let person = bench.fake.add_person("K'1 &%2", odd);
    let learner = learner("K'1 &%2", odd);
    for rule in bench.fake.match_rules() {
        wants_found(bench, &learner, std::slice::from_ref(&rule), &person, &rule).await?;
    }
    Ok(())
}

pub(crate) async fn a_look_up_that_fails_is_an_error_and_not_an_unknown_person(bench: &Bench<'_>) -> Checked {
    bench.needs_the_proxy()?;
    bench.fake.add_person(NUMBER, EMAIL);
    let learner = learner(NUMBER, EMAIL);
    for fault in [
        Fault::answer(500, ""),
        Fault::answer(503, ""),
        Fault::answer(200, "<html>please log in</html>"),
        Fault::CutBefore,
        Fault::LoseAnswer,
        Fault::Garble,
        Fault::BreakOff,
        Fault::answer(401, ""),
        Fault::answer_with(429, "retry-after", "60"),
    ] {
        bench.proxy.plan(Which::Any, 1, fault.clone());
        let answer = bench.find(&learner, &bench.fake.match_rules()).await?;
        wants_kind_of(&answer, &fault, "")?;
    }
    Ok(())
}

pub(crate) async fn a_person_whom_the_target_forgot_is_unmatched(bench: &Bench<'_>) -> Checked {
    bench.fake.remove_person(&bench.sample.person);
    let outcome = bench.deliver_one(&bench.put_of(1, &bench.sample.fields)).await?;
    wants_error(&outcome, "Unmatched", |kind| *kind == ErrorKind::Unmatched)
}
