/**
 * The log in this process's memory: for tests, for examples, and for programs that need no more than one process.
 *
 * It keeps the whole contract of `Transport` on Effect's Clock alone: under TestClock hours of backoff pass in
 * milliseconds, and the same program takes the same steps each time. Nothing polls; whoever waits is woken by the change
 * that it waits for.
 *
 * What it does not promise: that anything outlives the process. A topic without retention keeps all of its messages.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Result from "effect/Result"
import { InvalidOption, NoSubscription, Refused, TransportError } from "./Errors.ts"
import { Bells } from "./internal/memoryBells.ts"
import { join } from "./internal/memoryConsumer.ts"
import { type Snapshot, snapshotOf } from "./internal/memorySnapshot.ts"
import { payloadOf, Store, streamName } from "./internal/memoryStore.ts"
import { parseId } from "./internal/memoryStructures.ts"
import { enroll } from "./internal/memoryWorker.ts"
import { Reclaimer } from "./Reclaimer.ts"
import { type Content, type Group, type Inspection, type Log, type Tended, Transport } from "./Transport.ts"

// -----------------------------------------------------------------------------
// the service
// -----------------------------------------------------------------------------

/** The key under which the service carries what is behind it, so that a copy with other methods still shows it. */
const Inside = Symbol.for("@clutch/core/MemoryTransport/Inside")

class Backing {
  readonly bells = new Bells()
  readonly store = new Store(this.bells)
}

/**
 * A log of its own, empty.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<Transport["Service"]> = /* @__PURE__ */ Effect.sync(() => {
  const backing = new Backing()
  const { bells, store } = backing
  const service: Transport["Service"] = {
    namespace: "clutch",
    system: "memory",
    stream: (log) => streamName(log),
    publish: (address, messages, retention, replication) =>
      bells.step((now) => {
        const log = store.ensureLog(address, false)
        const ids = messages.map((message) => log.append(payloadOf(message), now))
        const trimmed = log.trim(retention, now)
        log.touch(bells, store.tendersOf(address))
        // nothing outlives this process, and no replica could change that
        const replicated = replication && { confirmed: replication.replicas, problem: undefined }
        return { ids, trimmed, replicated }
      }),
    join: (options) => join(store, bells, options),
    enroll: (options) => enroll(store, bells, options),
    partitions: (topic, partitions) => bells.step(() => store.partitions(topic, partitions)),
    repartition: (topic, change) => bells.step(() => store.repartition(topic, change)),
    tend: (address) =>
      Effect.flatMap(
        bells.step((now) => store.group(address)?.tend(now)),
        (result) => {
          if (result === undefined) return Effect.succeed(nothingToTend)
          return result.dropped === 0
            ? Effect.succeed(result.tended)
            : Effect.as(warnDropped(address, result.dropped), result.tended)
        }
      ),
    watch: (log, changed) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          // a function of its own, so that one callback registered twice is two
          const listener = () => changed()
          store.tendersOf(log).listeners.add(listener)
          return listener
        }),
        (listener) => Effect.sync(() => store.tendersOf(log).listeners.delete(listener))
      ),
    trim: (address) =>
      bells.step(() => {
        const log = store.log(address)
        if (log === undefined) return { trimmed: 0, more: false }
        log.trimmed = true
        return { trimmed: log.trimSettled(), more: false }
      }),
    groups: (address) =>
      bells.step((now) =>
        Array.from(store.log(address)?.groups.values() ?? [], (group) => group.standing(now)).toSorted((a, b) =>
          a.name < b.name ? -1 : 1
        )
      ),
    removeGroup: (address) =>
      Effect.suspend(() => Effect.flatten(bells.step((now) => removeGroup(store, bells, address, now)))),
    inspect: (address) =>
      bells.step(
        () => store.group(address)?.inspect() ?? { ...nothingToSee, deadLetters: store.deadLetters(address)?.size ?? 0 }
      ),
    lastId: (address) => bells.step(() => store.log(address)?.ids.last ?? "0-0"),
    outstanding: (address, options) => {
      const through = parseId(options.through)
      if (through === undefined) return Effect.fail(invalidThrough(options.through))
      return Effect.withFiber((fiber) => {
        const group = store.group(address)
        if (group === undefined) return Effect.fail(noSubscription(address))
        group.asked.set(fiber, group.version)
        return Effect.succeed(bells.stepUnsafe(fiber, (now) => group.outstanding(through, options.due, now)))
      })
    },
    progress: (address) =>
      Effect.withFiber((fiber) => {
        const group = store.group(address)
        if (group === undefined) return Effect.void
        const seen = group.asked.get(fiber) ?? group.version
        return bells.wait(group.progress, () => group.version !== seen)
      }),
    deadLetters: {
      page: (address, { after, limit }) => {
        const behind = after === undefined ? undefined : parseId(after)
        return bells.step(() => store.deadLetters(address)?.page(behind, limit) ?? [])
      },
      get: (address, id) => bells.step(() => store.deadLetters(address)?.get(id) ?? Option.none()),
      count: (address) => bells.step(() => store.deadLetters(address)?.size ?? 0),
      redrive: (address, ids, delay) => bells.step((now) => store.group(address)?.redrive(ids, delay, now) ?? 0),
      discard: (address, ids) =>
        bells.step(() => {
          const deadLetters = store.deadLetters(address)
          return ids.filter((id) => deadLetters?.remove(id) !== undefined).length
        })
    }
  }
  return Object.assign(service, { [Inside]: backing })
})

const removeGroup = (
  store: Store,
  bells: Bells,
  address: Group,
  now: number
): Effect.Effect<Option.Option<Inspection>, TransportError> => {
  const log = store.log(address)
  const group = log?.groups.get(address.subscription)
  if (log === undefined || group === undefined) return Effect.succeedNone
  const living = group.living(now)
  if (living > 0) {
    const detail = `group "${address.subscription}" has ${living} living consumers: stop them first`
    return Effect.fail(new TransportError({ operation: "removeGroup", reason: new Refused({ detail }) }))
  }
  const removed = group.inspect()
  store.removeGroup(log, group)
  bells.ring(store.tendersOf(address))
  return Effect.succeedSome(removed)
}

const nothingToTend: Tended = { moved: 0, reclaimed: 0, removed: 0, poison: 0, next: Option.none() }

const nothingToSee: Inspection = {
  waiting: Option.none(),
  pending: 0,
  due: 0,
  deadLetters: 0,
  heldBack: 0,
  parked: 0,
  oldestHeldBack: Option.none()
}

const warnDropped = ({ topic, subscription }: Group, dropped: number) =>
  Effect.logWarning("dropped deliveries whose consumer died: the retention had trimmed them").pipe(
    Effect.annotateLogs({ topic, subscription, dropped })
  )

const noSubscription = ({ topic, subscription }: Group) =>
  new TransportError({ operation: "outstanding", reason: new NoSubscription({ topic, subscription }) })

const invalidThrough = (id: string) =>
  new TransportError({
    operation: "outstanding",
    reason: new InvalidOption({ option: "through", problem: `${JSON.stringify(id)} is no entry id` })
  })

// -----------------------------------------------------------------------------
// layers
// -----------------------------------------------------------------------------

/**
 * The log without anybody who tends it: retries stay where they are, and the dead keep what they held, until `tend` is
 * called or a `Reclaimer` is built over it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerTransport: Layer.Layer<Transport> = /* @__PURE__ */ Layer.effect(Transport, make)

/**
 * The log and its reclaimer. All who are given this layer in one build share one log.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Transport | Reclaimer> = /* @__PURE__ */ Layer.provideMerge(
  Reclaimer.layer,
  layerTransport
)

// -----------------------------------------------------------------------------
// testing
// -----------------------------------------------------------------------------

const backingOf = (transport: object): Backing => {
  const backing: unknown = Inside in transport ? transport[Inside] : undefined
  if (backing instanceof Backing) return backing
  throw new Error("this Transport is not a MemoryTransport, nor a copy of one: provide MemoryTransport.layer")
}

export type { GroupSnapshot, LogSnapshot, Snapshot } from "./internal/memorySnapshot.ts"

/**
 * What the in-memory log behind the Transport holds now. A Transport made of another one's fields (`{ ...transport,
 * join }`) shows what is behind that. Any other Transport is a defect.
 *
 * @category testing
 * @since 0.1.0
 */
export const snapshot: Effect.Effect<Snapshot, never, Transport> = /* @__PURE__ */ Effect.gen(function* () {
  const { store } = backingOf(yield* Transport)
  return snapshotOf(store)
})

/**
 * The subscription's group disappears, as an operator or a failover makes it, and is there again by itself (contract 9). It
 * goes on from the first message that it had not settled: that one and all behind it come again, what it had settled there
 * included. Its retries and dead letters stay. Returns the ids of what comes again; none where there is no such group.
 *
 * @category testing
 * @since 0.1.0
 */
export const loseGroup = (group: Group): Effect.Effect<ReadonlyArray<string>, never, Transport> =>
  Effect.gen(function* () {
    const { bells, store } = backingOf(yield* Transport)
    return yield* bells.step(() => store.group(group)?.disappear() ?? [])
  })

/**
 * Appends an entry that no publisher and no failure would make: bytes that are no JSON, or content that cannot be read.
 * With a `Group` it goes to the retry log of the subscription, which must have been started, as a first attempt; with a
 * `Log` to the topic's own. Returns the entry's id.
 *
 * @category testing
 * @since 0.1.0
 */
export const appendRaw = (
  to: Log | Group,
  entry: {
    /** What a consumer is told: the data, or a sentence on why it cannot be read. */
    readonly content: Result.Result<Content, string>
    /** What a dead letter keeps. */
    readonly raw: Uint8Array
  }
): Effect.Effect<string, TransportError, Transport> =>
  Effect.gen(function* () {
    const { bells, store } = backingOf(yield* Transport)
    const payload = { content: entry.content, raw: entry.raw.slice() }
    if (!("subscription" in to)) {
      return yield* bells.step((now) => {
        const log = store.ensureLog(to, false)
        const id = log.append(payload, now)
        log.touch(bells, store.tendersOf(to))
        return id
      })
    }
    const id = yield* bells.step((now) => store.group(to)?.appendRaw(payload, now))
    return id ?? (yield* noSubscription(to))
  })
