/**
 * Private Redis Clusters and Sentinels for tests: several servers each, that end with the test process at the latest.
 *
 * They are put together by commands, so that nothing but `redis-server` is needed.
 */
import { createServer } from "node:net"
import { once } from "node:events"
import { setTimeout as sleep } from "node:timers/promises"
import { Redis } from "ioredis"
import { type RedisServer, startRedis } from "./redis.ts"

const isFree = async (port: number): Promise<boolean> => {
  const server = createServer()
  const listening = once(server, "listening").then(
    () => true,
    () => false
  )
  server.listen(port, "127.0.0.1")
  const free = await listening
  server.close()
  return free
}

/** A port that is free, as is the one 10,000 above it, where a cluster's servers talk to each other. */
const freePair = async (): Promise<number> => {
  for (;;) {
    // below the range from which the system takes ports by itself
    const port = 10_000 + Math.floor(Math.random() * 12_000)
    if ((await isFree(port)) && (await isFree(port + 10_000))) return port
  }
}

const startWithBus = async (args: ReadonlyArray<string>): Promise<RedisServer> => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startRedis({ port: await freePair(), args })
    } catch (error) {
      // another process was faster
      if (attempt === 5 || !/in use|bind/i.test(String(error))) throw error
    }
  }
}

const until = async (what: string, check: () => Promise<boolean>): Promise<void> => {
  const end = performance.now() + 30_000
  while (!(await check().catch(() => false))) {
    if (performance.now() > end) throw new Error(`never true within 30 seconds: ${what}`)
    await sleep(20)
  }
}

const looker = (port: number): Redis => {
  const redis = new Redis({ port, host: "127.0.0.1", lazyConnect: true, connectionName: "looker" })
  redis.on("error", () => {})
  return redis
}

/** The lines of INFO or CLUSTER INFO, by name. */
const infoOf = (text: string): ReadonlyMap<string, string> =>
  new Map(text.split("\r\n").flatMap((line) => (line.includes(":") ? [line.split(":", 2) as [string, string]] : []))) // two parts, as it has a colon

/**
 * Milliseconds: the servers give up a failover that somebody asked for after 5 seconds, and tell nobody; as they do
 * where the link between the two is just being made anew.
 */
const failoverIsTriedFor = 6000

export interface Member {
  readonly server: RedisServer
  /** For looking, and for what an operator does. */
  readonly redis: Redis
}

export interface RedisCluster {
  /** Three masters first, then a replica of each, as they were in the beginning. */
  readonly members: ReadonlyArray<Member>
  readonly nodes: ReadonlyArray<{ readonly host: string; readonly port: number }>
  readonly url: string
  /** Who is the master of a key's slot now. */
  readonly masterOf: (key: string) => Promise<Member>
  readonly replicaOf: (master: Member) => Promise<Member>
  /** Until another server than this one is the master of a key's slot. */
  readonly failedOver: (key: string, from: Member) => Promise<Member>
  /** Has the master of a key's slot hand over to its replica, as operators do, and returns that. */
  readonly giveWay: (key: string) => Promise<Member>
  /** Moves a key's slot to another master as operators do; `between` runs while it is half moved. */
  readonly move: (key: string, to: Member, between?: () => Promise<unknown>) => Promise<void>
  /** Until all servers agree that every slot is served. */
  readonly settled: () => Promise<void>
  readonly stop: () => Promise<void>
}

export interface ClusterSettings {
  /** Milliseconds after which a silent server counts as failed. Default 15,000: no failover that nobody asked for. */
  readonly timeout?: number | undefined
  readonly args?: ReadonlyArray<string> | undefined
}

/** Three masters with a replica each. */
export const startCluster = async ({ args = [], timeout = 15_000 }: ClusterSettings = {}): Promise<RedisCluster> => {
  const settings = [
    ["--cluster-enabled", "yes"],
    ["--cluster-node-timeout", `${timeout}`],
    ["--cluster-replica-validity-factor", "0"],
    ["--repl-diskless-sync-delay", "0"],
    // a full synchronisation is not what is tested
    ["--repl-ping-replica-period", "1"]
  ].flat()
  const servers = await Promise.all(Array.from({ length: 6 }, () => startWithBus([...settings, ...args])))
  const members = servers.map((server): Member => ({ server, redis: looker(server.port) }))
  const ids = new Map<Member, string>()
  for (const [index, member] of members.entries()) {
    await member.redis.connect()
    ids.set(member, await member.redis.cluster("MYID"))
    await member.redis.call("CLUSTER", "SET-CONFIG-EPOCH", String(index + 1))
  }
  const idOf = (member: Member) => ids.get(member) ?? ""
  const masters = members.slice(0, 3)
  for (const [index, { redis }] of masters.entries()) {
    const [from, to] = [Math.floor((16384 * index) / 3), Math.floor((16384 * (index + 1)) / 3)]
    await redis.cluster("ADDSLOTS", ...Array.from({ length: to - from }, (_, i) => from + i))
  }
  // each meets each, so that nobody waits for gossip
  for (const [index, { redis }] of members.entries()) {
    for (const other of servers.slice(0, index)) await redis.cluster("MEET", "127.0.0.1", String(other.port))
  }
  await until("each knows each", async () => {
    for (const { redis } of members) {
      const lines = String(await redis.cluster("NODES"))
        .trim()
        .split("\n")
      if (lines.length !== 6 || lines.some((line) => /handshake|noaddr/.test(line))) return false
    }
    return true
  })
  for (const [index, { redis }] of members.slice(3).entries()) {
    const master = masters[index]
    if (master !== undefined) await redis.cluster("REPLICATE", idOf(master))
  }

  const settled = async () => {
    const alive = members.filter(({ server }) => server.isRunning())
    await until("the cluster is whole", async () => {
      const views = new Set<string>()
      for (const { redis } of alive) {
        const info = infoOf(await redis.cluster("INFO"))
        if (info.get("cluster_state") !== "ok" || info.get("cluster_slots_ok") !== "16384") return false
        const ranges = await redis.cluster("SLOTS")
        views.add(
          ranges
            .map(([from, to, master]) => `${from}-${to}:${master?.[1]}`)
            .toSorted()
            .join()
        )
        const replication = infoOf(await redis.info("replication"))
        if (replication.get("role") === "slave" && replication.get("master_link_status") !== "up") return false
      }
      return views.size === 1
    })
  }
  await settled()

  /** The first answer: one that is frozen gives none. */
  const answered = <A>(ask: (redis: Redis) => Promise<A>): Promise<A> =>
    Promise.any(members.filter(({ server }) => server.isRunning()).map(({ redis }) => ask(redis)))
  const memberAt = (port: number): Member => {
    const found = members.find(({ server }) => server.port === port)
    if (found === undefined) throw new Error(`no server of the cluster has port ${port}`)
    return found
  }

  const masterOf = (key: string) =>
    answered(async (redis) => {
      const slot = await redis.cluster("KEYSLOT", key)
      for (const [from, to, master] of await redis.cluster("SLOTS")) {
        if (from <= slot && slot <= to && master !== undefined) return memberAt(master[1])
      }
      throw new Error(`nobody serves slot ${slot}`)
    })

  const replicaOf = (master: Member) =>
    answered(async (redis) => {
      for (const line of String(await redis.cluster("NODES")).split("\n")) {
        const [, address = "", , of] = line.split(" ")
        if (of === idOf(master)) return memberAt(Number(address.split("@")[0]?.split(":").at(-1)))
      }
      throw new Error("it has no replica")
    })

  return {
    members,
    nodes: servers.map(({ port }) => ({ host: "127.0.0.1", port })),
    url: servers[0]?.url ?? "",
    masterOf,
    replicaOf,
    failedOver: async (key, from) => {
      await until("another server is master", async () => (await masterOf(key)) !== from)
      return masterOf(key)
    },
    giveWay: async (key) => {
      const from = await masterOf(key)
      const to = await replicaOf(from)
      let asked = -Infinity
      await until("the replica is master", async () => {
        const now = await masterOf(key)
        if (now === from && performance.now() - asked > failoverIsTriedFor) {
          asked = performance.now()
          await to.redis.cluster("FAILOVER")
        }
        return now === to
      })
      return to
    },
    move: async (key, to, between = () => Promise.resolve()) => {
      const slot = String(await to.redis.cluster("KEYSLOT", key))
      const from = await masterOf(key)
      if (from === to) return
      await to.redis.cluster("SETSLOT", slot, "IMPORTING", idOf(from))
      await from.redis.cluster("SETSLOT", slot, "MIGRATING", idOf(to))
      const keys = await from.redis.cluster("GETKEYSINSLOT", slot, "1000")
      // half of them, and one at least
      const half = Math.ceil(keys.length / 2)
      const send = async (some: ReadonlyArray<string>) => {
        if (some.length > 0) {
          await from.redis.migrate("127.0.0.1", to.server.port, "", 0, 5000, "KEYS", ...some)
        }
      }
      await send(keys.slice(0, half))
      await between()
      for (;;) {
        const left = await from.redis.cluster("GETKEYSINSLOT", slot, "1000")
        if (left.length === 0) break
        await send(left)
      }
      for (const { redis, server } of [to, from, ...members]) {
        if (server.isRunning()) await redis.cluster("SETSLOT", slot, "NODE", idOf(to)).catch(() => {})
      }
    },
    settled,
    stop: async () => {
      for (const { redis } of members) redis.disconnect()
      await Promise.all(servers.map((server) => server.stop()))
    }
  }
}

export interface RedisSentinel {
  /** The first master, then its replicas. */
  readonly members: ReadonlyArray<Member>
  readonly name: string
  readonly sentinels: ReadonlyArray<{ readonly host: string; readonly port: number }>
  /** Who is the master now, as the sentinels say. */
  readonly master: () => Promise<Member>
  /** Until the sentinels name another master than this one, and it takes writes. */
  readonly failedOver: (from: Member) => Promise<Member>
  readonly stop: () => Promise<void>
}

/** A master with two replicas, and three sentinels that wait a second before they call a server down. */
export const startSentinel = async (args: ReadonlyArray<string> = []): Promise<RedisSentinel> => {
  const name = "main"
  const master = await startRedis({ args })
  const replication = ["--replicaof", "127.0.0.1", `${master.port}`, "--repl-diskless-sync-delay", "0"]
  const replicas = await Promise.all([1, 2].map(() => startRedis({ args: [...args, ...replication] })))
  const members = [master, ...replicas].map((server): Member => ({ server, redis: looker(server.port) }))
  for (const { redis } of members) await redis.connect()
  await until("the replicas are there", async () => {
    for (const { redis } of members.slice(1)) {
      if (infoOf(await redis.info("replication")).get("master_link_status") !== "up") return false
    }
    return true
  })
  const sentinels = await Promise.all(
    [1, 2, 3].map(() =>
      startRedis({
        sentinel: [
          `sentinel monitor ${name} 127.0.0.1 ${master.port} 2`,
          `sentinel down-after-milliseconds ${name} 1000`,
          `sentinel failover-timeout ${name} 6000`,
          `sentinel parallel-syncs ${name} 2`
        ]
      })
    )
  )
  const watchers = sentinels.map(({ port }) => looker(port))
  for (const watcher of watchers) await watcher.connect()
  await until("the sentinels know of each other and of the replicas", async () => {
    for (const watcher of watchers) {
      const reply = (await watcher.call("SENTINEL", "MASTER", name)) as Array<string> // names and values
      const value = (field: string) => Number(reply[reply.indexOf(field) + 1])
      if (value("num-other-sentinels") !== 2 || value("num-slaves") !== 2) return false
    }
    return true
  })
  const current = async (): Promise<Member> => {
    const [watcher] = watchers
    const reply = (await watcher?.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)) as [string, string] // as documented
    const found = members.find(({ server }) => server.port === Number(reply[1]))
    if (found === undefined) throw new Error(`no server here has port ${reply[1]}`)
    return found
  }
  return {
    members,
    name,
    sentinels: sentinels.map(({ port }) => ({ host: "127.0.0.1", port })),
    master: current,
    failedOver: async (from) => {
      await until("another server is master", async () => {
        const now = await current()
        return now !== from && infoOf(await now.redis.info("replication")).get("role") === "master"
      })
      return current()
    },
    stop: async () => {
      for (const redis of [...watchers, ...members.map((member) => member.redis)]) redis.disconnect()
      await Promise.all([...sentinels, ...members.map(({ server }) => server)].map((server) => server.stop()))
    }
  }
}
