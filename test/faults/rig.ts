/** What a scenario works with: processes on a place of its own, their ledgers, faults that are written down, and the end. */
import { DeadLetters, Subscription, type TransportError } from "@clutch/core"
import { RedisKeys, RedisTransport } from "@clutch/redis"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Redis } from "ioredis"
import { keysOf, xinfo } from "../cases/kit.ts"
import * as History from "./history.ts"
import * as Ledger from "./ledger.ts"
import * as Load from "./load.ts"
import * as Processes from "./processes.ts"

/** A Redis that a scenario may break. */
export interface Place {
  /** Where workers and publishers connect to. */
  readonly target: Load.Settings["target"]
  /** Where to look without being hit by the faults of a network. */
  readonly direct: Load.Settings["target"]
  readonly redis: Redis
}

export interface Options {
  readonly dir: string
  readonly namespace: string
  readonly workers: number
  readonly topic: Load.TopicSettings
  readonly worker: Load.WorkerSettings
  readonly publisher: Load.PublisherSettings
}

export interface Rig {
  readonly options: Options
  /** Workers that run now, frozen ones too. */
  readonly workers: () => ReadonlyArray<Processes.Process>
  /** Of these, those that have handled something. */
  readonly atWork: () => ReadonlyArray<Processes.Process>
  readonly startWorker: Effect.Effect<Processes.Process>
  /** SIGKILL, written down. */
  readonly kill: (worker: Processes.Process) => Effect.Effect<void>
  /** Does something, and writes down when it began and ended. */
  readonly fault: (
    what: Pick<History.Fault, "what" | "to" | "loses">,
    effect: Effect.Effect<{ readonly trimmed: number } | void>
  ) => Effect.Effect<void>
  /** All that was done so far. */
  readonly events: () => ReadonlyArray<Ledger.Event>
  /** Waits until it is so. Dies where nothing at all happens for a while. */
  readonly until: (what: string, check: () => boolean) => Effect.Effect<void>
  /** Waits until messages are handled, by each subscription, that were published after this call. */
  readonly untilHealed: Effect.Effect<void>
  /** Ends publishing, waits until all is settled, ends the workers, and tells how it all went. */
  readonly finish: Effect.Effect<History.History>
}

/** So long nothing happens at all: it never will. */
const stuckAfter = 45_000

const addresses = ({ topic }: Options) => Load.addresses(topic)

const keysOfGroup = ({ namespace, topic }: Options, subscription: string) =>
  RedisKeys.group(namespace, { topic: topic.name, partition: 0, subscription })

/** Keys that may be there when all is settled: a set of due retries would hold some. */
export const restingKeys = (options: Options): ReadonlyArray<string> =>
  Load.subscriptions.flatMap((subscription) => {
    const { bell, deadLetters, main, retry, state } = keysOfGroup(options, subscription)
    return [main, bell, retry, state, deadLetters]
  })

export const make = (place: Place, options: Options): Effect.Effect<Rig, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { dir, namespace } = options
    const scope = yield* Effect.scope
    const own = Ledger.open(dir, "rig")
    const tail = Ledger.tail(dir)
    const all: Array<Ledger.Event> = []
    const busy = new Set<string>()
    const workers = new Map<string, Processes.Process>()
    /** When something was last written. */
    let last = performance.now()
    let started = 0

    const poll = () => {
      for (const event of tail.poll()) {
        all.push(event)
        if (event.by !== "rig") last = performance.now()
        if (event.is === "started") busy.add(event.by)
      }
      return all
    }
    const untilOr = (check: () => boolean) =>
      Effect.promise(async () => {
        last = performance.now()
        while (!check()) {
          poll()
          if (performance.now() - last > stuckAfter) return false
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
        return true
      })
    const until = (what: string, check: () => boolean) =>
      Effect.flatMap(untilOr(check), (isSo) =>
        isSo ? Effect.void : Effect.die(new Error(`nothing happens, and still it is not so: ${what}`))
      )

    const settings = (by: string): Load.Settings => ({ ...options, by, target: place.target })
    const start = (program: "worker" | "publisher", by: string) =>
      Scope.provide(Processes.start(program, settings(by)), scope)
    const startWorker = Effect.suspend(() => {
      started += 1
      return Effect.tap(start("worker", `w${started}`), (worker) => Effect.sync(() => workers.set(worker.by, worker)))
    })
    const fault: Rig["fault"] = (what, effect) =>
      Effect.suspend(() => {
        const from = Ledger.now()
        return Effect.map(effect, (did) => own.write({ is: "fault", from, ...what, ...did }))
      })
    const kill = (worker: Processes.Process) =>
      fault(
        { what: "SIGKILL", to: worker.by },
        Effect.promise(async () => {
          workers.delete(worker.by)
          worker.signal("SIGKILL")
          await worker.ended
        })
      )

    const healed = (since: number) => {
      const fresh = new Set<number>()
      const seen = new Set<string>()
      for (const event of all) {
        if (event.is === "published" && event.how === "confirmed" && event.from >= since) {
          for (const n of event.ns) fresh.add(n)
        }
      }
      for (const event of all) {
        if (event.is === "ended" && event.at >= since && event.how === "succeeded" && fresh.has(event.n)) {
          seen.add(event.sub)
        }
      }
      return seen.size === Load.subscriptions.length
    }

    // --- the end -----------------------------------------------------------------------------------------------------

    const quiet = Logger.layer([])
    const looking = yield* Effect.orDie(
      Layer.build(Layer.fresh(RedisTransport.layer({ ...place.direct, namespace, connectionName: "rig" })))
    ).pipe(Effect.provide(quiet))
    /** As long as something happens, it may still come to rest. */
    const settled = Effect.suspend(() => {
      let done = false
      const waiting: Effect.Effect<void> = Effect.forEach(addresses(options), (one) => Subscription.awaitIdle(one), {
        discard: true
      }).pipe(
        Effect.provide(looking),
        Effect.catch(() =>
          Effect.andThen(
            Effect.sleep(200),
            Effect.suspend(() => waiting)
          )
        )
      )
      return Effect.raceFirst(
        Effect.as(waiting, true),
        untilOr(() => done)
      ).pipe(Effect.ensuring(Effect.sync(() => (done = true))))
    })

    const unsettled = Effect.forEach(addresses(options), (one) =>
      Effect.gen(function* () {
        const { due, pending, waiting } = yield* Subscription.stats(one)
        const retries = yield* Effect.promise(() => place.redis.xlen(keysOfGroup(options, one.name).retry))
        const counts = { waiting: Option.getOrElse(waiting, () => 0), pending, due, retries }
        return Object.entries(counts).flatMap(([what, count]) => (count === 0 ? [] : [`${one.name}: ${count} ${what}`]))
      })
    )
    const letters = Effect.forEach(addresses(options), (one) =>
      Stream.runCollect(
        Stream.map(DeadLetters.list(one), ({ attempts, raw, reason }) => ({
          sub: one.name,
          n: Number((JSON.parse(Buffer.from(raw).toString()) as { readonly n: unknown }).n), // as published
          reason,
          attempts
        }))
      )
    )
    const consumers = async () => {
      const names = new Set<string>()
      for (const subscription of Load.subscriptions) {
        const { main, mainGroup, retry, retryGroup, state } = keysOfGroup(options, subscription)
        for (const [key, group] of [
          [main, mainGroup],
          [retry, retryGroup]
        ] as const) {
          for (const { name } of await xinfo(place.redis, "CONSUMERS", key, group))
            if (name !== undefined) names.add(name)
        }
        for (const field of await place.redis.hkeys(state)) if (/^[a-z]:/.test(field)) names.add(field.slice(2))
      }
      names.delete(RedisKeys.released)
      return [...names]
    }

    const endWorkers = Effect.promise(async () => {
      const early = [...workers.values()].filter((worker) => worker.hasEnded()).map(({ by }) => `${by} ended by itself`)
      const codes = await Promise.all(
        [...workers.values()].map(async (worker) => {
          worker.signal("SIGTERM")
          return { by: worker.by, code: await worker.ended }
        })
      )
      return [...early, ...codes.flatMap(({ by, code }) => (code === 130 ? [] : [`${by} ended with ${code}`]))]
    })

    const finish: Effect.Effect<History.History, TransportError> = Effect.gen(function* () {
      publisher.endInput()
      yield* Effect.promise(() => publisher.ended)
      const isSettled = yield* settled
      const left = isSettled ? [] : [`not settled, and nothing happened for ${stuckAfter / 1000} s`]
      const ends = yield* endWorkers
      const rest: History.Rest = {
        unsettled: [...left, ...ends, ...(yield* unsettled).flat()],
        letters: (yield* letters).flat(),
        keys: yield* Effect.promise(() => keysOf(place.redis, namespace)),
        consumers: yield* Effect.promise(consumers),
        at: Ledger.now()
      }
      return History.make(poll(), rest)
    }).pipe(Effect.provide(looking))

    for (let i = 0; i < options.workers; i++) yield* startWorker
    const publisher = yield* start("publisher", "p1")
    yield* until("workers handle messages", () => busy.size > 0)
    return {
      options,
      workers: () => [...workers.values()],
      atWork: () => {
        poll()
        return [...workers.values()].filter(({ by }) => busy.has(by))
      },
      startWorker,
      kill,
      fault,
      events: poll,
      until,
      untilHealed: Effect.suspend(() => {
        const from = Ledger.now()
        return Effect.andThen(
          until("it works again", () => healed(from)),
          Effect.sync(() => own.write({ is: "healed", from }))
        )
      }),
      finish: Effect.orDie(finish)
    }
  })
