/** A master that dies while sentinels watch: subscriptions go on with its successor. */
import { Subscription } from "@clutch/core"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fresh, test, texts, until } from "../cases/kit.ts"
import { startSentinel } from "../support/cluster.ts"
import { changes, connections, handled, logged, publishing } from "./kit.ts"

describe("redis sentinel", () => {
  test(
    "a master dies: what replicas confirmed is handled, and the outage is a line when it begins and one when it ends",
    () =>
      Effect.gen(function* () {
        const sentinel = yield* Effect.acquireRelease(
          Effect.promise(() => startSentinel()),
          (one) => Effect.promise(() => one.stop())
        )
        const namespace = fresh("sentinel")
        const { lines, run, seen } = yield* logged({
          url: "redis://sentinel",
          sentinel: { name: sentinel.name, sentinels: sentinel.sentinels },
          namespace,
          connectionName: namespace
        })
        const topic = texts()
        const own = texts()
        yield* run(Subscription.subscribe(Subscription.make("s", topic, seen.handler(), { concurrency: 8 })))
        yield* run(Subscription.subscribe(Subscription.make("own", own, seen.handler(), { ownConnection: true })))
        const load = yield* publishing([topic, own], { replicas: 1, within: "5 seconds", timeout: "30 seconds" }, run)
        yield* until("it flows", () => load.confirmed.length > 100)
        const master = yield* Effect.promise(() => sentinel.master())
        yield* Effect.promise(() => master.server.kill())
        const successor = yield* Effect.promise(() => sentinel.failedOver(master))
        const before = load.confirmed.length
        yield* until("publishing goes on", () => load.confirmed.length > before + 100, 30_000)
        load.stop()
        yield* handled(seen, load.confirmed)
        assert.deepStrictEqual(
          load.failed.filter((reason) => reason !== "Unknown" && reason !== "UnderReplicated"),
          []
        )
        // one on its way for each of the two that publish; the successor's replica may take its time to follow
        assert.isAtMost(load.failed.filter((reason) => reason === "Unknown").length, 2)
        yield* until("all works again", () => {
          const told = changes(lines)
          return told.filter((one) => one.endsWith("works again")).length * 2 === told.length
        })
        // each loop says once that it fails
        const failing = changes(lines).filter((one) => !one.endsWith("works again"))
        assert.isAtLeast(failing.length, 1)
        assert.isAtMost(failing.length, 2 * new Set(failing).size)
        const names = (yield* connections([successor], namespace)).flat()
        assert.deepStrictEqual(names, ["bell", "commands", "consumer", "consumer", "replicas"])
      }),
    90_000
  )
})
