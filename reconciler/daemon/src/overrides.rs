//! A person's standing orders, and when they end.
//!
//! ```text
//!              stop / suspend                       start / resume, or an edit of the
//!   no order ─────────────────▶ stopped, suspended ─────────────────────────▶ no order
//!                                                    spec's own state or suspend
//! ```
//!
//! An order is kept in the store, so it survives the daemon and the host. The count of
//! `restart` orders never goes back: processes remember under which count they began.

use store::model::Override;

/// What a person may order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Ends a `stop`.
    Start,
    /// Ends the processes and keeps them ended.
    Stop,
    /// Starts every process anew, once.
    Restart,
    /// Leaves the container exactly as it is.
    Suspend,
    /// Ends a `suspend`.
    Resume,
}

/// What the spec itself says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// `state: stopped`.
    pub(crate) stopped: bool,
    /// `suspend: true`.
    pub(crate) suspended: bool,
}

/// What an order led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// The standing order is this now.
    Changed {
        /// To be stored.
        next: Option<Override>,
        /// In words.
        message: &'static str,
    },
    /// It stood already.
    Stood(&'static str),
    /// It is refused: why, and what to do.
    Refused(&'static str),
}

/// Rules on an order.
pub(crate) fn rule(order: Order, own: Own, now: Option<&Override>, at_ms: u64) -> Ruling {
    let was = now.cloned().unwrap_or_default();
    let given = Override {
        given_over: (own.stopped, own.suspended),
        at_ms,
        ..was.clone()
    };
    match order {
        Order::Stop if was.stopped => Ruling::Stood("it is stopped by order already"),
        Order::Stop => changed(
            Override {
                stopped: true,
                ..given
            },
            "stopping; it stays stopped until `start`, or until its spec's `state` is edited",
        ),
        Order::Start if was.stopped => changed(
            Override {
                stopped: false,
                ..was
            },
            "starting",
        ),
        Order::Start if own.stopped => {
            Ruling::Refused("its spec says `state: stopped`; edit the spec")
        }
        Order::Start => Ruling::Stood("no `stop` stands against it"),
        Order::Suspend if was.suspended => Ruling::Stood("it is suspended by order already"),
        Order::Suspend => changed(
            Override {
                suspended: true,
                ..given
            },
            "suspended; it is left as it is until `resume`, or until its spec's `suspend` is \
             edited",
        ),
        Order::Resume if was.suspended => changed(
            Override {
                suspended: false,
                ..was
            },
            "resuming",
        ),
        Order::Resume if own.suspended => {
            Ruling::Refused("its spec says `suspend: true`; edit the spec")
        }
        Order::Resume => Ruling::Stood("no `suspend` stands against it"),
        Order::Restart if was.suspended || own.suspended => {
            Ruling::Refused("it is suspended; `resume` it first")
        }
        Order::Restart if was.stopped => Ruling::Refused("it is stopped by order; `start` it"),
        Order::Restart if own.stopped => {
            Ruling::Refused("its spec says `state: stopped`; edit the spec")
        }
        Order::Restart => {
            let restart_epoch = was.restart_epoch.saturating_add(1);
            changed(
                Override {
                    restart_epoch,
                    at_ms,
                    ..was
                },
                "restarting its processes",
            )
        }
    }
}

/// Returns the order that stands after an edit, if the edit ends what stood.
pub(crate) fn after_edit(now: &Override, own: Own) -> Option<Option<Override>> {
    let ends = (now.stopped || now.suspended) && now.given_over != (own.stopped, own.suspended);
    ends.then(|| {
        kept(Override {
            stopped: false,
            suspended: false,
            ..now.clone()
        })
    })
}

/// Returns a standing order in words, if one stands.
pub(crate) fn note(order: &Override) -> Option<String> {
    match (order.stopped, order.suspended) {
        (false, false) => None,
        (true, false) => Some("stopped".into()),
        (false, true) => Some("suspended".into()),
        (true, true) => Some("stopped, suspended".into()),
    }
}

fn changed(next: Override, message: &'static str) -> Ruling {
    Ruling::Changed {
        next: kept(next),
        message,
    }
}

/// An order that says nothing any more is not kept; a count of restarts is.
fn kept(order: Override) -> Option<Override> {
    (order.stopped || order.suspended || order.restart_epoch > 0).then_some(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Own = Own {
        stopped: false,
        suspended: false,
    };

    fn give(order: Order, own: Own, now: &mut Option<Override>) -> Ruling {
        let ruling = rule(order, own, now.as_ref(), 7);
        if let Ruling::Changed { next, .. } = &ruling {
            now.clone_from(next);
        }
        ruling
    }

    fn is_refused(ruling: &Ruling) -> bool {
        matches!(ruling, Ruling::Refused(_))
    }

    #[test]
    fn a_stop_stands_until_start() {
        let mut now = None;
        give(Order::Stop, OWN, &mut now);
        assert!(now.as_ref().unwrap().stopped);
        assert!(matches!(give(Order::Stop, OWN, &mut now), Ruling::Stood(_)));
        give(Order::Start, OWN, &mut now);
        assert_eq!(now, None);
    }

    #[test]
    fn an_edit_of_the_specs_own_field_ends_the_order_and_any_other_edit_does_not() {
        let mut now = None;
        give(Order::Stop, OWN, &mut now);
        give(Order::Suspend, OWN, &mut now);
        let order = now.unwrap();
        assert_eq!(after_edit(&order, OWN), None);
        let stopped = Own {
            stopped: true,
            ..OWN
        };
        assert_eq!(after_edit(&order, stopped), Some(None));
        let suspended = Own {
            suspended: true,
            ..OWN
        };
        assert_eq!(after_edit(&order, suspended), Some(None));
    }

    #[test]
    fn the_count_of_restarts_never_goes_back() {
        let mut now = None;
        for _ in 0..3 {
            give(Order::Restart, OWN, &mut now);
        }
        give(Order::Stop, OWN, &mut now);
        give(Order::Start, OWN, &mut now);
        assert_eq!(now.as_ref().unwrap().restart_epoch, 3);
        give(Order::Stop, OWN, &mut now);
        let edited = after_edit(
            now.as_ref().unwrap(),
            Own {
                stopped: true,
                ..OWN
            },
        );
        assert_eq!(edited.unwrap().unwrap().restart_epoch, 3);
        give(Order::Start, OWN, &mut now);
        give(Order::Restart, OWN, &mut now);
        assert_eq!(now.unwrap().restart_epoch, 4);
    }

    #[test]
    fn what_the_spec_itself_says_is_not_overruled() {
        let stopped = Own {
            stopped: true,
            ..OWN
        };
        let suspended = Own {
            suspended: true,
            ..OWN
        };
        let mut now = None;
        assert!(is_refused(&give(Order::Start, stopped, &mut now)));
        assert!(is_refused(&give(Order::Restart, stopped, &mut now)));
        assert!(is_refused(&give(Order::Resume, suspended, &mut now)));
        assert!(is_refused(&give(Order::Restart, suspended, &mut now)));
        assert_eq!(now, None);
    }

    #[test]
    fn a_restart_of_something_stopped_by_order_says_what_to_do() {
        let mut now = None;
        give(Order::Stop, OWN, &mut now);
        assert!(is_refused(&give(Order::Restart, OWN, &mut now)));
        assert_eq!(note(now.as_ref().unwrap()).as_deref(), Some("stopped"));
    }

    #[test]
    fn stop_and_suspend_stand_and_end_apart() {
        let mut now = None;
        give(Order::Stop, OWN, &mut now);
        give(Order::Suspend, OWN, &mut now);
        assert_eq!(
            note(now.as_ref().unwrap()).as_deref(),
            Some("stopped, suspended")
        );
        give(Order::Start, OWN, &mut now);
        assert_eq!(note(now.as_ref().unwrap()).as_deref(), Some("suspended"));
        give(Order::Resume, OWN, &mut now);
        assert_eq!(now, None);
    }
}
