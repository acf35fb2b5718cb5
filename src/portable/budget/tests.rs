use super::*;

#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn members_share_a_budget_and_a_dead_member_releases_its_part() {
    let parent = Budget::for_members(100, 2);
    let (first, handle) = parent.join().unwrap();
    let one = handle.into_budget().unwrap();
    let (second, handle) = parent.join().unwrap();
    let other = handle.into_budget().unwrap();
    assert!(parent.join().is_none());
    assert!(one.reserve(60) && !other.reserve(60) && other.reserve(40) && !parent.reserve(1));
    assert_eq!((parent.reserved_bytes(), one.own_bytes(), other.own_bytes(), parent.own_bytes()), (100, 60, 40, 0));
    other.release(10);
    assert!(parent.reserve(10));
    // Bytes of a dead member that another still uses.
    drop(first);
    parent.charge(20);
    assert_eq!(parent.reserved_bytes(), 60);
    assert!(other.reserve(40) && !other.reserve(1));
    let (_third, handle) = parent.join().unwrap();
    assert_eq!(handle.into_budget().unwrap().own_bytes(), 0);
    drop(second);
    assert_eq!(parent.reserved_bytes(), 30);
}

#[test]
fn only_a_part_may_be_cached() {
    let budget = Budget::own(100);
    assert!(!budget.reserve(u64::MAX) && !budget.reserve(101) && budget.reserve(50));
    assert!(budget.cache(20) && !budget.cache(6) && budget.cache(5));
    assert_eq!((budget.own_bytes(), budget.own_used_bytes()), (50, 25));
    budget.uncache(25);
    budget.release(50);
    assert_eq!((budget.reserved_bytes(), budget.limit()), (0, 100));
}

#[test]
fn of_several_members_that_want_the_last_bytes_only_as_many_succeed_as_fit() {
    let budget = Budget::own(3);
    for _ in 0..if cfg!(miri) { 3 } else { 200 } {
        let reserved: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| usize::from(budget.reserve(1)))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(reserved <= 3);
        assert_eq!(budget.reserved_bytes(), reserved as u64);
        budget.release(reserved as u64);
    }
}
