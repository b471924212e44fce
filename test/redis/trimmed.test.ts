/** What was trimmed before it was handled is told, by whichever connection its worker reads. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as S from "./support.ts"

describe("what was given back and then trimmed", () => {
  for (const ownConnection of [false, true]) {
    it.live(`is counted in a line of the log${ownConnection ? ", own connection" : ""}`, () =>
      Effect.gen(function* () {
        const { namespace, options, redis } = yield* S.shared
        const connectionName = `trimmed-${ownConnection}`
        const transport = yield* S.transport({ ...options, connectionName })
        const other = yield* S.join(transport)
        yield* S.publish(transport, "x", "y")
        const entries = yield* S.fetching(other)
        for (const entry of entries) yield* S.settle(other, entry, { _tag: "Release" })
        yield* Effect.promise(() => redis.xtrim(`${namespace}.{orders}`, "MAXLEN", 0))
        const lines: Array<string> = []
        const logger = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
        const consumer = yield* S.join(transport, { ownConnection })
        yield* S.until("its own connection is there", async () => {
          return !ownConnection || (await S.connections(redis, `${connectionName}-consumer`)) === 1
        })
        const fetching = yield* Effect.forkChild(Effect.provide(S.fetching(consumer), logger))
        yield* S.publish(transport, "z")
        assert.deepStrictEqual((yield* S.joined(fetching)).map(S.text), ["z"])
        assert.strictEqual(lines.length, 1)
        assert.match(lines[0] ?? "", /^2 messages .* were trimmed before they were handled$/)
      }).pipe(Effect.scoped)
    )
  }
})
