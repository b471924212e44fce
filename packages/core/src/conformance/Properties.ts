/**
 * Random programs keep the contract's invariants: nothing is lost, nothing is in two final states, attempts and calls
 * are bounded, a failure reaches no other subscription, and draining ends.
 *
 * A failing run prints its seed and the shrunk program; `CLUTCH_SEED` replays it, `CLUTCH_RUNS` sets how many there are.
 */
import { assert, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { Delivery, Subscription, Topic, Transport } from "../index.ts"
import { deadLetters } from "./Collect.ts"
import type { Category, Kit } from "./Kit.ts"
import { cuttable } from "./Workers.ts"

/** How a message wants to be handled: how often it fails first, and how. */
const Behaviour = Schema.Struct({
  failures: Schema.Literals([0, 0, 0, 1, 2, 3, 4]),
  how: Schema.Literals(["fails", "dies", "interrupts itself", "is slow"])
})
const worker = Schema.Literals([0, 1, 2])
const Command = Schema.Union([
  Schema.TaggedStruct("Publish", {
    behaviours: Schema.Array(Behaviour).check(Schema.isMinLength(1), Schema.isMaxLength(4))
  }),
  Schema.TaggedStruct("Open", { worker, group: Schema.Literals(["a", "b"]) }),
  Schema.TaggedStruct("Close", { worker }),
  Schema.TaggedStruct("Crash", { worker }),
  Schema.TaggedStruct("Pause", { worker }),
  Schema.TaggedStruct("Resume", { worker }),
  Schema.TaggedStruct("Drain", { worker }),
  Schema.TaggedStruct("Pass", { ticks: Schema.Literals([0, 0.5, 1, 2, 5, 10]) })
])
type Command = typeof Command.Type
type Behaviour = typeof Behaviour.Type

const MAX_RETRIES = 2

/** A worker as the program sees it. `crashed` workers are cut off, and live on as zombies until the end. */
interface Worker {
  readonly handle: Subscription.Handle
  readonly close: Effect.Effect<void>
  readonly crash: Effect.Effect<void>
}

/** What happened to each message of a group: calls begun, and successes. */
interface History {
  /** `released` calls were interrupted by a closing worker: the next call is the same attempt. */
  readonly calls: Array<{ readonly attempt: number; released: boolean }>
  successes: number
}

/** Runs a program on a topic of its own, then lets everything come to rest. */
const execute = (kit: Kit, commands: ReadonlyArray<Command>) =>
  Effect.gen(function* () {
    const topic = Topic.make(kit.fresh("program"), {
      schema: Schema.Struct({ n: Schema.Number, behaviour: Behaviour })
    })
    const histories = new Map<string, History>()
    const published: Array<number> = []
    let crashes = 0
    let consumers = 0

    const history = (group: string, n: number): History => {
      const key = `${group}:${n}`
      const known = histories.get(key)
      if (known !== undefined) return known
      const made: History = { calls: [], successes: 0 }
      histories.set(key, made)
      return made
    }
    const behave = (behaviour: Behaviour): Effect.Effect<void, string> => {
      if (behaviour.how === "dies") return Effect.die(new Error("a bug"))
      return behaviour.how === "interrupts itself" ? Effect.interrupt : Effect.fail("no")
    }
    const subscription = (name: "a" | "b", consumer: string) =>
      Subscription.make(
        name,
        topic,
        ({ data: { behaviour, n } }) =>
          Effect.gen(function* () {
            const { attempt } = yield* Delivery
            const mine = history(name, n)
            const call = { attempt, released: false }
            mine.calls.push(call)
            const release = Effect.sync(() => {
              call.released = true
            })
            if (behaviour.how === "is slow") yield* Effect.onInterrupt(Effect.sleep(kit.ticks(1.5)), () => release)
            // only group a fails: what b sees must not depend on it
            if (name === "a" && attempt <= behaviour.failures) return yield* behave(behaviour)
            mine.successes++
          }),
        {
          consumer,
          concurrency: 3,
          from: "beginning",
          drainTimeout: kit.ticks(1),
          visibilityTimeout: kit.lease,
          retry: { maxRetries: MAX_RETRIES, base: kit.ticks(1), factor: 1.5, jitter: 0.2 }
        }
      )
    const open = (name: "a" | "b") =>
      Effect.gen(function* () {
        const scope = yield* Scope.fork(yield* Effect.scope)
        const cut = yield* Scope.provide(cuttable, scope)
        const self = subscription(name, `w${consumers++}`)
        const handle = yield* Subscription.subscribe(self).pipe(
          Scope.provide(scope),
          Effect.provideService(Transport, cut.transport)
        )
        const close = kit.passing(Scope.close(scope, Exit.void), "the closing of a worker")
        return { handle, close, crash: cut.cut }
      })

    // both groups exist before the first message, and each keeps one worker that always works
    const workers = new Map<number, Worker>()
    const steady = [yield* open("a"), yield* open("b")]

    for (const command of commands) {
      switch (command._tag) {
        case "Publish": {
          const data = command.behaviours.map((behaviour) => ({ n: published.push(published.length) - 1, behaviour }))
          yield* Topic.publishAll(topic, data)
          break
        }
        case "Open": {
          if (!workers.has(command.worker)) workers.set(command.worker, yield* open(command.group))
          break
        }
        case "Crash": {
          const crashing = workers.get(command.worker)
          workers.delete(command.worker)
          if (crashing !== undefined) {
            crashes++
            yield* crashing.crash
          }
          break
        }
        case "Close": {
          const closing = workers.get(command.worker)
          workers.delete(command.worker)
          if (closing !== undefined) yield* closing.close
          break
        }
        case "Pause":
        case "Resume": {
          const handle = workers.get(command.worker)?.handle
          if (handle !== undefined) yield* command._tag === "Pause" ? handle.pause : handle.resume
          break
        }
        case "Drain": {
          const handle = workers.get(command.worker)?.handle
          if (handle !== undefined) yield* kit.passing(handle.drain, "the draining of a worker")
          break
        }
        case "Pass": {
          yield* kit.pass(command.ticks)
          break
        }
      }
    }

    // a paused or drained worker may hold nothing for ever; all that are left go, the steady ones finish
    for (const rest of workers.values()) yield* rest.close
    for (const name of ["a", "b"] as const) {
      const address = Subscription.address(name, topic)
      yield* kit.idle(address)
      const letters = yield* deadLetters(address)
      const dead = new Map<number, number>()
      for (const letter of letters) {
        const message = letter.message
        const n = message._tag === "Success" ? message.success.data.n : -1
        dead.set(n, (dead.get(n) ?? 0) + 1)
      }
      const stats = yield* Subscription.stats(address)
      assert.deepStrictEqual([stats.pending, stats.due], [0, 0], `${name}: what is idle holds nothing`)
      for (const n of published) {
        const { calls, successes } = history(name, n)
        const attempts = calls.map(({ attempt }) => attempt)
        const what = `${name}, message ${n}: attempts ${attempts.join()}, ${successes} successes, ${dead.get(n)} dead letters`
        const buried = dead.get(n) ?? 0
        assert.isAtLeast(successes + buried, 1, `nothing is lost: ${what}`)
        assert.isAtMost(buried, 1, `one dead letter at most: ${what}`)
        // a zombie may have succeeded in vain: only a crash can make a message end twice
        if (crashes === 0) assert.strictEqual(successes + buried, 1, `one final state: ${what}`)
        assert.isAtMost(Math.max(...attempts, 0), MAX_RETRIES + 1, `attempts are bounded: ${what}`)
        if (crashes === 0) {
          // a release costs no attempt; every other call is one, so no number comes twice
          const spent = calls.filter(({ released }) => !released).map(({ attempt }) => attempt)
          assert.deepStrictEqual(spent, [...new Set(spent)], `each attempt is one call: ${what}`)
          assert.isAtMost(spent.length, MAX_RETRIES + 1, `calls are bounded: ${what}`)
          if (name === "b") assert.deepStrictEqual([...new Set(attempts)], [1], `no fan-out of a failure: ${what}`)
        }
      }
      assert.strictEqual(letters.length, [...dead.values()].length, name)
    }
    for (const one of steady) yield* one.close
  })

export const properties: Category = (kit) => {
  const seed = process.env["CLUTCH_SEED"] ?? `${Date.now()}`
  const runs = Number(process.env["CLUTCH_RUNS"] ?? (kit.virtual ? 100 : 5))
  const register = kit.virtual ? it.effect.prop : it.live.prop

  register(
    `4. random programs lose nothing, end nothing twice, bound attempts, fan out no failure, and drain (seed ${seed})`,
    { commands: Arbitrary.array(Arbitrary.schema(Command), { minLength: 1, maxLength: kit.virtual ? 30 : 12 }) },
    ({ commands }) =>
      Random.withSeed(
        kit.run(() => execute(kit, commands)),
        seed
      ),
    { timeout: 120_000, arbitrary: { runs, seed, maxShrinks: kit.virtual ? 200 : 5 } }
  )
}
