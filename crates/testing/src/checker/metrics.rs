//! Whether the metrics are what a recount of the ledger finds (part of I7). For a ledger from which
//! nothing was pruned yet.

use std::collections::BTreeMap;

use super::Findings;
use super::ledger::Book;

/// The families that count what the ledger holds.
pub(super) fn equal_recounts(book: &Book, text: &str, found: &mut Findings) {
    let totals = read(text, "imbabot_deliveries_total");
    let mut recount: BTreeMap<String, f64> = BTreeMap::new();
    for ((state, reason), count) in book.totals() {
        let labels = format!("state=\"{state}\",reason=\"{}\"", reason.as_deref().unwrap_or(""));
        *recount.entry(labels).or_default() += float(*count);
    }
    compare("imbabot_deliveries_total", &totals, &recount, found);

    let mut present: BTreeMap<String, f64> = BTreeMap::new();
    for delivery in book.deliveries.values() {
        *present.entry(format!("state=\"{}\"", delivery.state)).or_default() += 1.0;
    }
    compare("imbabot_deliveries", &read(text, "imbabot_deliveries"), &present, found);

    let doubled = book.deliveries.values().filter(|delivery| delivery.possible_duplicate).count();
    let told = read(text, "imbabot_possible_duplicates_total").values().sum::<f64>();
    if (told - float(doubled as u64)).abs() > f64::EPSILON {
        found.note(7, format!("possible_duplicates_total is {told}, a recount finds {doubled}"));
    }
}

fn compare(
    family: &str,
    told: &BTreeMap<String, f64>,
    recount: &BTreeMap<String, f64>,
    found: &mut Findings,
) {
    for labels in told.keys().chain(recount.keys()) {
        let of = |values: &BTreeMap<String, f64>| values.get(labels).copied().unwrap_or_default();
        let (told, counted) = (of(told), of(recount));
        if (told - counted).abs() > f64::EPSILON {
            found.note(7, format!("{family}{{{labels}}} is {told}, a recount finds {counted}"));
        }
    }
}

/// The samples of a family, by their labels as they are written.
fn read(text: &str, family: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(family)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels.to_owned(), value.parse().ok()?))
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a count of records")]
fn float(count: u64) -> f64 {
    count as f64
}
