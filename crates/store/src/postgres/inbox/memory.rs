//! Bots' memory: keys with versions, compared before they are set. Whoever commits has the keys that
//! exist locked; one that does not exist yet is its key's to arbitrate.

use std::collections::{BTreeMap, BTreeSet};

use imbabot_bot::{MemoryWrite, Seen};

use crate::error::Result;
use crate::postgres::row::{get, held, to_json};
use crate::postgres::tx::{Tx, params};

/// Makes the writes of a handler, or none of them if it had seen another memory; whether it did.
pub(super) async fn write(
    tx: &Tx<'_>,
    bot: &str,
    widget: &str,
    writes: &[MemoryWrite],
) -> Result<bool> {
    if writes.is_empty() {
        return Ok(true);
    }
    let keys: BTreeSet<String> = writes.iter().map(|w| held(&w.key).into_owned()).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    let rows = tx
        .rows(
            "SELECT key, version FROM memory WHERE bot = $1 AND widget = $2 AND key = ANY($3)
             ORDER BY key FOR UPDATE",
            params![bot, widget, keys],
        )
        .await?;
    let mut present = BTreeMap::new();
    for row in &rows {
        present.insert(get::<String>(row, 0)?, get::<i64>(row, 1)?);
    }
    // The last write of a key is what stays, whatever was seen of it.
    let mut last = BTreeMap::new();
    let mut absent = BTreeSet::new();
    for write in writes {
        let key = held(&write.key).into_owned();
        let version = present.get(&key).copied();
        match write.based_on {
            Some(Seen::Absent) if version.is_some() => return Ok(false),
            Some(Seen::Version(seen)) if version != Some(seen) => return Ok(false),
            Some(Seen::Absent) => drop(absent.insert(key.clone())),
            Some(Seen::Version(_)) | None => {}
        }
        last.insert(key, write.value.as_ref());
    }
    let (mut removed, mut set, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (key, value) in last {
        match value {
            Some(value) => {
                values.push(to_json(value)?);
                set.push(key);
            }
            None => removed.push(key),
        }
    }
    if !removed.is_empty() {
        tx.execute(
            "DELETE FROM memory WHERE bot = $1 AND widget = $2 AND key = ANY($3)",
            params![bot, widget, removed],
        )
        .await?;
    }
    if !set.is_empty() {
        let absent: Vec<String> = absent.into_iter().collect();
        let written = tx
            .execute(
                "WITH v AS MATERIALIZED (SELECT nextval('memory_version') AS version)
                 INSERT INTO memory AS m (bot, widget, key, value, version)
                 SELECT $1, $2, k.key, k.value, (SELECT version FROM v)
                 FROM unnest($3, $4) AS k (key, value) ORDER BY k.key
                 ON CONFLICT (bot, widget, key) DO UPDATE
                     SET value = excluded.value, version = excluded.version
                     WHERE NOT m.key = ANY($5)",
                params![bot, widget, set, values, absent],
            )
            .await?;
        if written < set.len() as u64 {
            // Another handler has just written what this one had seen absent.
            return Err(tx.collided());
        }
    }
    Ok(true)
}
