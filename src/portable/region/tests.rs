use super::*;
use std::thread;

#[test]
fn a_segment_is_reused_when_the_last_clone_of_its_region_is_dropped() {
    let memory = Memory::new(3, 1 << 20);
    let mut first = memory.allocate(5000).unwrap();
    assert_eq!(first.len(), 5000);
    first.fill(1);
    let first = first.freeze();
    assert_eq!((first.id() >> 32, first.len(), memory.used_bytes()), (3, 5000, 8192));
    assert!(first.as_ptr().addr().is_multiple_of(PAGE));
    let clone = first.clone();
    let id = first.id();
    drop(first);
    let second = memory.allocate(5000).unwrap();
    assert_eq!(memory.used_bytes(), 16384);
    assert!(clone.iter().all(|byte| *byte == 1));
    let weak = clone.downgrade();
    assert_eq!(weak.upgrade().unwrap().id(), id);
    drop(clone);
    assert!(weak.upgrade().is_none());
    assert_eq!(memory.allocate(6000).unwrap().freeze().id(), id);
    // A region that was not frozen returns too.
    drop(second);
    assert_eq!((memory.used_bytes(), memory.total_bytes()), (0, 16384));
    memory.trim();
    assert_eq!(memory.total_bytes(), 0);
    let fresh = memory.allocate(5000).unwrap();
    assert!(fresh.iter().all(|byte| *byte == 0));
    assert_ne!(fresh.freeze().id(), id);
}

#[test]
fn free_segments_are_evicted_and_segments_in_use_are_not() {
    let memory = Memory::new(0, 64 << 10);
    drop((memory.allocate(40 << 10).unwrap(), memory.allocate(8 << 10).unwrap()));
    // At most a quarter of the limit is kept free for reuse.
    assert_eq!((memory.total_bytes(), memory.used_bytes()), (8 << 10, 0));
    let large = memory.allocate(60 << 10).unwrap();
    assert!(memory.total_bytes() <= 64 << 10);
    for len in [8 << 10, usize::MAX, usize::MAX / 2] {
        let error = memory.allocate(len).unwrap_err().to_string();
        assert!(error.contains("raise processes.shared_memory_limit"), "{error}");
    }
    drop(large);
    memory.allocate(8 << 10).unwrap();
    assert_eq!(memory.allocate(0).unwrap().freeze().len(), 0);
}

#[test]
fn capacities_are_whole_pages_and_not_much_too_large() {
    let mut before = 0;
    for len in (0..100_000).chain((100_000..50_000_000).step_by(9_999)) {
        let capacity = capacity_for(len).unwrap();
        assert!(capacity >= len && capacity >= before && capacity.is_multiple_of(PAGE));
        assert!(capacity - len <= PAGE.max(len / 8), "{len} {capacity}");
        before = capacity;
    }
    assert_eq!(capacity_for(usize::MAX), None);
}

#[test]
fn the_current_memory_of_a_thread_is_the_one_it_entered_last() {
    let (outer, inner) = (Memory::new(1, 1 << 20), Memory::new(2, 1 << 20));
    let origin = || Memory::current().map(|memory| memory.0.origin);
    assert_eq!(origin(), None);
    let entered = outer.enter();
    assert_eq!(origin(), Some(1));
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _entered = inner.enter();
        assert_eq!(origin(), Some(2));
        thread::scope(|scope| scope.spawn(|| assert_eq!(origin(), None)).join().unwrap());
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(unwound.is_err());
    assert_eq!(origin(), Some(1));
    drop(entered);
    assert_eq!(origin(), None);
}

#[test]
fn threads_that_make_and_drop_regions_never_share_one() {
    let memory = Memory::new(0, 1 << 20);
    let rounds = if cfg!(miri) { 20 } else { 2000 };
    thread::scope(|scope| {
        for stamp in 1..=4_u8 {
            let memory = &memory;
            scope.spawn(move || {
                let mut kept = Vec::new();
                for round in 0..rounds {
                    let mut region = memory.allocate(64).unwrap();
                    region.fill(stamp);
                    kept.push(region.freeze());
                    if round % 3 == 0 {
                        kept.swap_remove(0);
                    }
                    assert!(kept.iter().all(|region| **region == [stamp; 64]));
                    kept.truncate(8);
                }
            });
        }
    });
    assert_eq!(memory.used_bytes(), 0);
}

#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn a_received_mapping_cannot_be_written() {
    let memory = Memory::new(0, 1 << 20);
    let region = memory.allocate(100).unwrap().freeze();
    let (sender, receiver) = ipc_channel::ipc::channel().unwrap();
    sender.send(SegmentHandle::of(&region)).unwrap();
    let handle: SegmentHandle = receiver.recv().unwrap();
    let segment = handle.into_segment(region.id()).unwrap();
    assert_ne!(segment.start, region.segment().start);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let rights = |segment: &Segment| {
        let start = format!("{:x}-", segment.start.as_ptr().addr());
        // Neighbouring mappings of the same file and rights would be one line; these have other
        // files.
        maps.lines()
            .find(|line| line.trim_start_matches('0').starts_with(&start))
            .map(|line| line.split(' ').nth(1).unwrap().to_owned())
    };
    assert_eq!(rights(&segment).as_deref(), Some("r--s"));
    assert_eq!(rights(region.segment()).as_deref(), Some("rw-s"));
}
