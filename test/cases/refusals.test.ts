/** What only somebody can mend (NOPERM, WRONGPASS, WRONGTYPE) is reported as unhealthy, and probed slowly. */
import { Subscription, Topic } from "@clutch/core"
import { RedisKeys } from "@clutch/redis"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import {
  type Admin,
  as,
  collecting,
  fresh,
  masters,
  own,
  rate,
  recorder,
  servers,
  test,
  texts,
  until,
  untilEffect,
  worker
} from "./kit.ts"

interface Refusal {
  readonly name: string
  readonly reply: RegExp
  /** Whether publishing is refused too. */
  readonly publishing: boolean
  /** What says that it fails. New messages are read without a script. */
  readonly loop: "fetching" | "settling"
  /** Whether other users can go on publishing. */
  readonly others: boolean
  readonly begin: (redis: Admin, main: string) => Promise<unknown>
  readonly end: (redis: Admin, main: string) => Promise<unknown>
}

/** Users are each server's own. */
const everywhere = (redis: Admin, command: string, ...args: ReadonlyArray<string>): Promise<unknown> =>
  Promise.all(servers(redis).map((server) => server.call(command, ...args)))

const refusals: ReadonlyArray<Refusal> = [
  {
    name: "NOPERM: its user may not read any more",
    loop: "fetching",
    reply: /NOPERM/,
    publishing: false,
    others: true,
    begin: (redis) => everywhere(redis, "ACL", "SETUSER", "worker", "-xreadgroup"),
    end: (redis) => everywhere(redis, "ACL", "SETUSER", "worker", "+xreadgroup")
  },
  {
    name: "NOPERM: its user may not run scripts any more",
    loop: "settling",
    reply: /NOPERM/,
    publishing: true,
    others: true,
    begin: (redis) => everywhere(redis, "ACL", "SETUSER", "worker", "-@scripting"),
    end: (redis) => everywhere(redis, "ACL", "SETUSER", "worker", "+@all")
  },
  {
    name: "WRONGPASS: its password was changed",
    loop: "fetching",
    reply: /WRONGPASS|NOAUTH/,
    publishing: true,
    others: true,
    begin: async (redis) => {
      await everywhere(redis, "ACL", "SETUSER", "worker", "resetpass", ">another")
      await everywhere(redis, "CLIENT", "KILL", "USER", "worker")
    },
    end: (redis) => everywhere(redis, "ACL", "SETUSER", "worker", "resetpass", ">secret")
  },
  {
    name: "WRONGTYPE: somebody made another thing of its key",
    loop: "fetching",
    reply: /WRONGTYPE/,
    publishing: true,
    others: false,
    begin: (redis, main) => redis.set(main, "not a stream"),
    end: (redis, main) => redis.del(main)
  }
]

describe("a refusal of the server", () => {
  for (const refusal of refusals) {
    test(
      `13. ${refusal.name}: unhealthy, probed slowly, and it goes on by itself once that is mended`,
      () =>
        Effect.gen(function* () {
          const { options, redis } = yield* own
          yield* Effect.acquireRelease(
            Effect.promise(() => everywhere(redis, "ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all")),
            () => Effect.promise(() => everywhere(redis, "ACL", "DELUSER", "worker"))
          )
          const namespace = fresh("refusal")
          const topic = texts()
          const { main } = RedisKeys.log(namespace, { topic: topic.topic, partition: 0 })
          const seen = recorder()
          const log = collecting()
          const user = { ...options, username: "worker", password: "secret", namespace }
          const run = as(yield* Effect.provide(worker(user), log.layer))
          const others = as(yield* worker({ ...options, namespace }))
          const subscription = Subscription.make("billing", topic, seen.handler(), { from: "beginning" })
          const handle = yield* Effect.provide(run(Subscription.subscribe(subscription)), log.layer)
          yield* run(Topic.publish(topic, "before"))
          yield* until("it works before", () => seen.data().includes("before"))
          yield* run(Subscription.awaitIdle(subscription))

          yield* Effect.promise(() => refusal.begin(redis, main))
          if (refusal.others) yield* others(Topic.publish(topic, "meanwhile"))
          // a lost connection may be told before what keeps it away
          const failing = () =>
            log.lines.filter(({ text }) => text.includes(`${refusal.loop} is failing`) && refusal.reply.test(text))
          yield* until(
            () => `${refusal.loop} says that it fails: ${JSON.stringify(log.lines)}`,
            () => failing().length > 0,
            15_000
          )
          // what other users may do tells the state
          const stats = yield* Effect.option(run(handle.stats))
          if (Option.isSome(stats)) {
            assert.strictEqual(stats.value.state, "unhealthy")
            assert.isTrue(Option.exists(stats.value.problem, (text) => refusal.reply.test(text)))
          }
          if (refusal.publishing) {
            const begun = performance.now()
            const error = yield* Effect.flip(run(Topic.publish(topic, "refused")))
            assert.strictEqual(error.reason._tag, "Refused")
            assert.isBelow(performance.now() - begun, 2000, "a refusal is told at once, not waited for")
          }
          const perSecond = yield* Effect.promise(() => rate(redis, 2500))
          assert.isBelow(perSecond / masters(redis).length, 30, "commands a second and server while it is refused")
          yield* Effect.promise(() => refusal.end(redis, main))
          yield* others(Topic.publish(topic, "after"))
          yield* until("it goes on by itself", () => seen.data().includes("after"), 40_000)
          if (refusal.others) assert.isTrue(seen.data().includes("meanwhile"))
          assert.isFalse(seen.data().includes("refused"))
          yield* untilEffect(
            "it is healthy again",
            Effect.map(run(handle.stats), ({ state }) => state === "running"),
            40_000
          )
          assert.lengthOf(failing(), 1, "one line a change of state")
          assert.isAtMost(log.lines.filter(({ level, text }) => level === "Warn" && /failing/.test(text)).length, 4)
        }),
      120_000
    )
  }
})
