//! What is moved: the tables that both kinds of database have, column by column, in a form that is
//! neither's own. Knows no SQL but the names of tables and columns.

use sha2::{Digest as _, Sha256};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Bool,
    Text,
    Bytes,
}

/// A value, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Bool(bool),
    Text(String),
    Bytes(Vec<u8>),
}

/// The values of a table's columns, in their order.
pub(crate) type Record = Vec<Value>;

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
    /// Places of the columns by which it is read in order.
    pub(crate) key: &'static [usize],
    /// So many records are held at once.
    pub(crate) page: usize,
    /// Filled by the database itself while others are: what is there is replaced.
    pub(crate) derived: bool,
}

impl Table {
    pub(crate) fn column_names(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|(name, _)| *name)
    }

    pub(crate) fn key_names(&self) -> Vec<&'static str> {
        self.key.iter().filter_map(|place| Some(self.columns.get(*place)?.0)).collect()
    }

    pub(crate) fn key_of(&self, record: &[Value]) -> Record {
        self.key.iter().filter_map(|place| record.get(*place).cloned()).collect()
    }
}

/// What belongs to one kind of database alone, and is made out from the rest in the other.
const MADE_OUT: [(&str, &str); 3] =
    [("inbox", "owner"), ("sign_of_life", "incarnation"), ("sign_of_life", "told_at")];

/// A sum over all records of a table, whatever their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Digest(u128);

impl Digest {
    pub(crate) fn add(&mut self, table: &Table, record: &[Value]) {
        let mut hash = Sha256::new();
        for ((name, _), value) in table.columns.iter().zip(record) {
            if MADE_OUT.contains(&(table.name, name)) {
                continue;
            }
            match value {
                Value::Null => hash.update([0]),
                Value::Int(number) => {
                    hash.update([1]);
                    hash.update(number.to_le_bytes());
                }
                Value::Bool(bool) => hash.update([2, u8::from(*bool)]),
                Value::Text(text) => part(&mut hash, 3, text.as_bytes()),
                Value::Bytes(bytes) => part(&mut hash, 4, bytes),
            }
        }
        let mut first = [0; 16];
        for (to, from) in first.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        self.0 = self.0.wrapping_add(u128::from_le_bytes(first));
    }
}

fn part(hash: &mut Sha256, kind: u8, bytes: &[u8]) {
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// How many records are held at once, unless they are large.
const PAGE: usize = 1_000;
/// An occurrence can have a million rooms.
const LARGE: usize = 50;

/// What the database fills by itself is replaced as a whole.
const ALL: usize = 100_000;

macro_rules! tables {
    ($($name:ident [$($key:literal),+] $page:ident $derived:literal {
        $($column:ident $kind:ident),+ $(,)?
    })+) => {
        /// All tables, each after those that it refers to.
        pub(crate) const TABLES: &[Table] = &[$(Table {
            name: stringify!($name),
            columns: &[$((stringify!($column), Kind::$kind)),+],
            key: &[$($key),+],
            page: $page,
            derived: $derived,
        }),+];
    };
}

tables! {
    incarnation [0] PAGE false {
        id Int, started_at Int, ended_at Int, clean Bool, version Text,
    }
    ledger [0] PAGE false { seq Int, kind Text, id Text, at Int, body Text }
    widget [0] PAGE false { name Text, imba_id Int }
    list [0, 1] PAGE false { widget Text, list Text, baseline_at Int, last_good_at Int }
    item [0, 1, 2] PAGE false {
        widget Text, list Text, id Int, hash Int, gone Bool, body Text,
    }
    bot [0] PAGE false { name Text, since Int, present Bool }
    event [0] PAGE false { seq Int, widget Text, at Int, kind Text, room Int, body Text }
    inbox [0, 1] PAGE false {
        bot Text, event Int, widget Text, lane Text, state Text, owner Int, suspect Bool, tries Int,
        due_at Int, ended_at Int, reason Text,
    }
    memory [0, 1, 2] PAGE false { bot Text, widget Text, key Text, value Text, version Int }
    wake [0, 1, 2] PAGE false { bot Text, widget Text, key Text, due_at Int }
    delivery [0] PAGE false {
        seq Int, id Bytes, key Text, widget Text, room Int, sender Text, bot Text, event Text,
        occurrence Text, schedule Text, policy Text, text Text, text_sha256 Text, state Text,
        reason Text, detail Text, possible_duplicate Bool, open Bool, counts Bool, report Bool,
        created_at Int, not_before Int, expires_at Int, keeps Int, next_attempt_at Int, attempts Int,
        misses Int, ambiguous Int, resends Int, unknown_since Int, resend_at Int, ended_at Int,
        server_message_id Int, server_uuid Text, server_time Int,
    }
    attempt [0, 1] PAGE false {
        delivery Bytes, n Int, incarnation Int, started_at Int, ended_at Int, class Text, code Text,
        http_status Int, held_by Text, held_since Int, detail Text,
    }
    lane [0, 1, 2] PAGE false {
        widget Text, room Int, sender Text, ready_at Int, head Int, head_since Int,
    }
    rate [0] PAGE false { key Text, tat Int }
    schedule [0] PAGE false {
        key Text, definition Text, fired_through Int, last_fired Int, missed Int, paused Bool,
        present Bool,
    }
    occurrence [0] LARGE false {
        id Text, schedule Text, nominal_at Int, recorded_at Int, outcome Text, reason Text,
        deliveries Int, targets Bytes, target_widgets Text, position Int, left_out Int,
    }
    stoppage [0, 1, 2] PAGE false { scope Text, reason Text, since Int, until Int, detail Text }
    delivery_count [0, 1] ALL true { state Text, reason Text, present Int, total Int }
    doubled_count [0] ALL true { total Int }
    capability [0, 1] PAGE false { widget Text, source Text, at Int, body Text }
    sign_of_life [1] PAGE false {
        incarnation Int, at Int, told_at Int, stopped Bool, status Text,
    }
    care [0] PAGE false { seq Int, what Text, at Int, well Bool, told Text }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn listed() -> BTreeSet<String> {
        let all = TABLES.iter().flat_map(|t| t.column_names().map(|c| format!("{}.{c}", t.name)));
        all.collect()
    }

    fn differ(found: &BTreeSet<String>, theirs: &[&str], ours: &[&str]) {
        let listed = listed();
        let extra: Vec<_> = found.difference(&listed).map(String::as_str).collect();
        let missing: Vec<_> = listed.difference(found).map(String::as_str).collect();
        assert_eq!(extra, theirs, "in the database and not moved");
        assert_eq!(missing, ours, "moved and not in the database");
    }

    #[test]
    fn every_column_of_the_file_is_moved() {
        let connection = crate::sqlite::fresh_tables().unwrap();
        let mut statement = connection
            .prepare(
                "SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c
                 WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'",
            )
            .unwrap();
        let found = statement.query_map([], |row| row.get(0)).unwrap();
        let found: BTreeSet<String> = found.map(Result::unwrap).collect();
        let theirs = [
            "inbox.blocked",
            "occurrence.overlaps",
            "provenance.copied_at",
            "provenance.line",
            "provenance.one",
            "sign_of_life.one",
        ];
        let ours = [
            "inbox.owner",
            "occurrence.left_out",
            "occurrence.target_widgets",
            "sign_of_life.incarnation",
            "sign_of_life.told_at",
        ];
        differ(&found, &theirs, &ours);
    }

    #[test]
    fn every_column_of_the_other_database_is_moved() {
        let mut found = BTreeSet::new();
        let mut table = None;
        for line in include_str!("../../migrations/postgres/0001_foundation.sql").lines() {
            if let Some(name) = line.strip_prefix("CREATE TABLE ") {
                let (name, rest) = name.split_once(' ').unwrap();
                let one = rest.strip_prefix('(').filter(|rest| rest.ends_with(");"));
                if let Some(column) = one {
                    found.insert(format!("{name}.{}", column.split(' ').next().unwrap()));
                } else {
                    table = Some(name);
                }
            } else if line.starts_with(')') {
                table = None;
            } else if let Some(name) = table {
                let column = line.trim().split(' ').next().unwrap();
                if !["", "--", "PRIMARY"].contains(&column) {
                    found.insert(format!("{name}.{column}"));
                }
            }
        }
        let theirs = [
            "delivery_count.shard",
            "doubled_count.shard",
            // Instances and what they own are gone when a store is moved.
            "lease.draining",
            "lease.heartbeat_at",
            "lease.incarnation",
            "lease.name",
            "lease.until",
            "ledger_door.nothing",
            // So is what their connections left.
            "mark.at",
            "mark.link",
            "mark.n",
            "mark.slot",
            "unit.name",
            "unit.owner",
            "unit.since",
            "unit.term",
        ];
        differ(&found, &theirs, &[]);
    }

    #[test]
    fn a_digest_knows_every_value_and_no_order() {
        let table = TABLES.iter().find(|table| table.name == "rate").unwrap();
        let record = |key: &str, tat| vec![Value::Text(key.into()), Value::Int(tat)];
        let of = |records: &[Record]| {
            let mut digest = Digest::default();
            records.iter().for_each(|record| digest.add(table, record));
            digest
        };
        let (a, b) = (record("a", 1), record("b", 2));
        assert_eq!(of(&[a.clone(), b.clone()]), of(&[b.clone(), a.clone()]));
        assert_ne!(of(&[a.clone(), b.clone()]), of(&[record("a", 2), record("b", 1)]));
        assert_ne!(of(std::slice::from_ref(&a)), of(&[a.clone(), b]));
        assert_ne!(of(&[a]), of(&[vec![Value::Text("a".into()), Value::Null]]));
    }
}
