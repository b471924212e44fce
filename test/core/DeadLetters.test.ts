import * as DeadLetters from "@clutch/core/DeadLetters"
import * as MemoryTransport from "@clutch/core/MemoryTransport"
import * as Subscription from "@clutch/core/Subscription"
import * as Topic from "@clutch/core/Topic"
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { given, layerWith, Lines, open, pass, passing, probe, run, settled, Texts, unavailable } from "./support.ts"

const address = Subscription.address("s", Texts)
const all = Effect.map(Stream.runCollect(DeadLetters.list(address)), (letters) => [...letters])
const datas = Effect.map(all, (letters) => letters.map(({ message }) => Result.getOrThrow(message).data))

/** Dead letters of these texts, and a handler that from now on does as told. */
const dead = Effect.fnUntraced(function* (...texts: ReadonlyArray<string>) {
  const seen = yield* probe()
  const state = { fails: true }
  const handler = seen.handler(() => Effect.suspend(() => (state.fails ? Effect.fail("no") : Effect.void)))
  const subscription = Subscription.make("s", Texts, handler, { retry: { maxRetries: 0 } })
  const worker = yield* open(subscription)
  yield* Topic.publishAll(Texts, texts)
  yield* Subscription.awaitIdle(subscription)
  return {
    ...worker,
    seen,
    state,
    calls: () => seen.calls.slice(texts.length).map(({ attempt, data }) => [data, attempt] as const)
  }
})

const texts = (count: number) => Array.from({ length: count }, (_, i) => `m${i}`)

describe("DeadLetters", () => {
  it.effect(
    "4. one tells its message, reason, last cause, attempts and times",
    given(function* () {
      const seen = yield* probe()
      const handler = seen.handler(({ attempt }) => Effect.fail(`declined ${attempt}`))
      const subscription = Subscription.make("s", Texts, handler, {
        retry: { maxRetries: 1, base: "1 minute", jitter: 0 }
      })
      yield* pass("1 second")
      yield* open(subscription)
      const published = yield* Topic.publish(Texts, "x", { headers: { tenant: "a" }, id: "mine" })
      yield* pass("1 minute")
      const [letter, ...others] = yield* all
      assert(letter !== undefined && others.length === 0)
      assert.deepStrictEqual(Result.getOrThrow(letter.message), published)
      assert.strictEqual(letter.originalId, seen.calls[0]?.delivery.originalId)
      assert.strictEqual(new TextDecoder().decode(letter.raw), '"x"')
      assert.deepStrictEqual([letter.reason, letter.attempts], ["exhausted", 2])
      assert.include(letter.cause, "declined 2")
      assert.notInclude(letter.cause, "declined 1")
      assert.strictEqual(Option.getOrNull(Option.map(letter.firstDelivered, DateTime.toEpochMillis)), 1000)
      assert.strictEqual(DateTime.toEpochMillis(letter.deadLettered), 61_000)
      assert.deepStrictEqual(Option.getOrNull(yield* DeadLetters.get(address, letter.id)), letter)
    })
  )

  it.effect(
    "6. poison keeps its raw bytes, and says why it cannot be decoded",
    given(function* () {
      const Numbers = Topic.make("texts", { schema: Schema.Number })
      const subscription = Subscription.make("s", Numbers, () => Effect.void)
      yield* open(subscription)
      yield* Topic.publish(Texts, "no number")
      // no UTF-8, in what would otherwise be a JSON text
      const raw = new Uint8Array([0x22, 0xff, 0xfe, 0x22])
      const content = Result.succeed({ data: raw, attributes: undefined })
      yield* MemoryTransport.appendRaw({ topic: "texts", partition: 0 }, { content, raw })
      yield* Subscription.awaitIdle(subscription)
      const letters = [...(yield* Stream.runCollect(DeadLetters.list(subscription)))]
      assert.deepStrictEqual(
        letters.map(({ reason }) => reason),
        ["poison", "poison"]
      )
      assert.deepStrictEqual(letters[1]?.raw, raw)
      for (const { message } of letters) assert.isTrue(Result.isFailure(message) && message.failure._tag === "Poison")
      assert.include(letters[0]?.cause, "does not fit the schema")
      assert.include(letters[1]?.cause, "no JSON")
    })
  )

  it.effect(
    "list reads page by page, oldest first; count and get agree with it",
    given(function* () {
      yield* dead(...texts(250))
      assert.deepStrictEqual(yield* datas, texts(250))
      assert.strictEqual(yield* DeadLetters.count(address), 250)
      assert.deepStrictEqual(yield* DeadLetters.get(address, "9999-0"), Option.none())
      assert.deepStrictEqual(yield* DeadLetters.get(address, "no id"), Option.none())
    })
  )

  it.effect(
    "of a subscription that never ran there are none",
    given(function* () {
      const nobody = Subscription.address("nobody", Texts)
      assert.strictEqual(yield* DeadLetters.count(nobody), 0)
      assert.deepStrictEqual([...(yield* Stream.runCollect(DeadLetters.list(nobody)))], [])
      assert.strictEqual(yield* DeadLetters.redrive(nobody), 0)
      assert.strictEqual(yield* DeadLetters.discard(nobody, "all"), 0)
    })
  )

  describe("redrive", () => {
    it.effect(
      "2. gives all back to the failing subscription only, attempts reset, with their ids and metadata",
      given(function* () {
        const other = yield* probe()
        yield* open(Subscription.make("other", Texts, other.handler()))
        const { calls, seen, state } = yield* dead("a", "b")
        state.fails = false
        assert.strictEqual(yield* DeadLetters.redrive(address), 2)
        yield* Subscription.awaitIdle(address)
        assert.deepStrictEqual(calls(), [
          ["a", 1],
          ["b", 1]
        ])
        assert.deepStrictEqual(seen.calls[2]?.message, seen.calls[0]?.message)
        assert.strictEqual(seen.calls[2]?.delivery.originalId, seen.calls[0]?.delivery.originalId)
        assert.deepStrictEqual(other.data(), ["a", "b"])
        assert.strictEqual(yield* DeadLetters.count(address), 0)
      })
    )

    it.effect(
      "run twice, or with ids that are not there, nothing is doubled",
      given(function* () {
        const { calls, state } = yield* dead("a", "b")
        state.fails = false
        const ids = (yield* all).map(({ id }) => id)
        assert.strictEqual(yield* DeadLetters.redrive(address, { ids: [...ids, ...ids, "7-7"] }), 2)
        assert.strictEqual(yield* DeadLetters.redrive(address, { ids }), 0)
        assert.strictEqual(yield* DeadLetters.redrive(address), 0)
        yield* Subscription.awaitIdle(address)
        assert.deepStrictEqual(calls(), [
          ["a", 1],
          ["b", 1]
        ])
      })
    )

    it.effect(
      "by id, by predicate, by both",
      given(function* () {
        const { calls, state } = yield* dead(...texts(6))
        state.fails = false
        const ids = (yield* all).map(({ id }) => id)
        const odd = ({ message }: DeadLetters.DeadLetter<string>) =>
          Number(Result.getOrThrow(message).data.slice(1)) % 2 === 1
        assert.strictEqual(yield* DeadLetters.redrive(address, { ids: ids.slice(0, 1) }), 1)
        assert.strictEqual(yield* DeadLetters.redrive(address, { ids: ids.slice(2, 4), where: odd }), 1)
        assert.strictEqual(yield* DeadLetters.redrive(address, { where: odd }), 2)
        assert.strictEqual(yield* DeadLetters.redrive(address, { ids: [] }), 0)
        yield* Subscription.awaitIdle(address)
        assert.sameMembers(
          calls().map(([data]) => data),
          ["m0", "m3", "m1", "m5"]
        )
        assert.deepStrictEqual(yield* datas, ["m2", "m4"])
      })
    )

    it.effect("all of many pages, each once; those that fail again meanwhile are not part of the call", () => {
      // whoever reads a page gives handlers the time to fail again
      const layer = layerWith((self) => ({
        ...self,
        deadLetters: {
          ...self.deadLetters,
          page: (group, options) => Effect.andThen(settled, self.deadLetters.page(group, options))
        }
      }))
      return run(layer, function* () {
        const { calls } = yield* dead(...texts(250))
        assert.strictEqual(yield* DeadLetters.redrive(address, { where: () => true }), 250)
        yield* Subscription.awaitIdle(address)
        assert.strictEqual(calls().length, 250)
        assert.strictEqual(yield* DeadLetters.count(address), 250)
      })
    })

    it.effect(
      "after a delay, when it is due and not before",
      given(function* () {
        const { calls, state } = yield* dead("a")
        state.fails = false
        yield* DeadLetters.redrive(address, { delay: "2 hours" })
        yield* pass("7199999 millis")
        assert.deepStrictEqual(calls(), [])
        yield* pass(1)
        assert.deepStrictEqual(calls(), [["a", 1]])
      })
    )

    it.effect(
      "waits for a worker where none runs",
      given(function* () {
        const { close, state } = yield* dead("a")
        yield* close
        yield* DeadLetters.redrive(address)
        assert.strictEqual(yield* DeadLetters.count(address), 0)
        state.fails = false
        const seen = yield* probe()
        yield* open(Subscription.make("s", Texts, seen.handler()))
        yield* seen.next
        yield* Subscription.awaitIdle(address)
      })
    )

    it.effect(
      "4. a redriven message that fails again is a dead letter again, with its retries anew",
      given(function* () {
        const seen = yield* probe()
        const subscription = Subscription.make(
          "s",
          Texts,
          seen.handler(() => Effect.fail("no")),
          { retry: { maxRetries: 2, base: "1 second" } }
        )
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* passing("1 second")(Subscription.awaitIdle(subscription))
        yield* DeadLetters.redrive(subscription)
        yield* passing("1 second")(Subscription.awaitIdle(subscription))
        assert.deepStrictEqual(
          seen.calls.map(({ attempt }) => attempt),
          [1, 2, 3, 1, 2, 3]
        )
        const letters = yield* all
        assert.deepStrictEqual(
          letters.map(({ attempts }) => attempts),
          [3]
        )
      })
    )

    it.effect.each(["Infinity", "-1 second", -1, "soon", Number.NaN])(
      "a delay of %s is refused, naming the option",
      (delay) =>
        given(function* () {
          // what a caller from JavaScript could pass
          const error = yield* Effect.flip(DeadLetters.redrive(address, { delay: delay as number }))
          assert.isTrue(error.reason._tag === "InvalidOption" && error.reason.option === "delay")
        })()
    )

    it.effect("broken off half way, nothing is lost or doubled: what is left can be redriven", () => {
      let calls = 0
      const layer = layerWith((self) => ({
        ...self,
        deadLetters: {
          ...self.deadLetters,
          redrive: (group, ids, delay) =>
            Effect.suspend(() =>
              ++calls === 2 ? Effect.fail(unavailable("redrive")) : self.deadLetters.redrive(group, ids, delay)
            )
        }
      }))
      return run(layer, function* () {
        const { calls, state } = yield* dead(...texts(250))
        state.fails = false
        const where = () => true
        const error = yield* Effect.flip(DeadLetters.redrive(address, { where }))
        assert.strictEqual(error.reason._tag, "Unavailable")
        yield* Subscription.awaitIdle(address)
        assert.strictEqual((yield* DeadLetters.count(address)) + calls().length, 250)
        assert.strictEqual(yield* DeadLetters.redrive(address, { where }), 150)
        yield* Subscription.awaitIdle(address)
        assert.sameMembers(
          calls().map(([data]) => data),
          texts(250)
        )
      })
    })
  })

  describe("discard", () => {
    it.effect(
      "one id that is not in a list is refused, and moves nothing",
      given(function* () {
        yield* dead("a")
        const [letter] = yield* Stream.runCollect(DeadLetters.list(address))
        const ids = letter?.id ?? ""
        for (const move of [DeadLetters.discard(address, { ids }), DeadLetters.redrive(address, { ids })]) {
          const { reason } = yield* Effect.flip(move)
          assert.isTrue(reason._tag === "InvalidOption" && reason.option === "ids")
        }
        assert.strictEqual(yield* DeadLetters.count(address), 1)
      })
    )

    it.effect.each([{}, { ids: undefined, where: undefined }, { id: ["1-0"] }, { were: () => true }])(
      "a selection that names none is refused, and removes nothing: %o",
      (selection: object) =>
        given(function* () {
          yield* dead("a", "b")
          const { reason } = yield* Effect.flip(DeadLetters.discard(address, selection))
          assert.strictEqual(reason._tag, "InvalidOption")
          assert.strictEqual(yield* DeadLetters.count(address), 2)
        })()
    )

    const untyped: ReadonlyArray<readonly [string, unknown]> = [
      ["selection", null],
      ["selection", 5],
      ["ids", { ids: 5 }],
      ["where", { where: "all" }],
      ["where", { where: async () => false }],
      ["where", { where: () => 1 }],
      [
        "where",
        {
          where: () => {
            throw new Error("not so")
          }
        }
      ]
    ]
    it.effect.each(untyped)(
      "what an untyped caller may have meant by it is refused, naming %s, and moves nothing: %o",
      ([option, raw]) =>
        given(function* () {
          yield* dead("a", "b")
          const selection = raw as DeadLetters.Selection<string> // as from JavaScript
          for (const move of [DeadLetters.discard(address, selection), DeadLetters.redrive(address, selection)]) {
            const { reason } = yield* Effect.flip(move)
            assert.isTrue(reason._tag === "InvalidOption" && reason.option === option, String(reason))
          }
          assert.strictEqual(yield* DeadLetters.count(address), 2)
        })()
    )

    it.effect(
      "an id that is none is passed over",
      given(function* () {
        yield* dead("a")
        const ids = ["nope", "1", "99999999999999999999-0", "1-0"]
        assert.strictEqual(yield* DeadLetters.discard(address, { ids }), 0)
        assert.strictEqual(yield* DeadLetters.redrive(address, { ids }), 0)
        assert.isTrue(Option.isNone(yield* DeadLetters.get(address, "nope")))
        assert.strictEqual(yield* DeadLetters.count(address), 1)
      })
    )

    it.effect(
      "a where that throws is told with its words",
      given(function* () {
        yield* dead("a")
        const thrown: ReadonlyArray<readonly [unknown, string]> = [
          [new TypeError("not so"), "not so"],
          ["no error", '"no error"']
        ]
        for (const [cause, words] of thrown) {
          const where = () => {
            throw cause
          }
          const error = yield* Effect.flip(DeadLetters.discard(address, { where }))
          assert.include(error.message, words)
        }
      })
    )

    it.effect.each([1, 2])("what is no text is nobody's id, whether of one partition or of several: %d", (partitions) =>
      given(function* () {
        const topic = Topic.make("wide", { schema: Schema.String, partitions })
        const subscription = Subscription.make("s", topic, () => Effect.fail("no"), { retry: { maxRetries: 0 } })
        yield* open(subscription)
        yield* Topic.publishAll(topic, ["a", "b"])
        yield* Subscription.awaitIdle(subscription)
        for (const raw of [undefined, null, 5, {}]) {
          const id = raw as string // as from JavaScript
          assert.isTrue(Option.isNone(yield* DeadLetters.get(subscription, id)))
          assert.strictEqual(yield* DeadLetters.discard(subscription, { ids: [id] }), 0)
          assert.strictEqual(yield* DeadLetters.redrive(subscription, { ids: [id] }), 0)
        }
        assert.strictEqual(yield* DeadLetters.count(subscription), 2)
      })()
    )

    it.effect(
      "12. removes for good what was selected, counts it, and says so in the log",
      given(function* () {
        const { calls } = yield* dead("a", "b", "c")
        const [first] = yield* all
        assert.strictEqual(yield* DeadLetters.discard(address, { ids: [first?.id ?? ""] }), 1)
        assert.deepStrictEqual(yield* datas, ["b", "c"])
        assert.strictEqual(
          yield* DeadLetters.discard(address, { where: ({ message }) => Result.getOrThrow(message).data === "c" }),
          1
        )
        assert.deepStrictEqual(yield* datas, ["b"])
        assert.strictEqual(yield* DeadLetters.discard(address, "all"), 1)
        assert.strictEqual(yield* DeadLetters.discard(address, "all"), 0)
        yield* pass("1 day")
        assert.deepStrictEqual(calls(), [])
        const lines = (yield* Lines).filter(({ text }) => text.startsWith("discarded"))
        assert.deepStrictEqual(
          lines.map(({ annotations, text }) => [text, annotations["subscription"]]),
          [
            ["discarded 1 dead letters", "s"],
            ["discarded 1 dead letters", "s"],
            ["discarded 1 dead letters", "s"],
            ["discarded 0 dead letters", "s"]
          ]
        )
      })
    )
  })

  it.effect(
    "names are checked: the error says which",
    given(function* () {
      const wrong = Subscription.address("a b", Texts)
      for (const tool of [
        DeadLetters.count(wrong),
        DeadLetters.redrive(wrong),
        DeadLetters.discard(wrong, "all"),
        Stream.runDrain(DeadLetters.list(wrong))
      ]) {
        const error = yield* Effect.flip(Effect.asVoid(tool))
        assert.isTrue(error.reason._tag === "InvalidName" && error.reason.kind === "subscription")
      }
      yield* settled
    })
  )
})
