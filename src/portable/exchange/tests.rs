use super::super::region::Memory;
use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

/// Sends the handle through a channel, as to another process: the receiver gets a mapping of its
/// own.
#[cfg(all(target_os = "linux", not(miri)))]
fn transfer(handle: SegmentHandle) -> SegmentHandle {
    let (sender, receiver) = ipc_channel::ipc::channel().unwrap();
    sender.send(handle).unwrap();
    receiver.recv().unwrap()
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn transfer(handle: SegmentHandle) -> SegmentHandle {
    handle
}

fn region(memory: &Memory, stamp: u8) -> Region {
    let mut region = memory.allocate(100).unwrap();
    region.fill(stamp);
    region.freeze()
}

/// Sends a region from one end to the other; also returns whether a handle was sent.
fn carry(from: &mut Exchange, to: &mut Exchange, region: &Region) -> (Region, bool) {
    let (reference, handle) = from.send(region);
    let has_handle = handle.is_some();
    (to.receive(reference, handle.map(transfer)).unwrap(), has_handle)
}

fn give_back(from: &mut Exchange, to: &mut Exchange) {
    to.on_released(&from.take_released()).unwrap();
}

#[test]
fn a_region_is_used_again_only_after_the_peer_has_returned_it() {
    let memory = Memory::new(1, 1 << 20);
    let (mut here, mut there) = (Exchange::new(), Exchange::new());
    let first = region(&memory, 1);
    let (theirs, has_handle) = carry(&mut here, &mut there, &first);
    assert!(has_handle);
    let id = first.id();
    drop(first);
    let second = region(&memory, 2);
    assert_ne!(second.id(), id);
    assert_eq!((theirs[0], theirs.len()), (1, 100));
    let clone = theirs.clone();
    drop(theirs);
    assert!(!there.has_released());
    drop(clone);
    assert!(there.has_released());
    assert_eq!(here.num_leases(), 1);
    give_back(&mut there, &mut here);
    assert_eq!(here.num_leases(), 0);
    // It is the same memory with other contents, and the mapping is still there.
    let third = region(&memory, 3);
    assert_eq!(third.id(), id);
    let (theirs, has_handle) = carry(&mut here, &mut there, &third);
    assert!(!has_handle);
    assert_eq!(*theirs, [3; 100]);
    assert_eq!(there.num_mapped(), 1);
}

#[test]
fn a_region_sent_again_while_its_return_is_under_way_stays_in_use() {
    let memory = Memory::new(1, 1 << 20);
    let (mut here, mut there) = (Exchange::new(), Exchange::new());
    let ours = region(&memory, 1);
    let (first, _) = carry(&mut here, &mut there, &ours);
    let (again, _) = carry(&mut here, &mut there, &ours);
    assert_eq!(first.as_ptr(), again.as_ptr());
    drop((first, again));
    let under_way = there.take_released();
    assert_eq!(under_way, [(ours.id(), 2)]);
    let (third, has_handle) = carry(&mut here, &mut there, &ours);
    assert!(!has_handle);
    drop(ours);
    here.on_released(&under_way).unwrap();
    assert_eq!((here.num_leases(), memory.used_bytes()), (1, 4096));
    assert_eq!(*third, [1; 100]);
    drop(third);
    give_back(&mut there, &mut here);
    assert_eq!((here.num_leases(), memory.used_bytes()), (0, 0));
    assert!(here.on_released(&under_way).is_err());
    assert!(here.on_released(&[(77, 1)]).is_err());
}

#[test]
fn a_peer_that_breaks_the_rules_gets_an_error() {
    let memory = Memory::new(1, 1 << 20);
    let (mut here, mut there) = (Exchange::new(), Exchange::new());
    assert!(there.receive(RegionRef { id: 5, len: 1 }, None).is_err());
    let ours = region(&memory, 1);
    let (reference, handle) = here.send(&ours);
    assert!(there.receive(RegionRef { len: 4097, ..reference }, handle.map(transfer)).is_err());
    let (mut here, mut there) = (Exchange::new(), Exchange::new());
    let (theirs, _) = carry(&mut here, &mut there, &ours);
    assert!(there.receive(RegionRef { len: 99, ..reference }, None).is_err());
    drop(theirs);
    assert!(there.receive(RegionRef { len: 4097, ..reference }, None).is_err());
    assert!(there.receive(RegionRef { len: u64::MAX, ..reference }, None).is_err());
}

#[test]
fn a_region_of_one_worker_reaches_another_through_the_parent() {
    let (a_memory, parent_memory) = (Memory::new(1, 1 << 20), Memory::new(0, 1 << 20));
    let (mut a, mut to_a) = (Exchange::new(), Exchange::new());
    let (mut b, mut to_b) = (Exchange::new(), Exchange::new());
    let made = region(&a_memory, 7);
    let (in_parent, _) = carry(&mut a, &mut to_a, &made);
    drop(made);
    let (in_b, has_handle) = carry(&mut to_b, &mut b, &in_parent);
    assert!(has_handle);
    drop(in_parent);
    assert!(!to_a.has_released());
    assert_eq!(*in_b, [7; 100]);
    // `b` returns it as its own result.
    let (back, has_handle) = carry(&mut b, &mut to_b, &in_b);
    assert!(!has_handle);
    drop(in_b);
    assert!(!b.has_released());
    // It goes back to the process that made it.
    let (home, has_handle) = carry(&mut to_a, &mut a, &back);
    assert!(!has_handle);
    assert_eq!(*home, [7; 100]);
    drop(back);
    drop(home);
    for _ in 0..3 {
        give_back(&mut a, &mut to_a);
        give_back(&mut to_a, &mut a);
        give_back(&mut b, &mut to_b);
        give_back(&mut to_b, &mut b);
    }
    assert_eq!([&a, &b, &to_a, &to_b].map(Exchange::num_leases), [0; 4]);
    assert_eq!((a_memory.used_bytes(), a_memory.total_bytes(), parent_memory.total_bytes()), (0, 4096, 0));
    // Once the maker drops the segment, every process unmaps it.
    a_memory.trim();
    to_a.on_forgotten(&a.take_forgotten());
    assert_eq!(a_memory.total_bytes(), 0);
    // Without mappings of their own, all ends hold the same segment.
    if cfg!(all(target_os = "linux", not(miri))) {
        assert_eq!(to_a.num_mapped(), 0);
        b.on_forgotten(&to_b.take_forgotten());
        assert_eq!(b.num_mapped(), 0);
    }
}

#[test]
fn when_the_peer_is_gone_its_regions_stay_valid_and_ours_return() {
    let (a_memory, memory) = (Memory::new(1, 1 << 20), Memory::new(0, 1 << 20));
    let (mut a, mut to_a) = (Exchange::new(), Exchange::new());
    let (from_a, _) = carry(&mut a, &mut to_a, &region(&a_memory, 7));
    let ours = region(&memory, 1);
    let (_in_a, _) = carry(&mut to_a, &mut a, &ours);
    drop(ours);
    assert_eq!(memory.used_bytes(), 4096);
    drop(to_a);
    assert_eq!(memory.used_bytes(), 0);
    drop((a, a_memory));
    assert_eq!(*from_a, [7; 100]);
    let (mut b, mut to_b) = (Exchange::new(), Exchange::new());
    let (in_b, has_handle) = carry(&mut to_b, &mut b, &from_a);
    assert!(has_handle);
    drop(from_a);
    assert_eq!(*in_b, [7; 100]);
}

/// What is carried from one end to another.
enum Carried {
    Region(RegionRef, Option<SegmentHandle>, u64),
    Released(Vec<(u64, u32)>),
    Forgotten(Vec<u64>),
}

/// A parent and two workers. Ends 0 and 1 are the parent's, 2 and 3 those of the workers; the peer
/// of an end is two further.
struct Processes {
    memories: [Memory; 3],
    ends: [Exchange; 4],
    /// Carried to each end and not yet delivered.
    queues: [VecDeque<Carried>; 4],
    /// The regions that each process holds, and what was written there.
    held: Vec<(usize, Region, u64)>,
    stamp: u64,
}

const PROCESS_OF: [usize; 4] = [0, 0, 1, 2];

#[derive(Clone, Debug)]
enum Step {
    Make(usize),
    Send { held: usize, end: usize },
    Drop(usize),
    Release(usize),
    Forget(usize),
    Trim(usize),
    Deliver(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..3_usize).prop_map(Step::Make),
        4 => (0..64_usize, 0..4_usize).prop_map(|(held, end)| Step::Send { held, end }),
        3 => (0..64_usize).prop_map(Step::Drop),
        3 => (0..4_usize).prop_map(Step::Release),
        1 => (0..4_usize).prop_map(Step::Forget),
        1 => (0..3_usize).prop_map(Step::Trim),
        6 => (0..4_usize).prop_map(Step::Deliver),
    ];
    prop::collection::vec(step, 0..120)
}

impl Processes {
    fn new() -> Self {
        Processes {
            memories: [0, 1, 2].map(|origin| Memory::new(origin, 6 << 12)),
            ends: Default::default(),
            queues: Default::default(),
            held: Vec::new(),
            stamp: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Make(process) => {
                // A process that holds too much has no room: that is one of the cases.
                if let Ok(mut region) = self.memories[process].allocate(8) {
                    self.stamp += 1;
                    region.copy_from_slice(&self.stamp.to_le_bytes());
                    self.held.push((process, region.freeze(), self.stamp));
                }
            }
            Step::Send { held, end } => {
                let on_process =
                    self.held.iter().filter(|(process, ..)| *process == PROCESS_OF[end]).collect::<Vec<_>>();
                if let Some((_, region, stamp)) = on_process.get(held % on_process.len().max(1)) {
                    let (reference, handle) = self.ends[end].send(region);
                    self.queues[(end + 2) % 4].push_back(Carried::Region(reference, handle, *stamp));
                }
            }
            Step::Drop(held) => {
                if !self.held.is_empty() {
                    self.held.swap_remove(held % self.held.len());
                }
            }
            Step::Release(end) => {
                let released = self.ends[end].take_released();
                self.queues[(end + 2) % 4].push_back(Carried::Released(released));
            }
            Step::Forget(end) => {
                let forgotten = self.ends[end].take_forgotten();
                self.queues[(end + 2) % 4].push_back(Carried::Forgotten(forgotten));
            }
            Step::Trim(process) => self.memories[process].trim(),
            Step::Deliver(end) => match self.queues[end].pop_front() {
                Some(Carried::Region(reference, handle, stamp)) => {
                    let region = self.ends[end].receive(reference, handle.map(transfer)).unwrap();
                    self.held.push((PROCESS_OF[end], region, stamp));
                }
                Some(Carried::Released(released)) => self.ends[end].on_released(&released).unwrap(),
                Some(Carried::Forgotten(forgotten)) => self.ends[end].on_forgotten(&forgotten),
                None => {}
            },
        }
    }

    fn check(&self) {
        for (_, region, stamp) in &self.held {
            assert_eq!(region[..], stamp.to_le_bytes(), "a region has changed under its holder");
        }
    }

    fn release_all(&mut self) {
        for _ in 0..8 {
            for end in 0..4 {
                while !self.queues[end].is_empty() {
                    self.step(&Step::Deliver(end));
                    self.check();
                }
            }
            self.held.clear();
            (0..4).for_each(|end| self.step(&Step::Release(end)));
        }
        assert_eq!(self.ends.each_ref().map(Exchange::num_leases), [0; 4]);
        assert_eq!(self.memories.each_ref().map(Memory::used_bytes), [0; 3]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_region_is_written_while_it_is_read_and_every_segment_returns(steps in steps()) {
        let mut processes = Processes::new();
        for step in &steps {
            processes.step(step);
            processes.check();
        }
        processes.release_all();
    }
}

/// Two connections between the same processes, as of a worker with two threads.
#[test]
fn a_region_that_comes_back_along_another_connection_has_a_handle() {
    let memory = Memory::new(0, 1 << 20);
    let (mut first, mut to_first) = (Exchange::new(), Exchange::new());
    let (mut second, mut to_second) = (Exchange::new(), Exchange::new());
    let made = region(&memory, 7);
    let (by_first, _) = carry(&mut to_first, &mut first, &made);
    let (by_second, _) = carry(&mut to_second, &mut second, &made);
    assert!(!second.is_foreign(&by_second) && second.is_foreign(&by_first) && !to_second.is_foreign(&made));
    drop(by_second);
    give_back(&mut second, &mut to_second);
    // The second has a mapping, and none of its regions is in use.
    let (back, has_handle) = carry(&mut second, &mut to_second, &by_first);
    assert!(has_handle);
    assert_eq!(*back, [7; 100]);
}
