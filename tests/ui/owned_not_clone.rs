//! A task cannot own a value that cannot be cloned.

use serde::{Deserialize, Serialize};
use sprang::{Delayed, delayed};

#[derive(Serialize, Deserialize)]
struct Model {
    weights: Vec<f64>,
}

fn finish(model: Model) -> usize {
    model.weights.len()
}

fn finished(model: Delayed<Model>) -> Delayed<usize> {
    delayed(finish, (model,))
}

fn main() {}
