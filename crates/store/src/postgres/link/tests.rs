//! What a verb that panics leaves behind, and who waits for whom.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test suite")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use futures_executor::block_on;
use tokio::sync::Semaphore;

use super::turns::ABREAST;
use crate::postgres::tx::params;
use crate::{Bodies, ErrorKind, PostgresOptions, PostgresStore, Role};

/// A store in a schema of its own; none where no server is named.
fn store(name: &str) -> Option<PostgresStore> {
    let url = std::env::var("IMBABOT_TEST_POSTGRES").ok()?;
    let schema = format!("imba_test_{name}_{}", std::process::id());
    let options = PostgresOptions {
        instance: "test".into(),
        lease: std::time::Duration::from_secs(10),
        bodies: Bodies::Full,
        unsafe_durability: true,
    };
    let opened = block_on(PostgresStore::open_in(&url, &schema, Role::Daemon, options)).unwrap();
    Some(opened.temporary(&schema))
}

#[test]
fn a_verb_that_is_asked_for_often_leaves_connections_to_others() {
    let Some(store) = store("turns") else { return };
    let (gate, inside) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let often = || {
        let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
        let verb = async move |_: &crate::postgres::tx::Tx<'_>| {
            inside.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            Ok(())
        };
        block_on(store.link.write(verb)).unwrap();
    };
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(often);
        }
        while inside.load(Ordering::SeqCst) < ABREAST {
            thread::yield_now();
        }
        // It would wait for the gate, like them.
        block_on(store.link.read(async |tx| tx.row("SELECT 1", params![]).await.map(drop)))
            .unwrap();
        assert_eq!(inside.load(Ordering::SeqCst), ABREAST);
        gate.add_permits(20);
    });
    assert_eq!(inside.load(Ordering::SeqCst), 20);
}

#[test]
fn what_a_verb_had_done_that_panicked_is_committed_by_no_other() {
    let Some(store) = store("panic") else { return };
    let half = store.link.write(async |tx| -> crate::Result<()> {
        tx.execute("INSERT INTO rate (key, tat) VALUES ('half', 1)", params![]).await?;
        panic!("in the middle");
    });
    assert_eq!(*block_on(half).unwrap_err().kind(), ErrorKind::Closed);
    for n in 0..20_i64 {
        let whole = store.link.write(async move |tx| {
            tx.execute("INSERT INTO rate (key, tat) VALUES ('whole/' || $1, 1)", params![n]).await
        });
        block_on(whole).unwrap();
    }
    let count = store.link.read(async |tx| {
        let row = tx.row("SELECT count(*) FROM rate WHERE key = 'half'", params![]).await?;
        crate::postgres::row::get::<i64>(&row, 0)
    });
    assert_eq!(block_on(count).unwrap(), 0);
}
