//! Watching descriptors: what is heard, when, and what may be done meanwhile.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{ErrorKind, PipeReader, Read, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use torsade_deferred::Failure;
use torsade_reactor::{Interest, Mode, Reactor, Watch};

use crate::common::{End, Log, PanicsWhenDropped, connect, count_unhandled, reactor, run_while};

fn turns(reactor: &Reactor, count: usize) {
    for _ in 0..count {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
}

/// A reader that counts how often it is called, and reads nothing.
fn counting(
    reactor: &Reactor,
    reader: PipeReader,
    mode: Mode,
) -> (Watch<PipeReader>, Rc<Cell<usize>>) {
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    let watch = reactor
        .watch(reader, Interest::Read, mode, move |_, readiness| {
            assert!(readiness.readable);
            counter.set(counter.get() + 1);
        })
        .unwrap();
    (watch, count)
}

#[test]
fn a_level_is_heard_in_every_turn_an_edge_and_a_one_shot_once() {
    for (mode, expected) in [(Mode::Level, 5), (Mode::Edge, 1), (Mode::OneShot, 1)] {
        let reactor = reactor();
        let (reader, mut writer) = pipe().unwrap();
        let (_watch, count) = counting(&reactor, reader, mode);
        turns(&reactor, 2);
        assert_eq!(count.get(), 0, "{mode:?}");
        writer.write_all(b"x").unwrap();
        turns(&reactor, 5);
        assert_eq!(count.get(), expected, "{mode:?}");
    }
}

#[test]
fn a_one_shot_hears_again_when_it_is_enabled_again() {
    let reactor = reactor();
    let (reader, mut writer) = pipe().unwrap();
    let (watch, count) = counting(&reactor, reader, Mode::OneShot);
    writer.write_all(b"x").unwrap();
    turns(&reactor, 3);
    assert!(!watch.is_enabled());
    watch.enable().unwrap();
    turns(&reactor, 3);
    assert_eq!(count.get(), 2);
}

#[test]
fn a_watch_at_rest_hears_nothing_not_even_the_end() {
    let reactor = reactor();
    let (reader, writer) = pipe().unwrap();
    let (watch, count) = counting(&reactor, reader, Mode::Level);
    watch.disable();
    watch.disable();
    drop(writer);
    turns(&reactor, 3);
    assert_eq!(count.get(), 0);
    watch.enable().unwrap();
    watch.enable().unwrap();
    turns(&reactor, 1);
    assert_eq!(count.get(), 1);
}

#[test]
fn removing_gives_the_source_back_and_is_final() {
    let reactor = reactor();
    let (reader, mut writer) = pipe().unwrap();
    let (watch, count) = counting(&reactor, reader, Mode::Level);
    writer.write_all(b"abc").unwrap();
    let mut reader = watch.remove().unwrap();
    assert!(watch.remove().is_none() && watch.source().is_none());
    watch.disable();
    watch.enable().unwrap();
    watch.set_interest(Interest::ReadWrite, Mode::Edge).unwrap();
    turns(&reactor, 3);
    assert_eq!(count.get(), 0);
    let mut text = [0; 3];
    reader.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"abc");
    // It can be watched again.
    assert!(reactor.add_reader(reader, |_| ()).is_ok());
}

#[test]
fn a_writer_is_heard_while_there_is_room_and_the_interest_can_change() {
    let (reactor, log) = (reactor(), Log::default());
    let (near, mut far) = UnixStream::pair().unwrap();
    let seen = log.clone();
    let watch = reactor
        .watch(near, Interest::Write, Mode::Level, move |_, readiness| {
            seen.add(format!("{} {}", readiness.readable, readiness.writable));
        })
        .unwrap();
    turns(&reactor, 2);
    log.check(["false true", "false true"]);
    watch.set_interest(Interest::Read, Mode::Level).unwrap();
    turns(&reactor, 2);
    far.write_all(b"x").unwrap();
    turns(&reactor, 1);
    log.check(["false true", "false true", "true false"]);
}

#[test]
fn a_watch_may_do_everything_to_itself_and_to_its_sibling() {
    type Deed = fn(&Watch<PipeReader>);
    let deeds: [(&str, Deed); 6] = [
        ("disable", Watch::disable),
        ("enable", |watch| drop(watch.enable())),
        ("set_interest", |watch| {
            drop(watch.set_interest(Interest::Read, Mode::OneShot))
        }),
        ("remove", |watch| drop(watch.remove())),
        ("remove and all else", |watch| {
            watch.remove();
            watch.disable();
            drop(watch.enable());
        }),
        ("look", |watch| {
            assert!(format!("{watch:?}").starts_with("Watch("))
        }),
    ];
    for (name, deed) in deeds {
        let reactor = reactor();
        let (unhandled, _guard) = count_unhandled();
        let removed = Rc::new(RefCell::new(None::<Watch<PipeReader>>));
        let siblings = Rc::new(RefCell::new(Vec::new()));
        let mut writers = Vec::new();
        for _ in 0..3 {
            let (reader, mut writer) = pipe().unwrap();
            writer.write_all(b"x").unwrap();
            writers.push(writer);
            let (all, gone) = (Rc::clone(&siblings), Rc::clone(&removed));
            let watch = reactor
                .add_reader(reader, move |own: &Watch<PipeReader>| {
                    deed(own);
                    let all: Vec<Watch<PipeReader>> = all.borrow().clone();
                    all.iter().for_each(deed);
                    let gone = gone.borrow().clone();
                    gone.iter().for_each(deed);
                })
                .unwrap();
            siblings.borrow_mut().push(watch);
        }
        let (reader, _writer) = pipe().unwrap();
        let watch = reactor.add_reader(reader, |_| ()).unwrap();
        watch.remove();
        removed.replace(Some(watch));
        turns(&reactor, 4);
        assert_eq!(unhandled.get(), 0, "{name}");
    }
}

#[test]
fn what_a_sibling_removes_in_the_same_turn_is_not_heard() {
    let (reactor, log) = (reactor(), Log::default());
    let watches = Rc::new(RefCell::new(Vec::<Watch<PipeReader>>::new()));
    let mut writers = Vec::new();
    for _ in 0..2 {
        let (reader, mut writer) = pipe().unwrap();
        writer.write_all(b"x").unwrap();
        writers.push(writer);
        let (all, seen) = (Rc::clone(&watches), log.clone());
        let watch = reactor.add_reader(reader, move |_| {
            seen.add("heard");
            let all = all.take();
            for watch in &all {
                watch.remove();
            }
        });
        watches.borrow_mut().push(watch.unwrap());
    }
    turns(&reactor, 3);
    log.check(["heard"]);
}

#[test]
fn an_event_never_reaches_a_new_watch_on_a_reused_number() {
    let (reactor, log) = (reactor(), Log::default());
    let (first, mut first_writer) = pipe().unwrap();
    let (second, mut second_writer) = pipe().unwrap();
    first_writer.write_all(b"x").unwrap();
    second_writer.write_all(b"x").unwrap();
    let second_watch = Rc::new(RefCell::new(None::<Watch<PipeReader>>));
    let (handle, found, seen) = (reactor.clone(), Rc::clone(&second_watch), log.clone());
    let kept = Rc::new(RefCell::new(Vec::new()));
    let keep = Rc::clone(&kept);
    reactor
        .add_reader(first, move |own| {
            own.remove();
            // Both are ready in this turn. This one closes the other, and its number goes to
            // a pipe that has nothing to read.
            if let Some(other) = found.take() {
                drop(other.remove());
                let (reader, writer) = pipe().unwrap();
                let seen = seen.clone();
                let watch = handle
                    .add_reader(reader, move |_| seen.add("an old event"))
                    .unwrap();
                keep.borrow_mut().push((watch, writer));
            }
        })
        .unwrap();
    let seen = log.clone();
    let watch = reactor
        .add_reader(second, move |own| {
            own.remove();
            seen.add("second went first");
        })
        .unwrap();
    second_watch.replace(Some(watch));
    turns(&reactor, 5);
    assert!(!log.lines().contains(&"an old event".to_owned()));
}

#[test]
fn regular_files_are_always_ready_in_both_directions() {
    let reactor = reactor();
    let count = Rc::new(Cell::new(0));
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    let counter = Rc::clone(&count);
    let watch = reactor
        .add_reader(file, move |_| counter.set(counter.get() + 1))
        .unwrap();
    turns(&reactor, 4);
    // In every turn but the one that it was added in front of, at the least.
    assert!(count.get() >= 3, "{}", count.get());
    watch.disable();
    let so_far = count.get();
    turns(&reactor, 3);
    assert_eq!(count.get(), so_far);
    watch.enable().unwrap();
    turns(&reactor, 3);
    assert!(count.get() > so_far);
}

#[test]
fn dev_null_can_be_watched() {
    let reactor = reactor();
    let heard = Rc::new(Cell::new(false));
    let flag = Rc::clone(&heard);
    let null = File::options().write(true).open("/dev/null").unwrap();
    let _watch = reactor.add_writer(null, move |_| flag.set(true)).unwrap();
    run_while(&reactor, || !heard.get());
}

#[test]
fn watching_a_descriptor_twice_is_an_error_that_gives_the_source_back() {
    let reactor = reactor();
    let (reader, _writer) = pipe().unwrap();
    let reader = Rc::new(reader);
    let _first = reactor.add_reader(Rc::clone(&reader), |_| ()).unwrap();
    let refused = reactor.add_reader(Rc::clone(&reader), |_| ()).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::AlreadyExists);
    assert!(Rc::ptr_eq(&refused.source, &reader));
    // `?` takes it, though the source is no error.
    let failure = Failure::from(refused);
    assert_eq!(
        failure.to_string().split(": ").next(),
        Some("cannot watch the descriptor")
    );
}

#[test]
fn a_panic_in_a_watch_removes_it_and_nothing_else() {
    let (reactor, log) = (reactor(), Log::default());
    let (unhandled, _guard) = count_unhandled();
    let (broken, mut broken_writer) = pipe().unwrap();
    let (healthy, mut healthy_writer) = pipe().unwrap();
    broken_writer.write_all(b"x").unwrap();
    healthy_writer.write_all(b"x").unwrap();
    let broken = reactor
        .add_reader(broken, |_| panic!("on purpose"))
        .unwrap();
    let seen = log.clone();
    let _healthy = reactor
        .add_reader(healthy, move |_| seen.add("heard"))
        .unwrap();
    turns(&reactor, 3);
    assert!(!broken.is_enabled());
    assert_eq!(unhandled.get(), 1);
    log.check(["heard", "heard", "heard"]);
}

#[test]
fn a_watch_may_be_removed_while_its_source_is_in_use() {
    let reactor = reactor();
    let (unhandled, _guard) = count_unhandled();
    let (end, other) = UnixStream::pair().unwrap();
    drop(other);
    let watch = reactor
        .add_reader(end, |watch| {
            // The usual way to write this.
            if let Some(source) = watch.source()
                && (&*source).read(&mut [0; 8]).unwrap() == 0
            {
                assert!(watch.remove().is_none(), "the source is held here");
            }
        })
        .unwrap();
    turns(&reactor, 1);
    assert_eq!(unhandled.get(), 0, "the callback panicked");
    assert!(watch.source().is_none());
}

#[test]
fn a_source_that_somebody_holds_stays_open_and_is_not_given_back() {
    let reactor = reactor();
    let (reader, mut writer) = pipe().unwrap();
    let watch = reactor.add_reader(reader, |_| ()).unwrap();
    let held = watch.source().unwrap();
    assert!(watch.remove().is_none());
    writer.write_all(b"abc").unwrap();
    let mut text = [0; 3];
    (&*held).read_exact(&mut text).unwrap();
    assert_eq!(&text, b"abc");
}

#[test]
fn what_is_always_ready_is_heard_once_a_turn_whatever_is_asked_of_its_watch() {
    let reactor = reactor();
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    let watch = reactor
        .add_reader(file, move |watch| {
            counter.set(counter.get() + 1);
            watch.set_interest(Interest::Read, Mode::Level).unwrap();
            watch.disable();
            watch.enable().unwrap();
        })
        .unwrap();
    for _ in 0..8 {
        watch.disable();
        watch.enable().unwrap();
        turns(&reactor, 1);
    }
    assert!((7..=8).contains(&count.get()), "{}", count.get());
}

#[test]
fn an_event_that_was_fetched_before_a_watch_was_enabled_anew_is_not_delivered_after() {
    type Anew = fn(&Watch<UnixStream>);
    let ways: [(&str, Anew); 2] = [
        ("enable", |watch| {
            watch.disable();
            watch.enable().unwrap();
        }),
        ("set_interest", |watch| {
            watch.enable().unwrap();
            watch.set_interest(Interest::Read, Mode::OneShot).unwrap();
        }),
    ];
    for (name, anew) in ways {
        let (reactor, log) = (reactor(), Log::default());
        let watches = Rc::new(RefCell::new(Vec::<Watch<UnixStream>>::new()));
        let mut writers = Vec::new();
        for _ in 0..2 {
            let (end, mut writer) = UnixStream::pair().unwrap();
            end.set_nonblocking(true).unwrap();
            writer.write_all(b"x").unwrap();
            writers.push(writer);
            let (all, seen) = (Rc::clone(&watches), log.clone());
            let watch = reactor
                .watch(end, Interest::Read, Mode::OneShot, move |_, _| {
                    // Takes what both got, and has both wait for the next.
                    for watch in all.borrow().iter() {
                        let source = watch.source().unwrap();
                        let outcome = (&*source).read(&mut [0; 8]);
                        seen.add(outcome.map_err(|error| error.kind()).unwrap_or(0));
                        anew(watch);
                    }
                })
                .unwrap();
            watches.borrow_mut().push(watch);
        }
        turns(&reactor, 3);
        assert_eq!(log.lines(), ["1", "1"], "{name}");
        for writer in &mut writers {
            writer.write_all(b"x").unwrap();
        }
        turns(&reactor, 3);
        assert_eq!(log.lines(), ["1"; 4], "{name}");
        watches.take();
    }
}

#[test]
fn a_watch_hears_only_of_what_it_is_interested_in() {
    let (reactor, log) = (reactor(), Log::default());
    let (end, other) = UnixStream::pair().unwrap();
    let seen = log.clone();
    let _watch = reactor
        .watch(end, Interest::Read, Mode::OneShot, move |_, readiness| {
            seen.add(format!("{} {}", readiness.readable, readiness.writable));
        })
        .unwrap();
    // The system then says that it is ready for everything.
    drop(other);
    turns(&reactor, 2);
    log.check(["true false"]);
}

#[test]
fn a_panic_in_the_drop_of_a_watch_leaves_the_loop_alone_and_spares_nobody_else() {
    let (reactor, log) = (reactor(), Log::default());
    let (unhandled, _guard) = count_unhandled();
    let (first, _first_writer) = pipe().unwrap();
    let bomb = PanicsWhenDropped;
    reactor
        .add_reader(first, move |_| drop_at_the_end(&bomb))
        .unwrap();
    let (second, mut second_writer) = pipe().unwrap();
    second_writer.write_all(b"x").unwrap();
    let bomb = PanicsWhenDropped;
    reactor
        .add_reader(second, move |_| {
            drop_at_the_end(&bomb);
            panic!("on purpose");
        })
        .unwrap();
    let (third, _third_writer) = pipe().unwrap();
    reactor
        .add_reader(Explosive(third, PanicsWhenDropped), |_| ())
        .unwrap();
    let pair = connect(&reactor, End::new("client", &log), End::new("server", &log));
    reactor.stop();
    reactor.run().unwrap();
    assert_eq!(log.lines().len(), 4, "{:?}", log.lines());
    assert_eq!(unhandled.get(), 4);
    drop(pair);
}

fn drop_at_the_end(_bomb: &PanicsWhenDropped) {}

/// A source whose end is a panic.
struct Explosive(PipeReader, PanicsWhenDropped);

impl AsFd for Explosive {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[test]
fn one_watch_hears_of_both_directions_and_each_interest_is_put_down_alone() {
    let (reactor, log) = (reactor(), Log::default());
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(b"x").unwrap();
    let seen = log.clone();
    let watch = reactor
        .watch(near, Interest::ReadWrite, Mode::Level, move |_, ready| {
            seen.add(format!("{} {}", ready.readable, ready.writable));
        })
        .unwrap();
    turns(&reactor, 1);
    watch.set_interest(Interest::Write, Mode::Level).unwrap();
    turns(&reactor, 1);
    watch.set_interest(Interest::Read, Mode::Level).unwrap();
    turns(&reactor, 1);
    log.check(["true true", "false true", "true false"]);
}
