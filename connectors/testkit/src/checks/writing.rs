//! Writing: what arrives, where it arrives, and that it never arrives twice.

use learnsync_sdk::{AfterUnknown, Change, ErrorKind, Value};

use crate::bench::{Bench, Checked, INSTALLATION, ensure, fail, has, skip, wants_error};
use crate::{Fault, HeldRow, Which};

/// More requests than one change should need.
const REQUESTS_MAX: usize = 20;
/// Longest text that is tried where an object names no limit, in characters.
const TEXT_CHARACTERS: usize = 4_000;

pub(crate) async fn what_was_put_is_what_the_target_holds(bench: &Bench<'_>) -> Checked {
    bench.put(1).await?;
    bench.holds(1, &bench.sample.fields)
}

pub(crate) async fn text_of_all_scripts_arrives_unchanged(bench: &Bench<'_>) -> Checked {
    let text = r#"Zoë & Ümit's "Brandschutz" <b>50 %</b> \n 消防安全 בטיחות 👩‍🚒 é {{x}} a+b=c;--"#;
    let (_, fields) = bench.with_text(text)?;
    bench.taken(&bench.put_of(1, &fields)).await?;
    bench.holds(1, &fields)
}

pub(crate) async fn long_text_arrives_whole_as_far_as_the_object_allows(bench: &Bench<'_>) -> Checked {
    let (field, _) = bench.with_text("")?;
    let object = bench.connector()?.object(&bench.sample.object);
    let object = object.or_else(|error| fail(format!("the sample's object does not exist: {error}")))?;
    let declared = object.fields.iter().find(|known| known.name == field).and_then(|known| known.length_max);
    // Two bytes a character, so that a limit of characters is not mistaken for one of bytes.
    let text = "é".repeat(declared.or(bench.sample.text_shown_max).unwrap_or(TEXT_CHARACTERS));
    let (_, fields) = bench.with_text(&text)?;
    bench.taken(&bench.put_of(1, &fields)).await?;
    match bench.held_once(1)?.fields.get(field) {
        Some(Value::Text(held)) if *held == text => Ok(()),
        Some(Value::Text(held)) => fail(format!(
            "of {} characters in {field} the target holds {}: say so with length_max",
            text.chars().count(),
            held.chars().count()
        )),
        other => fail(format!("the target holds {other:?} in {field}")),
    }
}

pub(crate) async fn a_text_that_is_too_long_is_cut_and_says_so(bench: &Bench<'_>) -> Checked {
    let Some(shown_max) = bench.sample.text_shown_max else { return skip("the connector cuts no text") };
    let text = "é".repeat(shown_max + TEXT_CHARACTERS);
    let (field, fields) = bench.with_text(&text)?;
    bench.taken(&bench.put_of(1, &fields)).await?;
    let held = match bench.held_once(1)?.fields.get(field) {
        Some(Value::Text(held)) => held.clone(),
        other => return fail(format!("the target holds {other:?} in {field}")),
    };
    let length = held.chars().count();
    let kept = held.chars().take_while(|letter| *letter == 'é').count();
    ensure(length <= shown_max, || format!("{length} characters are shown in {field}, the limit is {shown_max}"))?;
    ensure(kept > shown_max / 2, || format!("of {shown_max} characters in {field} only {kept} are kept"))?;
    ensure(held[kept * 'é'.len_utf8()..].contains('…'), || {
        format!("{field} was cut after {kept} characters, and no … says so")
    })
}

pub(crate) async fn a_repeat_makes_no_second_row(bench: &Bench<'_>) -> Checked {
    let first = bench.put(1).await?;
    let second = bench.put(1).await?;
    let held = bench.held_once(1)?;
    ensure(first.row == held.row && second.row == held.row, || {
        format!("the receipts name {} and {}, the target holds {}", first.row, second.row, held.row)
    })
}

/// Loses the answer to each request of a delivery in turn, be it a look, the write, or a proof.
pub(crate) async fn a_repeat_after_a_lost_answer_makes_no_second_row(bench: &Bench<'_>) -> Checked {
    bench.needs_the_proxy()?;
    let change = bench.put_of(1, &bench.sample.fields);
    for nth in 1..=REQUESTS_MAX {
        for looks_first in [false, true] {
            bench.fake.reset();
            bench.proxy.reset();
            bench.proxy.plan(Which::Any, nth, Fault::LoseAnswer);
            let outcome = bench.deliver_one(&change).await?;
            if bench.proxy.is_pending() {
                return Ok(());
            }
            if outcome.is_err() && bench.writes() > 0 {
                wants_error(&outcome, "Ambiguous after a write", |kind| *kind == ErrorKind::Ambiguous)?;
            }
            if looks_first {
                bench.after_unknown(&change).await?;
            } else {
                bench.taken(&change).await?;
            }
            bench.holds(1, &bench.sample.fields)?;
        }
    }
    fail(format!("one change needs more than {REQUESTS_MAX} requests"))
}

pub(crate) async fn a_late_commit_is_found_once_it_has_settled(bench: &Bench<'_>) -> Checked {
    let change = bench.put_of(1, &bench.sample.fields);
    let outcome = bench.put_amid(Fault::Late).await?;
    wants_error(&outcome, "Ambiguous", |kind| *kind == ErrorKind::Ambiguous)?;
    // `settle_seconds` later.
    bench.proxy.release_late().await;
    bench.after_unknown(&change).await?;
    bench.holds(1, &bench.sample.fields)
}

pub(crate) async fn a_target_that_need_not_settle_survives_a_late_commit(bench: &Bench<'_>) -> Checked {
    if bench.description.settle_seconds > 0 {
        return skip(format!("the daemon waits for {} s before it writes again", bench.description.settle_seconds));
    }
    if matches!(bench.description.after_unknown(), AfterUnknown::Blind(_)) {
        return skip("nobody can look, and nothing is keyed");
    }
    let change = bench.put_of(1, &bench.sample.fields);
    let outcome = bench.put_amid(Fault::Late).await?;
    wants_error(&outcome, "Ambiguous", |kind| *kind == ErrorKind::Ambiguous)?;
    bench.after_unknown(&change).await?;
    bench.proxy.release_late().await;
    bench.holds(1, &bench.sample.fields)
}

pub(crate) async fn a_change_goes_to_the_same_row(bench: &Bench<'_>) -> Checked {
    let (fields, changed) = (&bench.sample.fields, &bench.sample.changed);
    let first = bench.put(1).await?;
    // Once as somebody who lost the row's id, once as somebody who knows it.
    for (change, wanted) in [(bench.put_of(1, changed), changed), (bench.put_of_row(1, fields, &first.row), fields)] {
        let receipt = bench.taken(&change).await?;
        bench.holds(1, wanted)?;
        ensure(receipt.row == first.row, || format!("row {} became row {}", first.row, receipt.row))?;
    }
    Ok(())
}

pub(crate) async fn a_row_that_somebody_removed_is_made_again(bench: &Bench<'_>) -> Checked {
    let first = bench.put(1).await?;
    bench.fake.remove_row(&bench.sample.object, &first.row);
    let receipt = bench.taken(&bench.put_of_row(1, &bench.sample.fields, &first.row)).await?;
    bench.holds(1, &bench.sample.fields)?;
    let held = bench.held_once(1)?;
    ensure(receipt.row == held.row, || format!("the receipt names {}, the target holds {}", receipt.row, held.row))
}

pub(crate) async fn an_absent_field_is_left_alone(bench: &Bench<'_>) -> Checked {
    let Some(optional) = bench.sample.optional else { return skip("the sample has no optional field") };
    bench.put(1).await?;
    let mut partial = bench.sample.changed.clone();
    partial.remove(optional);
    bench.taken(&bench.put_of(1, &partial)).await?;
    bench.holds(1, &partial)?;
    let (held, wanted) = (bench.held_once(1)?.fields, &bench.sample.fields[optional]);
    ensure(held.get(optional) == Some(wanted), || {
        format!("{optional} was not named, and became {:?} instead of {wanted:?}", held.get(optional))
    })
}

pub(crate) async fn null_blanks_a_field_out(bench: &Bench<'_>) -> Checked {
    let Some(optional) = bench.sample.optional else { return skip("the sample has no optional field") };
    let mut blank = bench.sample.fields.clone();
    blank.insert(optional.to_owned(), Value::Null);
    // In a row that holds something there, and in one that is made without.
    bench.put(1).await?;
    for place in [1, 2] {
        bench.taken(&bench.put_of(place, &blank)).await?;
        bench.holds(place, &blank)?;
    }
    Ok(())
}

pub(crate) async fn a_row_of_somebody_else_is_never_touched(bench: &Bench<'_>) -> Checked {
    let strangers = put_strangers(bench)?;
    let before = foreign_rows(bench);
    bench.put(1).await?;
    bench.taken(&bench.put_of(1, &bench.sample.changed)).await?;
    unchanged(bench, &before, "a put")?;
    for stranger in &strangers {
        // A known row that lost our mark to another: whether it is refused or another is made, that one is theirs.
        let misled: Change = bench.put_of_row(2, &bench.sample.fields, stranger);
        let _whatever = bench.deliver_one(&misled).await?;
        unchanged(bench, &before, "a put that named it")?;
        bench.fake.reset();
        put_strangers(bench)?;
    }
    Ok(())
}

/// Puts rows that look like ours and are not: another installation's, a longer mark of ours, and one without a mark.
pub(crate) fn put_strangers(bench: &Bench<'_>) -> Checked<Vec<String>> {
    let marks = [
        Some(format!("learnsync:{INSTALLATION}-2:completion/1")),
        Some("learnsync:other:completion/1".to_owned()),
        Some(format!("learnsync:{INSTALLATION}:completion/11")),
        None,
    ];
    let sample = &bench.sample;
    let put = |mark: &Option<String>| {
        // Not the same facts: an unmarked row that says the same may be adopted.
        bench.fake.put_row(&sample.object, &sample.person, mark.as_deref(), &sample.changed)
    };
    let rows: Vec<String> = marks.iter().filter_map(put).collect();
    if rows.is_empty() { skip("the target cannot hold rows of others") } else { Ok(rows) }
}

/// What the rows of others hold.
pub(crate) fn foreign_rows(bench: &Bench<'_>) -> Vec<HeldRow> {
    let ours = [bench.mark(1), bench.mark(2)];
    bench.rows().into_iter().filter(|row| !row.marks.iter().any(|mark| ours.contains(mark))).collect()
}

/// Wants that the rows of others are as they were.
pub(crate) fn unchanged(bench: &Bench<'_>, before: &[HeldRow], by: &str) -> Checked {
    let after = bench.rows();
    for row in before {
        let same = after.iter().find(|other| other.row == row.row);
        let is_same = same.is_some_and(|same| same.marks == row.marks && has(&same.fields, &row.fields));
        ensure(is_same, || format!("{by} touched a row of somebody else: {row:?} became {same:?}"))?;
    }
    Ok(())
}
