//! `cargo +nightly fuzz run confirmation`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imbabot_fuzz::confirmation(data));
