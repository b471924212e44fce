/** Breaks of the two logs, outside of the scripts. */
import type { Guard, Mutation } from "./mutation.ts"

const memory = (test: string): Guard => ({ project: "unit", file: "test/conformance/memory.test.ts", test })
const redis = (file: string, test: string): Guard => ({ project: "redis", file: `test/${file}.test.ts`, test })
const cluster = (test: string): Guard => ({ project: "cluster", file: "test/cluster/cluster.test.ts", test })

const inMemory = (file: string, find: string, replace: string) => ({
  file: `packages/core/src/internal/${file}.ts`,
  find,
  replace
})
const onRedis = (file: string, find: string, replace: string) => ({ file: `packages/redis/src/${file}`, find, replace })

export const backend: ReadonlyArray<Mutation> = [
  {
    name: "memory-attempt-not-counted",
    edits: [inMemory("memoryGroup", `base: tracked.base + counted,`, `base: tracked.base,`)],
    killedBy: memory("4. with maxRetries = n there are exactly n + 1 calls")
  },
  {
    name: "memory-release-counted",
    edits: [
      inMemory(
        "memoryGroup",
        `giveBack(tracked: Tracked): void {\n    tracked.disown()\n    tracked.count--`,
        `giveBack(tracked: Tracked): void {\n    tracked.disown()`
      )
    ],
    killedBy: memory("4. a release costs no attempt, however often")
  },
  {
    name: "memory-retry-at-once",
    edits: [
      inMemory(
        "memoryGroup",
        `this.schedule(now + Duration.toMillis(outcome.delay), retryOf`,
        `this.schedule(now, retryOf`
      )
    ],
    killedBy: memory("5. a due retry is delivered when it is due, not before and not at the next scan")
  },
  {
    name: "memory-lease-not-checked",
    edits: [
      inMemory(
        "memoryGroup",
        `if (tracked.owner !== member || tracked.delivery !== entry.delivery) {`,
        `if (tracked.owner === undefined) {`
      )
    ],
    killedBy: memory("8. a worker that lost its lease learns it when it settles: refused, and not applied")
  },
  {
    name: "memory-delivery-not-compared",
    edits: [
      inMemory(
        "memoryGroup",
        `if (tracked.owner !== member || tracked.delivery !== entry.delivery) {`,
        `if (tracked.owner !== member) {`
      )
    ],
    killedBy: memory("8. what was taken from a worker and given to it again is another delivery")
  },
  {
    name: "memory-one-timeout-for-all",
    edits: [
      inMemory(
        "memoryGroup",
        `if (tracked.leaseFrom + member.visibility > now ||`,
        `if (tracked.leaseFrom + 30_000 > now ||`
      )
    ],
    killedBy: memory("7. each consumer is judged by its own visibility timeout")
  },
  {
    name: "memory-marks-ignored",
    edits: [inMemory("memoryGroup", `if (mark !== undefined && !covers(mark, tracked)) tracked.count--`, ``)],
    killedBy: memory("7. a delivery that the log shows unstarted costs no attempt when its consumer dies")
  },
  {
    name: "memory-reclaimer-not-woken",
    edits: [inMemory("memoryGroup", `this.announced = at\n    this.bells.ring(this.tenders)`, `this.announced = at`)],
    killedBy: memory("7. a process of its own can do the reclaiming")
  },
  {
    name: "memory-leaving-keeps-what-it-holds",
    edits: [inMemory("memoryConsumer", `for (const tracked of this.member.held) this.group.giveBack(tracked)`, ``)],
    killedBy: memory("1. a consumer that leaves gives back what it holds")
  },
  {
    name: "memory-fence-does-not-grow",
    edits: [inMemory("memoryWorker", `order.fence += 1`, `order.fence ||= 1`)],
    killedBy: memory("10. a key has one active worker; another takes over when it closes, and the fence grows")
  },
  {
    name: "memory-parked-lost-on-unpark",
    edits: [
      inMemory(
        "memoryGroup",
        `if (next === undefined) return true\n    this.retries.come(next, now)`,
        `if (next === undefined) return true`
      )
    ],
    killedBy: memory("10. parked messages come one by one")
  },
  {
    name: "memory-parking-costs-an-attempt",
    edits: [
      inMemory("memoryGroup", `retryOf(tracked, tracked.count - 1, key)`, `retryOf(tracked, tracked.count, key)`)
    ],
    killedBy: memory("10. parked messages come one by one, cost no attempt")
  },
  {
    name: "memory-parked-out-of-order",
    edits: [inMemory("memoryOrder", `line.splice(at, 0, retry)`, `line.unshift(retry)`)],
    killedBy: memory("10. what waits survives a restart of all workers, in its order")
  },
  {
    name: "memory-trim-past-pending",
    edits: [inMemory("memoryGroup", `return first === undefined ? this.next :`, `return this.next >= 0 ? this.next :`)],
    killedBy: memory("1. what is pending for a slow group is never dropped, nor what follows it")
  },
  {
    name: "memory-trim-by-the-quickest-group",
    edits: [inMemory("memoryStore", `const unsettled = Math.min(`, `const unsettled = Math.max(`)],
    killedBy: memory("1. what a paused subscription has not read is never dropped")
  },
  {
    name: "redis-retry-to-a-shared-stream",
    edits: [onRedis("RedisKeys.ts", "retry: `${prefix}.retry`", "retry: `${main}.retry`")],
    killedBy: redis("conformance/redis", "2. no other subscription sees a retry, a dead letter or a redrive")
  },
  {
    name: "redis-two-scripts-instead-of-one",
    edits: [
      onRedis(
        "scripts/fail.lua",
        `  redis.call("XACK", stream, group, unpack(mine))\n  if origin == "retry" then redis.call("XDEL", stream, unpack(mine)) end\n`,
        ``
      ),
      onRedis(
        "internal/settle.ts",
        `member.client.execute(Scripts.fail, { keys: member.keys, consumer: member.consumer, origin, failures })`,
        `member.client
    .execute(Scripts.fail, { keys: member.keys, consumer: member.consumer, origin, failures })
    .then(async (found) => {
      const group = origin === "main" ? member.keys.mainGroup : member.keys.retryGroup
      await member.client.submit("XACK", [member.keys[origin], group, ...failures.map(({ id }) => id)])
      return found
    })`
      )
    ],
    killedBy: redis("redis/recover", "a settle whose reply was cut is Unknown; repeated, it changes nothing")
  },
  {
    name: "redis-delivered-anew-settled",
    edits: [
      onRedis(
        "internal/holdings.ts",
        `return !this.has(entry) && (this.knows(entry.origin, entry.id) || this.over.has(entry))`,
        `return false`
      )
    ],
    killedBy: redis("redis/recover", "what a new master does not know as delivered is not settled, asked for when")
  },
  {
    name: "redis-acks-proven-by-another-connection",
    edits: [onRedis("internal/holdings.ts", `return entry.epoch === this.client.epoch()`, `return true`)],
    killedBy: redis("redis/recover", "what a new master does not know as delivered is not settled, asked for before")
  },
  {
    name: "redis-acks-proven-to-another-server",
    edits: [onRedis("internal/settle.ts", `nonce === "" ? member.client : member.client.here`, `member.client`)],
    killedBy: cluster(
      "a slot moves: what its new master does not know as delivered is not settled there, by a consumer"
    )
  },
  {
    name: "redis-acks-of-an-owner-proven-to-another-server",
    edits: [onRedis("internal/order.ts", `acks.length === 0 ? client : client.here`, `client`)],
    killedBy: cluster("a slot moves: what its new master does not know as delivered is not settled there, by an owner")
  },
  {
    name: "redis-slot-without-a-master-is-forgotten",
    edits: [onRedis("internal/cluster.ts", `if (unserved || !isWhole()`, `if (!isWhole()`)],
    killedBy: redis("redis/redirects", "is asked again where nobody was known to serve one that is used")
  },
  {
    name: "redis-reads-from-a-new-master-at-once",
    edits: [
      onRedis("internal/reader.ts", `if (!member.held.isSurveyed()) await`, `if (member.held.isSurveyed()) await`)
    ],
    killedBy: redis("redis/recover", "what a new master does not know as delivered is not settled, asked for while")
  },
  {
    name: "redis-repetition-is-a-loss",
    edits: [onRedis("internal/settle.ts", `found === "gone" && repeated ? "unknown" : "lost"`, `"lost"`)],
    killedBy: redis("conformance/redis", "1. a settlement whose reply is lost is sent again")
  },
  {
    name: "redis-lost-reply-not-recovered",
    edits: [
      onRedis(
        "internal/recover.ts",
        `filter(({ id }) => !held.knows(origin, id))`,
        `filter(({ id }) => id === "" && held.knows(origin, id))`
      )
    ],
    killedBy: redis("redis/recover", "what was taken from others, and whose reply was cut, comes back")
  },
  {
    name: "redis-lost-blocking-read-not-recovered",
    edits: [onRedis("internal/reader.ts", `next\n        unsure = true`, `next`)],
    killedBy: redis(
      "redis/blocking",
      "what was delivered there and got lost with the connection comes back, at no cost"
    )
  },
  {
    name: "redis-lost-count-not-recorded",
    edits: [onRedis("internal/member.ts", `if (joined.created.main) await this.recreated()`, ``)],
    killedBy: redis("redis/order", "and consumers record the number of partitions again where it has disappeared")
  },
  {
    name: "redis-lost-blocking-read-compared-once",
    edits: [onRedis("internal/reader.ts", `doubt = setTimeout(suspect, millis).unref()`, ``)],
    killedBy: redis("redis/blocking", "what is delivered to who is gone, as the server has not noticed")
  },
  {
    name: "redis-blocking-read-outlives-its-consumer",
    edits: [onRedis("internal/reader.ts", `if (turn === undefined) return Effect.void`, `return Effect.void`)],
    killedBy: redis(
      "redis/blocking",
      "whoever leaves while it waits there leaves nothing, and what comes next goes to others"
    )
  },
  {
    name: "redis-blocking-read-before-retries",
    edits: [onRedis("internal/reader.ts", `!busy && !expected &&`, `!busy &&`)],
    killedBy: redis("redis/blocking", "new entries do not wait behind many retries")
  },
  {
    name: "redis-held-given-back",
    edits: [
      onRedis("internal/recover.ts", `filter(({ id }) => !held.knows(origin, id))`, `filter(({ id }) => id !== "")`)
    ],
    killedBy: redis("redis/recover", "what is held stays held: it is not given back by the comparison")
  },
  {
    name: "redis-left-beside-a-full-fetch",
    edits: [
      onRedis(
        "internal/reader.ts",
        `// what was not looked at is looked at next: nothing rings for it again\n        expected = true`,
        ``
      )
    ],
    killedBy: redis("redis/waking", "leaves the retry beside them, and then new entries, to the next ones at once")
  },
  {
    name: "redis-ids-of-another-publish",
    edits: [
      onRedis("internal/publisher.ts", `ids.slice(at, at + one.entries.length)`, `ids.slice(0, one.entries.length)`)
    ],
    killedBy: redis(
      "redis/publish",
      "what is published in one turn leaves together, in order, and each learns its own ids"
    )
  },
  {
    name: "memory-fence-not-checked",
    edits: [
      inMemory(
        "memoryWorker",
        `group.order.owner === member && group.order.fence === fence`,
        `group.order.owner !== undefined && member.lastSeen >= 0 && fence > 0`
      )
    ],
    killedBy: {
      project: "unit",
      file: "test/core/MemoryTransport.order.test.ts",
      test: "10. whose lease ended is refused everything once another has claimed"
    }
  },
  {
    name: "memory-release-wakes-nobody",
    edits: [
      inMemory(
        "memoryGroup",
        `this.returned.add(tracked)\n    this.bells.ring(this.fetchers)`,
        `this.returned.add(tracked)`
      )
    ],
    killedBy: memory("1. a release reaches another worker at once, without waiting for a timeout")
  },
  {
    name: "redis-bell-armed-after-reading",
    edits: [
      onRedis(
        "internal/bell.ts",
        `server.submit("DEL", [key]).catch(() => {})`,
        `setTimeout(() => void server.submit("DEL", [key]).catch(() => {}), 4)`
      )
    ],
    killedBy: redis("redis/ringing", "a ring shortly after another one is heard")
  },
  {
    name: "redis-bell-armed-without-a-ring",
    edits: [onRedis("internal/bell.ts", `if (one !== undefined) ring(key, one, ["listening"])`, ``)],
    killedBy: redis("redis/bell", "after its connection was killed, what was published meanwhile is found")
  }
]
