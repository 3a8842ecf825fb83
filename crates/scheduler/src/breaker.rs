//! Breakers: when nothing more is sent to a widget, and what lets it go on. Three of them: the
//! server cannot be reached or answers nonsense, it refuses the secret key, it points elsewhere.
//!
//! A breaker kills no delivery. Without the first, an outage behind a proxy would turn the whole
//! queue into `unknown`, one doubtful attempt after the other.

use std::time::Duration;

use imbabot_core::{Advice, Class, Timestamp};
use imbabot_store::{Stop, Stoppage};

/// So many attempts in a row without a clear answer stop the claims.
const FAILURES: u32 = 3;
/// While the secret key or the address is refused, one request per this long is the probe: not more
/// than one a minute, and with what was asked before the refusal not more than eleven in ten.
const PROBE: Duration = Duration::from_secs(68);
/// While the server cannot be reached, the polls are the probe; their distance grows up to this,
/// so that the first message leaves within 15 s of the server's return.
pub(crate) const LONGEST_POLL: Duration = Duration::from_secs(12);

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

/// What was refused with 401 or 403: only the same thing, accepted, says that all is well again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The secret key itself, as messages and most lists carry it.
    Key,
    /// A token made with it (`rooms_auth = "jwt"`): the key alone may well be accepted.
    Token,
}

/// The server points elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Redirected {
    since: Timestamp,
    origin: String,
    /// A message was answered so, while lists may come as ever: only a message can probe.
    message: bool,
    /// A probe is due: one message may go.
    probing: bool,
}

/// The breakers of one widget. Pure: it is told what happened and asked what may happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    outage: Option<Timestamp>,
    /// Reopened by a good poll, and nothing was delivered since: one request at a time.
    cautious: bool,
    /// A message was refused, and whether that is about the key is being asked.
    checking: bool,
    credentials: Option<(Timestamp, Refused)>,
    redirect: Option<Redirected>,
    /// When the refused key or address was last tried.
    probed: Option<Timestamp>,
    failed_polls: u32,
    /// The last poll found nobody to talk to.
    is_down: bool,
    unreachable_since: Option<Timestamp>,
}

impl Breaker {
    /// What another instance wrote down of it. Nothing is sent before a list was asked for once more,
    /// which is at once: that one closes it, or finds it right.
    #[must_use]
    pub fn recorded(stoppages: &[&Stoppage]) -> Self {
        let mut breaker = Self::default();
        for stoppage in stoppages {
            let since = stoppage.since;
            match stoppage.reason {
                Stop::Outage => {
                    breaker.outage = Some(since);
                    breaker.unreachable_since = Some(since);
                }
                // Of a token it is not known; a list is the probe of both.
                Stop::Credentials => breaker.credentials = Some((since, Refused::Token)),
                Stop::Redirect => {
                    let origin = stoppage.detail.clone().unwrap_or_default();
                    let redirected = Redirected { since, origin, message: false, probing: false };
                    breaker.redirect = Some(redirected);
                }
                Stop::Paused => {}
            }
        }
        breaker
    }

    /// How many requests may be in flight, out of `most`.
    #[must_use]
    pub fn slots(&self, most: usize) -> usize {
        let probing = self.credentials.is_none()
            && self.outage.is_none()
            && self.redirect.as_ref().is_some_and(|redirect| redirect.probing);
        if self.checking || (self.open().is_some() && !probing) {
            0
        } else if self.cautious || probing {
            most.min(1)
        } else {
            most
        }
    }

    /// The breaker that is open, with the instant at which it opened.
    #[must_use]
    pub fn open(&self) -> Option<(Reason, Timestamp)> {
        if let Some((since, _)) = self.credentials {
            return Some((Reason::Credentials, since));
        }
        if let Some(redirect) = &self.redirect {
            return Some((Reason::Redirect, redirect.since));
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
        self.redirect.as_ref().map(|redirect| redirect.origin.as_str())
    }

    /// What was refused, while the credentials breaker is open.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        self.credentials.map(|(_, refused)| refused)
    }

    /// Since when the last request, of whatever kind, got no usable answer.
    #[must_use]
    pub fn unreachable_since(&self) -> Option<Timestamp> {
        self.unreachable_since
    }

    /// An attempt ended. Credentials are judged by [`Breaker::credentials_refused`], after a list
    /// was asked with them. True if it opened the redirect breaker.
    pub fn attempt(&mut self, now: Timestamp, class: Class, advice: &Advice) -> bool {
        if let Some(redirect) = &mut self.redirect
            && redirect.probing
        {
            redirect.probing = false;
            self.probed = Some(now);
        }
        match class {
            Class::Delivered => {
                self.failures = 0;
                self.cautious = false;
                self.outage = None;
                self.redirect = None;
                self.unreachable_since = None;
            }
            Class::NotSent | Class::Ambiguous => self.doubt(now),
            // A clear answer: the server is there.
            Class::Rejected => {
                self.failures = 0;
                self.unreachable_since = None;
                match advice {
                    Advice::Redirect { origin } => return self.points_elsewhere(now, origin, true),
                    _ => self.redirect = None,
                }
            }
        }
        false
    }

    /// A request ended without a clear answer.
    fn doubt(&mut self, now: Timestamp) {
        self.failures += 1;
        self.unreachable_since.get_or_insert(now);
        // While cautious, one more doubt is enough.
        if (self.failures >= FAILURES || self.cautious) && self.outage.is_none() {
            self.outage = Some(now);
            self.cautious = false;
        }
    }

    /// A message was refused with 401 or 403, and a list is to be asked whether the key is. Until
    /// [`Breaker::checked`] nothing is sent. False if somebody asks already, or no question is left.
    pub fn check(&mut self) -> bool {
        if self.redirect.as_ref().is_some_and(|redirect| redirect.probing) {
            // The message that probed the redirect was answered, and not with one.
            self.redirect = None;
        }
        !self.only_probes() && !std::mem::replace(&mut self.checking, true)
    }

    /// The question was answered, or nobody is there any more who asks it.
    pub fn checked(&mut self) {
        self.checking = false;
    }

    /// The question got no answer: a doubt like any other.
    pub fn check_failed(&mut self, now: Timestamp) {
        self.checking = false;
        self.doubt(now);
    }

    /// A list call was answered with 401 or 403. True if that is news.
    pub fn credentials_refused(&mut self, now: Timestamp, refused: Refused) -> bool {
        self.unreachable_since = None;
        self.is_down = false;
        self.probed = Some(now);
        let news = self.credentials.is_none();
        self.credentials.get_or_insert((now, refused));
        news
    }

    /// A list call was answered with a redirect. True if that is news.
    pub fn redirected(&mut self, now: Timestamp, origin: &str) -> bool {
        self.unreachable_since = None;
        self.is_down = false;
        self.points_elsewhere(now, origin, false)
    }

    fn points_elsewhere(&mut self, now: Timestamp, origin: &str, message: bool) -> bool {
        self.probed = Some(now);
        let news = self.redirect.is_none();
        self.redirect.get_or_insert_with(|| Redirected {
            since: now,
            origin: origin.to_owned(),
            message,
            probing: false,
        });
        news
    }

    /// A list call failed in another way; `is_down` where nobody was there to talk to.
    pub fn poll_failed(&mut self, now: Timestamp, is_down: bool) {
        self.failed_polls = self.failed_polls.saturating_add(1);
        self.is_down = is_down;
        self.unreachable_since.get_or_insert(now);
    }

    /// A list call brought a good list: everything opens, an outage cautiously.
    ///
    /// A redirect that a message met while lists are answered says nothing about lists: one message
    /// is let through per probe, and the breaker stays open until that one is answered otherwise.
    pub fn poll_succeeded(&mut self, now: Timestamp) {
        if self.outage.take().is_some() {
            self.cautious = true;
        }
        self.failures = 0;
        self.failed_polls = 0;
        self.is_down = false;
        self.credentials = None;
        let due = self.until_probe(now).is_zero();
        match &mut self.redirect {
            Some(redirect) if redirect.message => redirect.probing |= due,
            _ => self.redirect = None,
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
    pub fn poll_distance(&self, now: Timestamp, usual: Duration) -> Duration {
        match self.open() {
            Some((Reason::Credentials | Reason::Redirect, _)) => usual.max(self.until_probe(now)),
            Some((Reason::Outage, _)) | None if self.failed_polls > 0 || self.outage.is_some() => {
                let grown = usual.saturating_mul(1 << self.failed_polls.min(10));
                grown.min(LONGEST_POLL).max(usual.min(LONGEST_POLL))
            }
            _ => usual,
        }
    }

    /// How long the refused key or address is left alone.
    #[must_use]
    pub fn until_probe(&self, now: Timestamp) -> Duration {
        match self.probed {
            Some(probed) if probed <= now => PROBE.saturating_sub(now.since(probed)),
            // Never, or by a clock that was set back since: that must not put the probe off.
            _ => Duration::ZERO,
        }
    }

    /// Whether anything but the probe may ask the server.
    #[must_use]
    pub fn only_probes(&self) -> bool {
        self.credentials.is_some() || self.redirect.is_some()
    }

    /// Whether a list that is not the probe had better wait until the probe found the server.
    #[must_use]
    pub fn only_rooms(&self) -> bool {
        self.only_probes() || self.outage.is_some() || self.is_down
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
        assert!(breaker.credentials_refused(T, Refused::Key));
        assert!(!breaker.credentials_refused(T, Refused::Key));
        assert_eq!(breaker.poll_distance(T, Duration::from_secs(5)), PROBE);
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
            breaker.poll_failed(T, true);
            assert!(breaker.poll_distance(T, Duration::from_secs(5)) <= Duration::from_secs(12));
        }
        assert_eq!(breaker.poll_distance(T, Duration::from_secs(300)), Duration::from_secs(12));
        breaker.poll_succeeded(T);
        assert_eq!(breaker.poll_distance(T, Duration::from_secs(300)), Duration::from_secs(300));
    }

    #[test]
    fn a_redirect_that_only_messages_meet_is_probed_by_one_message_and_shown_all_along() {
        let mut breaker = Breaker::default();
        let elsewhere = Advice::Redirect { origin: "https://elsewhere.example".into() };
        assert!(breaker.attempt(T, Class::Rejected, &elsewhere));
        breaker.poll_succeeded(T + Duration::from_secs(5));
        assert_eq!(breaker.slots(8), 0);
        for n in 1..5 {
            let now = T + PROBE * n;
            breaker.poll_succeeded(now);
            assert_eq!(breaker.slots(8), 1);
            assert_eq!(breaker.open(), Some((Reason::Redirect, T)));
            assert!(!breaker.attempt(now, Class::Rejected, &elsewhere));
            assert_eq!(breaker.slots(8), 0);
        }
        breaker.poll_succeeded(T + PROBE * 5);
        breaker.attempt(T + PROBE * 5, Class::Delivered, &Advice::None);
        assert_eq!((breaker.open(), breaker.slots(8)), (None, 8));
    }

    #[test]
    fn a_probe_of_a_redirect_that_is_refused_for_its_key_ends_the_redirect() {
        let mut breaker = Breaker::default();
        let elsewhere = Advice::Redirect { origin: "https://elsewhere.example".into() };
        breaker.attempt(T, Class::Rejected, &elsewhere);
        assert!(!breaker.check(), "not the probe: it waits as everything else does");
        breaker.poll_succeeded(T + PROBE);
        assert!(breaker.check(), "whether that is about the key is to be asked");
        assert_eq!((breaker.open(), breaker.slots(8)), (None, 0));
        breaker.checked();
        assert_eq!(breaker.slots(8), 8);
    }

    #[test]
    fn what_another_instance_recorded_stops_the_claims_until_a_good_list() {
        let stoppage = |reason| Stoppage {
            scope: "widget/main".into(),
            reason,
            since: T,
            until: None,
            detail: Some("https://elsewhere.example".into()),
        };
        for (stop, reason, after) in [
            (Stop::Outage, Reason::Outage, 1),
            (Stop::Credentials, Reason::Credentials, 8),
            (Stop::Redirect, Reason::Redirect, 8),
        ] {
            let mut breaker = Breaker::recorded(&[&stoppage(stop)]);
            assert_eq!((breaker.open(), breaker.slots(8)), (Some((reason, T)), 0));
            assert!(breaker.until_probe(T).is_zero(), "a list is asked for at once");
            breaker.poll_succeeded(T);
            assert_eq!((breaker.open(), breaker.slots(8)), (None, after));
        }
        assert_eq!(Breaker::recorded(&[&stoppage(Stop::Paused)]), Breaker::default());
    }

    #[test]
    fn while_the_key_is_in_question_nothing_is_sent_and_one_asks() {
        let mut breaker = Breaker::default();
        assert!(breaker.check());
        assert!(!breaker.check());
        assert_eq!(breaker.slots(8), 0);
        breaker.checked();
        assert_eq!(breaker.slots(8), 8);
        breaker.credentials_refused(T, Refused::Token);
        assert!(!breaker.check(), "it is known already");
        // A refused token is not forgotten because the key is refused as well.
        breaker.credentials_refused(T, Refused::Key);
        assert_eq!(breaker.refused(), Some(Refused::Token));
    }
}
