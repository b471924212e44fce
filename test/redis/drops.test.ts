/** Connections that are lost while the servers are well: nothing is lost with them, and nothing is doubled. */
import { TransportError } from "@clutch/core/Errors"
import type { Entry } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as S from "./support.ts"

describe("a lost connection", () => {
  it.live(
    "CLIENT KILL of all connections, again and again, under load: each message once",
    () =>
      Effect.gen(function* () {
        const { options, redis } = yield* S.own
        const direct = yield* S.transport(options)
        const victim = yield* S.transport({ ...options, connectionName: "victim" })
        const consumer = yield* S.join(victim)
        const total = 1000
        const publisher = yield* Effect.forkChild(
          Effect.gen(function* () {
            for (let i = 0; i < total; i++) {
              yield* S.publish(direct, `${i}`)
              if (i % 3 === 0) yield* Effect.sleep(5)
            }
          })
        )
        const seen = new Map<string, number>()
        let unknown = 0
        const killer = yield* Effect.gen(function* () {
          for (;;) {
            yield* Effect.sleep(150)
            yield* Effect.promise(async () => {
              for (const server of S.servers(redis)) {
                for (const line of String(await server.client("LIST")).split("\n")) {
                  const id = /^id=(\d+) .* name=victim-/.exec(line)?.[1]
                  if (id !== undefined && Math.random() < 0.7) await server.client("KILL", "ID", id)
                }
              }
            })
          }
        }).pipe(Effect.forkChild)
        const settleAgain = (entry: Entry, repeated: boolean): Effect.Effect<unknown> =>
          S.settle(consumer, entry, S.ack, repeated).pipe(
            Effect.flatMap((settled) => (settled instanceof TransportError ? Effect.fail(settled) : Effect.void)),
            Effect.catch((error) => {
              if (error.reason._tag === "Unknown") unknown += 1
              return Effect.andThen(Effect.sleep(20), settleAgain(entry, repeated || error.reason._tag === "Unknown"))
            })
          )
        while (seen.size < total) {
          for (const entry of yield* S.fetching(consumer)) {
            const data = S.text(entry)
            seen.set(data, (seen.get(data) ?? 0) + 1)
            yield* settleAgain(entry, false)
          }
        }
        yield* Fiber.interrupt(killer)
        yield* Fiber.join(publisher)
        assert.deepStrictEqual(
          Array.from(seen).filter(([, times]) => times !== 1),
          []
        )
        const { pending } = yield* direct.inspect(S.group())
        assert.strictEqual(pending, 0, `${unknown} settles were unknown`)
      }).pipe(Effect.scoped, Effect.timeout("50 seconds")),
    60_000
  )

  it.live("of a connection of its own, which cannot be made again: what is published next is heard at once", () =>
    Effect.gen(function* () {
      const { proxy, redis } = yield* S.behindProxy()
      const admin = yield* S.looker(redis.url)
      const direct = yield* S.transport({ url: redis.url })
      const consumer = yield* S.join(yield* S.transport({ url: proxy.url }), { ownConnection: true })
      const own = () =>
        admin
          .client("LIST")
          .then((list) => /^id=(\d+) .* name=clutch-consumer .* cmd=xreadgroup/m.exec(String(list))?.[1])
      const reads = () => own().then((id) => id !== undefined)
      const first = yield* Effect.forkChild(S.fetching(consumer))
      yield* S.until("it reads by its own connection", reads)
      yield* S.publish(direct, "a")
      assert.deepStrictEqual((yield* S.joined(first)).map(S.text), ["a"])
      const next = yield* Effect.forkChild(S.fetching(consumer))
      yield* S.until("it reads on", reads)
      proxy.refuse(true)
      const id = yield* Effect.promise(own)
      yield* Effect.promise(() => admin.client("KILL", "ID", id ?? "0"))
      // it reads by the shared one, finds nothing, and waits
      yield* Effect.sleep(300)
      const begun = performance.now()
      yield* S.publish(direct, "b")
      assert.deepStrictEqual((yield* S.joined(next)).map(S.text), ["b"])
      // the next look would come after two and a half
      assert.isBelow(performance.now() - begun, 2000)
    }).pipe(Effect.scoped)
  )
})
