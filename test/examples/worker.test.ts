/** The worker example stops gracefully: what is in flight is finished, what is not started is left to others. */
import { RedisTransport } from "@clutch/redis"
import { DeadLetters, Subscription, Topic } from "@clutch/core"
import { Jobs } from "@clutch/examples/worker"
import { Effect } from "effect"
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest"
import { randomNamespace, removeNamespace } from "./namespace.ts"
import { type Program, run, start } from "./program.ts"

describe("worker", () => {
  let namespace: string
  beforeEach(() => {
    namespace = randomNamespace()
  })
  afterEach(() => removeNamespace(inject("redisUrl"), namespace))

  const worker = (): Program => start("worker", [], { REDIS_URL: inject("redisUrl"), CLUTCH_NAMESPACE: namespace })

  /** Runs a program against the same Redis and namespace. */
  const onRedis = <A, E>(effect: Effect.Effect<A, E, import("@clutch/core").Transport>): Promise<A> =>
    Effect.runPromise(Effect.provide(effect, RedisTransport.layer({ url: inject("redisUrl"), namespace })))

  const resize = Subscription.address("resize", Jobs)

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    it(`on ${signal} finishes what is in flight and leaves the rest to another worker`, async () => {
      const files = ["a", "b", "c", "d", "e", "f"]
      await onRedis(
        Topic.publishAll(
          Jobs,
          files.map((file) => ({ file, millis: 1000 }))
        )
      )
      const first = worker()
      await first.prints("started d")
      first.signal(signal)
      const { code, stdout, stderr } = await first.ended
      expect(stderr).toBe("")
      expect(code).toBe(130)
      expect(stdout.trim().split("\n").at(-1)).toBe("drained, leaving")
      const started = files.filter((file) => stdout.includes(`started ${file}`))
      expect(started).toEqual(expect.arrayContaining(["a", "b", "c", "d"]))
      for (const file of started) expect(stdout).toContain(`finished ${file}`)

      const second = worker()
      const left = files.filter((file) => !started.includes(file))
      for (const file of left) await second.prints(`finished ${file}`)
      second.signal(signal)
      const rest = await second.ended
      expect(files.filter((file) => rest.stdout.includes(`started ${file}`))).toEqual(left)
      const { pending, due } = await onRedis(Subscription.stats(resize))
      expect({ pending, due, dead: await onRedis(DeadLetters.count(resize)) }).toEqual({ pending: 0, due: 0, dead: 0 })
    })
  }

  it("says what is missing when REDIS_URL is not set", async () => {
    const { code, stdout, stderr } = await run("worker")
    expect(code).toBe(1)
    expect(stdout + stderr).toContain("REDIS_URL")
  })
})
