//! What a client service does when: a table.
//!
//! A pure function: the state and an event come in, the next state comes out, and what is to
//! be done. Every pair has its line in the table; an event that means nothing in a state, one
//! that is too late for instance, changes nothing.
//!
//! # Not here
//!
//! What the actions do: see `mod.rs`. The picture is at [`ServiceState`].

/// What a [`ClientService`](super::ClientService) is doing.
///
/// ```text
///                      start
///          ┌─────────┐ ────────▶ ┌────────────┐  made   ┌───────────┐ prepared ┌───────────┐
///     ┌───▶│ Stopped │           │ Connecting │ ──────▶ │ Preparing │ ───────▶ │ Connected │
///     │    └─────────┘           └────────────┘         └───────────┘          └───────────┘
///     │         ▲                 ▲    │               lost │   │ not prepared       │
///     │    stop │             due │    │ failed             │   ▼                    │
///     │         │                 │    ▼                    │ ┌────────────┐         │
///     │         │               ┌─────────┐ ◀───────────────┘ │ Discarding │         │
///     │         └────────────── │ Waiting │ ◀──────────────── └────────────┘         │
///     │                         └─────────┘          lost                            │
///     │                              ▲                 lost                          │
///     │                              └───────────────────────────────────────────────┘
///     │
///     │   stop, in Connecting, Preparing, Connected and Discarding:
///     │
///     │ lost or failed  ┌───────────────┐  start   ┌────────────┐ lost or failed
///     └──────────────── │ Disconnecting │ ───────▶ │ Restarting │ ───────────────▶ Connecting
///                       └───────────────┘ ◀─────── └────────────┘
///                                           stop
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceState {
    /// Nothing, and there is nothing left: not started, or stopped.
    Stopped,
    /// An attempt to connect goes on.
    Connecting,
    /// The connection stands, and what `prepare_connection` returned is waited for.
    Preparing,
    /// The connection stands and is ready.
    Connected,
    /// The next attempt has its time.
    Waiting,
    /// A connection that could not be prepared is being lost.
    Discarding,
    /// It was stopped; the connection is being lost, or the attempt given up.
    Disconnecting,
    /// As `Disconnecting`, but it was started again, and connects when the old is gone.
    Restarting,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Start,
    Stop,
    /// The attempt has made a connection.
    Made,
    /// The attempt has failed.
    Failed,
    Prepared,
    NotPrepared,
    /// The connection is gone.
    Lost,
    /// The time of the next attempt has come.
    Due,
}

/// What is to be done, in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Connect,
    CancelAttempt,
    Prepare,
    CancelPreparation,
    LoseConnection,
    /// One more failure in a row.
    Count,
    /// A new row begins.
    ResetCount,
    /// Has the next attempt made after a while.
    Wait,
    CancelWait,
    /// Fires for those who wait for the connection.
    TellConnected,
    /// An attempt has failed: tells those who had patience for so many only.
    TellFailed,
    /// Nobody will connect for those who wait.
    TellCancelled,
    /// Fires for those who wait for the end.
    TellStopped,
}

/// The table.
#[rustfmt::skip]
pub(super) fn next(state: ServiceState, event: Event) -> (ServiceState, &'static [Action]) {
    use Action as A;
    use Event as E;
    use ServiceState as S;
    match (state, event) {
        (S::Stopped, E::Start) => (S::Connecting, &[A::Connect]),
        (S::Stopped, E::Stop) => (S::Stopped, &[A::TellStopped]),

        (S::Connecting, E::Stop) => (S::Disconnecting, &[A::TellCancelled, A::CancelAttempt]),
        (S::Connecting, E::Made) => (S::Preparing, &[A::Prepare]),
        (S::Connecting, E::Failed) => (S::Waiting, &[A::TellFailed, A::Wait, A::Count]),

        (S::Preparing, E::Stop) =>
            (S::Disconnecting, &[A::TellCancelled, A::CancelPreparation, A::LoseConnection]),
        (S::Preparing, E::Prepared) => (S::Connected, &[A::ResetCount, A::TellConnected]),
        (S::Preparing, E::NotPrepared) => (S::Discarding, &[A::TellFailed, A::LoseConnection]),
        (S::Preparing, E::Lost) =>
            (S::Waiting, &[A::CancelPreparation, A::TellFailed, A::Wait, A::Count]),

        (S::Connected, E::Stop) => (S::Disconnecting, &[A::TellCancelled, A::LoseConnection]),
        (S::Connected, E::Lost) => (S::Waiting, &[A::Wait, A::Count]),

        (S::Waiting, E::Stop) => (S::Stopped, &[A::TellCancelled, A::CancelWait, A::TellStopped]),
        (S::Waiting, E::Due) => (S::Connecting, &[A::Connect]),

        (S::Discarding, E::Stop) => (S::Disconnecting, &[A::TellCancelled]),
        (S::Discarding, E::Lost) => (S::Waiting, &[A::Wait, A::Count]),

        (S::Disconnecting, E::Start) => (S::Restarting, &[]),
        (S::Disconnecting, E::Made) => (S::Disconnecting, &[A::LoseConnection]),
        (S::Disconnecting, E::Failed | E::Lost) => (S::Stopped, &[A::TellStopped]),

        (S::Restarting, E::Stop) => (S::Disconnecting, &[A::TellCancelled]),
        (S::Restarting, E::Made) => (S::Restarting, &[A::LoseConnection]),
        (S::Restarting, E::Failed | E::Lost) => (S::Connecting, &[A::TellStopped, A::Connect]),

        // To start what is started, and to stop what is being stopped, changes nothing. Neither
        // does what was under way when the state was left: a preparation that ends after the
        // stop, a timer whose call was on its way.
        (state, _) => (state, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [ServiceState; 8] = [
        ServiceState::Stopped,
        ServiceState::Connecting,
        ServiceState::Preparing,
        ServiceState::Connected,
        ServiceState::Waiting,
        ServiceState::Discarding,
        ServiceState::Disconnecting,
        ServiceState::Restarting,
    ];
    const EVENTS: [Event; 8] = [
        Event::Start,
        Event::Stop,
        Event::Made,
        Event::Failed,
        Event::Prepared,
        Event::NotPrepared,
        Event::Lost,
        Event::Due,
    ];

    /// What a state holds, as far as events can come of it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
    struct Held {
        attempt: bool,
        connection: bool,
        preparation: bool,
        timer: bool,
        /// Somebody waits for the end.
        stopping: bool,
    }

    /// Every pair, as it is written in the picture. `-` is no change and nothing to do.
    #[test]
    fn every_pair_of_state_and_event_leads_where_the_picture_says() {
        const TABLE: [(ServiceState, [&str; 8]); 8] = {
            use ServiceState as S;
            [
                //                     Start         Stop             Made                            Failed        Prepared     NotPrepared   Lost          Due
                (
                    S::Stopped,
                    ["Connecting", "Stopped", "-", "-", "-", "-", "-", "-"],
                ),
                (
                    S::Connecting,
                    [
                        "-",
                        "Disconnecting",
                        "Preparing",
                        "Waiting",
                        "-",
                        "-",
                        "-",
                        "-",
                    ],
                ),
                (
                    S::Preparing,
                    [
                        "-",
                        "Disconnecting",
                        "-",
                        "-",
                        "Connected",
                        "Discarding",
                        "Waiting",
                        "-",
                    ],
                ),
                (
                    S::Connected,
                    ["-", "Disconnecting", "-", "-", "-", "-", "Waiting", "-"],
                ),
                (
                    S::Waiting,
                    ["-", "Stopped", "-", "-", "-", "-", "-", "Connecting"],
                ),
                (
                    S::Discarding,
                    ["-", "Disconnecting", "-", "-", "-", "-", "Waiting", "-"],
                ),
                (
                    S::Disconnecting,
                    [
                        "Restarting",
                        "-",
                        "Disconnecting",
                        "Stopped",
                        "-",
                        "-",
                        "Stopped",
                        "-",
                    ],
                ),
                (
                    S::Restarting,
                    [
                        "-",
                        "Disconnecting",
                        "Restarting",
                        "Connecting",
                        "-",
                        "-",
                        "Connecting",
                        "-",
                    ],
                ),
            ]
        };
        for (state, expected) in TABLE {
            for (event, expected) in EVENTS.into_iter().zip(expected) {
                let (to, actions) = next(state, event);
                let found = if to == state && actions.is_empty() {
                    "-".to_owned()
                } else {
                    format!("{to:?}")
                };
                assert_eq!(found, expected, "{state:?} and {event:?}");
            }
        }
    }

    /// Follows the actions, and sees that none is done to what is not there and that
    /// nothing is forgotten, on every path.
    #[test]
    fn on_every_path_what_is_begun_is_ended_and_nothing_is_ended_that_is_not_there() {
        let mut seen = std::collections::BTreeSet::new();
        let mut paths = vec![(ServiceState::Stopped, Held::default())];
        while let Some((state, held)) = paths.pop() {
            if !seen.insert((format!("{state:?}"), held)) {
                continue;
            }
            check_held(state, held);
            for event in EVENTS {
                if let Some(held) = happens(held, event) {
                    let (to, actions) = next(state, event);
                    let held = actions
                        .iter()
                        .fold(held, |held, action| done(held, *action, (state, event)));
                    paths.push((to, held));
                }
            }
        }
        for state in STATES {
            let name = format!("{state:?}");
            assert!(seen.iter().any(|(seen, _)| *seen == name), "{name}");
        }
    }

    /// What is held when an event has happened; `None` if it cannot.
    fn happens(mut held: Held, event: Event) -> Option<Held> {
        match event {
            Event::Start => {}
            Event::Stop => held.stopping = true,
            Event::Made | Event::Failed if held.attempt => {
                held.attempt = false;
                held.connection = event == Event::Made;
            }
            Event::Prepared | Event::NotPrepared if held.preparation => held.preparation = false,
            Event::Lost if held.connection => held.connection = false,
            Event::Due if held.timer => held.timer = false,
            _ => return None,
        }
        Some(held)
    }

    #[track_caller]
    fn done(mut held: Held, action: Action, at: (ServiceState, Event)) -> Held {
        match action {
            Action::Connect => {
                assert!(!held.attempt && !held.connection && !held.timer, "{at:?}");
                held.attempt = true;
            }
            Action::Prepare => {
                assert!(held.connection && !held.preparation, "{at:?}");
                held.preparation = true;
            }
            Action::Wait => {
                assert!(!held.connection && !held.attempt && !held.timer, "{at:?}");
                held.timer = true;
            }
            // The attempt answers with `Failed` or `Made`, in its own time.
            Action::CancelAttempt => assert!(held.attempt, "{at:?}"),
            // The connection answers with `Lost`.
            Action::LoseConnection => assert!(held.connection, "{at:?}"),
            Action::CancelPreparation => held.preparation = false,
            Action::CancelWait => {
                assert!(held.timer, "{at:?}");
                held.timer = false;
            }
            Action::TellStopped => {
                assert!(held.stopping && !held.connection && !held.attempt, "{at:?}");
                held.stopping = false;
            }
            Action::TellConnected => assert!(held.connection, "{at:?}"),
            Action::Count | Action::ResetCount | Action::TellFailed | Action::TellCancelled => {}
        }
        held
    }

    #[track_caller]
    fn check_held(state: ServiceState, held: Held) {
        use ServiceState as S;
        let expected = match state {
            S::Stopped => [false, false, false, false],
            S::Connecting => [true, false, false, false],
            S::Preparing => [false, true, true, false],
            S::Connected | S::Discarding => [false, true, false, false],
            S::Waiting => [false, false, false, true],
            // One of the two.
            S::Disconnecting | S::Restarting => {
                assert!(
                    held.stopping || state == S::Restarting,
                    "{state:?} {held:?}"
                );
                [held.attempt, !held.attempt, false, false]
            }
        };
        let found = [held.attempt, held.connection, held.preparation, held.timer];
        assert_eq!(found, expected, "{state:?}");
    }
}
