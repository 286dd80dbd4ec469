//! Withdrawing: our row goes, and nothing else.

use learnsync_sdk::ErrorKind;

use crate::Fault;
use crate::bench::{Bench, Checked, ensure, wants_error};
use crate::checks::writing::{foreign_rows, put_strangers, unchanged};

pub(crate) async fn a_withdrawal_removes_exactly_our_row(bench: &Bench<'_>) -> Checked {
    let row = bench.put(1).await?.row;
    bench.put(2).await?;
    bench.taken(&bench.withdrawal_of(1, &row)).await?;
    let held = bench.held(1);
    ensure(held.is_empty(), || format!("it was withdrawn, and the target holds {held:?}"))?;
    bench.holds(2, &bench.sample.fields)
}

pub(crate) async fn a_row_that_is_gone_already_is_withdrawn(bench: &Bench<'_>) -> Checked {
    let row = bench.put(1).await?.row;
    bench.fake.remove_row(&bench.sample.object, &row);
    for _ in 0..2 {
        bench.taken(&bench.withdrawal_of(1, &row)).await?;
    }
    Ok(())
}

pub(crate) async fn a_row_of_somebody_else_is_not_withdrawn(bench: &Bench<'_>) -> Checked {
    let strangers = put_strangers(bench)?;
    let before = foreign_rows(bench);
    for stranger in strangers {
        let _whatever = bench.deliver_one(&bench.withdrawal_of(1, &stranger)).await?;
        unchanged(bench, &before, "a withdrawal that named it")?;
    }
    Ok(())
}

pub(crate) async fn a_withdrawal_whose_answer_is_lost_is_unknown_and_may_be_repeated(bench: &Bench<'_>) -> Checked {
    bench.needs_the_proxy()?;
    let row = bench.put(1).await?.row;
    let withdrawal = bench.withdrawal_of(1, &row);
    bench.proxy.plan(crate::Which::Write, 1, Fault::LoseAnswer);
    let outcome = bench.deliver_one(&withdrawal).await?;
    if outcome.is_err() {
        wants_error(&outcome, "Ambiguous", |kind| *kind == ErrorKind::Ambiguous)?;
    }
    bench.taken(&withdrawal).await?;
    let held = bench.held(1);
    ensure(held.is_empty(), || format!("it was withdrawn, and the target holds {held:?}"))
}
