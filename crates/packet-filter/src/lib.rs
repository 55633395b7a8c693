//! nftables by netlink: tables as plain data, whole transactions, and reading back, without an `nft` process; and iptables by
//! its own programs. Knows nothing of CNI.
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
