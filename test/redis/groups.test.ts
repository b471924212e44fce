/** Groups and streams that disappear under a consumer: it creates them again, and repeats no more than it must. */
import type { Consumer, Entry } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as S from "./support.ts"

const setup = Effect.gen(function* () {
  const { options, redis } = yield* S.own
  const logs: Array<string> = []
  const logger = Logger.layer([Logger.make(({ message }) => void logs.push(String(message)))])
  return { admin: redis, logs, logger, transport: yield* S.transport(options) }
})

/** Everything that a consumer is given for a while, acked. */
const drained = (consumer: Consumer, forMillis: number) =>
  Effect.gen(function* () {
    const seen: Array<string> = []
    yield* Effect.gen(function* () {
      for (;;) {
        for (const entry of yield* S.fetching(consumer)) {
          seen.push(`${S.text(entry)} ${entry.attempt}`)
          yield* S.settle(consumer, entry, S.ack)
        }
      }
    }).pipe(Effect.timeoutOption(forMillis))
    return seen.toSorted()
  })

describe("a lost group", () => {
  const losses = [
    ["FLUSHALL", (admin: S.Admin) => S.flush(admin)],
    ["XGROUP DESTROY", (admin: S.Admin) => admin.xgroup("DESTROY", "clutch.{orders}", "billing")],
    [
      "XGROUP DESTROY of the retry group",
      (admin: S.Admin) => admin.xgroup("DESTROY", "clutch.{orders}.billing.retry", "billing-retry")
    ],
    ["DEL of the stream", (admin: S.Admin) => admin.del("clutch.{orders}")],
    ["DEL of the retry stream", (admin: S.Admin) => admin.del("clutch.{orders}.billing.retry")]
  ] as const
  for (const ownConnection of [false, true]) {
    for (const [name, lose] of losses) {
      it.live(
        `${name} while waiting${ownConnection ? ", own connection" : ""}: what comes next is delivered, retries too`,
        () =>
          Effect.gen(function* () {
            const { admin, logs, logger, transport } = yield* setup
            const consumer = yield* S.join(transport, { ownConnection })
            yield* S.publish(transport, "before")
            const [before] = yield* S.fetching(consumer)
            if (before === undefined) return assert.fail("nothing was fetched")
            yield* S.settle(consumer, before, S.ack)
            const fiber = yield* Effect.forkChild(Effect.provide(S.fetching(consumer), logger))
            yield* Effect.sleep(50)
            yield* Effect.promise(() => lose(admin))
            yield* S.publish(transport, "after")
            const seen = new Map<string, Entry>()
            for (const entry of yield* S.joined(fiber)) seen.set(S.text(entry), entry)
            while (!seen.has("after")) {
              for (const entry of yield* Effect.provide(S.fetching(consumer), logger)) seen.set(S.text(entry), entry)
            }
            const after = seen.get("after")
            if (after === undefined) return assert.fail("not delivered")
            assert.strictEqual(after.attempt, 1)
            assert.strictEqual(
              yield* S.settle(consumer, after, { _tag: "Retry", delay: S.millis(0), cause: "no" }),
              "done"
            )
            yield* transport.tend(S.group())
            let retried: Entry | undefined
            while (retried?.originalId !== after.id) {
              ;[retried] = yield* Effect.provide(S.fetching(consumer), logger)
            }
            assert.strictEqual(retried.attempt, 2)
            assert.strictEqual(yield* S.settle(consumer, retried, S.ack), "done")
            assert.isAtMost(logs.filter((line) => line.includes("disappeared")).length, 1)
          }).pipe(Effect.scoped)
      )
    }
  }

  it.live("a group that was destroyed goes on where it was: what was settled is not repeated", () =>
    Effect.gen(function* () {
      const { admin, logs, logger, transport } = yield* setup
      const consumer = yield* S.join(transport)
      yield* S.publish(transport, "1", "2", "3")
      const entries = yield* S.fetching(consumer)
      const [one, two] = entries
      if (one === undefined || two === undefined) return assert.fail("nothing was fetched")
      yield* S.settle(consumer, one, S.ack)
      yield* consumer.extend([two])
      yield* Effect.promise(() => admin.xgroup("DESTROY", "clutch.{orders}", "billing"))
      yield* S.publish(transport, "4")
      const seen = yield* Effect.provide(drained(consumer, 500), logger)
      assert.deepStrictEqual(seen, ["2 1", "3 1", "4 1"])
      assert.deepStrictEqual(logs.filter((line) => line.includes("disappeared")).length, 1)
      assert.match(logs.join(), /3 of the messages may repeat/)
    }).pipe(Effect.scoped)
  )
})
