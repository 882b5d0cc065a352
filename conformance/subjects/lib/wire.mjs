// An adapter's half of the protocol that docs/put-a-runtime-to-the-test.md describes, for adapters in JavaScript.

import { readSync, writeSync } from "node:fs";

/** The subject has no means for what the case needs; the message says what that would be. */
export class Unsupported extends Error {}

/** The guest was ended. */
export class Ended extends Error {
  constructor(outcome, detail = "") {
    super(detail);
    this.outcome = outcome;
  }
}

export class Harness {
  #unread = Buffer.alloc(0);
  case = null;

  say(message) {
    const line = Buffer.from(JSON.stringify(message) + "\n");
    for (let at = 0; at < line.length; ) {
      try {
        at += writeSync(1, line, at);
      } catch (error) {
        if (error.code !== "EAGAIN") throw error;
      }
    }
  }

  hear() {
    const chunk = Buffer.alloc(65536);
    for (;;) {
      const end = this.#unread.indexOf(10);
      if (end >= 0) {
        const line = this.#unread.subarray(0, end);
        this.#unread = this.#unread.subarray(end + 1);
        return JSON.parse(line.toString());
      }
      let count = 0;
      try {
        count = readSync(0, chunk);
      } catch (error) {
        if (error.code === "EAGAIN") continue;
        throw error;
      }
      if (count === 0) process.exit(0);
      this.#unread = Buffer.concat([this.#unread, chunk.subarray(0, count)]);
    }
  }

  /** The guest's first instruction comes next. */
  started() {
    this.say({ type: "started", case: this.case });
  }

  /** Says hello and plays one guest. */
  async serve(hello, play) {
    this.hear();
    this.say({ type: "hello", protocol: 1, ...hello });
    const run = this.hear();
    this.case = run.case;
    let done = { class: "completed", detail: "" };
    const product = {};
    try {
      await play(run, product);
    } catch (error) {
      if (error instanceof Unsupported) {
        this.say({ type: "unsupported", case: this.case, needs: error.message });
        process.exit(0);
      }
      if (!(error instanceof Ended)) throw error;
      done = { class: error.outcome, detail: error.message.slice(0, 500) };
    }
    this.say({ type: "done", case: this.case, ...done, ...product });
    process.exit(0);
  }
}
