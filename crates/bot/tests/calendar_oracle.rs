//! The calendar held against an independent oracle: brute force over local days, hours, minutes and
//! seconds, a cron matcher written from the documentation, and nothing of the product but the
//! function under test. The tz database is asked for offsets only.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper of a test may fail as the test itself may, and says what it counted"
)]

#[path = "calendar_oracle/agreement.rs"]
mod agreement;
#[path = "calendar_oracle/civil.rs"]
mod civil;
#[path = "calendar_oracle/expression.rs"]
mod expression;
#[path = "calendar_oracle/odd_days.rs"]
mod odd_days;
#[path = "calendar_oracle/oracle.rs"]
mod oracle;
#[path = "calendar_oracle/random.rs"]
mod random;
#[path = "calendar_oracle/timeline.rs"]
mod timeline;
#[path = "calendar_oracle/zones.rs"]
mod zones;
