/**
 * Runs measurements in turn, on one server, each in a process of its own; every one once a round.
 */
import { ensureRedis } from "@clutch/test/support/ensure-redis"
import { startRedis } from "@clutch/test/support/redis"
import { type ChildProcess, fork } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { cpus, tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Answer, Job } from "./job.ts"
import type { Measurement } from "./measurements.ts"
import { keyOf, main, order, warm } from "./message.ts"
import type { Options } from "./options.ts"
import { type Asker, asker, fill } from "./wire.ts"

export interface Machine {
  readonly processor: string
  readonly cores: number
  readonly node: string
  readonly redis: string
}

export interface Rounds {
  readonly machine: Machine
  /** The answers of each measurement, a round each. */
  readonly answers: ReadonlyMap<Measurement, ReadonlyArray<Answer>>
  readonly seconds: number
}

const program = fileURLToPath(new URL("child.ts", import.meta.url))

/** A measurement that takes so long hangs, milliseconds. */
const patience = 180_000

const running = new Set<ChildProcess>()
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")))

const nameOf = ({ contestant, task }: Job): string => [...Object.values(task), contestant].join("-")

const inChild = (job: Job, cache: string, profile: string | undefined): Promise<Answer> =>
  new Promise((resolve) => {
    const child = fork(program, [JSON.stringify(job)], {
      execArgv: [
        "--conditions=@clutch/source",
        // else it is the size of the young generation that is measured, which the engine chooses by the machine
        ...(job.task.kind === "memory" ? ["--max-semi-space-size=16"] : []),
        ...(profile === undefined
          ? []
          : ["--cpu-prof", `--cpu-prof-dir=${profile}`, `--cpu-prof-name=${nameOf(job)}-${process.pid}.cpuprofile`])
      ],
      env: { ...process.env, NODE_ENV: "production", NODE_COMPILE_CACHE: cache, NODE_OPTIONS: "" }
    })
    running.add(child)
    const late = setTimeout(() => {
      resolve({ failed: `no answer within ${patience / 1000} seconds` })
      child.kill("SIGKILL")
    }, patience)
    child.on("message", (answer) => resolve(answer as Answer)) // what child.ts sends
    child.on("error", (error) => resolve({ failed: String(error) }))
    child.on("exit", (code, signal) => {
      clearTimeout(late)
      running.delete(child)
      resolve({ failed: `ended with ${signal ?? code} before it answered` })
    })
  })

const jobOf = ({ contestant, messages, task }: Measurement, share: number, port: number): Job => {
  const count = Math.ceil(messages * share)
  return { contestant, task, port, messages: count, warmup: Math.ceil(count / 10), role: "main" }
}

const prepare = async (admin: Asker, job: Job, backlog: boolean): Promise<void> => {
  await admin.ask("FLUSHALL", "SYNC")
  if (!backlog) return
  const entry = (i: number) => JSON.stringify(order(i))
  await fill(job.port, keyOf(warm), job.warmup, entry)
  await fill(job.port, keyOf(main), job.messages, entry)
}

/** What an answer is to the person who waits. */
const brief = (answer: Answer): string => {
  if ("failed" in answer) return `FAILED: ${answer.failed}`
  if ("unavailable" in answer) return `not measured: ${answer.unavailable}`
  return Object.entries(answer.figures)
    .map(([name, value]) => `${name} ${value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(2)}`)
    .join(", ")
}

const select = ({ quick, scenarios }: Options): ReadonlyArray<Measurement> => {
  const chosen = new Map<string, Measurement>()
  for (const { measurements } of scenarios) {
    for (const one of measurements) if (!(quick && one.slow)) chosen.set(one.id, chosen.get(one.id) ?? one)
  }
  return Array.from(chosen.values())
}

export const runRounds = async (options: Options): Promise<Rounds> => {
  ensureRedis()
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130))
  const begun = performance.now()
  const cache = mkdtempSync(join(tmpdir(), "clutch-bench-"))
  process.on("exit", () => rmSync(cache, { recursive: true, force: true }))
  const redis = await startRedis()
  const admin = await asker(redis.port)
  const version = /redis_version:(\S+)/.exec(await admin.ask("INFO", "server"))?.[1] ?? "unknown"
  console.log(`Redis ${version} on port ${redis.port}`)
  const answers = new Map<Measurement, Array<Answer>>()
  const measurements = select(options)
  for (let round = 0; round < options.rounds; round++) {
    // the other way round each time: what drifts then favours nobody
    for (const one of round % 2 === 0 ? measurements : measurements.toReversed()) {
      const job = jobOf(one, options.share, redis.port)
      await prepare(admin, job, one.backlog)
      const answer = await inChild(job, cache, options.profile)
      console.log(`${round + 1}/${options.rounds}  ${one.id}: ${brief(answer)}`)
      const all = answers.get(one)
      if (all === undefined) answers.set(one, [answer])
      else all.push(answer)
    }
  }
  const machine: Machine = {
    processor: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    node: process.version,
    redis: version
  }
  admin.close()
  await redis.stop()
  return { machine, answers, seconds: (performance.now() - begun) / 1000 }
}
