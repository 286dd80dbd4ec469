//! learnsync keeps HR and CRM systems true to a learning management system.
#![doc = include_str!("ARCHITECTURE.md")]

pub mod cli;
pub mod config;
pub mod connectors;
pub mod daemon;
pub mod domain;
pub mod explain;
pub mod fail_point;
pub mod http;
pub mod lms;
pub mod mapping;
pub mod pipeline;
pub mod reconcile;
pub mod sandbox;
pub mod store;
pub mod telemetry;
