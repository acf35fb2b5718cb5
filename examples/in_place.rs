//! An owned argument is moved to its last reader, which may change it in place.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use serde::{Deserialize, Serialize};
use sprang::{config, delayed};

/// A large value that remembers where in memory it was made.
#[derive(Clone, Serialize, Deserialize)]
struct Field {
    values: Vec<f64>,
    made_at: usize,
}

impl Field {
    fn is_where_it_was_made(&self) -> bool {
        self.values.as_ptr().addr() == self.made_at
    }
}

fn ramp(len: usize) -> Field {
    let values: Vec<f64> = (0..len).map(|i| i as f64).collect();
    Field { made_at: values.as_ptr().addr(), values }
}

/// `mut field: Field` owns its argument.
fn double(mut field: Field) -> Field {
    field.values.iter_mut().for_each(|value| *value *= 2.0);
    field
}

/// Owns one argument and borrows the other.
fn add(mut sum: Field, other: &Field) -> Field {
    sum.values.iter_mut().zip(&other.values).for_each(|(sum, other)| *sum += other);
    sum
}

fn main() -> sprang::Result<()> {
    // Values sent to worker processes are copied; this example stays in one process.
    config::set("scheduler", "threads")?;

    // The handle itself as the argument: the task owns the value.
    let doubled = delayed(double, (delayed(ramp, (1_000_000_usize,)),));
    let field = delayed(double, (doubled,)).compute()?;
    assert_eq!(field.values[3], 12.0);
    assert!(field.is_where_it_was_made());
    println!("doubled twice: 8 MB were allocated once and never copied");

    // A reference to the handle: the task borrows the value, which is not copied either.
    let other = delayed(ramp, (1_000_000_usize,));
    let field = delayed(add, (delayed(ramp, (1_000_000_usize,)), &other)).compute()?;
    assert_eq!(field.values[3], 6.0);
    assert!(field.is_where_it_was_made());
    println!("added: the sum took the place of one of the two");

    // Two tasks own the same value: the last one receives it, the other a copy. If they ran at the
    // same time, which `after` prevents, each would receive a copy.
    let shared = delayed(ramp, (1_000_000_usize,));
    let first = delayed(double, (shared.clone(),));
    let last = delayed(double, (shared,)).after(&first);
    let in_place = |first: &Field, last: &Field| [first, last].map(Field::is_where_it_was_made);
    assert_eq!(delayed(in_place, (&first, &last)).compute()?, [false, true]);
    println!("doubled by two tasks: one copy was made, for the first of them");
    Ok(())
}
