//! The store on PostgreSQL has to do what any backend has to do. `IMBABOT_TEST_POSTGRES` names a
//! database in which schemas may be made and dropped; without it nothing here runs, and one line says
//! so.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test suite")]

mod postgres_support;

use std::sync::Arc;

use imbabot_store::conformance::Backend;
use imbabot_store::{Bodies, Store};
use postgres_support::{Database, database};

struct Postgres(&'static Database);

impl Backend for Postgres {
    fn empty(&self) -> Arc<dyn Store> {
        self.0.store(Bodies::Full)
    }

    fn without_texts(&self) -> Arc<dyn Store> {
        self.0.store(Bodies::Hash)
    }

    fn sequences(&self) -> u32 {
        3
    }
}

imbabot_store::store_conformance!(if let Some(database) = database() => crate::Postgres(database));
