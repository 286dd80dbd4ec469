//! The kit's checks, against the fake. What is special about your target gets tests of its own below.

mod fake;

use std::sync::Arc;

use self::fake::Target;
use crate::Example;

#[tokio::test]
async fn example_keeps_all_promises_of_a_connector() {
    let report = learnsync_testkit::run(&Example, Arc::new(Target::start().await)).await;
    println!("{report}\n{}", learnsync_testkit::conformance_table(std::slice::from_ref(&report)));
    report.assert_passed();
    report.assert_shown_in(include_str!("../../../README.md"));
}
