//! The kit's checks, once for each way in which the files are written.

use std::sync::Arc;

use learnsync_testkit::Report;

use super::fake::{Target, Variant};
use crate::File;

const VARIANTS: [Variant; 5] = [
    Variant { name: "csv, full", is_json: false, is_delta: false, is_german: false },
    Variant { name: "csv, full, as Excel in German", is_json: false, is_delta: false, is_german: true },
    Variant { name: "csv, delta", is_json: false, is_delta: true, is_german: false },
    Variant { name: "json_lines, full", is_json: true, is_delta: false, is_german: false },
    Variant { name: "json_lines, delta", is_json: true, is_delta: true, is_german: false },
];

#[tokio::test]
async fn file_keeps_all_promises_of_a_connector() {
    let mut reports = Vec::new();
    for variant in VARIANTS {
        let report = learnsync_testkit::run(&File, Arc::new(Target::new(variant))).await;
        println!("{}\n{report}", variant.name);
        reports.push(Report { connector: format!("file, {}", variant.name), ..report });
    }
    println!("{}", learnsync_testkit::conformance_table(&reports));
    for report in &reports {
        report.assert_passed();
        report.assert_shown_in(include_str!("../../../README.md"));
    }
}
