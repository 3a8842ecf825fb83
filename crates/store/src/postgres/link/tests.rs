//! What a verb that panics leaves behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test suite")]

use futures_executor::block_on;

use crate::postgres::tx::params;
use crate::{Bodies, ErrorKind, PostgresOptions, PostgresStore, Role};

#[test]
fn what_a_verb_had_done_that_panicked_is_committed_by_no_other() {
    let Ok(url) = std::env::var("IMBABOT_TEST_POSTGRES") else { return };
    let schema = format!("imba_test_panic_{}", std::process::id());
    let options = PostgresOptions {
        instance: "test".into(),
        lease: std::time::Duration::from_secs(10),
        bodies: Bodies::Full,
        unsafe_durability: true,
    };
    let opened = block_on(PostgresStore::open_in(&url, &schema, Role::Daemon, options)).unwrap();
    let store = opened.temporary(&schema);
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
