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
  /** Of the server that has a key now. */
  readonly at: (key: string) => Promise<Redis>
  /** Of all servers that have keys of their own now. */
  readonly masters: () => Promise<ReadonlyArray<Redis>>
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
/** Nothing that is waited for takes so long, whatever happens meanwhile. */
const tooLong = "1 minute"

const within = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.timeoutOrElse(effect, {
    duration: tooLong,
    orElse: () => Effect.die(new Error(`not within ${tooLong}: ${what}`))
  })

const addresses = ({ topic }: Options) => Load.addresses(topic)

/** The keys of each subscription on each partition. */
const groups = ({ namespace, topic }: Options) =>
  Load.subscriptions.flatMap((subscription) =>
    Array.from({ length: topic.partitions ?? 1 }, (_, partition) => ({
      subscription,
      ...RedisKeys.group(namespace, { topic: topic.name, partition, subscription })
    }))
  )

/** Keys that may be there when all is settled: a set of due retries would hold some. */
export const restingKeys = (options: Options): ReadonlyArray<string> => [
  RedisKeys.topic(options.namespace, options.topic.name).meta,
  ...groups(options).flatMap(({ bell, deadLetters, main, owners, retry, state }) => [
    main,
    bell,
    retry,
    state,
    deadLetters,
    owners
  ])
]

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
      Effect.promise(async (signal) => {
        last = performance.now()
        while (!check()) {
          poll()
          if (signal.aborted || performance.now() - last > stuckAfter) return false
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
        return true
      })
    const until = (what: string, check: () => boolean) =>
      within(
        what,
        Effect.flatMap(untilOr(check), (isSo) =>
          isSo ? Effect.void : Effect.die(new Error(`nothing happens, and still it is not so: ${what}`))
        )
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
        return Effect.map(within(what.what, effect), (did) => own.write({ is: "fault", from, ...what, ...did }))
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

    /** Looks at what was written since it was made: whether each subscription has handled what was published since. */
    const healing = (since: number) => {
      let looked = all.length
      const fresh = new Set<number>()
      const handled = new Map<number, Set<string>>()
      const seen = new Set<string>()
      return () => {
        for (; looked < all.length; looked++) {
          const event = all[looked]
          if (event?.is === "published" && event.how === "confirmed" && event.from >= since) {
            for (const n of event.ns) {
              fresh.add(n)
              for (const sub of handled.get(n) ?? []) seen.add(sub)
            }
          }
          // a handler may be read of before the publisher is, as they write to two files
          if (event?.is !== "ended" || event.how !== "succeeded" || event.at < since) continue
          if (fresh.has(event.n)) seen.add(event.sub)
          handled.set(event.n, (handled.get(event.n) ?? new Set()).add(event.sub))
        }
        return seen.size === Load.subscriptions.length
      }
    }

    // --- the end -----------------------------------------------------------------------------------------------------

    const quiet = Logger.layer([])
    const looking = yield* Effect.orDie(
      Layer.build(Layer.fresh(RedisTransport.layer({ ...place.direct, namespace, connectionName: "rig" })))
    ).pipe(Effect.provide(quiet))
    /** It may take as long as what went before, and some; and no longer, whatever still happens. */
    const settled = Effect.suspend(() => {
      const begun = all[0]?.at ?? Ledger.now()
      const end = Ledger.now() + Math.max(Ledger.now() - begun, 60e6)
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
        Effect.as(
          untilOr(() => Ledger.now() > end),
          false
        )
      )
    })

    const unsettled = Effect.gen(function* () {
      const left: Array<string> = []
      for (const one of addresses(options)) {
        const { due, pending, waiting } = yield* Subscription.stats(one)
        for (const [what, count] of Object.entries({ due, pending, waiting: Option.getOrElse(waiting, () => 0) })) {
          if (count > 0) left.push(`${one.name}: ${count} ${what}`)
        }
      }
      for (const { retry } of groups(options)) {
        const count = yield* Effect.promise(async () => (await place.at(retry)).xlen(retry))
        if (count > 0) left.push(`${retry}: ${count}`)
      }
      return left
    })
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
      for (const { main, mainGroup, retry, retryGroup, state } of groups(options)) {
        const redis = await place.at(main)
        const rows = [
          ...(await xinfo(redis, "CONSUMERS", main, mainGroup)),
          ...(await xinfo(redis, "CONSUMERS", retry, retryGroup))
        ]
        for (const { name } of rows) if (name !== undefined) names.add(name)
        for (const field of await redis.hkeys(state)) if (/^[a-z]:/.test(field)) names.add(field.slice(2))
      }
      names.delete(RedisKeys.released)
      return [...names]
    }
    const keys = async () =>
      (await Promise.all((await place.masters()).map((redis) => keysOf(redis, namespace)))).flat()

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
      yield* within(
        "the publisher ends",
        Effect.promise(() => publisher.ended)
      )
      const isSettled = yield* settled
      const left = isSettled ? [] : ["it never came to rest"]
      const ends = yield* within("the workers end", endWorkers)
      const rest: History.Rest = {
        unsettled: [...left, ...ends, ...(yield* unsettled)],
        letters: (yield* letters).flat(),
        keys: yield* Effect.promise(keys),
        consumers: yield* Effect.promise(consumers),
        at: Ledger.now()
      }
      return History.make(poll(), rest)
    }).pipe(Effect.provide(looking))

    for (let i = 0; i < options.workers; i++) yield* startWorker
    const publisher = yield* start("publisher", "p1")
    // one that is still joining would end by the first fault, as it should
    yield* until("each worker handles messages", () => busy.size >= options.workers)
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
          until("it works again", healing(from)),
          Effect.sync(() => own.write({ is: "healed", from }))
        )
      }),
      finish: Effect.orDie(finish)
    }
  })
