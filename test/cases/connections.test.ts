/** Few connections, made from one set of options; few commands while nothing happens. */
import { Agent, Subscription, Topic } from "@clutch/core"
import { RedisTransport } from "@clutch/redis"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { admin, as, clients, fresh, privateServer, range, rate, recorder, test, texts, until, worker } from "./kit.ts"

describe("connections", () => {
  test("connection options reach every connection: user, password, database, name", () =>
    Effect.gen(function* () {
      const server = yield* privateServer()
      const redis = yield* admin(server.url)
      yield* Effect.promise(() => redis.call("ACL", "SETUSER", "worker", "on", ">se:cret@", "~*", "&*", "+@all"))
      // whoever does not say who he is may do nothing
      yield* Effect.promise(() => redis.call("ACL", "SETUSER", "other", "on", "nopass", "~*", "&*", "+@all"))
      const looking = yield* admin(server.url.replace("redis://", "redis://other:any@"))
      yield* Effect.promise(() => redis.call("ACL", "SETUSER", "default", "off"))
      const options: ReadonlyArray<readonly [string, RedisTransport.Options]> = [
        [
          "by options",
          {
            url: Redacted.make(`${server.url}/3`),
            username: "worker",
            password: Redacted.make("se:cret@"),
            connectionName: "by-options",
            namespace: "options"
          }
        ],
        [
          "by url",
          {
            url: `${server.url.replace("redis://", `redis://worker:${encodeURIComponent("se:cret@")}@`)}/3`,
            connectionName: "by-url",
            namespace: "url"
          }
        ]
      ]
      for (const [what, one] of options) {
        const name = one.connectionName ?? ""
        const run = as(yield* worker(one))
        const seen = recorder()
        const topic = texts()
        for (const i of range(3)) {
          yield* run(
            Subscription.subscribe(Subscription.make(`s${i}`, topic, seen.handler(), { ownConnection: i > 0 }))
          )
        }
        yield* run(Topic.publish(topic, "x"))
        yield* until("all have it", () => seen.calls.length === 3)
        const list = yield* Effect.promise(() => clients(looking, name))
        assert.lengthOf(list, 5, what)
        assert.deepStrictEqual([...new Set(list.map(({ user }) => user))], ["worker"], what)
        assert.deepStrictEqual([...new Set(list.map(({ db }) => db))], ["3"], what)
        assert.deepStrictEqual(
          list.map(({ name }) => name ?? "").toSorted(),
          [`${name}-bell`, `${name}-commands`, ...Array.from({ length: 3 }, () => `${name}-consumer`)],
          what
        )
        // and those that come after a cut
        yield* Effect.promise(() => looking.call("CLIENT", "KILL", "USER", "worker"))
        yield* until(
          "all are back",
          async () =>
            (await clients(looking, name)).filter(({ user, db }) => user === "worker" && db === "3").length === 5
        )
        yield* run(Topic.publish(topic, "y"))
        yield* until("all have the next", () => seen.calls.length === 6)
      }
    }))

  test("secrets are in no error, whatever is wrong with the options", () =>
    Effect.gen(function* () {
      const server = yield* privateServer("--requirepass", "right")
      const wrong: ReadonlyArray<RedisTransport.Options> = [
        { url: server.url, password: Redacted.make("secret-one") },
        { url: server.url.replace("redis://", "redis://default:secret-one@") },
        { url: "redis//secret-one" }
      ]
      for (const options of wrong) {
        const exit = yield* Effect.exit(Layer.build(RedisTransport.layer({ ...options, connectTimeout: "2 seconds" })))
        assert.strictEqual(exit._tag, "Failure")
        assert.notInclude(`${String(exit)} ${JSON.stringify(exit)}`, "secret-one")
      }
    }))

  test("a hundred subscriptions: at most 5 connections, and each is awake after a pause", () =>
    Effect.gen(function* () {
      const server = yield* privateServer()
      const redis = yield* admin(server.url)
      const topics = range(100).map(() => texts())
      const seen = recorder()
      const name = fresh("hundred")
      const run = as(yield* worker({ url: server.url, namespace: "idle", connectionName: name }))
      const subscriptions = topics.map((topic, i) => Subscription.make(`s${i}`, topic, seen.handler()))
      yield* run(Layer.build(Agent.layer("many", subscriptions)))
      for (const data of ["x", "y"]) {
        const before = seen.calls.length
        for (const topic of topics) yield* run(Topic.publish(topic, data))
        yield* until("each has handled one", () => seen.calls.length === before + 100, 5000)
        assert.isAtMost((yield* Effect.promise(() => clients(redis, name))).length, 5)
        yield* until("one connection hears the bells of all", async () => {
          const hearing = (await clients(redis, name)).filter(({ sub }) => Number(sub) > 0)
          return hearing.length === 1 && hearing[0]?.["sub"] === "100"
        })
        // after what follows the last message, there are seconds in which nothing is asked at all
        yield* until("it is quiet", async () => (await rate(redis, 500)) < 20)
      }
    }))
})
