//! The store in memory has to do what any backend has to do.

#![allow(clippy::unwrap_used, reason = "this is a test suite")]

use std::sync::Arc;

use imbabot_store::conformance::Backend;
use imbabot_store::{Bodies, SqliteStore, Store};

struct Memory;

impl Backend for Memory {
    fn empty(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::in_memory(Bodies::Full).unwrap())
    }

    fn without_texts(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::in_memory(Bodies::Hash).unwrap())
    }

    fn sequences(&self) -> u32 {
        40
    }
}

imbabot_store::store_conformance!(crate::Memory);
