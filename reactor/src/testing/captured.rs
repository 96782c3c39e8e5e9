//! What was reported to `tracing`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{self, DefaultGuard};
use tracing::{Event, Level, Metadata, Subscriber};

/// Takes the `tracing` events of this thread while what it gives lives, whatever their level.
///
/// Events of other threads go where they went before. (A process in which this was called
/// once counts as one that has a subscriber: what Torsade would say on standard error where
/// there is none goes to `tracing` from then on.)
///
/// # Examples
///
/// ```
/// use torsade_deferred::{Failure, fail};
/// use torsade_reactor::testing::capture_events;
///
/// let events = capture_events();
/// drop(fail::<(), Failure>(Failure::message("disk on fire")));
/// let events = events.take();
/// assert_eq!(events.len(), 1);
/// assert!(events[0].message.contains("disk on fire"));
/// ```
pub fn capture_events() -> CapturedEvents {
    let events = Arc::<Mutex<Vec<CapturedEvent>>>::default();
    let subscriber = Collector {
        events: Arc::clone(&events),
        spans: AtomicU64::new(1),
    };
    CapturedEvents {
        events,
        _guard: subscriber::set_default(subscriber),
    }
}

/// The events since [`capture_events`]; dropping it ends that.
#[must_use = "dropping it ends the capture"]
pub struct CapturedEvents {
    events: Arc<Mutex<Vec<CapturedEvent>>>,
    _guard: DefaultGuard,
}

impl CapturedEvents {
    /// Takes the events since the last time.
    #[must_use]
    pub fn take(&self) -> Vec<CapturedEvent> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut events)
    }
}

impl fmt::Debug for CapturedEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(&*self.events.lock().unwrap_or_else(PoisonError::into_inner))
            .finish()
    }
}

/// A `tracing` event, as [`capture_events`] saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CapturedEvent {
    /// Its level.
    pub level: Level,
    /// Its target, such as a module's path.
    pub target: String,
    /// Its text.
    pub message: String,
    /// Its other fields, in their order, as text.
    pub fields: Vec<(&'static str, String)>,
}

struct Collector {
    events: Arc<Mutex<Vec<CapturedEvent>>>,
    spans: AtomicU64,
}

impl Subscriber for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut captured = CapturedEvent {
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            message: String::new(),
            fields: Vec::new(),
        };
        // Before the lock: a field's Debug is somebody else's code.
        event.record(&mut captured);
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(captured);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Visit for CapturedEvent {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => self.fields.push((name, text)),
        }
    }
}
