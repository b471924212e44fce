/**
 * The namespace: an option, else `CLUTCH_NAMESPACE`, else "clutch"; and one for all who share a Layer.
 */
import { Subscription, Topic, Transport } from "@clutch/core"
import type { TransportError } from "@clutch/core/Errors"
import { RedisTransport } from "@clutch/redis"
import { assert, describe, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { inject } from "vitest"
import * as S from "./support.ts"

const { cluster, url } = inject("place")

/** A layer as a program has it: options from Config, of this environment. */
const configured = (
  environment: Readonly<Record<string, string>>,
  options: { readonly namespace?: Config.Config<string> } = {}
) =>
  Layer.fresh(
    RedisTransport.layerConfig({ url: Config.Redacted("REDIS_URL"), cluster: Config.succeed(cluster), ...options })
  ).pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({ REDIS_URL: url, ...environment }))))

const namespaceOf = (
  layer: ReturnType<typeof configured>
): Effect.Effect<string, TransportError | Config.ConfigError> =>
  Effect.map(Transport, ({ namespace }) => namespace).pipe(Effect.provide(layer))

describe("layerConfig", () => {
  it.live("the option wins over CLUTCH_NAMESPACE", () =>
    Effect.gen(function* () {
      const environment = { CLUTCH_NAMESPACE: "from-variable", OWN: "from-own" }
      assert.strictEqual(
        yield* namespaceOf(configured(environment, { namespace: Config.succeed("from-option") })),
        "from-option"
      )
      assert.strictEqual(yield* namespaceOf(configured(environment, { namespace: Config.String("OWN") })), "from-own")
    })
  )

  it.live("CLUTCH_NAMESPACE wins over the default", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* namespaceOf(configured({ CLUTCH_NAMESPACE: "from-variable" })), "from-variable")
    })
  )

  it.live('without either it is "clutch"', () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* namespaceOf(configured({})), "clutch")
    })
  )

  it.live("an empty CLUTCH_NAMESPACE is none", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* namespaceOf(configured({ CLUTCH_NAMESPACE: "" })), "clutch")
    })
  )

  const isRefused = (layer: ReturnType<typeof configured>) =>
    Effect.map(Effect.flip(namespaceOf(layer)), (error) => {
      if (error._tag !== "TransportError") return assert.fail(error.message)
      assert.deepStrictEqual([error.operation, error.reason._tag], ["namespace", "InvalidName"])
    })
  for (const bad of ["a..b", "a{b}", "a b", "a/b", "a.retry", "-a"]) {
    it.live(`"${bad}" is refused with InvalidName, from the option and from the variable`, () =>
      Effect.gen(function* () {
        yield* isRefused(configured({}, { namespace: Config.succeed(bad) }))
        yield* isRefused(configured({ CLUTCH_NAMESPACE: bad }))
      })
    )
  }

  it.live("an empty option is refused with InvalidName: it does not fall back to the variable", () =>
    isRefused(configured({ CLUTCH_NAMESPACE: "from-variable" }, { namespace: Config.succeed("") }))
  )
})

it.live("publisher and subscriber of one Layer agree, and every key begins with its namespace", () =>
  Effect.gen(function* () {
    const { namespace, redis } = yield* S.shared
    const topic = Topic.make(`orders-${S.freshNamespace()}`, { schema: Schema.String })
    const handled = yield* Deferred.make<string>()
    const subscription = Subscription.make("billing", topic, ({ data }) => Deferred.succeed(handled, data))
    yield* Effect.gen(function* () {
      yield* Subscription.subscribe(subscription)
      yield* Topic.publish(topic, "x")
      assert.strictEqual(yield* Deferred.await(handled), "x")
      yield* Subscription.awaitIdle(subscription)
      const keys = yield* Effect.promise(() => S.keysOf(redis, `*${topic.topic}*`))
      assert.isAbove(keys.length, 0)
      assert.deepStrictEqual(
        keys.filter((key) => !key.startsWith(`${namespace}.{${topic.topic}}`)),
        []
      )
    }).pipe(Effect.scoped, Effect.provide(configured({ CLUTCH_NAMESPACE: namespace })))
  }).pipe(Effect.scoped)
)
