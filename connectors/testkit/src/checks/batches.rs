//! Batches: one outcome for each change, and an end where going on would be rude.

use learnsync_sdk::{Change, ErrorKind, RetryAfter};

use crate::bench::{Bench, Checked, ensure, fail, skip, wants_error, wants_ok};
use crate::{Fault, Which};

/// Enough to see an order.
const CHANGES: usize = 5;

pub(crate) async fn an_empty_batch_asks_nobody(bench: &Bench<'_>) -> Checked {
    bench.needs_the_proxy()?;
    bench.deliver(&[]).await?;
    bench.observe(&[]).await?;
    let calls = bench.proxy.calls();
    ensure(calls.is_empty(), || format!("it asked for nothing: {calls:?}"))
}

pub(crate) async fn each_change_has_one_outcome_in_its_order(bench: &Bench<'_>) -> Checked {
    // Not in the order of the marks: a connector that sorts must sort back.
    let places = [3, 1, 5, 2, 4];
    let batch: Vec<Change> = places.iter().map(|place| bench.put_of(*place, &bench.sample.fields)).collect();
    let outcomes = bench.deliver(&batch).await?;
    for (place, outcome) in places.iter().zip(outcomes) {
        let receipt = wants_ok(outcome, "a change of a healthy batch was not taken")?;
        let held = bench.held(*place);
        ensure(held.iter().any(|row| row.row == receipt.row), || {
            format!("the receipt of {} names row {}, the target holds {held:?}", bench.mark(*place), receipt.row)
        })?;
    }
    Ok(())
}

pub(crate) async fn a_refused_change_does_not_spoil_its_neighbours(bench: &Bench<'_>) -> Checked {
    let Some(refused) = &bench.sample.refused else { return skip("the target refuses no single change") };
    let fields = &bench.sample.fields;
    let batch = [bench.put_of(1, fields), bench.put_of(2, refused), bench.put_of(3, fields)];
    let mut outcomes = bench.deliver(&batch).await?.into_iter();
    let mut next = || outcomes.next().expect("there are three");
    wants_ok(next(), "the change before the refused one was not taken")?;
    wants_error(&next(), "Rejected for the refused one", |kind| *kind == ErrorKind::Rejected)?;
    wants_ok(next(), "the change after the refused one was not taken")?;
    bench.holds(1, fields)?;
    bench.holds(3, fields)?;
    let held = bench.held(2);
    ensure(held.is_empty(), || format!("the target holds the change that was reported as refused: {held:?}"))
}

pub(crate) async fn refused_credentials_end_the_batch(bench: &Bench<'_>) -> Checked {
    let fault = Fault::answer(401, "wrong key");
    ends_the_batch(bench, fault, "Unauthorized", |kind| *kind == ErrorKind::Unauthorized).await
}

pub(crate) async fn a_throttled_answer_ends_the_batch(bench: &Bench<'_>) -> Checked {
    let fault = Fault::answer_with(429, "retry-after", "120");
    let is_throttled = |kind: &ErrorKind| matches!(kind, ErrorKind::Throttled(RetryAfter::For(_)));
    ends_the_batch(bench, fault, "Throttled", is_throttled).await
}

/// Lets this happen to the second write of a batch: what came before counts, nothing comes after, and all the rest says why.
async fn ends_the_batch(
    bench: &Bench<'_>,
    fault: Fault,
    wanted: &str,
    is_wanted: impl Fn(&ErrorKind) -> bool,
) -> Checked {
    bench.needs_the_proxy()?;
    let batch: Vec<Change> = (1..=CHANGES).map(|place| bench.put_of(place, &bench.sample.fields)).collect();
    bench.proxy.plan(Which::Write, 2, fault.clone());
    let mut outcomes = bench.deliver(&batch).await?;
    if bench.proxy.is_pending() {
        // The whole batch is one request.
        bench.fake.reset();
        bench.proxy.reset();
        bench.proxy.plan(Which::Write, 1, fault);
        outcomes = bench.deliver(&batch).await?;
    }
    bench.nothing_after_the_fault()?;
    let first_failed = outcomes.iter().position(Result::is_err).unwrap_or(outcomes.len());
    for (index, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(receipt) if index < first_failed => {
                let held = bench.held(index + 1);
                ensure(held.iter().any(|row| row.row == receipt.row), || format!("nobody holds {receipt:?}"))?;
            }
            Ok(receipt) => return fail(format!("a change after the end of the batch has a receipt: {receipt:?}")),
            Err(_) => wants_error(outcome, wanted, &is_wanted)?,
        }
    }
    ensure(first_failed < outcomes.len(), || format!("wanted {wanted}, and all changes were taken"))
}
