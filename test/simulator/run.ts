/**
 * `pnpm simulate [histories] [seed]`: the long form, on all cores. Histories go out in portions, each with a seed of its
 * own, to a process a core; the first that breaks a promise is printed, and ends the run.
 */
import { fork } from "node:child_process"
import { availableParallelism } from "node:os"
import { Simulator } from "@clutch/core/testing"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Cause } from "effect"
import { commandLine } from "../support/commandLine.ts"

const portion = 500

interface Done {
  readonly report: Simulator.Report | undefined
  /** What broke. */
  readonly broken: string | undefined
  /** Seconds of CPU. */
  readonly seconds: number
}

const child = () => {
  // failures of handlers are kept as text with their stacks, which nobody reads here
  Error.stackTraceLimit = 0
  process.on("message", (seed: string) => {
    const before = process.cpuUsage()
    const checked = Simulator.check({ scenario: Simulator.mixed, histories: portion, seed })
    void Effect.runPromiseExit(checked).then((exit) => {
      const { system, user } = process.cpuUsage(before)
      const done: Done = {
        report: Exit.isSuccess(exit) ? exit.value : undefined,
        broken: Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : undefined,
        seconds: (user + system) / 1e6
      }
      process.send?.(done)
    })
  })
}

const medianOf = (numbers: ReadonlyArray<number>) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? 0

const usage = `pnpm simulate [HISTORIES] [SEED]

  HISTORIES   how many, in portions of ${portion}; default 20000
  SEED        another one makes other histories; default the time`

const parent = async () => {
  const { count, words } = commandLine(usage, 2)
  const [wanted = "20000", seed = `${Date.now()}`] = words
  const histories = Math.ceil(count("histories", wanted) / portion) * portion
  const portions = histories / portion
  const reports: Array<Simulator.Report> = []
  const began = performance.now()
  let next = 0
  let seconds = 0
  let broken: string | undefined

  const minutes = () => ((performance.now() - began) / 60_000).toFixed(1)
  const progress = () => {
    const line = `${reports.length * portion} of ${histories} histories, ${minutes()} min`
    if (process.stdout.isTTY) process.stdout.write(`\r${line}`)
    else if (reports.length % 20 === 0) console.log(line)
  }
  const work = () =>
    new Promise<void>((resolve, reject) => {
      const worker = fork(import.meta.filename, ["child"], {
        // histories are short: what they leave is swept cheaply where the nursery is large. Each process has a core of its
        // own, and none to spare for helpers of its collector
        execArgv: [
          ...process.execArgv,
          "--min-semi-space-size=64",
          "--max-semi-space-size=64",
          "--single-threaded-gc",
          // nobody follows what is asynchronous here: without these hooks no fiber that waits makes a resource for them
          "--import=data:text/javascript,process.getBuiltinModule = () => undefined"
        ]
      })
      const give = () => {
        if (broken !== undefined || next >= portions) return worker.disconnect()
        worker.send(`${seed}/${next++}`)
      }
      worker.on("message", ({ report, broken: problem, seconds: spent }: Done) => {
        seconds += spent
        if (report !== undefined) reports.push(report)
        broken ??= problem
        progress()
        give()
      })
      worker.on("error", reject)
      worker.on("exit", () => resolve())
      give()
    })
  await Promise.all(Array.from({ length: availableParallelism() }, work))
  if (broken !== undefined) {
    console.error(`\n${broken}`)
    process.exitCode = 1
    return
  }
  if (reports.length < portions) throw new Error("a process of the simulator ended before its work was done")
  const figure = (of: "workers" | "subscriptions" | "messages" | "faults" | "deliveries" | "millis") =>
    `${medianOf(reports.map((report) => report[of].median))} (${Math.min(...reports.map((report) => report[of].least))} to ${Math.max(...reports.map((report) => report[of].most))})`
  console.log(
    [
      "",
      `${histories} histories of seed "${seed}" kept the contract: ${minutes()} min, ${((seconds / histories) * 1000).toFixed(1)} ms of CPU each`,
      `median (least to most): ${figure("workers")} workers, ${figure("subscriptions")} subscriptions, ${figure("messages")} messages,`,
      `${figure("faults")} faults, ${figure("deliveries")} deliveries, ${figure("millis")} virtual ms`
    ].join("\n")
  )
}

if (process.argv[2] === "child") child()
else await parent()
