// The work of `bench-deferred` with native promises: `node_chain.mjs LINKS` prints CPU ns of a link
// and the peak memory in KiB.
import fs from "node:fs";

async function run(chains, links) {
  for (let i = 0; i < chains; i++) {
    let resolve;
    let promise = new Promise((r) => { resolve = r; });
    for (let j = 0; j < links; j++) promise = promise.then((n) => n + 1);
    resolve(0);
    if ((await promise) !== links) throw new Error("wrong sum");
  }
}

const links = Number(process.argv[2]);
const chains = Math.max(2, Math.floor(600_000 / links));
await run(Math.ceil(chains / 10), links);
const before = process.cpuUsage();
await run(chains, links);
const used = process.cpuUsage(before);
const peak = /VmHWM:\s+(\d+)/.exec(fs.readFileSync("/proc/self/status", "utf8"))[1];
console.log(((used.user + used.system) * 1000) / (chains * links), peak);
