//! Where the bytes of elements wait that differ, from their arrival until the list is whole and
//! committed. What is wanted of such a place is here; one that is bounded is the poller's.

/// A place for bytes.
pub trait Spool {
    /// Puts the bytes of an element away; where they lie. `None` if that is not possible: the list
    /// is of no use then.
    fn put(&mut self, bytes: &[u8]) -> Option<u64>;

    /// The bytes that lie there.
    fn get(&self, at: u64) -> Option<Vec<u8>>;
}

/// Keeps everything in memory: for tests, and for lists that are short.
#[derive(Debug, Default)]
pub struct InMemory(Vec<Box<[u8]>>);

impl Spool for InMemory {
    fn put(&mut self, bytes: &[u8]) -> Option<u64> {
        self.0.push(bytes.into());
        Some(self.0.len() as u64 - 1)
    }

    fn get(&self, at: u64) -> Option<Vec<u8>> {
        self.0.get(usize::try_from(at).ok()?).map(|bytes| bytes.to_vec())
    }
}
