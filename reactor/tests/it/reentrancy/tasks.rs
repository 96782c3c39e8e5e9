//! What the functions of tasks answer.

#![expect(
    clippy::unit_arg,
    reason = "what answers nothing is shown as what it answers"
)]

use torsade_deferred::Deferred;
use torsade_reactor::task::{
    Cooperator, LoopingCall, MissedTicks, TimerService, defer_later, react, react_with, sleep,
};

use super::rows::{FAR, Row, SOON, row, say};
use super::world::{Act, quiet};

/// One line a function. The order is that of the sources.
pub(super) const ROWS: &[Row] = &[
    // task/
    row(
        "task::sleep",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            drop(quiet(sleep(reactor, SOON).map(move |()| comes())));
            say(())
        }),
        ["(); silent", "", "(); called"],
    ),
    row(
        "task::defer_later",
        Act::Reactor(|world, reactor| {
            drop(quiet(defer_later(reactor, SOON, world.comes())));
            say(())
        }),
        ["(); silent", "", "(); called"],
    ),
    row(
        "task::react",
        Act::Reactor(|_, _| say(react(|_| ()))),
        [SUCCESS, "", SUCCESS],
    )
    .waits(),
    row(
        "task::react_with",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            say(react_with(reactor, move |_| comes()))
        }),
        [
            "ExitCode(unix_exit_status(0)); at once",
            "",
            "ExitCode(unix_exit_status(1)); silent",
        ],
    )
    .waits()
    .says_so(),
    row(
        "LoopingCall::new",
        Act::Reactor(|world, reactor| say(LoopingCall::new(reactor, world.comes()).is_running())),
        ["false; silent", "", "false; silent"],
    ),
    row(
        "LoopingCall::with_count",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            say(LoopingCall::with_count(reactor, move |_| comes()).is_running())
        }),
        ["false; silent", "", "false; silent"],
    ),
    row(
        "LoopingCall::with_handle",
        Act::Reactor(|world, reactor| {
            let comes = world.comes();
            say(LoopingCall::with_handle(reactor, move |_, _| comes()).is_running())
        }),
        ["false; silent", "", "false; silent"],
    ),
    row(
        "LoopingCall::start",
        Act::Looping(|_, looping| started(looping.start(SOON))),
        ["refused; called", "running; at once", "refused"],
    ),
    row(
        "LoopingCall::start_later",
        Act::Looping(|_, looping| started(looping.start_later(SOON))),
        ["refused; called", "running; called", "refused"],
    ),
    row(
        "LoopingCall::stop",
        Act::Looping(|_, looping| say(looping.stop())),
        ["true; silent", "false; silent", "true"],
    ),
    row(
        "LoopingCall::reset",
        Act::Looping(|_, looping| say(looping.reset())),
        ["true; called", "false; silent", "false"],
    ),
    row(
        "LoopingCall::set_interval",
        Act::Looping(|_, looping| say(looping.set_interval(FAR))),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "LoopingCall::interval",
        Act::Looping(|_, looping| say(looping.interval())),
        ["0ns; called", "0ns; silent", "0ns"],
    ),
    row(
        "LoopingCall::set_missed_ticks",
        Act::Looping(|_, looping| say(looping.set_missed_ticks(MissedTicks::default()))),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "LoopingCall::is_running",
        Act::Looping(|_, looping| say(looping.is_running())),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "TimerService::new",
        Act::Reactor(|world, reactor| {
            say(TimerService::new(SOON, reactor, world.comes()).is_running())
        }),
        ["false; silent", "", "false; silent"],
    ),
    row(
        "TimerService::start",
        Act::Service(|_, service| say(service.start().is_ok())),
        ["false; called", "true; at once", "false"],
    ),
    row(
        "TimerService::stop",
        Act::Service(|_, service| say(service.stop().is_fired())),
        ["true; silent", "true; silent", "false"],
    ),
    row(
        "TimerService::is_running",
        Act::Service(|_, service| say(service.is_running())),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "Cooperator::new",
        Act::Reactor(|_, reactor| say(Cooperator::new(reactor).is_running())),
        ["true", "", "true"],
    ),
    row(
        "Cooperator::unstarted",
        Act::Reactor(|_, reactor| say(Cooperator::unstarted(reactor).is_running())),
        ["false", "", "false"],
    ),
    row(
        "Cooperator::cooperate",
        Act::Cooperator(|world, cooperator| {
            let comes = world.comes();
            let task = cooperator.cooperate((0..2).map(move |_| comes()));
            let pending = !task.when_done().add_errback(|_| Ok(())).is_fired();
            say(pending)
        }),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "Cooperator::coiterate",
        Act::Cooperator(|world, cooperator| {
            let comes = world.comes();
            say(!quiet(cooperator.coiterate((0..2).map(move |_| comes()))).is_fired())
        }),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "Cooperator::set_slice",
        Act::Cooperator(|_, cooperator| say(cooperator.set_slice(SOON))),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "Cooperator::set_slice_end",
        Act::Cooperator(|_, cooperator| say(cooperator.set_slice_end(|| || true))),
        ["(); called", "(); silent", "()"],
    ),
    row(
        "Cooperator::start",
        Act::Cooperator(|_, cooperator| {
            cooperator.start();
            say(cooperator.is_running())
        }),
        ["true; called", "true; silent", "true"],
    ),
    row(
        "Cooperator::stop",
        Act::Cooperator(|_, cooperator| {
            cooperator.stop();
            say(cooperator.is_running())
        }),
        ["false; silent", "false; silent", "false"],
    ),
    row(
        "Cooperator::is_running",
        Act::Cooperator(|_, cooperator| say(cooperator.is_running())),
        ["true; called", "false; silent", "true"],
    ),
    row(
        "CooperativeTask::pause",
        Act::Task(|_, task| say(task.pause())),
        ["Ok(()); silent", "Err(Stopped); silent", "Ok(())"],
    ),
    row(
        "CooperativeTask::resume",
        Act::Task(|_, task| say(task.resume())),
        [
            "Err(NotPaused); called",
            "Err(Stopped); silent",
            "Err(NotPaused)",
        ],
    ),
    row(
        "CooperativeTask::stop",
        Act::Task(|_, task| say(task.stop())),
        ["Ok(()); silent", "Err(Stopped); silent", "Ok(())"],
    ),
    row(
        "CooperativeTask::when_done",
        Act::Task(|_, task| say(quiet(task.when_done()).is_fired())),
        ["false; called", "true; silent", "false"],
    ),
];

const SUCCESS: &str = "ExitCode(unix_exit_status(0))";

fn started(deferred: Deferred<LoopingCall>) -> String {
    let said = if deferred.is_fired() {
        "refused"
    } else {
        "running"
    };
    drop(quiet(deferred.map(drop)));
    said.into()
}
