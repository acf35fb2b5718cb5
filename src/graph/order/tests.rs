use super::shapes::{self, Random, Shape};
use super::{Csr, memory_order};

/// The most values alive at once on each shape: with the order of Dask 2026.8.0 and with ours. Our
/// figure may fall but not rise. A value is alive if it is held after a task has run and its inputs
/// were released. Outputs do not count. If Dask's figure changes with the names of the tasks or the
/// seed of Python's hashes, this is the smallest one seen.
#[rustfmt::skip]
const PEAKS: &[(&str, usize, usize)] = &[
    ("tree1024", 11, 11),
    ("x+xT store 20x20", 3, 3),
    ("x+xT sum 20x20", 77, 61),
    ("shuffle 24x24", 48, 48),
    ("rechunk 2:3", 3, 3),
    ("tensordot 10^3 flat", 200, 120),
    ("tensordot 10^3 tree", 128, 115),
    ("16 chains x100 + sum", 16, 16),
    ("overlap 256 store", 4, 4),
    ("overlap 256 sum", 18, 15),
    ("2 reductions 256", 26, 26),
    ("4 reductions 256", 269, 47),
    ("anomaly x-mean(x) 128", 139, 139),
    ("grouped anomaly 12x24", 30, 30),
    ("store 256x4", 1, 1),
    ("stencil 32x40", 62, 62),
    ("tsqr 64", 128, 128),
    ("random 2000 3-in", 146, 62),
    ("keeps_groups_together", 2, 2),
    ("avoid_broker_nodes", 1, 1),
    ("base_of_reduce_preferred", 3, 3),
    ("avoid_upwards_branching", 2, 2),
    ("avoid_upwards_branching_complex", 3, 2),
    ("deep_bases_win_over_dependents", 3, 3),
    ("prefer_deep", 1, 1),
    ("favor_longest_critical_path", 2, 1),
    ("run_smaller_sections", 3, 2),
    ("local_parents_of_reduction", 2, 2),
    ("nearest_neighbor", 2, 2),
    ("prefer_short_narrow", 3, 3),
    ("prefer_short_ancestor", 4, 4),
    ("map_overlap", 4, 4),
    ("many_branches_use_ndependencies", 5, 5),
    ("dont_run_all_dependents_too_early", 5, 5),
    ("terminal_node_backtrack", 5, 5),
    ("array_store_final_order", 7, 7),
    ("use_structure_not_keys", 3, 3),
    ("diagnostics", 3, 3),
    ("gh_3055", 8, 7),
    ("gh_3055_explicit", 5, 5),
    ("order_with_equal_dependents 2 0", 10, 9),
    ("order_with_equal_dependents 2 1", 10, 9),
    ("order_with_equal_dependents 1 1", 10, 8),
    ("order_with_equal_dependents 1 0", 9, 8),
    ("eager_to_compute_dependent_to_free_parent", 8, 8),
    ("xarray_like_reduction", 9, 6),
    ("anom_mean_raw", 7, 7),
    ("anom_mean", 178, 178),
    ("array_vs_dataframe", 38, 38),
    ("flaky_array_reduction", 11, 11),
    ("flox_reduction", 5, 5),
    ("order_flox_reduction_2", 6, 6),
    ("reduce_with_many_common_dependents 4 2", 6, 6),
    ("reduce_with_many_common_dependents 4 2 keep", 6, 6),
    ("reduce_with_many_common_dependents 4 5", 9, 9),
    ("reduce_with_many_common_dependents 4 5 keep", 9, 9),
    ("reduce_with_many_common_dependents 7 2", 9, 9),
    ("reduce_with_many_common_dependents 7 2 keep", 9, 9),
    ("reduce_with_many_common_dependents 7 5", 12, 12),
    ("reduce_with_many_common_dependents 7 5 keep", 12, 12),
    ("doublediff", 10, 10),
    ("xarray_map_reduce_with_slicing", 5, 5),
    ("xarray_rechunk_map_reduce_cohorts", 7, 6),
    ("xarray_8414", 3, 3),
    ("stackstac", 9, 9),
];

fn csr<'a>(shape: &'a Shape, priority: &'a [i32]) -> Csr<'a> {
    Csr { row: &shape.row, pred: &shape.pred, outputs: &shape.outputs, priority }
}

/// The sequence for a numbered shape, checked: every task once, after its inputs.
fn sequence(shape: &Shape, priority: &[i32]) -> Vec<u32> {
    let sequence = memory_order(&csr(shape, priority)).unwrap_or_else(|| ids(shape));
    assert_eq!(sequence.len(), shape.num_tasks(), "{}", shape.name);
    let mut has_run = vec![false; shape.num_tasks()];
    for &task in &sequence {
        assert!(shape.inputs(task).iter().all(|&input| has_run[input as usize]), "{}: {task} is early", shape.name);
        assert!(!std::mem::replace(&mut has_run[task as usize], true), "{}: {task} runs twice", shape.name);
    }
    sequence
}

fn ids(shape: &Shape) -> Vec<u32> {
    (0..shape.num_tasks() as u32).collect()
}

/// The most values alive after any task of a sequence.
fn peak(shape: &Shape, sequence: &[u32]) -> usize {
    let mut is_output = vec![false; shape.num_tasks()];
    shape.outputs.iter().for_each(|&output| is_output[output as usize] = true);
    let mut readers = vec![0; shape.num_tasks()];
    shape.pred.iter().for_each(|&input| readers[input as usize] += 1);
    let (mut live, mut peak) = (0, 0);
    for &task in sequence {
        live += usize::from(!is_output[task as usize]);
        for &input in shape.inputs(task) {
            readers[input as usize] -= 1;
            live -= usize::from(readers[input as usize] == 0 && !is_output[input as usize]);
        }
        peak = peak.max(live);
    }
    peak
}

/// The least peak of all sequences, computed from every possible set of tasks that have run.
fn least_peak(shape: &Shape) -> usize {
    let tasks = ids(shape);
    let live = |run: usize| {
        let has_run = |task: u32| run >> task & 1 == 1;
        let is_wanted =
            |task: u32| tasks.iter().any(|&reader| !has_run(reader) && shape.inputs(reader).contains(&task));
        tasks.iter().filter(|&&task| has_run(task) && !shape.outputs.contains(&task) && is_wanted(task)).count()
    };
    let mut least = vec![usize::MAX; 1 << tasks.len()];
    least[0] = 0;
    for run in 0..least.len() {
        for &task in &tasks {
            let may_run = shape.inputs(task).iter().all(|&input| run >> input & 1 == 1);
            if least[run] != usize::MAX && run >> task & 1 == 0 && may_run {
                let then = run | 1 << task;
                least[then] = least[then].min(least[run].max(live(then)));
            }
        }
    }
    least[least.len() - 1]
}

/// Several trees whose inputs come in random order.
fn random_forest(seed: u64, tasks: u32) -> Shape {
    let mut random = Random::new(seed);
    let mut shape = Shape::new(format!("forest {seed}"));
    let mut unread: Vec<u32> = Vec::new();
    for _ in 0..tasks {
        let count = random.below(4).min(unread.len() as u32);
        let inputs: Vec<u32> =
            (0..count).map(|_| unread.swap_remove(random.below(unread.len() as u32) as usize)).collect();
        unread.push(shape.task(&inputs));
    }
    shape.ask_for_unread().numbered()
}

fn random_graphs() -> impl Iterator<Item = Shape> {
    (0..4000).map(|seed| {
        let mut random = Random::new(seed);
        let (tasks, inputs, window) = (1 + random.below(60), 1 + random.below(5), 1 + random.below(60));
        let mut shape = shapes::random(seed, tasks, inputs, window);
        // Some outputs are read, and some are requested twice.
        for _ in 0..random.below(3) {
            shape.outputs.push(random.below(tasks));
        }
        shape.numbered()
    })
}

#[test]
fn the_serial_peak_is_never_above_dasks_on_any_shape() {
    let shapes: Vec<Shape> = shapes::studies().into_iter().chain(shapes::dask_cases()).collect();
    assert_eq!(shapes.len(), PEAKS.len());
    for (shape, &(name, dasks, ours)) in shapes.iter().zip(PEAKS) {
        assert_eq!(shape.name, name);
        let shape = shape.numbered();
        let peak = peak(&shape, &sequence(&shape, &[]));
        assert!(ours <= dasks && peak <= ours, "{name}: {peak} values, and {ours} were enough; Dask: {dasks}");
    }
}

#[test]
fn the_order_of_the_ids_is_kept_where_no_other_is_better() {
    for shape in random_graphs() {
        let ids = peak(&shape, &ids(&shape));
        let ours = peak(&shape, &sequence(&shape, &[]));
        assert!(ours <= ids, "{}: {ours}, ids {ids}", shape.name);
    }
}

#[test]
fn small_graphs_run_in_little_more_than_the_least_memory() {
    let (mut ours, mut least) = (0, 0);
    for seed in 0..500 {
        let shape = shapes::random(seed, 8, 3, 8).numbered();
        let (peak, least_peak) = (peak(&shape, &sequence(&shape, &[])), least_peak(&shape));
        assert!((least_peak..=least_peak + 2).contains(&peak), "{}: {peak}, least {least_peak}", shape.name);
        ours += peak;
        least += least_peak;
    }
    assert!(ours * 10 <= least * 11, "{ours} values in all, {least} would do");
}

#[test]
fn a_forest_runs_in_the_least_memory() {
    for seed in 0..500 {
        let shape = random_forest(seed, 9);
        assert_eq!(peak(&shape, &sequence(&shape, &[])), least_peak(&shape), "{}", shape.name);
    }
    for seed in 0..50 {
        sequence(&random_forest(seed, 500), &[]);
    }
}

#[test]
fn chains_trees_and_independent_tasks_keep_their_ids() {
    for shape in [shapes::chain(1000), shapes::independent(1000), shapes::tree(1024)] {
        assert!(memory_order(&csr(&shape.numbered(), &[])).is_none(), "{}", shape.name);
    }
    assert!(memory_order(&Csr { row: &[0], pred: &[], outputs: &[], priority: &[] }).is_none());
    assert!(memory_order(&Csr { row: &[0, 0], pred: &[], outputs: &[0, 0, 0], priority: &[] }).is_none());
}

#[test]
fn the_input_that_needs_more_runs_first() {
    // The last task reads a lone value and a tree of four, in this order.
    let shape = Shape::from_inputs("late tree", &[&[], &[], &[], &[], &[], &[1, 2], &[3, 4], &[5, 6], &[0, 7]]);
    assert_eq!(sequence(&shape.numbered(), &[]), [1, 2, 3, 4, 5, 6, 7, 0, 8]);
}

#[test]
fn an_input_may_be_listed_twice() {
    let shape = Shape::from_inputs("twice", &[&[], &[0, 0], &[], &[1, 2, 1], &[0, 3, 3, 3]]).numbered();
    sequence(&shape, &[]);
    let outputs = [1, 1, 4, 0];
    let graph = Csr { row: &shape.row, pred: &shape.pred, outputs: &outputs, priority: &[] };
    assert_eq!(memory_order(&graph).map_or(5, |sequence| sequence.len()), 5);
}

#[test]
fn the_same_graph_has_the_same_order_in_every_run() {
    for shape in random_graphs().take(100) {
        assert_eq!(memory_order(&csr(&shape, &[])), memory_order(&csr(&shape, &[])));
    }
}

#[test]
fn a_dense_graph_ends_the_trials_and_is_still_ordered() {
    sequence(&shapes::thicket(60_000).numbered(), &[]);
    sequence(&shapes::random(7, 60_000, 8, 60_000).numbered(), &[]);
}

#[test]
fn two_million_tasks_in_a_row_need_no_stack() {
    let order = || {
        let length = 2_000_000;
        sequence(&shapes::chain(length), &[]);
        // Each task reads the one before it twice, so this is no forest. The last task reads the
        // first one too.
        let mut shape = Shape::new("doubled chain");
        let first = shape.task(&[]);
        let mut last = shape.task(&[first, first]);
        for _ in 2..length {
            last = shape.task(&[last, last]);
        }
        shape.task(&[last, first]);
        sequence(&shape.ask_for_unread(), &[]);
    };
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(order).expect("a thread");
    thread.join().expect("no overflow");
}

#[test]
fn tasks_that_a_higher_priority_needs_come_first() {
    // Two chains of three; the second one's middle is urgent.
    let shape = Shape::from_inputs("two chains", &[&[], &[0], &[1], &[], &[3], &[4]]).numbered();
    assert_eq!(sequence(&shape, &[0, 0, 0, 0, 1, 0]), [3, 4, 0, 1, 2, 5]);
    assert_eq!(sequence(&shape, &[0, 0, -1, 0, 0, 0]), [0, 1, 3, 4, 5, 2]);
    assert_eq!(memory_order(&csr(&shape, &[7; 6])), None);
}

#[test]
fn no_task_of_a_lower_priority_comes_before_one_of_a_higher_priority() {
    for (seed, shape) in random_graphs().take(500).enumerate() {
        let mut random = Random::new(seed as u64);
        let priority: Vec<i32> = ids(&shape).iter().map(|_| random.below(4) as i32 - 1).collect();
        let sequence = sequence(&shape, &priority);
        for level in 0..3 {
            let mut needed: Vec<bool> = priority.iter().map(|&priority| priority >= level).collect();
            for task in (0..shape.num_tasks()).rev() {
                if needed[task] {
                    shape.inputs(task as u32).iter().for_each(|&input| needed[input as usize] = true);
                }
            }
            let is_needed: Vec<bool> = sequence.iter().map(|&task| needed[task as usize]).collect();
            assert!(is_needed.is_sorted_by(|a, b| a >= b), "{}: level {level}", shape.name);
        }
    }
}
