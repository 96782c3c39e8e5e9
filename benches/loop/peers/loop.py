"""What bench-loop does with Torsade, with Python's loops: `loop.py asyncio|uvloop|twisted TABLE SIZE` prints the CPU
time of a unit in nanoseconds and the peak memory in KiB. Counts its callbacks, and checks that none came early.
"""

import os
import re
import socket
import sys
import threading
import time

who, table, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
made = 0
draws = 1


def fail(why):
    print(why, file=sys.stderr)
    sys.exit(1)


def draw():
    """A linear congruential generator (Knuth's MMIX), as in timers.rs."""
    global draws
    draws = (draws * 6364136223846793005 + 1442695040888963407) % 2**64
    return draws >> 33


def call():
    global made
    made += 1


if who == "twisted":
    from twisted.internet import reactor

    now = reactor.seconds
    call_later = reactor.callLater
    from_thread = reactor.callFromThread
    run, stop = reactor.run, reactor.stop

    def call_soon(function, *arguments):
        reactor.callLater(0, function, *arguments)

    def cancel(delayed):
        delayed.cancel()

    def first(function):
        reactor.callWhenRunning(function)

    def add_reader(descriptor, function):
        from twisted.internet.interfaces import IReadDescriptor
        from zope.interface import implementer

        @implementer(IReadDescriptor)
        class Descriptor:
            def fileno(self):
                return descriptor

            def logPrefix(self):
                return "bench"

            def doRead(self):
                function()

            def connectionLost(self, reason):
                pass

        reactor.addReader(Descriptor())
else:
    import asyncio

    if who == "uvloop":
        import uvloop as chosen
    else:
        chosen = asyncio
    loop = chosen.new_event_loop()
    now = loop.time
    call_later, call_soon, from_thread = loop.call_later, loop.call_soon, loop.call_soon_threadsafe
    run, stop = loop.run_forever, loop.stop

    def cancel(handle):
        handle.cancel()

    def first(function):
        loop.call_soon(function)

    add_reader = loop.add_reader


def report(before, units):
    report_cost((time.process_time_ns() - before) / units)


def report_cost(cost):
    peak = re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]
    print(cost, peak, flush=True)


class Captured:
    number = 1


def capturing(thing, number):
    global made
    if thing.number != number:
        fail("it has what it was made with")
    made += 1


def soon(units, captured=None, batch=1000):
    """A thousand a turn; the last of them makes the next thousand. A call has what is captured."""
    before = 0

    def last():
        nonlocal before
        call()
        if made == units // 10:
            before = time.process_time_ns()
        if made == units + units // 10:
            stop()
        else:
            begin()

    def begin():
        for _ in range(batch - 1):
            if captured:
                call_soon(capturing, captured, captured.number)
            else:
                call_soon(call)
        call_soon(last)

    first(begin)
    run()
    if made != units + units // 10:
        fail("each is called once")
    report(before, units)


def cancels(pending, at_once, units=20_000):
    def begin():
        queue = [call_later(30 + draw() % 30_000_000 / 1e6, call) for _ in range(pending)]
        before = time.process_time_ns()
        oldest = 0
        for _ in range(units):
            timer = call_later(30 + draw() % 30_000_000 / 1e6, call)
            if at_once or not queue:
                cancel(timer)
            else:
                cancel(queue[oldest])
                queue[oldest] = timer
                oldest = (oldest + 1) % pending
        report(before, units)
        stop()

    first(begin)
    run()


def fires(count):
    window = 100_000 if count < 1_000_000 else 1_000_000

    def fire(deadline):
        # uvloop's timers are whole milliseconds of a clock that is read once a turn.
        if now() < deadline - (0.0015 if who == "uvloop" else 0):
            fail("a timer came early")
        call()
        if made == count:
            stop()

    def begin():
        for _ in range(count):
            delay = draw() % window / 1e6
            call_later(delay, fire, now() + delay)

    before = time.process_time_ns()
    first(begin)
    run()
    if made != count:
        fail("each timer fires once")
    report(before, count)


def threads(count, units=100_000):
    each = units // count

    def taken(number):
        call()
        if made == each * count:
            stop()

    def post():
        for number in range(each):
            from_thread(taken, number)

    def begin():
        for thread in posters:
            thread.start()

    posters = [threading.Thread(target=post) for _ in range(count)]
    before = time.process_time_ns()
    first(begin)
    run()
    for thread in posters:
        thread.join()
    report(before, each * count)


def latency(awake, posts=1000):
    """By the wall clock, from the post to the call. Who posts sleeps between two posts: it would hold the
    interpreter's lock."""
    took = []

    def taken(posted):
        took.append(time.perf_counter_ns() - posted)
        heard.set()
        if len(took) == posts:
            stop()

    def post():
        for _ in range(posts):
            time.sleep(50e-6)
            heard.clear()
            from_thread(taken, time.perf_counter_ns())
            heard.wait()

    def again():
        call_soon(again)

    def begin():
        if awake:
            again()
        thread.start()

    heard, thread = threading.Event(), threading.Thread(target=post)
    first(begin)
    run()
    thread.join()
    warm = sorted(took[posts // 10 :])
    report_cost(warm[len(warm) // 2])


def turns(answers, units=20_000):
    """One descriptor that is always ready; or a socket, from which the callback reads what it sent itself."""
    before = 0
    if answers:
        near, far = socket.socketpair()
        near.setblocking(False)
        far.send(bytes(64))
        ready = near.fileno()
    else:
        ready = os.eventfd(1, os.EFD_NONBLOCK)

    def on_ready():
        nonlocal before
        if answers:
            message = near.recv(64)
            if len(message) != 64:
                fail("all of it comes")
            far.send(message)
        call()
        if made == units:
            before = time.process_time_ns()
        elif made == 2 * units:
            report(before, units)
            stop()

    first(lambda: add_reader(ready, on_ready))
    run()


if table == "call_soon":
    soon(100_000)
elif table == "call_soon_capturing":
    soon(100_000, Captured())
elif table == "timers_cancel":
    cancels(size, True)
elif table == "timers_replace":
    cancels(size, False)
elif table == "timers_fire":
    fires(size)
elif table == "call_from_thread":
    threads(size)
elif table == "latency":
    latency(size == 1)
elif table == "turn":
    turns(False)
elif table == "turn_answered":
    turns(True)
else:
    fail("there is no such table")
