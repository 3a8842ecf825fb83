//! See README.md: `cargo fuzz run -s none cron`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imbabot_fuzz::cron(data));
