/**
 * Random interleavings of publishing, fetching, settling, leaving, joining late, removing groups and trimming: trimming
 * drops exactly what every group has settled, so each group gets whatever it had not settled.
 *
 * A failing run prints its seed and the shrunk program; `CLUTCH_SEED` replays it, `CLUTCH_RUNS` sets how many there are.
 */
import { assert, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { Topic, Transport } from "../index.ts"
import type { Consumer, Entry, Outcome } from "../Transport.ts"
import { range, texts } from "./Collect.ts"
import type { Kit } from "./Kit.ts"
import { join, settle } from "./Workers.ts"

const name = Schema.Literals(["a", "b", "c"])
const many = Schema.Literals([1, 2, 3, 7])
const how = Schema.Literals(["Ack", "Release", "Retry", "DeadLetter"])
const Command = Schema.Union([
  Schema.TaggedStruct("Publish", { count: many }),
  Schema.TaggedStruct("Join", { name }),
  Schema.TaggedStruct("Fetch", { name, count: many }),
  // from the front on, as nearly always, or one in the middle
  Schema.TaggedStruct("Settle", { name, count: many, how }),
  Schema.TaggedStruct("SettleOne", { name, nth: many, how }),
  Schema.TaggedStruct("Leave", { name }),
  Schema.TaggedStruct("Remove", { name }),
  Schema.TaggedStruct("Tend", { name }),
  Schema.TaggedStruct("Trim", {})
])
type Command = typeof Command.Type

const outcomes: Readonly<Record<"Ack" | "Release" | "Retry" | "DeadLetter", Outcome>> = {
  Ack: { _tag: "Ack" },
  Release: { _tag: "Release" },
  Retry: { _tag: "Retry", delay: Duration.zero, cause: "no" },
  DeadLetter: { _tag: "DeadLetter", reason: "rejected", cause: "no", attempts: 1 }
}

/** A group as it should be. Messages are numbers, in the order of publishing. */
interface Model {
  /** The first that it could see. */
  readonly since: number
  next: number
  /** Delivered and not settled, in a consumer's hands or given back. */
  readonly unsettled: Set<number>
  readonly held: Array<Entry>
  readonly seen: Set<number>
  consumer: { readonly self: Consumer; readonly leave: Effect.Effect<void> } | undefined
}

const execute = (kit: Kit, commands: ReadonlyArray<Command>) =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const topic = Topic.make(kit.fresh("interleaved"), { schema: Schema.String, retention: "acknowledged" })
    const log = { topic: topic.topic, partition: 0 }
    const groups = new Map<string, Model>()
    const numbers = new Map<string, number>()
    let dropped = 0
    let consumers = 0

    const sit = (group: string, model: Model) =>
      Effect.gen(function* () {
        const scope = yield* Scope.fork(yield* Effect.scope)
        const self = yield* Scope.provide(join(kit, topic, group, { consumer: `${group}-${consumers++}` }), scope)
        model.consumer = { self, leave: kit.passing(Scope.close(scope, Exit.void), "a consumer's leaving") }
        return self
      })

    /** Makes a group, which sees what was not dropped yet, or sends another consumer to one that has none. */
    const enter = (group: string) =>
      Effect.gen(function* () {
        const known = groups.get(group)
        if (known?.consumer !== undefined) return
        const fresh = { since: dropped, next: dropped, unsettled: new Set<number>(), seen: new Set<number>() }
        const model: Model = known ?? { ...fresh, held: [], consumer: undefined }
        groups.set(group, model)
        yield* sit(group, model)
      })

    const take = (model: Model, consumer: Consumer, count: number) =>
      Effect.gen(function* () {
        const givenBack = model.unsettled.size - model.held.filter(({ origin }) => origin === "main").length
        if (model.next === numbers.size && givenBack === 0) return
        const limit = { count, bytes: 1_000_000, alone: false, maxAttempts: Infinity }
        for (const entry of (yield* kit.passing(consumer.fetch(limit), "a delivery")).entries) {
          model.held.push(entry)
          if (entry.origin === "retry") continue
          const number = numbers.get(entry.id) ?? assert.fail(`${entry.id} was never published`)
          assert.isTrue(number === model.next || model.unsettled.has(number), `${number} is neither next nor unsettled`)
          model.next = Math.max(model.next, number + 1)
          model.unsettled.add(number)
          model.seen.add(number)
        }
      })

    const finish = (model: Model, consumer: Consumer, entry: Entry, outcome: Outcome) =>
      Effect.gen(function* () {
        model.held.splice(model.held.indexOf(entry), 1)
        const [how] = yield* settle(consumer, [{ entry, outcome, repeated: false }])
        assert.include(["done", "DeadLettered"], how)
        if (outcome._tag !== "Release" && entry.origin === "main") model.unsettled.delete(numbers.get(entry.id) ?? -1)
      })

    const trim = Effect.gen(function* () {
      const floors = Array.from(groups.values(), ({ next, unsettled }) => Math.min(next, ...unsettled))
      const expected = groups.size === 0 ? dropped : Math.min(...floors)
      for (;;) {
        const { more, trimmed } = yield* transport.trim(log)
        dropped += trimmed
        if (!more) break
      }
      assert.strictEqual(dropped, expected, "what every group has settled is dropped, and nothing else")
    })

    yield* enter("a")
    yield* enter("b")
    for (const command of commands) {
      const model = "name" in command ? groups.get(command.name) : undefined
      const consumer = model?.consumer
      switch (command._tag) {
        case "Publish": {
          for (const { id } of yield* Topic.publishAll(topic, texts(command.count))) numbers.set(id, numbers.size)
          break
        }
        case "Join": {
          yield* enter(command.name)
          break
        }
        case "Fetch": {
          if (model !== undefined && consumer !== undefined) yield* take(model, consumer.self, command.count)
          break
        }
        case "Settle":
        case "SettleOne": {
          if (model === undefined || consumer === undefined) break
          const chosen =
            command._tag === "Settle"
              ? model.held.slice(0, command.count)
              : model.held.slice(command.nth, command.nth + 1)
          for (const entry of chosen) yield* finish(model, consumer.self, entry, outcomes[command.how])
          break
        }
        case "Leave": {
          if (model === undefined || consumer === undefined) break
          yield* consumer.leave
          model.consumer = undefined
          model.held.length = 0
          break
        }
        case "Remove": {
          if (model === undefined || consumer !== undefined) break
          assert.isTrue(Option.isSome(yield* transport.removeGroup({ ...log, subscription: command.name })))
          groups.delete(command.name)
          break
        }
        case "Tend": {
          yield* transport.tend({ ...log, subscription: command.name })
          break
        }
        case "Trim": {
          yield* trim
          break
        }
      }
    }

    yield* trim
    for (const [group, model] of groups) {
      const consumer = model.consumer?.self ?? (yield* sit(group, model))
      while (model.next < numbers.size || model.unsettled.size > 0) {
        yield* take(model, consumer, 50)
        for (const entry of Array.from(model.held)) yield* finish(model, consumer, entry, outcomes.Ack)
      }
      const seen = Array.from(model.seen).toSorted((a, b) => a - b)
      assert.deepStrictEqual(
        seen,
        range(numbers.size).slice(model.since),
        `${group} has seen everything since it joined`
      )
    }
    yield* trim
    for (const { consumer } of groups.values()) if (consumer !== undefined) yield* consumer.leave
  })

/** Registers the case. */
export const randomTrimming = (kit: Kit): void => {
  const seed = process.env["CLUTCH_SEED"] ?? `${Date.now()}`
  const runs = Number(process.env["CLUTCH_RUNS"] ?? (kit.virtual ? 200 : 10))
  const register = kit.virtual ? it.effect.prop : it.live.prop
  // programs grow slowly from the shortest: a short one interleaves nothing
  const size = kit.virtual ? { minLength: 50, maxLength: 80 } : { minLength: 30, maxLength: 40 }
  register(
    `1. in random interleavings, what every group has settled is dropped, and each group gets all the rest (seed ${seed})`,
    { commands: Arbitrary.array(Arbitrary.schema(Command), size) },
    ({ commands }) =>
      Random.withSeed(
        kit.run(() => execute(kit, commands)),
        seed
      ),
    { timeout: 120_000, arbitrary: { runs, seed, maxShrinks: kit.virtual ? 200 : 5 } }
  )
}
