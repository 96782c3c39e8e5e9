// The work of `bench-deferred` with native promises, for orientation: CPU ns per link.

async function run(chains, links) {
  for (let i = 0; i < chains; i++) {
    let resolve;
    let promise = new Promise((r) => { resolve = r; });
    for (let j = 0; j < links; j++) promise = promise.then((n) => n + 1);
    resolve(0);
    if ((await promise) !== links) throw new Error("wrong sum");
  }
}

const [chains, links] = { short: [200_000, 3], long: [3, 1_000_000] }[process.argv[2]];
await run(Math.ceil(chains / 10), links);
const before = process.cpuUsage();
await run(chains, links);
const used = process.cpuUsage(before);
console.log(((used.user + used.system) * 1000) / (chains * links));
