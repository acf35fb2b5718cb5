//! The data: 1797 handwritten digits of 8 × 8 pixels, of the UCI repository ("Optical Recognition
//! of Handwritten Digits").

use serde::{Deserialize, Serialize};
use sprang::SharedArray;
use std::ops::Range;

pub const NUM_PIXELS: usize = 64;
pub const NUM_CLASSES: usize = 10;
/// For the digits of each fold classifiers learn from those of the others.
pub const NUM_FOLDS: usize = 5;

/// Arrays that workers map, so that they are not copied however many tasks read them.
#[derive(Clone, Serialize, Deserialize)]
pub struct Digits {
    /// Row by row, from 0 to 1.
    pixels: SharedArray<f32>,
    labels: SharedArray<u8>,
}

impl Digits {
    pub fn load() -> Self {
        let set = smartcore::dataset::digits::load_dataset();
        assert_eq!((set.num_features, set.data.len()), (NUM_PIXELS, NUM_PIXELS * set.num_samples));
        Digits {
            pixels: set.data.iter().map(|value| value / 16.0).collect(),
            labels: set.target.iter().map(|&label| label as u8).collect(),
        }
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn pixels(&self, index: usize) -> &[f32; NUM_PIXELS] {
        self.pixels[NUM_PIXELS * index..].first_chunk().expect("each digit has so many pixels")
    }

    pub fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }

    /// The digits of a fold: a block, so that most digits of a person are in the same fold.
    pub fn fold(&self, fold: usize) -> Range<usize> {
        fold * self.len() / NUM_FOLDS..(fold + 1) * self.len() / NUM_FOLDS
    }
}
