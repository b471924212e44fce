/**
 * The other process of a measurement that takes two: it publishes, step by step, when it is told to.
 */
import { fork } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { type Answer, type Figures, type Job, NotAvailable } from "./job.ts"

export interface Partner {
  /** Lets it do its next step, and resolves when it begins. */
  readonly next: () => Promise<void>
  /** What it found; rejects where it failed, whenever that was. */
  readonly answer: Promise<Figures>
}

/** Starts the publisher of a job. It ends with this process. */
export const partner = (job: Job): Partner => {
  const role: Job["role"] = "publisher"
  const child = fork(fileURLToPath(new URL("child.ts", import.meta.url)), [JSON.stringify({ ...job, role })])
  const waits: Array<() => void> = []
  let ready = 0
  const answer = new Promise<Figures>((resolve, reject) => {
    child.on("message", (message: Answer | "ready") => {
      if (message === "ready") {
        const waiting = waits.shift()
        if (waiting === undefined) ready += 1
        else waiting()
      } else if ("figures" in message) resolve(message.figures)
      else reject("unavailable" in message ? new NotAvailable(message.unavailable) : new Error(message.failed))
    })
    child.on("exit", (code) => reject(new Error(`the publisher ended with ${code}`)))
  })
  // it may fail before anybody looks
  answer.catch(() => {})
  const isReady = () =>
    ready > 0 ? Promise.resolve(void (ready -= 1)) : new Promise<void>((resolve) => waits.push(resolve))
  return {
    next: async () => {
      await Promise.race([isReady(), answer])
      child.send("go")
    },
    answer
  }
}

/** In the publisher: waits for the next step. */
export const turn = async (): Promise<void> => {
  process.send?.("ready")
  await once(process, "message")
}

/** The publisher of a row that has a warm-up: this topic, then that, and its own CPU for the second. */
export const publisher = async (
  job: Job,
  steps: readonly [warm: () => Promise<unknown>, main: () => Promise<unknown>]
): Promise<Figures> => {
  await turn()
  await steps[0]()
  await turn()
  const before = process.cpuUsage()
  await steps[1]()
  const { system, user } = process.cpuUsage(before)
  return { node: (system + user) / job.messages }
}

/** Calls so many times, evenly spread, without waiting for what was called. */
export const pace = async (perSecond: number, count: number, send: (i: number) => Promise<unknown>): Promise<void> => {
  const begun = performance.now()
  const sent: Array<Promise<unknown>> = []
  for (let i = 0; i < count; i++) {
    const wait = begun + (i * 1000) / perSecond - performance.now()
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait))
    sent.push(send(i))
  }
  await Promise.all(sent)
}
