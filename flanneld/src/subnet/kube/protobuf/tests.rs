use super::{
    fixtures::{annotation, envelope, event, frame, list, node_bytes, node_message, status_bytes},
    messages::{NodeMessage, NodeSpec, ObjectMeta},
    *,
};
use crate::subnet::kube::{Condition, Keys, Node};
use proptest::prelude::*;
use std::hash::RandomState;

fn keys() -> Keys {
    Keys::new("flannel.alpha.coreos.com").unwrap()
}

/// What the frames of the chunks contain.
fn split_frames(chunks: &[&[u8]]) -> Result<Vec<Bytes>, DecodeError> {
    let (mut frames, mut found) = (Frames::default(), Vec::new());
    for chunk in chunks {
        frames.push(Bytes::copy_from_slice(chunk));
        while let Some(frame) = frames.next()? {
            found.push(frame);
        }
    }
    Ok(found)
}

fn read_list(chunks: &[&[u8]]) -> Result<Vec<ListItem>, DecodeError> {
    let (mut reader, mut items) = (ListReader::default(), Vec::new());
    for chunk in chunks {
        reader.push(chunk);
        while let Some(item) = reader.next()? {
            items.push(item);
        }
    }
    reader.end()?;
    Ok(items)
}

#[test]
fn node_has_what_a_lease_is_made_of() {
    let object = event("MODIFIED", envelope("Node", node_bytes("n1")));
    let Ok(WatchEvent::Applied(object)) = WatchEvent::decode(object.into()) else {
        panic!("not applied");
    };
    assert_eq!((&*object.name(), object.created()), ("n1", 1700));
    let node = object.node_with_condition(&keys()).unwrap();
    let expected = Node {
        name: "n1".to_owned(),
        uid: "u1".to_owned(),
        resource_version: "42".to_owned(),
        annotations: [("flannel.alpha.coreos.com/public-ip", "192.0.2.1")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        pod_cidrs: vec!["10.1.2.0/24".to_owned(), "fd00:1:2::/64".to_owned()],
        network_unavailable: Some(Condition {
            status: "False".to_owned(),
            reason: "FlannelIsUp".to_owned(),
        }),
    };
    assert_eq!(node, expected);
}

#[test]
fn old_pod_cidr_counts_where_the_list_is_empty() {
    let mut message = node_message("n1");
    message.spec.as_mut().unwrap().pod_cidrs.clear();
    let object = NodeObject::decode(message.encode_to_vec().into()).unwrap();
    assert_eq!(object.node(&keys()).pod_cidrs, ["10.1.2.0/24"]);
    message.spec = None;
    let object = NodeObject::decode(message.encode_to_vec().into()).unwrap();
    assert!(object.node(&keys()).pod_cidrs.is_empty());
}

#[test]
fn text_that_is_not_utf_8_does_not_make_the_node_unreadable() {
    let mut message = node_message("n1");
    let annotations = &mut message.metadata.as_mut().unwrap().annotations;
    annotations[0].value = Bytes::from_static(b"\xff1");
    annotations[1].key = Bytes::from_static(b"\xff");
    let object = NodeObject::decode(message.encode_to_vec().into()).unwrap();
    let node = object.node(&keys());
    let values: Vec<_> = node.annotations.into_values().collect();
    assert_eq!(values, ["\u{fffd}1"]);
}

#[test]
fn fingerprint_is_of_what_a_lease_is_made_of() {
    let hash = RandomState::new();
    type Change = dyn Fn(&mut ObjectMeta, &mut NodeSpec);
    let fingerprint = |change: &Change| {
        let NodeMessage { metadata, spec } = node_message("n1");
        let (mut metadata, mut spec) = (metadata.unwrap(), spec.unwrap());
        change(&mut metadata, &mut spec);
        let message = NodeMessage {
            metadata: Some(metadata),
            spec: Some(spec),
        };
        let object = NodeObject::decode(message.encode_to_vec().into()).unwrap();
        object.fingerprint(&hash, &keys())
    };
    let before = fingerprint(&|_, _| {});
    assert_eq!(
        before,
        fingerprint(&|metadata, _| {
            metadata.resource_version = Bytes::from_static(b"43");
            metadata.annotations[1].value = Bytes::from_static(b"false");
        })
    );
    let changes: [&Change; 4] = [
        &|metadata, _| metadata.uid = Bytes::from_static(b"u2"),
        &|metadata, _| metadata.annotations[0].value = Bytes::from_static(b"192.0.2.2"),
        &|metadata, _| drop(metadata.annotations.remove(0)),
        &|_, spec| drop(spec.pod_cidrs.pop()),
    ];
    for change in changes {
        assert_ne!(before, fingerprint(change));
    }
}

#[test]
fn events_are_told_apart() {
    let mut end = node_message("");
    let entry = annotation("k8s.io/initial-events-end", b"true");
    end.metadata.as_mut().unwrap().annotations.push(entry);
    let bookmark = |message: NodeMessage| {
        let object = envelope("Node", message.encode_to_vec());
        WatchEvent::decode(event("BOOKMARK", object).into()).unwrap()
    };
    for (message, expected) in [(node_message(""), false), (end, true)] {
        let expected = WatchEvent::Bookmark {
            resource_version: "42".to_owned(),
            initial_events_end: expected,
        };
        assert_eq!(bookmark(message), expected);
    }
    let status = status_bytes(410, "Expired", "too old resource version");
    let expected = Status {
        code: 410,
        reason: "Expired".to_owned(),
        message: "too old resource version".to_owned(),
    };
    assert_eq!(
        Status::of_body(status.clone().into()).as_ref(),
        Some(&expected)
    );
    assert_eq!(
        WatchEvent::decode(event("ERROR", status).into()).unwrap(),
        WatchEvent::Error(expected)
    );
    let unknown = WatchEvent::decode(event("MOVED", Vec::new()).into());
    assert_eq!(unknown.unwrap(), WatchEvent::Unknown("MOVED".to_owned()));
}

#[test]
fn status_may_be_json() {
    let body = br#"{"kind":"Status","code":403,"reason":"Forbidden","message":"no","details":{}}"#;
    let status = Status::of_body(Bytes::from_static(body)).unwrap();
    assert_eq!((status.code, &*status.message), (403, "no"));
    for other in [&b"<html>"[..], b"", b"{}", b"[1]", b"k8s\0\xff"] {
        assert_eq!(Status::of_body(Bytes::from_static(other)), None);
    }
}

#[test]
fn other_objects_are_refused() {
    let pod = event("ADDED", envelope("Pod", Vec::new()));
    let error = WatchEvent::decode(pod.into()).unwrap_err().to_string();
    assert!(error.contains("Pod") && error.contains("Node"), "{error}");
    let json = event("ADDED", b"{}".to_vec());
    assert_eq!(WatchEvent::decode(json.into()), Err(DecodeError::Magic));
    let error = read_list(&[&envelope("PodList", Vec::new())]).unwrap_err();
    assert!(error.to_string().contains("PodList"), "{error}");
    assert_eq!(read_list(&[b"<html>"]), Err(DecodeError::Magic));
}

#[test]
fn lengths_are_bounded() {
    let error = split_frames(&[b"\x7f\0\0\0"]).unwrap_err();
    assert_eq!(error, DecodeError::TooLong(0x7f00_0000));
    assert!(error.to_string().contains("2130706432 bytes"), "{error}");
    let mut item = envelope("NodeList", Vec::new());
    // the list, and in it a node of 2^32 bytes
    item.extend([0x12, 0x80, 0x80, 0x80, 0x80, 0x20]);
    item.extend([0x12, 0x80, 0x80, 0x80, 0x80, 0x10]);
    assert_eq!(read_list(&[&item]), Err(DecodeError::TooLong(1 << 32)));
}

#[test]
fn list_that_breaks_off_is_an_error() {
    let list = list("", &[node_bytes("n1"), node_bytes("n2")]);
    for length in 0..list.len() {
        let error = read_list(&[&list[..length]]).unwrap_err();
        assert_eq!(error, DecodeError::Truncated(length as u64));
    }
}

#[test]
fn list_is_the_same_wherever_it_is_split() {
    let list = list("next", &[node_bytes("n1"), node_bytes("n2")]);
    let whole = read_list(&[&list]).unwrap();
    let ListItem::Metadata { continue_token, .. } = &whole[0] else {
        panic!("{whole:?}");
    };
    assert_eq!((continue_token.as_str(), whole.len()), ("next", 3));
    for at in 0..list.len() {
        let (left, right) = list.split_at(at);
        assert_eq!(read_list(&[left, right]).unwrap(), whole);
    }
    let bytes: Vec<&[u8]> = list.chunks(1).collect();
    assert_eq!(read_list(&bytes).unwrap(), whole);
}

#[test]
fn frames_are_the_same_wherever_they_are_split() {
    let contents: [&[u8]; 4] = [b"first", b"", &[7; 300], b"x"];
    let stream = contents.map(frame).concat();
    for at in 0..stream.len() {
        let (left, right) = stream.split_at(at);
        assert_eq!(split_frames(&[left, right]).unwrap(), contents);
    }
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(split_frames(&bytes).unwrap(), contents);
}

#[test]
fn stream_ends_between_frames_only() {
    let mut frames = Frames::default();
    assert!(frames.is_empty());
    frames.push(Bytes::from_static(b"\0\0\0\x01"));
    assert_eq!(frames.next(), Ok(None));
    assert!(!frames.is_empty());
    frames.push(Bytes::from_static(b"x"));
    assert!(frames.next().unwrap().is_some());
    assert!(frames.is_empty());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, at: prop::sample::Index) {
        let at = at.index(bytes.len() + 1);
        let (left, right) = bytes.split_at(at);
        drop(split_frames(&[left, right]));
        drop(read_list(&[left, right]));
        drop(read_list(&[MAGIC, left, right]));
        drop(WatchEvent::decode(bytes.clone().into()));
        drop(Status::of_body(bytes.into()));
    }

    #[test]
    fn damaged_messages_do_not_panic(at: prop::sample::Index, byte: u8) {
        let mut list = list("next", &[node_bytes("n1")]);
        let position = at.index(list.len());
        list[position] = byte;
        drop(read_list(&[&list]));
        let mut event = event("ADDED", envelope("Node", node_bytes("n1")));
        let position = at.index(event.len());
        event[position] = byte;
        if let Ok(WatchEvent::Applied(object)) = WatchEvent::decode(event.into()) {
            drop(object.node_with_condition(&keys()));
        }
    }

    #[test]
    fn chunks_of_any_size_give_the_same_frames(lengths in prop::collection::vec(0usize..50, 0..8), size in 1usize..40) {
        let contents: Vec<Vec<u8>> = lengths.iter().map(|length| vec![7; *length]).collect();
        let stream = contents.iter().flat_map(|content| frame(content)).collect::<Vec<_>>();
        let chunks: Vec<&[u8]> = stream.chunks(size).collect();
        prop_assert_eq!(split_frames(&chunks).unwrap(), contents);
    }
}
