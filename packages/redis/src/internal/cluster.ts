/**
 * A cluster: a connection to each master, and each command where its key's slot is.
 *
 * A client of a cluster that hides its connections would resend what was lost with one, and could not say which reads a
 * lost connection concerned. So there is one plain connection a master here, and a view of them for each slot in use: it
 * is ready, lost and connected again as its slot is. What a server sends elsewhere (MOVED, ASK) was not done, and is
 * sent there; nothing else is ever sent twice.
 */
import { TransportError } from "@clutch/core/Errors"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Arg, Reply, Script } from "../Script.ts"
import { codeOf, described, NotConnected } from "./connection.ts"
import * as Connections from "./connection.ts"
import type { Connection, Native, Role, Single } from "./connection.ts"
import { disconnected } from "./errors.ts"
import { slotCount, slotOf } from "./slots.ts"
import * as Topology from "./topology.ts"
import type { Address } from "./topology.ts"
import * as Wandering from "./wandering.ts"

export interface ClusterOptions {
  readonly seeds: ReadonlyArray<Address>
  /** `connects: "again"` gives a client that connects again by itself, `"once"` one that ends when it is lost. */
  readonly make: (role: Role, address: Address, connects: "again" | "once") => Native
  /** Milliseconds. */
  readonly commandTimeout: number
}

export interface Cluster {
  /** Any server for what has no key; scripts go where their first key is. */
  readonly anywhere: Connection
  /** The connection that serves a key. */
  readonly at: (key: string) => Connection
  /** The same on connections of their own, which are made when they are first asked for: those that wait for replicas. */
  readonly replicating: (key: string) => Connection
  /** A connection of its own for the lifetime of the scope: to the master of a key, or to any server. */
  readonly open: (
    role: "bell" | "consumer",
    options: { readonly key?: string | undefined; readonly block: number }
  ) => Effect.Effect<Connection, never, Scope.Scope>
  /** Whether every master that is known is connected. */
  readonly isWhole: () => boolean
}

/** How often servers are looked after, and how often they are asked for the others while nothing is amiss; milliseconds. */
const lookEvery = 200
const askEvery = 60_000

/** How soon they are asked again, in milliseconds. */
const askPause = 100

/** How long what was sent elsewhere waits for the connection there, and a server for an answer about the cluster; ms. */
const patience = 1000

/** How often one command is sent elsewhere. */
const maxRedirects = 5

/** How long a server that lost its slots may take for what it was asked, in milliseconds. */
const farewell = 10_000

interface Node {
  readonly address: Address
  readonly connection: Single
  /** When it lost its slots; none while it has some. */
  retired: number | undefined
}

interface View {
  readonly slot: number
  readonly pool: Pool
  readonly connection: Connection
  readonly listeners: Set<() => void>
  /** Commands without a reply, by the server that was asked. */
  readonly asked: Map<Node, number>
  epoch: number
  /** Its listeners are to be told of a connection. */
  stale: boolean
}

/** Connections of one kind: a server each, and views on them. */
interface Pool {
  readonly role: "commands" | "replicas"
  readonly nodes: Map<string, Node>
  readonly views: Map<number, View>
}

const sleep = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds))

const make = (options: ClusterOptions) => {
  const commands: Pool = { role: "commands", nodes: new Map(), views: new Map() }
  const replicas: Pool = { role: "replicas", nodes: new Map(), views: new Map() }
  const pools = [commands, replicas]
  const wanderers = new Set<{ readonly client: Wandering.Wandering; readonly slot: number | undefined }>()
  const anyListeners = new Set<() => void>()
  let slots: Array<Address | undefined> = []
  let known: ReadonlyArray<Address> = options.seeds
  let lastError: TransportError | undefined
  let closed = false
  let asking: Promise<void> | undefined
  let askedAt = -Infinity
  let answeredAt = -Infinity

  // ---------------------------------------------------------------------------
  // servers
  // ---------------------------------------------------------------------------

  const node = (pool: Pool, address: Address): Node => {
    const key = Topology.keyOf(address)
    const found = pool.nodes.get(key)
    if (found !== undefined) {
      found.retired = undefined
      return found
    }
    const native = options.make(pool.role, address, "again")
    const connection = Connections.make(native, { commandTimeout: options.commandTimeout })
    const created: Node = { address, connection, retired: undefined }
    pool.nodes.set(key, created)
    connection.onReady(() => {
      for (const view of pool.views.values()) if (ownerOf(view) === created) renew(view)
      if (pool === commands) for (const listener of Array.from(anyListeners)) listener()
    })
    native.connect().catch(() => {})
    return created
  }

  const ownerOf = (view: View): Node | undefined => {
    const address = slots[view.slot]
    if (address === undefined) return undefined
    const found = view.pool.nodes.get(Topology.keyOf(address))
    // those that wait for replicas are connected when they are first needed
    return found ?? (view.pool === replicas && !closed ? node(replicas, address) : undefined)
  }

  /** A view's server was connected, or is another one: its listeners are told as soon as nothing is left at the former. */
  const renew = (view: View) => {
    view.stale = true
    view.epoch += 1
    tell(view)
  }
  const tell = (view: View) => {
    if (!view.stale || closed) return
    const owner = ownerOf(view)
    if (owner === undefined || !owner.connection.isReady()) return
    // what the former server still answers is delivered; whoever compares now would take it for lost
    for (const other of view.asked.keys()) if (other !== owner) return
    view.stale = false
    for (const listener of Array.from(view.listeners)) listener()
  }

  const assign = (slot: number, address: Address | undefined) => {
    const before = slots[slot]
    slots[slot] = address
    if (before !== undefined && address !== undefined && Topology.keyOf(before) === Topology.keyOf(address)) return
    if (address !== undefined) node(commands, address)
    for (const pool of pools) {
      const view = pool.views.get(slot)
      if (view !== undefined) renew(view)
    }
    for (const one of wanderers) if (one.slot === slot) one.client.disconnect(true)
  }

  const apply = (topology: Topology.Topology) => {
    known = topology.known
    const masters = new Set<string>()
    for (const address of new Set(topology.slots)) {
      if (address === undefined) continue
      masters.add(Topology.keyOf(address))
      node(commands, address)
    }
    for (let slot = 0; slot < slotCount; slot++) assign(slot, topology.slots[slot])
    const now = performance.now()
    for (const pool of pools) {
      for (const [key, one] of pool.nodes) if (!masters.has(key)) one.retired ??= now
    }
    const names = new Set(known.map(Topology.keyOf))
    for (const { client } of wanderers) {
      const at = client.at()
      if (at !== undefined && !names.has(Topology.keyOf(at))) client.disconnect(true)
    }
  }

  const ready = () => Array.from(commands.nodes.values()).filter(({ connection }) => connection.isReady())

  // ---------------------------------------------------------------------------
  // asking for the others
  // ---------------------------------------------------------------------------

  const shuffled = <A>(all: ReadonlyArray<A>): Array<A> => {
    const start = Math.floor(Math.random() * Math.max(all.length, 1))
    return [...all.slice(start), ...all.slice(0, start)]
  }

  const ask = async (connection: Single, address: Address): Promise<boolean> => {
    try {
      const reply = await Promise.race([connection.submit("CLUSTER", ["SLOTS"]), sleep(patience)])
      if (reply === undefined) return false
      const topology = Topology.parse(reply, address)
      // one that knows of nothing was just added, or was removed
      if (topology.known.length === 0 || closed) return false
      apply(topology)
      answeredAt = performance.now()
      lastError = undefined
      return true
    } catch (error) {
      lastError = connection.explain("cluster", error)
      return false
    }
  }

  /** By a connection that is made for it, where none stands. */
  const scout = async (address: Address): Promise<boolean> => {
    const native = options.make("discovery", address, "once")
    const connection = Connections.make(native, { commandTimeout: patience })
    try {
      await Promise.race([native.connect().catch(() => {}), sleep(patience)])
      if (connection.isReady()) return await ask(connection, address)
      lastError = connection.unavailable("cluster")
      return false
    } finally {
      await Effect.runPromise(connection.close)
    }
  }

  const learn = async (): Promise<void> => {
    for (const { address, connection } of shuffled(ready())) if (await ask(connection, address)) return
    const addresses = new Map([...known, ...options.seeds].map((address) => [Topology.keyOf(address), address]))
    for (const address of shuffled(Array.from(addresses.values()))) if (closed || (await scout(address))) return
  }

  /** Soon, and not too often. */
  const refresh = (): void => {
    if (closed || asking !== undefined) return
    asking = sleep(Math.max(0, askedAt + askPause - performance.now()))
      .then(() => {
        askedAt = performance.now()
        return closed ? undefined : learn()
      })
      .catch((error: unknown) => {
        // a server that answers nonsense: asked again as after any failure
        lastError = disconnected("cluster", error)
      })
      .finally(() => {
        asking = undefined
      })
  }

  const isWhole = () => {
    const served = new Set(slots)
    served.delete(undefined)
    if (served.size === 0) return false
    for (const address of served) {
      const found = address === undefined ? undefined : commands.nodes.get(Topology.keyOf(address))
      if (found === undefined || !found.connection.isReady()) return false
    }
    return true
  }

  const look = () => {
    const now = performance.now()
    for (const pool of pools) {
      for (const [key, one] of pool.nodes) {
        if (one.retired === undefined) continue
        if (one.connection.waiting() > 0 && now - one.retired < farewell && one.connection.isReady()) continue
        pool.nodes.delete(key)
        Effect.runFork(one.connection.close)
      }
    }
    const used = pools.flatMap(({ views }) => Array.from(views.keys()))
    const unserved = used.some((slot) => slots[slot] === undefined)
    if (unserved || !isWhole() || now - answeredAt > askEvery) refresh()
  }

  // ---------------------------------------------------------------------------
  // commands
  // ---------------------------------------------------------------------------

  /** Until it is connected, for a while. */
  const standing = (one: Node): Promise<void> =>
    new Promise((resolve) => {
      if (one.connection.isReady()) return resolve()
      const done = () => {
        clearTimeout(timer)
        stop()
        resolve()
      }
      const timer = setTimeout(done, patience)
      const stop = one.connection.onReady(done)
    })

  type Send<A> = (to: Node, asking: boolean) => Promise<A>

  /** Whether what another server serves by now is sent there, or comes back refused. */
  type Where = "anywhere" | "here"

  /** What a server did not do, as it does not serve the slot, is sent to the one that it names. */
  const follow = async <A>(pool: Pool, first: Node, send: Send<A>, where: Where, refused: unknown): Promise<A> => {
    let from = first
    let error = refused
    for (let hops = 0; hops < maxRedirects; hops++) {
      if (codeOf(error) === "CLUSTERDOWN") refresh()
      const redirect = Topology.redirectOf(error, from.address)
      if (redirect === undefined || closed) throw error
      const to = node(pool, redirect.to)
      if (redirect.kind === "moved") {
        // a server that is asked while it learns may name the one that we come from
        if (to !== from) assign(redirect.slot, redirect.to)
        refresh()
      }
      await standing(to)
      // what is being moved is the same at both servers, and where it has been moved to, somebody else may have written
      if (!to.connection.isReady() || (where === "here" && redirect.kind === "moved" && to !== from)) throw error
      try {
        return await send(to, redirect.kind === "ask")
      } catch (next) {
        error = next
        from = to
      }
    }
    throw error
  }

  const dispatch = <A>(pool: Pool, to: Node | undefined, send: Send<A>, where: Where = "anywhere"): Promise<A> => {
    if (to !== undefined) return send(to, false).catch((error: unknown) => follow(pool, to, send, where, error))
    // whoever was asked last did not know who serves it
    refresh()
    return Promise.reject(new NotConnected())
  }

  const view = (pool: Pool, slot: number): View => {
    const existing = pool.views.get(slot)
    if (existing !== undefined) return existing
    const listeners = new Set<() => void>()
    const asked = new Map<Node, number>()

    const counted = <A>(send: Send<A>, where?: Where): Promise<A> =>
      dispatch(
        pool,
        ownerOf(self),
        (to, asking) => {
          asked.set(to, (asked.get(to) ?? 0) + 1)
          return send(to, asking).finally(() => {
            const left = (asked.get(to) ?? 1) - 1
            if (left > 0) asked.set(to, left)
            else {
              asked.delete(to)
              // after whoever waits for this reply has seen it
              if (self.stale) setImmediate(() => tell(self))
            }
          })
        },
        where
      )

    const sending = (where: Where): Connection["here"] => ({
      submit: (command, args) => counted(({ connection }, asking) => connection.submit(command, args, asking), where),
      execute: (script, input) => counted(({ connection }, asking) => connection.execute(script, input, asking), where)
    })
    const { execute, submit } = sending("anywhere")
    const unavailable = (operation: string): TransportError =>
      ownerOf(self)?.connection.unavailable(operation) ?? missing(operation)
    const self: View = {
      slot,
      pool,
      listeners,
      asked,
      epoch: 0,
      stale: false,
      connection: {
        submit,
        gather: (commands) => {
          const owner = ownerOf(self)
          if (owner === undefined) commands()
          else owner.connection.gather(commands)
        },
        execute,
        replicate: (script, input, replication) =>
          counted(({ connection }, asking) => connection.replicate(script, input, replication, asking)),
        here: sending("here"),
        ...described({ submit, execute, unavailable }),
        isReady: () => ownerOf(self)?.connection.isReady() ?? false,
        isClosed: () => closed,
        epoch: () => self.epoch,
        unavailable,
        onReady: (listener) => {
          listeners.add(listener)
          return () => void listeners.delete(listener)
        },
        onMessage: () => {},
        restart: () => ownerOf(self)?.connection.restart()
      }
    }
    pool.views.set(slot, self)
    return self
  }

  const missing = (operation: string): TransportError =>
    lastError === undefined
      ? disconnected(operation, new Error("no server of the cluster serves this slot"))
      : new TransportError({ operation, reason: lastError.reason })

  const at = (key: string): Connection => view(commands, slotOf(key)).connection

  const anyReady = (): Node | undefined => ready()[0]
  const submitAnywhere = (command: string, args: ReadonlyArray<Arg>): Promise<Reply> =>
    dispatch(commands, anyReady(), ({ connection }, asking) => connection.submit(command, args, asking))
  const serving = <Input, Result>(script: Script<Input, Result>, input: Input): Connection =>
    at(script.keys(input)[0] ?? "")
  const executeAnywhere = <Input, Result>(script: Script<Input, Result>, input: Input): Promise<Result> =>
    serving(script, input).execute(script, input)
  const anywhere: Connection = {
    submit: submitAnywhere,
    gather: (commands) => commands(),
    execute: executeAnywhere,
    replicate: (script, input, replication) => serving(script, input).replicate(script, input, replication),
    here: { submit: submitAnywhere, execute: executeAnywhere },
    ...described({ submit: submitAnywhere, execute: executeAnywhere, unavailable: missing }),
    isReady: () => anyReady() !== undefined,
    isClosed: () => closed,
    epoch: () => 0,
    unavailable: missing,
    onReady: (listener) => {
      anyListeners.add(listener)
      return () => void anyListeners.delete(listener)
    },
    onMessage: () => {},
    restart: () => {}
  }

  const open: Cluster["open"] = (role, { block, key }) => {
    const slot = key === undefined ? undefined : slotOf(key)
    /** The master of its slot; or any server, rather one that stands, and not the one that was just lost. */
    const pick = (last: Address | undefined): Address | undefined => {
      if (slot !== undefined) return slots[slot]
      const standing = ready().map(({ address }) => address)
      const others = (all: ReadonlyArray<Address>) =>
        all.filter((one) => last === undefined || Topology.keyOf(one) !== Topology.keyOf(last))
      return shuffled(others(standing))[0] ?? shuffled(others(known))[0] ?? known[0]
    }
    return Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => {
          const client = Wandering.make(pick, (address) => options.make(role, address, "once"))
          const connection = Connections.make(client, { commandTimeout: options.commandTimeout + block })
          const wanderer = { client, slot }
          wanderers.add(wanderer)
          void client.connect()
          return { connection, wanderer }
        }),
        ({ connection, wanderer }) => {
          wanderers.delete(wanderer)
          return connection.close
        }
      ),
      ({ connection, wanderer }): Connection => {
        if (slot === undefined) return connection
        const submit = (command: string, args: ReadonlyArray<Arg>): Promise<Reply> =>
          connection.submit(command, args).catch((error: unknown) => {
            const asked = wanderer.client.at()
            const redirect = asked === undefined ? undefined : Topology.redirectOf(error, asked)
            if (redirect !== undefined) {
              if (redirect.kind === "moved") assign(redirect.slot, redirect.to)
              refresh()
              wanderer.client.disconnect(true)
            }
            throw error
          })
        return { ...connection, submit, ...described({ ...connection, submit }) }
      }
    )
  }

  const timer = setInterval(look, lookEvery)
  refresh()

  const close = Effect.suspend(() => {
    closed = true
    clearInterval(timer)
    anyListeners.clear()
    const all = pools.flatMap(({ nodes }) => Array.from(nodes.values()))
    return Effect.forEach(all, ({ connection }) => connection.close, { concurrency: "unbounded", discard: true })
  })

  const self: Cluster = {
    anywhere,
    at,
    replicating: (key) => view(replicas, slotOf(key)).connection,
    open,
    isWhole
  }
  return { self, close }
}

/** For the lifetime of the scope. It need not be connected yet: `isWhole` of it tells. */
export const open = (options: ClusterOptions): Effect.Effect<Cluster, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => make(options)),
      ({ close }) => close
    ),
    ({ self }) => self
  )
