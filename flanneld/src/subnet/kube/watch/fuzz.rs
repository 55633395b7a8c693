//! The fuzz targets of what an API server sends.

use super::cache::NodeCache;
use crate::subnet::kube::{
    Families, Keys, Node,
    protobuf::{Frames, ListItem, ListReader, Status, WatchEvent},
};
use bytes::Bytes;

/// Bytes of a chunk, fewer than a node has.
const CHUNK: usize = 50;
const BOTH: Families = Families {
    ipv4: true,
    ipv6: true,
};

fn cache() -> Option<NodeCache> {
    let keys = Keys::new("flannel.alpha.coreos.com").ok()?;
    Some(NodeCache::new(keys, BOTH, "node-1".to_owned()))
}

/// The stream of a watch.
pub(crate) fn events(bytes: &[u8]) {
    let Some(mut cache) = cache() else { return };
    let mut frames = Frames::default();
    cache.start_listing();
    for chunk in bytes.chunks(CHUNK) {
        frames.push(Bytes::copy_from_slice(chunk));
        while let Ok(Some(frame)) = frames.next() {
            match WatchEvent::decode(frame) {
                Ok(WatchEvent::Applied(node)) => drop(cache.apply(&node)),
                Ok(WatchEvent::Deleted(node)) => cache.remove(&node),
                Ok(WatchEvent::Bookmark { .. }) => cache.finish_listing(),
                Ok(WatchEvent::Error(_) | WatchEvent::Unknown(_)) | Err(_) => return,
            }
        }
        cache.take_leases();
        cache.take_notices();
        cache.summary();
    }
}

/// A page of a list, or the error in its place.
pub(crate) fn list(bytes: &[u8]) {
    let Some(mut cache) = cache() else { return };
    let mut reader = ListReader::default();
    cache.start_listing();
    for chunk in bytes.chunks(CHUNK) {
        reader.push(chunk);
        while let Ok(Some(item)) = reader.next() {
            if let ListItem::Node(node) = item
                && cache.apply(&node).is_err()
            {
                return;
            }
        }
    }
    if reader.end().is_ok() {
        cache.finish_listing();
        cache.take_leases();
    }
    Status::of_body(Bytes::copy_from_slice(bytes));
}

/// A node: annotations without their prefix, `KEY=VALUE` a line, and its podCIDRs on the others.
pub(crate) fn annotations(bytes: &[u8]) {
    let Ok(keys) = Keys::new("flannel.alpha.coreos.com") else {
        return;
    };
    let text = String::from_utf8_lossy(bytes);
    let mut node = Node::default();
    for line in text.lines() {
        match line.split_once('=') {
            Some((key, value)) => {
                let key = format!("flannel.alpha.coreos.com/{key}");
                node.annotations.insert(key, value.to_owned());
            }
            None => node.pod_cidrs.push(line.to_owned()),
        }
    }
    if let Ok(Some(found)) = keys.lease_of(&node, BOTH) {
        keys.overwritten(&found.lease.attrs, &node);
    }
    keys.record(&node);
}
