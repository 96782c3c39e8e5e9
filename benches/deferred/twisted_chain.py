"""The work of `bench-deferred` in Twisted: `twisted_chain.py LINKS` prints CPU ns of a link and the
peak memory in KiB.
"""

import re
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


links = int(sys.argv[1])
chains = max(2, 150_000 // links)
run(max(1, chains // 10), links)
before = time.process_time_ns()
run(chains, links)
took = time.process_time_ns() - before
peak = re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]
print(took / (chains * links), peak)
