//! Whose turn it is where there are more verbs than connections: of one verb that is asked for hundreds
//! of times at once (five hundred schedules fire in one second) only some run at a time, so that whoever
//! asks for something else waits for a few of them and not for all. Opens no connection.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::Semaphore;

/// So many of one verb at a time; fewer than there are connections.
pub(super) const ABREAST: usize = 4;

/// The queues, one for each verb that was ever asked for.
#[derive(Default)]
pub(super) struct Turns(RefCell<HashMap<TypeId, Rc<Semaphore>>>);

impl Turns {
    /// The queue of this verb, in which whoever came first is first. The type of a closure is that of the place where it stands.
    pub(super) fn of<F: 'static>(&self) -> Rc<Semaphore> {
        let mut queues = self.0.borrow_mut();
        let queue = queues.entry(TypeId::of::<F>());
        Rc::clone(queue.or_insert_with(|| Rc::new(Semaphore::new(ABREAST))))
    }
}
