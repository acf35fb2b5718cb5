//! Small programs that exercise the unsafe code through the public API, for the checkers of
//! `scripts/check-unsafe`.
//!
//! Each program checks its answer, and that every value was dropped once. A checker also finds
//! memory that is used after its end, before it was written, or by two threads at once, even if the
//! answer happens to be right. The graphs are as small as possible: under Miri each step takes a
//! thousand times as long.

use sprang::{
    CancelToken, Client, Delayed, ErrorKind, Executor, ReadyTask, Refs, Run, Scheduler, ThreadExecutor, compute,
    compute_each, compute_with, config, delayed, delayed_local, lit, local, persist, prepare, try_delayed_local,
};
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicIsize, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

/// The number of rounds of a loop that has to meet other threads by chance.
const ROUNDS: u32 = if cfg!(miri) { 3 } else { 100 };

// ---- counted values ----

/// Counts the live values of one test.
#[derive(Clone, Default)]
struct Live(Arc<AtomicIsize>);

#[derive(Clone, Copy, PartialEq)]
enum DropBehavior {
    Plain,
    PanicsWhenCloned,
    PanicsWhenDropped,
}

struct Counted<P = u64> {
    payload: P,
    behavior: DropBehavior,
    live: Live,
}

impl Live {
    fn value_with<P>(&self, payload: P, behavior: DropBehavior) -> Counted<P> {
        self.0.fetch_add(1, SeqCst);
        Counted { payload, behavior, live: self.clone() }
    }

    fn value<P>(&self, payload: P) -> Counted<P> {
        self.value_with(payload, DropBehavior::Plain)
    }

    /// A task that makes a value.
    fn source<P: Copy + Send + Sync + 'static>(&self, payload: P) -> Delayed<Counted<P>> {
        let live = self.clone();
        delayed_local(move || live.value(payload), ())
    }

    fn source_with(&self, behavior: DropBehavior) -> Delayed<Counted> {
        let live = self.clone();
        delayed_local(move || live.value_with(1, behavior), ())
    }

    #[track_caller]
    fn assert_none(&self) {
        assert_eq!(self.0.load(SeqCst), 0, "above 0: never dropped; below: dropped twice");
    }
}

impl<P: Copy> Counted<P> {
    /// With this method a closure captures the whole value, and not its payload alone.
    fn get(&self) -> P {
        self.payload
    }
}

impl<P: Clone> Clone for Counted<P> {
    fn clone(&self) -> Self {
        assert!(self.behavior != DropBehavior::PanicsWhenCloned, "this value cannot stand being cloned");
        self.live.value_with(self.payload.clone(), self.behavior)
    }
}

impl<P> Drop for Counted<P> {
    fn drop(&mut self) {
        self.live.0.fetch_sub(1, SeqCst);
        // A second panic would abort.
        if self.behavior == DropBehavior::PanicsWhenDropped && !thread::panicking() {
            panic!("this value cannot stand being dropped");
        }
    }
}

// ---- executors ----

/// An executor of a program, without any crate: one thread for each ready task.
struct ThreadPerTask;

fn start(task: ReadyTask) {
    thread::spawn(move || task.run().into_iter().for_each(start));
}

impl Executor for ThreadPerTask {
    fn name(&self) -> &str {
        "thread per task"
    }

    fn execute(&self, run: &Arc<Run>) {
        run.ready().into_iter().for_each(start);
        run.wait();
    }
}

/// Passes the tasks that are ready first to a function.
struct BrokenExecutor<F>(F);

impl<F: Fn(&Arc<Run>, Vec<ReadyTask>) + Send + Sync> Executor for BrokenExecutor<F> {
    fn name(&self) -> &str {
        "mistaken"
    }

    fn execute(&self, run: &Arc<Run>) {
        (self.0)(run, run.ready());
    }
}

/// Runs the test under each executor, and checks that it left no value behind.
fn on_each_executor(test: impl Fn(&Scheduler, &Live)) {
    let threads = Scheduler::Custom(Arc::new(ThreadExecutor::new(2)));
    for scheduler in [Scheduler::Sync, threads, Scheduler::Custom(Arc::new(ThreadPerTask))] {
        let live = Live::default();
        let _scope = config::scoped("scheduler", scheduler.clone()).unwrap();
        test(&scheduler, &live);
        live.assert_none();
    }
}

// ---- each kind of value, passed in each way ----

fn pass_in_every_way<P: Copy + PartialEq + std::fmt::Debug + Send + Sync + 'static>(payload: P) {
    on_each_executor(|_, live| {
        let made = live.source(payload);
        let borrowed = delayed_local(|v: &Counted<P>| v.payload, (&made,));
        let handed_on = delayed_local(|v: Counted<P>| v, (live.source(payload),));
        let cloned_or_moved = delayed_local(|v: Counted<P>| v, (made.clone(),)).after(&borrowed);
        let both = delayed_local(|v: Counted<P>, w: &Counted<P>| (v.payload, w.payload), (made.clone(), &made));
        let unread = live.source(payload);
        let last = delayed_local(|v: Counted<P>| v, (handed_on,)).after(&unread);

        assert_eq!(last.compute().unwrap().payload, payload);
        let (one, (two, [three]), copy, pair, last) =
            compute((&made, (&cloned_or_moved, [&made]), &borrowed, Some(&both), &last)).unwrap();
        for value in [one, two, three, last] {
            assert_eq!(value.payload, payload);
        }
        assert_eq!((copy, pair), (payload, Some((payload, payload))));
    });
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
struct Aligned(u8);

#[test]
fn values_that_fit_into_a_cell_are_passed_in_every_way() {
    pass_in_every_way(7_u64);
}

#[test]
fn boxed_values_are_passed_in_every_way() {
    pass_in_every_way([7_u64; 20]);
}

#[test]
fn over_aligned_values_are_passed_in_every_way() {
    pass_in_every_way(Aligned(7));
}

#[test]
fn plain_values_of_every_size_are_passed_in_every_way() {
    on_each_executor(|_, _| {
        let aligned = delayed_local(|| Aligned(1), ());
        let nothing = delayed(|| (), ());
        let boxed = delayed(|| [3_u64; 4], ());
        let small = delayed(
            |_: &(), _: (), a: Aligned, b: &Aligned| a.0 + b.0,
            (&nothing, nothing.clone(), aligned.clone(), &aligned),
        );
        let sum =
            delayed(|s: u8, b: [u64; 4], c: &[u64; 4]| u64::from(s) + b[0] + c[3], (small, boxed.clone(), &boxed));
        assert_eq!(
            compute((&sum, &aligned, &nothing, &nothing, &boxed, &boxed)).unwrap(),
            (8, Aligned(1), (), (), [3; 4], [3; 4])
        );
    });
}

#[test]
fn values_of_no_size_are_dropped() {
    static LIVE: AtomicIsize = AtomicIsize::new(0);
    struct Nothing(());
    impl Nothing {
        fn new() -> Self {
            LIVE.fetch_add(1, SeqCst);
            Nothing(())
        }
    }
    impl Clone for Nothing {
        fn clone(&self) -> Self {
            Nothing::new()
        }
    }
    impl Drop for Nothing {
        fn drop(&mut self) {
            LIVE.fetch_sub(1, SeqCst);
        }
    }
    on_each_executor(|_, _| {
        let made = delayed_local(Nothing::new, ());
        let owned = delayed_local(|nothing: Nothing| nothing, (made.clone(),));
        let all = delayed_local(
            |all: Refs<'_, Nothing>| all.iter().map(|nothing| nothing.0).count(),
            ([&made, &owned].map(Delayed::clone).as_slice(),),
        );
        drop(compute((&made, &made, &owned, &all)).unwrap());
        assert_eq!(LIVE.load(SeqCst), 0);
    });
}

#[test]
fn lists_and_shapes_arrive_complete() {
    on_each_executor(|_, live| {
        let items: Vec<_> = (0..3).map(|i| live.source(i)).collect();
        let refs = |all: Refs<'_, Counted>| {
            all.iter().rev().map(|v| v.payload).sum::<u64>() + all[1].payload + all.len() as u64
        };
        let vec = delayed_local(refs, (&items,));
        let slice = delayed_local(refs, (&items[..2],));
        let array = delayed_local(
            move |all: Refs<'_, Counted>| refs(all) + all.to_vec().len() as u64,
            (&[items[0].clone(), items[2].clone()],),
        );
        let owned = delayed_local(
            |list: Vec<Counted>,
             option: Option<Counted>,
             (a, [b, c]): (&Counted, [Counted; 2]),
             none: Option<&Counted>| {
                list.iter().chain(&option).chain([a, &b, &c]).chain(none).map(|v| v.payload).sum::<u64>()
            },
            (
                items.clone(),
                Some(items[2].clone()),
                (&items[1], [items[1].clone(), items[2].clone()]),
                None::<&Delayed<Counted>>,
            ),
        );
        let nothing = delayed_local(
            |list: Vec<Counted>, all: Refs<'_, Counted>| list.len() + all.len(),
            (Vec::<Delayed<Counted>>::new(), &items[..0]),
        );
        assert_eq!(compute(((&vec, &slice), (&array, &owned), &nothing)).unwrap(), ((7, 4), (8, 9), 0));

        let map: BTreeMap<u64, _> = items.iter().enumerate().map(|(i, item)| (i as u64, item)).collect();
        let other: HashMap<u64, _> = map.iter().map(|(&key, &item)| (key, item)).collect();
        let (map, other) = compute((&map, &other)).unwrap();
        for (key, value) in map.into_iter().chain(other) {
            assert_eq!(key, value.payload);
        }
    });
}

#[test]
fn values_that_belong_to_the_graph_stay_there() {
    on_each_executor(|_, live| {
        let held = local(live.value(5_u64));
        let text = lit(vec!["five".to_owned()]);
        let sum = delayed_local(|v: &Counted, text: &Vec<String>| v.payload + text[0].len() as u64, (&held, text));
        assert_eq!(sum.compute().unwrap(), 9);
        assert_eq!(held.compute().map(|v| v.payload).unwrap_err().kind(), ErrorKind::NotCloneable);

        // The output before it was taken, and the output after it was not.
        assert_eq!(compute((&live.source(1_u64), (), &sum)).unwrap().2, 9);
        let untaken = (&live.source(1_u64), &persist(&live.source(2_u64)).unwrap(), &live.source(3_u64));
        assert_eq!(compute(untaken).unwrap().1.payload, 2);
    });
}

#[test]
fn an_output_that_cannot_be_taken_leaves_none_of_the_others() {
    on_each_executor(|_, live| {
        let outputs = [
            live.source_with(DropBehavior::Plain),
            live.source_with(DropBehavior::PanicsWhenCloned),
            live.source_with(DropBehavior::Plain),
        ];
        let twice = (&outputs[0], &outputs[1], &outputs[1], &outputs[2]);
        assert!(catch_unwind(AssertUnwindSafe(|| compute(twice).map(drop))).is_err());
    });
}

#[test]
fn persisted_values_are_read_cloned_and_taken() {
    on_each_executor(|_, live| {
        let kept = persist(&live.source([9_u64; 9])).unwrap();
        let owned = delayed_local(|v: Counted<[u64; 9]>| v, (kept.clone(),));
        let read = delayed_local(|v: &Counted<[u64; 9]>| v.payload[8], (&kept,));
        let (one, two, owned, read) = compute((&kept, &kept, &owned, &read)).unwrap();
        assert_eq!([one.payload[0], two.payload[1], owned.payload[2], read], [9; 4]);
        let again = kept.persist().unwrap();
        drop(kept);
        assert_eq!(again.compute().unwrap().payload, [9; 9]);
    });
}

#[test]
fn a_value_that_was_encoded_and_decoded_replaces_the_original() {
    on_each_executor(|_, _| {
        let texts = delayed(|| vec!["a".to_owned(), "b".to_owned()], ());
        let large = delayed(|texts: Vec<String>| (texts, [1_u64; 6]), (texts.clone(),));
        let len = delayed(
            |large: &(Vec<String>, [u64; 6]), texts: &Vec<String>| large.0.len() + texts.len(),
            (&large, &texts),
        );
        let result = config::with("check_portable", true, || compute((&large, &len, &large))).unwrap().unwrap();
        assert_eq!((result.0.1[5], result.1, result.2.0[1].as_str()), (1, 4, "b"));
    });
}

#[test]
fn a_plan_is_computed_again_and_by_two_threads_at_once() {
    on_each_executor(|scheduler, live| {
        let items: Vec<_> = (0..4_u64).map(|i| live.source(i)).collect();
        let sum = delayed_local(|list: Vec<Counted>| list.iter().map(|v| v.payload).sum::<u64>(), (items.clone(),));
        let plan = prepare((&sum, &items)).unwrap();
        for _ in 0..2 {
            assert_eq!(plan.compute().unwrap().0, 6);
        }
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(plan.compute_with(scheduler).unwrap().0, 6));
            }
        });
        assert_eq!(plan.persist().unwrap().1[3].compute().unwrap().payload, 3);
    });
}

// ---- failures ----

/// A graph with values alive on all sides of the task in its middle.
fn around<T: Send + Sync + 'static>(
    live: &Live,
    middle: impl Fn(&Counted, Counted<[u64; 9]>) -> Result<T, String> + Send + Sync + 'static,
) -> (Delayed<Counted>, Delayed<T>, Delayed<u64>) {
    let borrowed = live.source(1_u64);
    let owned = live.source([2_u64; 9]);
    let middle = try_delayed_local(middle, (&borrowed, owned));
    let waiting = live.source(3_u64);
    let last = delayed_local(|_: &T, a: Counted, b: &Counted| a.payload + b.payload, (&middle, waiting, &borrowed));
    (borrowed, middle, last)
}

#[test]
fn a_task_that_returns_an_error_leaves_no_value() {
    on_each_executor(|_, live| {
        let (other, middle, last) = around::<()>(live, |_, _| Err("no".into()));
        assert_eq!(compute((&last, &other)).map(drop).unwrap_err().kind(), ErrorKind::Failed);
        let (last, other, middle) = compute_each((&last, &other, &middle)).unwrap();
        assert_eq!((last.unwrap_err().message(), other.unwrap().payload, middle.is_err()), ("no", 1, true));
    });
}

#[test]
fn a_task_that_panics_leaves_no_value() {
    on_each_executor(|_, live| {
        let (other, _, last) = around::<()>(live, |_, _| panic!("no"));
        assert_eq!(compute((&last, &other)).map(drop).unwrap_err().kind(), ErrorKind::Panicked);
        let (last, other) = compute_each((&last, &other)).unwrap();
        assert_eq!((last.unwrap_err().kind(), other.unwrap().payload), (ErrorKind::Panicked, 1));
    });
}

#[test]
fn a_task_that_succeeds_at_the_third_attempt_gets_its_owned_inputs() {
    on_each_executor(|_, live| {
        let attempts = AtomicU32::new(0);
        let made = live.source([5_u64; 9]);
        let task = try_delayed_local(
            move |mut owned: Counted<[u64; 9]>, borrowed: &Counted<[u64; 9]>| {
                owned.payload[0] += borrowed.payload[1];
                match attempts.fetch_add(1, SeqCst) {
                    0 => Err("not yet"),
                    1 => panic!("not yet"),
                    _ => Ok(owned),
                }
            },
            (made.clone(), &made),
        );
        assert_eq!(task.retries(2).compute().unwrap().payload[0], 10);

        let never = |_: Counted, _: &Counted<[u64; 9]>| Err::<u64, _>("never");
        let never = try_delayed_local(never, (live.source(1_u64), &made)).retries(1);
        assert_eq!(never.compute().unwrap_err().message(), "never");
    });
}

#[test]
fn a_task_out_of_time_leaves_no_value() {
    on_each_executor(|_, live| {
        let own = live.clone();
        let read = live.source(1_u64);
        let slow = delayed_local(
            move |_: &Counted, _: Counted| {
                let token = CancelToken::current();
                while !token.is_cancelled() {
                    thread::yield_now();
                }
                own.value([4_u64; 9])
            },
            (&read, read.clone()),
        );
        let last =
            delayed_local(|v: Counted<[u64; 9]>| v.payload[0], (slow.timeout(Duration::from_millis(2)).retries(1),));
        assert_eq!(compute((&last, &read)).map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
        let (last, read) = compute_each((&last, &read)).unwrap();
        assert_eq!((last.unwrap_err().kind(), read.unwrap().payload), (ErrorKind::TimedOut, 1));

        let quick = delayed_local(|v: Counted| v, (live.source(6_u64),)).timeout(Duration::from_secs(600));
        assert_eq!(quick.compute().unwrap().payload, 6);
    });
}

#[test]
fn a_cancelled_run_leaves_no_value() {
    on_each_executor(|_, live| {
        let token = CancelToken::new();
        let own = token.clone();
        let (other, _, last) = around(live, move |_, v| {
            own.cancel();
            Ok(v)
        });
        let error = token.scope(|| compute((&last, &other)).map(drop)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(token.scope(|| last.compute()).unwrap_err().kind(), ErrorKind::Cancelled);
    });
}

#[test]
fn a_panic_while_a_value_is_cloned_leaves_no_value() {
    on_each_executor(|_, live| {
        let made = live.source_with(DropBehavior::PanicsWhenCloned);
        let other = live.source([1_u64; 9]);
        let task =
            delayed_local(|a: Counted<[u64; 9]>, v: Counted| a.payload[0] + v.payload, (other.clone(), made.clone()));
        let late =
            delayed_local(|v: &Counted, w: &Counted<[u64; 9]>| v.payload + w.payload[0], (&made, &other)).after(&task);
        assert_eq!(late.compute().unwrap_err().kind(), ErrorKind::Panicked);
        let (task, other) = compute_each((&task, &other)).unwrap();
        assert!(other.is_ok());
        // Either of the two may get the value itself.
        drop(task);
    });
}

#[test]
fn a_panic_while_a_value_is_dropped_leaves_no_value() {
    on_each_executor(|_, live| {
        let made = live.source_with(DropBehavior::PanicsWhenDropped);
        let before = live.source([1_u64; 9]);
        let after = live.source([2_u64; 9]);
        // It fails when its inputs are released, because one of them panics.
        let read = delayed_local(
            |a: &Counted<[u64; 9]>, v: &Counted, b: Counted<[u64; 9]>| a.payload[0] + v.payload + b.payload[0],
            (&before, &made, after.clone()),
        );
        let last = delayed_local(|sum: u64, b: &Counted<[u64; 9]>| sum + b.payload[0], (read.clone(), &after));
        assert_eq!(last.compute().unwrap_err().kind(), ErrorKind::Panicked);
        let (last, after) = compute_each((&last, &after)).unwrap();
        assert_eq!((last.unwrap_err().kind(), after.unwrap().payload), (ErrorKind::Panicked, [2; 9]));

        // It is dropped at once, because it has no readers.
        let after = live.source(1_u64).after(&live.source_with(DropBehavior::PanicsWhenDropped));
        assert_eq!(after.compute().map(drop).unwrap_err().kind(), ErrorKind::Panicked);
    });
}

#[test]
fn a_panic_while_a_failed_run_is_cleared_leaves_no_value() {
    on_each_executor(|_, live| {
        let made = live.source_with(DropBehavior::PanicsWhenDropped);
        let other = live.source([1_u64; 9]);
        let fails = try_delayed_local(|| Err::<u64, _>("no"), ()).after(&made).after(&other);
        let last = delayed_local(
            |_: u64, a: &Counted, b: &Counted<[u64; 9]>| a.payload + b.payload[0],
            (fails, &made, &other),
        );
        // Either the panic or the error is fine. No value may be left.
        let _ = catch_unwind(AssertUnwindSafe(|| last.compute()));
    });
}

#[test]
fn outputs_are_dropped_if_clearing_the_rest_of_the_run_panics() {
    on_each_executor(|_, live| {
        let made = live.source_with(DropBehavior::PanicsWhenDropped);
        // It panics before it releases its input, so the end of the run drops that.
        let panics = delayed_local(|v: &Counted| -> u64 { panic!("{}", v.payload) }, (&made,));
        let good = live.source([1_u64; 9]);
        let _ = catch_unwind(AssertUnwindSafe(|| compute_each((&good, &panics)).map(drop)));
        let _ = catch_unwind(AssertUnwindSafe(|| compute((&good, &panics)).map(drop)));
    });
}

// ---- graphs ----

#[test]
fn handles_may_be_dropped_on_any_thread() {
    on_each_executor(|_, live| {
        for _ in 0..ROUNDS {
            let captured = live.value([1_u64; 9]);
            let shared = delayed_local(move || captured.get()[0], ());
            let tasks: Vec<_> = (0..20).map(|_| delayed(|v: &u64| *v, (&shared,))).collect();
            let others = tasks.clone();
            let barrier = Barrier::new(2);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let dropped_here = others;
                    barrier.wait();
                    drop(dropped_here);
                });
                barrier.wait();
                drop(tasks);
            });
            // It was made on a thread that has ended.
            let made =
                thread::spawn(|| (0..20_u64).map(|i| delayed(|i: u64| i, (i,))).collect::<Vec<_>>()).join().unwrap();
            drop((shared, made));
        }
    });
}

#[test]
fn a_deep_chain_is_computed_and_dropped() {
    let depth = if cfg!(miri) { 300 } else { 5_000 };
    let live = Live::default();
    let mut unused = live.source(0_u64);
    for _ in 0..20 * depth {
        unused = delayed_local(|v: Counted| v, (unused,));
    }
    drop(unused);
    on_each_executor(|_, live| {
        let mut last = live.source(0_u64);
        for _ in 0..depth {
            let add = |mut v: Counted| {
                v.payload += 1;
                v
            };
            last = delayed_local(add, (last,));
        }
        assert_eq!(last.compute().unwrap().payload, depth);
    });
}

#[test]
fn a_panic_while_a_graph_is_dropped_leaves_no_part_of_it() {
    let live = Live::default();
    let inner = {
        let value = live.value(1_u64);
        delayed_local(move || value.get(), ())
    };
    let outer = {
        let value = live.value_with(1_u64, DropBehavior::PanicsWhenDropped);
        delayed_local(move |v: u64| v + value.get(), (inner,))
    };
    let last = delayed_local(|v: &u64| *v, (&outer,));
    drop(outer);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(last))).is_err());
    live.assert_none();
}

#[test]
fn options_are_kept_and_freed_with_their_task() {
    on_each_executor(|_, live| {
        let first = live.source(1_u64).name("first").priority(3);
        let task = delayed_local(|v: &Counted| v.payload, (&first,));
        let task = task
            .name("task")
            .retries(1)
            .timeout(Duration::from_secs(600))
            .priority(-1)
            .after(&first)
            .after(&live.source(2_u64));
        assert_eq!(task.compute().unwrap(), 1);
        drop(first);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(task.clone().name("shared")))).is_err());

        let square = |x: u64| delayed(|x: u64, text: String| x * x + text.len() as u64, (x, "ab".to_owned())).pure();
        let plan = prepare([square(3), square(3), square(4)]).unwrap();
        assert_eq!((plan.num_tasks(), plan.compute().unwrap()), (2, [11, 11, 18]));
    });
}

// ---- runs ----

#[test]
fn a_task_computes_a_graph_of_its_own() {
    on_each_executor(|_, live| {
        let own = live.clone();
        let outer = delayed_local(
            move |v: Counted| {
                delayed_local(|w: Counted| w.payload, (own.source(2_u64),)).compute().unwrap() + v.payload
            },
            (live.source(1_u64),),
        );
        let both: Vec<_> = (0..2).map(|_| delayed(|v: &u64| *v, (&outer,))).collect();
        assert_eq!(compute(&both).unwrap(), [3, 3]);
    });
}

#[test]
fn slow_tasks_are_shared_by_threads() {
    on_each_executor(|_, live| {
        let slow = |v: &Counted<[u64; 9]>| {
            thread::sleep(Duration::from_millis(1));
            v.payload[0]
        };
        let made = live.source([1_u64; 9]);
        let parts: Vec<_> = (0..12_u64)
            .map(|i| {
                let set = |mut v: Counted<[u64; 9]>, i: u64| {
                    v.payload = [i; 9];
                    v
                };
                let own = delayed_local(set, (made.clone(), i));
                delayed_local(slow, (&own,))
            })
            .collect();
        let sum = delayed_local(
            |all: Refs<'_, u64>, v: Counted<[u64; 9]>| all.iter().sum::<u64>() + v.payload[8],
            (&parts, made),
        );
        assert_eq!(sum.compute().unwrap(), 67);
    });
}

#[test]
fn two_threads_compute_graphs_that_overlap() {
    on_each_executor(|scheduler, live| {
        let shared: Vec<_> = (0..4_u64).map(|i| live.source(i)).collect();
        thread::scope(|scope| {
            for k in 0..2_u64 {
                let shared = &shared;
                scope.spawn(move || {
                    for _ in 0..ROUNDS.min(20) {
                        let own = delayed_local(
                            |all: Vec<Counted>, k: u64| all.iter().map(|v| v.payload).sum::<u64>() + k,
                            (shared.clone(), k),
                        );
                        let other = delayed_local(|all: Refs<'_, Counted>| all.len() as u64, (shared,));
                        assert_eq!(compute_with(scheduler, (&own, &other)).unwrap(), (6 + k, 4));
                    }
                });
            }
        });
    });
}

#[test]
fn a_broken_executor_leaves_no_value() {
    fn check(
        live: &Live,
        execute: impl Fn(&Arc<Run>, Vec<ReadyTask>) + Send + Sync + 'static,
    ) -> std::thread::Result<ErrorKind> {
        let sources: Vec<_> = (0..3_u64).map(|i| live.source(i)).collect();
        let sum = delayed_local(|all: Vec<Counted>| all.len(), (sources,));
        let kind = catch_unwind(AssertUnwindSafe(|| sum.compute_with(BrokenExecutor(execute)).unwrap_err().kind()));
        live.assert_none();
        kind
    }
    let live = Live::default();
    let dropped = check(&live, |run, mut tasks| {
        drop(tasks.pop());
        for task in tasks {
            assert!(task.run().is_empty());
        }
        run.wait();
    });
    let early = check(&live, |_, tasks| {
        // The tasks go to a thread that runs them after the run is over, in time, or while the run
        // is being closed.
        thread::spawn(move || tasks.into_iter().for_each(|task| drop(task.run())));
    });
    let panicked = check(&live, |_, mut tasks| {
        tasks.pop().map(ReadyTask::run);
        panic!("the executor");
    });
    assert_eq!((dropped.unwrap(), early.unwrap()), (ErrorKind::Executor, ErrorKind::Executor));
    assert!(panicked.is_err());
    live.assert_none();
}

#[test]
fn pure_tasks_of_different_types_are_not_merged() {
    fn parse(text: &str) -> Result<i64, String> {
        text.parse().map_err(|_| "no number".to_string())
    }
    let outcome = delayed(parse, ("7",)).pure();
    let value = sprang::try_delayed(parse, ("7",)).pure();
    assert_eq!(compute((&outcome, &value)).unwrap(), (Ok(7), 7));
    assert_eq!(compute((&value, &outcome)).unwrap(), (7, Ok(7)));
}

// ---- futures ----

#[test]
fn futures_are_borrowed_cloned_and_dropped_with_their_last_handle() {
    let live = Live::default();
    let client = Client::threads(2).unwrap();
    for _ in 0..ROUNDS.min(20) {
        let sources: Vec<_> = (0..12_u64).map(|payload| client.compute(&live.source(payload))).collect();
        // More inputs than fit on the stack, owned and borrowed, and a graph whose outputs read
        // each other.
        let lent =
            client.submit_local(|all: Refs<'_, Counted>| all.iter().map(|one| one.payload).sum::<u64>(), (&sources,));
        let owned = client.submit_local(
            |all: Vec<Counted>, first: &Counted| all.len() as u64 + first.payload,
            (sources.clone(), &sources[1]),
        );
        let boxed = client.compute(&live.source([7_u64; 9]));
        let read = client.submit_local(|boxed: &Counted<[u64; 9]>| boxed.payload[8], (&boxed,));
        let base = live.source(5);
        let (base_too, more) = client.compute((&base, &delayed_local(|base: &Counted| base.payload + 1, (&base,))));
        assert_eq!((lent.result().unwrap(), owned.result().unwrap(), read.result().unwrap()), (66, 13, 7));
        assert_eq!((base_too.result_ref().unwrap().payload, more.result().unwrap()), (5, 6));
        let gathered = client.gather((&sources[3], [&sources[4]])).unwrap();
        assert_eq!((gathered.0.payload, gathered.1[0].payload), (3, 4));
        assert_eq!(compute(&sources[5]).unwrap().payload, 5);
        assert_eq!(delayed_local(|a: &Counted| a.payload, (&sources[6],)).compute().unwrap(), 6);
    }
    drop(client);
    assert_eq!(live.0.load(SeqCst), 0);
}

#[test]
fn futures_that_fail_or_are_cancelled_leave_no_value() {
    let live = Live::default();
    let client = Client::threads(2).unwrap();
    for round in 0..ROUNDS.min(20) {
        let source = client.compute(&live.source(1));
        let failed = client.try_submit_local(|_: Counted| Err::<Counted, _>("no"), (source.clone(),));
        let panicked = client.submit_local(|_: Counted| -> Counted { panic!("no") }, (source.clone(),));
        let needs = client.submit_local(|a: &Counted, b: &Counted| a.payload + b.payload, (&failed, &panicked));
        let cancelled = client.submit_local(|source: Counted| source, (source,));
        if round % 2 == 0 {
            cancelled.cancel();
        }
        assert!(needs.error().is_some() && panicked.error().is_some());
        assert!(matches!(cancelled.error().map(|error| error.kind()), None | Some(ErrorKind::Cancelled)));
    }
    drop(client);
    assert_eq!(live.0.load(SeqCst), 0);
}

// ---- errors that keep inputs ----

#[test]
fn inputs_kept_by_errors_are_reused_and_dropped() {
    let live = Live::default();
    for scheduler in ["sync", "threads"] {
        for _ in 0..ROUNDS.min(10) {
            let _scope = config::scoped("on_failure", "keep_inputs").unwrap().and("scheduler", scheduler).unwrap();
            let [own, large] = [live.source(1_u64), live.source(2_u64)];
            let shared = live.source([3_u64; 8]);
            let plain = delayed_local(|| [4_u64; 2], ());
            let held = local(5_u64);
            let fail = |number: u64| {
                let live = live.clone();
                let body =
                    move |own: Counted, large: Counted, shared: &Counted<[u64; 8]>, plain: &[u64; 2], held: &u64| {
                        let made = live.value(own.get() + large.get() + shared.get()[7] + plain[1] + held + number);
                        Err::<Counted, _>(made.get().to_string())
                    };
                try_delayed_local(body, (own.clone(), large.clone(), &shared, &plain, &held))
            };
            let outputs =
                (fail(0), fail(100), delayed_local(|shared: Counted<[u64; 8]>| shared.get()[0], (shared.clone(),)));
            let (first, second, third) = compute_each(outputs).unwrap();
            let (first, second) = (first.err().unwrap(), second.err().unwrap());
            assert_eq!(third.unwrap(), 3);
            assert_eq!([first.message(), second.message()], ["15", "115"]);
            let other = thread::spawn(move || first.replay().unwrap().error().unwrap().message().to_owned());
            assert_eq!(second.replay().unwrap().error().unwrap().message(), "115");
            assert_eq!(other.join().unwrap(), "15");
        }
        live.assert_none();
    }
}

#[test]
fn a_kept_input_that_panics_when_it_is_dropped_does_not_keep_others_alive() {
    let live = Live::default();
    let error = config::with("on_failure", "keep_inputs", || {
        let bad = live.source_with(DropBehavior::PanicsWhenDropped);
        let body = |_: &Counted, _: &Counted| Err::<u8, _>("no");
        try_delayed_local(body, (&bad, &live.source(1_u64))).compute_with("sync")
    });
    let error = error.unwrap().unwrap_err();
    assert!(!error.replay().unwrap().is_finished());
    drop(error);
    live.assert_none();
}
