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
import * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import type { ConnectionOptions as TlsOptions } from "node:tls"
import * as ClientOptions from "./internal/clientOptions.ts"
import * as Cluster from "./internal/cluster.ts"
import * as Connections from "./internal/connection.ts"
import * as Replies from "./internal/replies.ts"
import { pause } from "./internal/time.ts"

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
 * What a connection is for; part of its name at the server. `"replicas"` waits for replicas, and `"discovery"` asks a
 * server of a cluster for the others while no connection stands.
 *
 * @category models
 * @since 0.1.0
 */
export type Role = Connections.Role

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
  /** The user's, or the server's. */
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
  /**
   * The master is found by asking these, at first and after each loss. `url` gives credentials, TLS and database only.
   * `password` is that of the sentinels themselves.
   */
  readonly sentinel?:
    | {
        readonly name: string
        readonly sentinels: ReadonlyArray<{ readonly host: string; readonly port: number }>
        readonly password?: string | Redacted.Redacted | undefined
      }
    | undefined
  /**
   * A Redis Cluster, of which these are some servers: they are asked for the others. `url` gives credentials and TLS
   * only, which are the same for all.
   */
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
     * The connection for commands on a key: on a cluster that to the master of its slot, else the shared one. It is ready,
     * lost and connected again as that master is.
     */
    readonly at: (key: string) => Connection
    /** The same, on a connection of its own for what waits for replicas, made when it is first used. */
    readonly replicating: (key: string) => Connection
    /**
     * Another connection, for the lifetime of the scope. It may still be connecting. `block` is how long its commands
     * may block, which its reply timeout leaves out. On a cluster it goes where `key` is, and to any server without one.
     */
    readonly open: (
      role: Extract<Role, "bell" | "consumer">,
      options?: { readonly block?: Duration.Input | undefined; readonly key?: string | undefined }
    ) => Effect.Effect<Connection, never, Scope.Scope>
    /** Whether keys are spread over several servers. */
    readonly isCluster: boolean
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
   * A client of ioredis, for the lifetime of the scope. Fails where an option makes no sense, or where no connection stands
   * within `connectTimeout`.
   *
   * @category constructors
   * @since 0.1.0
   */
  static readonly make = (options: Options): Effect.Effect<RedisClient["Service"], TransportError, Scope.Scope> =>
    make(options)

  /**
   * Over another client of ioredis' shape, which `factory` makes for each role, as `layerFactory` says. Fails as `make`.
   *
   * @category constructors
   * @since 0.1.0
   */
  static readonly fromFactory = (
    factory: (role: Role) => Native,
    options?: FactoryOptions
  ): Effect.Effect<RedisClient["Service"], TransportError, Scope.Scope> => fromFactory(factory, options)
}

const millis = (input: Duration.Input): number => Duration.toMillis(Duration.fromInputUnsafe(input))
const connectTimeoutOf = (options: FactoryOptions): Duration.Input => options.connectTimeout ?? "10 seconds"
const commandTimeoutOf = (options: FactoryOptions): Duration.Input => options.commandTimeout ?? "10 seconds"

const fromFactory = Effect.fnUntraced(function* (factory: (role: Role) => Native, options: FactoryOptions = {}) {
  yield* ClientOptions.checked(ClientOptions.timeouts(options))
  const commandTimeout = millis(commandTimeoutOf(options))
  const connect = (role: Role, block: number) =>
    Connections.open({ make: () => factory(role), commandTimeout: commandTimeout + block })
  const shared = yield* connect("commands", 0)
  const scope = yield* Effect.scope
  let replicating: Connection | undefined
  yield* untilConnected(Connections.whenReady(shared, "connect"), shared, options)
  return RedisClient.of({
    ...shared,
    at: () => shared,
    replicating: () =>
      // it is only begun here, which takes no time
      (replicating ??= Effect.runSync(Scope.provide(connect("replicas", 0), scope))),
    open: (role, given) => connect(role, millis(given?.block ?? 0)),
    isCluster: false
  })
})

/** The first connect, for `connectTimeout` at most. */
const untilConnected = (
  ready: Effect.Effect<void, TransportError>,
  connection: Connection,
  options: FactoryOptions
): Effect.Effect<void, TransportError> => {
  const connectTimeout = Duration.fromInputUnsafe(connectTimeoutOf(options))
  return Effect.timeoutOrElse(ready, {
    duration: connectTimeout,
    orElse: () =>
      Effect.fail(
        new TransportError({
          operation: "connect",
          reason: new Unavailable({
            detail: `no connection within ${Duration.format(connectTimeout)}: ${connection.unavailable("connect").reason.message}`
          })
        })
      )
  })
}

/** How long a cluster is waited for that is not wholly there, in milliseconds: what is there can be used. */
const forAllMasters = 2000

const fromCluster = Effect.fnUntraced(function* (
  options: Options,
  seeds: NonNullable<Options["cluster"]>["nodes"],
  clients: Clients
) {
  const cluster = yield* Cluster.open({
    seeds,
    make: (role, address, connects) => clients({ role, address, connects }),
    commandTimeout: millis(commandTimeoutOf(options))
  })
  const whole: Effect.Effect<void> = Effect.suspend(() =>
    cluster.isWhole() ? Effect.void : Effect.andThen(pause(10), whole)
  )
  yield* untilConnected(
    Effect.andThen(Connections.whenReady(cluster.anywhere, "connect"), Effect.timeoutOption(whole, forAllMasters)),
    cluster.anywhere,
    options
  )
  return RedisClient.of({
    ...cluster.anywhere,
    at: cluster.at,
    replicating: cluster.replicating,
    open: (role, given) =>
      cluster.open(role, {
        key: given?.key,
        block: millis(given?.block ?? 0)
      }),
    isCluster: true
  })
})

const make = Effect.fnUntraced(function* (options: Options) {
  yield* ClientOptions.checked(ClientOptions.given(options))
  yield* ClientOptions.checked(ClientOptions.spelling(options))
  yield* ClientOptions.checked(ClientOptions.timeouts(options))
  yield* ClientOptions.checked(ClientOptions.tls(options))
  const target = yield* ClientOptions.checked(ClientOptions.target(reveal(options.url)))
  yield* ClientOptions.checked(ClientOptions.servers(options, target))
  const clients = ioredis(options, target)
  if (options.cluster !== undefined) return yield* fromCluster(options, options.cluster.nodes, clients)
  const client = yield* fromFactory((role) => clients({ role }), options)
  if (target.db > 0) {
    // a client whose SELECT fails goes on with database 0
    yield* Effect.tryPromise({
      try: () => client.submit("SELECT", [String(target.db)]),
      catch: () =>
        ClientOptions.refused(new InvalidOption({ option: "url", problem: `the server has no database ${target.db}` }))
    })
  }
  return client
})

const reveal = (secret: string | Redacted.Redacted): string =>
  Redacted.isRedacted(secret) ? Redacted.value(secret) : secret

/** A client of ioredis: what for, and on a cluster also to which server, and whether it connects again by itself. */
type Clients = (options: {
  readonly role: Role
  readonly address?: { readonly host: string; readonly port: number } | undefined
  readonly connects?: "again" | "once" | undefined
}) => Native

/** The one place where options become connections. */
const ioredis = (options: Options, target: ClientOptions.Target): Clients => {
  const name = options.connectionName ?? "clutch"
  const username = options.username ?? target.username
  const password = options.password ?? target.password
  const tls = typeof options.tls === "object" ? options.tls : (options.tls ?? target.tls) ? {} : undefined
  return ({ address = target, connects = "again", role }) => {
    const client = new Redis({
      host: address.host,
      port: address.port,
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
      connectTimeout: Connections.timerOf(millis(connectTimeoutOf(options))),
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
      retryStrategy: connects === "again" ? Connections.retryDelay : () => null
    })
    // a bell hears messages, which answer no command
    return role === "bell" ? client : Replies.decoding(client)
  }
}
