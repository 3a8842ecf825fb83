//! See README.md: `cargo fuzz run -s none rows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imbabot_fuzz::rows(data));
