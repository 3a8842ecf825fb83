//! When something is to happen: a rule, a zone, and what to do when the moment was missed. Pure
//! data and arithmetic; the engine's timer acts on it.

mod calendar;
mod cron;
mod odd;
mod zone;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use imbabot_core::Timestamp;
use jiff::civil;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use calendar::{Instant, Instants, Moved};
pub use cron::{Cron, CronError};
pub use odd::{ClockChange, OddDay};
pub use zone::{UnknownZone, Zone};

use crate::name::ScheduleId;
use crate::units::{format_duration, minutes, seconds};

/// A rule with its zone and its policies. Built step by step:
///
/// ```
/// use imbabot_bot::prelude::*;
///
/// # fn main() -> anyhow::Result<()> {
/// let daily = Schedule::cron("daily", "0 18 * * *")?.timezone("Europe/Berlin")?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    id: ScheduleId,
    rule: Rule,
    zone: Zone,
    /// Most schedules have the same ones, and share them.
    policies: Arc<Policies>,
}

/// All of a schedule but its name, its rule and its zone.
#[derive(Debug, Clone, PartialEq)]
struct Policies {
    misfire: Option<Misfire>,
    grace: Duration,
    catch_up_max: u32,
    expires_after: Duration,
    overlap: Overlap,
    jitter: Duration,
    dst: Dst,
    except: BTreeSet<civil::Date>,
}

/// The id of an occurrence: the key of its schedule in the store, and its nominal instant.
#[must_use]
pub fn occurrence_id(key: &str, at: Timestamp) -> String {
    format!("{key}@{}", at.compact())
}

static DEFAULT: LazyLock<Arc<Policies>> = LazyLock::new(|| {
    Arc::new(Policies {
        misfire: None,
        grace: Schedule::GRACE,
        catch_up_max: Schedule::CATCH_UP_MAX,
        expires_after: Schedule::EXPIRES_AFTER,
        overlap: Overlap::Skip,
        jitter: Duration::ZERO,
        dst: Dst::default(),
        except: BTreeSet::new(),
    })
});

/// What makes the instants of a schedule.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// A cron expression, in the schedule's zone.
    Cron(Cron),
    /// Every multiple of a length of time since the Unix epoch, in UTC.
    Every(Duration),
    /// Once, at a local date and time.
    At(LocalTime),
}

/// A date and time of day without a zone: `2026-12-24T18:00:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTime(pub(crate) civil::DateTime);

impl FromStr for LocalTime {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let shown: String = text.chars().take(60).collect();
            format!(
                "{shown:?} is not a local date and time; write it as 2026-12-24T18:00:00, without an offset: the zone is the schedule's `timezone`"
            )
        };
        let local: civil::DateTime = text.trim().parse().map_err(|_| wrong())?;
        // jiff reads `…T18:00:00Z` as civil time only if asked; an offset that is dropped silently
        // would be the wrong hour.
        if text.contains(['Z', 'z', '+', '[']) || text.matches('-').count() > 2 {
            return Err(wrong());
        }
        if local.subsec_nanosecond() != 0 {
            return Err(format!("{text:?}: whole seconds only"));
        }
        Ok(Self(local))
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What happens to instants that were missed by more than `grace`. Without a choice it is
/// `FireOnce`, and `Skip` for schedules that come more often than every five minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Misfire {
    /// None of them fires.
    Skip,
    /// The latest one fires.
    FireOnce,
    /// The latest `catch_up_max` fire.
    CatchUp,
}

/// What happens in a room in which a message of an earlier occurrence still waits. The default is
/// `Skip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overlap {
    /// That room is left out.
    #[default]
    Skip,
    /// It gets both.
    Allow,
}

/// What happens to fixed times on the two odd days of a year. Rules with wildcards or steps in
/// hour or minute are not concerned: they run in elapsed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dst {
    /// A time that the clock skips.
    #[serde(default)]
    pub gap: Gap,
    /// A time that the clock shows twice.
    #[serde(default)]
    pub repeat: Repeat,
}

/// What happens to a time that the clock skips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// It comes once, at the first instant after the gap. The default.
    #[default]
    Shift,
    /// It does not come.
    Skip,
}

/// What happens to a time that the clock shows twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// It comes on the first pass. The default.
    #[default]
    First,
    /// It comes on the second pass.
    Second,
    /// It comes on both.
    Both,
}

/// Why a schedule cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The id.
    #[error(transparent)]
    Id(#[from] crate::name::InvalidName),
    /// The cron expression.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// The zone.
    #[error(transparent)]
    Zone(#[from] UnknownZone),
    /// Anything else, as a sentence.
    #[error("{0}")]
    Other(String),
}

impl Schedule {
    /// The default of [`Schedule::grace`].
    pub const GRACE: Duration = seconds(60);
    /// The default of [`Schedule::expires_after`].
    pub const EXPIRES_AFTER: Duration = minutes(60);
    /// The default of [`Schedule::catch_up_max`].
    pub const CATCH_UP_MAX: u32 = 10;
    /// Below this period the default misfire rule is `Skip`.
    const OFTEN: Duration = minutes(5);

    /// A schedule with this rule, in UTC, with the default policies.
    #[must_use]
    pub fn new(id: ScheduleId, rule: Rule) -> Self {
        Self { id, rule, zone: Zone::utc(), policies: Arc::clone(&DEFAULT) }
    }

    /// The same schedule with other policies.
    fn with(mut self, change: impl FnOnce(&mut Policies)) -> Self {
        change(Arc::make_mut(&mut self.policies));
        self
    }

    /// By a cron expression of 5 fields, or 6 with seconds first.
    ///
    /// # Errors
    /// The id is no name, or the expression cannot be read or fits no date of any year.
    pub fn cron(id: &str, expression: &str) -> Result<Self, ScheduleError> {
        Ok(Self::new(id.parse()?, Rule::Cron(expression.parse()?)))
    }

    /// Every multiple of `period` since the Unix epoch.
    ///
    /// # Errors
    /// The id is no name, or the period is shorter than a second.
    pub fn every(id: &str, period: Duration) -> Result<Self, ScheduleError> {
        if period < seconds(1) {
            return Err(ScheduleError::Other("`every` is at least 1s".into()));
        }
        Ok(Self::new(id.parse()?, Rule::Every(period)))
    }

    /// Once, at a local date and time such as `2026-12-24T18:00:00`.
    ///
    /// # Errors
    /// The id is no name, or the text is no local date and time.
    pub fn at(id: &str, local: &str) -> Result<Self, ScheduleError> {
        Ok(Self::new(id.parse()?, Rule::At(local.parse().map_err(ScheduleError::Other)?)))
    }

    /// In this IANA zone instead of UTC.
    ///
    /// # Errors
    /// There is no such zone; the error suggests the nearest.
    pub fn timezone(self, name: &str) -> Result<Self, ScheduleError> {
        Ok(Self { zone: name.parse()?, ..self })
    }

    /// What happens to missed instants.
    #[must_use]
    pub fn misfire(self, misfire: Misfire) -> Self {
        self.with(|policies| policies.misfire = Some(misfire))
    }

    /// Late by no more than this is on time. Default 60 s.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        self.with(|policies| policies.grace = grace)
    }

    /// How many missed instants `CatchUp` fires at most. Default 10.
    #[must_use]
    pub fn catch_up_max(self, catch_up_max: u32) -> Self {
        self.with(|policies| policies.catch_up_max = catch_up_max)
    }

    /// How long after its instant an occurrence is still worth anything. Default one hour.
    #[must_use]
    pub fn expires_after(self, expires_after: Duration) -> Self {
        self.with(|policies| policies.expires_after = expires_after)
    }

    /// What happens where an earlier occurrence still waits.
    #[must_use]
    pub fn overlap(self, overlap: Overlap) -> Self {
        self.with(|policies| policies.overlap = overlap)
    }

    /// Delays each occurrence by a part of this, always the same for the same occurrence.
    #[must_use]
    pub fn jitter(self, jitter: Duration) -> Self {
        self.with(|policies| policies.jitter = jitter)
    }

    /// What happens on the odd days of the zone.
    #[must_use]
    pub fn dst(self, dst: Dst) -> Self {
        self.with(|policies| policies.dst = dst)
    }

    /// Nothing happens on these local dates (`2026-12-25`).
    ///
    /// # Errors
    /// A text is no date.
    pub fn except<'a>(
        self,
        dates: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ScheduleError> {
        let mut except = self.policies.except.clone();
        for text in dates {
            let date = text.trim().parse::<civil::Date>().ok().filter(|_| text.trim().len() == 10);
            let Some(date) = date else {
                let shown: String = text.chars().take(60).collect();
                return Err(ScheduleError::Other(format!(
                    "{shown:?} is not a date; write it as 2026-12-25"
                )));
            };
            except.insert(date);
        }
        Ok(self.with(|policies| policies.except = except))
    }

    /// Checks what only the whole can tell: `jitter` is shorter than the shortest period.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub fn validate(&self) -> Result<(), ScheduleError> {
        if !self.policies.jitter.is_zero()
            && let Some(period) = self.shortest_period()
            && self.policies.jitter >= period
        {
            return Err(ScheduleError::Other(format!(
                "`jitter` ({}) must be shorter than the shortest period of the schedule ({})",
                format_duration(self.policies.jitter),
                format_duration(period)
            )));
        }
        Ok(())
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &ScheduleId {
        &self.id
    }

    /// The rule.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The zone.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The misfire rule in force.
    #[must_use]
    pub fn misfire_rule(&self) -> Misfire {
        self.policies.misfire.unwrap_or_else(|| match self.shortest_period() {
            Some(period) if period < Self::OFTEN => Misfire::Skip,
            _ => Misfire::FireOnce,
        })
    }

    /// The grace in force.
    #[must_use]
    pub fn grace_period(&self) -> Duration {
        self.policies.grace
    }

    /// The bound of `CatchUp`.
    #[must_use]
    pub fn catch_up_bound(&self) -> u32 {
        self.policies.catch_up_max
    }

    /// How long an occurrence keeps, counted from its nominal instant.
    #[must_use]
    pub fn keeps(&self) -> Duration {
        self.policies.expires_after
    }

    /// What becomes of local times that a clock change skips or repeats.
    #[must_use]
    pub fn dst_rule(&self) -> Dst {
        self.policies.dst
    }

    /// The overlap rule in force.
    #[must_use]
    pub fn overlap_rule(&self) -> Overlap {
        self.policies.overlap
    }

    /// How much later than its nominal instant an occurrence is due: a hash of its id modulo
    /// `jitter`, so the same on every instance and after every restart.
    #[must_use]
    pub fn delay_of(&self, occurrence: &str) -> Duration {
        let bound = u64::try_from(self.policies.jitter.as_micros()).unwrap_or(u64::MAX);
        if bound == 0 {
            return Duration::ZERO;
        }
        let digest = Sha256::digest(occurrence.as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        Duration::from_micros(u64::from_be_bytes(bytes) % bound)
    }

    /// When the occurrence at this instant is due, its jitter included. `key` is what the store knows
    /// the schedule by.
    #[must_use]
    pub fn due_at(&self, key: &str, at: Timestamp) -> Timestamp {
        // Asked of millions of instants after a long gap.
        if self.policies.jitter.is_zero() {
            return at;
        }
        at + self.delay_of(&occurrence_id(key, at))
    }

    /// The longest delay that `jitter` can bring.
    #[must_use]
    pub fn longest_delay(&self) -> Duration {
        self.policies.jitter
    }

    /// All that decides about the instants, as a text. Where it changes, the schedule starts anew
    /// from now; a change of anything else keeps its place.
    #[must_use]
    pub fn time_definition(&self) -> String {
        let rule = match &self.rule {
            Rule::Cron(cron) => format!("cron {cron}"),
            Rule::Every(period) => format!("every {}", format_duration(*period)),
            Rule::At(local) => format!("at {local}"),
        };
        let except: Vec<String> = self.policies.except.iter().map(ToString::to_string).collect();
        format!(
            "{rule} | {} | {:?} {:?} | {}",
            self.zone,
            self.policies.dst.gap,
            self.policies.dst.repeat,
            except.join(" ")
        )
    }

    /// The instants in (`after`, `until`], ascending, computed one by one.
    #[must_use]
    pub fn instants(&self, after: Timestamp, until: Timestamp) -> Instants<'_> {
        Instants::new(self, after, until)
    }

    /// The first instant after `after` that no `except` date cancels.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut after = after;
        loop {
            let next = self.instants(after, Timestamp::MAX).next()?;
            if !next.excepted {
                return Some(next.at);
            }
            // A date that is left out may hold 86,400 instants. Where clocks go back over midnight
            // the next date has begun before: then it goes on one by one.
            let midnight = self.zone.next_midnight(next.at)?;
            after = next.at.max(Timestamp::from_micros(midnight.as_micros() - 1));
        }
    }

    fn shortest_period(&self) -> Option<Duration> {
        match &self.rule {
            Rule::Cron(cron) => cron.shortest_period(),
            Rule::Every(period) => Some(*period),
            Rule::At(_) => None,
        }
    }
}
