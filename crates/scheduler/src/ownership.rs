//! What this instance owns now, as its last heartbeat was answered. The parts of the engine ask here
//! before they begin something; what is on its way when a unit goes is ended by whoever holds it. Being
//! wrong for a moment costs work and nothing else: the store refuses what must not happen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use imbabot_bot::WidgetName;
use imbabot_store::{Membership, Unit};

/// How often a unit has changed hands.
pub(crate) type Term = u64;

/// What is owned, as of one heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owned {
    /// None where the store is for one instance: then everything is owned.
    of_several: Option<Share>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Share {
    lease: Duration,
    widgets: BTreeMap<WidgetName, Term>,
    schedules: Option<Term>,
}

impl Owned {
    /// What the answer to a heartbeat says.
    pub(crate) fn of(membership: &Membership) -> Self {
        let mut share = Share { lease: membership.lease, ..Share::default() };
        for (unit, term) in &membership.units {
            match unit {
                Unit::Schedules => share.schedules = Some(*term),
                Unit::Widget(name) => drop(share.widgets.insert(name.clone(), *term)),
            }
        }
        Self { of_several: Some(share) }
    }

    /// The same instance, when nobody believes it any more.
    pub(crate) fn nothing(&self) -> Self {
        let lease = self.lease().unwrap_or_default();
        Self { of_several: Some(Share { lease, ..Share::default() }) }
    }

    /// The store is for one instance.
    pub(crate) fn is_alone(&self) -> bool {
        self.of_several.is_none()
    }

    /// How long a lease is; none where the store is for one instance.
    pub(crate) fn lease(&self) -> Option<Duration> {
        self.of_several.as_ref().map(|share| share.lease)
    }

    /// The term of a widget, if it is owned.
    pub(crate) fn widget(&self, name: &WidgetName) -> Option<Term> {
        match &self.of_several {
            None => Some(0),
            Some(share) => share.widgets.get(name).copied(),
        }
    }

    /// The term of the schedules, if they are owned.
    pub(crate) fn schedules(&self) -> Option<Term> {
        match &self.of_several {
            None => Some(0),
            Some(share) => share.schedules,
        }
    }

    /// The widgets that are owned here and were not there, or in another term.
    pub(crate) fn gained_since(&self, before: &Self) -> Vec<WidgetName> {
        let Some(share) = &self.of_several else { return Vec::new() };
        let is_news = |(name, term): &(&WidgetName, &Term)| {
            before.of_several.is_none() || before.widget(name) != Some(**term)
        };
        share.widgets.iter().filter(is_news).map(|(name, _)| name.clone()).collect()
    }

    /// The widgets that were owned there and are not here.
    pub(crate) fn lost_since(&self, before: &Self) -> Vec<WidgetName> {
        let before = before.of_several.iter().flat_map(|share| share.widgets.keys());
        before.filter(|name| self.widget(name).is_none()).cloned().collect()
    }
}

/// The place where the parts find it.
#[derive(Default)]
pub(crate) struct Ownership(ArcSwap<Owned>);

impl Ownership {
    /// What is owned now.
    pub(crate) fn now(&self) -> Arc<Owned> {
        self.0.load_full()
    }

    /// Whether a widget is owned now.
    pub(crate) fn has(&self, widget: &WidgetName) -> bool {
        self.0.load().widget(widget).is_some()
    }

    /// Whether the schedules are owned now.
    pub(crate) fn has_schedules(&self) -> bool {
        self.0.load().schedules().is_some()
    }

    /// From now on it is this.
    pub(crate) fn set(&self, owned: Owned) {
        self.0.store(Arc::new(owned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(units: &[(&str, Term)]) -> Owned {
        let units = units.iter().map(|(name, term)| match *name {
            "schedules" => (Unit::Schedules, *term),
            name => (Unit::Widget(name.parse().unwrap()), *term),
        });
        Owned::of(&Membership {
            now: imbabot_core::Timestamp::EPOCH,
            lease: Duration::from_secs(15),
            units: units.collect(),
            draining: false,
            alive: 1,
            ended: Vec::new(),
        })
    }

    fn names(widgets: &[WidgetName]) -> Vec<&str> {
        widgets.iter().map(|name| name.as_str()).collect()
    }

    #[test]
    fn who_is_alone_owns_everything() {
        let alone = Owned::default();
        assert!(alone.is_alone() && alone.lease().is_none());
        assert_eq!(alone.widget(&"any".parse().unwrap()), alone.schedules());
        assert!(alone.schedules().is_some());
    }

    #[test]
    fn one_of_several_owns_what_it_was_told_and_nothing_else() {
        let share = owned(&[("schedules", 2), ("a", 3)]);
        assert_eq!((share.schedules(), share.widget(&"a".parse().unwrap())), (Some(2), Some(3)));
        assert_eq!(share.widget(&"b".parse().unwrap()), None);
        assert_eq!(share.nothing().lease(), Some(Duration::from_secs(15)));
        assert_eq!(share.nothing().schedules(), None);
    }

    #[test]
    fn a_widget_that_came_back_in_another_term_is_news() {
        let (before, after) =
            (owned(&[("a", 1), ("b", 1), ("c", 1)]), owned(&[("b", 1), ("c", 3), ("d", 1)]));
        assert_eq!(names(&after.gained_since(&before)), ["c", "d"]);
        assert_eq!(names(&after.lost_since(&before)), ["a"]);
        assert_eq!(names(&before.gained_since(&Owned::default())), ["a", "b", "c"]);
        assert!(names(&before.lost_since(&Owned::default())).is_empty());
    }
}
