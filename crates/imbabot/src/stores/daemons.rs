//! Who runs on a store: on a file one process at most, known by its lock; on a server any number of
//! instances, known by their heartbeats and believed until their leases end.

use std::path::Path;

use imbabot_core::Timestamp;
use imbabot_scheduler::{Clock, SystemClock};
use imbabot_store::{Holder, InstanceRecord, Result, SqliteStore, Store};

/// Who runs on a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Daemons {
    /// On a file: who has its lock. A verb that has it for a moment is no daemon.
    OfFile(Option<Holder>),
    /// On a server: the instances that have not ended, and what time it was there.
    OfServer(Vec<InstanceRecord>, Timestamp),
}

impl Daemons {
    pub(super) fn nobody() -> Self {
        Self::OfFile(None)
    }

    pub(super) fn of_file(path: &Path) -> Self {
        Self::OfFile(SqliteStore::daemon(path))
    }

    pub(crate) async fn of_server(store: &dyn Store) -> Result<Self> {
        let instances = store.instances().await?;
        let now = store.clock().await?.unwrap_or_else(|| SystemClock::new().now());
        Ok(Self::OfServer(instances, now))
    }

    /// Whether anybody does what is due.
    pub(crate) fn is_anybody(&self) -> bool {
        match self {
            Self::OfFile(holder) => holder.is_some(),
            Self::OfServer(..) => self.alive().next().is_some(),
        }
    }

    /// The instances on a server whose lease has not run out.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &InstanceRecord> {
        let (instances, now) = match self {
            Self::OfFile(_) => (&[][..], Timestamp::MAX),
            Self::OfServer(instances, now) => (instances.as_slice(), *now),
        };
        instances.iter().filter(move |instance| instance.lease_until > now)
    }
}
