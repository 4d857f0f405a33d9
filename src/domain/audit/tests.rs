//! Tests of `audit`.

use super::*;

const RIGHT: EventAudit = EventAudit {
    state: EventState::Open,
    capacity: 10,
    held: 3,
    confirmed: 4,
    version: 9,
    held_rows: 3,
    lapsed_rows: 1,
    confirmed_rows: 4,
    users_booked_twice: 0,
    newest_change: 9,
    missing_changes: 0,
    waiting: 2,
    waiting_rows: 2,
    waiting_though_reserved: 0,
    is_unserved: false,
};

#[test]
fn a_clean_event_has_no_problem() {
    assert_eq!(RIGHT.problems(), Vec::<String>::new());
}

#[test]
fn every_kind_of_drift_is_named() {
    for wrong in [
        EventAudit { held: -1, ..RIGHT },
        EventAudit { held_rows: 2, ..RIGHT },
        EventAudit { confirmed_rows: 5, ..RIGHT },
        EventAudit { capacity: 6, ..RIGHT },
        EventAudit { users_booked_twice: 1, ..RIGHT },
        EventAudit { newest_change: 8, ..RIGHT },
        EventAudit { missing_changes: 2, ..RIGHT },
        EventAudit { waiting: 1, ..RIGHT },
        EventAudit { waiting_though_reserved: 1, ..RIGHT },
        EventAudit { is_unserved: true, ..RIGHT },
        EventAudit { state: EventState::Cancelled, waiting: 0, waiting_rows: 0, ..RIGHT },
        EventAudit { state: EventState::Cancelled, held: 0, held_rows: 0, confirmed: 0, confirmed_rows: 0, ..RIGHT },
    ] {
        assert_eq!(wrong.problems().len(), 1, "{wrong:?}");
    }
}
