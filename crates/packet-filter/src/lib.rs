//! nftables, connection tracking and iptables. This crate does not depend on CNI.
//!
//! nftables is spoken by netlink: a transaction takes 60 to 260 microseconds, an `nft` process 4 to
//! 7 milliseconds. rustables is GPL-3; nftnl needs C libraries.
mod compile;
pub mod conntrack;
mod decode;
pub mod error;
mod expression;
pub mod iptables;
mod message;
pub mod monitor;
pub mod nft;
mod reply;
pub mod rule;
pub mod set;
pub mod table;
pub mod transaction;
mod user_data;

pub use conntrack::{Connection, Conntrack};
pub use error::Error;
pub use iptables::Iptables;
pub use monitor::NftMonitor;
pub use nft::{Installed, Nft};
pub use rule::{Field, Rule, Statement};
pub use set::{DataType, Element, Part, Set, Value, ValueType};
pub use table::{BaseChain, Chain, ChainType, Family, Hook, Table};
pub use transaction::Transaction;
pub use user_data::COMMENT_MAX;
