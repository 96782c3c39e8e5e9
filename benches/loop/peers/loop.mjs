// What bench-loop does with Torsade, with Node: `loop.mjs TABLE SIZE` prints the CPU time of a unit in
// nanoseconds and the peak memory in KiB. Counts its callbacks, and checks that none came early.
import fs from "node:fs";
import { Worker } from "node:worker_threads";

const [table, text] = process.argv.slice(2);
const size = Number(text);
let made = 0;

function demand(holds, what) {
  if (!holds) {
    console.error(what);
    process.exit(1);
  }
}

function report(before, units) {
  const used = process.cpuUsage(before);
  const peak = /VmHWM:\s+(\d+)/.exec(fs.readFileSync("/proc/self/status", "utf8"))[1];
  console.log(((used.user + used.system) * 1000) / units, peak);
}

let draws = 1n;
function draw() {
  draws = BigInt.asUintN(64, draws * 6364136223846793005n + 1442695040888963407n);
  return Number(draws >> 33n);
}

// A thousand a turn; the last of them makes the next thousand. A call has what `captured` holds.
function soon(units, captured) {
  let before;
  function call() { made++; }
  function capturing(thing, number) {
    if (thing.number !== number) demand(false, "it has what it was made with");
    made++;
  }
  function put() {
    if (captured) setImmediate(capturing, captured, captured.number);
    else setImmediate(call);
  }
  function last() {
    made++;
    if (made === units / 10) before = process.cpuUsage();
    if (made === units + units / 10) report(before, units);
    else begin();
  }
  function begin() {
    for (let i = 0; i < 999; i++) put();
    setImmediate(last);
  }
  begin();
}

function cancels(pending, atOnce, units = 200_000) {
  const delays = Array.from({ length: 1000 }, () => 30_000 + (draw() % 30_000_000) / 1000);
  let next = 0;
  const put = () => setTimeout(() => { made++; }, delays[next++ % 1000]);
  const queue = Array.from({ length: pending }, put);
  const before = process.cpuUsage();
  for (let i = 0; i < units; i++) {
    const timer = put();
    if (atOnce) clearTimeout(timer);
    else {
      clearTimeout(queue[i % pending]);
      queue[i % pending] = timer;
    }
  }
  report(before, units);
  process.exit(0);
}

function fires(count) {
  const window = count < 1_000_000 ? 100_000 : 1_000_000;
  // Node's timers count whole milliseconds, cut off, of a clock that is read once a turn.
  const delays = Array.from({ length: 10_000 }, () => 1 + Math.floor((draw() % window) / 1000));
  const before = process.cpuUsage();
  for (let i = 0; i < count; i++) {
    const delay = delays[i % 10_000];
    const deadline = performance.now() + delay;
    setTimeout(() => {
      demand(performance.now() >= deadline - 2, "a timer came early");
      if (++made === count) report(before, count);
    }, delay);
  }
}

// Messages of workers.
function fromThreads(count, units = 200_000) {
  const each = units / count;
  const text = `const { parentPort, workerData } = require("node:worker_threads");
    parentPort.once("message", () => { for (let i = 0; i < workerData; i++) parentPort.postMessage(i); });`;
  let ready = 0, before;
  const workers = Array.from({ length: count }, () => new Worker(text, { eval: true, workerData: each }));
  for (const worker of workers) {
    worker.on("message", number => {
      demand(number < each, "it brings what it was posted with");
      if (++made === units) {
        report(before, units);
        process.exit(0);
      }
    });
    // To start them is no part of it.
    worker.on("online", () => {
      if (++ready < count) return;
      before = process.cpuUsage();
      for (const each of workers) each.postMessage("begin");
    });
  }
}

if (table === "call_soon") soon(1_000_000);
else if (table === "call_soon_capturing") soon(1_000_000, { number: 1 });
else if (table === "timers_cancel") cancels(size, true);
else if (table === "timers_replace") cancels(size, false);
else if (table === "timers_fire") fires(size);
else if (table === "call_from_thread") fromThreads(size);
else demand(false, "there is no such table");
