// V8's WebAssembly in a worker of Node.js: the worker is terminated at the deadline, and V8 is told the most pages of
// memory and elements of tables before it compiles.

import { setFlagsFromString } from "node:v8";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { Ended, Harness, Unsupported } from "../lib/wire.mjs";

const PAGE = 65536;

function outcomeOf(error) {
  if (error instanceof WebAssembly.CompileError) return "module.malformed";
  if (error instanceof WebAssembly.LinkError || error instanceof TypeError) return "denied.import";
  if (/could not allocate memory|Out of memory/i.test(error.message)) return "limit.memory";
  if (/table/i.test(error.message)) return "limit.table";
  if (error instanceof RangeError && /call stack/i.test(error.message)) return "limit.stack";
  return "trap";
}

function number(value) {
  if (typeof value === "bigint") return { i64: String(value) };
  if (typeof value !== "number") return "opaque";
  // The engine does not say which kind it was.
  return Number.isInteger(value) && Math.abs(value) < 2 ** 31 ? { i32: String(value) } : { f64: String(value).replace("Infinity", "inf") };
}

/** Calls with each argument as a number or a BigInt: V8 does not tell which are 64-bit integers, and turns away what does not fit. */
function called(run, texts) {
  for (let bits = 0; ; bits++) {
    try {
      return run(...texts.map((text, at) => (bits & (1 << at) ? BigInt(text) : Number(text))));
    } catch (error) {
      const isUnfit = error instanceof TypeError || error instanceof SyntaxError;
      if (!isUnfit || bits + 1 >= 1 << texts.length) throw error;
    }
  }
}

function inWorker({ bytes, guest }) {
  const say = (message) => parentPort.postMessage(message);
  try {
    const module = new WebAssembly.Module(bytes);
    if (WebAssembly.Module.imports(module).some((each) => each.module === "stockade")) {
      return say({ unsupported: "Stockade's host functions" });
    }
    const functions = WebAssembly.Module.exports(module).filter((each) => each.kind === "function").map((each) => each.name);
    const names = WebAssembly.Module.exports(module).map((each) => each.name);
    if (guest.invoke === null && names.includes("input_ptr")) {
      return say({ unsupported: "the contract of input and output" });
    }
    say({ started: true });
    const instance = new WebAssembly.Instance(module, {});
    const name = guest.invoke ?? ["run", "_start"].find((each) => functions.includes(each));
    if (name === undefined) return say({ results: [] });
    if (!functions.includes(name)) return say({ ended: "contract.missing-export", detail: name });
    const run = instance.exports[name];
    const value = called(run, guest.arguments);
    const values = value === undefined ? [] : Array.isArray(value) ? value : [value];
    say({ results: values.map(number) });
  } catch (error) {
    say({ ended: outcomeOf(error), detail: String(error.message) });
  }
}

const harness = isMainThread ? new Harness() : null;

async function play(run, product) {
  const { guest, plan } = run;
  const bounds = plan?.bounds ?? {};
  if (bounds.growMemory != null) setFlagsFromString(`--wasm-max-mem-pages=${Math.floor(bounds.growMemory / PAGE)}`);
  if (bounds.growTable != null) setFlagsFromString(`--wasm-max-table-size=${bounds.growTable}`);
  const stackSizeMb = bounds.growStack == null ? undefined : Math.max(bounds.growStack / 2 ** 20, 0.25);
  const worker = new Worker(new URL(import.meta.url), {
    workerData: { bytes: Buffer.from(guest.module, "hex"), guest },
    resourceLimits: { stackSizeMb },
  });
  let isLate = false;
  await new Promise((resolve, reject) => {
    worker.on("error", (error) => reject(new Ended("limit.memory", String(error))));
    worker.on("exit", () => reject(isLate ? new Ended("limit.time", "terminated") : new Ended("host.internal", "the worker ended")));
    worker.on("message", (said) => {
      if (said.started) {
        harness.started();
        if (bounds.elapse != null) {
          setTimeout(() => {
            isLate = true;
            worker.terminate();
          }, bounds.elapse);
        }
      } else if (said.unsupported) reject(new Unsupported(said.unsupported));
      else if (said.ended) reject(new Ended(said.ended, said.detail));
      else {
        product.results = said.results;
        resolve();
      }
    });
  });
}

if (isMainThread) {
  const hello = {
    subject: "node-v8",
    version: `${process.versions.node} (V8 ${process.versions.v8})`,
    kinds: ["wasm"],
    meters: ["elapse", "growMemory", "growTable", "growStack"],
    actions: [],
  };
  await harness.serve(hello, play);
} else {
  inWorker(workerData);
}
