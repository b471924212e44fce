/**
 * The connections to a Redis server: made from one set of options, recovering alike, resending nothing.
 *
 * `RedisClient` is a thin service over a client of ioredis' shape. ioredis is what `layer` uses; `fromFactory` takes
 * another one (iovalkey, a wrapper of one's own). One connection is shared by all commands and scripts; `open` makes
 * others for commands that block.
 *
 * Whatever is asked for in an outage fails at once with reason `Unavailable`; what was written and got no reply fails
 * with reason `Unknown`. Neither is repeated here. Connecting again is endless, with 50 ms to 1 second in between.
 *
 * @since 0.1.0
 */
import { InvalidOption, TransportError, Unavailable } from "@clutch/core/Errors"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { Cluster, Redis } from "ioredis"
import type { ConnectionOptions as TlsOptions } from "node:tls"
import * as ClientOptions from "./internal/clientOptions.ts"
import * as Connections from "./internal/connection.ts"

/**
 * What is needed of a client: the part of ioredis' shape that is used here. Every client must be made without
 * connecting (`lazyConnect`), must never resend (`autoResendUnfulfilledCommands: false`, `enableOfflineQueue: false`,
 * `maxRetriesPerRequest: 0`), must reply as under RESP2 (`protocol: 2` for ioredis 6), and must connect again by itself.
 *
 * @category models
 * @since 0.1.0
 */
export interface Native extends Connections.Native {}

/**
 * What a connection is for; part of its name at the server.
 *
 * @category models
 * @since 0.1.0
 */
export type Role = "commands" | "bell" | "consumer"

/**
 * One connection of the client.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connection extends Connections.Connection {}

/**
 * How to reach a server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** `redis://user:password@host:6379/0`, or `rediss://` for TLS. Fields below win over its parts. */
  readonly url: string | Redacted.Redacted
  /** `true`, or Node's TLS options: `ca`, `cert`, `key`, `servername`. */
  readonly tls?: boolean | TlsOptions | undefined
  /** An ACL user. */
  readonly username?: string | undefined
  readonly password?: string | Redacted.Redacted | undefined
  /** How long the first connect may take, tries included, before the layer fails. Default 10 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /**
   * How long a reply may take before the connection is given up and everything that waits on it fails as `Unknown`.
   * Default 10 seconds.
   */
  readonly commandTimeout?: Duration.Input | undefined
  /** When TCP starts to probe a silent connection. Default 30 seconds. */
  readonly keepAlive?: Duration.Input | undefined
  /** What `CLIENT LIST` shows, followed by the role. Default `"clutch"`. */
  readonly connectionName?: string | undefined
  /** Parsed and passed on, not claimed yet: no test covers a failover by sentinels. `url` then gives credentials only. */
  readonly sentinel?:
    | {
        readonly name: string
        readonly sentinels: ReadonlyArray<{ readonly host: string; readonly port: number }>
        readonly password?: string | Redacted.Redacted | undefined
      }
    | undefined
  /** Parsed and passed on, not claimed yet: no test covers a cluster. `url` then gives credentials only. */
  readonly cluster?: { readonly nodes: ReadonlyArray<{ readonly host: string; readonly port: number }> } | undefined
}

interface FactoryOptions {
  /** Default 10 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** Default 10 seconds. */
  readonly commandTimeout?: Duration.Input | undefined
}

/**
 * A client: a shared connection, and others on demand.
 *
 * @category services
 * @since 0.1.0
 */
export class RedisClient extends Context.Service<
  RedisClient,
  Connection & {
    /**
     * Another connection, for the lifetime of the scope. It may still be connecting. `block` is how long its commands
     * may block, which its reply timeout leaves out.
     */
    readonly open: (
      role: Role,
      options?: { readonly block?: Duration.Input | undefined }
    ) => Effect.Effect<Connection, never, Scope.Scope>
  }
>()("@clutch/redis/RedisClient") {
  /**
   * A client of ioredis. Fails where the server cannot be reached within `connectTimeout`, or refuses; a later outage
   * does not. Bind it to a constant: two calls are two clients.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly layer = (options: Options): Layer.Layer<RedisClient, TransportError> =>
    Layer.effect(RedisClient, make(options))

  /**
   * The same with options from Config. Usual names are `REDIS_URL`, `REDIS_USERNAME`, `REDIS_PASSWORD`:
   * `RedisClient.layerConfig({ url: Config.Redacted("REDIS_URL") })`.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly layerConfig = (
    options: Config.Wrap<Options>
  ): Layer.Layer<RedisClient, TransportError | Config.ConfigError> =>
    Layer.effect(RedisClient, Effect.flatMap(Config.unwrap(options), make))

  /**
   * A client of another make. `factory` is called once for each connection, and must give equal ones.
   *
   * @category layers
   * @since 0.1.0
   */
  static readonly layerFactory = (
    factory: (role: Role) => Native,
    options?: FactoryOptions
  ): Layer.Layer<RedisClient, TransportError> => Layer.effect(RedisClient, fromFactory(factory, options))

  /**
   * @category constructors
   * @since 0.1.0
   */
  static readonly make = (options: Options): Effect.Effect<RedisClient["Service"], TransportError, Scope.Scope> =>
    make(options)

  /**
   * @category constructors
   * @since 0.1.0
   */
  static readonly fromFactory = (
    factory: (role: Role) => Native,
    options?: FactoryOptions
  ): Effect.Effect<RedisClient["Service"], TransportError, Scope.Scope> => fromFactory(factory, options)
}

const fromFactory = Effect.fnUntraced(function* (factory: (role: Role) => Native, options: FactoryOptions = {}) {
  yield* Effect.fromResult(Result.mapError(ClientOptions.timeouts(options), refused))
  const connectTimeout = Duration.fromInputUnsafe(options.connectTimeout ?? "10 seconds")
  const commandTimeout = Duration.fromInputUnsafe(options.commandTimeout ?? "10 seconds")
  const open = (role: Role, given?: { readonly block?: Duration.Input | undefined }) =>
    Connections.open({
      make: () => factory(role),
      commandTimeout: Duration.toMillis(commandTimeout) + Duration.toMillis(Duration.fromInputUnsafe(given?.block ?? 0))
    })
  const shared = yield* open("commands")
  yield* Connections.whenReady(shared, "connect").pipe(
    Effect.timeoutOrElse({
      duration: connectTimeout,
      orElse: () =>
        Effect.fail(
          new TransportError({
            operation: "connect",
            reason: new Unavailable({
              detail: `no connection within ${Duration.format(connectTimeout)}: ${shared.unavailable("connect").reason.message}`
            })
          })
        )
    })
  )
  return RedisClient.of({ ...shared, open })
})

const refused = (reason: InvalidOption) => new TransportError({ operation: "connect", reason })

const make = Effect.fnUntraced(function* (options: Options) {
  yield* Effect.fromResult(Result.mapError(ClientOptions.spelling(options), refused))
  const target = yield* Effect.fromResult(Result.mapError(ClientOptions.target(reveal(options.url)), refused))
  const client = yield* fromFactory(ioredis(options, target), options)
  if (target.db > 0) {
    // a client whose SELECT fails goes on with database 0
    yield* Effect.tryPromise({
      try: () => client.submit("SELECT", [String(target.db)]),
      catch: () => refused(new InvalidOption({ option: "url", problem: `the server has no database ${target.db}` }))
    })
  }
  return client
})

const reveal = (secret: string | Redacted.Redacted): string =>
  Redacted.isRedacted(secret) ? Redacted.value(secret) : secret

/** The one place where options become connections. */
const ioredis = (options: Options, target: ClientOptions.Target): ((role: Role) => Native) => {
  const millis = (input: Duration.Input) => Duration.toMillis(Duration.fromInputUnsafe(input))
  const name = options.connectionName ?? "clutch"
  const username = options.username ?? target.username
  const password = options.password ?? target.password
  const tls = typeof options.tls === "object" ? options.tls : (options.tls ?? target.tls) ? {} : undefined
  const common = (role: Role) => ({
    host: target.host,
    port: target.port,
    db: target.db,
    ...(tls === undefined ? {} : { tls }),
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password: reveal(password) }),
    ...(options.sentinel === undefined
      ? {}
      : {
          name: options.sentinel.name,
          sentinels: options.sentinel.sentinels.map((one) => ({ ...one })),
          ...(options.sentinel.password === undefined ? {} : { sentinelPassword: reveal(options.sentinel.password) })
        }),
    connectionName: `${name}-${role}`,
    connectTimeout: millis(options.connectTimeout ?? "10 seconds"),
    keepAlive: millis(options.keepAlive ?? "30 seconds"),
    lazyConnect: true,
    // replies then have one shape, whatever the server and the client's version
    protocol: 2 as const,
    // what waits for a reply when the connection is lost fails then, and is not sent again
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    enableOfflineQueue: false,
    autoResubscribe: false,
    disconnectTimeout: 500,
    maxLoadingRetryTime: 500,
    retryStrategy: Connections.retryDelay
  })
  return (role) => {
    const cluster = options.cluster
    if (cluster === undefined) return new Redis(common(role))
    return new Cluster(
      cluster.nodes.map((node) => ({ ...node })),
      {
        redisOptions: common(role),
        lazyConnect: true,
        enableOfflineQueue: false,
        clusterRetryStrategy: Connections.retryDelay
      }
    )
  }
}
