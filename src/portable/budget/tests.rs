use super::*;

#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn members_take_from_the_same_budget_and_the_dead_give_back() {
    let parent = Budget::for_members(100, 2);
    let (first, handle) = parent.join().unwrap();
    let one = handle.into_budget().unwrap();
    let (second, handle) = parent.join().unwrap();
    let other = handle.into_budget().unwrap();
    assert!(parent.join().is_none());
    assert!(one.take(60) && !other.take(60) && other.take(40) && !parent.take(1));
    assert_eq!((parent.taken_bytes(), one.own_bytes(), other.own_bytes(), parent.own_bytes()), (100, 60, 40, 0));
    other.give_back(10);
    assert!(parent.take(10));
    // Bytes that a dead member had and somebody still uses.
    drop(first);
    parent.charge(20);
    assert_eq!(parent.taken_bytes(), 60);
    assert!(other.take(40) && !other.take(1));
    let (_third, handle) = parent.join().unwrap();
    assert_eq!(handle.into_budget().unwrap().own_bytes(), 0);
    drop(second);
    assert_eq!(parent.taken_bytes(), 30);
}

#[test]
fn only_a_part_may_be_kept() {
    let budget = Budget::own(100);
    assert!(!budget.take(u64::MAX) && !budget.take(101) && budget.take(50));
    assert!(budget.keep(20) && !budget.keep(6) && budget.keep(5));
    assert_eq!((budget.own_bytes(), budget.own_used_bytes()), (50, 25));
    budget.no_longer_kept(25);
    budget.give_back(50);
    assert_eq!((budget.taken_bytes(), budget.limit()), (0, 100));
}

#[test]
fn of_those_that_want_the_last_bytes_no_more_succeed_than_there_are_bytes_for() {
    let budget = Budget::own(3);
    for _ in 0..if cfg!(miri) { 3 } else { 200 } {
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| usize::from(budget.take(1)))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(taken <= 3);
        assert_eq!(budget.taken_bytes(), taken as u64);
        budget.give_back(taken as u64);
    }
}
