//! With several outputs, each has to be `Clone`.

use serde::{Deserialize, Serialize};
use sprang::{Delayed, compute};

#[derive(Serialize, Deserialize)]
struct Model {
    weights: Vec<f64>,
}

fn both(model: &Delayed<Model>, score: &Delayed<f64>) -> sprang::Result<()> {
    let (_model, _score) = compute((model, score))?;
    Ok(())
}

fn main() {}
