//! Every executor keeps the contract. Further tests cover the promises of single executors, and
//! random and very deep graphs.

#[path = "../contract/mod.rs"]
mod contract;
#[path = "../../examples/own_pool.rs"]
#[expect(dead_code, reason = "the rest of the example")]
mod own_pool;

mod backtrace;
mod breaking;
mod depth;
mod guests;
mod oracle;
mod pool;
mod retries;
mod stacks;
mod subjects;
mod sync;
mod threads;

use contract::keeps_the_contract;

#[test]
fn the_sync_executor_keeps_the_contract() {
    keeps_the_contract(&subjects::sync());
}

#[test]
fn the_thread_executor_keeps_the_contract_with_one_worker() {
    keeps_the_contract(&subjects::threads(1));
}

#[test]
fn the_thread_executor_keeps_the_contract_with_two_workers() {
    keeps_the_contract(&subjects::threads(2));
}

#[test]
fn the_thread_executor_keeps_the_contract_with_three_workers() {
    keeps_the_contract(&subjects::threads(3));
}

#[test]
fn the_thread_executor_keeps_the_contract_with_eight_workers() {
    keeps_the_contract(&subjects::threads(8));
}

#[test]
fn the_thread_executor_keeps_the_contract_on_a_pool_of_one_thread() {
    keeps_the_contract(&subjects::pool(1));
}

#[test]
fn the_thread_executor_keeps_the_contract_on_a_pool_of_two_threads() {
    keeps_the_contract(&subjects::pool(2));
}

#[test]
fn the_scheduler_called_threads_keeps_the_contract() {
    keeps_the_contract(&subjects::default());
}

#[test]
fn the_process_executor_keeps_the_contract_with_one_worker() {
    keeps_the_contract(&subjects::processes(1));
}

#[test]
fn the_process_executor_keeps_the_contract_with_two_workers() {
    keeps_the_contract(&subjects::processes(2));
}

#[test]
fn an_executor_of_a_programs_own_keeps_the_contract() {
    keeps_the_contract(&subjects::own(2));
}

#[test]
fn the_executor_of_the_example_keeps_the_contract() {
    keeps_the_contract(&subjects::example(2));
}
