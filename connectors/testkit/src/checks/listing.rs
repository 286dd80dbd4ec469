//! Listing: each row once, whoever wrote it, as `observe` would tell it; and a list that fails is no shorter list.

use std::collections::{BTreeMap, BTreeSet};

use learnsync_sdk::{Change, Claim, ErrorKind, ListedRow, Observation, Place};

use crate::bench::{
    Bench, Checked, ensure, fail, has, is_failure_of_target, skip, wants_error, wants_kind_of, wants_ok,
};
use crate::checks::writing::{put_strangers, unchanged};
use crate::{Fault, Which};

/// More requests than the list of one row should need.
const REQUESTS_MAX: usize = 20;

pub(crate) async fn what_was_put_is_listed_once_and_as_it_is_observed(bench: &Bench<'_>) -> Checked {
    let mut changes = vec![bench.put_of(1, &bench.sample.fields), bench.put_of(2, &bench.sample.changed)];
    if bench.claims(Claim::People) {
        // Whoever takes all rows for those of one person must be seen.
        let person = bench.fake.add_person("E-4711", "listed@example.com");
        changes.push(Change { person, ..bench.put_of(3, &bench.sample.fields) });
    }
    let mut rows = Vec::new();
    for change in &changes {
        rows.push(bench.taken(change).await?.row);
    }
    let listed = bench.listed().await?;
    ensure(listed.len() == changes.len(), || format!("{} rows were put, listed were {listed:?}", changes.len()))?;
    for (change, row) in changes.iter().zip(rows) {
        is_listed(bench, change, &row, &listed).await?;
    }
    Ok(())
}

async fn is_listed(bench: &Bench<'_>, change: &Change, row: &str, listed: &[ListedRow]) -> Checked {
    let mark = &change.mark;
    let with_mark: Vec<&ListedRow> = listed.iter().filter(|row| row.mark.as_ref() == Some(mark)).collect();
    let [found] = with_mark.as_slice() else { return fail(format!("{mark} was put once, listed were {listed:?}")) };
    ensure(found.row == row, || format!("the receipt names {row}, the list {}", found.row))?;
    let is_right_person = match &found.person {
        Some(person) => *person == change.person,
        None => !bench.claims(Claim::People),
    };
    ensure(is_right_person, || format!("{mark} was put for {}, listed was {:?}", change.person, found.person))?;
    let fields = found.fields.as_ref();
    let fields = fields.or_else(|why| fail(format!("{mark} was put, and cannot be read: {why}")))?;
    if !bench.claims(Claim::ReadBack) {
        return ensure(!fields.is_empty(), || format!("{mark} is listed without fields"));
    }
    let place = Place { object: change.object.clone(), person: change.person.clone(), mark: mark.clone(), row: None };
    match wants_ok(bench.observe(&[place]).await?.remove(0), "it is listed, and cannot be observed")? {
        Observation::Holds { fields: observed, .. } => {
            ensure(*fields == observed, || format!("listed were {fields:?}, observed {observed:?}"))
        }
        other => fail(format!("{mark} is listed, observed was {other:?}")),
    }
}

pub(crate) async fn rows_of_others_are_listed_as_theirs_and_left_alone(bench: &Bench<'_>) -> Checked {
    put_strangers(bench)?;
    let (before, writes) = (bench.rows(), bench.writes());
    let listed = bench.listed().await?;
    ensure(listed.len() == before.len(), || format!("the target holds {before:?}, listed were {listed:?}"))?;
    for held in &before {
        let found = listed.iter().find(|row| row.row == held.row);
        let is_told = found.is_some_and(|found| {
            let fields = found.fields.as_ref();
            found.mark.as_ref() == held.marks.first() && fields.is_ok_and(|fields| has(fields, &held.fields))
        });
        ensure(is_told, || format!("the target holds {held:?}, listed was {found:?}"))?;
    }
    unchanged(bench, &before, "a list")?;
    ensure(bench.writes() == writes, || "a list wrote something".to_owned())
}

pub(crate) async fn each_row_is_listed_once_over_all_pages(bench: &Bench<'_>) -> Checked {
    fill(bench)?;
    let pages = wants_ok(bench.pages_from(None).await?, "the target was well, and yet it could not be listed")?;
    ensure(pages.len() > 1, || "the fake put the rows of several pages, and one page shows all".to_owned())?;
    each_once(pages.iter().flat_map(|page| &page.rows), &ids_of_rows(bench))
}

/// A place that goes shifts all others, and one that comes may stand anywhere: a page that is only the n-th leaves rows out.
pub(crate) async fn a_change_between_two_pages_hides_no_row(bench: &Bench<'_>) -> Checked {
    fill(bench)?;
    let all_along = ids_of_rows(bench);
    let first = wants_ok(bench.page(None).await?, "the target was well, and yet it could not be listed")?;
    let Some(gone) = first.rows.first().map(|row| row.row.clone()) else {
        return skip("the first page shows no row");
    };
    bench.fake.remove_row(&bench.sample.object, &gone);
    bench.put(1).await?;
    let Some(next) = first.next.as_deref() else { return fail("one page shows the rows of several") };
    let mut pages = vec![first.clone()];
    match bench.pages_from(Some(next)).await? {
        Ok(rest) => pages.extend(rest),
        // It cannot say what became of its place, and says that: then the list begins anew.
        Err(error) if is_failure_of_target(&error.kind) => {
            pages = wants_ok(bench.pages_from(None).await?, "begun anew, it could not be listed")?;
        }
        Err(error) => return fail(format!("the second page: {:?}: {error}", error.kind)),
    }
    let mut wanted = all_along;
    wanted.remove(&gone);
    each_once(pages.iter().flat_map(|page| &page.rows).filter(|row| wanted.contains(&row.row)), &wanted)
}

fn fill(bench: &Bench<'_>) -> Checked {
    match bench.fake.put_rows_of_several_pages(&bench.sample.object) {
        0 => skip("the fake puts no more rows than one page shows"),
        _ => Ok(()),
    }
}

fn ids_of_rows(bench: &Bench<'_>) -> BTreeSet<String> {
    bench.rows().into_iter().map(|row| row.row).collect()
}

fn each_once<'r>(listed: impl Iterator<Item = &'r ListedRow>, wanted: &BTreeSet<String>) -> Checked {
    let mut times: BTreeMap<&String, usize> = wanted.iter().map(|id| (id, 0)).collect();
    for row in listed {
        *times.entry(&row.row).or_default() += 1;
    }
    let wrong: Vec<_> = times.iter().filter(|(id, times)| **times != usize::from(wanted.contains(**id))).collect();
    ensure(wrong.is_empty(), || format!("of {} rows these were not listed once: {wrong:?}", wanted.len()))
}

pub(crate) async fn a_list_that_fails_is_an_error_and_not_its_end(bench: &Bench<'_>) -> Checked {
    bench.needs_the_proxy()?;
    bench.put(1).await?;
    for fault in [
        Fault::answer(500, ""),
        Fault::answer(503, ""),
        Fault::answer(404, "<html>no such page</html>"),
        Fault::answer(200, "<html>please log in</html>"),
        Fault::CutBefore,
        Fault::LoseAnswer,
        Fault::Garble,
        Fault::BreakOff,
        Fault::answer(401, ""),
        Fault::answer_with(429, "retry-after", "60"),
    ] {
        fails_at_each_request(bench, &fault).await?;
    }
    Ok(())
}

/// Each request of the list in turn meets the fault, be it the first page or what stands behind it.
async fn fails_at_each_request(bench: &Bench<'_>, fault: &Fault) -> Checked {
    for nth in 1..=REQUESTS_MAX {
        bench.proxy.reset();
        bench.proxy.plan(Which::Any, nth, fault.clone());
        let listed = bench.pages_from(None).await?;
        if bench.proxy.is_pending() {
            return ensure(nth > 1, || "it was listed without a request".to_owned());
        }
        // A target may refuse an object that it does not have.
        let is_refused = matches!(&listed, Err(error) if error.kind == ErrorKind::Rejected);
        if !(is_refused && matches!(fault, Fault::Answer { status: 404, .. })) {
            wants_kind_of(&listed, fault, &format!(" at request {nth}"))?;
        }
    }
    fail(format!("the list of one row needs more than {REQUESTS_MAX} requests"))
}

pub(crate) async fn a_list_of_an_object_that_does_not_exist_is_rejected(bench: &Bench<'_>) -> Checked {
    let listed = bench.connector()?.list("no such object", None).await;
    bench.hear(&listed);
    wants_error(&listed, "Rejected", |kind| *kind == ErrorKind::Rejected)
}
