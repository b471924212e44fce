/** Who holds nothing says that it lives, before it is taken for dead, whatever it reads and whatever becomes of others. */
import * as RedisKeys from "@clutch/redis/RedisKeys"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { afterAll, vi } from "vitest"
import * as S from "./support.ts"

// the time that processes measure by: minutes pass at once
let passed = 0
const real = performance.now.bind(performance)
const clock = vi.spyOn(performance, "now").mockImplementation(() => real() + passed)
afterAll(() => clock.mockRestore())

it.live(
  "who reads for minutes, and finds nothing, says that it lives, also behind those that cannot say so",
  () =>
    Effect.gen(function* () {
      const { redis } = yield* S.behindProxy()
      const admin = yield* S.looker(redis.url)
      const transport = yield* S.transport({ url: redis.url })
      // more than speak at once cannot, and so many others that it is soon the turn of the next
      const mute = Array.from({ length: 20 }, (_, i) => `cannot-${i}`)
      const others = Array.from({ length: 200 }, (_, i) => `other-${i}`)
      const members = yield* Effect.forEach([...mute, "reads", ...others], (topic) =>
        S.join(transport, { group: S.group(topic) })
      )
      const reader = members[mute.length]
      if (reader === undefined) return assert.fail("nobody joined")
      const stateOf = (topic: string) => RedisKeys.group("clutch", S.group(topic)).state
      for (const topic of mute) {
        yield* Effect.promise(() => admin.multi().del(stateOf(topic)).set(stateOf(topic), "x").exec())
      }
      const heard = () => admin.hget(stateOf("reads"), `h:${reader.name}`)
      const before = yield* Effect.promise(heard)
      passed += 4 * 60_000
      yield* Effect.forkScoped(Effect.forever(reader.fetch(S.limit())))
      // who is to speak is looked for every ten seconds
      yield* Effect.sleep("10 seconds")
      yield* S.until("it says so", () => heard().then((now) => now !== before))
    }).pipe(Effect.scoped),
  40_000
)
