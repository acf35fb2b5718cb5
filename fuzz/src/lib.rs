//! Shared by the fuzz targets.

use std::path::PathBuf;

/// Writes valid inputs, from which the fuzzer starts, to the folder in `FUZZ_SEEDS`.
pub fn write_seeds(seeds: &[Vec<u8>]) {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS").map(PathBuf::from) else { return };
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed).expect("the folder can be written to");
    }
}
