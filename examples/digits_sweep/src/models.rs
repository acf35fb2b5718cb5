//! Two classifiers, small enough to be read.

use crate::digits::{Digits, NUM_CLASSES, NUM_PIXELS};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// A classifier and its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Model {
    /// What most of the nearest digits are.
    Neighbours { num_neighbours: usize, metric: Metric },
    /// A linear score for each class, found by stochastic gradient descent.
    Softmax { rate: f32, decay: f32 },
}

/// How far apart two pictures are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Metric {
    Euclidean,
    Manhattan,
}

const NUM_EPOCHS: usize = 15;

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Model::Neighbours { num_neighbours, metric } => write!(f, "{num_neighbours} neighbours, {metric:?}"),
            Model::Softmax { rate, decay } => write!(f, "softmax, rate {rate}, decay {decay}"),
        }
    }
}

impl Model {
    /// The share of the digits of a fold that are told right by what was learned from the others.
    pub fn accuracy(&self, digits: &Digits, fold: usize) -> f64 {
        let test = digits.fold(fold);
        let num_right = match *self {
            Model::Neighbours { num_neighbours, metric } => {
                test.clone().filter(|&i| nearest(digits, i, &test, num_neighbours, metric) == digits.label(i)).count()
            }
            Model::Softmax { rate, decay } => {
                let softmax = Softmax::learn(digits, &test, rate, decay);
                test.clone().filter(|&i| softmax.classify(digits.pixels(i)) == digits.label(i)).count()
            }
        };
        num_right as f64 / test.len() as f64
    }
}

/// The class of most of the digits outside `test` that are nearest to one.
fn nearest(digits: &Digits, index: usize, test: &Range<usize>, num_neighbours: usize, metric: Metric) -> usize {
    let own = digits.pixels(index);
    let distance = |other: usize| {
        let pairs = own.iter().zip(digits.pixels(other));
        match metric {
            Metric::Euclidean => pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f32>(),
            Metric::Manhattan => pairs.map(|(a, b)| (a - b).abs()).sum(),
        }
    };
    let others = (0..digits.len()).filter(|other| !test.contains(other));
    let mut others: Vec<(f32, usize)> = others.map(|other| (distance(other), other)).collect();
    let (nearer, last, _) = others.select_nth_unstable_by(num_neighbours - 1, |a, b| a.0.total_cmp(&b.0));
    let mut votes = [0; NUM_CLASSES];
    nearer.iter().chain([&*last]).for_each(|&(_, other)| votes[digits.label(other)] += 1);
    most(&votes)
}

struct Softmax {
    weights: [[f32; NUM_PIXELS]; NUM_CLASSES],
    bias: [f32; NUM_CLASSES],
}

impl Softmax {
    fn learn(digits: &Digits, test: &Range<usize>, rate: f32, decay: f32) -> Self {
        let mut softmax = Softmax { weights: [[0.0; NUM_PIXELS]; NUM_CLASSES], bias: [0.0; NUM_CLASSES] };
        for _ in 0..NUM_EPOCHS {
            for i in (0..digits.len()).filter(|i| !test.contains(i)) {
                softmax.step(digits.pixels(i), digits.label(i), rate, decay);
            }
        }
        softmax
    }

    fn step(&mut self, pixels: &[f32; NUM_PIXELS], label: usize, rate: f32, decay: f32) {
        let mut shares = self.scores(pixels);
        let highest = shares.iter().copied().fold(f32::MIN, f32::max);
        shares.iter_mut().for_each(|share| *share = (*share - highest).exp());
        let total: f32 = shares.iter().sum();
        for (class, share) in shares.iter().enumerate() {
            let error = share / total - f32::from(u8::from(class == label));
            for (weight, pixel) in self.weights[class].iter_mut().zip(pixels) {
                *weight -= rate * (error * pixel + decay * *weight);
            }
            self.bias[class] -= rate * error;
        }
    }

    fn scores(&self, pixels: &[f32; NUM_PIXELS]) -> [f32; NUM_CLASSES] {
        let score = |class: usize| self.weights[class].iter().zip(pixels).map(|(w, p)| w * p).sum::<f32>();
        std::array::from_fn(|class| self.bias[class] + score(class))
    }

    fn classify(&self, pixels: &[f32; NUM_PIXELS]) -> usize {
        most(&self.scores(pixels))
    }
}

/// The index of the largest; of the first, if there are several.
fn most<T: PartialOrd>(values: &[T]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}
