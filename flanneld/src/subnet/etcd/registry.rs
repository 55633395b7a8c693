//! The requests to etcd: reading the network configuration and the leases, writing this node's,
//! and the watch.

use super::{
    acquire::Known,
    cache::{Change, Listing, Record, StoreRevision},
    connection::Connection,
    error::{Failure, Kind, Reason},
    keys::{self, Keys, Unreadable},
};
use crate::{
    model::{Subnets, lease::LeaseAttrs},
    one_line::one_line,
};
use etcd_client::{
    Client, Compare, CompareOp, GetOptions, GetResponse, KeyValue, LeaseTimeToLiveOptions,
    PutOptions, ResponseHeader, Txn, TxnOp, WatchOptions, WatchResponse, WatchStream,
};
use std::time::Duration;
use tracing::debug;

/// Keys in an answer to a listing.
const PAGE: i64 = 1000;
/// Times that a listing starts again because etcd compacted the revision it reads.
const LISTING_ATTEMPTS: usize = 5;
/// Leases that etcd can make a node hold: more than any network has.
const MAX_KEYS: usize = 200_000;

pub(super) struct Registry {
    pub(super) connection: Connection,
    pub(super) keys: Keys,
}

/// The value of PREFIX/config; None if there is no such key.
pub(super) struct ConfigValue {
    pub(super) value: Option<Result<String, Unreadable>>,
    pub(super) store: StoreRevision,
}

/// A lease to be written in one transaction, which does nothing if `expected` is not what etcd has.
pub(super) struct Write<'a> {
    pub(super) subnets: Subnets,
    pub(super) attrs: &'a LeaseAttrs,
    /// The revision of the key; 0 for a key that is not there.
    pub(super) expected: i64,
    /// None for a reservation.
    pub(super) ttl: Option<Duration>,
    /// Keys that go in the same transaction, before the write.
    pub(super) delete: &'a [&'a Known],
}

/// What a write made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) mod_revision: i64,
    /// 0 for a reservation.
    pub(super) lease_id: i64,
}

/// A message of the watch.
#[derive(Debug)]
pub(super) enum Message {
    Changes(Vec<Change>),
    /// The network configuration changed.
    Config(Option<Result<String, Unreadable>>),
    /// Every event up to this revision has arrived.
    Progress(i64),
    /// Nothing to do.
    Created,
}

impl Registry {
    /// Reads the network configuration. The answer is the cluster's, not that of a member that is
    /// behind.
    pub(super) async fn config(&self) -> Result<ConfigValue, Failure> {
        let (record, store) = self.read(self.keys.config()).await?;
        let value = record.map(|record| text(record.value));
        Ok(ConfigValue { value, store })
    }

    /// One key. A value that is longer than a message may be is left out.
    pub(super) async fn read(&self, key: &str) -> Result<(Option<Record>, StoreRevision), Failure> {
        match self.read_at(key, 0, false).await {
            Err(error) if error.kind() == Kind::TooLong => {}
            answer => return answer,
        }
        // it may have another value by now: both answers are about one revision
        let (_, store) = self.read_at(key, 0, true).await?;
        match self.read_at(key, store.revision, false).await {
            Err(error) if error.kind() == Kind::TooLong => {
                self.read_at(key, store.revision, true).await
            }
            answer => answer,
        }
    }

    /// At the newest revision if `revision` is 0.
    async fn read_at(
        &self,
        key: &str,
        revision: i64,
        keys_only: bool,
    ) -> Result<(Option<Record>, StoreRevision), Failure> {
        let mut options = GetOptions::new().with_revision(revision);
        if keys_only {
            options = options.with_keys_only();
        }
        let read = |mut client: Client| {
            let options = options.clone();
            async move { client.get(key, Some(options)).await }
        };
        let mut response = self.connection.call(read).await?;
        let store = shown(response.header(), revision);
        let kv = response.take_kvs().pop();
        Ok((kv.map(|kv| record(kv, keys_only)), store))
    }

    /// Every lease at one revision.
    pub(super) async fn list(&self) -> Result<Listing, Failure> {
        let mut attempts = 1;
        loop {
            match self.list_once().await {
                Err(error) if error.kind() == Kind::Compacted && attempts < LISTING_ATTEMPTS => {
                    attempts += 1;
                }
                listing => return listing,
            }
        }
    }

    async fn list_once(&self) -> Result<Listing, Failure> {
        let mut listing = Listing::default();
        let mut from = self.keys.subnets().as_bytes().to_vec();
        let mut page = PAGE;
        loop {
            let (records, more) = match self.page(&from, listing.store.revision, page, false).await
            {
                // some value is longer than a message may be: it alone is left out
                Err(error) if error.kind() == Kind::TooLong && page > 1 => {
                    page /= 2;
                    continue;
                }
                // it may have another value by now: all further answers are about one revision
                Err(error) if error.kind() == Kind::TooLong && listing.store.revision == 0 => {
                    let (first, _) = self.page(&from, 0, 1, true).await?;
                    listing.store = first.store;
                    continue;
                }
                Err(error) if error.kind() == Kind::TooLong => {
                    self.page(&from, listing.store.revision, 1, true).await?
                }
                answer => answer?,
            };
            listing.store = records.store;
            listing.records.extend(records.records);
            if listing.records.len() > MAX_KEYS {
                let below = self.keys.subnets().to_owned();
                return Err(Failure::TooManyKeys(MAX_KEYS, below));
            }
            let Some(last) = listing.records.last().filter(|_| more) else {
                return Ok(listing);
            };
            from = [&last.key[..], b"\0"].concat();
            page = (page * 2).min(PAGE);
        }
    }

    /// Keys from `from` on; true if there are more. At the newest revision if `revision` is 0.
    async fn page(
        &self,
        from: &[u8],
        revision: i64,
        limit: i64,
        keys_only: bool,
    ) -> Result<(Listing, bool), Failure> {
        let mut options = GetOptions::new()
            .with_range(end_of(self.keys.subnets()))
            .with_limit(limit)
            .with_revision(revision);
        if keys_only {
            options = options.with_keys_only();
        }
        let read = |mut client: Client| {
            let options = options.clone();
            async move { client.get(from, Some(options)).await }
        };
        let mut response: GetResponse = self.connection.call(read).await?;
        let store = shown(response.header(), revision);
        let kvs = response.take_kvs().into_iter();
        let records = kvs.map(|kv| record(kv, keys_only)).collect();
        Ok((Listing { store, records }, response.more()))
    }

    /// The key of a lease as it is now.
    pub(super) async fn get(&self, subnets: &Subnets) -> Result<Option<Known>, Failure> {
        let (record, _) = self.read(&self.keys.subnet(subnets)).await?;
        Ok(record.and_then(|record| self.known(&record)))
    }

    /// A key as the decision about this node's lease needs it; None if it does not name subnets.
    pub(super) fn known(&self, record: &Record) -> Option<Known> {
        let subnets = self.keys.parse(&record.key).ok()?;
        Some(self.readable(record).unwrap_or_else(|_| Known {
            subnets,
            attrs: LeaseAttrs::default(),
            mod_revision: record.mod_revision,
            lease_id: record.lease_id,
        }))
    }

    /// A key whose name and value can be read.
    pub(super) fn readable(&self, record: &Record) -> Result<Known, Unreadable> {
        let value = record.value.as_deref().ok_or(Unreadable::TooLong)?;
        Ok(Known {
            subnets: self.keys.parse(&record.key)?,
            attrs: keys::parse_value(value)?,
            mod_revision: record.mod_revision,
            lease_id: record.lease_id,
        })
    }

    /// Writes a key unless it is there.
    pub(super) async fn create(&self, key: &str, value: &str) -> Result<(), Failure> {
        let absent = Compare::version(key, CompareOp::Equal, 0);
        let put = TxnOp::put(key, value, None);
        let txn = Txn::new().when([absent]).and_then([put]);
        let commit = |mut client: Client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        };
        self.connection.call(commit).await.map(|_| ())
    }

    /// Writes a lease; None if something changed meanwhile.
    pub(super) async fn write(&self, write: &Write<'_>) -> Result<Option<Written>, Failure> {
        let lease_id = match write.ttl {
            Some(ttl) => self.grant(ttl).await?,
            None => 0,
        };
        let txn = self.transaction(write, lease_id)?;
        let commit = |mut client: Client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        };
        let answer = self.connection.call(commit).await;
        let written = match &answer {
            Ok(response) if response.succeeded() => Some(Written {
                mod_revision: response.header().map_or(0, ResponseHeader::revision),
                lease_id,
            }),
            _ => None,
        };
        if written.is_none() && lease_id != 0 {
            self.revoke_unused(lease_id).await;
        }
        answer.map(|_| written)
    }

    fn transaction(&self, write: &Write<'_>, lease_id: i64) -> Result<Txn, Failure> {
        let key = self.keys.subnet(&write.subnets);
        let value = value(write.attrs).map_err(Failure::Attributes)?;
        let unchanged = |key, revision| Compare::mod_revision(key, CompareOp::Equal, revision);
        let mut compare = vec![match write.expected {
            0 => Compare::version(key.clone(), CompareOp::Equal, 0),
            revision => unchanged(key.clone(), revision),
        }];
        let mut operations = Vec::new();
        for gone in write.delete {
            let gone_key = self.keys.subnet(&gone.subnets);
            compare.push(unchanged(gone_key.clone(), gone.mod_revision));
            operations.push(TxnOp::delete(gone_key, None));
        }
        let options = (lease_id != 0).then(|| PutOptions::new().with_lease(lease_id));
        operations.push(TxnOp::put(key, value, options));
        Ok(Txn::new().when(compare).and_then(operations))
    }

    async fn grant(&self, ttl: Duration) -> Result<i64, Failure> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let grant =
            |client: Client| async move { client.lease_client().grant(seconds, None).await };
        Ok(self.connection.call(grant).await?.id())
    }

    /// Starts the life of an etcd lease anew; false if there is no such lease.
    pub(super) async fn keep_alive(&self, lease_id: i64) -> Result<bool, Failure> {
        let keep = |client: Client| async move { client.lease_client().keep_alive(lease_id).await };
        match self.connection.call(keep).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Kind::NoLease => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Revokes an etcd lease that no key uses. One that is not revoked ends by itself.
    pub(super) async fn revoke_unused(&self, lease_id: i64) {
        let keys = || Some(LeaseTimeToLiveOptions::new().with_keys());
        let ask = |client: Client| async move {
            client.lease_client().time_to_live(lease_id, keys()).await
        };
        let revoked = match self.connection.call(ask).await {
            Ok(status) if status.ttl() > 0 && status.keys().is_empty() => {
                let revoke =
                    |client: Client| async move { client.lease_client().revoke(lease_id).await };
                self.connection.call(revoke).await.map(|_| ())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = revoked {
            debug!("an unused etcd lease is left to end by itself: {error}");
        }
    }

    /// Watches the leases from revision `from` on, and the network configuration.
    pub(super) async fn watch(&self, from: i64, config_from: i64) -> Result<Watch<'_>, Failure> {
        let (subnets, config) = (self.keys.subnets(), self.keys.config());
        let open = |client: Client| async move {
            let leases = WatchOptions::new()
                .with_range(end_of(subnets))
                .with_start_revision(from)
                .with_progress_notify();
            let mut stream = client.watch_client().watch(subnets, Some(leases)).await?;
            let config_options = WatchOptions::new().with_start_revision(config_from);
            stream.watch(config, Some(config_options)).await?;
            Ok(stream)
        };
        Ok(Watch {
            stream: self.connection.call(open).await?,
            config,
            leases: None,
            url: self.connection.urls(),
        })
    }
}

/// An open watch.
pub(super) struct Watch<'a> {
    stream: WatchStream,
    config: &'a str,
    /// The number that etcd gave the watch of the leases: the first that it creates.
    leases: Option<i64>,
    url: String,
}

impl Watch<'_> {
    /// The next message. It may be awaited again after a cancellation.
    pub(super) async fn next(&mut self) -> Result<Message, Failure> {
        match self.stream.message().await {
            Ok(Some(response)) => self.message(&response),
            Ok(None) => Err(Failure::WatchEnded("the connection was closed".to_owned())),
            Err(error) => Err(Failure::Refused {
                url: self.url.clone(),
                reason: Reason::from(error),
            }),
        }
    }

    fn message(&mut self, response: &WatchResponse) -> Result<Message, Failure> {
        if response.compact_revision() != 0 {
            return Err(Failure::Compacted(response.compact_revision()));
        }
        if response.canceled() {
            return Err(Failure::WatchEnded(match response.cancel_reason() {
                "" => "no reason given".to_owned(),
                reason => one_line(reason),
            }));
        }
        if response.created() {
            self.leases.get_or_insert(response.watch_id());
            return Ok(Message::Created);
        }
        let is_leases = self.leases == Some(response.watch_id());
        let mut changes = Vec::new();
        for kv in response.events().iter().filter_map(|event| event.kv()) {
            if kv.key() == self.config.as_bytes() {
                let record = (!is_deleted(kv)).then(|| record(kv.clone(), false));
                let value = record.map(|record| text(record.value));
                return Ok(Message::Config(value));
            }
            changes.push(change(kv));
        }
        let revision = response.header().map_or(0, ResponseHeader::revision);
        Ok(match changes.is_empty() {
            true if is_leases => Message::Progress(revision),
            true => Message::Created,
            false => Message::Changes(changes),
        })
    }
}

/// True for the key of a deletion, which has no version.
fn is_deleted(kv: &KeyValue) -> bool {
    kv.version() == 0
}

fn change(kv: &KeyValue) -> Change {
    match is_deleted(kv) {
        true => Change::Delete {
            key: kv.key().to_vec(),
            mod_revision: kv.mod_revision(),
        },
        false => Change::Put(record(kv.clone(), false)),
    }
}

fn record(kv: KeyValue, keys_only: bool) -> Record {
    let (mod_revision, lease_id) = (kv.mod_revision(), kv.lease());
    let (key, value) = kv.into_key_value();
    Record {
        key,
        value: (!keys_only && value.len() <= keys::VALUE_LIMIT).then_some(value),
        mod_revision,
        lease_id,
    }
}

fn text(value: Option<Vec<u8>>) -> Result<String, Unreadable> {
    let value = value.ok_or(Unreadable::TooLong)?;
    String::from_utf8(value).map_err(|_| Unreadable::ValueEncoding)
}

/// The value of a lease, as upstream writes it.
pub(super) fn value(attrs: &LeaseAttrs) -> Result<String, serde_json::Error> {
    serde_json::to_string(attrs)
}

/// The first key after all keys that begin with `prefix`, which ends with a slash.
fn end_of(prefix: &str) -> String {
    format!("{}0", prefix.strip_suffix('/').unwrap_or(prefix))
}

/// What an answer shows: the revision that was asked for, the newest if that is 0.
fn shown(header: Option<&ResponseHeader>, asked: i64) -> StoreRevision {
    header.map_or_else(StoreRevision::default, |header| StoreRevision {
        cluster: header.cluster_id(),
        revision: match asked {
            0 => header.revision(),
            asked => asked,
        },
    })
}
