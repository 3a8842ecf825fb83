//! `cargo +nightly fuzz run cron`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imbabot_fuzz::cron(data));
