//! One run of the daemon's tasks in one thread: they are polled until nothing moves any more, and
//! what makes a task give up is kept for whoever asks. Moves no clock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_executor::{LocalPool, block_on};
use futures_util::task::LocalSpawnExt;
use imbabot_scheduler::{Engine, Fatal, Parts};

/// An engine whose tasks have a thread of their own: the one that asks.
pub(crate) struct Running {
    pub(crate) engine: Engine,
    pub(crate) pool: LocalPool,
    gave_up: Rc<RefCell<Option<(&'static str, Fatal)>>>,
    /// Tasks that have not ended, but for those that only attend the others.
    left: Rc<Cell<usize>>,
}

impl Running {
    /// Begins a run. Nothing is done before the first [`Running::step`].
    pub(crate) fn begin(parts: Parts) -> imbabot_store::Result<Self> {
        Ok(Self::of(block_on(Engine::begin(parts))?))
    }

    /// The run of an engine that has begun.
    pub(crate) fn of(engine: Engine) -> Self {
        let (pool, left) = (LocalPool::new(), Rc::<Cell<usize>>::default());
        let running = Self { engine, pool, gave_up: Rc::default(), left };
        for task in running.engine.tasks() {
            let (name, gave_up) = (task.name(), Rc::clone(&running.gave_up));
            let (left, one) = (Rc::clone(&running.left), usize::from(!task.attends()));
            left.set(left.get() + one);
            let run = async move {
                if let Err(fatal) = task.start().await {
                    gave_up.borrow_mut().get_or_insert((name, fatal));
                }
                left.set(left.get() - one);
            };
            // The pool lives: this value owns it.
            let _ = running.pool.spawner().spawn_local(run);
        }
        running
    }

    /// Whether all tasks have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.left.get() == 0
    }

    /// Runs every task until nothing is due.
    ///
    /// # Errors
    /// A task gave up: its name, and why.
    pub(crate) fn step(&mut self) -> Result<(), (&'static str, Fatal)> {
        self.pool.run_until_stalled();
        match self.gave_up.borrow_mut().take() {
            Some(gave_up) => Err(gave_up),
            None => Ok(()),
        }
    }
}
