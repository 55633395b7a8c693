//! A scripted kernel: what a real one does too rarely to wait for.

use super::*;
use crate::link;
use std::collections::VecDeque;

/// What the scripted kernel returns next.
enum Step {
    /// A datagram; sequence numbers in it count from the first request of the packet that was sent
    /// last.
    Gives(Vec<u8>),
    /// An errno.
    Fails(Errno),
}
use Step::{Fails, Gives};

/// One script per packet that is sent.
struct Script {
    packets: VecDeque<Vec<Step>>,
    waiting: VecDeque<Step>,
    /// of the last packet's first request
    sequence: u32,
    /// flags of the requests in each packet
    sent: Vec<Vec<u16>>,
}

impl Transport for Script {
    fn send(&mut self, packet: &[u8]) -> nix::Result<()> {
        let requests: Vec<_> = messages(packet).map(|request| request.unwrap()).collect();
        self.sequence = requests[0].sequence;
        let flags = |at: usize| u16::from_ne_bytes([packet[at + 6], packet[at + 7]]);
        let mut at = 0;
        let mut all = Vec::new();
        for request in &requests {
            all.push(flags(at));
            at += (16 + request.payload.len()).next_multiple_of(4);
        }
        self.sent.push(all);
        let script = self.packets.pop_front().expect("a packet too many");
        self.waiting.extend(script);
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> nix::Result<usize> {
        match self.waiting.pop_front() {
            None => Err(Errno::EAGAIN),
            Some(Fails(errno)) => Err(errno),
            Some(Gives(mut bytes)) => {
                let mut at = 0;
                while at < bytes.len() {
                    let number = u32::from_ne_bytes(bytes[at + 8..at + 12].try_into().unwrap());
                    let sequence = self.sequence.wrapping_add(number);
                    bytes[at + 8..at + 12].copy_from_slice(&sequence.to_ne_bytes());
                    let length = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
                    at += (length as usize).next_multiple_of(4);
                }
                let fits = bytes.len().min(buffer.len());
                buffer[..fits].copy_from_slice(&bytes[..fits]);
                Ok(bytes.len())
            }
        }
    }
}

fn scripted(packets: Vec<Vec<Step>>) -> Client<Script> {
    Client::new(Script {
        packets: packets.into(),
        waiting: VecDeque::new(),
        sequence: 0,
        sent: Vec::new(),
    })
}

/// A message to the packet's request `number` (from 0).
fn message(kind: u16, flags: u16, number: i32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((16 + payload.len() as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn ack(number: i32, errno: i32) -> Vec<u8> {
    let payload = [&(-errno).to_ne_bytes()[..], &[0; 16]].concat();
    message(2, 0x100, number, &payload)
}

fn object(number: u8) -> Vec<u8> {
    message(16, 2, 0, &[number; 4])
}

fn end(flags: u16) -> Vec<u8> {
    message(3, 2 | flags, 0, &[0; 4])
}

fn requests(count: u32) -> Vec<Request> {
    (0..count).map(link::delete).collect()
}

fn numbers(_: u16, payload: &[u8]) -> Read<Option<u8>> {
    match payload[0] {
        0xff => Err(Malformed("broken".into())),
        number => Ok(Some(number)),
    }
}

#[test]
fn only_the_last_of_a_packet_asks_for_an_answer() {
    let mut client = scripted(vec![
        vec![Gives(ack(5, 19)), Gives(ack(127, 0))],
        vec![Gives(ack(1, 17))],
    ]);
    let results = client.batch(&requests(130));
    let refused: Vec<_> = (0..130).filter(|at| results[*at].is_err()).collect();
    assert_eq!(refused, [5, 129]);
    let text = results[5].as_ref().unwrap_err().to_string();
    assert_eq!(text, "delete link 5: no such device");
    let sent = &client.transport.sent;
    assert_eq!((sent[0].len(), sent[1].len()), (128, 2));
    let asking = |flags: &u16| flags & 4 != 0;
    assert!(!sent[0][..127].iter().any(asking) && asking(&sent[0][127]));
    assert!(!asking(&sent[1][0]) && asking(&sent[1][1]));
}

#[test]
fn answers_to_abandoned_requests_are_skipped() {
    let mut client = scripted(vec![vec![
        Gives(ack(-1, 16)),
        Gives(message(16, 0, 0, &[0; 16])),
        Gives(ack(0, 0)),
    ]]);
    assert!(client.request(&requests(1)[0]).is_ok());
}

#[test]
fn lost_answers_are_errors() {
    let mut client = scripted(vec![
        vec![Gives(ack(2, 17)), Fails(Errno::ENOBUFS), Gives(ack(3, 17))],
        vec![Gives(ack(0, 0))],
    ]);
    let results = client.batch(&requests(5));
    let errno = |at: usize| results[at].as_ref().unwrap_err().errno();
    assert_eq!(errno(2), Some(Errno::EEXIST));
    for at in [0, 1, 3, 4] {
        assert_eq!(errno(at), Some(Errno::ENOBUFS));
    }
    // the remaining answers do not disturb the next request
    assert!(client.request(&requests(1)[0]).is_ok());
    assert!(client.transport.waiting.is_empty());
}

#[test]
fn missing_answer_is_an_error() {
    let mut client = scripted(vec![vec![], vec![], vec![Gives(object(1))]]);
    let text = client.request(&requests(1)[0]).unwrap_err().to_string();
    assert_eq!(text, "delete link 0: invalid netlink answer: it is missing");
    assert!(client.get(&requests(1)[0], numbers).is_err());
    // a dump without an end
    assert!(client.dump(&requests(1)[0], numbers).is_err());
}

#[test]
fn interrupted_dump_is_repeated_from_the_start() {
    let interrupted = vec![
        Gives([object(1), object(2)].concat()),
        Gives(message(16, 2 | 16, 0, &[3; 4])),
        Gives(end(0)),
    ];
    let late = vec![Gives(object(1)), Gives(end(16))];
    let whole = vec![Gives(object(1)), Gives([object(3), end(0)].concat())];
    let mut client = scripted(vec![interrupted, late, whole]);
    let found = client.dump(&requests(1)[0], numbers).unwrap();
    assert_eq!(found, [1, 3]);
}

#[test]
fn dump_that_is_always_interrupted_is_an_error() {
    let interrupted = || vec![Gives(object(1)), Gives(end(16))];
    let mut client = scripted((0..DUMP_ATTEMPTS).map(|_| interrupted()).collect());
    let error = client.dump(&requests(1)[0], numbers).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINTR));
    assert_eq!(client.transport.sent.len(), DUMP_ATTEMPTS as usize);
}

#[test]
fn answer_that_does_not_fit_is_requested_again() {
    let large = || vec![Gives(message(16, 0, 0, &vec![7; 3 * BUFFER]))];
    let mut client = scripted(vec![large(), large()]);
    assert_eq!(client.get(&requests(1)[0], numbers).unwrap(), Some(7));
    let endless = Gives(message(16, 0, 0, &vec![7; LARGEST_ANSWER + 1]));
    let mut client = scripted(vec![vec![endless]]);
    let error = client.get(&requests(1)[0], numbers).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EMSGSIZE));
}

#[test]
fn failed_dump_is_read_to_its_end() {
    let mut client = scripted(vec![
        vec![
            Gives(object(1)),
            Gives(object(0xff)),
            Gives(object(2)),
            Gives(end(0)),
        ],
        vec![Gives(ack(0, 95))],
        vec![Gives(object(4)), Gives(end(0))],
    ]);
    let error = client.dump(&requests(1)[0], numbers).unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error}");
    assert!(client.transport.waiting.is_empty());
    let error = client.dump(&requests(1)[0], numbers).unwrap_err();
    assert_eq!(error.to_string(), "delete link 0: operation not supported");
    assert_eq!(client.dump(&requests(1)[0], numbers).unwrap(), [4]);
}

#[test]
fn transaction_without_an_answer_is_committed() {
    let mut client = scripted(vec![vec![], vec![Gives(ack(-1, 16))]]);
    let requests = requests(3);
    assert!(client.transaction(&requests).is_ok());
    assert_eq!(client.transport.sent[0].len(), 3, "one packet");
    let asking = |flags: &u16| flags & 4 != 0;
    assert!(!client.transport.sent[0].iter().any(asking));
    // an answer to an earlier request is no refusal
    assert!(client.transaction(&requests).is_ok());
    assert!(client.transaction(&[]).is_ok());
}

#[test]
fn transaction_error_names_the_first_refused_request() {
    let mut client = scripted(vec![
        vec![Gives(ack(1, 2)), Gives([ack(2, 17), ack(0, 2)].concat())],
        vec![Fails(Errno::ENOBUFS), Gives(ack(1, 2))],
    ]);
    let requests = requests(3);
    let error = client.transaction(&requests).unwrap_err();
    assert_eq!(
        error.to_string(),
        "delete link 1: no such file or directory"
    );
    let error = client.transaction(&requests).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOBUFS));
    assert!(client.transport.waiting.is_empty());
}
