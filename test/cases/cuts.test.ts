/**
 * A network that loses one reply of each kind of command, under a life that uses all of them: nothing is lost, nothing is
 * doubled but what `Unknown` says.
 */
import { DeadLetters, Delivery, type PublishError, Subscription, Topic } from "@clutch/core"
import { RedisKeys } from "@clutch/redis"
import * as Scripts from "@clutch/redis/Scripts"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import {
  admin,
  as,
  eachOnce,
  fresh,
  privateServer,
  proxyTo,
  range,
  recorder,
  test,
  texts,
  unlike,
  until,
  worker
} from "./kit.ts"

interface Kind {
  readonly name: string
  readonly match: (command: string) => boolean
}

const script = (name: string): Kind => {
  const sha = Scripts.all.find((one) => one.name === name)?.sha ?? "no such script"
  return {
    name: `the script ${name}`,
    match: (command) => command.toUpperCase().startsWith("EVALSHA") && command.includes(sha)
  }
}

/** How often each message of the life below is handled when nothing goes wrong. */
const life: Readonly<Record<string, number>> = {
  ...Object.fromEntries(range(12).map((i) => [`plain ${i}`, 1])),
  "fails once": 2,
  "fails twice": 3,
  "given back once": 2,
  rejected: 1,
  slow: 1
}
const data = Object.keys(life)

// of order by key, and of operators' tools, replies are lost in test/redis/order.faults.test.ts and test/redis/scripts
const otherLives: ReadonlySet<string> = new Set(["roster", "rest", "claim", "cede", "draw", "order", "trim", "remove"])

const kinds: ReadonlyArray<Kind> = [
  ...Scripts.all.filter(({ name }) => !otherLives.has(name)).map(({ name }) => script(name)),
  { name: "XREADGROUP of the topic", match: (command) => /^XREADGROUP/i.test(command) && !command.includes(".retry") },
  { name: "XREADGROUP of the retries", match: (command) => /^XREADGROUP/i.test(command) && command.includes(".retry") },
  { name: "DEL of a bell's mark", match: (command) => /^DEL /i.test(command) },
  { name: "XPENDING of a recovery", match: (command) => /^XPENDING/i.test(command) },
  { name: "SCRIPT LOAD", match: (command) => /^SCRIPT LOAD/i.test(command) },
  { name: "TIME", match: (command) => /^TIME/i.test(command) }
]

/** In an outage of milliseconds. */
const again = Schedule.upTo(Schedule.spaced("20 millis"), { times: 200 })

describe("one reply is lost", () => {
  for (const kind of kinds) {
    for (const own of kind.name.startsWith("XREADGROUP") ? [false, true] : [false]) {
      test(`1. of ${kind.name}${own ? " on a connection of its own" : ""}: nothing lost, nothing doubled`, () =>
        Effect.gen(function* () {
          const server = yield* privateServer()
          const redis = yield* admin(server.url)
          const proxy = yield* proxyTo(server.url)
          const namespace = fresh("cuts")
          // so that the reply that is lost is the script's own, and not that the server does not know it yet
          if (kind.name !== "SCRIPT LOAD")
            yield* Effect.promise(() => Promise.all(Scripts.all.map(({ lua }) => redis.script("LOAD", lua))))
          const topic = texts()
          const keys = RedisKeys.group(namespace, { topic: topic.topic, partition: 0, subscription: "billing" })
          const run = as(yield* worker({ url: proxy.url, namespace }))
          // who publishes is not who is cut, but for the script that publishes
          const publisher = as(
            yield* worker({ url: kind.name === "the script publish" ? proxy.url : server.url, namespace })
          )
          const seen = recorder()
          const given = new Set<string>()
          const subscription = Subscription.make(
            "billing",
            topic,
            seen.handler(({ attempt, data }) =>
              Effect.gen(function* () {
                const delivery = yield* Delivery
                if (data === "fails once" && attempt === 1) return yield* Effect.fail("once")
                if (data === "fails twice" && attempt <= 2) return yield* Effect.fail("twice")
                if (data === "given back once" && !given.has(data)) {
                  given.add(data)
                  return yield* Effect.orDie(delivery.release)
                }
                if (data === "rejected") return yield* Effect.orDie(delivery.deadLetter("no"))
                // long enough that leases are extended and what waits behind is marked
                yield* Effect.sleep(data === "slow" ? 800 : data === "plain 0" || data === "plain 1" ? 150 : 1)
              })
            ),
            {
              concurrency: 2,
              prefetch: 8,
              visibilityTimeout: 1000,
              retry: { base: 30, jitter: 0 },
              from: "beginning",
              ownConnection: own
            }
          )
          let cut: string | undefined
          const arm = () =>
            void proxy.cutReply(kind.match).then((command) => {
              cut = command.slice(0, 60)
            })
          const scope = yield* Scope.make()
          if (kind.name === "the script rollback") {
            // what makes it roll back is a join that loses its reply
            void proxy.cutReply(script("join").match).then(arm)
          } else if (kind.name === "XPENDING of a recovery" || kind.name === "TIME") {
            void proxy.cutReply(script("ack").match).then(arm)
          } else if (kind.name !== "the script redrive" && kind.name !== "the script leave") arm()
          const subscribing = Subscription.subscribe(subscription).pipe(run, Scope.provide(scope))
          yield* Effect.retry(subscribing, again)
          const unknown: Array<PublishError> = []
          for (const one of data) {
            yield* publisher(Topic.publish(topic, one)).pipe(
              Effect.catchIf(
                ({ reason }) => reason._tag === "Unknown",
                (error) => Effect.sync(() => void unknown.push(error))
              )
            )
          }
          const handled = () => data.every((one) => seen.of(one).length >= (life[one] ?? 0))
          yield* until(
            () =>
              `all is handled; cut: ${cut}, missing ${data.filter((one) => seen.of(one).length < (life[one] ?? 0)).join()}`,
            handled
          )
          yield* until("the rejected one is kept", async () => (await redis.xlen(keys.deadLetters)) === 1)
          yield* Subscription.awaitIdle(subscription).pipe(publisher)
          if (kind.name === "the script redrive") arm()
          // by its id a redrive is idempotent, so whoever got no answer asks again
          const ids = (yield* publisher(Stream.runCollect(DeadLetters.list(subscription)))).map(({ id }) => id)
          yield* Effect.retry(run(DeadLetters.redrive(subscription, { ids })), again)
          yield* until(
            "the redriven one is rejected again",
            async () => seen.of("rejected").length === 2 && (await redis.xlen(keys.deadLetters)) === 1
          )
          yield* Subscription.awaitIdle(subscription).pipe(publisher)
          if (kind.name === "the script leave") arm()
          yield* Scope.close(scope, Exit.void)
          assert.isDefined(cut, "no reply was cut")
          const counts = Object.fromEntries(data.map((one) => [one, seen.of(one).length]))
          assert.deepStrictEqual(counts, { ...life, rejected: 2 })
          // what was lost with a connection costs no attempt
          for (const call of seen.calls.filter(({ data }) => data.startsWith("plain")))
            assert.strictEqual(call.attempt, 1, call.data)
          assert.isAtMost(unknown.length, kind.name === "the script publish" ? 1 : 0)
          const { deadLetters, due, pending } = yield* publisher(Subscription.stats(subscription))
          assert.deepStrictEqual({ deadLetters, due, pending }, { deadLetters: 1, due: 0, pending: 0 })
          const stored = yield* Effect.promise(() => redis.xrange(keys.main, "-", "+"))
          assert.deepStrictEqual(
            unlike(
              stored.map(([, fields]) => String(JSON.parse(fields[1] ?? ""))),
              data
            ),
            eachOnce,
            "stored"
          )
        }))
    }
  }
})
