/** Connections that are lost while the servers are well. */
import { Subscription, Topic } from "@clutch/core"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type Admin, as, fresh, outcome, own, range, recorder, servers, test, texts, until, worker } from "./kit.ts"

/** Every connection that commands go by, but for those by which it is done. */
const dropAll = (redis: Admin) =>
  Effect.promise(() =>
    Promise.all(servers(redis).map((server) => server.call("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")))
  )

describe("connections", () => {
  test("13. connections that are dropped again and again cost nothing but time", () =>
    Effect.gen(function* () {
      const { options, redis } = yield* own
      const topic = texts()
      const seen = recorder()
      const run = as(yield* worker({ ...options, namespace: fresh("drops") }))
      const subscription = Subscription.make("billing", topic, seen.handler(), { concurrency: 4, from: "beginning" })
      yield* run(Subscription.subscribe(subscription))
      const stored: Array<string> = []
      const unsure: Array<string> = []
      for (const i of range(40)) {
        if (i % 4 === 0) yield* dropAll(redis)
        const exit = yield* Effect.exit(run(Topic.publish(topic, `${i}`)))
        if (outcome(exit) === "stored") stored.push(`${i}`)
        else if (outcome(exit) === "Unknown") unsure.push(`${i}`)
        else assert.fail(outcome(exit))
      }
      yield* until("all that was confirmed is handled", () => stored.every((data) => seen.data().includes(data)))
      yield* run(Subscription.awaitIdle(subscription))
      for (const data of stored) assert.lengthOf(seen.of(data), 1, data)
      for (const data of unsure) assert.isAtMost(seen.of(data).length, 1, data)
      assert.isTrue(seen.calls.every(({ attempt }) => attempt === 1))
    }))
})
