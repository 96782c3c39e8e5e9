"""The work of `bench-deferred` in Twisted, for orientation: CPU ns per link.

A long chain is one of 20,000 links here: Twisted takes each callback from the front of a list, which for a
million would take minutes.
"""

import sys
import time

from twisted.internet.defer import Deferred


def run(chains, links):
    for _ in range(chains):
        d = Deferred()
        out = []
        for _ in range(links):
            d.addCallback(lambda n: n + 1)
        d.addCallback(out.append)
        d.callback(0)
        assert out[0] == links


chains, links = {"short": (50_000, 3), "long": (20, 20_000)}[sys.argv[1]]
run(max(1, chains // 10), links)
before = time.process_time_ns()
run(chains, links)
print((time.process_time_ns() - before) / (chains * links))
