/** onDeadLetter: told once the letter is stored; whatever becomes of the telling, the letter stays. */
import * as DeadLetters from "@clutch/core/DeadLetters"
import type { SettleError } from "@clutch/core/Errors"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { given, groupOf, layerWith, Lines, open, pass, probe, run, settled, Texts, unavailable } from "../support.ts"

const address = Subscription.address("s", Texts)
class Pager extends Context.Service<Pager, { readonly page: (text: string) => Effect.Effect<void> }>()("test/Pager") {}

describe("onDeadLetter", () => {
  it.effect(
    "4. is called with the letter, once it is stored, with the services of its subscription and a scope of its own",
    given(function* () {
      const transport = yield* Transport
      const pages = yield* Queue.unbounded<string>()
      const subscription = Subscription.make("s", Texts, () => Effect.fail("no"), {
        retry: { maxRetries: 0 },
        onDeadLetter: ({ attempts, message, reason }) =>
          Effect.gen(function* () {
            const stored = yield* transport.deadLetters.count(groupOf("s"))
            const { page } = yield* Pager
            yield* page(`${Result.getOrThrow(message).data} ${reason} ${attempts}, of ${stored}`)
          })
      })
      yield* Effect.provideService(
        open(subscription),
        Pager,
        Pager.of({ page: (text) => Effect.asVoid(Queue.offer(pages, text)) })
      )
      yield* Topic.publish(Texts, "x")
      assert.strictEqual(yield* Queue.take(pages), "x exhausted 1, of 1")
    })
  )

  it.effect.each([
    ["fails", "the pager is broken", () => Effect.fail("the pager is broken")],
    ["dies", "the pager is broken", () => Effect.die(new Error("the pager is broken"))],
    [
      "throws",
      "the pager is broken",
      () => {
        throw new Error("the pager is broken")
      }
    ],
    // what a caller from JavaScript could return
    ["gives no Effect", "onDeadLetter gave no Effect", () => "paged" as unknown as Effect.Effect<void>]
  ] as const)("4. one that %s is logged and undoes nothing; the worker goes on", ([, told, onDeadLetter]) =>
    given(function* () {
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        Texts,
        seen.handler(({ data }) => (data === "ok" ? Effect.void : Effect.fail("no"))),
        {
          retry: { maxRetries: 0 },
          onDeadLetter
        }
      )
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["x", "y", "ok"])
      yield* Subscription.awaitIdle(subscription)
      yield* settled
      assert.strictEqual(yield* DeadLetters.count(address), 2)
      assert.deepStrictEqual(seen.data(), ["x", "y", "ok"])
      const lines = (yield* Lines).filter(({ text }) => text.includes("onDeadLetter failed"))
      assert.strictEqual(lines.length, 2)
      assert.include(Cause.pretty(lines[0]?.cause ?? Cause.empty), told)
      assert.deepStrictEqual(
        lines.map(({ annotations }) => annotations["messageId"]),
        seen.calls.slice(0, 2).map(({ delivery }) => delivery.messageId)
      )
    })()
  )

  it.effect(
    "is called for poison and for what the handler rejected too, not for retries",
    given(function* () {
      const Words = Topic.make("texts", { schema: Schema.String.check(Schema.isMinLength(3)) })
      const told: Array<string> = []
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        Words,
        seen.handler<SettleError | string, never>(({ data, delivery }) =>
          data === "bad" ? delivery.deadLetter("bad") : Effect.fail("no")
        ),
        {
          retry: { base: "1 hour" },
          onDeadLetter: ({ message, reason }) => Effect.sync(() => void told.push(`${reason} ${message._tag}`))
        }
      )
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["x", "bad", "again"])
      yield* Subscription.awaitIdle(subscription, { due: "ignore" })
      yield* settled
      assert.sameMembers(told, ["poison Failure", "rejected Success"])
    })
  )

  it.effect("a letter that cannot be read at once is read again; a handler is not held up by it", () => {
    let down = true
    const layer = layerWith((self) => ({
      ...self,
      deadLetters: {
        ...self.deadLetters,
        get: (group, id) =>
          Effect.suspend(() => (down ? Effect.fail(unavailable("get")) : self.deadLetters.get(group, id)))
      }
    }))
    return run(layer, function* () {
      const told: Array<string> = []
      const seen = yield* probe()
      const subscription = Subscription.make(
        "s",
        Texts,
        seen.handler(({ data }) => (data === "x" ? Effect.fail("no") : Effect.void)),
        {
          retry: { maxRetries: 0 },
          onDeadLetter: ({ reason }) => Effect.sync(() => void told.push(reason))
        }
      )
      yield* open(subscription)
      yield* Topic.publishAll(Texts, ["x", "y"])
      yield* Subscription.awaitIdle(subscription)
      assert.deepStrictEqual(seen.data(), ["x", "y"])
      yield* pass("500 millis")
      assert.deepStrictEqual(told, [])
      down = false
      yield* pass("5 seconds")
      assert.deepStrictEqual(told, ["exhausted"])
    })
  })

  it.effect(
    "one that never ends is interrupted when its subscription closes",
    given(function* () {
      const interrupted: Array<string> = []
      const subscription = Subscription.make("s", Texts, () => Effect.fail("no"), {
        retry: { maxRetries: 0 },
        onDeadLetter: () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted.push("told")))
      })
      const worker = yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(subscription)
      yield* settled
      yield* worker.close
      assert.deepStrictEqual(interrupted, ["told"])
      assert.strictEqual(yield* DeadLetters.count(address), 1)
    })
  )
})
