import * as MemoryTransport from "@clutch/core/MemoryTransport"
import { Reclaimer } from "@clutch/core/Reclaimer"
import {
  type Consumer,
  type Entry,
  type FetchLimit,
  type Outcome,
  type Settled,
  Transport
} from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"

// -----------------------------------------------------------------------------
// the words of these tests
// -----------------------------------------------------------------------------

const orders = { topic: "orders", partition: 0 }
const billing = { ...orders, subscription: "billing" }
const shipping = { ...orders, subscription: "shipping" }
const everything = { maxLength: undefined, maxAge: undefined }
const free: FetchLimit = { count: 100, bytes: Infinity, alone: false, maxAttempts: 6 }
const alone: FetchLimit = { ...free, alone: true }

const publish = (...data: readonly [string, ...ReadonlyArray<string>]) => publishKeeping(everything, ...data)
const publishKeeping = (
  retention: { readonly maxLength: number | undefined; readonly maxAge: Duration.Duration | undefined },
  ...[first, ...others]: readonly [string, ...ReadonlyArray<string>]
) =>
  Transport.use((transport) =>
    transport.publish(
      orders,
      [{ data: first, attributes: undefined }, ...others.map((data) => ({ data, attributes: undefined }))],
      retention
    )
  )

type Joining = Partial<Parameters<Transport["Service"]["join"]>[0]>
const joinOnly = (options: Joining = {}) =>
  Transport.use((transport) =>
    transport.join({
      group: billing,
      consumer: undefined,
      visibilityTimeout: Duration.seconds(30),
      from: "new",
      ownConnection: false,
      ...options
    })
  )
const join = (options: Joining = {}) => Effect.tap(joinOnly(options), (consumer) => Effect.sync(() => consumer.keep()))

/** A consumer whose Scope the test closes. */
const joinIn = (scope: Scope.Scope, options: Joining = {}) => Scope.provide(join(options), scope)

const take = (consumer: Consumer, limit: Partial<FetchLimit> = {}) =>
  Effect.map(consumer.fetch({ ...free, ...limit }), ({ entries }) => entries)
const takeOne = (consumer: Consumer, limit: Partial<FetchLimit> = {}) =>
  Effect.map(take(consumer, { count: 1, ...limit }), (entries) => {
    const [entry] = entries
    assert(entry !== undefined && entries.length === 1)
    return entry
  })

const settle = (consumer: Consumer, entry: Entry, outcome: Outcome, repeated = false) =>
  Effect.map(
    consumer.settle([{ entry, outcome, repeated }]),
    ([settled]): Settled => settled ?? assert.fail("no answer")
  )
const ack: Outcome = { _tag: "Ack" }
const release: Outcome = { _tag: "Release" }
const retry = (delay: Duration.Input): Outcome => ({
  _tag: "Retry",
  delay: Duration.fromInputUnsafe(delay),
  cause: "it failed"
})
const deadLetter: Outcome = { _tag: "DeadLetter", reason: "exhausted", cause: "it failed", attempts: 1 }

const tend = Transport.use((transport) => transport.tend(billing))
const nextTending = Effect.map(tend, ({ next }) => Option.map(next, Duration.toMillis))
const outstanding = (through: string, due: "wait" | "ignore" = "wait") =>
  Transport.use((transport) => transport.outstanding(billing, { through, due }))
const inspect = Transport.use((transport) => transport.inspect(billing))
const deadLetters = Transport.use((transport) => transport.deadLetters.page(billing, { after: undefined, limit: 100 }))

const dataOf = (entry: { readonly content: Entry["content"] }): string =>
  Result.match(entry.content, {
    onSuccess: ({ data }) => new TextDecoder().decode(data),
    onFailure: (problem) => `unreadable: ${problem}`
  })
const datas = (entries: ReadonlyArray<Entry>) => entries.map(dataOf)

/** Settles one delivery as dead letter, and lets a consumer of it remain. */
const die = Effect.fnUntraced(function* (...data: readonly [string, ...ReadonlyArray<string>]) {
  const consumer = yield* join({ from: "beginning" })
  yield* publish(...data)
  for (const entry of yield* take(consumer, { count: data.length })) yield* settle(consumer, entry, deadLetter)
  return consumer
})

/** A test body over a log of its own. */
const given =
  <Eff extends Effect.Effect<unknown, unknown, Transport | Scope.Scope>>(body: () => Generator<Eff, void, never>) =>
  () =>
    Effect.provide(Effect.gen(body), MemoryTransport.layerTransport)

// -----------------------------------------------------------------------------

describe("MemoryTransport", () => {
  describe("publishing", () => {
    it.effect(
      "names entries by the clock, and only upwards while it steps back",
      given(function* () {
        yield* TestClock.setTime(5_000)
        const first = yield* publish("1", "2")
        yield* TestClock.setTime(3_000)
        const second = yield* publish("3")
        assert.deepStrictEqual([...first.ids, ...second.ids], ["5000-0", "5000-1", "5000-2"])
        const transport = yield* Transport
        assert.strictEqual(yield* transport.lastId(orders), "5000-2")
        assert.strictEqual(yield* transport.lastId({ ...orders, topic: "other" }), "0-0")
      })
    )

    it.effect(
      "never names an entry 0-0, which says that there is none",
      given(function* () {
        assert.deepStrictEqual((yield* publish("1")).ids, ["0-1"])
      })
    )

    it.effect(
      "keeps data and attributes as they were when published",
      given(function* () {
        const consumer = yield* join()
        const headers = { tenant: "a" }
        const transport = yield* Transport
        yield* transport.publish(
          orders,
          [{ data: '"ü\u{1f95a}\\u0000"', attributes: { subject: "s", headers } }],
          everything
        )
        headers.tenant = "b"
        const entry = yield* takeOne(consumer)
        assert.deepStrictEqual(
          entry.content,
          Result.succeed({
            data: new TextEncoder().encode('"ü\u{1f95a}\\u0000"'),
            attributes: { subject: "s", headers: { tenant: "a" } }
          })
        )
        assert.strictEqual(entry.size, 14)
      })
    )

    it.effect(
      "keeps no more than maxLength, and counts what it drops",
      given(function* () {
        const consumer = yield* join()
        assert.strictEqual((yield* publishKeeping({ ...everything, maxLength: 2 }, "1", "2", "3")).trimmed, 1)
        assert.strictEqual((yield* publishKeeping({ ...everything, maxLength: 2 }, "4")).trimmed, 1)
        assert.deepStrictEqual(datas(yield* take(consumer)), ["3", "4"])
      })
    )

    it.effect(
      "keeps nothing older than maxAge",
      given(function* () {
        const consumer = yield* join()
        const retention = { ...everything, maxAge: Duration.minutes(1) }
        yield* publishKeeping(retention, "old")
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* publishKeeping(retention, "just young enough")).trimmed, 0)
        yield* TestClock.adjust("1 milli")
        assert.strictEqual((yield* publishKeeping(retention, "new")).trimmed, 1)
        assert.deepStrictEqual(datas(yield* take(consumer)), ["just young enough", "new"])
      })
    )

    it.effect(
      "stays fast and small over many trimmed entries",
      given(function* () {
        const consumer = yield* join()
        for (let at = 0; at < 5_000; at++) yield* publishKeeping({ ...everything, maxLength: 3 }, `${at}`)
        assert.deepStrictEqual(datas(yield* take(consumer)), ["4997", "4998", "4999"])
      })
    )
  })

  describe("joining", () => {
    it.effect(
      "begins where it is told",
      given(function* () {
        yield* TestClock.setTime(1_000)
        const { ids } = yield* publish("1", "2")
        yield* TestClock.setTime(2_000)
        yield* publish("3")
        const from = Effect.fnUntraced(function* (name: string, start: NonNullable<Joining["from"]>) {
          const consumer = yield* join({ group: { ...orders, subscription: name }, from: start })
          return yield* Effect.flatMap(publish("last"), () => Effect.map(take(consumer), datas))
        })
        assert.deepStrictEqual(yield* from("beginning", "beginning"), ["1", "2", "3", "last"])
        assert.deepStrictEqual(yield* from("id", { id: ids[0] ?? "" }), ["2", "3", "last", "last"])
        assert.deepStrictEqual(yield* from("time", { time: DateTime.makeUnsafe(2_000) }), ["3", "last", "last", "last"])
        assert.deepStrictEqual(yield* from("new", "new"), ["last"])
      })
    )

    it.effect(
      "waits for a position that is still to come",
      given(function* () {
        const consumer = yield* join({ from: { time: DateTime.makeUnsafe(60_000) } })
        yield* publish("early")
        assert.deepStrictEqual((yield* inspect).waiting, Option.some(0))
        const fetching = yield* Effect.forkChild(take(consumer))
        yield* TestClock.adjust("59 seconds")
        yield* publish("still early")
        yield* TestClock.adjust("1 second")
        assert.isUndefined(fetching.pollUnsafe())
        yield* publish("in time")
        assert.deepStrictEqual(datas(yield* Fiber.join(fetching)), ["in time"])
      })
    )

    it.effect(
      "refuses what is no entry id, and creates nothing",
      given(function* () {
        const error = yield* Effect.flip(join({ from: { id: "yesterday" } }))
        assert.strictEqual(error.reason._tag, "InvalidOption")
        assert.include(error.message, `"from"`)
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).logs, [])
      })
    )

    it.effect(
      "goes on where the group was, whatever is asked",
      given(function* () {
        yield* publish("1")
        const first = yield* join({ from: "beginning" })
        yield* settle(first, yield* takeOne(first), ack)
        yield* publish("2")
        const second = yield* join({ from: "beginning" })
        assert.deepStrictEqual(datas(yield* take(second)), ["2"])
      })
    )

    it.effect(
      "gives each consumer a name of its own unless one is given",
      given(function* () {
        const names = [(yield* join()).name, (yield* join()).name, (yield* join({ consumer: "mine" })).name]
        assert.strictEqual(new Set(names).size, 3)
        assert.strictEqual(names[2], "mine")
      })
    )

    it.effect(
      "undone before it was kept, leaves nothing behind",
      given(function* () {
        const before = yield* MemoryTransport.snapshot
        yield* Effect.scoped(joinOnly())
        assert.deepStrictEqual(yield* MemoryTransport.snapshot, before)
      })
    )

    it.effect(
      "undone, leaves a log that somebody has published to, without the group",
      given(function* () {
        yield* Effect.scoped(Effect.andThen(joinOnly(), publish("1")))
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).keys, ["orders"])
      })
    )

    it.effect(
      "undone, leaves a group that was there before",
      given(function* () {
        yield* Effect.scoped(join())
        const before = yield* MemoryTransport.snapshot
        assert.deepStrictEqual(before.keys, ["orders", "orders:billing:retry"])
        yield* Effect.scoped(joinOnly())
        assert.deepStrictEqual(yield* MemoryTransport.snapshot, before)
      })
    )

    it.effect(
      "undone, leaves a group that another consumer has joined, and a log that carries another group",
      given(function* () {
        const scope = yield* Scope.make()
        yield* Scope.provide(joinOnly(), scope)
        yield* join()
        yield* Scope.close(scope, Exit.void)
        const { logs } = yield* MemoryTransport.snapshot
        assert.deepStrictEqual(
          logs.map(({ groups }) => groups.map(({ consumers }) => consumers.length)),
          [[1]]
        )
        const other = yield* Scope.make()
        yield* Scope.provide(joinOnly({ group: shipping }), other)
        yield* Scope.close(other, Exit.void)
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).logs, logs)
      })
    )

    it.effect(
      "undone, leaves a group that has delivered something, and gives it back",
      given(function* () {
        yield* Effect.scoped(
          Effect.gen(function* () {
            const consumer = yield* joinOnly()
            yield* publish("1")
            yield* take(consumer)
          })
        )
        const consumer = yield* join()
        const entry = yield* takeOne(consumer)
        assert.deepStrictEqual([dataOf(entry), entry.attempt], ["1", 1])
      })
    )

    it.effect(
      "undone, leaves what others are about to join",
      given(function* () {
        const scopes = [yield* Scope.make(), yield* Scope.make(), yield* Scope.make()] as const
        yield* Scope.provide(joinOnly(), scopes[0])
        yield* Scope.provide(joinOnly({ consumer: "second" }), scopes[1])
        yield* Scope.provide(joinOnly({ group: shipping }), scopes[2])
        yield* Scope.close(scopes[0], Exit.void)
        const groups = Effect.map(MemoryTransport.snapshot, ({ logs }) =>
          logs.map((log) => log.groups.map((group) => group.subscription))
        )
        assert.deepStrictEqual(yield* groups, [["billing", "shipping"]])
        yield* Scope.close(scopes[1], Exit.void)
        assert.deepStrictEqual(yield* groups, [["shipping"]])
        yield* Scope.close(scopes[2], Exit.void)
        assert.deepStrictEqual(yield* groups, [])
      })
    )

    it.effect(
      "undone by several who joined together, in any order, leaves nothing behind",
      given(function* () {
        const before = yield* MemoryTransport.snapshot
        for (const order of [
          [0, 1, 2],
          [2, 1, 0],
          [1, 0, 2]
        ]) {
          const scopes = [yield* Scope.make(), yield* Scope.make(), yield* Scope.make()]
          yield* Effect.forEach(scopes, (scope, at) =>
            Scope.provide(joinOnly({ group: at === 2 ? shipping : billing }), scope)
          )
          for (const at of order) yield* Scope.close(scopes[at] ?? assert.fail(), Exit.void)
          assert.deepStrictEqual(yield* MemoryTransport.snapshot, before)
        }
      })
    )
  })

  describe("leaving", () => {
    it.effect(
      "gives back what is held at no cost of an attempt, and removes the consumer",
      given(function* () {
        const scope = yield* Scope.make()
        const leaver = yield* joinIn(scope)
        const stayer = yield* join({ consumer: "stayer" })
        yield* publish("1", "2")
        assert.lengthOf(yield* take(leaver), 2)
        const waiting = yield* Effect.forkChild(take(stayer))
        yield* TestClock.adjust(0)
        assert.isUndefined(waiting.pollUnsafe())
        yield* Scope.close(scope, Exit.void)
        const entries = yield* Fiber.join(waiting)
        assert.deepStrictEqual(
          entries.map((entry) => [dataOf(entry), entry.attempt, entry.reclaims]),
          [
            ["1", 1, 0],
            ["2", 1, 0]
          ]
        )
        const [log] = (yield* MemoryTransport.snapshot).logs
        assert.deepStrictEqual(log?.groups[0]?.consumers, [{ name: "stayer", pending: 2, fetching: 0 }])
      })
    )

    it.effect(
      "refuses to fetch afterwards, also a fetch that waits",
      given(function* () {
        const scope = yield* Scope.make()
        const consumer = yield* joinIn(scope)
        const waiting = yield* Effect.forkChild(Effect.flip(take(consumer)))
        yield* TestClock.adjust(0)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* Fiber.join(waiting)).reason._tag, "Unavailable")
        assert.strictEqual((yield* Effect.flip(take(consumer))).reason._tag, "Unavailable")
        yield* publish("1")
        assert.deepStrictEqual((yield* inspect).waiting, Option.some(1))
      })
    )
  })

  describe("fetching", () => {
    it.effect(
      "waits for a message, and is woken by it",
      given(function* () {
        const consumer = yield* join()
        const fetching = yield* Effect.forkChild(take(consumer))
        yield* TestClock.adjust("1 hour")
        assert.isUndefined(fetching.pollUnsafe())
        yield* publish("1")
        assert.deepStrictEqual(datas(yield* Fiber.join(fetching)), ["1"])
      })
    )

    it.effect(
      "takes no more than the count, nor than the bytes behind a first entry of any size",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a".repeat(100), "bb", "cc", "d")
        assert.lengthOf(yield* take(consumer, { bytes: 10 }), 1)
        assert.deepStrictEqual(datas(yield* take(consumer, { bytes: 3 })), ["bb"])
        assert.deepStrictEqual(datas(yield* take(consumer, { count: 1 })), ["cc"])
        assert.deepStrictEqual(datas(yield* take(consumer)), ["d"])
      })
    )

    it.effect(
      "delivers to every group, and in a group to one consumer",
      given(function* () {
        const [one, two, other] = [yield* join(), yield* join(), yield* join({ group: shipping })]
        yield* publish("1", "2", "3")
        const taken = [...(yield* take(one, { count: 2 })), ...(yield* take(two))]
        assert.deepStrictEqual(datas(taken), ["1", "2", "3"])
        assert.deepStrictEqual(datas(yield* take(other)), ["1", "2", "3"])
      })
    )

    it.effect(
      "wakes waiting consumers, of whom one gets the message and the other goes on waiting",
      given(function* () {
        const consumers = [yield* join(), yield* join()]
        const fibers = yield* Effect.forEach(consumers, (consumer) => Effect.forkChild(take(consumer)))
        yield* TestClock.adjust(0)
        yield* publish("1")
        yield* TestClock.adjust(0)
        assert.lengthOf(
          fibers.filter((fiber) => fiber.pollUnsafe() === undefined),
          1
        )
        yield* publish("2")
        assert.deepStrictEqual((yield* Effect.forEach(fibers, Fiber.join)).flatMap(datas).toSorted(), ["1", "2"])
      })
    )

    it.effect(
      "delivers what was given back and retries before what is new",
      given(function* () {
        const consumer = yield* join()
        yield* publish("released", "retried")
        const [first, second] = yield* take(consumer)
        assert(first !== undefined && second !== undefined)
        yield* publish("new")
        yield* settle(consumer, second, retry(0))
        yield* tend
        yield* settle(consumer, first, release)
        assert.deepStrictEqual(datas(yield* take(consumer)), ["released", "retried", "new"])
      })
    )

    it.effect(
      "interrupted at any moment, loses nothing and costs nothing",
      given(function* () {
        const consumer = yield* join()
        const seen: Array<string> = []
        let published = 0
        // each round yields to the scheduler at other points of a fetch, and interrupts at one of them
        for (let round = 0; round < 400; round++) {
          const loop = yield* Effect.uninterruptibleMask((restore) =>
            Effect.flatMap(restore(consumer.fetch({ ...free, count: 1 })), ({ entries }) =>
              Effect.forEach(entries, (entry) => {
                assert.deepStrictEqual([entry.attempt, entry.reclaims], [1, 0])
                seen.push(dataOf(entry))
                return settle(consumer, entry, ack)
              })
            )
          ).pipe(
            Effect.forever({ disableYield: true }),
            Effect.provideService(Scheduler.MaxOpsBeforeYield, 3 + (round % 20)),
            Effect.forkChild({ startImmediately: true })
          )
          for (let at = 0; at < 5; at++) yield* publish(`${published++}`)
          for (let at = 0; at < round / 20; at++) yield* Effect.yieldNow
          yield* Fiber.interrupt(loop)
        }
        yield* publish(`${published++}`)
        const rest = yield* take(consumer, { count: Infinity })
        assert.deepStrictEqual(
          [...seen, ...datas(rest)].map(Number).toSorted((a, b) => a - b),
          Array.from({ length: published }, (_, at) => at)
        )
        assert.isNotEmpty(seen)
      })
    )

    it.effect(
      "interrupted while it waits, takes nothing that comes later",
      given(function* () {
        const consumer = yield* join()
        const fetching = yield* Effect.forkChild(take(consumer))
        yield* TestClock.adjust(0)
        yield* publish("1")
        // between the publishing and the waking
        yield* Fiber.interrupt(fetching)
        const exit = yield* Fiber.await(fetching)
        if (Exit.isFailure(exit)) assert.isTrue(Cause.hasInterruptsOnly(exit.cause))
        const entry = yield* takeOne(yield* join())
        assert.deepStrictEqual([dataOf(entry), entry.attempt], ["1", 1])
      })
    )

    it.effect(
      "can be interrupted while it waits, also where its caller cannot",
      given(function* () {
        const consumer = yield* join()
        const fetching = yield* Effect.forkChild(Effect.uninterruptible(take(consumer)))
        yield* TestClock.adjust(0)
        yield* Fiber.interrupt(fetching)
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).logs[0]?.groups[0]?.consumers, [
          { name: consumer.name, pending: 0, fetching: 0 }
        ])
      })
    )

    it.effect(
      "takes its group's place again where that was removed",
      given(function* () {
        const sleeper = yield* joinOnly({ consumer: "sleeper" })
        yield* TestClock.adjust("5 minutes")
        assert.strictEqual((yield* tend).removed, 1)
        yield* Effect.scoped(joinOnly())
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).logs, [])
        yield* publish("1")
        assert.deepStrictEqual(datas(yield* take(sleeper)), ["1"])
      })
    )
  })

  describe("settling", () => {
    it.effect(
      "is done once; a second time it is lost, or unknown where the call is repeated",
      given(function* () {
        const consumer = yield* join()
        for (const outcome of [ack, retry("1 hour"), deadLetter, release]) {
          yield* publish("1")
          const entry = yield* takeOne(consumer)
          const settled = yield* settle(consumer, entry, outcome)
          assert.deepStrictEqual(settled, outcome === deadLetter ? { _tag: "DeadLettered", id: "0-1" } : "done")
          assert.strictEqual(yield* settle(consumer, entry, outcome, true), "unknown")
          assert.strictEqual(yield* settle(consumer, entry, outcome), "lost")
        }
        assert.deepStrictEqual(yield* inspect, { waiting: Option.some(0), pending: 1, due: 1, deadLetters: 1 })
      })
    )

    it.effect(
      "answers each in order",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1", "2", "3")
        const [first, second, third] = yield* take(consumer)
        assert(first !== undefined && second !== undefined && third !== undefined)
        yield* settle(consumer, second, ack)
        const answers = yield* consumer.settle(
          [first, second, third].map((entry) => ({ entry, outcome: ack, repeated: false })) as never // three, so not empty
        )
        assert.deepStrictEqual(answers, ["done", "lost", "done"])
      })
    )

    it.effect(
      "is refused where another consumer holds the delivery, and changes nothing there",
      given(function* () {
        const [slow, quick] = [yield* join(), yield* join()]
        yield* publish("1")
        const before = yield* takeOne(slow)
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual((yield* tend).reclaimed, 1)
        const after = yield* takeOne(quick)
        for (const outcome of [ack, retry(0), deadLetter, release]) {
          assert.strictEqual(yield* settle(slow, before, outcome), "lost")
          assert.strictEqual(yield* settle(slow, before, outcome, true), "lost")
        }
        assert.strictEqual(yield* settle(quick, after, ack), "done")
        assert.deepStrictEqual(yield* inspect, { waiting: Option.some(0), pending: 0, due: 0, deadLetters: 0 })
      })
    )

    it.effect(
      "is refused to an earlier delivery of the same consumer",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1")
        const before = yield* takeOne(consumer)
        yield* settle(consumer, before, release)
        const after = yield* takeOne(consumer)
        assert.strictEqual(yield* settle(consumer, before, ack), "lost")
        assert.strictEqual(yield* settle(consumer, after, ack), "done")
      })
    )

    it.effect(
      "works on a copy of the entry",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1")
        assert.strictEqual(yield* settle(consumer, { ...(yield* takeOne(consumer)) }, ack), "done")
      })
    )

    it.effect(
      "releases at no cost of an attempt, as often as one likes",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1")
        for (let at = 0; at < 10; at++) {
          const entry = yield* takeOne(consumer, { maxAttempts: 1 })
          assert.deepStrictEqual([entry.attempt, entry.reclaims], [1, 0])
          yield* settle(consumer, entry, release)
        }
      })
    )
  })

  describe("retrying", () => {
    it.effect(
      "is delivered to its own subscription when due, not earlier, with its attempt counted",
      given(function* () {
        const consumer = yield* join()
        const other = yield* join({ group: shipping })
        yield* publish("1")
        yield* take(other)
        const first = yield* takeOne(consumer)
        yield* TestClock.adjust("5 seconds")
        yield* settle(consumer, first, retry("2 hours"))
        assert.deepStrictEqual(yield* nextTending, Option.some(7_200_000))
        const fetching = yield* Effect.forkChild(takeOne(consumer))
        yield* TestClock.adjust(7_200_000 - 1)
        assert.strictEqual((yield* tend).moved, 0)
        assert.isUndefined(fetching.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* tend).moved, 1)
        const second = yield* Fiber.join(fetching)
        assert.deepStrictEqual(
          {
            ...second,
            tracked: undefined,
            delivery: undefined,
            content: dataOf(second)
          },
          {
            origin: "retry",
            stream: "orders:billing:retry",
            id: "7205000-0",
            originalId: first.id,
            attempt: 2,
            reclaims: 0,
            redriven: undefined,
            firstDelivered: 0,
            size: 1,
            content: "1",
            tracked: undefined,
            delivery: undefined
          }
        )
        const waiting = yield* Effect.forkChild(take(other))
        yield* TestClock.adjust("1 hour")
        assert.isUndefined(waiting.pollUnsafe())
        yield* Fiber.interrupt(waiting)
      })
    )

    it.effect(
      "retries from the retry log go to the same retry log",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1")
        for (let attempt = 1; attempt <= 20; attempt++) {
          const entry = yield* takeOne(consumer)
          assert.strictEqual(entry.attempt, attempt)
          yield* settle(consumer, entry, retry("1 minute"))
          yield* TestClock.adjust("1 minute")
          yield* tend
        }
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).keys, ["orders", "orders:billing:retry"])
      })
    )

    it.effect(
      "moves those that are due in the order of their time",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a", "b", "c", "d")
        const delays = [30, 10, 20, 10]
        for (const [at, entry] of (yield* take(consumer)).entries()) {
          yield* settle(consumer, entry, retry(Duration.seconds(delays[at] ?? 0)))
        }
        yield* TestClock.adjust("29 seconds")
        assert.strictEqual((yield* tend).moved, 3)
        assert.deepStrictEqual(datas(yield* take(consumer)), ["b", "d", "c"])
      })
    )

    it.effect(
      "moves those that are due at the same time in the order of their failures",
      given(function* () {
        const consumer = yield* join()
        const failed = Array.from({ length: 50 }, (_, at) => `${at}`)
        yield* publish("0", ...failed.slice(1))
        for (const entry of yield* take(consumer)) yield* settle(consumer, entry, retry("1 second"))
        yield* TestClock.adjust("1 second")
        yield* tend
        assert.deepStrictEqual(datas(yield* take(consumer)), failed)
      })
    )

    it.effect(
      "bounds the work of a call, and says that more is left",
      given(function* () {
        const consumer = yield* join()
        yield* publish("0", ...Array.from({ length: 2_999 }, (_, at) => `${at + 1}`))
        for (const entry of yield* take(consumer, { count: 3_000 })) yield* settle(consumer, entry, retry(0))
        const first = yield* tend
        assert.isBelow(first.moved, 3_000)
        assert.deepStrictEqual(first.next, Option.some(Duration.zero))
        let moved = first.moved
        for (let call = 0; call < 10; call++) moved += (yield* tend).moved
        assert.strictEqual(moved, 3_000)
        assert.deepStrictEqual(yield* nextTending, Option.none())
      })
    )

    it.effect(
      "never falls due after an endless delay",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1")
        yield* settle(consumer, yield* takeOne(consumer), retry("Infinity"))
        assert.deepStrictEqual(yield* nextTending, Option.none())
        assert.isTrue(yield* outstanding("1-0"))
      })
    )
  })

  describe("leases", () => {
    it.effect(
      "end after the consumer's own visibility timeout, and cost an attempt",
      given(function* () {
        const short = yield* join({ visibilityTimeout: Duration.seconds(10) })
        const long = yield* join({ visibilityTimeout: Duration.minutes(10) })
        yield* publish("1", "2")
        yield* takeOne(short)
        yield* takeOne(long)
        assert.deepStrictEqual(yield* nextTending, Option.some(10_000))
        yield* TestClock.adjust(9_999)
        assert.strictEqual((yield* tend).reclaimed, 0)
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* tend).reclaimed, 1)
        const entry = yield* takeOne(long)
        assert.deepStrictEqual([dataOf(entry), entry.attempt, entry.reclaims], ["1", 2, 1])
        assert.deepStrictEqual(yield* nextTending, Option.some(590_000))
      })
    )

    it.effect(
      "are extended where the consumer still holds them, and reported where not",
      given(function* () {
        const [consumer, other] = [yield* join(), yield* join()]
        yield* publish("1", "2")
        const [lost, kept] = yield* take(consumer)
        assert(lost !== undefined && kept !== undefined)
        yield* TestClock.adjust("20 seconds")
        assert.deepStrictEqual(yield* consumer.extend([kept]), [])
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(yield* nextTending, Option.some(20_000))
        assert.deepStrictEqual(datas(yield* take(other)), ["1"])
        assert.deepStrictEqual(yield* consumer.extend([lost, kept]), [lost])
        yield* TestClock.adjust("29 seconds")
        assert.strictEqual((yield* tend).reclaimed, 0)
      })
    )

    it.effect(
      "a live consumer keeps its work for as long as it extends",
      given(function* () {
        const consumer = yield* join()
        yield* publish("1")
        const entry = yield* takeOne(consumer)
        for (let beat = 0; beat < 1_000; beat++) {
          yield* TestClock.adjust("10 seconds")
          yield* consumer.extend([entry])
          assert.strictEqual((yield* tend).reclaimed, 0)
        }
        assert.strictEqual(yield* settle(consumer, entry, ack), "done")
      })
    )

    it.effect(
      "reclaimed work that is marked as not started costs no attempt",
      given(function* () {
        const dead = yield* join()
        const consumer = yield* join()
        yield* publish("started", "not started", "neither")
        const [first] = yield* take(dead)
        yield* dead.mark("main", first?.id)
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual((yield* tend).reclaimed, 3)
        const entries = yield* take(consumer)
        assert.deepStrictEqual(
          entries.map((entry) => [dataOf(entry), entry.attempt, entry.reclaims]),
          [
            ["started", 2, 1],
            ["not started", 1, 0],
            ["neither", 1, 0]
          ]
        )
      })
    )

    it.effect(
      "a mark is of one of the two logs, and can be taken back",
      given(function* () {
        const dead = yield* join()
        const consumer = yield* join()
        yield* publish("main", "retried")
        const [, retried] = yield* take(dead)
        yield* settle(dead, retried ?? assert.fail(), retry(0))
        yield* tend
        yield* take(dead)
        yield* dead.mark("retry", "0-0")
        yield* dead.mark("main", "0-0")
        yield* dead.mark("main", undefined)
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual((yield* tend).reclaimed, 2)
        const entries = yield* take(consumer)
        assert.deepStrictEqual(
          entries.map((entry) => [dataOf(entry), entry.attempt, entry.reclaims]),
          [
            ["retried", 2, 0],
            ["main", 2, 1]
          ]
        )
      })
    )

    it.effect(
      "what a predecessor of the same name holds is reclaimed in its time, and counts as started",
      given(function* () {
        const first = yield* join({ consumer: "same" })
        yield* publish("1")
        yield* take(first)
        yield* first.mark("main", "0-0")
        yield* tend
        let calls = 0
        yield* Transport.use((transport) => transport.watch(orders, () => calls++))
        const second = yield* join({ consumer: "same", visibilityTimeout: Duration.seconds(5) })
        yield* TestClock.adjust(0)
        assert.strictEqual(calls, 1)
        assert.deepStrictEqual(yield* nextTending, Option.some(5_000))
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual((yield* tend).reclaimed, 1)
        assert.strictEqual((yield* takeOne(second)).attempt, 2)
      })
    )

    it.effect(
      "wakes a consumer that waits",
      given(function* () {
        const dead = yield* join()
        yield* publish("1")
        yield* take(dead)
        const fetching = yield* Effect.forkChild(takeOne(yield* join()))
        yield* TestClock.adjust("30 seconds")
        assert.isUndefined(fetching.pollUnsafe())
        yield* tend
        assert.strictEqual((yield* Fiber.join(fetching)).attempt, 2)
      })
    )
  })

  describe("suspects", () => {
    const killed = Effect.fnUntraced(function* (limit: FetchLimit) {
      const consumer = yield* join()
      const { entries } = yield* consumer.fetch(limit)
      yield* TestClock.adjust("30 seconds")
      yield* tend
      return entries
    })

    it.effect(
      "are taken alone once two consumers have died of them",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a", "b")
        yield* killed({ ...free, count: 2 })
        const { suspects } = yield* consumer.fetch({ ...free, count: 1 })
        assert.isFalse(suspects)
        yield* TestClock.adjust("30 seconds")
        yield* tend
        // "b" died once, "a" twice
        const mixed = yield* consumer.fetch(free)
        assert.deepStrictEqual([datas(mixed.entries), mixed.suspects], [["b"], true])
        assert.deepStrictEqual(yield* consumer.fetch(free), { entries: [], suspects: true })
        const single = yield* consumer.fetch(alone)
        assert.deepStrictEqual([datas(single.entries), single.suspects], [["a"], false])
        assert.deepStrictEqual([single.entries[0]?.attempt, single.entries[0]?.reclaims], [3, 2])
      })
    )

    it.effect(
      "are taken alone where their next attempt is the last",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a", "b", "c")
        yield* killed({ ...free, count: 2 })
        const limit = { ...free, maxAttempts: 2 }
        const first = yield* consumer.fetch(limit)
        assert.deepStrictEqual([datas(first.entries), first.suspects], [["c"], true])
        const second = yield* consumer.fetch({ ...limit, alone: true })
        assert.deepStrictEqual([datas(second.entries), second.suspects], [["a"], true])
        const third = yield* consumer.fetch({ ...limit, alone: true })
        assert.deepStrictEqual([datas(third.entries), third.suspects], [["b"], false])
        assert.deepStrictEqual(yield* consumer.fetch({ ...limit, alone: true }), { entries: [], suspects: false })
      })
    )

    it.effect(
      "counts the attempts before this entry for that",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a")
        yield* settle(consumer, yield* takeOne(consumer), retry(0))
        yield* tend
        yield* killed({ ...free, maxAttempts: 3 })
        assert.deepStrictEqual(yield* consumer.fetch({ ...free, maxAttempts: 3 }), { entries: [], suspects: true })
        const entry = yield* takeOne(consumer, { maxAttempts: 4 })
        assert.deepStrictEqual([entry.attempt, entry.reclaims], [3, 1])
      })
    )

    it.effect(
      "do not come of unlimited attempts before a second death, nor of what had not started",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a")
        for (let death = 0; death < 5; death++) {
          const dead = yield* join()
          yield* take(dead, { maxAttempts: Infinity })
          yield* dead.mark("main", "0-0")
          yield* TestClock.adjust("30 seconds")
          yield* tend
        }
        yield* killed({ ...free, maxAttempts: Infinity })
        assert.strictEqual((yield* takeOne(consumer, { maxAttempts: Infinity })).attempt, 2)
      })
    )

    it.effect(
      "stay suspects when they are released",
      given(function* () {
        const consumer = yield* join()
        yield* publish("a")
        yield* killed(free)
        yield* killed(free)
        const { entries } = yield* consumer.fetch(alone)
        yield* settle(consumer, entries[0] ?? assert.fail(), release)
        assert.deepStrictEqual(yield* consumer.fetch(free), { entries: [], suspects: true })
        assert.strictEqual((yield* consumer.fetch(alone)).entries[0]?.attempt, 3)
      })
    )
  })

  describe("dead consumers", () => {
    it.effect(
      "are removed once nothing is pending and they were silent for long",
      given(function* () {
        const silent = yield* join({ consumer: "silent", visibilityTimeout: Duration.minutes(1) })
        yield* publish("1")
        yield* take(silent)
        yield* join({ consumer: "younger" })
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* tend).removed, 0)
        yield* TestClock.adjust("4 minutes")
        assert.strictEqual((yield* tend).removed, 1)
        yield* TestClock.adjust("5 minutes")
        assert.strictEqual((yield* tend).removed, 1)
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).logs[0]?.groups[0]?.consumers, [])
        // it was alive after all
        assert.deepStrictEqual(datas(yield* take(silent)), ["1"])
      })
    )

    it.effect(
      "with something pending are never removed, nor is one that waits for messages",
      given(function* () {
        const busy = yield* join({ consumer: "busy", visibilityTimeout: Duration.hours(10) })
        const waiting = yield* join({ consumer: "waiting" })
        yield* publish("1")
        yield* take(busy)
        const fetching = yield* Effect.forkChild(take(waiting))
        yield* TestClock.adjust("9 hours")
        assert.strictEqual((yield* tend).removed, 0)
        yield* Fiber.interrupt(fetching)
        yield* TestClock.adjust("299 seconds")
        assert.strictEqual((yield* tend).removed, 0)
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* tend).removed, 1)
      })
    )

    it.effect(
      "are kept while more of theirs is pending than one call of tend takes",
      given(function* () {
        const dead = yield* join()
        yield* publish("0", ...Array.from({ length: 1_999 }, (_, at) => `${at + 1}`))
        yield* take(dead, { count: 2_000 })
        yield* TestClock.adjust("1 hour")
        const first = yield* tend
        assert.isBelow(first.reclaimed, 2_000)
        assert.deepStrictEqual([first.removed, first.next], [0, Option.some(Duration.zero)])
        const second = yield* tend
        assert.strictEqual(first.reclaimed + second.reclaimed, 2_000)
        assert.deepStrictEqual([second.removed, second.next], [1, Option.none()])
      })
    )
  })

  describe("watching", () => {
    it.effect(
      "tells of every change that makes the next tending earlier, and of no other",
      given(function* () {
        let calls = 0
        const told = Effect.map(TestClock.adjust(0), () => {
          const count = calls
          calls = 0
          return count
        })
        const transport = yield* Transport
        const scope = yield* Scope.make()
        yield* Scope.provide(
          transport.watch(orders, () => {
            calls++
          }),
          scope
        )
        const consumer = yield* join()
        yield* publish("1", "2", "3")
        assert.strictEqual(yield* told, 0)
        const first = yield* takeOne(consumer)
        assert.strictEqual(yield* told, 1, "a first lease")
        const second = yield* takeOne(consumer)
        assert.strictEqual(yield* told, 0, "a lease that ends later")
        yield* settle(consumer, first, retry("1 minute"))
        assert.strictEqual(yield* told, 0, "due after the lease ends")
        yield* settle(consumer, second, retry("10 seconds"))
        assert.strictEqual(yield* told, 1, "due before")
        assert.deepStrictEqual(yield* nextTending, Option.some(10_000))
        const quick = yield* join({ visibilityTimeout: Duration.seconds(1) })
        yield* takeOne(quick)
        assert.strictEqual(yield* told, 1, "another one's shorter lease")
        assert.strictEqual((yield* MemoryTransport.snapshot).watchers, 1)
        yield* Scope.close(scope, Exit.void)
        yield* publish("4")
        yield* settle(quick, yield* takeOne(quick), retry(0))
        assert.strictEqual(yield* told, 0)
        assert.strictEqual((yield* MemoryTransport.snapshot).watchers, 0)
      })
    )

    it.effect(
      "tells of a redrive",
      given(function* () {
        yield* die("1")
        let calls = 0
        const transport = yield* Transport
        yield* transport.watch(orders, () => {
          calls++
        })
        const [letter] = yield* deadLetters
        yield* transport.deadLetters.redrive(billing, [letter?.id ?? ""], Duration.zero)
        yield* TestClock.adjust(0)
        assert.strictEqual(calls, 1)
      })
    )

    it.effect(
      "creates no log",
      given(function* () {
        const transport = yield* Transport
        yield* Effect.scoped(transport.watch(orders, () => {}))
        assert.deepStrictEqual((yield* MemoryTransport.snapshot).logs, [])
      })
    )
  })

  describe("looking", () => {
    it.effect(
      "tells a group's numbers",
      given(function* () {
        assert.deepStrictEqual(yield* inspect, { waiting: Option.none(), pending: 0, due: 0, deadLetters: 0 })
        const consumer = yield* join()
        yield* publish("1", "2", "3", "4", "5", "6")
        const [a, b, c, d] = yield* take(consumer, { count: 5 })
        yield* settle(consumer, a ?? assert.fail(), ack)
        yield* settle(consumer, b ?? assert.fail(), deadLetter)
        yield* settle(consumer, c ?? assert.fail(), retry(0))
        yield* settle(consumer, d ?? assert.fail(), release)
        assert.deepStrictEqual(yield* inspect, { waiting: Option.some(1), pending: 2, due: 1, deadLetters: 1 })
        yield* tend
        assert.deepStrictEqual((yield* inspect).due, 1)
        yield* take(consumer)
        assert.deepStrictEqual(yield* inspect, { waiting: Option.some(0), pending: 4, due: 0, deadLetters: 1 })
      })
    )

    it.effect(
      "something is outstanding until all up to an id is acked or dead-lettered",
      given(function* () {
        const consumer = yield* join()
        const { ids } = yield* publish("1", "2", "3")
        const second = ids[1] ?? assert.fail()
        assert.isTrue(yield* outstanding(second))
        const [a, b, c] = yield* take(consumer)
        assert(a !== undefined && b !== undefined && c !== undefined)
        yield* settle(consumer, a, ack)
        assert.isTrue(yield* outstanding(second))
        yield* settle(consumer, b, retry("1 minute"))
        assert.isTrue(yield* outstanding(second))
        assert.isFalse(yield* outstanding(second, "ignore"), "its time has not come")
        yield* TestClock.adjust("1 minute")
        assert.isTrue(yield* outstanding(second, "ignore"), "its time has come, though nobody has moved it")
        yield* consumer.extend([c])
        yield* tend
        assert.isTrue(yield* outstanding(second, "ignore"))
        const again = yield* takeOne(consumer)
        assert.isTrue(yield* outstanding(second, "ignore"))
        yield* settle(consumer, again, release)
        assert.isTrue(yield* outstanding(second, "ignore"))
        yield* settle(consumer, yield* takeOne(consumer), deadLetter)
        assert.isFalse(yield* outstanding(second))
        assert.isTrue(yield* outstanding(ids[2] ?? ""))
        const [letter] = yield* deadLetters
        yield* Transport.use((transport) => transport.deadLetters.redrive(billing, [letter?.id ?? ""], Duration.zero))
        assert.isTrue(yield* outstanding(second))
      })
    )

    it.effect(
      "is asked in vain of a group that does not exist",
      given(function* () {
        assert.strictEqual((yield* Effect.flip(outstanding("1-0"))).reason._tag, "NoSubscription")
        yield* Transport.use((transport) => transport.progress(billing))
        assert.deepStrictEqual(yield* tend, { moved: 0, reclaimed: 0, removed: 0, poison: 0, next: Option.none() })
      })
    )

    it.effect(
      "finds the least of many retries that come and go in any order",
      given(function* () {
        const consumer = yield* join()
        const ids: Array<string> = []
        const unsettled = new Set<string>()
        let seed = 1
        const random = (below: number) => {
          seed = (seed * 48_271) % 2_147_483_647
          return seed % below
        }
        for (let round = 0; round < 150; round++) {
          const published = (yield* publish("", ...Array.from({ length: 9 }, () => ""))).ids
          ids.push(...published)
          for (const id of published) unsettled.add(id)
          const entries = (yield* take(consumer)).map((entry) => ({ entry, turn: random(1_000) }))
          for (const { entry } of entries.toSorted((a, b) => a.turn - b.turn)) {
            if (random(3) === 0) {
              yield* settle(consumer, entry, ack)
              unsettled.delete(entry.originalId)
            } else yield* settle(consumer, entry, retry(Duration.millis(random(10))))
          }
          for (const due of ["wait", "ignore"] as const) {
            const answer = Effect.map(inspect, (numbers) => due === "wait" || numbers.due === 0)
            if (!(yield* answer)) continue
            const least = ids.findIndex((id) => unsettled.has(id))
            if (least > 0) assert.isFalse(yield* outstanding(ids[least - 1] ?? "", due))
            if (least >= 0) assert.isTrue(yield* outstanding(ids[least] ?? "", due))
          }
          yield* TestClock.adjust(random(8))
          yield* tend
        }
        assert.isAbove(unsettled.size, 0)
      })
    )

    it.effect(
      "progress wakes at each change, also one between asking and waiting",
      given(function* () {
        const transport = yield* Transport
        const consumer = yield* join()
        const { ids } = yield* publish("1", "2")
        const through = ids[1] ?? assert.fail()
        let asked = 0
        const idle = yield* Effect.gen(function* () {
          while (yield* transport.outstanding(billing, { through, due: "wait" })) {
            asked++
            yield* transport.progress(billing)
          }
        }).pipe(Effect.forkChild)
        const [a, b] = yield* take(consumer)
        assert(a !== undefined && b !== undefined)
        yield* settle(consumer, a, ack)
        yield* TestClock.adjust("1 hour")
        assert.isUndefined(idle.pollUnsafe())
        assert.isBelow(asked, 5)
        yield* settle(consumer, b, ack)
        yield* Fiber.join(idle)

        // and now in the same fiber
        const last = (yield* publish("3")).ids[0] ?? assert.fail()
        assert.isTrue(yield* outstanding(last))
        yield* settle(consumer, yield* takeOne(consumer), ack)
        yield* transport.progress(billing)
        assert.isFalse(yield* outstanding(last))
      })
    )

    it.effect(
      "what the retention has dropped unread is not outstanding",
      given(function* () {
        yield* join()
        const { ids } = yield* publish("1")
        assert.isTrue(yield* outstanding(ids[0] ?? ""))
        yield* publishKeeping({ ...everything, maxLength: 1 }, "2")
        assert.isFalse(yield* outstanding(ids[0] ?? ""))
      })
    )
  })

  describe("trimming in flight", () => {
    it.effect(
      "is settled from the copy in memory",
      given(function* () {
        const consumer = yield* join()
        yield* publish("ack", "retry", "dead", "release")
        const [a, b, c, d] = yield* take(consumer)
        yield* publishKeeping({ ...everything, maxLength: 1 }, "new")
        assert.strictEqual(yield* settle(consumer, a ?? assert.fail(), ack), "done")
        assert.strictEqual(yield* settle(consumer, b ?? assert.fail(), retry(0)), "done")
        assert.deepStrictEqual(yield* settle(consumer, c ?? assert.fail(), deadLetter), {
          _tag: "DeadLettered",
          id: "0-1"
        })
        assert.strictEqual(yield* settle(consumer, d ?? assert.fail(), release), "done")
        yield* tend
        assert.deepStrictEqual(datas(yield* take(consumer)), ["release", "retry", "new"])
        assert.deepStrictEqual((yield* deadLetters).map(dataOf), ["dead"])
      })
    )

    it.effect(
      "keeps its lease while the consumer lives; is dropped, counted and logged once it has died",
      given(function* () {
        const lines: Array<unknown> = []
        const consumer = yield* join()
        const { ids } = yield* publish("1", "2")
        const entries = yield* take(consumer)
        yield* publishKeeping({ ...everything, maxLength: 1 }, "3")
        yield* TestClock.adjust("29 seconds")
        assert.deepStrictEqual(yield* consumer.extend([entries[0] ?? assert.fail()]), [])
        yield* TestClock.adjust("1 second")
        const first = yield* Effect.provide(
          tend,
          Logger.layer([
            Logger.make(({ logLevel, message, fiber }) => {
              lines.push([logLevel, message])
              void fiber
            })
          ])
        )
        assert.strictEqual(first.reclaimed, 0)
        assert.lengthOf(lines, 1)
        assert.include(JSON.stringify(lines), "Warn")
        assert.strictEqual((yield* inspect).pending, 1)
        assert.isTrue(yield* outstanding(ids[0] ?? ""))
        assert.strictEqual(yield* settle(consumer, entries[0] ?? assert.fail(), ack), "done")
        assert.isFalse(yield* outstanding(ids[1] ?? ""))
      })
    )
  })

  describe("dead letters", () => {
    it.effect(
      "keep why and when",
      given(function* () {
        const consumer = yield* join()
        yield* TestClock.setTime(1_000)
        const { ids } = yield* publish('"x"')
        yield* TestClock.setTime(2_000)
        const first = yield* takeOne(consumer)
        yield* settle(consumer, first, retry("1 second"))
        yield* TestClock.setTime(3_000)
        yield* tend
        const second = yield* takeOne(consumer)
        yield* settle(consumer, second, {
          _tag: "DeadLetter",
          reason: "rejected",
          cause: "no such customer",
          attempts: 2
        })
        const [letter] = yield* deadLetters
        assert.deepStrictEqual(letter, {
          id: "3000-0",
          originalId: ids[0] ?? "",
          content: Result.succeed({ data: new TextEncoder().encode('"x"'), attributes: undefined }),
          raw: new TextEncoder().encode('"x"'),
          reason: "rejected",
          cause: "no such customer",
          attempts: 2,
          firstDelivered: Option.some(2_000),
          deadLettered: 3_000
        })
        const transport = yield* Transport
        assert.deepStrictEqual(yield* transport.deadLetters.get(billing, "3000-0"), Option.some(letter))
        assert.deepStrictEqual(yield* transport.deadLetters.get(billing, "3000-1"), Option.none())
      })
    )

    it.effect(
      "are read by pages, oldest first, also while they are discarded",
      given(function* () {
        yield* die("0", ...Array.from({ length: 199 }, (_, at) => `${at + 1}`))
        const { deadLetters } = yield* Transport
        const seen: Array<string> = []
        let after: string | undefined
        for (;;) {
          const page = yield* deadLetters.page(billing, { after, limit: 30 })
          if (page.length === 0) break
          seen.push(...page.map(dataOf))
          after = page[page.length - 1]?.id
          yield* deadLetters.discard(
            billing,
            page.map(({ id }) => id)
          )
        }
        assert.deepStrictEqual(
          seen,
          Array.from({ length: 200 }, (_, at) => `${at}`)
        )
        assert.strictEqual(yield* deadLetters.count(billing), 0)
      })
    )

    it.effect(
      "are read by pages behind an id, which may be gone",
      given(function* () {
        yield* die("0", "1", "2", "3", "4")
        const { deadLetters } = yield* Transport
        const page = (after: string | undefined) =>
          Effect.map(deadLetters.page(billing, { after, limit: 2 }), (page) => page.map(({ id }) => id))
        assert.deepStrictEqual(yield* page(undefined), ["0-1", "0-2"])
        yield* deadLetters.discard(billing, ["0-2", "0-3"])
        assert.deepStrictEqual(yield* page("0-1"), ["0-4", "0-5"])
        assert.deepStrictEqual(yield* page("0-2"), ["0-4", "0-5"])
        assert.deepStrictEqual(yield* page("0-5"), [])
      })
    )

    it.effect(
      "are redriven once, to the subscription that failed, with their attempts reset",
      given(function* () {
        const other = yield* join({ group: shipping })
        const consumer = yield* die("1", "2")
        yield* take(other)
        const transport = yield* Transport
        const [first] = yield* deadLetters
        const id = first?.id ?? assert.fail()
        const redrive = transport.deadLetters.redrive(billing, [id, id, "9-9", "nonsense"], Duration.minutes(1))
        assert.strictEqual(yield* redrive, 1)
        assert.strictEqual(yield* redrive, 0)
        assert.strictEqual(yield* transport.deadLetters.count(billing), 1)
        assert.deepStrictEqual(yield* nextTending, Option.some(60_000))
        yield* TestClock.adjust("1 minute")
        yield* tend
        const entry = yield* takeOne(consumer)
        assert.deepStrictEqual([dataOf(entry), entry.attempt, entry.originalId], ["1", 1, first?.originalId])
        const waiting = yield* Effect.forkChild(take(other))
        yield* TestClock.adjust("1 minute")
        assert.isUndefined(waiting.pollUnsafe())
        yield* Fiber.interrupt(waiting)
      })
    )

    it.effect(
      "are discarded once",
      given(function* () {
        yield* die("1", "2")
        const transport = yield* Transport
        const ids = (yield* deadLetters).map(({ id }) => id)
        assert.strictEqual(yield* transport.deadLetters.discard(billing, [...ids, ...ids]), 2)
        assert.strictEqual(yield* transport.deadLetters.discard(billing, ids), 0)
        assert.deepStrictEqual(yield* deadLetters, [])
      })
    )

    it.effect(
      "of a subscription that never was are none",
      given(function* () {
        const { deadLetters } = yield* Transport
        const never = { ...billing, subscription: "never" }
        assert.deepStrictEqual(yield* deadLetters.page(never, { after: undefined, limit: 10 }), [])
        assert.deepStrictEqual(yield* deadLetters.get(never, "1-0"), Option.none())
        assert.strictEqual(yield* deadLetters.count(never), 0)
        assert.strictEqual(yield* deadLetters.redrive(never, ["1-0"], Duration.zero), 0)
        assert.strictEqual(yield* deadLetters.discard(never, ["1-0"]), 0)
      })
    )

    it.effect(
      "hand out copies of their bytes",
      given(function* () {
        yield* die("1")
        for (const letter of yield* deadLetters) letter.raw.fill(0)
        assert.deepStrictEqual(
          (yield* deadLetters).map(({ raw }) => raw),
          [new TextEncoder().encode("1")]
        )
      })
    )
  })

  describe("what tests may do", () => {
    it.effect(
      "append what cannot be read, to the topic's log and to a retry log",
      given(function* () {
        const consumer = yield* join()
        const poison = { content: Result.fail("no JSON"), raw: Uint8Array.of(0xff, 0x00) }
        const id = yield* MemoryTransport.appendRaw(orders, poison)
        const retryId = yield* MemoryTransport.appendRaw(billing, poison)
        yield* publish("behind")
        const entries = yield* take(consumer)
        assert.deepStrictEqual(
          entries.map((entry) => [entry.origin, entry.id, entry.originalId, entry.attempt, dataOf(entry)]),
          [
            ["retry", retryId, retryId, 1, "unreadable: no JSON"],
            ["main", id, id, 1, "unreadable: no JSON"],
            ["main", "0-2", "0-2", 1, "behind"]
          ]
        )
        yield* settle(consumer, entries[1] ?? assert.fail(), {
          _tag: "DeadLetter",
          reason: "poison",
          cause: "no JSON",
          attempts: 1
        })
        assert.deepStrictEqual((yield* deadLetters)[0]?.raw, Uint8Array.of(0xff, 0x00))
        const error = yield* Effect.flip(MemoryTransport.appendRaw(shipping, poison))
        assert.strictEqual(error.reason._tag, "NoSubscription")
      })
    )

    it.effect(
      "look inside a Transport made of its fields, and of no other",
      given(function* () {
        const transport = yield* Transport
        yield* publish("1")
        const wrapped = Transport.of({ ...transport, join: () => Effect.never })
        const seen = yield* Effect.provideService(MemoryTransport.snapshot, Transport, wrapped)
        assert.deepStrictEqual(seen.keys, ["orders"])
        const { namespace, system, stream, publish: send, join, tend, watch, inspect } = transport
        const { lastId, outstanding, progress, deadLetters } = transport
        const foreign = Transport.of({
          namespace,
          system,
          stream,
          publish: send,
          join,
          tend,
          watch,
          inspect,
          lastId,
          outstanding,
          progress,
          deadLetters
        })
        const exit = yield* Effect.exit(Effect.provideService(MemoryTransport.snapshot, Transport, foreign))
        assert.isTrue(Exit.hasDies(exit))
      })
    )

    it.effect(
      "see what each log and group holds",
      given(function* () {
        const consumer = yield* join({ consumer: "one" })
        yield* publish("1", "2", "3", "4")
        const [a, b, c] = yield* take(consumer, { count: 3 })
        yield* settle(consumer, a ?? assert.fail(), release)
        yield* settle(consumer, b ?? assert.fail(), retry("1 second"))
        yield* settle(consumer, c ?? assert.fail(), deadLetter)
        assert.deepStrictEqual(yield* MemoryTransport.snapshot, {
          keys: ["orders", "orders:billing:deadLetters", "orders:billing:due", "orders:billing:retry"],
          logs: [
            {
              topic: "orders",
              partition: 0,
              length: 4,
              lastId: "0-4",
              groups: [
                {
                  subscription: "billing",
                  consumers: [{ name: "one", pending: 0, fetching: 0 }],
                  waiting: 1,
                  pending: 1,
                  released: 1,
                  due: 1,
                  deadLetters: 1
                }
              ]
            }
          ],
          watchers: 0
        })
      })
    )
  })

  describe("layer", () => {
    it.effect("moves retries and rescues deliveries by itself, exactly when due", () =>
      Effect.gen(function* () {
        const transport = yield* Transport
        assert.deepStrictEqual([transport.namespace, transport.system], ["clutch", "memory"])
        const reclaimer = yield* Reclaimer
        yield* reclaimer.register(billing)
        const consumer = yield* join({ visibilityTimeout: Duration.minutes(1) })
        yield* publish("1")
        yield* settle(consumer, yield* takeOne(consumer), retry("3 hours"))
        const retried = yield* Effect.forkChild(takeOne(consumer))
        yield* TestClock.adjust(3 * 3_600_000 - 1)
        assert.isUndefined(retried.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.strictEqual((retried.pollUnsafe() ?? assert.fail())._tag, "Success")
        const rescued = yield* Effect.forkChild(takeOne(yield* join()))
        yield* TestClock.adjust(59_999)
        assert.isUndefined(rescued.pollUnsafe())
        yield* TestClock.adjust(1)
        const entry = yield* Fiber.join(rescued)
        assert.deepStrictEqual([entry.attempt, entry.reclaims], [3, 1])
      }).pipe(Effect.provide(MemoryTransport.layer))
    )
  })
})
