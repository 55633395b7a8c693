//! The daemon, by folder: where leases come from, and what a node makes of them.
mod backend;
mod best_effort;
mod cli;
mod command;
pub mod daemon;
mod files;
mod model;
mod reconcile;
mod rules;
mod subnet;
mod underlay;
