//! The `bridge` plugin with `host-local`, executed as a runtime executes it.

mod beyond_upstream;
mod both_plugins;
mod check_gc_status;
mod cost;
mod filter_rules;
mod node;
mod rollback;
mod vlans;
