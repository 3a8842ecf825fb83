//! Which instance owns what: fair where all serve the same, and nothing is left to nobody where their
//! configurations differ.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test suite")]

mod given;
mod postgres_support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_executor::block_on;
use imbabot_store::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use given::{RULES, at};
use postgres_support::{Database, Hand, database};

const WIDGETS: u32 = 12;
/// Within so many heartbeats of each everything has found its place.
const ROUNDS: usize = 3;

/// The schedules, and the widgets whose bits are set.
fn units(mask: u16) -> Vec<Unit> {
    let widgets = (0..WIDGETS).filter(|bit| mask & (1 << bit) != 0);
    let widgets = widgets.map(|bit| Unit::Widget(format!("w{bit}").parse().unwrap()));
    std::iter::once(Unit::Schedules).chain(widgets).collect()
}

struct Instance {
    store: Arc<PostgresStore>,
    run: IncarnationId,
    serves: Vec<Unit>,
    owns: BTreeMap<Unit, u64>,
}

impl Instance {
    fn begin(store: Arc<PostgresStore>, mask: u16) -> Self {
        let run = block_on(store.begin(at(0), "1", RULES)).unwrap().incarnation;
        Self { store, run, serves: units(mask), owns: BTreeMap::new() }
    }

    fn beat(&mut self) {
        let beat = self.store.heartbeat(self.run, &self.serves, RULES);
        let Standing::Member(all) = block_on(beat).unwrap() else { panic!() };
        self.owns = all.units;
    }
}

/// A schema, and stores of as many instances in it.
fn stores(database: &Database, count: usize) -> (String, Vec<Arc<PostgresStore>>) {
    let (schema, lease) = (database.name(), Duration::from_secs(60));
    let first = database.connect(&schema, Bodies::Full, lease).temporary(&schema);
    let rest = (1..count).map(|_| database.open(&schema, Bodies::Full, lease));
    let stores = std::iter::once(Arc::new(first)).chain(rest).collect();
    (schema, stores)
}

fn rounds(instances: &mut [Instance], count: usize) {
    for _ in 0..count {
        instances.iter_mut().for_each(Instance::beat);
    }
}

/// Who owns each unit that anybody serves.
fn owners(instances: &[Instance]) -> BTreeMap<Unit, Vec<usize>> {
    let all = instances.iter().flat_map(|instance| &instance.serves).cloned();
    all.map(|unit| {
        let owns = |n: &usize| instances[*n].owns.contains_key(&unit);
        let owners = (0..instances.len()).filter(owns).collect();
        (unit, owners)
    })
    .collect()
}

#[test]
fn those_who_serve_the_same_have_fair_shares_of_it() {
    let Some(database) = database() else { return };
    let (_, stores) = stores(database, 3);
    let mut all: Vec<Instance> = Vec::new();
    for store in stores {
        all.push(Instance::begin(store, 0x0fff));
        rounds(&mut all, 3);
        let shares: Vec<usize> = all.iter().map(|instance| instance.owns.len()).collect();
        let fair = 13_usize.div_ceil(all.len());
        assert!(shares.iter().all(|share| (1..=fair).contains(share)), "{shares:?}");
        assert_eq!(shares.iter().sum::<usize>(), 13);
    }
}

#[test]
fn a_widget_that_one_instance_alone_knows_is_its_own_beyond_its_share() {
    let Some(database) = database() else { return };
    let (_, stores) = stores(database, 2);
    let mut all = vec![Instance::begin(stores[0].clone(), 0x0fff)];
    rounds(&mut all, 1);
    // It was started with a configuration in which all but two are missing.
    all.push(Instance::begin(stores[1].clone(), 0x0003));
    rounds(&mut all, 3);
    assert!(owners(&all).values().all(|owners| owners.len() == 1), "{:?}", owners(&all));
    assert!(!all[1].owns.is_empty(), "it has a share of what both know");
    // Ten of its own, and half of three.
    assert!((11..=12).contains(&all[0].owns.len()), "{:?}", all[0].owns);

    // The other one knows them, too, when it has read its configuration anew.
    all[1].serves = units(0x0fff);
    rounds(&mut all, 3);
    assert!(all.iter().all(|instance| (6..=7).contains(&instance.owns.len())));
}

#[test]
fn who_has_his_share_gives_way_where_somebody_else_has_room() {
    let Some(database) = database() else { return };
    let (_, stores) = stores(database, 3);
    let mut all = Vec::new();
    // The first knows what either of the others knows, and owns all of it when they come.
    for (store, mask) in stores.into_iter().zip([0x0fff, 0x003f, 0x0fc0]) {
        all.push(Instance::begin(store, mask));
        rounds(&mut all, 2);
    }
    rounds(&mut all, 2);
    assert!(owners(&all).values().all(|owners| owners.len() == 1), "{:?}", owners(&all));
}

#[test]
fn beside_a_build_that_does_not_say_what_it_serves_shares_are_fair() {
    let Some(database) = database() else { return };
    let (schema, stores) = stores(database, 2);
    let mut all: Vec<Instance> =
        stores.into_iter().map(|store| Instance::begin(store, 0x0fff)).collect();
    let forget = format!("UPDATE lease SET serves = NULL WHERE incarnation = {}", all[1].run.0);
    let hand = Hand::new(&database.url, &schema);
    for _ in 0..4 {
        rounds(&mut all, 1);
        hand.run(&forget);
    }
    assert!(all.iter().all(|instance| (6..=7).contains(&instance.owns.len())));
    assert!(owners(&all).values().all(|owners| owners.len() == 1), "{:?}", owners(&all));
}

#[test]
fn whatever_each_one_serves_nothing_is_left_to_nobody_and_all_comes_to_rest() {
    let Some(database) = database() else { return };
    let (_, stores) = stores(database, 4);
    // Of some groups of widgets, as of different files: differences are rarely by one widget.
    let group = prop::sample::select(vec![0x0003_u16, 0x003c, 0x0040, 0x0780, 0x0800]);
    let mask = prop::collection::vec(group, 0..=4)
        .prop_map(|groups| groups.into_iter().fold(0, |mask, group| mask | group));
    // Who beats, and sometimes with another configuration.
    let step = (0..4_usize, prop::option::weighted(0.2, mask.clone()));
    let histories = (prop::collection::vec(mask, 1..=4), prop::collection::vec(step, 0..24));
    let worst = RefCell::new(0);
    let mut runner =
        TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let held = runner.run(&histories, |(masks, steps)| {
        let begun = stores.iter().zip(&masks);
        let mut all: Vec<Instance> =
            begun.map(|(store, mask)| Instance::begin(store.clone(), *mask)).collect();
        for (n, mask) in steps {
            let n = n % all.len();
            if let Some(mask) = mask {
                all[n].serves = units(mask);
            }
            all[n].beat();
        }
        let mut last = 0;
        for round in 1..=2 * ROUNDS {
            let before: Vec<_> = all.iter().map(|instance| instance.owns.clone()).collect();
            rounds(&mut all, 1);
            if before.iter().zip(&all).any(|(before, now)| *before != now.owns) {
                last = round;
            }
        }
        for instance in &all {
            block_on(instance.store.end(instance.run, at(1))).unwrap();
        }
        worst.replace_with(|worst| last.max(*worst));
        prop_assert!(last <= ROUNDS, "something changed hands in round {last}");
        for (unit, owners) in owners(&all) {
            prop_assert_eq!(owners.len(), 1, "{}: {:?}", unit, owners);
        }
        Ok(())
    });
    println!("at rest after at most {} heartbeats of each", worst.borrow());
    held.unwrap();
}
