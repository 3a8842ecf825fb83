//! Breakers: when nothing more is sent to a widget, and what lets it go on. Three of them: the
//! server cannot be reached or answers nonsense, it refuses the secret key, it points elsewhere.
//!
//! A breaker kills no delivery. Without the first, an outage behind a proxy would turn the whole
//! queue into `unknown`, one doubtful attempt after the other.

use std::time::Duration;

use imbabot_core::{Advice, Class, Timestamp};

/// So many attempts in a row without a clear answer stop the claims.
const FAILURES: u32 = 3;
/// While the secret key or the address is refused, one list call per this long is the probe.
pub(crate) const PROBE: Duration = Duration::from_secs(60);
/// While the server cannot be reached, the polls are the probe; their distance grows up to this,
/// so that the first message leaves within 15 s of the server's return.
const LONGEST_POLL: Duration = Duration::from_secs(12);

/// Why nothing is sent to a widget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Attempts fail or end in doubt.
    Outage,
    /// The secret key is refused.
    Credentials,
    /// The server answers with a redirect.
    Redirect,
}

impl Reason {
    /// The word in metrics and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outage => "outage",
            Self::Credentials => "credentials",
            Self::Redirect => "redirect",
        }
    }
}

/// Which breakers are open.
pub(crate) type Stops = [(Reason, bool); 3];

/// The breakers of one widget. Pure: it is told what happened and asked what may happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    outage: Option<Timestamp>,
    /// Reopened by a good poll, and nothing was delivered since: one request at a time.
    cautious: bool,
    credentials: Option<Timestamp>,
    redirect: Option<(Timestamp, String)>,
    redirected_message: bool,
    failed_polls: u32,
    unreachable_since: Option<Timestamp>,
}

impl Breaker {
    /// How many requests may be in flight, out of `most`.
    #[must_use]
    pub fn slots(&self, most: usize) -> usize {
        if self.open().is_some() {
            0
        } else if self.cautious {
            most.min(1)
        } else {
            most
        }
    }

    /// The breaker that is open, with the instant at which it opened.
    #[must_use]
    pub fn open(&self) -> Option<(Reason, Timestamp)> {
        if let Some(since) = self.credentials {
            return Some((Reason::Credentials, since));
        }
        if let Some((since, _)) = &self.redirect {
            return Some((Reason::Redirect, *since));
        }
        self.outage.map(|since| (Reason::Outage, since))
    }

    /// Which of them are open, each by itself.
    pub(crate) fn stops(&self) -> Stops {
        [
            (Reason::Outage, self.outage.is_some()),
            (Reason::Credentials, self.credentials.is_some()),
            (Reason::Redirect, self.redirect.is_some()),
        ]
    }

    /// Where the server points, while the redirect breaker is open.
    #[must_use]
    pub fn redirect_origin(&self) -> Option<&str> {
        self.redirect.as_ref().map(|(_, origin)| origin.as_str())
    }

    /// Since when the last request, of whatever kind, got no usable answer.
    #[must_use]
    pub fn unreachable_since(&self) -> Option<Timestamp> {
        self.unreachable_since
    }

    /// An attempt ended. Credentials are judged by [`Breaker::credentials_refused`], after a list
    /// was asked with them.
    pub fn attempt(&mut self, now: Timestamp, class: Class, advice: &Advice) {
        match class {
            Class::Delivered => {
                self.failures = 0;
                self.cautious = false;
                self.outage = None;
                self.unreachable_since = None;
            }
            Class::NotSent | Class::Ambiguous => {
                self.failures += 1;
                self.unreachable_since.get_or_insert(now);
                // While cautious, one more doubt is enough.
                if (self.failures >= FAILURES || self.cautious) && self.outage.is_none() {
                    self.outage = Some(now);
                    self.cautious = false;
                }
            }
            // A clear answer: the server is there.
            Class::Rejected => {
                self.failures = 0;
                self.unreachable_since = None;
                if let Advice::Redirect { origin } = advice {
                    self.redirected_message |= self.redirect.is_none();
                    self.redirect.get_or_insert((now, origin.clone()));
                }
            }
        }
    }

    /// A list call was answered with 401 or 403. True if that is news.
    pub fn credentials_refused(&mut self, now: Timestamp) -> bool {
        self.unreachable_since = None;
        let news = self.credentials.is_none();
        self.credentials.get_or_insert(now);
        news
    }

    /// A list call was answered with a redirect. True if that is news.
    pub fn redirected(&mut self, now: Timestamp, origin: &str) -> bool {
        self.unreachable_since = None;
        let news = self.redirect.is_none();
        self.redirect.get_or_insert_with(|| (now, origin.to_owned()));
        news
    }

    /// A list call failed in another way.
    pub fn poll_failed(&mut self, now: Timestamp) {
        self.failed_polls = self.failed_polls.saturating_add(1);
        self.unreachable_since.get_or_insert(now);
    }

    /// A list call brought a good list: everything opens, an outage cautiously.
    ///
    /// A redirect that a message met while lists are answered says nothing about lists: it is
    /// tried again once a minute.
    pub fn poll_succeeded(&mut self, now: Timestamp) {
        if self.outage.take().is_some() {
            self.cautious = true;
        }
        self.failures = 0;
        self.failed_polls = 0;
        self.credentials = None;
        if self
            .redirect
            .as_ref()
            .is_some_and(|(at, _)| !self.redirected_message || now.since(*at) >= PROBE)
        {
            self.redirect = None;
            self.redirected_message = false;
        }
        self.unreachable_since = None;
    }

    /// New settings: what was wrong may be right now, so everything is tried at once. That the server
    /// did not answer stays known until it answers.
    pub fn reloaded(&mut self) {
        *self = Self {
            cautious: self.cautious || self.outage.is_some(),
            unreachable_since: self.unreachable_since,
            ..Self::default()
        };
    }

    /// How long to wait after a poll, where `usual` is the configured distance.
    #[must_use]
    pub fn poll_distance(&self, usual: Duration) -> Duration {
        match self.open() {
            Some((Reason::Credentials | Reason::Redirect, _)) => usual.max(PROBE),
            Some((Reason::Outage, _)) | None if self.failed_polls > 0 || self.outage.is_some() => {
                let grown = usual.saturating_mul(1 << self.failed_polls.min(10));
                grown.min(LONGEST_POLL).max(usual.min(LONGEST_POLL))
            }
            _ => usual,
        }
    }

    /// Whether anything but the probe may ask the server.
    #[must_use]
    pub fn only_probes(&self) -> bool {
        self.credentials.is_some() || self.redirect.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timestamp = Timestamp::EPOCH;

    fn doubt(breaker: &mut Breaker) {
        breaker.attempt(T, Class::Ambiguous, &Advice::None);
    }

    #[test]
    fn three_doubts_in_a_row_stop_the_claims() {
        let mut breaker = Breaker::default();
        doubt(&mut breaker);
        doubt(&mut breaker);
        assert_eq!(breaker.slots(8), 8);
        doubt(&mut breaker);
        assert_eq!(breaker.slots(8), 0);
        assert_eq!(breaker.open(), Some((Reason::Outage, T)));
    }

    #[test]
    fn a_delivery_between_them_starts_the_count_anew() {
        let mut breaker = Breaker::default();
        doubt(&mut breaker);
        doubt(&mut breaker);
        breaker.attempt(T, Class::Delivered, &Advice::None);
        doubt(&mut breaker);
        assert_eq!(breaker.slots(8), 8);
    }

    #[test]
    fn a_good_poll_lets_one_request_through_until_one_is_delivered() {
        let mut breaker = Breaker::default();
        (0..3).for_each(|_| doubt(&mut breaker));
        breaker.poll_succeeded(T);
        assert_eq!(breaker.slots(8), 1);
        doubt(&mut breaker);
        assert_eq!(breaker.slots(8), 0);
        breaker.poll_succeeded(T);
        breaker.attempt(T, Class::Delivered, &Advice::None);
        assert_eq!(breaker.slots(8), 8);
    }

    #[test]
    fn refused_credentials_are_probed_once_a_minute_and_told_once() {
        let mut breaker = Breaker::default();
        assert!(breaker.credentials_refused(T));
        assert!(!breaker.credentials_refused(T));
        assert_eq!(breaker.poll_distance(Duration::from_secs(5)), PROBE);
        assert_eq!(breaker.slots(8), 0);
        breaker.reloaded();
        assert_eq!(breaker.open(), None);
    }

    #[test]
    fn a_reload_tries_again_and_forgets_no_outage() {
        let mut breaker = Breaker::default();
        (0..3).for_each(|_| doubt(&mut breaker));
        breaker.reloaded();
        assert_eq!(breaker.slots(8), 1);
        assert_eq!(breaker.unreachable_since(), Some(T));
        breaker.poll_succeeded(T);
        assert_eq!(breaker.unreachable_since(), None);
    }

    #[test]
    fn polls_of_a_dead_server_stay_close_enough_to_notice_its_return() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            breaker.poll_failed(T);
            assert!(breaker.poll_distance(Duration::from_secs(5)) <= Duration::from_secs(12));
        }
        assert_eq!(breaker.poll_distance(Duration::from_secs(300)), Duration::from_secs(12));
        breaker.poll_succeeded(T);
        assert_eq!(breaker.poll_distance(Duration::from_secs(300)), Duration::from_secs(300));
    }
}
