/** Settling through outages, lost replies and logs that are full. */
import type { Message } from "@clutch/core/Message"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { Refused, TransportError } from "@clutch/core/Errors"
import type { Consumer, Settlement } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as DeadLetters from "@clutch/core/DeadLetters"
import { timeless, Turns } from "../../../packages/core/src/internal/turns.ts"
import {
  layerWith,
  Lines,
  open,
  pass,
  probe,
  run,
  settled,
  Texts,
  unavailable,
  unknown,
  withConsumers
} from "../support.ts"

interface SettleCall {
  readonly at: number
  readonly settlements: ReadonlyArray<Settlement>
}

/** A log whose calls of settle are what the test makes of them. */
const settling = (
  make: (
    call: SettleCall & { readonly nth: number },
    settle: ReturnType<Consumer["settle"]>
  ) => ReturnType<Consumer["settle"]>
) => {
  const calls: Array<SettleCall> = []
  const layer = layerWith(
    withConsumers(({ settle }) => ({
      settle: (settlements) =>
        Effect.flatMap(Clock.currentTimeMillis, (at) => {
          calls.push({ at, settlements })
          return make({ at, settlements, nth: calls.length }, settle(settlements))
        })
    }))
  )
  return { calls, layer }
}

const plain = Subscription.make("s", Texts, () => Effect.void, { concurrency: 4 })
const outcomes = ({ settlements }: SettleCall) => settlements.map(({ outcome }) => outcome._tag)

describe("settlements", () => {
  it.effect("an ack in an outage is tried again with backoff until the log has it, once", () => {
    const { calls, layer } = settling(({ at }, settle) => (at < 60_000 ? Effect.fail(unavailable("settle")) : settle))
    return run(layer, function* () {
      const { handle } = yield* open(plain)
      yield* Topic.publish(Texts, "x")
      yield* pass("10 seconds")
      const during = yield* handle.stats
      assert.deepStrictEqual(
        [during.state, Option.getOrNull(during.problem), during.pending],
        ["unhealthy", "settle: the log is down", 1]
      )
      yield* pass("52 seconds")
      const after = yield* handle.stats
      assert.deepStrictEqual([after.state, Option.isNone(after.problem), after.pending], ["running", true, 0])
      // backoff, no hot loop: 50, 100, 200, 400, 800 ms, then every second
      const gaps = calls.slice(1).map(({ at }, i) => at - (calls[i]?.at ?? 0))
      assert.deepStrictEqual(gaps.slice(0, 7), [50, 100, 200, 400, 800, 1000, 1000])
      assert.isTrue(gaps.slice(5).every((gap) => gap === 1000))
      for (const { settlements } of calls)
        assert.deepStrictEqual(
          settlements.map(({ repeated }) => repeated),
          [false]
        )
      const lines = (yield* Lines).filter(({ text }) => text.startsWith("settling"))
      assert.deepStrictEqual(
        lines.map(({ annotations, level, text }) => [level, text, annotations["subscription"], annotations["topic"]]),
        [
          ["Warn", "settling is failing and goes on trying: settle: the log is down", "s", "texts"],
          ["Info", "settling works again", "s", "texts"]
        ]
      )
    })
  })

  it.effect("what ends in one turn is one call", () => {
    const { calls, layer } = settling((_, settle) => settle)
    return run(layer, function* () {
      yield* Topic.publishAll(Texts, ["a", "b", "c", "d"])
      const quick = Subscription.make("s", Texts, () => Effect.void, { concurrency: 4, from: "beginning" })
      // whatever else the machine does
      yield* Effect.provideService(open(quick), Turns, timeless)
      yield* settled
      assert.deepStrictEqual(calls.map(outcomes), [["Ack", "Ack", "Ack", "Ack"]])
    })
  })

  it.effect("1. a settle whose reply was lost is sent again as repeated; what came behind it is not", () => {
    const { calls, layer } = settling(({ nth }, settle) =>
      nth === 1 ? Effect.andThen(settle, Effect.fail(unknown("settle"))) : settle
    )
    return run(layer, function* () {
      const seen = yield* probe()
      yield* open(Subscription.make("s", Texts, seen.handler(), { concurrency: 4 }))
      yield* Topic.publish(Texts, "a")
      yield* settled
      yield* Topic.publish(Texts, "b")
      yield* pass("1 second")
      const all = calls.flatMap(({ settlements }) =>
        settlements.map(({ entry, repeated }) => `${entry.id} ${repeated}`)
      )
      assert.deepStrictEqual(all.slice(0, 1), [`${seen.calls[0]?.delivery.messageId} false`])
      assert.sameMembers(all.slice(1), [
        `${seen.calls[0]?.delivery.messageId} true`,
        `${seen.calls[1]?.delivery.messageId} false`
      ])
      assert.deepStrictEqual(seen.data(), ["a", "b"])
      const { pending, waiting } = yield* Subscription.stats(plain)
      assert.deepStrictEqual([pending, Option.getOrNull(waiting)], [0, 0])
    })
  })

  it.effect("once repeated, it stays repeated, also through an outage", () => {
    const { calls, layer } = settling(({ nth }, settle) => {
      if (nth === 1) return Effect.fail(unknown("settle"))
      return nth === 2 ? Effect.fail(unavailable("settle")) : settle
    })
    return run(layer, function* () {
      yield* open(plain)
      yield* Topic.publish(Texts, "x")
      yield* pass("1 second")
      assert.deepStrictEqual(
        calls.map(({ settlements }) => settlements[0]?.repeated),
        [false, true, true]
      )
      assert.strictEqual((yield* Subscription.stats(plain)).pending, 0)
    })
  })

  it.effect(
    "a failure that cannot be stored as memory is full stays pending; acks beside it are settled at once",
    () => {
      let full = true
      const { calls, layer } = settling(({ settlements }, settle) =>
        Effect.gen(function* () {
          // what needs memory is refused, one by one, as a log would
          const refused = settlements.map(
            ({ outcome }) => full && (outcome._tag === "Retry" || outcome._tag === "DeadLetter")
          )
          if (!refused.includes(true)) return yield* settle
          if (settlements.length === 1) return [unavailable("settle")]
          return yield* Effect.die("one at a time in this test")
        })
      )
      return run(layer, function* () {
        const seen = yield* probe()
        const subscription = Subscription.make(
          "s",
          Texts,
          seen.handler(({ data }) => (data === "bad" ? Effect.fail("no") : Effect.void)),
          {
            retry: { maxRetries: 1, base: "1 second" }
          }
        )
        const { handle } = yield* open(subscription)
        yield* Topic.publish(Texts, "bad")
        yield* seen.next
        yield* settled
        for (const data of ["a", "b", "c"]) {
          yield* Topic.publish(Texts, data)
          yield* settled
        }
        yield* pass("5 minutes")
        assert.deepStrictEqual(seen.data(), ["bad", "a", "b", "c"])
        const during = yield* handle.stats
        assert.deepStrictEqual([during.pending, during.due, during.state], [1, 0, "unhealthy"])
        const tries = calls.filter((call) => outcomes(call).includes("Retry")).length
        assert.isAtLeast(tries, 100)
        assert.isAtMost(tries, 310, "bounded")
        full = false
        yield* pass("10 seconds")
        yield* Subscription.awaitIdle(subscription)
        assert.strictEqual(seen.calls.length, 5)
        const [letter] = yield* Stream.runCollect(DeadLetters.list(subscription))
        assert.strictEqual(letter?.attempts, 2)
        assert.strictEqual((yield* handle.stats).state, "running")
      })
    }
  )

  it.effect(
    "with other settlements going through all the while, what cannot be stored still backs off, and is one log line",
    () => {
      const { calls, layer } = settling(({ settlements }, settle) =>
        Effect.map(
          settlements.some(({ outcome }) => outcome._tag === "Retry") ? Effect.succeed([]) : settle,
          (answers) => (answers.length > 0 ? answers : settlements.map(() => unavailable("settle")))
        )
      )
      return run(layer, function* () {
        const handler = ({ data }: Message<string>) => (data === "bad" ? Effect.fail("no") : Effect.void)
        const { handle } = yield* open(Subscription.make("s", Texts, handler, { prefetch: 10 }))
        yield* Topic.publish(Texts, "bad")
        yield* settled
        for (let i = 0; i < 240; i++) {
          yield* Topic.publish(Texts, "good")
          yield* pass("250 millis")
        }
        // a minute: the first few seconds are quick, then it is tried once a second
        const tries = calls.filter((call) => outcomes(call).includes("Retry")).length
        assert.isAtMost(tries, 70)
        assert.strictEqual((yield* handle.stats).state, "unhealthy")
        const lines = (yield* Lines).filter(({ text }) => text.startsWith("settling"))
        assert.deepStrictEqual(
          lines.map(({ level }) => level),
          ["Warn"]
        )
      })
    }
  )

  it.effect("errors for some of a batch leave the others settled, and are tried again alone", () => {
    const { calls, layer } = settling(({ nth }, settle) =>
      nth === 1
        ? Effect.map(settle, (answers) => answers.map((answer, i) => (i === 1 ? unavailable("settle") : answer)))
        : settle
    )
    return run(layer, function* () {
      yield* open(Subscription.make("s", Texts, () => Effect.void, { concurrency: 4, from: "beginning" }))
      yield* Topic.publishAll(Texts, ["a", "b", "c", "d"])
      yield* pass("10 seconds")
      const [first, second, ...others] = calls.map(({ settlements }) => settlements.map(({ entry }) => entry.id))
      assert.deepStrictEqual([first?.length, others], [4, []])
      assert.deepStrictEqual(second, [first?.[1]])
      assert.strictEqual((yield* Subscription.stats(plain)).pending, 0)
    })
  })

  it.effect("what the server refuses is probed slowly", () => {
    const refused = new TransportError({ operation: "settle", reason: new Refused({ detail: "NOPERM" }) })
    const { calls, layer } = settling(() => Effect.fail(refused))
    return run(layer, function* () {
      const { handle } = yield* open(plain)
      yield* Topic.publish(Texts, "x")
      yield* pass("10 minutes")
      assert.isAtMost(calls.length, 27)
      assert.isAtLeast(calls.length, 20)
      assert.strictEqual((yield* handle.stats).state, "unhealthy")
    })
  })

  it.effect("a settlement at low rate waits for nothing; those that come while one is under way go together", () => {
    const { calls, layer } = settling((_, settle) => Effect.andThen(Effect.sleep("1 second"), settle))
    return run(layer, function* () {
      yield* open(Subscription.make("s", Texts, () => Effect.void, { concurrency: 2000, from: "beginning" }))
      yield* Topic.publish(Texts, "first")
      yield* settled
      assert.deepStrictEqual(
        calls.map(({ at, settlements }) => [at, settlements.length]),
        [[0, 1]]
      )
      yield* Topic.publishAll(
        Texts,
        Array.from({ length: 1500 }, (_, i) => `m${i}`)
      )
      yield* pass("3 seconds")
      // 1,000 at most, so that one step on the log is short
      assert.deepStrictEqual(
        calls.map(({ at, settlements }) => [at, settlements.length]),
        [
          [0, 1],
          [1000, 1000],
          [2000, 500]
        ]
      )
    })
  })

  it.effect("a log that dies while settling fails the handle's join, and the subscription still closes", () => {
    const { layer } = settling(() => Effect.die(new Error("bug")))
    return run(layer, function* () {
      // a scope of its own, so that a closing that hangs fails the test and not its teardown
      const scope = yield* Scope.make()
      const handle = yield* Scope.provide(Subscription.subscribe(plain), scope)
      yield* Topic.publish(Texts, "x")
      const error = yield* Effect.flip(handle.join)
      assert.strictEqual(error._tag, "SubscriptionFailed")
      assert.include(error.message, "bug")
      const closing = yield* Effect.forkDetach(Scope.close(scope, Exit.void))
      yield* pass("1 minute")
      assert.isDefined(closing.pollUnsafe(), "closing hangs")
    })
  })

  it.effect("8. a settlement that is refused as lost is told, and does not hold up the others", () => {
    const { layer } = settling(({ settlements }, settle) =>
      Effect.map(settle, (answers) =>
        answers.map((answer, i) => (settlements[i]?.outcome._tag === "DeadLetter" ? "lost" : answer))
      )
    )
    return run(layer, function* () {
      const seen = yield* probe()
      const told: Array<string> = []
      const handler = seen.handler(({ data, delivery }) =>
        data === "a"
          ? Effect.match(delivery.deadLetter("x"), {
              onSuccess: () => void told.push("done"),
              onFailure: ({ reason }) => void told.push(reason._tag)
            })
          : delivery.ack
      )
      yield* open(Subscription.make("s", Texts, handler, { ack: "manual" }))
      yield* Topic.publishAll(Texts, ["a", "b"])
      yield* settled
      assert.deepStrictEqual(told, ["LeaseLost"])
      assert.deepStrictEqual(seen.data(), ["a", "b"])
      const warnings = (yield* Lines).filter(({ text }) => text.includes("lease was lost"))
      assert.deepStrictEqual(
        warnings.map(({ annotations }) => annotations["messageId"]),
        [seen.calls[0]?.delivery.messageId]
      )
    })
  })
})
