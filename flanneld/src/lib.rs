//! The daemon, by folder: where leases come from, and what a node makes of them.
pub mod backend;
pub mod cli;
pub mod command;
pub mod daemon;
pub mod files;
pub mod model;
pub mod reconcile;
pub mod rules;
pub mod subnet;
pub mod underlay;
