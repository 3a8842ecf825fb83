//! Time that stands still until it is told to move. Every sleep on it is known, so that a test can
//! go from one to the next and live through a year in a second. The wall can be set apart from the
//! time that elapses, as on a real host.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use imbabot_core::Timestamp;
use imbabot_scheduler::Clock;

/// Virtual time. Clones are the same clock.
#[derive(Clone)]
pub struct VirtualClock(Arc<Mutex<Time>>);

struct Time {
    elapsed: Duration,
    /// What the wall shows when nothing has elapsed yet.
    wall: Timestamp,
    /// How often the wall was set back.
    set_back: u64,
    sleepers: BTreeMap<u64, Sleeper>,
    next: u64,
}

struct Sleeper {
    until: Until,
    /// How often the wall had been set back when the wait began.
    set_back: u64,
    waker: Option<Waker>,
}

#[derive(Clone, Copy)]
enum Until {
    Elapsed(Duration),
    Wall(Timestamp),
}

impl Time {
    fn now(&self) -> Timestamp {
        self.wall + self.elapsed
    }

    /// How much has to elapse before this is reached.
    fn left(&self, until: Until, set_back: u64) -> Duration {
        match until {
            Until::Elapsed(at) => at.saturating_sub(self.elapsed),
            // Whoever waits for the wall looks anew when it goes back.
            Until::Wall(_) if set_back != self.set_back => Duration::ZERO,
            Until::Wall(at) => at.since(self.now()),
        }
    }

    fn wake_due(&mut self) {
        let due: Vec<u64> = self
            .sleepers
            .iter()
            .filter(|(_, sleeper)| self.left(sleeper.until, sleeper.set_back).is_zero())
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Some(waker) = self.sleepers.get_mut(&id).and_then(|s| s.waker.take()) {
                waker.wake();
            }
        }
    }
}

impl VirtualClock {
    /// A clock that shows this instant.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Time {
            elapsed: Duration::ZERO,
            wall: start,
            set_back: 0,
            sleepers: BTreeMap::new(),
            next: 0,
        })))
    }

    fn time(&self) -> MutexGuard<'_, Time> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets this much elapse, and wakes whoever waited for it.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time();
        time.elapsed += by;
        time.wake_due();
    }

    /// Sets the wall, without anything elapsing.
    pub fn set_wall(&self, to: Timestamp) {
        let mut time = self.time();
        time.set_back += u64::from(to < time.now());
        time.wall = to - time.elapsed;
        time.wake_due();
    }

    /// How long until the next sleeper wakes, if there is one.
    #[must_use]
    pub fn until_next(&self) -> Option<Duration> {
        let time = self.time();
        time.sleepers.values().map(|s| time.left(s.until, s.set_back)).min()
    }

    fn wait(&self, until: Until) -> BoxFuture<'static, ()> {
        let set_back = self.time().set_back;
        Box::pin(Sleep { clock: self.clone(), until, set_back, id: None })
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.time().now()
    }

    fn elapsed(&self) -> Duration {
        self.time().elapsed
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let at = self.time().elapsed.saturating_add(duration);
        self.wait(Until::Elapsed(at))
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        self.wait(Until::Wall(at))
    }
}

struct Sleep {
    clock: VirtualClock,
    until: Until,
    set_back: u64,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut time = clock.time();
        if time.left(self.until, self.set_back).is_zero() {
            if let Some(id) = self.id.take() {
                time.sleepers.remove(&id);
            }
            return Poll::Ready(());
        }
        let id = *self.id.get_or_insert_with(|| {
            time.next += 1;
            time.next
        });
        let waker = Some(context.waker().clone());
        let (until, set_back) = (self.until, self.set_back);
        time.sleepers.insert(id, Sleeper { until, set_back, waker });
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.clock.time().sleepers.remove(&id);
        }
    }
}
