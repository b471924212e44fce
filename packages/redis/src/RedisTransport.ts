/**
 * Clutch's logs on Redis Streams.
 *
 * A topic is a stream, a subscription a consumer group on it, with a retry stream, a set of retries not yet due and a
 * stream of dead letters of its own (see `RedisKeys`). Every move between them is one Lua script (see `Scripts`) or one
 * command, so a crash leaves the state before it or after it. However many subscriptions run, three connections serve them:
 * one for commands (on a cluster, one to each master), one that hears all bells, and, but for clusters, one on which a
 * subscription that had a message lately waits for the next; `replicas` takes another one beside that for commands, and
 * `ownConnection` gives a subscription one of its own.
 *
 * Needs Redis 6.2 or later, or Valkey.
 *
 * @since 0.1.0
 */
import { TransportError } from "@clutch/core/Errors"
import * as Names from "@clutch/core/Names"
import { Reclaimer } from "@clutch/core/Reclaimer"
import { Transport } from "@clutch/core/Transport"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Codec from "./Codec.ts"
import * as ClientOptions from "./internal/clientOptions.ts"
import { join } from "./internal/consumer.ts"
import * as DeadLetters from "./internal/deadLetters.ts"
import * as Partitions from "./internal/partitions.ts"
import * as Look from "./internal/look.ts"
import * as Publisher from "./internal/publisher.ts"
import * as Retention from "./internal/retention.ts"
import * as Shared from "./internal/shared.ts"
import * as Tend from "./internal/tend.ts"
import { enroll } from "./internal/worker.ts"
import { pause } from "./internal/time.ts"
import * as RedisClient from "./RedisClient.ts"
import * as Keys from "./RedisKeys.ts"

/**
 * How this transport uses a client.
 *
 * @category models
 * @since 0.1.0
 */
export interface TransportOptions {
  /** The first part of every key. Default `"clutch"`; a name as topics have them. */
  readonly namespace?: string | undefined
}

/**
 * How to reach a server, and the namespace there.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends RedisClient.Options, TransportOptions {}

const defaultNamespace = "clutch"

/** Where a log can neither tell of progress nor be asked all the time, milliseconds between two looks. */
const look = 25

/**
 * A transport over a client.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: TransportOptions = {}
): Effect.fn.Return<Transport["Service"], TransportError, RedisClient.RedisClient | Scope.Scope> {
  const namespace = options.namespace ?? defaultNamespace
  const invalid = Names.invalid("namespace", namespace)
  if (invalid !== undefined) {
    return yield* new TransportError({ operation: "namespace", reason: invalid })
  }
  const client = yield* RedisClient.RedisClient
  const codec = Codec.native
  const shared = yield* Shared.make({ client, codec, namespace })
  const tending = Tend.make(shared)
  const looking = Look.make(shared)
  return Transport.of({
    namespace,
    system: "redis",
    stream: (log) => Keys.log(namespace, log).main,
    publish: Publisher.make(client, codec, namespace),
    join: (options) => join(shared, options),
    enroll: (options) => enroll(shared, options),
    ...Partitions.make(shared),
    tend: tending.tend,
    watch: tending.watch,
    ...Retention.make(shared, looking.inspect),
    inspect: looking.inspect,
    lastId: looking.lastId,
    outstanding: looking.outstanding,
    progress: () => pause(look),
    deadLetters: DeadLetters.make(shared)
  })
})

/**
 * A transport over a client that is given, and no `Reclaimer`: provide `Reclaimer.layer`, or `Reclaimer.layerElsewhere`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient = (
  options?: TransportOptions
): Layer.Layer<Transport, TransportError, RedisClient.RedisClient> => Layer.effect(Transport, make(options))

/**
 * A transport with connections of its own, and a reclaimer over it. Bind it to a constant: two calls are two clients.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<Transport | Reclaimer, TransportError> =>
  Layer.unwrap(
    Effect.map(ClientOptions.checked(ClientOptions.given(options)), ({ namespace, ...client }) =>
      Reclaimer.layer.pipe(
        Layer.provideMerge(layerClient({ namespace })),
        Layer.provide(RedisClient.RedisClient.layer(client))
      )
    )
  )

/**
 * The same with options from Config. Where it names no namespace, `CLUTCH_NAMESPACE` is asked, then `"clutch"` taken.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<Options>
): Layer.Layer<Transport | Reclaimer, TransportError | Config.ConfigError> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const given = yield* Config.unwrap(options)
      const namespace =
        given.namespace ?? (yield* Config.String("CLUTCH_NAMESPACE").pipe(Config.withDefault(defaultNamespace)))
      return layer({ ...given, namespace })
    })
  )
