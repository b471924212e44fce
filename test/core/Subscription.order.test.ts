/** A subscription to a topic with a key: whatever happens while it begins, it learns of the other workers. */
import { Delivery } from "@clutch/core"
import type { Message } from "@clutch/core/Message"
import * as MemoryTransport from "@clutch/core/MemoryTransport"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { given, layerWith, Lines, open, pass, probe, run, unavailable, withOwners, withWorkers } from "./support.ts"

const Keyed = Topic.make("keyed", { schema: Schema.String, key: (text) => text, partitions: 2 })

describe("Subscription: order by key", () => {
  it.effect("who could not watch for other workers at first does so later, and is healthy then", () => {
    let asked = 0
    let watching = 0
    const layer = layerWith(
      withWorkers(({ watch }) => ({
        watch: (changed) =>
          Effect.suspend(() => {
            asked += 1
            return asked <= 3 ? Effect.fail(unavailable("watch")) : watch(changed)
          }).pipe(Effect.tap(() => Effect.sync(() => void (watching += 1))))
      }))
    )
    return run(layer, function* () {
      const seen = yield* probe()
      const worker = yield* open(Subscription.make("s", Keyed, seen.handler()))
      yield* pass("1 minute")
      assert.deepStrictEqual((yield* worker.handle.health).problem, Option.none())
      assert.deepStrictEqual([asked, watching], [5, 2])
    })
  })

  it.effect(
    "10. a partition that was full, and whose keys go on one by one, says so once and is well once",
    given(function* () {
      const gate = { open: false }
      const handler = Effect.suspend(() => (gate.open ? Effect.void : Effect.fail("not yet")))
      const subscription = Subscription.make("s", Keyed, () => handler, {
        maxWaiting: 10,
        prefetch: 4,
        retry: { maxRetries: "unlimited", base: "1 second", factor: 1 }
      })
      const { handle } = yield* open(subscription)
      yield* Topic.publishAll(
        Keyed,
        Array.from({ length: 200 }, () => "bad")
      )
      yield* pass("10 seconds")
      assert.strictEqual((yield* handle.health).state, "unhealthy")
      gate.open = true
      yield* pass("1 minute")
      yield* Subscription.awaitIdle(subscription)
      assert.strictEqual((yield* handle.health).state, "running")
      assert.deepStrictEqual(
        (yield* Lines).filter(({ text }) => text.startsWith("reading")).map(({ level }) => level),
        ["Warn", "Info"]
      )
    })
  )

  it.effect("9. where the group disappears, what is published next waits for what comes again before it", () => {
    const mayFetch = Latch.makeUnsafe(true)
    const layer = layerWith(
      withOwners(({ fetch, settle }) => ({
        fetch: (limit) => Effect.andThen(mayFetch.await, fetch(limit)),
        settle: (settlements) => Effect.andThen(Effect.sleep("1 second"), settle(settlements))
      }))
    )
    return run(layer, function* () {
      const One = Topic.make("one", { schema: Schema.String, key: () => "one" })
      const seen = yield* probe()
      const handler = seen.handler(() => (seen.calls.length === 1 ? Effect.fail("no") : Effect.void))
      yield* open(Subscription.make("s", One, handler, { retry: { base: "1 second" } }))
      yield* Topic.publish(One, "a")
      mayFetch.closeUnsafe()
      yield* seen.next
      yield* Topic.publish(One, "b")
      const lost = yield* MemoryTransport.loseGroup({ topic: "one", partition: 0, subscription: "s" })
      assert.lengthOf(lost, 1)
      mayFetch.openUnsafe()
      yield* pass("1 minute")
      assert.deepStrictEqual(
        seen.calls.map(({ attempt, data }) => [data, attempt]),
        [
          ["a", 1],
          ["a", 1],
          ["b", 1]
        ]
      )
    })
  })

  it.effect(
    "12. removing a group tells in the log what of it was parked, too",
    given(function* () {
      const subscription = Subscription.make("s", Keyed, () => Effect.fail("no"), { retry: { base: "1 day" } })
      const { close } = yield* open(subscription)
      yield* Topic.publishAll(Keyed, ["bad", "bad", "bad"])
      yield* pass("1 second")
      yield* close
      yield* Topic.removeGroup(Keyed, "s")
      const [line] = (yield* Lines).filter(({ text }) => text.startsWith("removed a group"))
      assert.include(line?.text, "1 retries and 2 parked")
    })
  )

  it.effect(
    "10. repartition refuses while a worker may live, and not for ever where it died and nobody reclaims",
    given(function* () {
      const group = { topic: "keyed", partition: 0, subscription: "s" }
      const options = { group, consumer: "dead", from: "new", visibilityTimeout: Duration.seconds(30) } as const
      const worker = yield* (yield* Transport).enroll(options)
      worker.keep()
      const more = Topic.make("keyed", { schema: Schema.String, key: (text) => text, partitions: 2 })
      yield* pass("4 minutes")
      const { reason } = yield* Effect.flip(Topic.repartition(more))
      assert.strictEqual(reason._tag, "Refused")
      yield* pass("2 minutes")
      assert.strictEqual(yield* Topic.repartition(more), 1)
    })
  )

  /** Settlements are stored at once, and heard of a second later. */
  const slowToAnswer = (claimed: (fence: number) => void) =>
    layerWith(
      withOwners(({ fence, settle }) => {
        claimed(fence)
        return { settle: (settlements) => Effect.tap(settle(settlements), () => Effect.sleep("1 second")) }
      })
    )

  it.effect("what is being settled when a lease is extended is no lost lease: the partition is kept", () => {
    const fences: Array<number> = []
    return run(
      slowToAnswer((fence) => fences.push(fence)),
      function* () {
        const One = Topic.make("one", { schema: Schema.String, key: (text) => text })
        const seen = yield* probe()
        yield* open(Subscription.make("s", One, seen.handler(), { visibilityTimeout: "2 seconds" }))
        for (let i = 0; i < 100; i++) {
          yield* Topic.publish(One, `${i}`)
          yield* pass("100 millis")
        }
        for (let seconds = 0; seconds < 5; seconds++) yield* pass("1 second")
        assert.deepStrictEqual([fences, seen.calls.length], [[1], 100])
      }
    )
  })

  it.effect(
    "a full partition reads on when it has heard that nothing waits any more, though no retry comes then",
    () => {
      // the message behind the failed one comes before this worker hears that the failed one is settled
      const layer = slowToAnswer(() => {})
      return run(layer, function* () {
        const handled: Array<string> = []
        const One = Topic.make("one", { schema: Schema.Tuple([Schema.String, Schema.Int]), key: ([key]) => key })
        const handler = Effect.fnUntraced(function* ({ data: [key, n] }: Message<readonly [string, number]>) {
          const { attempt } = yield* Delivery
          if (key === "a" && n === 0 && attempt === 1) return yield* Effect.fail("no")
          handled.push(`${key}${n}`)
        })
        const retry = { base: "1 minute", jitter: 0 } as const
        yield* open(Subscription.make("s", One, handler, { maxWaiting: 1, concurrency: 4, retry }))
        yield* Topic.publish(One, ["a", 0])
        yield* pass("10 seconds")
        yield* Topic.publish(One, ["a", 1])
        yield* pass("10 seconds")
        // what was asked for before the partition was full
        yield* Topic.publish(One, ["b", 0])
        yield* pass("1 second")
        yield* Topic.publish(One, ["b", 1])
        yield* pass("1 second")
        assert.deepStrictEqual(handled, ["b0"])
        for (let seconds = 0; seconds < 60; seconds++) yield* pass("1 second")
        assert.deepStrictEqual(handled, ["b0", "a0", "a1", "b1"])
      })
    }
  )

  it.effect(
    "10. what was about to start when the log took the partition back starts under the next claim alone",
    () => {
      const One = Topic.make("one", { schema: Schema.String, key: (text) => text })
      let fetches = 0
      const layer = layerWith(
        withOwners(({ fetch, settle }) => ({
          // what "c" is read by comes too late, and what "a" is settled by late, while heartbeats are answered at once
          settle: (settlements) => Effect.tap(settle(settlements), () => Effect.sleep("100 millis")),
          fetch: (limit) =>
            Effect.tap(fetch(limit), () => Effect.interruptible(Effect.sleep((fetches += 1) === 2 ? "1 minute" : 0)))
        }))
      )
      return run(layer, function* () {
        const gate = yield* Latch.make()
        const seen = yield* probe()
        const handler = seen.handler(() => gate.await)
        yield* open(
          Subscription.make("s", One, handler, { concurrency: 1, prefetch: 4, visibilityTimeout: "4 seconds" })
        )
        yield* Topic.publishAll(One, ["a", "b"])
        yield* pass("500 millis")
        yield* Topic.publish(One, "c")
        // the log takes "c" back, and with it the partition; heartbeats are a second apart, the next one at 5 s
        for (let tenths = 0; tenths < 42; tenths++) yield* pass("100 millis")
        yield* gate.open
        for (let seconds = 0; seconds < 10; seconds++) yield* pass("1 second")
        const begun = seen.calls.map(({ data, delivery: { fence } }) => [data, fence])
        assert.sameDeepMembers(begun, [
          ["a", 1],
          ["a", 2],
          ["b", 2],
          ["c", 2]
        ])
      })
    }
  )

  it.effect("7. a handler past maxLease stops the other keys of its partition for no drainTimeout", () =>
    run(
      layerWith((transport) => transport, false),
      function* () {
        const One = Topic.make("one", { schema: Schema.String, key: (text) => text })
        const seen = yield* probe()
        const handler = seen.handler(({ attempt, data }) =>
          data === "slow" && attempt === 1 ? Effect.never : Effect.void
        )
        const options = { maxLease: "2 seconds", visibilityTimeout: "1 second", drainTimeout: "1 minute" } as const
        const { close } = yield* open(Subscription.make("s", One, handler, { concurrency: 2, ...options }))
        yield* Topic.publish(One, "slow")
        for (let i = 0; i < 60; i++) {
          yield* Topic.publish(One, `${i}`)
          yield* pass("100 millis")
        }
        const at = seen.calls.map((call) => call.at)
        const gaps = at.slice(1).map((time, i) => time - (at[i] ?? 0))
        assert.isBelow(Math.max(...gaps), 1500)
        assert.strictEqual(seen.calls.length, 62)
        yield* close
      }
    )
  )

  it.effect("10. a resumed worker reads nothing before the log has what it gave back", () => {
    let down = false
    const layer = layerWith(
      withOwners(({ settle }) => ({
        settle: (settlements) =>
          down && settlements.some(({ outcome }) => outcome._tag === "Release")
            ? Effect.fail(unavailable("settle"))
            : settle(settlements)
      }))
    )
    return run(layer, function* () {
      const One = Topic.make("one", { schema: Schema.String, key: () => "one" })
      const gate = yield* Latch.make()
      const seen = yield* probe()
      const handler = seen.handler(() => gate.await)
      const { handle } = yield* open(Subscription.make("s", One, handler, { prefetch: 4 }))
      yield* Topic.publishAll(One, ["a", "b"])
      yield* pass("1 second")
      down = true
      yield* handle.pause
      yield* handle.resume
      yield* Topic.publish(One, "c")
      yield* pass("1 second")
      yield* gate.open
      yield* pass("5 seconds")
      assert.deepStrictEqual(seen.data(), ["a"])
      down = false
      for (let seconds = 0; seconds < 5; seconds++) yield* pass("1 second")
      assert.deepStrictEqual(seen.data(), ["a", "b", "c"])
    })
  })

  it.effect("paused while it claims a partition, it takes nothing of it until it goes on", () => {
    // as where much is to be taken over
    const layer = layerWith(withWorkers(({ claim }) => ({ claim: Effect.delay(claim, "1 second") })))
    return run(layer, function* () {
      const seen = yield* probe()
      const { handle } = yield* open(Subscription.make("s", Keyed, seen.handler()))
      yield* Topic.publish(Keyed, "a")
      yield* pass("500 millis")
      yield* handle.pause
      yield* pass("10 seconds")
      assert.deepStrictEqual(seen.data(), [])
      yield* handle.resume
      for (let i = 0; i < 20; i++) yield* pass("500 millis")
      assert.deepStrictEqual(seen.data(), ["a"])
    })
  })
})
