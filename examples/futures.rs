//! Futures: tasks that run as soon as they are submitted, on threads and then in worker processes.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use sprang::{Client, LocalCluster, Refs, Status, TaskFuture, WaitFor, as_completed, wait};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The duration of a task, in the place of work.
const A_WHILE: Duration = Duration::from_millis(20);

fn inc(x: i64) -> i64 {
    sleep(A_WHILE);
    x + 1
}

fn double(x: i64) -> i64 {
    sleep(A_WHILE);
    2 * x
}

fn add(x: &i64, y: &i64) -> i64 {
    sleep(A_WHILE);
    x + y
}

fn sum(numbers: Refs<'_, i64>) -> i64 {
    numbers.iter().sum()
}

/// Submits two tasks and waits for them. The worker runs other tasks meanwhile.
fn fibonacci(n: u64) -> sprang::Result<u64> {
    if n < 2 {
        return Ok(n);
    }
    let client = Client::current().expect("a task of a client has one");
    let parts = client.gather([client.try_submit(fibonacci, (n - 1,)), client.try_submit(fibonacci, (n - 2,))])?;
    Ok(parts.iter().sum())
}

fn tour(client: &Client) -> sprang::Result<()> {
    println!("{client}");

    // `submit` returns at once. A future is a handle to the result, and an argument of further
    // tasks.
    let x: TaskFuture<i64> = client.submit(inc, (10_i64,));
    let y = client.submit(double, (10_i64,));
    let z = client.submit(add, (&x, &y));
    println!("  submit        z is {}", z.status());
    let value = z.result()?; // waits
    println!("  result        z is {}: {value}", z.status());
    assert_eq!(value, 31);

    // `map` submits a task for each item; a list of futures is an argument too.
    let start = Instant::now();
    let incremented = client.map(inc, 0..20_i64);
    let total = client.submit(sum, (&incremented,));
    println!("  map, sum      {}, after {:.0?} instead of {:?}", total.result()?, start.elapsed(), 20 * A_WHILE);
    assert_eq!(total.result()?, 210);

    // `gather` returns values, in any shape.
    let (first, rest, both) = client.gather((&incremented[0], &incremented[1..4], (&x, &y)))?;
    println!("  gather        {first} {rest:?} {both:?}");
    assert_eq!((first, rest, both), (1, vec![2, 3, 4], (11, 20)));

    // `scatter` makes a future of a value that many tasks use.
    let table = client.scatter((0..100_000).map(|i| f64::from(i).sqrt()).collect::<Vec<_>>());
    let every =
        |n: usize| client.submit(|table: &Vec<f64>, n: usize| table.iter().step_by(n).sum::<f64>(), (&table, n));
    let shares = client.gather([every(1), every(2), every(3), every(4)])?;
    println!("  scatter       {shares:.0?}");
    assert!(shares.is_sorted_by(|a, b| a > b));

    // `as_completed` returns futures in order of completion, and takes new ones meanwhile.
    let mut completed = as_completed(client.map(inc, 0..6_i64));
    let mut seen = Vec::new();
    while let Some(future) = completed.next() {
        let value = future.result()?;
        if value <= 6 {
            completed.add(client.submit(double, (future,)));
        }
        seen.push(value);
    }
    println!("  as_completed  {seen:?}");
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 2, 3, 4, 4, 4, 5, 6, 6, 8, 8, 8, 10, 12, 12]);

    // A failed task fails the tasks that need it; the others continue.
    let bad = client.try_submit(|a: i64, b: i64| a.checked_div(b).ok_or("division by zero"), (1_i64, 0_i64));
    let needs = client.submit(inc, (bad.clone(),));
    let error = needs.error().expect("it cannot have a value");
    println!("  error         {error}");
    assert_eq!((error.message(), needs.status()), ("division by zero", Status::Failed));

    // `cancel` cancels futures, and the tasks that need them.
    let waits = client.map(inc, 0..1000_i64);
    let num_cancelled = client.cancel(&waits[10..]);
    let (done, open) = wait(&waits[..10], WaitFor::All);
    println!("  cancel        {num_cancelled} of 1000; the first {} finished", done.len());
    assert!(num_cancelled > 900 && open.is_empty());

    // Tasks may submit tasks and wait for them, however few workers there are.
    let fib = client.try_submit(fibonacci, (12_u64,));
    println!("  nested        the 12th Fibonacci number is {}", fib.result()?);
    assert_eq!(fib.result()?, 144);
    Ok(())
}

fn main() -> sprang::Result<()> {
    for processes in [false, true] {
        // This line alone decides where tasks run.
        let cluster = LocalCluster::builder().workers(2).threads_per_worker(1).processes(processes).build()?;
        tour(&Client::new(&cluster))?;
    }
    Ok(())
}
