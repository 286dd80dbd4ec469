//! The specification of this client: rules that it keeps against the sandbox's portal, with every quirk off and on.
//!
//! A rule's name is the rule. The matrix is every rule with no quirk, with each alone, and with all that go together; where a quirk makes
//! a rule impossible, the rule says what happens instead, and the table shows it. `cargo test -p learnsync --lib conformance -- --nocapture`
//! prints the table.

use super::*;
use crate::domain::event::{EventName, RawEvent};
use crate::sandbox::{Area, Happened, Sandbox, SandboxOptions, Times};

/// More than a page of the sweep, and never a multiple of it.
const LEARNERS: usize = 230;

type Quirks = &'static [(&'static str, &'static str)];

/// The columns.
const COLUMNS: [(&str, Quirks); 36] = [
    ("none", &[]),
    ("transient401", &[("transient401", "7")]),
    ("rate", &[("rate", "100000")]),
    ("burst", &[("rate", "100000"), ("burst", "100000")]),
    ("retry_after", &[("retry_after", "2")]),
    ("retry_after date", &[("retry_after", "date:2")]),
    ("empty_429", &[("empty_429", "on")]),
    ("dates_with_z", &[("dates_with_z", "on")]),
    ("filtered_pages_empty", &[("filtered_pages_empty", "on")]),
    ("unsortable", &[("unsortable", "on")]),
    ("page_rows_max", &[("page_rows_max", "37")]),
    ("no_total_items", &[("no_total_items", "on")]),
    ("no_total_items, small pages", &[("no_total_items", "on"), ("page_rows_max", "37")]),
    ("bare_arrays", &[("bare_arrays", "on")]),
    ("v1", &[("v1", "on")]),
    ("scope", &[("scope", "Operations")]),
    ("certificates 403", &[("certificates", "403")]),
    ("certificates 404", &[("certificates", "404")]),
    ("competencies 403", &[("competencies", "403")]),
    ("competencies 404", &[("competencies", "404")]),
    ("learning_paths", &[("learning_paths", "on")]),
    ("consent", &[("consent", "on")]),
    ("refresh_rotates", &[("refresh_rotates", "on")]),
    ("hook_dialect A", &[("hook_dialect", "A")]),
    ("hook_dialect B", &[("hook_dialect", "B")]),
    ("hook_dialect C", &[("hook_dialect", "C")]),
    ("hook_dialect D", &[("hook_dialect", "D")]),
    ("hook_dialect E", &[("hook_dialect", "E")]),
    ("hook_ids always", &[("hook_ids", "always")]),
    ("hook_ids never", &[("hook_ids", "never")]),
    ("hook_correlation shared", &[("hook_correlation", "shared")]),
    ("hook_correlation none", &[("hook_correlation", "none")]),
    ("hook_early", &[("hook_early", "2")]),
    ("hook_duplicate, hook_reorder", &[("hook_duplicate", "100"), ("hook_reorder", "100")]),
    ("hook_drop, hook_delay, hook_burst", &[("hook_drop", "50"), ("hook_delay", "60"), ("hook_burst", "9")]),
    (
        "all that go together",
        &[
            ("transient401", "7"),
            ("retry_after", "2"),
            ("empty_429", "on"),
            ("dates_with_z", "on"),
            ("filtered_pages_empty", "on"),
            ("unsortable", "on"),
            ("page_rows_max", "37"),
            ("scope", "Operations"),
            ("certificates", "404"),
            ("competencies", "403"),
            ("learning_paths", "on"),
            ("hook_ids", "never"),
            ("hook_correlation", "none"),
            ("hook_early", "1"),
        ],
    ),
];

/// How a rule went.
enum Outcome {
    Holds,
    /// It cannot hold; this happens instead, and is no surprise.
    Instead(&'static str),
}

type Verdict = Result<Outcome, String>;
type Rule = (&'static str, for<'a> fn(&'a Bench) -> BoxFuture<'a, Verdict>);

macro_rules! rules {
    ($($rule:ident),* $(,)?) => { [$((stringify!($rule), |bench| $rule(bench).boxed())),*] };
}

/// The rows.
const RULES: [Rule; 22] = rules![
    a_learner_is_read_with_their_profile,
    a_learner_who_is_not_there_is_none_and_a_deactivated_one_is_inactive,
    the_records_of_a_learner_are_those_of_the_portal,
    only_kinds_that_were_read_count_as_complete,
    a_probe_says_how_many_learners_there_are_and_which_kinds,
    a_list_of_several_pages_is_read_whole,
    all_learners_are_found_page_by_page,
    a_narrow_role_gets_fewer_learners_and_no_error,
    a_name_finds_its_learner,
    a_reenrolment_leaves_the_former_completion_as_it_was,
    a_merged_duplicate_has_no_facts_and_the_one_who_stays_has_all,
    a_deleted_course_keeps_the_name_that_its_enrolments_have,
    a_fact_that_shows_late_is_found_later,
    a_killed_token_is_renewed_once,
    a_token_that_is_too_old_is_renewed,
    a_transient_401_makes_no_login,
    a_passing_failure_is_tried_again,
    a_lasting_failure_is_unavailable,
    half_an_answer_is_an_error,
    a_partial_read_is_an_error,
    a_limit_is_told_with_its_wait,
    every_webhook_names_its_event_and_its_learner,
];

struct Bench {
    sandbox: Sandbox,
    absorb: Absorb,
    clock: Arc<HandClock>,
    quirks: Quirks,
}

impl Bench {
    async fn start(quirks: Quirks) -> Self {
        let clock = Arc::new(HandClock(AtomicI64::new(1_800_000_000_000)));
        let options =
            SandboxOptions { learners: LEARNERS, courses: 6, rate_per_second: None, ..SandboxOptions::default() };
        let portal_clock: Arc<dyn Clock> = Arc::<HandClock>::clone(&clock);
        let sandbox = Sandbox::start(options, portal_clock, Arc::new(Generator::seeded(9))).await;
        let sandbox = sandbox.expect("loopback has free ports");
        for (name, value) in quirks {
            sandbox.portal.set_quirk(name, value).expect("the columns name quirks");
        }
        let vault = Arc::new(Vault { token: Mutex::new(None), logins_left: AtomicUsize::new(20) });
        let settings = AbsorbSettings {
            portal: "main".to_owned(),
            url: sandbox.portal.url(),
            api_key: sandbox.portal.api_key(),
            credentials: Credentials::Password {
                username: sandbox.portal.username(),
                password: sandbox.portal.password(),
            },
            learning_paths_path: None,
            kinds: BTreeSet::new(),
            certificates_path: "/users/{user}/certificates".to_owned(),
            competencies_path: "/users/{user}/competencies".to_owned(),
            calls_per_second_max: 100_000,
            calls_at_once_max: 8,
        };
        let pauses = Pauses { first: Duration::from_millis(1), ..Pauses::default() };
        let (vault, client_clock): (Arc<dyn TokenVault>, Arc<dyn Clock>) = (vault, Arc::<HandClock>::clone(&clock));
        let absorb = Absorb::with_pauses(settings, http(), vault, client_clock, Arc::new(Generator::seeded(7)), pauses);
        Self { sandbox, absorb, clock, quirks }
    }

    fn has(&self, quirk: &str) -> Option<&'static str> {
        self.quirks.iter().find(|(name, _)| *name == quirk).map(|(_, value)| *value)
    }

    /// Learners whom the account sees, in the order of the seed.
    fn seen(&self) -> Vec<String> {
        let records = self.sandbox.portal.expected_records();
        let named = |record: &&Record| record.title == "Operations";
        let department = records[&RecordKind::Department].values().find(named).map(|record| record.id.clone());
        let is_seen =
            |id: &String| self.has("scope").is_none() || records[&RecordKind::Person][id].department == department;
        self.sandbox.portal.learner_ids().into_iter().filter(is_seen).collect()
    }

    fn happens(&self, deed: &str, learner: &str, what: &str) -> Result<Happened, String> {
        self.sandbox.portal.happen(deed, learner, what).map_err(|words| format!("{deed}: {words}"))
    }

    /// The learner's records as they are true, of the kinds that the client reads and the portal shows.
    fn truth(&self, learner: &str) -> Vec<Record> {
        let all = self.sandbox.portal.expected_records();
        let kinds = self.kinds();
        let mine = all.into_iter().filter(|(kind, _)| kinds.contains(kind)).flat_map(|(_, rows)| rows.into_values());
        let mut mine: Vec<Record> = mine.filter(|record| record.learner_id == learner).collect();
        mine.sort_by_key(Record::key);
        mine
    }

    fn kinds(&self) -> BTreeSet<RecordKind> {
        let mut kinds = BTreeSet::from([RecordKind::Completion]);
        kinds.extend(self.has("certificates").is_none().then_some(RecordKind::Certificate));
        kinds.extend(self.has("competencies").is_none().then_some(RecordKind::Competency));
        kinds
    }

    /// Reads until early facts show; all that the client reads of the three kinds.
    async fn settled(&self, learner: &str) -> Result<ReadRecords, String> {
        let reads = self.has("hook_early").map_or(0, |reads| reads.parse().expect("the columns name numbers"));
        for _ in 0..reads {
            self.read(learner).await?;
        }
        self.read(learner).await
    }

    async fn read(&self, learner: &str) -> Result<ReadRecords, String> {
        let mut read = self.absorb.records(learner).await.map_err(|error| error.to_string())?;
        // Other kinds may be read one day; the rules about them are to be written then.
        read.records.retain(|record| self.kinds().contains(&record.kind));
        Ok(read)
    }

    /// Reads the learner, and compares.
    async fn agrees(&self, learner: &str) -> Verdict {
        let read = self.settled(learner).await?;
        same("records", &read.records, &self.truth(learner))
    }
}

fn same<T: PartialEq + fmt::Debug>(what: &str, found: &T, expected: &T) -> Verdict {
    if found == expected { Ok(Outcome::Holds) } else { Err(format!("{what}: {found:#?}, expected {expected:#?}")) }
}

fn holds(is_so: bool, words: impl FnOnce() -> String) -> Verdict {
    if is_so { Ok(Outcome::Holds) } else { Err(words()) }
}

fn words<T: fmt::Debug>(what: &T) -> String {
    format!("{what:?}")
}

async fn a_learner_is_read_with_their_profile(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    let learner = bench.absorb.learner(id).await.map_err(|error| error.to_string())?.ok_or("nobody")?;
    let expected = bench.sandbox.portal.expected_records()[&RecordKind::Person][id].clone();
    let name =
        format!("{} {}", learner.learner.first_name.unwrap_or_default(), learner.learner.last_name.unwrap_or_default());
    same(
        "learner",
        &(name, learner.learner.external_id, learner.learner.is_active),
        &(expected.title, expected.external_id, true),
    )
}

async fn a_learner_who_is_not_there_is_none_and_a_deactivated_one_is_inactive(bench: &Bench) -> Verdict {
    let ids = bench.seen();
    bench.happens("learner-deleted", &ids[0], "")?;
    bench.happens("learner-deactivated", &ids[1], "")?;
    let deleted = bench.absorb.learner(&ids[0]).await.map_err(|error| error.to_string())?;
    let inactive = bench.absorb.learner(&ids[1]).await.map_err(|error| error.to_string())?;
    holds(deleted.is_none() && inactive.as_ref().is_some_and(|learner| !learner.learner.is_active), || {
        words(&(deleted, inactive))
    })
}

async fn the_records_of_a_learner_are_those_of_the_portal(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    for (deed, what) in [
        ("completed", "Fire Safety"),
        ("certificate", "First Aid at Work"),
        ("competency", "Mentor"),
        ("credits", "Forklift Operator"),
        ("session", ""),
        ("enrolled", "Data Protection Basics"),
        ("score-corrected", "Fire Safety"),
        ("date-corrected", "First Aid at Work"),
    ] {
        // Who attended a session of the course is enrolled in it already.
        let _done = bench
            .happens(deed, id, what)
            .or_else(|words| if deed == "enrolled" { bench.happens("completed", id, what) } else { Err(words) })?;
    }
    bench.agrees(id).await
}

async fn only_kinds_that_were_read_count_as_complete(bench: &Bench) -> Verdict {
    let read = bench.read(&bench.seen()[0]).await?;
    let of_three = [RecordKind::Completion, RecordKind::Certificate, RecordKind::Competency];
    let complete: BTreeSet<RecordKind> = of_three.into_iter().filter(|kind| read.complete.contains(kind)).collect();
    same("complete kinds", &complete, &bench.kinds())
}

async fn a_probe_says_how_many_learners_there_are_and_which_kinds(bench: &Bench) -> Verdict {
    let probe = bench.absorb.probe().await.map_err(|error| error.to_string())?;
    let status = |quirk: &str| bench.has(quirk).and_then(|status| status.parse::<u16>().ok());
    let absent = [(RecordKind::Certificate, status("certificates")), (RecordKind::Competency, status("competencies"))];
    for (kind, status) in absent {
        let said = probe.absent.iter().find(|(absent, _)| *absent == kind).map(|(_, status)| *status);
        same("status of what is absent", &said, &status)?;
    }
    if !probe.available.is_superset(&bench.kinds()) {
        return Err(words(&probe.available));
    }
    let all = bench.seen().len() as u64;
    if probe.learners == 1 && (bench.has("no_total_items").is_some() || bench.has("bare_arrays").is_some()) {
        return Ok(Outcome::Instead("one learner is all that a probe sees where no total is said"));
    }
    same("learners", &probe.learners, &all)
}

async fn a_list_of_several_pages_is_read_whole(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    for _ in 0..1_100 {
        bench.happens("completed", id, "Fire Safety")?;
    }
    bench.agrees(id).await
}

async fn sweep(bench: &Bench) -> Result<Vec<String>, String> {
    let (mut ids, mut page) = (Vec::new(), 0);
    loop {
        let found = bench.absorb.learner_ids(page).await.map_err(|error| error.to_string())?;
        ids.extend(found.ids);
        page += 1;
        if !found.more {
            break;
        }
    }
    ids.sort();
    Ok(ids)
}

async fn all_learners_are_found_page_by_page(bench: &Bench) -> Verdict {
    let mut expected = bench.seen();
    expected.sort();
    same("learners", &sweep(bench).await?, &expected)
}

async fn a_narrow_role_gets_fewer_learners_and_no_error(bench: &Bench) -> Verdict {
    bench.sandbox.portal.set_quirk("scope", "Office").expect("there is such a quirk");
    let found = sweep(bench).await?;
    let is_narrow = !found.is_empty() && found.len() < LEARNERS;
    holds(is_narrow, || format!("{} learners", found.len()))
}

async fn a_name_finds_its_learner(bench: &Bench) -> Verdict {
    let people = bench.sandbox.portal.expected_records().remove(&RecordKind::Person).unwrap_or_default();
    let named = |id: String| Some((people[&id].external_id.clone()?, id));
    let (name, id) = bench.seen().into_iter().find_map(named).ok_or("nobody has an external id")?;
    let found = bench.absorb.learners_named(&name).await;
    let found: Vec<String> = found.map_err(|error| error.to_string())?.into_iter().map(|learner| learner.id).collect();
    if bench.has("v1").is_some() && found.len() == LEARNERS {
        return Ok(Outcome::Instead("version 1 has no filter: everybody is answered, and a person must choose"));
    }
    same("learners", &found, &vec![id])
}

async fn a_reenrolment_leaves_the_former_completion_as_it_was(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    bench.happens("certificate", id, "Fire Safety")?;
    let before = bench.settled(id).await?;
    bench.happens("reenrolled", id, "Fire Safety")?;
    let after = bench.settled(id).await?;
    same("records", &after.records, &before.records)?;
    holds(!after.records.is_empty(), || "no records".to_owned())
}

async fn a_merged_duplicate_has_no_facts_and_the_one_who_stays_has_all(bench: &Bench) -> Verdict {
    let ids = bench.seen();
    bench.happens("certificate", &ids[0], "Fire Safety")?;
    bench.happens("completed", &ids[1], "Fire Safety")?;
    bench.happens("learner-merged", &ids[0], &ids[1])?;
    bench.agrees(&ids[0]).await?;
    bench.agrees(&ids[1]).await
}

async fn a_deleted_course_keeps_the_name_that_its_enrolments_have(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    bench.happens("course-bundle-added", "", "Starter Kit")?;
    bench.happens("completed", id, "Starter Kit")?;
    bench.happens("course-bundle-deleted", "", "Starter Kit")?;
    let titles: Vec<String> = bench.settled(id).await?.records.into_iter().map(|record| record.title).collect();
    same("titles", &titles, &vec!["Starter Kit".to_owned()])
}

async fn a_fact_that_shows_late_is_found_later(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    bench.sandbox.portal.faults().early(3);
    bench.happens("completed", id, "Fire Safety")?;
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(bench.read(id).await?.records.len());
    }
    same("records of each read", &counts, &vec![0, 0, 0, 1])
}

async fn a_killed_token_is_renewed_once(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    bench.read(id).await?;
    let logins = bench.sandbox.portal.logins();
    bench.sandbox.portal.faults().kill_token();
    bench.read(id).await?;
    same("logins", &bench.sandbox.portal.logins(), &(logins + 1))
}

async fn a_token_that_is_too_old_is_renewed(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    bench.read(id).await?;
    let logins = bench.sandbox.portal.logins();
    bench.clock.advance(4 * 3_600);
    bench.read(id).await?;
    same("logins", &bench.sandbox.portal.logins(), &(logins + 1))
}

async fn a_transient_401_makes_no_login(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    bench.read(id).await?;
    let logins = bench.sandbox.portal.logins();
    bench.sandbox.portal.faults().arm(crate::sandbox::PortalFault::Unauthorized, Area::Users, Times::Next(1));
    let found = bench.absorb.learner(id).await.map_err(|error| error.to_string())?;
    holds(found.is_some() && bench.sandbox.portal.logins() == logins, || words(&bench.sandbox.portal.logins()))
}

async fn a_passing_failure_is_tried_again(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    bench.happens("completed", id, "Fire Safety")?;
    bench.sandbox.portal.faults().unavailable(503, Area::Enrollments, Times::Next(2));
    bench.agrees(id).await
}

async fn a_lasting_failure_is_unavailable(bench: &Bench) -> Verdict {
    bench.sandbox.portal.faults().unavailable(502, Area::Certificates, Times::Always);
    let read = bench.absorb.records(&bench.seen()[0]).await;
    holds(matches!(read, Err(LmsError::Unavailable(_))), || words(&read))
}

async fn half_an_answer_is_an_error(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    bench.happens("completed", id, "Fire Safety")?;
    bench.sandbox.portal.faults().half_page(Area::Enrollments, Times::Always);
    let read = bench.absorb.records(id).await;
    holds(matches!(read, Err(LmsError::Unavailable(_))), || words(&read))
}

async fn a_partial_read_is_an_error(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    for course in ["Fire Safety", "First Aid at Work", "Forklift Operator"] {
        bench.happens("completed", id, course)?;
    }
    bench.sandbox.portal.faults().few_rows(Area::Enrollments, Times::Always);
    let read = bench.absorb.records(id).await;
    let has_no_total = ["no_total_items", "bare_arrays", "v1"].iter().any(|quirk| bench.has(quirk).is_some());
    match read {
        Err(LmsError::PartialRead(_)) => Ok(Outcome::Holds),
        Ok(_) if has_no_total => Ok(Outcome::Instead("nobody can tell that a row is missing where no total is said")),
        other => Err(words(&other)),
    }
}

async fn a_limit_is_told_with_its_wait(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    bench.read(id).await?;
    for (quirk, value) in [("rate", "1"), ("burst", "0")] {
        bench.sandbox.portal.set_quirk(quirk, value).expect("there is such a quirk");
    }
    let read = bench.absorb.learner(id).await;
    let now = bench.clock.now().utc();
    let is_told = match (&read, bench.has("retry_after")) {
        (Err(LmsError::Throttled(RetryAfter::Unsaid)), None) => true,
        (Err(LmsError::Throttled(RetryAfter::For(wait))), Some("2")) => *wait == Duration::from_secs(2),
        (Err(LmsError::Throttled(RetryAfter::Until(until))), Some("date:2")) => (*until - now).num_seconds() == 2,
        _ => false,
    };
    holds(is_told, || words(&read))
}

async fn every_webhook_names_its_event_and_its_learner(bench: &Bench) -> Verdict {
    let id = &bench.seen()[0];
    for (word, event) in
        crate::sandbox::PortalHandle::deeds().into_iter().filter_map(|(word, event)| Some((word, event?)))
    {
        let is_of_learner = matches!(
            word,
            "completed"
                | "completed-by-admin"
                | "certificate"
                | "competency"
                | "credits"
                | "session"
                | "self-assessment"
                | "learning-path"
        );
        let happened = if word.ends_with("-deleted") {
            bench.happens(&word.replace("bundle-deleted", "bundle-added").replace("deleted", "created"), "", "")?;
            bench.happens(word, "", "")?
        } else {
            bench.happens(word, if is_of_learner { id } else { "" }, "")?
        };
        for hook in happened.hooks {
            let raw = RawEvent {
                portal: "main".to_owned(),
                method: "POST".to_owned(),
                content_type: hook.content_type,
                body: hook.body,
            };
            let readings = payload::read(&raw, &payload::Aliases::default());
            let first = readings.first().ok_or("no reading")?;
            if matches!(first.name, EventName::Unknown(_) | EventName::Test) {
                return Err(format!("{event}: {first:?}"));
            }
            if is_of_learner && first.user_id.as_ref() != Some(id) {
                return Err(format!("{event}: {first:?}"));
            }
        }
    }
    Ok(Outcome::Holds)
}

#[tokio::test]
async fn the_client_keeps_every_rule_with_every_quirk() {
    let mut table = String::new();
    let (mut failures, mut legend): (Vec<String>, Vec<&'static str>) = (Vec::new(), Vec::new());
    for (column, quirks) in COLUMNS {
        let mut marks = String::new();
        for (name, rule) in RULES {
            let bench = Bench::start(quirks).await;
            marks.push(match rule(&bench).await {
                Ok(Outcome::Holds) => '+',
                Ok(Outcome::Instead(words)) => {
                    let known = legend.iter().position(|known| *known == words);
                    let place = known.unwrap_or_else(|| {
                        legend.push(words);
                        legend.len() - 1
                    });
                    char::from(b'a' + u8::try_from(place).expect("few things happen instead"))
                }
                Err(words) => {
                    failures.push(format!("{name}, with {column}: {words}"));
                    '-'
                }
            });
            bench.sandbox.stop().await;
        }
        table.push_str(&format!("{column:<36}{marks}\n"));
    }
    let rules: String = (1..).zip(RULES).map(|(number, (name, _))| format!("{number:>3} {name}\n")).collect();
    let instead: String = ('a'..).zip(&legend).map(|(letter, words)| format!("  {letter} {words}\n")).collect();
    let sheet = format!("{rules}\n{table}\n  + holds  - broken\n{instead}");
    #[expect(clippy::print_stdout, reason = "the table is what this test is read for")]
    {
        println!("{sheet}");
    }
    assert!(failures.is_empty(), "{sheet}\n{}", failures.join("\n"));
}

#[test]
fn every_quirk_stands_in_the_matrix() {
    let columns: BTreeSet<&str> = COLUMNS.iter().flat_map(|(_, quirks)| quirks.iter().map(|(name, _)| *name)).collect();
    let all: BTreeSet<&str> = crate::sandbox::QUIRKS.iter().map(|quirk| quirk.name).collect();
    assert_eq!(columns, all);
}
