//! A delivery by itself, beside its attempts, its lines, its lane and what it is for.

use std::collections::{HashMap, HashSet};

use super::{Batch, TOLD, Told, last_lines, lines_of, unreadable};
use crate::error::Result;
use crate::postgres::row::get;
use crate::postgres::tx::{Tx, params};
use crate::schedules::MANUAL;

struct Standing {
    seq: i64,
    name: String,
    state: String,
    reason: Option<String>,
    open: bool,
    doubled: bool,
    names_a_message: bool,
    policy: String,
    occurrence: Option<String>,
    schedule: Option<String>,
    has_lane: bool,
    has_occurrence: bool,
    attempts: i64,
    last: i64,
    unfinished: i64,
    applied: i64,
    doubtful: i64,
}

async fn page(tx: &Tx<'_>, after: i64, limit: i64) -> Result<Vec<Standing>> {
    let rows = tx
        .rows(
            "SELECT d.seq, encode(d.id, 'hex'), d.state, d.reason, d.open, d.possible_duplicate,
                    d.server_message_id IS NOT NULL, d.policy, d.occurrence, d.schedule,
                    EXISTS (SELECT 1 FROM lane l
                        WHERE l.widget = d.widget AND l.room = d.room AND l.sender = d.sender),
                    EXISTS (SELECT 1 FROM occurrence o WHERE o.id = d.occurrence),
                    a.attempts, a.last, a.unfinished, a.applied, a.doubtful
             FROM (SELECT * FROM delivery WHERE seq > $1 ORDER BY seq LIMIT $2) AS d
             CROSS JOIN LATERAL (
                 SELECT count(*) AS attempts, coalesce(max(n), 0) AS last,
                        count(*) FILTER (WHERE class IS NULL) AS unfinished,
                        count(*) FILTER (WHERE class = 'delivered') AS applied,
                        count(*) FILTER (WHERE class = 'ambiguous') AS doubtful
                 FROM attempt WHERE delivery = d.id) AS a
             ORDER BY d.seq",
            params![after, limit],
        )
        .await?;
    let read = |row| {
        Ok(Standing {
            seq: get(row, 0)?,
            name: get(row, 1)?,
            state: get(row, 2)?,
            reason: get(row, 3)?,
            open: get(row, 4)?,
            doubled: get(row, 5)?,
            names_a_message: get(row, 6)?,
            policy: get(row, 7)?,
            occurrence: get(row, 8)?,
            schedule: get(row, 9)?,
            has_lane: get(row, 10)?,
            has_occurrence: get(row, 11)?,
            attempts: get(row, 12)?,
            last: get(row, 13)?,
            unfinished: get(row, 14)?,
            applied: get(row, 15)?,
            doubtful: get(row, 16)?,
        })
    };
    rows.iter().map(read).collect()
}

pub(super) async fn walk(tx: &Tx<'_>, after: i64, limit: i64) -> Result<Batch> {
    let page = page(tx, after, limit).await?;
    let names: Vec<String> = page.iter().map(|one| one.name.clone()).collect();
    let lines = lines_of(tx, "delivery", &names).await?;
    let mut batch = begun(&page);
    batch.tell(unreadable(&lines));
    let last: HashMap<&str, &Told> = lines.iter().map(|line| (line.id.as_str(), line)).collect();
    batch.tell(page.iter().filter_map(|one| beside(one, last.get(one.name.as_str()).copied())));
    for contradiction in CONTRADICTIONS {
        batch.tell(page.iter().filter_map(contradiction));
    }
    batch.tell(arrows(tx, &page, &lines).await?);
    batch.tell(causes(tx, &page).await?);
    let lost = |one: &&Standing| one.state == "queued" && !one.has_lane;
    batch.tell(
        page.iter()
            .filter(lost)
            .map(|one| format!("the delivery {} waits in a lane that nobody looks at", one.name)),
    );
    Ok(batch)
}

/// Deliveries beside their last lines, and nothing else.
pub(super) async fn strays(tx: &Tx<'_>, after: i64, limit: i64) -> Result<Batch> {
    let page = page(tx, after, limit).await?;
    let names: Vec<String> = page.iter().map(|one| one.name.clone()).collect();
    let last = last_lines(tx, "delivery", &names).await?;
    let mut batch = begun(&page);
    batch.found.extend(page.iter().filter_map(|one| beside(one, last.get(&one.name))));
    Ok(batch)
}

fn begun(page: &[Standing]) -> Batch {
    let until = page.last().map(|one| one.seq.to_string());
    Batch { until, looked_at: page.len(), found: Vec::new() }
}

fn beside(one: &Standing, last: Option<&Told>) -> Option<String> {
    let state = last.and_then(|line| line.word("state"));
    let reason = last.and_then(|line| line.word("reason"));
    (state != Some(&one.state) || reason != one.reason.as_deref()).then(|| {
        let (name, is) = (&one.name, &one.state);
        format!("the delivery {name} is {is}, its last line says {}", state.unwrap_or("nothing"))
    })
}

/// Of a delivery by itself and beside its attempts.
const CONTRADICTIONS: [fn(&Standing) -> Option<String>; 10] = [
    |one| {
        let known = ["queued", "sending", "unknown", "delivered", "dead"];
        one.told(!known.contains(&one.state.as_str()), |is| format!("is {is}, which is no state"))
    },
    |one| {
        let reason = one.reason.as_deref();
        let wrong = match one.state.as_str() {
            "queued" | "sending" => reason.is_some(),
            "unknown" => reason.is_none(),
            "delivered" => reason.is_some_and(|reason| reason != "operator"),
            "dead" => reason.is_none_or(|reason| reason.parse::<crate::DeadReason>().is_err()),
            _ => false,
        };
        let reason = reason.unwrap_or("nothing");
        one.told(wrong, |is| format!("is {is} because of {reason}"))
    },
    |one| {
        one.told(one.confirmed() && !one.names_a_message, |_| "is delivered as no message".into())
    },
    |one| {
        let attempts = one.attempts;
        one.told(one.confirmed() && one.applied == 0, |_| {
            format!("is delivered, and none of its {attempts} attempts says so")
        })
    },
    |one| {
        let attempts = one.attempts;
        one.told(one.state == "unknown" && one.doubtful == 0, |_| {
            format!("is unknown, and none of its {attempts} attempts is in doubt")
        })
    },
    |one| {
        let unfinished = one.unfinished;
        one.told(unfinished != i64::from(one.state == "sending"), |is| {
            format!("is {is}, and {unfinished} of its attempts are open")
        })
    },
    |one| {
        let (reason, doubtful) = (one.reason.as_deref().unwrap_or_default(), one.doubtful);
        one.told(one.state == "dead" && (reason == "unresolved") != (doubtful > 0), |_| {
            format!("is dead({reason}) with {doubtful} attempts in doubt")
        })
    },
    |one| {
        one.told(one.applied + one.doubtful > 1 && !one.doubled, |_| {
            "may be there more than once and does not say so".into()
        })
    },
    |one| {
        let (attempts, last) = (one.attempts, one.last);
        one.told(attempts != last, |_| {
            format!("has {attempts} attempts, the last is number {last}")
        })
    },
    |one| match one.state.as_str() {
        "queued" | "sending" => {
            one.told(!one.open, |is| format!("is {is}, and its lane does not know of it"))
        }
        "delivered" | "dead" => {
            one.told(one.open, |is| format!("is {is}, and its lane waits for it"))
        }
        _ => None,
    },
];

impl Standing {
    fn confirmed(&self) -> bool {
        self.state == "delivered" && self.reason.is_none()
    }

    fn told(&self, wrong: bool, what: impl FnOnce(&str) -> String) -> Option<String> {
        wrong.then(|| format!("the delivery {} {}", self.name, what(&self.state)))
    }
}

/// From which state to which one goes; nothing is before the first.
const ARROWS: [(&str, &str); 12] = [
    ("", "queued"),
    ("", "dead"),
    ("queued", "sending"),
    ("queued", "dead"),
    ("sending", "queued"),
    ("sending", "delivered"),
    ("sending", "dead"),
    ("sending", "unknown"),
    ("unknown", "queued"),
    ("unknown", "delivered"),
    ("unknown", "dead"),
    ("dead", "queued"),
];

/// The states that the lines of a delivery tell of, one after the other.
async fn arrows(tx: &Tx<'_>, page: &[Standing], lines: &[Told]) -> Result<Vec<String>> {
    let policies: HashMap<&str, &str> =
        page.iter().map(|one| (one.name.as_str(), one.policy.as_str())).collect();
    let steps = |line: &Told, before: Option<&Told>| {
        let before = before.filter(|before| before.id == line.id);
        let before = before.map_or(Some(""), |before| before.word("state"));
        before.zip(line.word("state")).map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    let mut wrong = Vec::new();
    let mut revived = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        // What cannot be read is told of elsewhere.
        let before = n.checked_sub(1).and_then(|n| lines.get(n));
        let Some((from, to)) = steps(line, before) else { continue };
        let repeated = from == "unknown"
            && to == "queued"
            && policies.get(line.id.as_str()) == Some(&"at_most_once")
            && !line.flag("possible_duplicate");
        if repeated || !ARROWS.contains(&(from.as_str(), to.as_str())) {
            wrong.push((line, from, to));
        } else if from == "dead" {
            revived.push((line, from, to));
        }
    }
    if !revived.is_empty() {
        // Only a person brings back what is dead.
        let targets: Vec<String> =
            revived.iter().map(|(line, ..)| format!("delivery/{}", line.id)).collect();
        let acts = lines_of(tx, "operator", &targets).await?;
        let by_hand: HashSet<&str> = acts
            .iter()
            .filter(|act| act.word("verb") == Some("deliveries retry"))
            .filter_map(|act| act.id.strip_prefix("delivery/"))
            .collect();
        wrong.extend(revived.into_iter().filter(|(line, ..)| !by_hand.contains(line.id.as_str())));
    }
    let told = wrong.into_iter().take(TOLD).map(|(line, from, to)| {
        let from = if from.is_empty() { "nothing" } else { &from };
        format!("the delivery {} went from {from} to {to}", line.id)
    });
    Ok(told.collect())
}

/// What a delivery says it is for: an occurrence that is there, or that became a part of a run.
async fn causes(tx: &Tx<'_>, page: &[Standing]) -> Result<Vec<String>> {
    let missing = |one: &&Standing| {
        !one.has_occurrence && one.occurrence.as_ref().is_some_and(|id| !id.ends_with(MANUAL))
    };
    let suspects: Vec<&Standing> = page.iter().filter(missing).collect();
    let schedules: Vec<String> = suspects.iter().filter_map(|one| one.schedule.clone()).collect();
    let runs = lines_of(tx, "range", &schedules).await?;
    let mut found = Vec::new();
    for one in suspects {
        let (Some(id), schedule) = (&one.occurrence, one.schedule.as_deref().unwrap_or_default())
        else {
            continue;
        };
        // To the second, as occurrences are named.
        let instant = id.get(schedule.len() + 1..).unwrap_or_default().trim_end_matches('Z');
        let within = |run: &Told| {
            let end = |field| run.word(field).and_then(|at| at.get(..19));
            run.id == schedule
                && end("from").is_some_and(|from| from <= instant)
                && end("to").is_some_and(|to| to >= instant)
        };
        if !runs.iter().any(within) {
            found.push(format!("the delivery {} belongs to {id}, which is not there", one.name));
        }
    }
    Ok(found)
}
