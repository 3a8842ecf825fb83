//! Waiting in real time, for the loopback door's slow and late answers. The in-process door never
//! waits.

use std::time::Duration;

#[expect(clippy::disallowed_methods, reason = "a real socket's slowness takes real time")]
pub(super) async fn pause(micros: u64) {
    if micros > 0 {
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}
