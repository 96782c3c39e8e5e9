"""The work of `bench-deferred` in asyncio, a task for each link: `asyncio_chain.py LINKS` prints CPU ns of a
link and the peak memory in KiB.
"""

import asyncio
import re
import sys
import time


async def link(before):
    return await before + 1


async def run(chains, links):
    loop = asyncio.get_running_loop()
    for _ in range(chains):
        first = last = loop.create_future()
        for _ in range(links):
            last = loop.create_task(link(last))
        await asyncio.sleep(0)
        first.set_result(0)
        assert await last == links


async def main():
    links = int(sys.argv[1])
    chains = max(1, 150_000 // links)
    await run(max(1, chains // 10), links)
    before = time.process_time_ns()
    await run(chains, links)
    took = time.process_time_ns() - before
    peak = re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]
    print(took / (chains * links), peak)


asyncio.run(main())
