//! A bot's own memory: keys with JSON values, kept by the store. What a handler writes is committed
//! with its messages, and only if no other run of the same bot wrote the same key meanwhile.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bot::Result;
use crate::name::{BotName, WidgetName};

/// Where memory is read from; the engine implements it over the store.
#[async_trait]
pub trait MemoryReader: Send + Sync {
    /// The value of a key and its version; `None` if the key was never written or was removed.
    async fn remembered(
        &self,
        bot: &BotName,
        widget: &WidgetName,
        key: &str,
    ) -> Result<Option<(Value, i64)>>;
}

/// A write that the handler wants: the new value (`None` removes the key), and the version that
/// it was based on (`None`: the key did not exist or was not read).
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryWrite {
    /// The key.
    pub key: String,
    /// The new value.
    pub value: Option<Value>,
    /// What the handler saw when it read the key; `None` if it did not read it.
    pub based_on: Option<Seen>,
}

/// What a handler saw when it read a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The key did not exist.
    Absent,
    /// The key had this version.
    Version(i64),
}

/// The longest value, as JSON, in bytes. What is larger belongs into a store of the bot's own.
pub const MOST_VALUE: usize = 1024 * 1024;
/// What one handler may write to the memory, keys and values, in bytes.
pub const MOST_WRITTEN: usize = 4 * 1024 * 1024;
/// What a write counts beside its key and value, so that many small ones are bounded too.
const PER_WRITE: usize = 64;

/// Takes as many bytes as a value may have, and fails at the next.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_VALUE {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The memory of one bot for one widget.
pub struct Memory {
    bot: BotName,
    widget: WidgetName,
    reader: Arc<dyn MemoryReader>,
    seen: BTreeMap<String, Seen>,
    writes: BTreeMap<String, Option<Value>>,
    /// The bytes of all that was written, also of what was written over.
    written: usize,
    overflowed: bool,
}

impl Memory {
    pub(crate) fn new(bot: BotName, widget: WidgetName, reader: Arc<dyn MemoryReader>) -> Self {
        Self {
            bot,
            widget,
            reader,
            seen: BTreeMap::new(),
            writes: BTreeMap::new(),
            written: 0,
            overflowed: false,
        }
    }

    /// The value of a key, with what this handler wrote itself; `None` if there is none.
    ///
    /// # Errors
    /// The store cannot be read, or the value is not a `T`.
    pub async fn get<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone().map(serde_json::from_value).transpose()?);
        }
        let found = self.reader.remembered(&self.bot, &self.widget, key).await?;
        let seen = found.as_ref().map_or(Seen::Absent, |(_, version)| Seen::Version(*version));
        self.seen.insert(key.to_owned(), seen);
        Ok(found.map(|(value, _)| serde_json::from_value(value)).transpose()?)
    }

    /// Writes a key. If it was read before and another run wrote it meanwhile, the handler runs
    /// again.
    ///
    /// # Errors
    /// The value cannot be written as JSON, or is longer than [`MOST_VALUE`], or the handler has
    /// written more than [`MOST_WRITTEN`] in all. Then the key stays as it was.
    pub fn set<T: Serialize>(&mut self, key: impl Into<String>, value: &T) -> Result<()> {
        let key = key.into();
        let mut json = Bounded(Vec::new());
        if let Err(error) = serde_json::to_writer(&mut json, value) {
            if error.is_io() {
                anyhow::bail!(
                    "a value does not fit into a bot's memory: {MOST_VALUE} bytes at most"
                );
            }
            return Err(error.into());
        }
        let json = json.0;
        let value = serde_json::from_slice(&json)?;
        if !self.fits(key.len() + json.len()) {
            anyhow::bail!("one handler writes at most {MOST_WRITTEN} bytes to a bot's memory");
        }
        self.writes.insert(key, Some(value));
        Ok(())
    }

    /// Removes a key. A handler that removes more than fits into [`MOST_WRITTEN`] fails when it
    /// returns.
    pub fn remove(&mut self, key: impl Into<String>) {
        let key = key.into();
        if self.fits(key.len()) {
            self.writes.insert(key, None);
        } else {
            self.overflowed = true;
        }
    }

    /// Whether a write of this size is within the bounds.
    fn fits(&mut self, bytes: usize) -> bool {
        let written = self.written.saturating_add(bytes).saturating_add(PER_WRITE);
        let fits = written <= MOST_WRITTEN;
        if fits {
            self.written = written;
        }
        fits
    }

    /// Whether a key was not removed because too much was written.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed
    }

    pub(crate) fn into_writes(self) -> Vec<MemoryWrite> {
        let seen = self.seen;
        self.writes
            .into_iter()
            .map(|(key, value)| {
                let based_on = seen.get(&key).copied();
                MemoryWrite { key, value, based_on }
            })
            .collect()
    }
}
