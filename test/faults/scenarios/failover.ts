/** Masters that die or freeze, and the replicas that take their place. */
import { RedisKeys } from "@clutch/redis"
import * as Effect from "effect/Effect"
import { type Member, startCluster, startSentinel } from "../../support/cluster.ts"
import type { Rig } from "../rig.ts"
import { scenario } from "../scenario.ts"
import { any, pause, repeat } from "./kit.ts"

/** Milliseconds that a replica may be behind its master on a busy machine: what was confirmed then may be lost. */
const behind = 5000

/** One server takes writes, and the others follow it: who comes back may think for a while that it still does. */
const isWhole = (members: ReadonlyArray<Member>) => async (): Promise<boolean> => {
  let masters = 0
  for (const { redis, server } of members) {
    if (!server.isRunning()) return false
    const info = await redis.info("replication").catch(() => "")
    if (/role:master/.test(info)) masters += 1
    else if (!/master_link_status:up/.test(info)) return false
  }
  return masters === 1
}
const polled = (check: () => Promise<boolean>) =>
  Effect.promise(async () => {
    while (!(await check())) await new Promise((resolve) => setTimeout(resolve, 50))
  })

const sentinels = Effect.map(
  Effect.acquireRelease(
    Effect.promise(() => startSentinel()),
    (sentinel) => Effect.promise(() => sentinel.stop())
  ),
  (sentinel) => {
    const { members, name } = sentinel
    const target = { url: members[0]?.server.url ?? "", sentinel: { name, sentinels: sentinel.sentinels } }
    const master = () => sentinel.master().then(({ redis }) => redis)
    return {
      sentinel,
      target,
      direct: target,
      at: master,
      masters: async () => [await master()]
    }
  }
)

/** A master goes away until another one has its place. */
const away = (
  freezes: boolean,
  { server }: Member,
  failedOver: () => Promise<Member>,
  restart: (master: Member) => Promise<void>
) =>
  Effect.promise(async () => {
    if (freezes) {
      // it comes back as the master that it thinks it is, until somebody tells it better
      process.kill(server.pid(), "SIGSTOP")
      await failedOver()
      process.kill(server.pid(), "SIGCONT")
      return
    }
    await server.kill()
    await restart(await failedOver())
  })

export const sentinel = scenario({
  name: "sentinel",
  what: "failover by sentinels, of a master that dies or freezes",
  times: 20,
  place: sentinels,
  // a failover takes longer than a lease
  rules: { deaths: true },
  chaos: ({ sentinel }, rig, run) =>
    repeat(run, (i) =>
      Effect.gen(function* () {
        yield* pause(1000)
        const master = yield* Effect.promise(() => sentinel.master())
        yield* rig.fault(
          { what: i % 2 === 0 ? "master dies" : "master freezes", loses: behind },
          Effect.andThen(
            away(
              i % 2 === 1,
              master,
              () => sentinel.failedOver(master),
              // it has nothing, and must not be anybody's master with that
              ({ server: { port } }) =>
                master.server.restart(["--replicaof", "127.0.0.1", `${port}`, "--repl-diskless-sync-delay", "0"])
            ),
            polled(isWhole(sentinel.members))
          )
        )
        yield* rig.untilHealed
      })
    )
})

const partitions = 4

const clusters = Effect.map(
  Effect.acquireRelease(
    Effect.promise(() => startCluster({ timeout: 1500 })),
    (cluster) => Effect.promise(() => cluster.stop())
  ),
  (cluster) => {
    const target = { url: cluster.url, cluster: { nodes: cluster.nodes } }
    return {
      cluster,
      target,
      direct: target,
      at: async (key: string) => (await cluster.masterOf(key)).redis,
      masters: async () => {
        const masters = await Promise.all(
          cluster.members.map(async ({ redis }) => (/role:master/.test(await redis.info("replication")) ? [redis] : []))
        )
        return masters.flat()
      }
    }
  }
)

/** The key of one of the topic's partitions. */
const someKey = ({ options: { namespace, topic } }: Rig) =>
  RedisKeys.log(namespace, { topic: topic.name, partition: any(Array.from({ length: partitions }, (_, i) => i)) ?? 0 })
    .main

export const cluster = scenario({
  name: "cluster",
  what: "failover in a cluster of three masters, of one that dies, freezes or gives way, and slots that move",
  times: 20,
  place: clusters,
  rules: { deaths: true },
  load: { partitions },
  chaos: ({ cluster }, rig, run) =>
    repeat(run, (i) =>
      Effect.gen(function* () {
        yield* pause(1000)
        const key = someKey(rig)
        const master = yield* Effect.promise(() => cluster.masterOf(key))
        const replica = yield* Effect.promise(() => cluster.replicaOf(master))
        const failedOver = () => cluster.failedOver(key, master)
        const whole = Effect.promise(() => cluster.settled())
        if (i % 4 === 3) {
          const others = cluster.members.filter((one) => one !== master && one !== replica)
          const masters: Array<Member> = []
          for (const one of others) {
            if (/role:master/.test(yield* Effect.promise(() => one.redis.info("replication")))) masters.push(one)
          }
          const to = any(masters) ?? master
          yield* rig.fault(
            { what: "a slot moves" },
            Effect.andThen(
              Effect.promise(() => cluster.move(key, to)),
              whole
            )
          )
        } else if (i % 4 === 2) {
          const giveWay = Effect.promise(() => cluster.giveWay(key))
          yield* rig.fault({ what: "master gives way" }, Effect.andThen(giveWay, whole))
        } else {
          yield* rig.fault(
            { what: i % 4 === 0 ? "master dies" : "master freezes", loses: behind },
            Effect.andThen(
              away(i % 4 === 1, master, failedOver, () => master.server.restart()),
              whole
            )
          )
        }
        yield* rig.untilHealed
      })
    )
})
