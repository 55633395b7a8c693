//! The order of commands, by hand-made histories and by random ones.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn input(subnet: &str, node: &str, data: &str) -> PeerInput {
    serde_json::from_value(json!({"Subnet": subnet, "PublicIP": node, "Data": data})).unwrap()
}

/// Peer N with its first address.
fn peer(n: u8) -> PeerInput {
    input(&format!("10.3.{n}.0/24"), &format!("192.0.2.{n}"), "a")
}

fn peers(inputs: &[PeerInput]) -> BTreeMap<Key, PeerInput> {
    let inputs = inputs.iter();
    inputs
        .map(|input| (input.key().unwrap(), input.clone()))
        .collect()
}

fn empty() -> Schedule {
    Schedule::new(Record::default(), false)
}

fn add(input: &PeerInput, undo: &[&PeerInput]) -> Job {
    Job::Add {
        key: input.key().unwrap(),
        undo: undo.iter().copied().cloned().collect(),
        input: input.clone(),
    }
}

fn remove(inputs: &[&PeerInput]) -> Job {
    Job::Remove {
        key: inputs[0].key().unwrap(),
        inputs: inputs.iter().copied().cloned().collect(),
    }
}

/// Runs everything that is due with success; the jobs in their order.
fn run_all(schedule: &mut Schedule, now: Instant) -> Vec<Job> {
    let mut jobs = Vec::new();
    loop {
        let started = schedule.start(usize::MAX, now);
        if started.is_empty() {
            return jobs;
        }
        for job in started {
            assert_eq!(schedule.ended(&job, true, now), None);
            jobs.push(job);
        }
    }
}

#[test]
fn peer_is_added_once_and_removed_once() {
    let (mut schedule, now) = (empty(), Instant::now());
    schedule.follow(&peers(&[peer(2), peer(3)]), now);
    assert!(schedule.must_save && !schedule.is_settled());
    assert_eq!(
        run_all(&mut schedule, now),
        [add(&peer(2), &[]), add(&peer(3), &[])]
    );
    schedule.follow(&peers(&[peer(2), peer(3)]), now);
    assert_eq!(run_all(&mut schedule, now), []);
    assert!(schedule.is_settled() && schedule.is_done());
    schedule.follow(&peers(&[peer(3)]), now);
    assert_eq!(run_all(&mut schedule, now), [remove(&[&peer(2)])]);
    schedule.follow(&peers(&[peer(3)]), now);
    assert_eq!(run_all(&mut schedule, now), []);
    assert_eq!(schedule.record.peers.len(), 1);
}

#[test]
fn restart_runs_only_what_is_left() {
    let (mut schedule, now) = (empty(), Instant::now());
    schedule.follow(&peers(&[peer(2), peer(3), peer(4)]), now);
    let jobs = schedule.start(3, now);
    schedule.ended(&jobs[0], true, now);
    schedule.ended(&jobs[1], true, now);
    // killed: the record is what is on disk
    let mut schedule = Schedule::new(schedule.record, false);
    schedule.follow(&peers(&[peer(3), peer(4)]), now);
    assert_eq!(
        run_all(&mut schedule, now),
        [remove(&[&peer(2)]), add(&peer(4), &[])]
    );
}

#[test]
fn failed_add_is_taken_back_before_the_next_attempt() {
    let (mut schedule, now) = (empty(), Instant::now());
    schedule.follow(&peers(&[peer(2), peer(3)]), now);
    let jobs = schedule.start(8, now);
    let retry = schedule.ended(&jobs[0], false, now);
    assert_eq!(retry, Some((1, BACKOFF.first)));
    assert_eq!(
        schedule.ended(&jobs[1], true, now),
        None,
        "the other peer goes on"
    );
    assert_eq!((schedule.failing(), schedule.is_settled()), (1, false));
    assert_eq!(schedule.start(8, now), []);
    let due = schedule.next_due(now).unwrap();
    assert_eq!(due, now + BACKOFF.first);
    assert_eq!(run_all(&mut schedule, due), [add(&peer(2), &[&peer(2)])]);
    assert_eq!((schedule.failing(), schedule.is_settled()), (0, true));
}

#[test]
fn peer_that_fails_again_and_again_does_not_keep_the_node_from_being_ready() {
    let (mut schedule, mut now) = (empty(), Instant::now());
    schedule.follow(&peers(&[peer(2)]), now);
    for attempt in 1..=ATTEMPTS_BEFORE_READY {
        assert!(!schedule.is_settled());
        let jobs = schedule.start(8, now);
        let (attempts, delay) = schedule.ended(&jobs[0], false, now).unwrap();
        assert_eq!(attempts, attempt);
        now += delay;
    }
    assert!(schedule.is_settled() && schedule.failing() == 1);
}

#[test]
fn changed_peer_is_removed_with_what_it_was_added_with() {
    let (mut schedule, now) = (empty(), Instant::now());
    let [first, second, third] =
        ["a", "b", "c"].map(|data| input("10.3.2.0/24", "192.0.2.2", data));
    schedule.follow(&peers(std::slice::from_ref(&first)), now);
    run_all(&mut schedule, now);
    schedule.must_save = false;
    schedule.follow(&peers(std::slice::from_ref(&second)), now);
    assert!(schedule.must_save);
    let jobs = schedule.start(8, now);
    assert_eq!(jobs, [add(&second, &[&first])]);
    // it changes while the command runs
    schedule.follow(&peers(std::slice::from_ref(&third)), now);
    assert_eq!(schedule.start(8, now), [], "one command at a time");
    assert_eq!(schedule.ended(&jobs[0], true, now), None);
    assert_eq!(
        run_all(&mut schedule, now),
        [add(&third, &[&first, &second])]
    );
    assert!(schedule.is_done());
}

#[test]
fn peer_that_returns_is_added_again() {
    let (mut schedule, now) = (empty(), Instant::now());
    schedule.follow(&peers(&[peer(2)]), now);
    run_all(&mut schedule, now);
    // before the command of its removal started, nothing happened to it
    schedule.follow(&peers(&[]), now);
    schedule.follow(&peers(&[peer(2)]), now);
    assert_eq!(run_all(&mut schedule, now), []);
    schedule.follow(&peers(&[]), now);
    schedule.must_save = false;
    let jobs = schedule.start(8, now);
    assert_eq!(jobs, [remove(&[&peer(2)])]);
    assert!(schedule.must_save, "it may be half removed from now on");
    schedule.follow(&peers(&[peer(2)]), now);
    assert_eq!(schedule.ended(&jobs[0], true, now), None);
    assert_eq!(run_all(&mut schedule, now), [add(&peer(2), &[&peer(2)])]);
}

#[test]
fn subnet_that_a_node_left_is_removed_first() {
    let (mut schedule, now) = (empty(), Instant::now());
    schedule.follow(&peers(&[peer(2), peer(9)]), now);
    run_all(&mut schedule, now);
    let moved = input("10.3.1.0/24", "192.0.2.2", "a");
    schedule.follow(&peers(&[moved.clone(), peer(9), peer(4)]), now);
    let jobs = schedule.start(8, now);
    assert_eq!(jobs, [remove(&[&peer(2)]), add(&peer(4), &[])]);
    assert!(schedule.ended(&jobs[0], false, now).is_some());
    let jobs = schedule.start(8, now);
    assert_eq!(
        jobs,
        [add(&moved, &[])],
        "a removal that fails holds nobody up"
    );
}

/// The forwarding entry of a node's MAC serves all of its subnets.
#[test]
fn other_subnet_of_the_same_node_is_added_anew() {
    let (mut schedule, now) = (empty(), Instant::now());
    let other = input("10.3.1.0/24", "192.0.2.2", "a");
    schedule.follow(&peers(&[peer(2), other.clone(), peer(3)]), now);
    run_all(&mut schedule, now);
    schedule.follow(&peers(&[other.clone(), peer(3)]), now);
    let jobs = run_all(&mut schedule, now);
    assert_eq!(jobs, [remove(&[&peer(2)]), add(&other, &[&other])]);
}

/// What a command did to the host: the inputs that are there.
#[derive(Default)]
struct World(Vec<PeerInput>);

impl World {
    fn perform(&mut self, job: &Job, succeeds: bool) {
        match job {
            Job::Add { undo, input, .. } => {
                self.0.retain(|there| !undo.contains(there));
                // also a command that fails may have done its work
                if succeeds || !self.0.contains(input) {
                    self.0.push(input.clone());
                }
            }
            Job::Remove { inputs, .. } if succeeds => {
                self.0.retain(|there| !inputs.contains(there));
            }
            Job::Remove { .. } => {}
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Follow(Vec<(u8, u8)>),
    Start(usize),
    End(prop::sample::Index, bool),
    Wait,
    Killed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec((0..5u8, 0..3u8), 0..5).prop_map(Step::Follow),
        (1..4usize).prop_map(Step::Start),
        (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(i, ok)| Step::End(i, ok)),
        Just(Step::Wait),
        Just(Step::Killed),
    ]
}

proptest! {
    /// Whatever happens, once commands succeed the host has each peer, as it is now, and nothing
    /// else.
    #[test]
    fn host_comes_to_have_the_peers(steps in prop::collection::vec(step(), 0..40)) {
        let mut now = Instant::now();
        let (mut schedule, mut world) = (empty(), World::default());
        let (mut running, mut wanted) = (Vec::<Job>::new(), peers(&[]));
        for step in steps {
            match step {
                Step::Follow(list) => {
                    let inputs = list.iter().map(|(n, data)| {
                        input(&format!("10.3.{n}.0/24"), &format!("192.0.2.{}", n / 2), &data.to_string())
                    });
                    wanted = peers(&inputs.collect::<Vec<_>>());
                    schedule.follow(&wanted, now);
                }
                Step::Start(count) => running.extend(schedule.start(count, now)),
                Step::End(index, succeeds) if !running.is_empty() => {
                    let job = running.remove(index.index(running.len()));
                    world.perform(&job, succeeds);
                    schedule.ended(&job, succeeds, now);
                }
                Step::End(..) => {}
                Step::Wait => now += Duration::from_secs(100),
                Step::Killed => {
                    for job in running.drain(..) {
                        world.perform(&job, false);
                    }
                    schedule = Schedule::new(schedule.record, false);
                    schedule.follow(&wanted, now);
                }
            }
            let keys: BTreeSet<Key> = running.iter().map(Job::key).collect();
            prop_assert_eq!(keys.len(), running.len(), "one command of a peer at a time");
        }
        for job in running {
            world.perform(&job, true);
            schedule.ended(&job, true, now);
        }
        for _ in 0..20 {
            now += Duration::from_secs(100);
            for job in schedule.start(usize::MAX, now) {
                world.perform(&job, true);
                schedule.ended(&job, true, now);
            }
        }
        prop_assert!(schedule.is_done());
        for input in wanted.values() {
            prop_assert!(world.0.contains(input), "{input:?} is missing");
        }
        for there in &world.0 {
            prop_assert!(wanted.values().any(|input| input == there), "{there:?} is left");
        }
    }
}
