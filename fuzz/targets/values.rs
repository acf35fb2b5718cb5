//! Values in both encodings, inline and in shared memory.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: sprang_fuzz::write_seeds(&sprang::fuzzing::value_seeds()),
    |bytes: &[u8]| sprang::fuzzing::read_value(bytes)
);
