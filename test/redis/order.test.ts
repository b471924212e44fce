/** Order by key: one owner a log, whom nobody overtakes, and who is refused everything once another has claimed. */
import * as Topic from "@clutch/core/Topic"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as O from "./order.support.ts"
import * as S from "./support.ts"

const setup = Effect.gen(function* () {
  const { options, redis } = yield* S.own
  return { admin: redis, a: yield* S.transport(options), b: yield* S.transport(options) }
})

const short = { visibilityTimeout: Duration.millis(400) }
const key = "clutch.{orders}"

describe("workers", () => {
  it.live("know of each other while they live, and of the owner while its lease lasts", () =>
    Effect.gen(function* () {
      const { a, b } = yield* setup
      const one = yield* O.enroll(a, short)
      const scope = yield* Scope.make()
      const two = yield* Scope.provide(O.enroll(b, short), scope)
      assert.sameMembers([...(yield* one.roster).workers], [one.name, two.name])
      assert.isTrue(Option.isNone((yield* one.roster).owner))
      yield* Scope.provide(O.claim(two), scope)
      const { expires, owner } = yield* one.roster
      assert.deepStrictEqual(owner, Option.some(two.name))
      const left = Duration.toMillis(Option.getOrThrow(expires))
      assert.isTrue(left > 200 && left <= 400, `${left}`)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* one.roster, { workers: [one.name], owner: Option.none(), expires: Option.none() })
    }).pipe(Effect.scoped)
  )

  it.live("are told when others come, claim, cede and go", () =>
    Effect.gen(function* () {
      const { a, b } = yield* setup
      const one = yield* O.enroll(a)
      let changes = 0
      yield* one.watch(() => {
        changes += 1
      })
      const told = (what: string, step: Effect.Effect<unknown, unknown>) =>
        Effect.gen(function* () {
          // what was told before has been told by now
          yield* Effect.sleep(50)
          const before = changes
          yield* step
          yield* S.until(`told: ${what}`, () => changes > before)
        })
      const scope = yield* Scope.make()
      let two: Effect.Success<ReturnType<typeof O.enroll>> | undefined
      yield* told(
        "enrol",
        Effect.map(Scope.provide(O.enroll(b), scope), (worker) => {
          two = worker
        })
      )
      if (two === undefined) return assert.fail("nobody enrolled")
      const claimed = yield* Effect.map(Scope.provide(O.claim(two), scope), (claimed) => claimed)
      yield* told("cede", claimed.cede)
      yield* told("claim", Scope.provide(O.claim(two), scope))
      yield* told("leave", Scope.close(scope, Exit.void))
    }).pipe(Effect.scoped)
  )

  it.live("that never kept their place leave nothing behind", () =>
    Effect.gen(function* () {
      const { a, admin } = yield* setup
      yield* Effect.scoped(a.enroll({ group: S.group(), consumer: undefined, from: "new", ...short }))
      assert.deepStrictEqual(yield* Effect.promise(() => S.keysOf(admin, "*")), [])
    }).pipe(Effect.scoped)
  )

  it.live("heal a group that has disappeared when they ask who is there", () =>
    Effect.gen(function* () {
      const { a, admin } = yield* setup
      const worker = yield* O.enroll(a)
      const first = yield* O.claim(worker)
      yield* S.publish(a, "x")
      yield* Effect.promise(() => S.flush(admin))
      yield* S.publish(a, "y")
      assert.strictEqual(yield* first.owner.fetch(O.limit()), "lost")
      assert.deepStrictEqual((yield* worker.roster).workers, [worker.name])
      const second = yield* O.claim(worker)
      assert.deepStrictEqual((yield* O.fetch(second.owner)).map(S.text), ["y"])
    }).pipe(Effect.scoped)
  )

  it.live("and consumers record the number of partitions again where it has disappeared with their group", () =>
    Effect.gen(function* () {
      const { a, admin, b } = yield* setup
      assert.strictEqual(yield* a.partitions("orders", 4), 4)
      const worker = yield* O.enroll(a)
      yield* Effect.promise(() => S.flush(admin))
      yield* worker.roster
      assert.strictEqual(yield* b.partitions("orders", 2), 4)
      const consumer = yield* S.join(a, { group: S.group("orders", "shipping") })
      yield* Effect.promise(() => S.flush(admin))
      yield* S.publish(a, "x")
      yield* S.fetching(consumer)
      assert.strictEqual(yield* b.partitions("orders", 2), 4)
    }).pipe(Effect.scoped)
  )
})

describe("a claim", () => {
  it.live("is given to one of two that compete", () =>
    Effect.gen(function* () {
      const { a, b } = yield* setup
      for (let round = 0; round < 10; round++) {
        yield* Effect.scoped(
          Effect.gen(function* () {
            const workers = [yield* O.enroll(a), yield* O.enroll(b)]
            const claims = yield* Effect.forEach(workers, (worker) => worker.claim, { concurrency: "unbounded" })
            assert.strictEqual(claims.filter(Option.isSome).length, 1)
          })
        )
      }
    }).pipe(Effect.scoped)
  )

  it.live("has a fence that grows over cedings, deaths and other workers", () =>
    Effect.gen(function* () {
      const { a, b } = yield* setup
      const one = yield* O.enroll(a, short)
      const two = yield* O.enroll(b, short)
      const first = yield* O.claim(one)
      yield* first.cede
      const second = yield* O.claim(two)
      const third = yield* O.claimSoon(one)
      assert.isBelow(first.owner.fence, second.owner.fence)
      assert.isBelow(second.owner.fence, third.owner.fence)
    }).pipe(Effect.scoped)
  )

  it.live("shows the keys that are held back, however many, and how many messages are parked", () =>
    Effect.gen(function* () {
      const { a } = yield* setup
      const worker = yield* O.enroll(a)
      const first = yield* O.claim(worker)
      const keys = Array.from({ length: 1200 }, (_, i) => `key ${i} ü`)
      yield* S.publish(a, "first", ...keys)
      const entries: Array<Effect.Success<ReturnType<typeof O.one>>> = []
      while (entries.length < 1201) entries.push(...(yield* O.fetch(first.owner, { count: 1000 })))
      yield* first.owner.settle([
        { entry: entries[0]!, outcome: O.retry("1 hour"), repeated: false, key: keys[0] },
        ...entries.slice(1).map((entry, i) => ({
          entry,
          outcome: i === 0 ? O.park : O.retry("1 hour"),
          repeated: false,
          key: keys[i]
        }))
      ])
      yield* first.cede
      const second = yield* O.claim(worker)
      assert.sameMembers(
        second.owner.heldBack.map(({ key }) => key),
        keys
      )
      const published = Number(entries[0]?.id.split("-")[0])
      assert.strictEqual(second.owner.heldBack.find(({ key }) => key === keys[0])?.since, published)
      assert.strictEqual(second.owner.parked, 1)
      const { due, heldBack, oldestHeldBack, parked, pending } = yield* a.inspect(S.group())
      assert.deepStrictEqual({ due, heldBack, parked, pending }, { due: 1200, heldBack: 1200, parked: 1, pending: 0 })
      assert.strictEqual(Option.getOrThrow(oldestHeldBack), published)
    }).pipe(Effect.scoped)
  )

  it.live("that is interrupted half-way is undone", () =>
    Effect.gen(function* () {
      const { a, admin, b } = yield* setup
      const holder = yield* O.enroll(a)
      const held = yield* O.claim(holder)
      yield* S.publish(a, "x")
      yield* O.one(held.owner)
      const other = yield* O.enroll(b)
      yield* held.cede
      const fiber = yield* Effect.forkChild(Effect.scoped(other.claim), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      assert.isTrue(Option.isNone((yield* holder.roster).owner))
      assert.isNull(yield* Effect.promise(() => admin.hget(`${key}.billing.state`, "owner")))
      yield* O.claim(holder)
    }).pipe(Effect.scoped)
  )

  it.live("gives back what it holds when its scope closes, at no cost of an attempt, and the log with it", () =>
    Effect.gen(function* () {
      const { a, b } = yield* setup
      const first = yield* O.claim(yield* O.enroll(a))
      const other = yield* O.enroll(b)
      yield* S.publish(a, "1", "2", "3")
      const [one] = yield* O.fetch(first.owner)
      if (one === undefined) return assert.fail("nothing was fetched")
      yield* O.settle(first.owner, one, O.ack)
      yield* first.cede
      const second = yield* O.claim(other)
      const entries = yield* O.fetch(second.owner)
      assert.deepStrictEqual(
        entries.map((entry) => [S.text(entry), entry.attempt, entry.reclaims]),
        [
          ["2", 1, 0],
          ["3", 1, 0]
        ]
      )
      assert.strictEqual(yield* O.settle(first.owner, entries[0]!, O.ack), "lost")
    }).pipe(Effect.scoped)
  )

  it.live("keeps the copy in memory of what was trimmed, when it is given back", () =>
    Effect.gen(function* () {
      const { a, admin, b } = yield* setup
      const first = yield* O.claim(yield* O.enroll(a))
      const other = yield* O.enroll(b)
      yield* S.publish(a, "1")
      const entry = yield* O.one(first.owner)
      yield* Effect.promise(() => admin.xdel(key, entry.id))
      yield* first.cede
      const second = yield* O.claim(other)
      const again = yield* O.one(second.owner)
      assert.deepStrictEqual([S.text(again), again.attempt, again.originalId], ["1", 1, entry.id])
    }).pipe(Effect.scoped)
  )
})

describe("an owner whose lease ended", () => {
  const stale = Effect.gen(function* () {
    const { a, admin, b } = yield* setup
    const one = yield* O.enroll(a, short)
    const two = yield* O.enroll(b, short)
    const old = yield* O.claim(one)
    yield* S.publish(a, "1", "2", "3")
    const entries = yield* O.fetch(old.owner)
    const fresh = yield* O.claimSoon(two)
    return { a, admin, entries, fresh: fresh.owner, old: old.owner, one, two }
  })

  it.live("is refused everything from the moment on that another has claimed", () =>
    Effect.gen(function* () {
      const { entries, fresh, old } = yield* stale
      assert.isAbove(fresh.fence, old.fence)
      const [first, ...rest] = [O.ack, O.retry(0), O.dead, O.release, O.park].map((outcome, i) => ({
        entry: entries[i % 3]!,
        outcome,
        repeated: false,
        key: "k"
      }))
      const lost = ["lost", "lost", "lost", "lost", "lost"] as const
      assert.deepStrictEqual(yield* old.settle([first!, ...rest]), lost)
      assert.strictEqual(yield* old.extend(entries), "lost")
      assert.strictEqual(yield* old.extend([]), "lost")
      assert.strictEqual(yield* old.fetch(O.limit()), "lost")
      // and again, as whoever had no reply would
      assert.deepStrictEqual(yield* old.settle([first!, ...rest]), lost)
    }).pipe(Effect.scoped)
  )

  it.live("has what it held taken over first, in order, each as another attempt; then comes what is new", () =>
    Effect.gen(function* () {
      const { a, entries, fresh } = yield* stale
      yield* S.publish(a, "4")
      const taken = yield* O.fetch(fresh)
      assert.deepStrictEqual(
        taken.map((entry) => [S.text(entry), entry.id, entry.attempt, entry.reclaims]),
        [...["1", "2", "3"].map((text, i) => [text, entries[i]?.id, 2, 1]), ["4", taken[3]?.id, 1, 0]]
      )
      assert.strictEqual(yield* O.settle(fresh, taken[0]!, O.ack), "done")
    }).pipe(Effect.scoped)
  )

  it.live("goes on where nobody claimed meanwhile", () =>
    Effect.gen(function* () {
      const { a } = yield* setup
      const worker = yield* O.enroll(a, short)
      const { owner } = yield* O.claim(worker)
      yield* S.publish(a, "1")
      const entry = yield* O.one(owner)
      yield* Effect.sleep(600)
      assert.strictEqual(yield* O.settle(owner, entry, O.ack), "done")
    }).pipe(Effect.scoped)
  )

  it.live("learns it from a reclaim, too: what it held has another owner", () =>
    Effect.gen(function* () {
      const { a, admin } = yield* setup
      const worker = yield* O.enroll(a, short)
      const { owner } = yield* O.claim(worker)
      yield* S.publish(a, "1")
      const entry = yield* O.one(owner)
      yield* S.until("reclaimed", async () => {
        await Effect.runPromise(a.tend(S.group()))
        const rows = (await admin.xpending(key, "billing", "-", "+", 10)) as ReadonlyArray<ReadonlyArray<unknown>>
        return rows[0]?.[1] === "-released"
      })
      assert.strictEqual(yield* O.settle(owner, entry, O.ack), "lost")
      assert.strictEqual(yield* owner.extend([entry]), "lost")
      assert.strictEqual(yield* owner.fetch(O.limit()), "lost")
    }).pipe(Effect.scoped)
  )

  it.live("does not speak of what the next claim of its worker holds", () =>
    Effect.gen(function* () {
      const { a, admin } = yield* setup
      const worker = yield* O.enroll(a)
      const first = yield* O.claim(worker)
      yield* first.cede
      const second = yield* O.claim(worker)
      assert.strictEqual(yield* second.owner.mark("main", ["5-0", "7-0"]), "done")
      assert.strictEqual(yield* first.owner.mark("main", undefined), "lost")
      const marks = yield* Effect.promise(() => admin.hget(`${key}.billing.state`, `m:${worker.name}`))
      assert.strictEqual(marks, "= 5-0 7-0")
    }).pipe(Effect.scoped)
  )
})

describe("an owner", () => {
  it.live("keeps its lease by extending it, without holding anything", () =>
    Effect.gen(function* () {
      const { a, b } = yield* setup
      const { owner } = yield* O.claim(yield* O.enroll(a, short))
      const other = yield* O.enroll(b, short)
      for (let i = 0; i < 8; i++) {
        yield* Effect.sleep(100)
        assert.deepStrictEqual(yield* owner.extend([]), [])
        assert.isTrue(Option.isNone(yield* Effect.scoped(other.claim)))
      }
    }).pipe(Effect.scoped)
  )

  it.live("waits for what comes: new messages, and retries that are due", () =>
    Effect.gen(function* () {
      const { a, b } = yield* setup
      const { owner } = yield* O.claim(yield* O.enroll(a))
      const fiber = yield* Effect.forkChild(O.one(owner), { startImmediately: true })
      yield* Effect.sleep(100)
      yield* S.publish(b, "1")
      const first = yield* S.joined(fiber)
      yield* O.settle(owner, first, O.retry(50), "k")
      const again = yield* Effect.forkChild(O.one(owner), { startImmediately: true })
      yield* S.until("moved", () => Effect.runPromise(Effect.map(b.tend(S.group()), ({ moved }) => moved > 0)))
      const second = yield* S.joined(again)
      assert.deepInclude(second, { attempt: 2, originalId: first.id, key: "k", origin: "retry" })
    }).pipe(Effect.scoped)
  )

  it.live("may leave what is new alone", () =>
    Effect.gen(function* () {
      const { a } = yield* setup
      const { owner } = yield* O.claim(yield* O.enroll(a))
      yield* S.publish(a, "1")
      assert.isTrue(Option.isNone(yield* Effect.timeoutOption(owner.fetch(O.limit({ unread: false })), 300)))
      const entry = yield* O.one(owner)
      yield* O.settle(owner, entry, O.release)
      assert.strictEqual((yield* O.one(owner, { unread: false })).id, entry.id)
    }).pipe(Effect.scoped)
  )

  it.live("whose fetch is interrupted loses nothing, and no order", () =>
    Effect.gen(function* () {
      const { a } = yield* setup
      const { owner } = yield* O.claim(yield* O.enroll(a))
      const sent = Array.from({ length: 200 }, (_, i) => `${i}`)
      yield* S.publish(a, sent[0]!, ...sent.slice(1))
      const seen: Array<string> = []
      while (seen.length < sent.length) {
        const fiber = yield* Effect.forkChild(Effect.uninterruptible(owner.fetch(O.limit({ count: 7 }))), {
          startImmediately: true
        })
        // interrupted before its reply nearly always
        yield* Fiber.interrupt(fiber)
        for (const entry of yield* O.fetch(owner, { count: 7 })) {
          seen.push(S.text(entry))
          assert.strictEqual(entry.attempt, 1)
          assert.strictEqual(yield* O.settle(owner, entry, O.ack), "done")
        }
      }
      assert.deepStrictEqual(seen, sent)
    }).pipe(Effect.scoped)
  )

  it.live("is handed a key's messages one after the other, through failures, by whoever owns the log", () =>
    Effect.gen(function* () {
      const { a, b } = yield* setup
      const workers = [yield* O.enroll(a), yield* O.enroll(b)]
      yield* S.publish(a, "1", "2", "3", "4")
      const seen: Array<string> = []
      for (let turn = 0; seen.at(-1) !== "4 freed"; turn++) {
        const { cede, owner } = yield* O.claim(workers[turn % 2]!)
        const heldBack = new Set(owner.heldBack.map(({ key }) => key))
        for (const entry of yield* O.fetch(owner)) {
          if (entry.origin === "main") {
            const first = !heldBack.has("k")
            heldBack.add("k")
            yield* O.settle(owner, entry, first ? O.retry(0) : O.park, "k")
          } else if (entry.attempt === 1) {
            yield* O.settle(owner, entry, O.retry(0), entry.key)
          } else {
            const settled = yield* O.settle(owner, entry, S.text(entry) === "2" ? O.dead : O.ack, entry.key)
            seen.push(`${S.text(entry)} ${settled === "freed" ? "freed" : entry.attempt}`)
          }
        }
        yield* cede
        yield* a.tend(S.group())
        assert.isBelow(turn, 100)
      }
      assert.deepStrictEqual(seen, ["1 2", "2 2", "3 2", "4 freed"])
      assert.deepInclude(yield* a.inspect(S.group()), { pending: 0, due: 0, heldBack: 0, parked: 0, deadLetters: 1 })
    }).pipe(Effect.scoped)
  )

  it.live("settles a list in its order, however long it is", () =>
    Effect.gen(function* () {
      const { a } = yield* setup
      const { owner } = yield* O.claim(yield* O.enroll(a))
      const sent = Array.from({ length: 2500 }, (_, i) => `${i}`)
      yield* S.publish(a, sent[0]!, ...sent.slice(1))
      const entries: Array<Effect.Success<ReturnType<typeof O.one>>> = []
      while (entries.length < sent.length) entries.push(...(yield* O.fetch(owner, { count: 1000 })))
      const [first, ...rest] = entries.map((entry) => ({ entry, outcome: O.park, repeated: false, key: "k" }))
      assert.isTrue((yield* owner.settle([first!, ...rest])).every((one) => one === "done"))
      assert.deepInclude(yield* a.inspect(S.group()), { parked: 2499, pending: 0, due: 1 })
      for (const text of sent) {
        const entry = yield* O.one(owner)
        assert.strictEqual(S.text(entry), text)
        assert.strictEqual(yield* O.settle(owner, entry, O.ack, entry.key), text === "2499" ? "freed" : "done")
      }
    }).pipe(Effect.scoped)
  )
})

describe("awaiting", () => {
  it.live("what is parked or held back is outstanding, but what waits for its time may be left out", () =>
    Effect.gen(function* () {
      const { a } = yield* setup
      const { owner } = yield* O.claim(yield* O.enroll(a))
      const { ids } = yield* S.publish(a, "1", "2")
      const through = ids[1]!
      const outstanding = (due: "wait" | "ignore", until = through) => a.outstanding(S.group(), { through: until, due })
      const [one, two] = yield* O.fetch(owner)
      yield* owner.settle([
        { entry: one!, outcome: O.retry("1 hour"), repeated: false, key: "k" },
        { entry: two!, outcome: O.park, repeated: false, key: "k" }
      ])
      assert.isTrue(yield* outstanding("wait"))
      assert.isFalse(yield* outstanding("ignore"))
      assert.isFalse(yield* outstanding("wait", "1-0"))
    }).pipe(Effect.scoped)
  )

  it.live("a message of the same millisecond behind the one that is waited for does not hold up", () =>
    Effect.gen(function* () {
      const { a, admin } = yield* setup
      const { owner } = yield* O.claim(yield* O.enroll(a))
      yield* Effect.promise(async () => {
        await admin.xadd(key, "5-1", "data", '"1"')
        await admin.xadd(key, "5-2", "data", '"2"')
      })
      const [one, two] = yield* O.fetch(owner)
      yield* O.settle(owner, one!, O.ack)
      yield* O.settle(owner, two!, O.retry("1 hour"), "k")
      assert.isFalse(yield* a.outstanding(S.group(), { through: "5-1", due: "wait" }))
      assert.isTrue(yield* a.outstanding(S.group(), { through: "5-2", due: "wait" }))
    }).pipe(Effect.scoped)
  )
})

describe("partitions", () => {
  it.live("are what the first one said, until they are changed", () =>
    Effect.gen(function* () {
      const { a, b } = yield* setup
      assert.strictEqual(yield* a.partitions("orders", 4), 4)
      assert.strictEqual(yield* b.partitions("orders", 8), 4)
      assert.strictEqual(yield* b.repartition("orders", { from: 2, to: 8 }), 4)
      assert.strictEqual(yield* b.repartition("orders", { from: 4, to: 8 }), 8)
      assert.strictEqual(yield* a.partitions("orders", 4), 8)
      yield* S.publish(a, "x")
      assert.strictEqual(yield* a.partitions("others", 1), 1)
    }).pipe(Effect.scoped)
  )

  it.live("a topic that is used without a record has one", () =>
    Effect.gen(function* () {
      const { a, admin } = yield* setup
      yield* S.publish(a, "x")
      assert.strictEqual(yield* a.partitions("orders", 4), 1)
      // its bell is no key on a cluster
      const keys = yield* Effect.promise(() => S.keysOf(admin, "*"))
      assert.deepStrictEqual(
        keys.filter((one) => one !== `${key}.bell`),
        [key]
      )
    }).pipe(Effect.scoped)
  )

  it.live("a record that is lost is told by the logs of any further partition", () =>
    Effect.gen(function* () {
      const { a, admin, b } = yield* setup
      for (const partition of [0, 2]) {
        yield* a.publish({ topic: "orders", partition }, [{ data: "1", attributes: undefined }], S.noRetention)
      }
      assert.strictEqual(yield* b.partitions("orders", 2), 1)
      assert.strictEqual(yield* b.partitions("orders", 4), 4)
      assert.strictEqual(yield* Effect.promise(() => admin.hget(`${key}.meta`, "partitions")), "4")
    }).pipe(Effect.scoped)
  )

  it.live("repartition that is broken off before the change has changed nothing", () =>
    Effect.gen(function* () {
      const { a, b } = yield* setup
      yield* Effect.scoped(Effect.map(a.join(S.joining()), ({ keep }) => keep()))
      const broken = Transport.of({
        ...a,
        repartition: (topic, change) => (change.to === 3 ? Effect.die("broken off") : a.repartition(topic, change))
      })
      const three = Topic.make("orders", { schema: Schema.String, partitions: 3 })
      const change = Topic.repartition(three)
      const exit = yield* Effect.exit(Effect.provideService(change, Transport, broken))
      assert.isTrue(Exit.isFailure(exit))
      assert.strictEqual(yield* b.partitions("orders", 3), 1)
      assert.strictEqual(yield* Effect.provideService(change, Transport, b), 1)
      assert.strictEqual(yield* b.partitions("orders", 3), 3)
    }).pipe(Effect.scoped)
  )
})
