/**
 * Somebody writes bytes that mean nothing, or values of another type, into the keys of a log that is in use: nothing
 * loops, nothing crashes, messages beside are handled, what means nothing becomes a dead letter or an error that says
 * what is wrong, and when the wrong key is deleted the subscription goes on by itself.
 *
 * A failing run prints its seed and the shrunk attacks; `CLUTCH_SEED` replays it, `CLUTCH_RUNS` sets how many there are.
 */
import { DeadLetters, Subscription, Topic } from "@clutch/core"
import { assert, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Redis } from "ioredis"
import * as Kit from "../../cases/kit.ts"
import {
  type Attack,
  attack,
  Attack as AnyAttack,
  isOrdered,
  isWrong,
  keysOf,
  namespace,
  spoil,
  type Topics,
  topics,
  unused,
  Wrong
} from "./attacks.ts"

/** What is done to one topic. */
const Case = Schema.Struct({
  of: Schema.Literals(topics),
  /** The one whose keys are attacked, where there are several: one of those that messages go to. */
  partition: Schema.Literals([1, 2]),
  attacks: Schema.Array(AnyAttack).check(Schema.isMinLength(3), Schema.isMaxLength(12)),
  wrong: Schema.Array(Wrong).check(Schema.isMinLength(1), Schema.isMaxLength(2))
})
type Case = typeof Case.Type

/** A message that is handled at once, one that fails once, and one that never succeeds. */
const messages = (phase: string): ReadonlyArray<string> => [`plain ${phase}`, `once ${phase}`, `never ${phase}`]

const behave = ({ attempt, data }: Kit.Call): Effect.Effect<void, string> =>
  data.startsWith("never") || (data.startsWith("once") && attempt === 1) ? Effect.fail("as told") : Effect.void

/** "plain" and "once" go to 1 then, and "never" to 2. */
const partitions = 3
const logs = (kind: Topics): number => (kind === "partitioned" ? partitions : 1)

/** A topic of texts, whose key is their first word. */
const topicOf = (kind: Topics): Topic.Topic<string> =>
  Topic.make(Kit.fresh("orders"), {
    schema: Schema.String,
    ...(kind === "acknowledged" ? { retention: "acknowledged" } : {}),
    ...(isOrdered(kind) ? { key: (text: string) => text.split(" ")[0] ?? "" } : {}),
    partitions: logs(kind)
  })

/** A victim, whose keys are attacked, and another subscription to the same topic. */
const open = Effect.fnUntraced(function* (self: Case) {
  const topic = topicOf(self.of)
  const victim = Kit.recorder()
  const beside = Kit.recorder()
  const options = {
    from: "beginning",
    concurrency: 4,
    visibilityTimeout: "1 second",
    drainTimeout: "1 second",
    retry: { maxRetries: 2, base: "30 millis", factor: 1, jitter: 0 }
  } as const
  const subscribe = (name: string, recorder: Kit.Recorder) =>
    Subscription.subscribe(Subscription.make(name, topic, recorder.handler(behave), options))
  const handles = { victim: yield* subscribe("victim", victim), beside: yield* subscribe("beside", beside) }
  const joins = yield* Effect.forEach([handles.victim, handles.beside], ({ join }) => Effect.forkScoped(join))
  const partition = self.of === "partitioned" ? self.partition : 0
  const group = { topic: topic.topic, partition, subscription: "victim" }
  const wrong = self.wrong.filter((one, i, all) => isWrong(one) && all.findIndex(({ key }) => key === one.key) === i)
  return { case: self, ...self, wrong, topic, victim, beside, handles, joins, group, keys: keysOf(group) }
})
type Scene = Effect.Success<ReturnType<typeof open>>

/** Each message was done with: what fails for ever had its three attempts. */
const done = (what: string, recorder: Kit.Recorder, expected: ReadonlyArray<string>) => {
  const missing = () =>
    expected.filter((data) => {
      const last = Math.max(0, ...recorder.of(data).map(({ attempt }) => attempt))
      return last < (data.startsWith("plain") ? 1 : data.startsWith("once") ? 2 : 3)
    })
  return Kit.until(
    () => `${what} still misses ${missing().join(", ")}`,
    () => missing().length === 0,
    // what the server refuses is tried again within 30 seconds
    45_000
  )
}

const publish = (scene: Scene, data: string) => Topic.publish(scene.topic, data)

const publishAll = (scene: Scene, data: ReadonlyArray<string>) =>
  Effect.forEach(data, (one) => publish(scene, one), { discard: true })

/** No loop has died. */
const living = (scene: Scene) =>
  Effect.sync(() =>
    assert.deepStrictEqual(
      scene.joins.map((one) => one.pollUnsafe()),
      [undefined, undefined]
    )
  )

/** Nothing is held. */
const atRest = Effect.fnUntraced(function* (scene: Scene) {
  yield* Kit.untilEffect(
    "nothing is pending",
    Effect.map(Effect.all([scene.handles.victim.stats, scene.handles.beside.stats]), (both) =>
      both.every(({ pending, state }) => pending === 0 && state === "running")
    ),
    30_000
  )
})

/** Every tool answers: with a value, or with an error that tells; and soon. */
const tools = Effect.fnUntraced(function* (scene: Scene) {
  const address = Subscription.address("victim", scene.topic)
  const letters = yield* Effect.exit(Stream.runCollect(DeadLetters.list(address)))
  const ids = Exit.isSuccess(letters) ? letters.value.map(({ id }) => id) : []
  const exits: ReadonlyArray<readonly [string, Exit.Exit<unknown, { readonly message: string }>]> = [
    ["list", letters],
    ["publish", yield* Effect.exit(publish(scene, "plain tool"))],
    ["stats", yield* Effect.exit(Subscription.stats(address))],
    ["groups", yield* Effect.exit(Topic.groups(scene.topic))],
    ["count", yield* Effect.exit(DeadLetters.count(address))],
    ["get", yield* Effect.exit(DeadLetters.get(address, ids[0] ?? "1-1"))],
    ["discard", yield* Effect.exit(DeadLetters.discard(address, { ids: ids.filter((_, i) => i % 3 === 0) }))],
    ["redrive", yield* Effect.exit(DeadLetters.redrive(address, { ids: ids.filter((_, i) => i % 3 === 1) }))],
    ["awaitIdle", yield* Effect.exit(Effect.timeoutOption(Subscription.awaitIdle(address, { due: "ignore" }), 500))]
  ]
  for (const [tool, exit] of exits) {
    if (Exit.isSuccess(exit)) continue
    assert.isFalse(Cause.hasDies(exit.cause), `${tool} fails with a defect: ${Cause.pretty(exit.cause)}`)
    const told = Cause.findErrorOption(exit.cause)
    assert.match(Option.isSome(told) ? told.value.message : "", /WRONGTYPE|NOGROUP|exhausted|no group/i, tool)
  }
  return new Set(exits.flatMap(([tool, exit]) => (Exit.isFailure(exit) ? [tool] : [])))
})

/** Somebody writes what means nothing; messages beside are handled all the same. */
const spoilContents = Effect.fnUntraced(function* (redis: Redis, scene: Scene) {
  yield* publishAll(scene, messages("before"))
  yield* done("before the attacks, the victim", scene.victim, messages("before"))
  // a retry that somebody acks before its worker does would hold its key back for ever
  yield* atRest(scene)
  const does = (one: Attack) => Effect.promise(() => attack(redis, scene.group, one))
  // what is moved away or deleted before it is handled is lost to whoever did it: not the messages that are looked for
  yield* Effect.forEach(
    scene.attacks.filter((one) => one._tag === "Tampering"),
    does
  )
  const garbage = scene.attacks.filter((one) => one._tag === "Garbage")
  yield* Effect.forEach(garbage.slice(0, 6), does)
  yield* publishAll(scene, messages("between"))
  yield* Effect.forEach(garbage.slice(6), does)
  yield* publishAll(scene, messages("behind"))
  for (const who of ["victim", "beside"] as const) {
    yield* done(`among garbage, the ${who}`, scene[who], [...messages("between"), ...messages("behind")])
  }
  yield* atRest(scene)
  const failed = yield* tools(scene)
  assert.deepStrictEqual([...failed], [], "every tool works among garbage")
})

/** A key holds something else: what does not need it goes on. */
const spoilKeys = Effect.fnUntraced(function* (redis: Redis, scene: Scene) {
  if (scene.wrong.length === 0) return
  const names = new Set(scene.wrong.map(({ key }) => key))
  for (const { key, kind } of scene.wrong) yield* Effect.promise(() => spoil(redis, scene.keys.get(key) ?? "", kind))
  // what looks only now and then looks now
  if (!names.has("bell")) yield* Effect.promise(() => redis.publish(scene.keys.get("bell") ?? "", ""))
  const sent = yield* Effect.exit(publishAll(scene, messages("meanwhile")))
  const stored = !names.has("main") && !names.has("bell")
  assert.strictEqual(Exit.isSuccess(sent), stored, "publishing needs the topic's own keys and no other")
  if (stored) yield* done("the other subscription", scene.beside, messages("meanwhile"))
  // "plain" goes to another partition
  const elsewhere = scene.of === "partitioned" && scene.partition === 2
  const free = elsewhere || (stored && !names.has("retry") && !names.has("state"))
  if (free) yield* done("what needs no spoilt key", scene.victim, ["plain meanwhile"])
  yield* tools(scene)
})

/** A line of log says which key is wrong, and how; of two, the first that was met. */
const told = (redis: Redis, scene: Scene, log: ReadonlyArray<Kit.Line>) => {
  const wrong = scene.wrong.map(({ key }) => scene.keys.get(key) ?? "")
  // where nothing can be published, publishers are told; and of what nobody reads or writes, nobody
  const withoutLetters = scene.of === "partitioned" && scene.partition === 1
  const isTold = ({ key, kind }: Wrong) =>
    key !== "bell" &&
    !unused(scene.of).includes(key) &&
    !(kind === "full" && (key === "main" || (key === "deadLetters" && withoutLetters)))
  if (!scene.wrong.some(isTold)) return Effect.void
  const line = Kit.until(
    `a line tells of ${wrong.join(" or ")}`,
    () => log.some(({ text }) => /WRONGTYPE|exhausted/.test(text) && wrong.some((key) => text.includes(key))),
    30_000
  )
  // with that bell nothing rang, and who looks only now and then may look after a minute; whoever hears it removes its key
  const bell = scene.wrong.some(({ key }) => key === "bell") ? (scene.keys.get("bell") ?? "") : undefined
  return bell === undefined
    ? line
    : Effect.andThen(
        Effect.promise(() => redis.publish(bell, "")),
        line
      )
}

/** The operator deletes the wrong key: the subscription goes on by itself. */
const repair = Effect.fnUntraced(function* (redis: Redis, scene: Scene) {
  for (const { key } of scene.wrong) yield* Effect.promise(() => redis.del(scene.keys.get(key) ?? ""))
  yield* publishAll(scene, messages("after"))
  yield* done("after the repair, the victim", scene.victim, messages("after"))
  yield* done("after the repair, the other", scene.beside, messages("after"))
  yield* atRest(scene)
})

/** Neither the server nor this process stays busy: what loops would never be quiet for a second. */
const calm = (redis: Redis, when: string, cases: ReadonlyArray<Case>) => {
  // whoever owns a log shows four times in its visibility timeout, a second, that it lives
  const limit = cases.reduce((sum, { of }) => sum + (isOrdered(of) ? 160 : 60) * logs(of), 0)
  let seen = ""
  return Kit.until(
    () => `quiet ${when}: ${seen}`,
    async () => {
      const before = process.cpuUsage()
      const commands = await Kit.rate(redis, 1000)
      const { system, user } = process.cpuUsage(before)
      const cpu = (system + user) / 1e6
      seen = `${Math.round(commands)} commands a second, of ${limit}, and ${cpu.toFixed(2)} seconds of CPU`
      return commands < limit && cpu < 0.5
    },
    15_000
  )
}

const program = Effect.fnUntraced(function* (cases: ReadonlyArray<Case>) {
  const server = yield* Kit.privateServer()
  const redis = yield* Kit.admin(server.url)
  const log = Kit.collecting()
  const worker = yield* Effect.provide(Kit.worker({ url: server.url, namespace }), log.layer)
  yield* Effect.gen(function* () {
    const scenes = yield* Effect.forEach(cases, open)
    const all = <E, R>(step: (scene: Scene) => Effect.Effect<unknown, E, R>) =>
      Effect.forEach(
        scenes,
        (scene) =>
          // the topic that failed is known: nothing has to be shrunk, which takes half a minute a step
          Effect.catchCause(Effect.andThen(step(scene), living(scene)), (cause) =>
            Effect.die(new Error(`${JSON.stringify(scene.case)}\n${Cause.pretty(cause)}`))
          ),
        { concurrency: "unbounded", discard: true }
      )
    yield* all((scene) => spoilContents(redis, scene))
    yield* calm(redis, "among garbage", cases)
    yield* all((scene) => spoilKeys(redis, scene))
    yield* calm(redis, "while keys are wrong", cases)
    yield* all((scene) => told(redis, scene, log.lines))
    yield* all((scene) => repair(redis, scene))
    yield* calm(redis, "after the repair", cases)
  }).pipe(Effect.scoped, Effect.provide(worker), Effect.provide(log.layer))
})

const seed = process.env["CLUTCH_SEED"] ?? `${Date.now()}`
const runs = Number(process.env["CLUTCH_RUNS"] ?? 2)

it.live.prop(
  `6. what means nothing in any key neither loops nor crashes, and holds nothing up (seed ${seed})`,
  { cases: Arbitrary.array(Arbitrary.schema(Case), { minLength: 6, maxLength: 10 }) },
  ({ cases }) => Effect.scoped(program(cases)),
  { timeout: Math.max(120_000, runs * 60_000), arbitrary: { runs, seed, maxShrinks: 0 } }
)
