//! What is asked for while the same is under way is done together afterwards, in one transaction: a
//! hundred outcomes that come in while one is being committed cost one commit and not a hundred. Whoever
//! asks alone waits for nobody. Nothing is held back to wait for company.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, oneshot};

use super::{Inner, Job, Link, Mode, closed};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::tx::Tx;

/// So many transactions at a time: while the disk confirms one, the other is made.
const ABREAST: usize = 2;
/// So many are done in one transaction.
const MOST: usize = 64;

type Waiting<I, T> = (I, oneshot::Sender<Result<T>>);

/// Those that wait to be done together, in the order in which they came.
pub(in crate::postgres) struct Gathering<I, T> {
    waiting: Mutex<VecDeque<Waiting<I, T>>>,
    turns: Semaphore,
}

impl<I, T> Default for Gathering<I, T> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turns: Semaphore::new(ABREAST) }
    }
}

impl<I, T> Gathering<I, T> {
    fn join(&self, item: I) -> oneshot::Receiver<Result<T>> {
        let (answer, told) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back((item, answer));
        told
    }

    fn next(&self) -> (Vec<I>, Vec<oneshot::Sender<Result<T>>>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(MOST);
        waiting.drain(..count).unzip()
    }
}

impl Link {
    /// Does something that changes the store, whoever asks, together with whatever waits for the same.
    /// The verb answers each item in its place. It is done also if nobody waits for it any more.
    pub(in crate::postgres) async fn together<I, T, F>(
        &self,
        gathering: &Arc<Gathering<I, T>>,
        item: I,
        verb: F,
    ) -> Result<T>
    where
        I: Send + 'static,
        T: Send + 'static,
        F: AsyncFn(&Tx<'_>, &[I]) -> Result<Vec<T>> + Send + 'static,
    {
        let told = gathering.join(item);
        let gathering = Arc::clone(gathering);
        let job: Job = Box::new(move |inner| {
            Box::pin(async move {
                let Ok(turn) = gathering.turns.acquire().await else { return };
                // Whoever came before may have taken it along.
                let (items, answers) = gathering.next();
                if !items.is_empty() {
                    inner.each(items, answers, Rc::new(verb)).await;
                }
                drop(turn);
            })
        });
        self.jobs.as_ref().ok_or_else(closed)?.send(job).map_err(|_| closed())?;
        told.await.map_err(|_| closed())?
    }
}

impl Inner {
    async fn each<I, T, F>(
        &self,
        items: Vec<I>,
        answers: Vec<oneshot::Sender<Result<T>>>,
        verb: Rc<F>,
    ) where
        I: 'static,
        T: 'static,
        F: AsyncFn(&Tx<'_>, &[I]) -> Result<Vec<T>> + 'static,
    {
        let items = Rc::new(items);
        let error = match self.slice(&items, 0..items.len(), &verb).await {
            Ok(done) => {
                let mut done = done.into_iter();
                for answer in answers {
                    // Nobody may wait for it any more.
                    let _ = answer.send(done.next().ok_or_else(unanswered));
                }
                return;
            }
            Err(error) => error,
        };
        // Where one of them cannot be read, the others are not to suffer for it.
        let by_one = matches!(error.kind(), ErrorKind::Undecodable | ErrorKind::Corrupt);
        for (place, answer) in answers.into_iter().enumerate() {
            let done = if by_one && items.len() > 1 {
                self.slice(&items, place..place + 1, &verb).await
            } else {
                Err(error.clone())
            };
            let done = done.and_then(|mut done| done.pop().ok_or_else(unanswered));
            let _ = answer.send(done);
        }
    }

    async fn slice<I, T, F>(
        &self,
        items: &Rc<Vec<I>>,
        range: std::ops::Range<usize>,
        verb: &Rc<F>,
    ) -> Result<Vec<T>>
    where
        I: 'static,
        T: 'static,
        F: AsyncFn(&Tx<'_>, &[I]) -> Result<Vec<T>> + 'static,
    {
        let (items, verb) = (Rc::clone(items), Rc::clone(verb));
        let act = async move |tx: &Tx<'_>| match items.get(range.clone()) {
            Some(items) => verb(tx, items).await,
            None => Ok(Vec::new()),
        };
        self.verb(Mode::Write, act).await
    }
}

fn unanswered() -> Error {
    Error::new(ErrorKind::Io, "a transaction said nothing of one of its parts")
}
