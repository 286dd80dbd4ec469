//! What came of a run, and how people read it.

use std::fmt::{self, Write as _};

use learnsync_sdk::Claim;

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds, for all objects to which it applies.
    Passed,
    /// It was not looked at, and why.
    Skipped(String),
    /// It does not hold, and what was seen instead.
    Failed(String),
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped(_) => "skipped",
            Self::Failed(_) => "FAILED",
        }
    }

    fn detail(&self) -> &str {
        match self {
            Self::Passed => "",
            Self::Skipped(why) | Self::Failed(why) => why,
        }
    }
}

/// One check, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// The rule that it proves.
    pub name: &'static str,
    /// The claims to which it belongs: without any of them it is skipped. None for what every connector promises.
    pub claims: &'static [Claim],
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The connector's name.
    pub connector: String,
    /// What the connector claims.
    pub claims: Vec<Claim>,
    /// All checks, in the order in which they ran.
    pub checks: Vec<CheckResult>,
}

impl Report {
    /// The verdict on a rule; none when there is no such check.
    #[must_use]
    pub fn verdict(&self, name: &str) -> Option<&Verdict> {
        self.checks.iter().find(|check| check.name == name).map(|check| &check.verdict)
    }

    /// The rules that do not hold.
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        let is_failed = |check: &&CheckResult| matches!(check.verdict, Verdict::Failed(_));
        self.checks.iter().filter(is_failed).map(|check| check.name).collect()
    }

    /// Ends the test unless every rule holds or is skipped.
    ///
    /// # Panics
    /// A check failed; the message is the report.
    pub fn assert_passed(&self) {
        assert!(self.failed().is_empty(), "{} does not keep {} promises\n{self}", self.connector, self.failed().len());
    }

    /// Ends the test unless a page shows this connector's line of the conformance table, so that no page promises what no test keeps.
    ///
    /// # Panics
    /// The page shows another line, or none; the message is the right one.
    pub fn assert_shown_in(&self, page: &str) {
        let line = self.line();
        assert!(
            page.lines().any(|shown| shown == line),
            "the page does not show how {} stands:\n{line}",
            self.connector
        );
    }

    /// The connector's line of the conformance table.
    fn line(&self) -> String {
        let standings: Vec<&str> = columns().map(|claim| self.standing(claim)).collect();
        format!("| {} | {} |", self.connector, standings.join(" | "))
    }

    /// How it stands with one claim, or with what every connector promises (`None`): `passed`, `skipped` or `FAILED`.
    #[must_use]
    pub fn standing(&self, claim: Option<Claim>) -> &'static str {
        let belongs =
            |check: &&CheckResult| claim.map_or(check.claims.is_empty(), |claim| check.claims.contains(&claim));
        if claim.is_some_and(|claim| !self.claims.contains(&claim)) {
            return "skipped";
        }
        let words: Vec<&str> = self.checks.iter().filter(belongs).map(|check| check.verdict.word()).collect();
        ["FAILED", "passed"].into_iter().find(|word| words.contains(word)).unwrap_or("skipped")
    }
}

impl fmt::Display for Report {
    /// One line a check, as a Markdown table.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        writeln!(out, "| {:<width$} | claim                     | verdict | why |", self.connector)?;
        writeln!(out, "|-{:-<width$}-|---------------------------|---------|-----|", "")?;
        for check in &self.checks {
            let claims: Vec<&str> = check.claims.iter().map(|claim| claim.as_str()).collect();
            let (name, claims) = (check.name, claims.join(", "));
            let (word, why) = (check.verdict.word(), check.verdict.detail());
            writeln!(out, "| {name:<width$} | {claims:<25} | {word:<7} | {why} |")?;
        }
        let count = |word: &str| self.checks.iter().filter(|check| check.verdict.word() == word).count();
        let (passed, skipped, failed) = (count("passed"), count("skipped"), count("FAILED"));
        writeln!(out, "{}: {passed} passed, {skipped} skipped, {failed} failed", self.connector)
    }
}

/// The columns of the conformance table: what every connector promises, then each claim.
fn columns() -> impl Iterator<Item = Option<Claim>> {
    std::iter::once(None).chain(Claim::ALL.into_iter().map(Some))
}

/// The conformance of several connectors: connector x claim, as a Markdown table.
#[must_use]
pub fn conformance_table(reports: &[Report]) -> String {
    let mut table = String::from("| connector |");
    for claim in columns() {
        let _ = write!(table, " {} |", claim.map_or("every connector", |claim| claim.as_str()));
    }
    table.push_str("\n|---|");
    table.push_str(&"---|".repeat(columns().count()));
    for report in reports {
        let _ = write!(table, "\n{}", report.line());
    }
    table.push('\n');
    table
}
