/**
 * The client's options, checked before a connection is made of them: what is off is named, and nothing connects to a
 * server that was not meant.
 */
import { InvalidOption, TransportError } from "@clutch/core/Errors"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"

export const refused = (reason: InvalidOption) => new TransportError({ operation: "connect", reason })

/** What was checked, or the error of who connects with it. */
export const checked = <A>(result: Result.Result<A, InvalidOption>): Effect.Effect<A, TransportError> =>
  Effect.fromResult(Result.mapError(result, refused))

interface Timeouts {
  readonly connectTimeout?: Duration.Input | undefined
  readonly commandTimeout?: Duration.Input | undefined
  readonly keepAlive?: Duration.Input | undefined
}

/** Where a URL points, and who asks. */
export interface Target {
  readonly host: string
  readonly port: number
  readonly db: number
  readonly username: string | undefined
  readonly password: string | undefined
  readonly tls: boolean
}

const refuse = (option: string, problem: string) => Result.fail(new InvalidOption({ option, problem }))

const example = "redis://user:password@host:6379/0 has all parts, and rediss:// is for TLS"

/** Problems never hold the text itself, as that may hold a password. */
export const target = (url: string): Result.Result<Target, InvalidOption> => {
  if (!URL.canParse(url)) return refuse("url", `it is none: ${example}`)
  const { hostname, password, pathname, port, protocol, search, username } = new URL(url)
  if (protocol !== "redis:" && protocol !== "rediss:") {
    return refuse("url", `it does not begin with redis:// or rediss://: ${example}`)
  }
  if (hostname === "") return refuse("url", `it names no host: ${example}`)
  if (search !== "") return refuse("url", `it has a query, which means nothing here: ${example}`)
  const credentials = decoded(username, password)
  if (credentials === undefined) return refuse("url", `its user or password has a % that encodes nothing: ${example}`)
  if (!/^\/?\d*$/.test(pathname)) return refuse("url", `its path is no number of a database: ${example}`)
  return Result.succeed({
    host: hostname.startsWith("[") ? hostname.slice(1, -1) : hostname,
    port: port === "" ? 6379 : Number(port),
    db: Number(pathname.slice(1)),
    ...credentials,
    tls: protocol === "rediss:"
  })
}

const decoded = (username: string, password: string) => {
  try {
    return {
      username: username === "" ? undefined : decodeURIComponent(username),
      password: password === "" ? undefined : decodeURIComponent(password)
    }
  } catch {
    return undefined
  }
}

const known: ReadonlySet<string> = new Set([
  "url",
  "tls",
  "username",
  "password",
  "connectTimeout",
  "commandTimeout",
  "keepAlive",
  "connectionName",
  "sentinel",
  "cluster"
])

const ofServers = {
  sentinel: new Set(["name", "sentinels", "password"]),
  cluster: new Set(["nodes"])
}

/** From untyped callers: it may be a URL, which is not shown, as it may hold a password. */
export const given = <A>(options: A): Result.Result<A, InvalidOption> =>
  Predicate.isObject(options)
    ? Result.succeed(options)
    : refuse("options", 'give an object: { url: "redis://localhost:6379" }')

/** A misspelt option would be silently left out. */
export const spelling = (options: object & Servers): Result.Result<void, InvalidOption> => {
  for (const option of ["sentinel", "cluster"] as const) {
    const servers: unknown = options[option]
    if (servers !== undefined && !Predicate.isObject(servers)) return refuse(option, exampleOf[option])
  }
  const unknown = [
    ...unknownOf(options, known),
    ...unknownOf(options.sentinel ?? {}, ofServers.sentinel).map((option) => `sentinel.${option}`),
    ...unknownOf(options.cluster ?? {}, ofServers.cluster).map((option) => `cluster.${option}`)
  ]
  return unknown[0] === undefined
    ? Result.void
    : refuse(unknown[0], "there is no such option: remove it, or check its spelling")
}

const exampleOf = {
  sentinel: 'give an object, such as { name: "primary", sentinels: [{ host: "sentinel-1", port: 26379 }] }',
  cluster: 'give an object, such as { nodes: [{ host: "redis-1", port: 6379 }] }'
}

const unknownOf = (options: object, names: ReadonlySet<string>): ReadonlyArray<string> =>
  Object.keys(options).filter((option) => !names.has(option))

interface Servers {
  readonly sentinel?: { readonly name: string; readonly sentinels: ReadonlyArray<Server> } | undefined
  readonly cluster?: { readonly nodes: ReadonlyArray<Server> } | undefined
}

interface Server {
  readonly host: string
  readonly port: number
}

/** Who is asked where the masters are. A mistake here would otherwise be tried for ever. */
export const servers = ({ cluster, sentinel }: Servers, { db }: Target): Result.Result<void, InvalidOption> => {
  if (cluster !== undefined && sentinel !== undefined) {
    return refuse("sentinel", "a cluster needs no sentinels: give one of the two")
  }
  if (cluster !== undefined && db > 0) return refuse("url", "a cluster has database 0 alone: remove the number")
  if (sentinel !== undefined && (typeof sentinel.name !== "string" || sentinel.name === "")) {
    return refuse("sentinel.name", "give the name under which the sentinels know the master")
  }
  return Result.andThen(
    cluster === undefined ? Result.void : listed("cluster.nodes", cluster.nodes),
    sentinel === undefined ? Result.void : listed("sentinel.sentinels", sentinel.sentinels)
  )
}

const listed = (option: string, all: unknown): Result.Result<void, InvalidOption> => {
  if (!Array.isArray(all) || all.length === 0) return refuse(option, "give one server at least")
  const isServer = (one: unknown): boolean => {
    if (!Predicate.isObject(one)) return false
    const { host, port }: { readonly host?: unknown; readonly port?: unknown } = one
    return (
      typeof host === "string" && host !== "" && Number.isInteger(port) && Number(port) >= 1 && Number(port) <= 65535
    )
  }
  return all.every(isServer)
    ? Result.void
    : refuse(option, 'each has a host and a port: { host: "redis-1", port: 6379 }')
}

/** With anything else, what the URL says of TLS would be lost, and the password sent in the clear. */
export const tls = ({ tls }: { readonly tls?: unknown }): Result.Result<void, InvalidOption> =>
  tls === undefined || typeof tls === "boolean" || Predicate.isObject(tls)
    ? Result.void
    : refuse("tls", "give true, false, or an object of Node's TLS options, or leave it out")

/** Finite and above 0: a socket with a negative or an endless timeout is an exception of Node's, or never gives up. */
export const timeouts = (options: Timeouts): Result.Result<void, InvalidOption> => {
  for (const option of ["connectTimeout", "commandTimeout", "keepAlive"] as const) {
    const input = options[option]
    if (input === undefined) continue
    const value = Duration.fromInput(input)
    if (Option.isNone(value) || !Duration.isFinite(value.value) || !Duration.isPositive(value.value)) {
      return refuse(option, "give a finite duration above 0")
    }
  }
  return Result.void
}
