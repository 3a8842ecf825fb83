//! Which run of the engine is on now. Others on the same store may end one that they have not heard of for
//! too long; another one follows it in the same process, and whoever shows or asks something goes on with
//! that. Begins and ends nothing itself.

use std::sync::Arc;

use arc_swap::ArcSwap;
use imbabot_scheduler::Engine;

/// The run that is on now. Clones are the same.
#[derive(Clone)]
pub(crate) struct Current(Arc<ArcSwap<Engine>>);

impl Current {
    /// This one.
    pub(crate) fn new(engine: Engine) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(engine)))
    }

    /// As of now.
    pub(crate) fn engine(&self) -> Arc<Engine> {
        self.0.load_full()
    }

    /// From now on it is this one.
    pub(crate) fn follow(&self, engine: Engine) {
        self.0.store(Arc::new(engine));
    }
}
