//! Messages, calls and results of another process.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: sprang_fuzz::write_seeds(&sprang::fuzzing::message_seeds()),
    |bytes: &[u8]| sprang::fuzzing::read_messages(bytes)
);
