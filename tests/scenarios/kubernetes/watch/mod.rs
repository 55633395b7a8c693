//! The watch of all nodes: every change counts, no fault withdraws anything, and thousands of nodes
//! cost little.

mod changes;
mod faults;
mod fleet;
mod listing;
mod peers;
