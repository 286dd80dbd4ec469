//! Reading back: what was put is seen, what is not ours is not, and what cannot be read is no absence.

use learnsync_sdk::{Observation, Place};

use crate::bench::{Bench, Checked, ensure, fail, has, skip, wants_kind_of, wants_ok};
use crate::checks::writing::put_strangers;
use crate::{Fault, Which};

pub(crate) async fn what_was_put_is_what_is_observed(bench: &Bench<'_>) -> Checked {
    for wanted in [&bench.sample.fields, &bench.sample.changed] {
        let receipt = bench.taken(&bench.put_of(1, wanted)).await?;
        match bench.seen(1).await? {
            Observation::Holds { row, fields } if row == receipt.row => {
                ensure(has(&fields, wanted), || format!("observed {fields:?} instead of {wanted:?}"))?;
                let mark = bench.mark(1);
                let is_marked = fields.values().any(|value| value.to_string().contains(&mark));
                ensure(!is_marked, || format!("the mark is among the observed fields: {fields:?}"))?;
            }
            other => return fail(format!("row {} was put, observed was {other:?}", receipt.row)),
        }
    }
    Ok(())
}

pub(crate) async fn an_empty_place_is_absent(bench: &Bench<'_>) -> Checked {
    let before = bench.seen(1).await?;
    ensure(before == Observation::Absent, || format!("nothing was put, observed was {before:?}"))?;
    let receipt = bench.put(1).await?;
    bench.fake.remove_row(&bench.sample.object, &receipt.row);
    let place = Place { row: Some(receipt.row), ..bench.place(1) };
    let after = wants_ok(bench.observe(&[place]).await?.remove(0), "a removed row cannot be observed")?;
    ensure(after == Observation::Absent, || format!("the row was removed, observed was {after:?}"))
}

pub(crate) async fn a_copied_row_is_several_and_makes_no_third(bench: &Bench<'_>) -> Checked {
    let receipt = bench.put(1).await?;
    let sample = &bench.sample;
    let copied = bench.fake.put_row(&sample.object, &sample.person, Some(&bench.mark(1)), &sample.fields);
    let Some(copy) = copied else { return skip("the target cannot hold two rows of one mark") };
    match bench.seen(1).await? {
        Observation::Several { mut rows } => {
            let mut wanted = [receipt.row, copy];
            rows.sort();
            wanted.sort();
            ensure(rows == wanted, || format!("the rows are {wanted:?}, observed were {rows:?}"))?;
        }
        other => return fail(format!("two rows carry one mark, observed was {other:?}")),
    }
    let _whatever = bench.deliver_one(&bench.put_of(1, &sample.changed)).await?;
    let held = bench.held(1).len();
    ensure(held == 2, || format!("two rows carried one mark, after a put {held} do"))
}

pub(crate) async fn a_row_of_somebody_else_is_not_observed(bench: &Bench<'_>) -> Checked {
    let strangers = put_strangers(bench)?;
    for row in strangers.into_iter().map(Some).chain([None]) {
        let place = Place { row, ..bench.place(1) };
        let seen = wants_ok(bench.observe(std::slice::from_ref(&place)).await?.remove(0), "it cannot be observed")?;
        ensure(seen == Observation::Absent, || format!("only others have rows, observed at {place:?} was {seen:?}"))?;
    }
    Ok(())
}

pub(crate) async fn each_place_has_one_observation_in_its_order(bench: &Bench<'_>) -> Checked {
    let rows = [(3, bench.put(3).await?.row), (1, bench.put(1).await?.row)];
    let places: Vec<Place> = [2, 3, 4, 1].map(|place| bench.place(place)).into();
    let mut found = Vec::new();
    for seen in bench.observe(&places).await? {
        match wants_ok(seen, "a place cannot be observed")? {
            Observation::Holds { row, .. } => found.push(Some(row)),
            Observation::Absent => found.push(None),
            several @ Observation::Several { .. } => {
                return fail(format!("each was put once, observed was {several:?}"));
            }
        }
    }
    let wanted = [None, Some(rows[0].1.clone()), None, Some(rows[1].1.clone())];
    ensure(found == wanted, || format!("the rows are {wanted:?}, observed were {found:?}"))
}

pub(crate) async fn a_read_that_fails_is_an_error_and_not_an_absence(bench: &Bench<'_>) -> Checked {
    bench.needs_the_proxy()?;
    bench.put(1).await?;
    for fault in [
        Fault::answer(500, ""),
        Fault::answer(502, "<html>bad gateway</html>"),
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
        let seen = bench.observe_one(1).await?;
        wants_kind_of(&seen, &fault, "")?;
    }
    Ok(())
}
