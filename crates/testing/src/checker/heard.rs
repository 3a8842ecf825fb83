//! What was heard from outside: that no secret is in it (I9), and that an outage was told in time
//! (I10).

use std::time::Duration;

use imbabot_core::Timestamp;

use super::{Check, Findings};

/// So long the daemon may take to say that it is not ready.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// From this instant on something was so, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Requests were answered; the daemon was ready.
    pub good: bool,
}

impl Check {
    /// I9: no secret in any output, file or metric, in any encoding.
    pub(super) fn no_secret_was_heard(&self, found: &mut Findings) {
        for (place, bytes) in &self.heard {
            let text = String::from_utf8_lossy(bytes);
            if self.secrets.iter().any(|secret| secret.leaks_into(&text)) {
                found.note(9, format!("a secret stands in {place}"));
            }
        }
        if let Some(metrics) = &self.metrics
            && self.secrets.iter().any(|secret| secret.leaks_into(metrics))
        {
            found.note(9, "a secret stands in the metrics".into());
        }
    }

    /// I10: within 5 s of the first failed request the daemon says so.
    pub(super) fn an_outage_was_told(&self, found: &mut Findings) {
        let Some(until) = self.until else { return };
        for (place, failed) in self.answered.iter().enumerate().filter(|(_, c)| !c.good) {
            let due = failed.at + TOLD_WITHIN;
            let over = self.answered.get(place + 1).is_some_and(|next| next.good && next.at <= due);
            if over || due > until {
                continue;
            }
            let told = self.ready.iter().take_while(|change| change.at <= due).last();
            if told.is_some_and(|last| last.good) {
                let at = failed.at.compact();
                found.note(10, format!("requests failed from {at} on, and 5 s later it was ready"));
            }
        }
    }
}
