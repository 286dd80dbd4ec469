//! Errors: the kind alone decides what the daemon does, so each fault must have its own.

use std::fmt::Debug;
use std::time::Duration;

use chrono::DateTime;
use learnsync_sdk::{Claim, DeliveryError, ErrorKind, Learner, RetryAfter};
use tokio::net::{TcpListener, TcpSocket};

use crate::bench::{Bench, Checked, ensure, fail, is_failure_of_target, skip, wants_error, wants_ok};
use crate::{Fault, Gate, Which};

/// The longest words that a message keeps, in characters.
const WORDS_CHARACTERS_MAX: usize = 512;
const GARBAGE: &str = "<html>we are down for maintenance</html>";

pub(crate) async fn a_throttled_answer_carries_the_wait_in_seconds(bench: &Bench<'_>) -> Checked {
    // A whole day: whoever caps it comes back too early.
    throttled(bench, 429, Some("86400"), RetryAfter::For(Duration::from_secs(86_400))).await
}

pub(crate) async fn a_throttled_answer_carries_the_instant_to_wait_for(bench: &Bench<'_>) -> Checked {
    let instant = DateTime::from_timestamp(4_102_444_800, 0).expect("a valid instant");
    throttled(bench, 429, Some("Fri, 01 Jan 2100 00:00:00 GMT"), RetryAfter::Until(instant)).await
}

pub(crate) async fn a_throttled_answer_without_a_wait_leaves_it_unsaid(bench: &Bench<'_>) -> Checked {
    throttled(bench, 429, None, RetryAfter::Unsaid).await
}

pub(crate) async fn a_busy_target_that_names_a_wait_is_throttled(bench: &Bench<'_>) -> Checked {
    throttled(bench, 503, Some("1800"), RetryAfter::For(Duration::from_secs(1_800))).await
}

async fn throttled(bench: &Bench<'_>, status: u16, header: Option<&str>, after: RetryAfter) -> Checked {
    let fault = match header {
        Some(value) => Fault::answer_with(status, "retry-after", value),
        None => Fault::answer(status, ""),
    };
    let outcome = bench.put_amid(fault).await?;
    let wanted = ErrorKind::Throttled(after);
    wants_error(&outcome, &format!("{wanted:?}"), |kind| *kind == wanted)
}

pub(crate) async fn a_busy_target_that_names_none_is_unavailable(bench: &Bench<'_>) -> Checked {
    let outcome = bench.put_amid(Fault::answer(503, "")).await?;
    // In doubt Ambiguous is right, too: it only costs a look.
    wants_error(&outcome, "Unavailable or Ambiguous", is_failure_of_target)
}

pub(crate) async fn a_server_error_leaves_a_write_unknown(bench: &Bench<'_>) -> Checked {
    for status in [500, 502, 504] {
        bench.fake.reset();
        let outcome = bench.put_amid(Fault::answer(status, "oops")).await?;
        wants_error(&outcome, &format!("Ambiguous for {status}"), |kind| *kind == ErrorKind::Ambiguous)?;
    }
    Ok(())
}

pub(crate) async fn an_unreachable_target_is_unavailable(bench: &Bench<'_>) -> Checked {
    // Bound, but nobody listens: connections are refused, and nobody else gets the port meanwhile.
    let socket = TcpSocket::new_v4().expect("loopback has sockets");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("loopback has a free port");
    let url = format!("http://{}", socket.local_addr().expect("a bound socket has an address"));
    let connector = bench.connector_at(&url)?;
    let is_unavailable = |kind: &ErrorKind| *kind == ErrorKind::Unavailable;
    let outcomes = bench.deliver_with(&*connector, &[bench.put_of(1, &bench.sample.fields)]).await?;
    wants_error(&outcomes[0], "Unavailable", is_unavailable)?;
    if bench.fake.can_be_probed() {
        let account = connector.probe().await;
        bench.hear(&account);
        wants_error(&account, "Unavailable from the probe", is_unavailable)?;
    }
    if bench.claims(Claim::ReadBack) {
        let observations = connector.observe(&[bench.place(1)]).await;
        bench.hear(&observations);
        wants_error(&observations[0], "Unavailable from observe", is_unavailable)?;
    }
    if bench.claims(Claim::List) {
        let listed = connector.list(&bench.sample.object, None).await;
        bench.hear(&listed);
        wants_error(&listed, "Unavailable from list", is_unavailable)?;
    }
    drop(socket);
    Ok(())
}

pub(crate) async fn a_connection_cut_amid_a_write_leaves_it_unknown(bench: &Bench<'_>) -> Checked {
    let outcome = bench.put_amid(Fault::CutBefore).await?;
    wants_error(&outcome, "Ambiguous", |kind| *kind == ErrorKind::Ambiguous)
}

pub(crate) async fn a_lost_answer_leaves_a_write_unknown(bench: &Bench<'_>) -> Checked {
    ambiguous_or_held(bench, Fault::LoseAnswer).await
}

pub(crate) async fn an_answer_that_breaks_off_is_no_refusal(bench: &Bench<'_>) -> Checked {
    ambiguous_or_held(bench, Fault::BreakOff).await?;
    bench.fake.reset();
    ambiguous_or_held(bench, Fault::Garble).await
}

/// The target did take it. A connector that looks and knows may say so; one that does not know must not say that nothing happened.
async fn ambiguous_or_held(bench: &Bench<'_>, fault: Fault) -> Checked {
    let outcome = bench.put_amid(fault).await?;
    match outcome {
        Ok(_) => bench.holds(1, &bench.sample.fields),
        Err(_) => wants_error(&outcome, "Ambiguous", |kind| *kind == ErrorKind::Ambiguous),
    }
}

pub(crate) async fn an_answer_that_nobody_can_read_is_no_receipt(bench: &Bench<'_>) -> Checked {
    if bench.fake.acknowledges_by_status_alone() {
        return skip("the target acknowledges by its status alone");
    }
    // Some gateway answers for the target, which never heard of it.
    let outcome = bench.put_amid(Fault::answer(200, GARBAGE)).await?;
    wants_error(&outcome, "Ambiguous", |kind| *kind == ErrorKind::Ambiguous)
}

pub(crate) async fn a_refusal_is_rejected_with_its_status(bench: &Bench<'_>) -> Checked {
    for status in [400, 422] {
        bench.fake.reset();
        let outcome = bench.put_amid(Fault::answer(status, r#"{"error": "the date is in the future"}"#)).await?;
        wants_error(&outcome, &format!("Rejected for {status}"), |kind| *kind == ErrorKind::Rejected)?;
        if let Err(error) = outcome {
            ensure(error.status == Some(status), || {
                format!("the error does not carry the status {status}: {error:?}")
            })?;
            ensure(error.message.contains("the date is in the future"), || {
                format!("the error does not carry the target's words: {error}")
            })?;
        }
    }
    Ok(())
}

pub(crate) async fn long_words_of_the_target_are_shortened(bench: &Bench<'_>) -> Checked {
    let words = "a \"long\" täle ".repeat(1_000);
    for status in [400, 500] {
        bench.fake.reset();
        match bench.put_amid(Fault::answer(status, &words)).await? {
            Err(error) => is_short(&error.message)?,
            Ok(receipt) => return fail(format!("wanted an error for {status}, got {receipt:?}")),
        }
    }
    bench.fake.reset();
    if let Ok(receipt) = bench.put_amid(Fault::answer(200, &words)).await? {
        is_short(&receipt.words)?;
    }
    Ok(())
}

fn is_short(text: &str) -> Checked {
    let length = text.chars().count();
    ensure(length <= WORDS_CHARACTERS_MAX, || {
        format!("the words have {length} characters, the limit is {WORDS_CHARACTERS_MAX}")
    })
}

pub(crate) async fn refused_credentials_are_unauthorized_until_they_are_taken_again(bench: &Bench<'_>) -> Checked {
    let is_unauthorized = |kind: &ErrorKind| *kind == ErrorKind::Unauthorized;
    let connector = bench.connector()?;
    let batch = [bench.put_of(1, &bench.sample.fields)];
    bench.fake.revoke_credentials();
    wants_error(&bench.deliver_with(&*connector, &batch).await?[0], "Unauthorized from deliver", is_unauthorized)?;
    if bench.fake.can_be_probed() {
        wants_error(&bench.probe().await?, "Unauthorized from the probe", is_unauthorized)?;
    }
    if bench.claims(Claim::ReadBack) {
        wants_error(&bench.observe_one(1).await?, "Unauthorized from observe", is_unauthorized)?;
    }
    if bench.claims(Claim::List) {
        wants_error(&bench.page(None).await?, "Unauthorized from list", is_unauthorized)?;
    }
    if bench.claims(Claim::People) {
        let found = bench.find(&anyone(), &bench.fake.match_rules()).await?;
        wants_error(&found, "Unauthorized from find_person", is_unauthorized)?;
    }
    for kind in bench.description.reference_kinds {
        wants_error(&bench.references(kind).await?, "Unauthorized from references", is_unauthorized)?;
    }
    bench.fake.restore_credentials();
    // The same connector: it keeps nothing between calls, a refusal neither.
    let mut outcomes = bench.deliver_with(&*connector, &batch).await?;
    wants_ok(outcomes.remove(0), "the credentials are taken again, and yet this was not")?;
    bench.holds(1, &bench.sample.fields)
}

/// A learner whom any rule can look for.
fn anyone() -> Learner {
    let some = |value: &str| Some(value.to_owned());
    Learner {
        external_id: some("K-1"),
        employee_number: some("K-1"),
        email: some("kit@example.com"),
        ..Learner::default()
    }
}

pub(crate) async fn a_failed_write_is_not_repeated_by_the_connector(bench: &Bench<'_>) -> Checked {
    for fault in [
        Fault::answer_with(429, "retry-after", "0"),
        Fault::answer(500, ""),
        Fault::answer(503, ""),
        Fault::CutBefore,
        Fault::LoseAnswer,
    ] {
        bench.fake.reset();
        bench.proxy.reset();
        let _whatever = bench.put_amid(fault.clone()).await?;
        let writes = bench.writes();
        ensure(writes == 1, || format!("it wrote {writes} times, although the first write met {fault:?}"))?;
    }
    Ok(())
}

pub(crate) async fn a_look_before_a_write_that_fails_writes_nothing(bench: &Bench<'_>) -> Checked {
    bench.needs_the_proxy()?;
    for fault in [
        Fault::answer(500, ""),
        Fault::answer(503, ""),
        Fault::answer(200, GARBAGE),
        Fault::CutBefore,
        Fault::Garble,
        Fault::BreakOff,
        Fault::answer(401, ""),
        Fault::answer_with(429, "retry-after", "60"),
    ] {
        bench.fake.reset();
        bench.proxy.reset();
        bench.proxy.plan(Which::Any, 1, fault.clone());
        let outcome = bench.deliver_one(&bench.put_of(1, &bench.sample.fields)).await?;
        if bench.proxy.calls().first().is_none_or(|call| call.is_write) {
            return skip("deliver writes without a look");
        }
        let writes = bench.writes();
        ensure(writes == 0, || format!("it wrote, although its look met {fault:?}"))?;
        wants_error(&outcome, &format!("the kind of {fault:?}"), |kind| match &fault {
            Fault::Answer { status: 401, .. } => *kind == ErrorKind::Unauthorized,
            Fault::Answer { status: 429, .. } => matches!(kind, ErrorKind::Throttled(RetryAfter::For(_))),
            _ => is_failure_of_target(kind),
        })?;
    }
    Ok(())
}

pub(crate) async fn a_slow_answer_is_waited_for(bench: &Bench<'_>) -> Checked {
    bench.needs_the_proxy()?;
    bench.put(1).await?;
    let usual = bench.writes();
    bench.fake.reset();
    bench.proxy.reset();
    let gate = Gate::default();
    bench.proxy.plan(Which::Write, 1, Fault::Slow(gate.clone()));
    let change = bench.put_of(1, &bench.sample.fields);
    let open_once_it_waits = async {
        gate.arrived().await;
        let writes = bench.writes();
        gate.open();
        writes
    };
    let (outcome, writes) = tokio::join!(bench.deliver_one(&change), open_once_it_waits);
    wants_ok(outcome?, "the target was slow, and did take it")?;
    let all = bench.writes();
    ensure(writes == 1 && all == usual, || format!("it wrote {all} times because the target was slow"))?;
    bench.holds(1, &bench.sample.fields)
}

pub(crate) async fn a_redirect_is_followed_nowhere(bench: &Bench<'_>) -> Checked {
    bench.needs_the_proxy()?;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = elsewhere.local_addr().expect("a bound listener has an address");
    let location = format!("http://{address}/login");
    let rules = bench.fake.match_rules();
    for status in [301, 302, 307, 308] {
        let redirect = || Fault::answer_with(status, "location", &location);
        let redirect_next = || bench.proxy.plan(Which::Any, 1, redirect());
        bench.fake.reset();
        stays_home(&elsewhere, "a write", bench.put_amid(redirect())).await?;
        if bench.fake.can_be_probed() {
            redirect_next();
            stays_home(&elsewhere, "the probe", bench.probe()).await?;
        }
        if bench.claims(Claim::ReadBack) {
            redirect_next();
            stays_home(&elsewhere, "observe", bench.observe_one(1)).await?;
        }
        if bench.claims(Claim::People) {
            redirect_next();
            stays_home(&elsewhere, "find_person", bench.find(&anyone(), &rules)).await?;
        }
        if bench.claims(Claim::List) {
            redirect_next();
            stays_home(&elsewhere, "list", bench.page(None)).await?;
        }
    }
    let host = bench.proxy.host();
    let strange = bench.proxy.calls().into_iter().find(|call| call.host != host);
    ensure(strange.is_none(), || format!("a request names another host than {host}: {strange:?}"))
}

/// Wants an error, and nobody elsewhere. Whoever comes there hears nothing: that somebody came is enough.
async fn stays_home<T: Debug>(
    elsewhere: &TcpListener,
    what: &str,
    asked: impl Future<Output = Checked<Result<T, DeliveryError>>>,
) -> Checked {
    tokio::select! {
        outcome = asked => wants_error(&outcome?, &format!("an error from {what}"), |_| true),
        _ = elsewhere.accept() => fail(format!("{what} followed a redirect to another origin")),
    }
}
