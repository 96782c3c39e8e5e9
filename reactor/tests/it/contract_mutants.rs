//! The rule book of streams notices what it is there for: each rule, a stream that breaks it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};

use torsade_deferred::{Deferred, succeed};
use torsade_reactor::testing::contract::{Contract, Ends};
use torsade_reactor::testing::{Chunks, memory_pair, virtual_time_reactor};
use torsade_reactor::{Address, ConnectionLost, Limits, Reactor, Receiver, Settle, Socket, Stream};

use crate::common::count_unhandled;

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Nothing,
    SwapsTwoBytes,
    ForgetsWhatCameEarly,
    AbortsInPlaceOfLosing,
    DoublesTheFlushLimit,
    DeliversInHalvesWhateverHappens,
    EndsLate,
    LosesInPlaceOfAborting,
    TakesTheLastReason,
    ClosesInPlaceOfHalfClosing,
    IsDeafAfterAHalfClose,
    IgnoresAnEndAfterAHalfClose,
    IgnoresPauses,
    IgnoresPausesInADelivery,
    DeliversWhatWasTaken,
    KeepsTheEndFromWhoReads,
    NeverSaysThatItGoesOn,
    ForgetsTheHardLimit,
    FlushesAtOnce,
    FlushesAlthoughItIsLost,
    ForgetsLimits,
    KeepsItsFirstReceiver,
    KeepsAPauseToItself,
    KeepsAnEndToItself,
    TellsOfTheEndAtOnce,
    ForgetsAddresses,
    HoldsABorrowWhileItDelivers,
    SaysThatItIsConnected,
    DeliversBeforeTheReceiverIsSet,
    ForgetsThatItWasAPanic,
    NeverTellsOfTheEnd,
    TellsOfTheEndTwice,
    SaysDoneOfAnAbort,
    TellsInsideAMethod,
    EndsAStreamTwice,
}

/// A fault, and the rule that is there for it.
const MUTANTS: &[(Fault, &str)] = &[
    (
        Fault::SwapsTwoBytes,
        "bytes_arrive_in_order_both_ways_at_once",
    ),
    (
        Fault::ForgetsWhatCameEarly,
        "a_stream_without_a_receiver_keeps_everything_for_the_first",
    ),
    (
        Fault::AbortsInPlaceOfLosing,
        "an_orderly_end_brings_everything_that_was_written_before_it",
    ),
    (
        Fault::DoublesTheFlushLimit,
        "an_orderly_end_waits_for_a_slow_reader_and_not_for_ever",
    ),
    (
        Fault::DeliversInHalvesWhateverHappens,
        "nothing_is_delivered_after_an_end_was_asked_for",
    ),
    (
        Fault::EndsLate,
        "what_is_written_after_an_end_was_asked_for_is_dropped",
    ),
    (
        Fault::LosesInPlaceOfAborting,
        "an_abort_drops_what_is_unsent_and_the_peer_can_tell",
    ),
    (
        Fault::SaysDoneOfAnAbort,
        "an_abort_drops_what_is_unsent_and_the_peer_can_tell",
    ),
    (
        Fault::TakesTheLastReason,
        "the_first_of_several_ends_gives_the_reason_save_that_an_abort_overtakes",
    ),
    (
        Fault::ClosesInPlaceOfHalfClosing,
        "a_half_close_ends_one_direction_alone",
    ),
    (
        Fault::IsDeafAfterAHalfClose,
        "both_directions_can_be_ended_one_after_the_other",
    ),
    (
        Fault::EndsAStreamTwice,
        "both_directions_can_be_ended_one_after_the_other",
    ),
    (
        Fault::IgnoresAnEndAfterAHalfClose,
        "an_end_after_a_half_close_is_an_end",
    ),
    (
        Fault::IgnoresPauses,
        "a_paused_stream_delivers_nothing_and_a_resumed_one_everything",
    ),
    (
        Fault::IgnoresPausesInADelivery,
        "pausing_in_a_delivery_stops_the_next",
    ),
    (
        Fault::DeliversWhatWasTaken,
        "who_reads_for_itself_takes_bytes_in_order_and_the_rest_is_delivered",
    ),
    (
        Fault::KeepsTheEndFromWhoReads,
        "who_reads_for_itself_finds_nothing_at_the_end_and_the_receiver_hears_of_it",
    ),
    (
        Fault::NeverSaysThatItGoesOn,
        "a_peer_that_does_not_read_pauses_the_writer_until_it_does",
    ),
    (
        Fault::ForgetsTheHardLimit,
        "a_connection_with_more_unsent_than_the_limit_is_ended",
    ),
    (
        Fault::FlushesAtOnce,
        "a_flush_fires_when_what_was_written_before_has_left",
    ),
    (
        Fault::FlushesAlthoughItIsLost,
        "a_flush_fails_when_the_connection_is_lost_first",
    ),
    (Fault::ForgetsLimits, "limits_are_what_they_were_set_to"),
    (
        Fault::KeepsItsFirstReceiver,
        "another_receiver_takes_over_between_two_deliveries",
    ),
    (
        Fault::KeepsAPauseToItself,
        "a_receiver_that_takes_over_from_a_paused_writer_hears_of_the_pause_and_of_its_end",
    ),
    (
        Fault::KeepsAnEndToItself,
        "a_receiver_that_takes_over_behind_the_peers_end_hears_of_it_once",
    ),
    (
        Fault::TellsOfTheEndAtOnce,
        "a_receiver_after_the_end_hears_the_reason_and_not_at_once",
    ),
    (Fault::ForgetsAddresses, "addresses_are_known_after_the_end"),
    (
        Fault::HoldsABorrowWhileItDelivers,
        "every_call_can_be_made_in_every_event",
    ),
    (
        Fault::TellsInsideAMethod,
        "every_call_can_be_made_in_every_event",
    ),
    (
        Fault::SaysThatItIsConnected,
        "every_call_after_the_end_does_nothing",
    ),
    (
        Fault::TellsOfTheEndTwice,
        "every_call_after_the_end_does_nothing",
    ),
    (
        Fault::DeliversBeforeTheReceiverIsSet,
        "a_connection_is_made_first_and_once_and_lost_last_and_once",
    ),
    (
        Fault::ForgetsThatItWasAPanic,
        "a_panic_in_a_method_ends_that_connection_with_that_reason",
    ),
    (
        Fault::NeverTellsOfTheEnd,
        "calls_wait_for_the_method_at_hand_and_are_dropped_after_the_end",
    ),
];

type Ending = Box<dyn FnOnce(&dyn Stream)>;

/// A layer that changes nothing, save for its fault.
struct Mutant {
    me: Weak<Self>,
    fault: Fault,
    below: Rc<dyn Stream>,
    above: RefCell<Option<Rc<dyn Receiver>>>,
    early: RefCell<Vec<u8>>,
    half_closed: Cell<bool>,
    delivering: Cell<bool>,
    choked: Cell<bool>,
    choke_untold: Cell<bool>,
    read_ended: Cell<bool>,
    end_untold: Cell<bool>,
    paused: Cell<bool>,
    is_lost: Cell<bool>,
    reason: RefCell<Option<ConnectionLost>>,
    /// An end that was asked for and comes later.
    pending: RefCell<Vec<Ending>>,
    held: RefCell<()>,
}

impl Mutant {
    fn over(below: Rc<dyn Stream>, fault: Fault) -> Rc<dyn Stream> {
        let mutant = Rc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            fault,
            below,
            above: RefCell::default(),
            early: RefCell::default(),
            half_closed: Cell::default(),
            delivering: Cell::default(),
            choked: Cell::default(),
            choke_untold: Cell::default(),
            read_ended: Cell::default(),
            end_untold: Cell::default(),
            paused: Cell::default(),
            is_lost: Cell::default(),
            reason: RefCell::default(),
            pending: RefCell::default(),
            held: RefCell::default(),
        });
        if matches!(
            fault,
            Fault::ForgetsWhatCameEarly | Fault::DeliversBeforeTheReceiverIsSet
        ) {
            mutant
                .below
                .set_receiver(Rc::clone(&mutant) as Rc<dyn Receiver>);
        }
        mutant
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn strong(&self) -> Rc<Self> {
        self.me.upgrade().expect("somebody holds it, to call it")
    }

    fn receiver(&self) -> Option<Rc<dyn Receiver>> {
        self.above.borrow().clone()
    }

    /// For a receiver that came behind it.
    fn tell_of_the_end_soon(&self) {
        if !self.end_untold.get() || self.paused.get() {
            return;
        }
        let layer = self.strong();
        self.socket().reactor().call_soon(move || {
            if let Some(receiver) = layer.receiver()
                && layer.is_connected()
                && !layer.paused.get()
                && layer.end_untold.take()
            {
                receiver.read_connection_lost();
            }
        });
    }

    /// Does this now, or at the end of the callback.
    fn end(&self, end: impl FnOnce(&dyn Stream) + 'static) {
        if self.is(Fault::EndsLate) {
            self.pending.borrow_mut().push(Box::new(end));
            self.socket().reactor().settle_later(self.strong());
        } else {
            end(&*self.below);
        }
    }
}

impl Settle for Mutant {
    fn settle(self: Rc<Self>) {
        for end in self.pending.take() {
            end(&*self.below);
        }
    }
}

impl Stream for Mutant {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.below.try_read(buffer)?;
        match self.fault {
            Fault::KeepsTheEndFromWhoReads if count == 0 => {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Fault::DeliversWhatWasTaken => {
                self.early.borrow_mut().extend_from_slice(&buffer[..count]);
            }
            _ => {}
        }
        Ok(count)
    }

    fn write(&self, data: &[u8]) {
        if self.is(Fault::TellsInsideAMethod)
            && let Some(receiver) = self.receiver()
        {
            receiver.data_received(b"at once");
        }
        drop(self.held.borrow_mut());
        self.below.write(data);
    }

    fn lose_connection(&self, reason: ConnectionLost) {
        match self.fault {
            Fault::AbortsInPlaceOfLosing => self.below.abort_connection(reason),
            Fault::IgnoresAnEndAfterAHalfClose if self.half_closed.get() => {}
            Fault::TakesTheLastReason => {
                self.reason.replace(Some(reason));
                self.below.lose_connection(ConnectionLost::Done);
            }
            _ => self.end(move |below| below.lose_connection(reason)),
        }
    }

    fn abort_connection(&self, reason: ConnectionLost) {
        match self.fault {
            Fault::LosesInPlaceOfAborting => self.below.lose_connection(reason),
            Fault::ForgetsThatItWasAPanic => self.below.abort_connection(ConnectionLost::Aborted),
            Fault::TakesTheLastReason => {
                self.reason.replace(Some(reason));
                self.below.abort_connection(ConnectionLost::Aborted);
            }
            _ => self.below.abort_connection(reason),
        }
    }

    fn lose_write_connection(&self) {
        self.half_closed.set(true);
        if self.is(Fault::ClosesInPlaceOfHalfClosing) {
            self.below.lose_connection(ConnectionLost::Done);
        } else {
            self.end(|below| below.lose_write_connection());
        }
    }

    fn pause_reading(&self) {
        self.paused.set(true);
        let deaf = self.is(Fault::IgnoresPausesInADelivery) && self.delivering.get();
        if !self.is(Fault::IgnoresPauses) && !deaf {
            self.below.pause_reading();
        }
    }

    fn resume_reading(&self) {
        self.paused.set(false);
        self.tell_of_the_end_soon();
        self.below.resume_reading();
    }

    fn is_connected(&self) -> bool {
        self.is(Fault::SaysThatItIsConnected) && self.is_lost.get() || self.below.is_connected()
    }

    fn unsent(&self) -> usize {
        self.below.unsent()
    }

    fn is_congested(&self) -> bool {
        self.below.is_congested()
    }

    fn flush(&self) -> Deferred<()> {
        match self.fault {
            Fault::FlushesAtOnce => {
                drop(self.below.flush().add_errback(|_| Ok(())));
                succeed(())
            }
            Fault::FlushesAlthoughItIsLost => self.below.flush().add_errback(|_| Ok(())),
            _ => self.below.flush(),
        }
    }

    fn limits(&self) -> Limits {
        match self.fault {
            Fault::ForgetsLimits => Limits::default(),
            _ => self.below.limits(),
        }
    }

    fn set_limits(&self, mut limits: Limits) {
        match self.fault {
            Fault::DoublesTheFlushLimit => limits.flush *= 2,
            Fault::ForgetsTheHardLimit => limits.unsent_max = Limits::default().unsent_max,
            _ => {}
        }
        self.below.set_limits(limits);
    }

    fn set_receiver(&self, receiver: Rc<dyn Receiver>) {
        if self.is(Fault::TellsOfTheEndAtOnce) && self.is_lost.get() {
            return receiver.connection_lost(ConnectionLost::Aborted);
        }
        let mut above = self.above.borrow_mut();
        let first = above.is_none();
        let another = !above.as_ref().is_some_and(|it| Rc::ptr_eq(it, &receiver));
        if first || !self.is(Fault::KeepsItsFirstReceiver) {
            *above = Some(Rc::clone(&receiver));
        }
        drop(above);
        let early = self.early.take();
        if !early.is_empty() && self.is(Fault::DeliversBeforeTheReceiverIsSet) {
            receiver.data_received(&early);
        }
        if first {
            self.below.set_receiver(self.strong());
        }
        if another && self.read_ended.get() && !self.is(Fault::KeepsAnEndToItself) {
            self.end_untold.set(true);
            self.tell_of_the_end_soon();
        }
        if another && self.choked.get() && !self.is(Fault::KeepsAPauseToItself) {
            self.choke_untold.set(true);
            let mutant = self.strong();
            self.socket().reactor().call_soon(move || {
                if mutant.choke_untold.take()
                    && let Some(receiver) = mutant.receiver()
                {
                    receiver.write_paused();
                }
            });
        }
    }

    fn socket(&self) -> &dyn Socket {
        match self.fault {
            Fault::ForgetsAddresses => self,
            _ => self.below.socket(),
        }
    }

    fn below(&self) -> Option<&Rc<dyn Stream>> {
        Some(&self.below)
    }
}

impl Socket for Mutant {
    fn peer(&self) -> Address {
        match self.is_lost.get() {
            true => Address::Named("forgotten".into()),
            false => self.below.socket().peer(),
        }
    }

    fn host(&self) -> Address {
        self.below.socket().host()
    }

    fn reactor(&self) -> Reactor {
        self.below.socket().reactor()
    }

    fn set_nodelay(&self, on: bool) {
        self.below.socket().set_nodelay(on);
    }
}

impl Receiver for Mutant {
    fn data_received(self: Rc<Self>, data: &[u8]) {
        let Some(receiver) = self.receiver() else {
            self.early.borrow_mut().extend_from_slice(data);
            return;
        };
        let _held = match self.fault {
            Fault::HoldsABorrowWhileItDelivers => Some(self.held.borrow()),
            _ => None,
        };
        self.delivering.set(true);
        match self.fault {
            Fault::SwapsTwoBytes if data.len() > 1 => {
                let mut data = data.to_vec();
                data.swap(0, 1);
                receiver.data_received(&data);
            }
            Fault::DeliversInHalvesWhateverHappens if data.len() > 1 => {
                let (first, second) = data.split_at(data.len() / 2);
                Rc::clone(&receiver).data_received(first);
                receiver.data_received(second);
            }
            Fault::IsDeafAfterAHalfClose if self.half_closed.get() => {}
            Fault::DeliversWhatWasTaken => {
                let all = [&self.early.take(), data].concat();
                receiver.data_received(&all);
            }
            _ => receiver.data_received(data),
        }
        self.delivering.set(false);
    }

    fn read_connection_lost(self: Rc<Self>) {
        self.read_ended.set(true);
        if let Some(receiver) = self.receiver() {
            if self.is(Fault::EndsAStreamTwice) {
                Rc::clone(&receiver).read_connection_lost();
            }
            receiver.read_connection_lost();
        }
    }

    fn write_paused(self: Rc<Self>) {
        self.choked.set(true);
        if let Some(receiver) = self.receiver() {
            receiver.write_paused();
        }
    }

    fn write_resumed(self: Rc<Self>) {
        self.choked.set(false);
        if self.choke_untold.take() {
            return;
        }
        let receiver = self.receiver();
        if let Some(receiver) = receiver.filter(|_| !self.is(Fault::NeverSaysThatItGoesOn)) {
            receiver.write_resumed();
        }
    }

    fn connection_lost(self: Rc<Self>, reason: ConnectionLost) {
        self.is_lost.set(true);
        let Some(receiver) = self.above.take() else {
            return;
        };
        let reason = self.reason.take().unwrap_or(reason);
        match (self.fault, reason) {
            (Fault::NeverTellsOfTheEnd, _) => {}
            (Fault::TellsOfTheEndTwice, reason) => {
                Rc::clone(&receiver).connection_lost(ConnectionLost::Done);
                receiver.connection_lost(reason);
            }
            (Fault::SaysDoneOfAnAbort, ConnectionLost::Aborted) => {
                receiver.connection_lost(ConnectionLost::Done);
            }
            (_, reason) => receiver.connection_lost(reason),
        }
    }
}

/// Both ends have the fault.
fn contract_of(fault: Fault) -> Contract {
    Contract::new(move || {
        let reactor = virtual_time_reactor();
        let pair = memory_pair(&reactor);
        pair.pump.set_chunks(Chunks::Of(1000));
        let [client, server] = [pair.client, pair.server].map(|stream| Mutant::over(stream, fault));
        Ends::new(reactor, client, server)
    })
    .volume(10_000)
}

#[test]
fn a_layer_without_a_fault_keeps_every_rule() {
    contract_of(Fault::Nothing).check();
}

#[test]
fn every_rule_catches_a_stream_that_breaks_it() {
    // A panic in a receiver is reported there, too.
    let (_, _silence) = count_unhandled();
    let mut escaped = Vec::new();
    for (fault, rule) in MUTANTS {
        let contract = contract_of(*fault);
        let outcome = catch_unwind(AssertUnwindSafe(|| contract.check_rule(rule)));
        match outcome {
            Ok(()) => escaped.push(format!("{fault:?} was not caught by {rule}")),
            Err(payload) => {
                let said = payload.downcast_ref::<String>().expect("a sentence");
                assert!(said.contains(rule), "{said}");
            }
        }
    }
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
}

#[test]
fn there_is_a_mutant_for_every_rule() {
    let covered: BTreeSet<&str> = MUTANTS.iter().map(|(_, rule)| *rule).collect();
    let rules: BTreeSet<&str> = Contract::rules().collect();
    assert_eq!(covered, rules);
}
