/** Faults of the Redis process and of what it holds. */
import { RedisKeys } from "@clutch/redis"
import * as Effect from "effect/Effect"
import { clients } from "../../cases/kit.ts"
import type { Rig } from "../rig.ts"
import { scenario } from "../scenario.ts"
import { aof, crash, pause, repeat, type Single, single } from "./kit.ts"

export const restartAlways = scenario({
  name: "restart",
  what: "SIGKILL of Redis and a restart, appendfsync always",
  times: 100,
  place: aof("always"),
  chaos: (place, rig, run) =>
    repeat(run, () =>
      Effect.gen(function* () {
        yield* pause(500)
        yield* rig.fault({ what: "crash" }, crash(place))
        yield* rig.untilHealed
      })
    )
})

/** Milliseconds: where a slow disk holds the write back, Redis waits two seconds at most. */
const heldBack = 2500

export const restartEverysec = scenario({
  name: "everysec",
  what: "SIGKILL of Redis and a restart, appendfsync everysec",
  times: 100,
  place: aof("everysec"),
  chaos: (place, rig, run) =>
    repeat(run, () =>
      Effect.gen(function* () {
        yield* pause(500)
        yield* rig.fault({ what: "crash", loses: heldBack }, crash(place))
        yield* rig.untilHealed
      })
    )
})

/** Milliseconds: long enough for messages to come before anybody has noticed, and shorter than a lease. */
const unnoticed = 300

export const flush = scenario({
  name: "flush",
  what: "FLUSHALL, half of the time while all workers are frozen for a moment",
  times: 50,
  place: single(),
  chaos: ({ redis }, rig, run) => {
    const flushing = rig.fault(
      { what: "FLUSHALL", loses: "all" },
      Effect.asVoid(Effect.promise(() => redis.flushall()))
    )
    const tell = (signal: "SIGSTOP" | "SIGCONT") =>
      Effect.sync(() => {
        for (const worker of rig.workers()) worker.signal(signal)
      })
    const frozen = Effect.andThen(tell("SIGSTOP"), Effect.andThen(flushing, Effect.sleep(unnoticed))).pipe(
      Effect.ensuring(tell("SIGCONT"))
    )
    return repeat(run, (i) =>
      Effect.gen(function* () {
        yield* pause(500)
        yield* i % 2 === 0 ? frozen : flushing
        yield* rig.untilHealed
      })
    )
  }
})

export const clientKill = scenario({
  name: "client-kill",
  what: "CLIENT KILL of most connections",
  times: 200,
  place: single(),
  chaos: ({ redis }, rig, run) =>
    repeat(run, (i) =>
      Effect.gen(function* () {
        yield* rig.fault(
          { what: "CLIENT KILL" },
          Effect.promise(async () => {
            for (const { id = "", name = "" } of await clients(redis, "")) {
              // one that has gone by itself is no fault
              if (/^[wp]\d/.test(name) && Math.random() < 0.7) await redis.client("KILL", "ID", id).catch(() => 0)
            }
          })
        )
        yield* i % 10 === 0 ? rig.untilHealed : pause(400)
      })
    )
})

export const memory = scenario({
  name: "memory",
  what: "memory is full for a second, maxmemory-policy noeviction",
  times: 50,
  place: single("--maxmemory-policy", "noeviction"),
  load: { timeout: 300 },
  chaos: ({ redis }, rig, run) =>
    repeat(run, () =>
      Effect.gen(function* () {
        yield* pause(500)
        yield* rig.fault(
          { what: "memory full" },
          Effect.gen(function* () {
            yield* Effect.promise(() => redis.config("SET", "maxmemory", "1"))
            yield* pause(2000)
            yield* Effect.promise(() => redis.config("SET", "maxmemory", "0"))
          })
        )
        yield* rig.untilHealed
      })
    )
})

/** Leaves few of the topic's entries, whatever of the rest is in flight. */
const cutShort = (place: Single, rig: Rig) => {
  const { namespace, topic } = rig.options
  const { main } = RedisKeys.log(namespace, { topic: topic.name, partition: 0 })
  return Effect.map(
    Effect.promise(() => place.redis.xtrim(main, "MAXLEN", 5)),
    (trimmed) => ({ trimmed })
  )
}

export const trim = scenario({
  name: "trim",
  what: "XTRIM of what is unread and in flight, of a topic that keeps 100 entries",
  times: 100,
  place: single(),
  rules: { trims: true },
  // more than the workers can do
  load: { maxLength: 100, rate: 600, work: 60, concurrency: 4 },
  chaos: (place, rig, run) =>
    repeat(run, () => Effect.andThen(pause(600), rig.fault({ what: "XTRIM" }, cutShort(place, rig))))
})
