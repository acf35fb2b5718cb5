//! What the fuzz targets share.

use std::path::PathBuf;

/// Writes inputs that are as they should be where `FUZZ_SEEDS` says; the fuzzer starts from these.
pub fn write_seeds(seeds: &[Vec<u8>]) {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS").map(PathBuf::from) else { return };
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed).expect("the folder can be written to");
    }
}
