import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { admin, test } from "../cases/kit.ts"
import { shiftedServer } from "./clock.ts"

describe("a shifted server", () => {
  test("has the machine's clock and what it is told to add, in commands, scripts and entry ids, while it runs", () =>
    Effect.gen(function* () {
      const { server, shift } = yield* shiftedServer
      const redis = yield* admin(server.url)
      const off = Effect.promise(async () => {
        const [seconds] = await redis.time()
        const script = Number(await redis.eval("return redis.call('TIME')[1]", 0))
        const id = await redis.xadd("stream", "*", "a", "b")
        await redis.del("stream")
        return [Number(seconds), script, Number(id?.split("-")[0]) / 1000].map((at) => at - Date.now() / 1000)
      })
      for (const seconds of [0, 3600, -3600, 10, -5400]) {
        shift(seconds * 1000)
        for (const found of yield* off) assert.approximately(found, seconds, 3)
      }
    }))
})
