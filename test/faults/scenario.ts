/** One scenario from its start to its verdict. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { check, type Violation } from "./checker.ts"
import { type Figures, figures } from "./figures.ts"
import * as History from "./history.ts"
import type { Rules } from "./judging.ts"
import * as Load from "./load.ts"
import * as Processes from "./processes.ts"
import * as Rig from "./rig.ts"

export interface Scenario<P extends Rig.Place = Rig.Place> {
  readonly name: string
  /** What is done, in a few words. */
  readonly what: string
  /** How often, at scale 1. */
  readonly times: number
  readonly place: Effect.Effect<P, never, Scope.Scope>
  readonly chaos: (place: P, rig: Rig.Rig, run: Run) => Effect.Effect<void>
  /** Why it cannot run on this machine; `undefined` where it can. */
  readonly missing?: () => string | undefined
  readonly rules?: Pick<Rules, "deaths" | "trims">
  readonly load?: Partial<Load.WorkerSettings & Load.PublisherSettings & Omit<Load.TopicSettings, "name">>
}

export interface Run {
  readonly times: number
  /** Told after each time. */
  readonly progress: (done: number, times: number) => void
}

export interface Report {
  readonly name: string
  readonly figures: Figures
  readonly violations: ReadonlyArray<Violation>
  /** Everything about the messages of the first violations. */
  readonly table: string
  /** The ledgers and logs; kept where something was violated. */
  readonly dir: string
}

/** Makes a scenario of any place one that a list can hold. */
export const scenario = <P extends Rig.Place>(self: Scenario<P>): Scenario =>
  // the place that `chaos` is given is the one that `place` made
  self as unknown as Scenario

/** At least one time, however small the scale. */
export const times = ({ times }: Scenario, scale: number): number => Math.max(1, Math.round(times * scale))

export const run = (scenario: Scenario, options: Run): Effect.Effect<Report> =>
  Effect.scoped(
    Effect.gen(function* () {
      // removed behind the processes, which write into it to the end
      const dir = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), `clutch-faults-${scenario.name}-`))),
        (dir, exit) =>
          Effect.sync(() => {
            const interrupted = Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause)
            if (interrupted) rmSync(dir, { recursive: true, force: true })
          })
      )
      const {
        concurrency = 8,
        keyed,
        partitions,
        maxLength,
        rate = 150,
        timeout = 10_000,
        visibilityTimeout = 1000,
        work = 10
      } = scenario.load ?? {}
      yield* Processes.bundle(dir)
      const place = yield* scenario.place
      const rig = yield* Rig.make(place, {
        dir,
        namespace: `faults-${randomUUID().slice(0, 8)}`,
        workers: 3,
        topic: {
          name: "work",
          ...(maxLength === undefined ? {} : { maxLength }),
          ...(partitions === undefined ? {} : { partitions }),
          ...(keyed === undefined ? {} : { keyed })
        },
        worker: { concurrency, visibilityTimeout, work },
        publisher: { rate, timeout }
      })
      const history = yield* Effect.andThen(scenario.chaos(place, rig, options), rig.finish).pipe(
        Effect.catchDefect((defect) => Effect.die(new Error(`${String(defect)}; ledgers and logs: ${dir}`)))
      )
      const rules: Rules = {
        ...scenario.rules,
        subscriptions: Load.subscriptions,
        maxRetries: Load.maxRetries,
        fails: (sub, n) => sub === "billing" && Load.kindOf(n) === "always",
        keys: Rig.restingKeys(rig.options),
        ...(keyed === true ? { keyOf: Load.keyOf } : {})
      }
      const violations = check(history, rules)
      const worst = new Set(violations.slice(0, 3).flatMap(({ ns }) => ns))
      if (violations.length === 0) rmSync(dir, { recursive: true, force: true })
      return {
        name: scenario.name,
        figures: figures(history, rules),
        violations,
        table: History.table(history, worst),
        dir
      }
    })
  )
