/** What lost replies, cut connections and full memory do to the owner of a log: nothing is lost, and nothing overtakes. */
import type { Entry, Owner } from "@clutch/core/Transport"
import * as RedisKeys from "@clutch/redis/RedisKeys"
import * as Scripts from "@clutch/redis/Scripts"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { startRedis } from "../support/redis.ts"
import * as O from "./order.support.ts"
import * as S from "./support.ts"

const setup = Effect.gen(function* () {
  const { proxy, redis } = yield* S.behindProxy()
  const admin = yield* S.looker(redis.url)
  // so that the reply that is lost is that of a script that ran, and not that it is not known
  yield* Effect.promise(() => Promise.all(Scripts.all.map(({ lua }) => admin.script("LOAD", lua))))
  return {
    admin,
    direct: yield* S.transport({ url: redis.url }),
    proxy,
    transport: yield* S.transport({ url: proxy.url })
  }
})

/** A script's call with as many keys, and these words among its arguments. */
const script =
  (keys: number, ...words: ReadonlyArray<string>) =>
  (command: string) => {
    const [name = "", , count] = command.split(" ")
    return name.toUpperCase() === "EVALSHA" && count === String(keys) && words.every((word) => command.includes(word))
  }
const isDraw = (command: string) => script(3)(command) && command.includes(" 16777216 ")
const isOrder = script(8, ".blocked", ".parked")
const isClaim = (command: string) => script(4, ".owners")(command) && / 1000 \S+$/.test(command)
const isCede = (command: string) => script(5, ".owners")(command) && command.endsWith(" 1000")

const ready = (transport: Effect.Success<ReturnType<typeof S.transport>>) =>
  Effect.gen(function* () {
    let left = 100
    while (left-- > 0) {
      const answer = yield* Effect.option(transport.lastId(S.group()))
      if (Option.isSome(answer)) return
      yield* Effect.sleep(20)
    }
  })

const fault = (self: Effect.Effect<unknown, { readonly reason: { readonly _tag: string } }>) =>
  Effect.match(self, { onFailure: (error) => error.reason._tag, onSuccess: () => "none" })

describe("a failover that loses the record of a delivery", () => {
  it.live("the former delivery is not settled, and the message is delivered again under the same claim", () =>
    Effect.gen(function* () {
      const { admin, direct, proxy, transport } = yield* setup
      const worker = yield* O.enroll(transport)
      const { owner } = yield* O.claim(worker)
      yield* S.publish(direct, "x", "y")
      const first = yield* O.one(owner)
      const { main, mainGroup } = RedisKeys.group("clutch", S.group())
      proxy.refuse(true)
      proxy.cutAll()
      yield* Effect.promise(() => admin.xack(main, mainGroup, first.id))
      yield* Effect.promise(() => admin.xgroup("SETID", main, mainGroup, "0-0"))
      proxy.refuse(false)
      yield* ready(transport)
      assert.strictEqual(yield* O.settle(owner, first, O.ack), "lost")
      const second = yield* O.one(owner)
      assert.deepStrictEqual([second.id, second.attempt], [first.id, 1])
      assert.strictEqual(yield* O.settle(owner, first, O.ack), "lost")
      assert.strictEqual(yield* O.settle(owner, second, O.ack), "done")
    }).pipe(Effect.scoped)
  )
})

describe("a late reply", () => {
  it.live("to a fetch, by more than a lease, loses it: somebody else may have what it delivers", () =>
    Effect.gen(function* () {
      const { direct, proxy, transport } = yield* setup
      const worker = yield* O.enroll(transport, { visibilityTimeout: Duration.millis(300) })
      const { cede, owner } = yield* O.claim(worker)
      yield* S.publish(direct, "x")
      proxy.delayReplies(400)
      assert.strictEqual(yield* owner.fetch(O.limit()), "lost")
      proxy.delayReplies(0)
      yield* cede
      const { owner: next } = yield* O.claim(worker)
      assert.deepStrictEqual(S.text(yield* O.one(next)), "x")
    }).pipe(Effect.scoped)
  )
})

describe("a lost reply", () => {
  it.live("to a fetch loses the lease for those who fetch; what it delivered comes back first, at no cost", () =>
    Effect.gen(function* () {
      const { direct, proxy, transport } = yield* setup
      const worker = yield* O.enroll(transport)
      const first = yield* O.claim(worker)
      yield* S.publish(direct, "1", "2", "3")
      const held = yield* O.one(first.owner)
      const cut = proxy.cutReply(isDraw)
      assert.strictEqual(yield* first.owner.fetch(O.limit({ count: 1 })), "lost")
      yield* Effect.promise(() => cut)
      yield* ready(transport)
      assert.strictEqual(yield* first.owner.fetch(O.limit()), "lost")
      // what was delivered before is still the owner's to settle
      assert.strictEqual(yield* O.settle(first.owner, held, O.ack), "done")
      yield* first.cede
      const second = yield* O.claim(worker)
      assert.deepStrictEqual(
        (yield* O.fetch(second.owner)).map((entry) => [S.text(entry), entry.attempt]),
        [
          ["2", 1],
          ["3", 1]
        ]
      )
    }).pipe(Effect.scoped)
  )

  it.live("to a rest lets it rest all the same, until it asks who is there", () =>
    Effect.gen(function* () {
      const { direct, proxy, transport } = yield* setup
      const [worker, other] = [yield* O.enroll(transport), yield* O.enroll(direct)]
      const cut = proxy.cutReply(script(2, ".owners"))
      assert.strictEqual(yield* fault(worker.rest), "Unknown")
      yield* Effect.promise(() => cut)
      assert.deepStrictEqual((yield* other.roster).workers, [other.name])
      yield* ready(transport)
      assert.sameMembers([...(yield* worker.roster).workers], [worker.name, other.name])
    }).pipe(Effect.scoped)
  )

  it.live("to a settlement makes it unknown; asked for again, it changes nothing, and nobody has overtaken", () =>
    Effect.gen(function* () {
      const { direct, proxy, transport } = yield* setup
      const { owner } = yield* O.claim(yield* O.enroll(transport))
      yield* S.publish(direct, "1", "2", "3")
      const [one, two, three] = yield* O.fetch(owner)
      const settlements = (repeated: boolean) =>
        [
          { entry: one!, outcome: O.retry(0), repeated, key: "k" },
          { entry: two!, outcome: O.park, repeated, key: "k" },
          { entry: three!, outcome: O.ack, repeated }
        ] as const
      const cut = proxy.cutReply(isOrder)
      assert.strictEqual(yield* fault(owner.settle(settlements(false))), "Unknown")
      yield* Effect.promise(() => cut)
      yield* ready(transport)
      const before = yield* direct.inspect(S.group())
      assert.deepStrictEqual(yield* owner.settle(settlements(true)), ["unknown", "unknown", "unknown"])
      assert.deepStrictEqual(yield* direct.inspect(S.group()), before)
      assert.deepInclude(before, { due: 1, heldBack: 1, parked: 1, pending: 0 })
    }).pipe(Effect.scoped)
  )

  it.live("to the ack of a retry: the next of its key came all the same, once", () =>
    Effect.gen(function* () {
      const { direct, proxy, transport } = yield* setup
      const { owner } = yield* O.claim(yield* O.enroll(transport))
      yield* S.publish(direct, "1", "2", "3")
      const [first, ...rest] = (yield* O.fetch(owner)).map((entry) => ({
        entry,
        outcome: O.park,
        repeated: false,
        key: "k"
      }))
      yield* owner.settle([first!, ...rest])
      const front = yield* O.one(owner)
      const cut = proxy.cutReply(isOrder)
      assert.strictEqual(yield* fault(O.settle(owner, front, O.ack, "k")), "Unknown")
      yield* Effect.promise(() => cut)
      yield* ready(transport)
      assert.strictEqual(yield* O.settle(owner, front, O.ack, "k", true), "unknown")
      assert.strictEqual(S.text(yield* O.one(owner)), "2")
      assert.deepInclude(yield* direct.inspect(S.group()), { parked: 1, heldBack: 1 })
    }).pipe(Effect.scoped)
  )

  it.live("to a claim: it is undone, and the log is free", () =>
    Effect.gen(function* () {
      const { direct, proxy, transport } = yield* setup
      const worker = yield* O.enroll(transport)
      const other = yield* O.enroll(direct)
      const cut = proxy.cutReply(isClaim)
      assert.strictEqual(yield* fault(Effect.scoped(worker.claim)), "Unknown")
      yield* Effect.promise(() => cut)
      assert.isTrue(Option.isNone((yield* other.roster).owner))
      yield* O.claim(other)
    }).pipe(Effect.scoped)
  )

  it.live("to a claim, in an outage that outlasts its undoing: closing leaves nothing of the worker behind", () =>
    Effect.gen(function* () {
      const { admin, proxy, transport } = yield* setup
      const scope = yield* Scope.make()
      const worker = yield* Scope.provide(O.enroll(transport), scope)
      yield* Effect.forkScoped(Effect.promise(() => proxy.cutReply(isClaim).then(() => proxy.refuse(true))))
      assert.strictEqual(yield* fault(Effect.scoped(worker.claim)), "Unknown")
      proxy.refuse(false)
      yield* ready(transport)
      yield* worker.roster
      yield* Scope.close(scope, Exit.void)
      const { state } = RedisKeys.group("clutch", S.group())
      const left = yield* Effect.promise(() => admin.hkeys(state))
      assert.deepStrictEqual(
        left.filter((field) => field.includes(worker.name)),
        []
      )
    }).pipe(Effect.scoped)
  )

  it.live("to giving the log back: it is given back again, and given back once", () =>
    Effect.gen(function* () {
      const { direct, proxy, transport } = yield* setup
      const first = yield* O.claim(yield* O.enroll(transport))
      const other = yield* O.enroll(direct)
      yield* S.publish(direct, "1")
      yield* O.one(first.owner)
      const cut = proxy.cutReply(isCede)
      yield* first.cede
      yield* Effect.promise(() => cut)
      const second = yield* O.claim(other)
      const [entry] = yield* O.fetch(second.owner)
      assert.strictEqual(entry?.attempt, 1)
    }).pipe(Effect.scoped)
  )
})

describe("an outage", () => {
  it.live("before a fetch costs nothing: it fails, and goes on with the same claim", () =>
    Effect.gen(function* () {
      const { direct, proxy, transport } = yield* setup
      const { owner } = yield* O.claim(yield* O.enroll(transport))
      yield* S.publish(direct, "1")
      proxy.refuse(true)
      proxy.cutAll()
      yield* S.until("cut", () => proxy.open() === 0)
      yield* Effect.sleep(20)
      assert.strictEqual(yield* fault(owner.fetch(O.limit())), "Unavailable")
      assert.strictEqual(yield* fault(owner.extend([])), "Unavailable")
      proxy.refuse(false)
      yield* ready(transport)
      assert.deepStrictEqual((yield* O.fetch(owner)).map(S.text), ["1"])
    }).pipe(Effect.scoped)
  )

  it.live("that outlasts the giving back: the next look at who is there frees the log", () =>
    Effect.gen(function* () {
      const { direct, proxy, transport } = yield* setup
      const worker = yield* O.enroll(transport)
      const other = yield* O.enroll(direct)
      const first = yield* O.claim(worker)
      proxy.refuse(true)
      proxy.cutAll()
      // waits two seconds for the server, and gives up
      yield* first.cede
      assert.deepStrictEqual((yield* other.roster).owner, Option.some(worker.name))
      proxy.refuse(false)
      yield* ready(transport)
      assert.isTrue(Option.isNone((yield* worker.roster).owner))
      assert.isTrue(Option.isNone((yield* other.roster).owner))
      yield* O.claim(other)
    }).pipe(Effect.scoped)
  )
})

describe("while memory is full", () => {
  it.live("what cannot be stored, and what stands behind it, is answered with the error and stays held", () =>
    Effect.gen(function* () {
      const { admin, direct, transport } = yield* setup
      const { owner } = yield* O.claim(yield* O.enroll(transport))
      yield* S.publish(direct, "1", "2", "3")
      const [one, two, three] = yield* O.fetch(owner)
      const fill = (bytes: string) => Effect.promise(() => admin.config("SET", "maxmemory", bytes))
      yield* fill("1")
      const settlements = [
        { entry: one!, outcome: O.retry(0), repeated: false, key: "k" },
        { entry: two!, outcome: O.park, repeated: false, key: "k" },
        { entry: three!, outcome: O.ack, repeated: false }
      ] as const
      const [first, second, third] = yield* owner.settle(settlements)
      for (const answer of [first, second]) {
        assert.isTrue(
          typeof answer === "object" && answer._tag === "TransportError" && answer.reason._tag === "Unavailable"
        )
      }
      assert.strictEqual(third, "done")
      assert.deepStrictEqual(yield* owner.extend([one!, two!]), [])
      yield* fill("0")
      assert.deepStrictEqual(yield* owner.settle([settlements[0], settlements[1]]), ["done", "done"])
      assert.deepInclude(yield* direct.inspect(S.group()), { due: 1, parked: 1, heldBack: 1, pending: 0 })
    }).pipe(Effect.scoped)
  )
})

describe("a server that restarts", () => {
  it.live("keeps order, owner and fence, where it keeps what it was told", () =>
    Effect.gen(function* () {
      const redis = yield* Effect.acquireRelease(
        Effect.promise(() => startRedis({ args: ["--appendonly", "yes", "--appendfsync", "always"] })),
        (redis) => Effect.promise(() => redis.stop())
      )
      const transport = yield* S.transport({ url: redis.url })
      const { owner } = yield* O.claim(yield* O.enroll(transport))
      yield* S.publish(transport, "1", "2", "3")
      const [first, ...rest] = (yield* O.fetch(owner)).map((entry: Entry) => ({
        entry,
        outcome: O.park,
        repeated: false,
        key: "k"
      }))
      yield* owner.settle([first!, ...rest])
      yield* Effect.promise(async () => {
        await redis.kill()
        await redis.restart()
      })
      yield* ready(transport)
      const seen: Array<string> = []
      const next = (self: Owner): Effect.Effect<Entry> =>
        O.one(self).pipe(
          Effect.catch(() =>
            Effect.andThen(
              Effect.sleep(20),
              Effect.suspend(() => next(self))
            )
          )
        )
      while (seen.length < 3) {
        const entry = yield* next(owner)
        seen.push(S.text(entry))
        yield* O.settle(owner, entry, O.ack, entry.key)
      }
      assert.deepStrictEqual(seen, ["1", "2", "3"])
    }).pipe(Effect.scoped)
  )
})
