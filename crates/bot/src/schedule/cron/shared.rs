//! Expressions that somebody holds, so that whoever reads the same one again shares it. Keeps none
//! alive that nobody holds, and none that could not be read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Read;

#[derive(Default)]
struct Known {
    by_expression: Option<HashMap<String, Weak<Read>>>,
    /// When those that nobody holds are let go of.
    sweep_at: usize,
}

/// Below so many, a sweep is not worth the while.
const FEW: usize = 256;

static KNOWN: Mutex<Known> = Mutex::new(Known { by_expression: None, sweep_at: FEW });

/// The expression, its fields joined by single spaces, if somebody holds it.
pub(super) fn known(expression: &str) -> Option<Arc<Read>> {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.by_expression.as_ref()?.get(expression)?.upgrade()
}

/// What to hold: this one, or the one that somebody else read meanwhile.
pub(super) fn keep(read: Arc<Read>) -> Arc<Read> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = &mut *known;
    let by_expression = known.by_expression.get_or_insert_default();
    if let Some(other) = by_expression.get(&read.expression).and_then(Weak::upgrade) {
        return other;
    }
    if by_expression.len() >= known.sweep_at {
        by_expression.retain(|_, read| read.strong_count() > 0);
        known.sweep_at = FEW.max(by_expression.len() * 2);
    }
    by_expression.insert(read.expression.clone(), Arc::downgrade(&read));
    read
}

#[cfg(test)]
mod tests {
    use super::super::Cron;
    use super::*;

    fn held() -> usize {
        let known = KNOWN.lock().unwrap();
        known.by_expression.as_ref().map_or(0, HashMap::len)
    }

    #[test]
    fn the_same_expression_is_read_once_however_it_is_spaced() {
        let (one, other): (Cron, Cron) =
            ("17 4 * * MON".parse().unwrap(), " 17  4 * *\tMON ".parse().unwrap());
        assert!(Arc::ptr_eq(&one.0, &other.0));
        // Another way to say the same stays what its writer wrote.
        let third: Cron = "17 4 * * 1".parse().unwrap();
        assert!(!Arc::ptr_eq(&one.0, &third.0));
    }

    #[test]
    fn expressions_that_nobody_holds_any_more_are_let_go_of() {
        let mine: Cron = "59 23 31 12 *".parse().unwrap();
        for minute in 0..60 {
            for hour in 0..24 {
                let _: Cron = format!("{minute} {hour} 7 7 *").parse().unwrap();
            }
        }
        assert!(held() <= 2 * FEW, "{}", held());
        assert!(known("59 23 31 12 *").is_some());
        drop(mine);
        assert!(known("59 23 31 12 *").is_none());
    }
}
