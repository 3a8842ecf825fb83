//! See README.md: `cargo fuzz run -s none splitter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imbabot_fuzz::splitter(data));
