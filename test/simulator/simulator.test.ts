/** The simulator itself: that it can fail, that it repeats itself, and what it prints. */
import { Delivery, Subscription, Topic } from "@clutch/core"
import { Simulator } from "@clutch/core/testing"
import { globSync, readFileSync } from "node:fs"
import { assert, describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { logs } from "./broken.ts"

const { mixed: scenario } = Simulator

const errorOf = (exit: Exit.Exit<unknown, unknown>) =>
  Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "none"

describe("the simulator", () => {
  describe("finds a log that", () => {
    for (const [name, { log, promise, seed }] of Object.entries(logs)) {
      it.effect(
        name,
        () =>
          Effect.gen(function* () {
            const error = yield* Effect.flip(Simulator.check({ scenario, log, histories: 300, seed }))
            assert.match(error.history.violation?.promise ?? "", promise, error.message)
          }),
        60_000 // to make one smaller takes some hundred runs
      )
    }
  })

  it.effect("makes the same history of the same seed, and of the plan that it prints", () =>
    Effect.gen(function* () {
      for (let i = 0; i < 20; i++) {
        const plan = { seed: `again/${i}`, workers: 3 }
        const first = yield* Simulator.run({ scenario, plan })
        assert.isAbove(first.events.length, 50)
        assert.deepStrictEqual(yield* Simulator.run({ scenario, plan }), first)
        const noted = yield* Simulator.run({ scenario, plan: first.plan })
        assert.deepStrictEqual(noted.events, first.events)
      }
    })
  )

  for (const kind of ["crashesBefore", "closes"] as const) {
    it.effect(`starts a worker again whose first call ${kind === "closes" ? "closes it" : "is its last"}`, () =>
      Effect.gen(function* () {
        const faults = (["join", "enroll"] as const).map((call) => ({ worker: 1, call, nth: 1, kind, millis: 400 }))
        const history = yield* Simulator.run({ scenario, plan: { seed: "first", workers: 1, faults } })
        assert.isUndefined(history.violation, Simulator.print(history))
        assert.isAtLeast(history.events.filter(({ what }) => what === "starts").length, 2)
      })
    )
  }

  it.effect("9. loses a group under its workers: what it had not settled comes again, and is settled", () =>
    Effect.gen(function* () {
      const faults = [{ worker: 1, call: "settle", nth: 1, kind: "vanishes", millis: 0 }] as const
      const history = yield* Simulator.run({ scenario, plan: { seed: "lost", workers: 1, faults } })
      assert.isUndefined(history.violation, Simulator.print(history))
      const lines = history.events.map(({ what }) => what)
      const loss = lines.findIndex((what) => what.includes("disappeared, and is there again: message"))
      assert.include(lines[loss - 1], "its group disappears at settle")
      assert.match(lines[loss + 1] ?? "", /refused \(lost\)/)
    })
  )

  it.effect("pauses a worker, which starts nothing meanwhile, and goes on", () =>
    Effect.gen(function* () {
      const faults = [{ worker: 1, call: "fetch", nth: 2, kind: "pauses", millis: 5000 }] as const
      const history = yield* Simulator.run({ scenario, plan: { seed: "paused", workers: 1, faults } })
      assert.isUndefined(history.violation, Simulator.print(history))
      const { at = assert.fail("no pause") } = history.events.find(({ what }) => what.includes("is paused")) ?? {}
      const starts = history.events.filter(({ what }) => what.includes(" handles "))
      assert.isEmpty(starts.filter((start) => start.at > at + 10 && start.at < at + 5000))
      assert.isNotEmpty(starts.filter((start) => start.at >= at + 5000))
    })
  )

  it.effect("comes down to what a failure needs: one worker, one message, no fault", () =>
    Effect.gen(function* () {
      const { log } = logs["forgets retries"]!
      const { history, message } = yield* Effect.flip(Simulator.check({ scenario, log }))
      const { faults, messages, subscriptions, workers } = history.plan
      assert.deepStrictEqual([workers, messages?.length, subscriptions?.length, faults], [1, 1, 1, []])
      assert.include(message, Simulator.print(history))
      assert.deepStrictEqual(yield* Simulator.run({ scenario, log, plan: history.plan }), history)
    })
  )

  it.effect("takes replicas for granted where a handler publishes, as the in-memory log does", () =>
    Effect.gen(function* () {
      const Orders = Topic.make("orders", { schema: Schema.String })
      const Bills = Topic.make("bills", { schema: Schema.String })
      const scenario = Effect.sync(() => {
        let failures = 0
        return Simulator.scenario({
          subscriptions: [
            Subscription.make("billing", Orders, ({ data }) =>
              Effect.tapError(Topic.publish(Bills, data, { replicas: 1 }), () =>
                Effect.sync(() => void (failures += 1))
              )
            )
          ],
          messages: [Simulator.message(Orders, "a")],
          atRest: Effect.suspend(() => (failures === 0 ? Effect.void : Effect.fail("a bill was not published")))
        })
      })
      const history = yield* Simulator.run({ scenario, plan: { seed: "replicas", workers: 1, faults: [] } })
      assert.isUndefined(history.violation, Simulator.print(history))
    })
  )

  describe("a handler that works twice where it is delivered twice", () => {
    const Orders = Topic.make("orders", { schema: Schema.String })
    const orders = ["a", "b", "c", "d"]
    /** Counts what handlers took, over all workers of a history. */
    const stock = (atRest: (taken: ReadonlyArray<string>) => boolean) =>
      Effect.sync(() => {
        const taken: Array<string> = []
        const take = (order: string) => Simulator.remote(Effect.sync(() => void taken.push(order)))
        return Simulator.scenario({
          subscriptions: [
            Subscription.make("billing", Orders, ({ data }) => take(data)),
            Subscription.make("shipping", Orders, () => Effect.void)
          ],
          messages: orders.map((order) => Simulator.message(Orders, order)),
          atRest: Effect.suspend(() => (atRest(taken) ? Effect.void : Effect.fail(`${taken.length} were taken`)))
        })
      })

    /** Without any one fault, or the other subscription, the promise is kept. */
    const assertTakesEach = (scenario: Effect.Effect<Simulator.Scenario>, plan: Simulator.History["plan"]) =>
      Effect.gen(function* () {
        const { faults, subscriptions = [1, 2] } = plan
        assert.isNotEmpty(faults)
        assert.include(subscriptions, 1)
        const less = [
          ...faults.map((one) => ({ ...plan, faults: faults.filter((fault) => fault !== one) })),
          ...(subscriptions.length > 1 ? [{ ...plan, subscriptions: [1] }] : [])
        ]
        for (const plan of less) {
          assert.isUndefined((yield* Simulator.run({ scenario, plan })).violation)
        }
      })

    it.effect("is found, and what is left of the history shows what it takes, and no more", () =>
      Effect.gen(function* () {
        const once = stock((taken) => new Set(taken).size === taken.length)
        const { history } = yield* Effect.flip(Simulator.check({ scenario: once }))
        yield* assertTakesEach(once, history.plan)
      })
    )

    it.effect("is shown so too, where what must hold is told of the whole", () =>
      Effect.gen(function* () {
        const four = stock((taken) => taken.length === orders.length)
        const { history } = yield* Effect.flip(Simulator.check({ scenario: four }))
        yield* assertTakesEach(four, history.plan)
        assert.strictEqual(history.violation?.problem, "5 were taken")
      })
    )
  })

  it.effect("takes a handler that throws for one that failed", () =>
    Effect.gen(function* () {
      const Orders = Topic.make("orders", { schema: Schema.String })
      const thrown = Effect.sync(() =>
        Simulator.scenario({
          subscriptions: [
            Subscription.make("billing", Orders, (): Effect.Effect<void> => {
              throw new Error("a bug")
            })
          ],
          messages: [Simulator.message(Orders, "a"), Simulator.message(Orders, "b")]
        })
      )
      assert.strictEqual((yield* Simulator.check({ scenario: thrown, histories: 50 })).histories, 50)
    })
  )

  describe("a scenario of one's own", () => {
    const Orders = Topic.make("orders", { schema: Schema.String })
    const messages = ["a", "b", "c", "d"].map((order) => Simulator.message(Orders, order))
    const idle = Subscription.make("idle", Orders, () => Effect.void)
    const brokenBy = (
      options: Partial<Simulator.ScenarioOptions<ReadonlyArray<Subscription.Subscription<string, unknown, never>>>>,
      histories = 50
    ) =>
      Effect.map(
        Effect.flip(
          Simulator.check({
            scenario: Effect.sync(() => Simulator.scenario({ subscriptions: [idle], messages, ...options })),
            histories
          })
        ),
        ({ history }) => history
      )

    it.effect("may settle by hand, whatever the policy", () =>
      Effect.gen(function* () {
        const one = Subscription.make("one", Orders, () => Effect.flatMap(Delivery, (delivery) => delivery.ack))
        const batch = Subscription.batch(
          "batch",
          Orders,
          ([first]) => Effect.andThen(first.ack, Effect.fail("the rest is to be retried")),
          { size: 3, within: "1 second", concurrency: 2, retry: { maxRetries: 1 } }
        )
        const late = Subscription.make(
          "late",
          Orders,
          () =>
            Effect.flatMap(Delivery, ({ attempt, deadLetter, retry }) => (attempt > 1 ? deadLetter("no") : retry())),
          { concurrency: 2 }
        )
        const scenario = Effect.sync(() => Simulator.scenario({ subscriptions: [one, batch, late], messages }))
        assert.strictEqual((yield* Simulator.check({ scenario, histories: 50 })).histories, 50)
      })
    )

    it.effect("is told which messages were stored, so that what is lost is shown alone", () =>
      Effect.gen(function* () {
        const { plan, violation } = yield* Effect.flip(
          Simulator.check({
            histories: 300,
            scenario: Effect.sync(() => {
              const done = new Set<string>()
              // acks before it works
              const hasty = Subscription.make(
                "hasty",
                Orders,
                ({ data }) => Simulator.remote(Effect.sync(() => done.add(data))),
                { ack: "onReceive" }
              )
              return Simulator.scenario({
                subscriptions: [hasty, idle],
                messages,
                atRest: Effect.flatMap(Simulator.stored(Orders), (orders) => {
                  const lost = orders.filter((order) => !done.has(order))
                  return lost.length === 0 ? Effect.void : Effect.fail(`lost: ${lost.join()}`)
                })
              })
            })
          })
        ).pipe(Effect.map(({ history }) => history))
        assert.match(violation?.problem ?? "", /^lost: [a-d]$/)
        assert.deepStrictEqual([plan.messages?.length, plan.subscriptions, plan.faults.length], [1, [1], 1])
      })
    )

    it.effect("is told what a handler that does not end may wait for", () =>
      Effect.gen(function* () {
        const never = Subscription.make("never", Orders, () => Effect.never)
        const { violation } = yield* brokenBy({ subscriptions: [never] })
        assert.match(
          violation?.problem ?? "",
          /^message \d of "never", whose handler runs since \d+ ms .* never settled$/
        )
      })
    )

    it.effect("that goes round and round is told so, and printed with an end", () =>
      Effect.gen(function* () {
        const busy = Subscription.make("busy", Orders, () => Effect.flatMap(Delivery, ({ release }) => release), {
          ack: "manual"
        })
        const history = yield* brokenBy({ subscriptions: [busy] })
        assert.strictEqual(history.violation?.promise, "contract 1")
        assert.match(history.violation?.problem ?? "", /round and round/)
        const lines = Simulator.print(history).split("\n")
        assert.isBelow(lines.length, 600)
        assert.match(lines.find((line) => line.includes("…")) ?? "", /\d+ more lines/)
      })
    )

    it.effect("may begin with poison on a topic that nobody has used, whatever partitions it has", () =>
      Effect.gen(function* () {
        const Keyed = Topic.make("keyed", { schema: Schema.String, key: (text) => text, partitions: 4 })
        const reader = Subscription.make("reader", Keyed, () => Effect.void, { from: "beginning" })
        const messages = [Simulator.poison(Keyed, "{")]
        const scenario = Effect.sync(() => Simulator.scenario({ subscriptions: [reader], messages }))
        for (let i = 0; i < 20; i++) {
          const plan = { seed: `${i}`, workers: 1, faults: [] }
          const { violation } = yield* Simulator.run({ scenario, plan })
          assert.isUndefined(violation, `seed ${i}`)
        }
      })
    )

    it.effect("that is another one each time is said to be so", () =>
      Effect.gen(function* () {
        let histories = 0
        const atRest = Effect.suspend(() => (++histories === 5 ? Effect.fail({ _tag: "Fifth" }) : Effect.void))
        const { violation } = yield* brokenBy({ atRest })
        assert.match(violation?.problem ?? "", /^\{"_tag":"Fifth"\}\. The same plan has made another history since/)
      })
    )

    it.effect("whose subscriptions can never start fails at once", () =>
      Effect.gen(function* () {
        const { plan, violation } = yield* brokenBy({
          subscriptions: [Subscription.make("a {b}", Orders, () => Effect.void)]
        })
        assert.match(violation?.problem ?? "", /worker 1 ended: SubscribeError: .* is refused/)
        assert.isEmpty(plan.faults)
      })
    )

    it.effect("whose messages cannot be encoded fails", () =>
      Effect.gen(function* () {
        const number: unknown = 5
        const { violation } = yield* brokenBy({ messages: [Simulator.message(Orders, number as string)] }) // a wrong one
        assert.match(violation?.problem ?? "", /^messages 1 cannot be published: .*cannot be encoded/)
      })
    )

    it("is refused, where it would prove nothing", () => {
      const Lonely = Topic.make("lonely", { schema: Schema.String })
      const scenario = (messages: ReadonlyArray<Simulator.Publication>) => () =>
        Simulator.scenario({ subscriptions: [idle], messages })
      assert.throws(scenario([]), /needs a message/)
      assert.throws(scenario([Simulator.message(Lonely, "a")]), /no subscription of the scenario reads topic "lonely"/)
      const misspelt: object = { atrest: Effect.void }
      assert.throws(
        () => Simulator.scenario({ subscriptions: [idle], messages: [Simulator.message(Orders, "a")], ...misspelt }),
        /atrest.*there is no such option/
      )
      assert.throws(() => Simulator.poison(Orders, `"a"`), /is no poison: topic "orders" decodes it/)
    })

    it.effect("cannot ask for what was stored before everything is at rest", () =>
      Effect.gen(function* () {
        assert.match(errorOf(yield* Effect.exit(Simulator.stored(Orders))), /for a scenario's atRest/)
      })
    )
  })

  it.effect.each([{ plan: { seed: "x", workers: 0 } }, { plan: { seed: "x", workers: Number.NaN } }, { faults: -1 }])(
    "runs no history of %o",
    (options) =>
      Effect.gen(function* () {
        const exit = yield* Effect.exit(Simulator.run({ scenario, plan: { seed: "x", workers: 1 }, ...options }))
        assert.match(errorOf(exit), /Simulator.run: .* is refused: give a whole number from/)
      })
  )

  it.effect.each([{ histories: 0 }, { histories: Number.NaN }, { workers: 0 }, { workers: 1.5 }, { faults: -1 }])(
    "refuses %o, which would prove nothing",
    (options) =>
      Effect.gen(function* () {
        const exit = yield* Effect.exit(Simulator.check({ scenario, ...options }))
        assert.match(errorOf(exit), /is refused: give a whole number from/)
      })
  )

  it.effect("refuses a misspelt option, whose default would be checked", () =>
    Effect.gen(function* () {
      const misspelt: object = { history: 3 }
      const checked = yield* Effect.exit(Simulator.check({ scenario, ...misspelt }))
      assert.match(errorOf(checked), /Simulator.check: .*history.*there is no such option/)
      const ran = yield* Effect.exit(Simulator.run({ scenario, plan: { seed: "x", workers: 1 }, ...misspelt }))
      assert.match(errorOf(ran), /Simulator.run: .*history.*there is no such option/)
    })
  )

  it.effect("takes a handler that gives no Effect, as one from JavaScript may, for one that has failed", () =>
    Effect.gen(function* () {
      const Orders = Topic.make("orders", { schema: Schema.String })
      const handler = async () => {}
      const scenario = Effect.sync(() =>
        Simulator.scenario({
          subscriptions: [Subscription.make("s", Orders, handler as unknown as () => Effect.Effect<void>)],
          messages: [Simulator.message(Orders, "a")]
        })
      )
      const history = yield* Simulator.run({ scenario, plan: { seed: "x", workers: 1, faults: [] } })
      assert.isUndefined(history.violation, Simulator.print(history))
      assert.include(Simulator.print(history), "the handler gave no Effect")
    })
  )

  it.effect("refuses a scenario without subscriptions", () =>
    Effect.gen(function* () {
      const none = Effect.sync(() => Simulator.scenario({ subscriptions: [], messages: [] }))
      assert.match(errorOf(yield* Effect.exit(Simulator.check({ scenario: none }))), /give one at least/)
    })
  )

  it("tells what comes again and again by its first and last line", () => {
    const beat = (at: number) => ({ at, who: "worker 1", what: "extends the lease" })
    const print = (beats: number) =>
      Simulator.print({
        plan: { seed: "x", workers: 1, faults: [] },
        violation: undefined,
        events: [{ at: 0, who: "log", what: "stores" }, ...Array.from({ length: beats }, (_, i) => beat(i + 1))],
        subscriptions: 1,
        messages: 1,
        deliveries: 1,
        millis: 1
      }).split("\n")
    assert.lengthOf(print(1), 3)
    assert.lengthOf(print(2), 4)
    assert.deepStrictEqual(print(480).slice(2), [
      "  1 ms  worker 1  extends the lease",
      "480 ms  worker 1  extends the lease, 478 times between"
    ])
  })

  it("sees all that core does: nothing there takes turns, time or chance from anywhere else", () => {
    const core = new URL("../../packages/core/src/", import.meta.url)
    const own = /\b(queueMicrotask|setImmediate|setTimeout|setInterval|performance\.now|Date\.now|Math\.random)\b/
    const files = globSync("**/*.ts", { cwd: core, exclude: ["conformance/**"] })
    assert.isAbove(files.length, 50)
    const found = files.filter((file) => own.test(readFileSync(new URL(file, core), "utf8")))
    assert.deepStrictEqual(found, ["internal/turns.ts"])
  })

  it("prints a history as a table, and the plan that makes it again", () => {
    const history: Simulator.History = {
      plan: {
        seed: "shop/7",
        workers: 2,
        messages: [3],
        faults: [{ worker: 1, call: "settle", nth: 2, kind: "losesReply", millis: 0 }]
      },
      violation: { promise: "contract 1", problem: 'message 3 of "billing" never settled' },
      events: [
        { at: 0, who: "worker 1", what: "starts" },
        { at: 1200, who: "log", what: 'stores message 3 of "orders" as 1-0' }
      ],
      subscriptions: 1,
      messages: 1,
      deliveries: 1,
      millis: 1200
    }
    expect(Simulator.print(history)).toBe(`contract 1 is broken: message 3 of "billing" never settled

     at  who       what
   0 ms  worker 1  starts
1200 ms  log       stores message 3 of "orders" as 1-0

The same history again, with this plan for Simulator.run:
{
  seed: "shop/7",
  workers: 2,
  messages: [3],
  faults: [
    { worker: 1, call: "settle", nth: 2, kind: "losesReply", millis: 0 }
  ]
}`)
  })
})
