//! nftables, connection tracking and iptables. This crate does not depend on CNI.
//!
//! nftables is spoken by netlink: a transaction takes 60 to 260 microseconds, an `nft` process 4 to
//! 7 milliseconds. rustables is GPL-3; nftnl needs C libraries.
mod compile;
mod conntrack;
mod decode;
mod error;
mod expression;
mod iptables;
mod message;
mod monitor;
mod nft;
mod reply;
mod rule;
mod set;
mod table;
mod transaction;
mod user_data;

pub use conntrack::{Connection, Conntrack};
pub use error::Error;
pub use iptables::{Iptables, Saved};
pub use monitor::NftMonitor;
pub use nft::{Installed, Nft};
pub use rule::{Field, Rule, Statement};
pub use set::{DataType, Element, Part, Set, Value, ValueType};
pub use table::{BaseChain, Chain, ChainType, Family, Hook, Table};
pub use transaction::Transaction;
pub use user_data::COMMENT_MAX;
