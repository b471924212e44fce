import * as DeadLetters from "@clutch/core/DeadLetters"
import * as Subscription from "@clutch/core/Subscription"
import { layerTest } from "@clutch/core/testing"
import * as Topic from "@clutch/core/Topic"
import * as Tracing from "@clutch/core/Tracing"
import { Transport } from "@clutch/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import { type Body, layerWith, open, passing, probe, run, settled, Texts, unknown, withConsumers } from "./support.ts"

interface Recorder {
  readonly spans: ReadonlyArray<Tracer.Span>
  readonly named: (start: string) => ReadonlyArray<Tracer.Span>
  /** The only span whose name starts so. */
  readonly one: (start: string) => Tracer.Span
}

const record = (): Recorder & { readonly tracer: Tracer.Tracer } => {
  const spans: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  const named = (start: string) => spans.filter(({ name }) => name.startsWith(start))
  const one = (start: string) => {
    const [span, ...others] = named(start)
    if (span === undefined || others.length > 0) throw new Error(`not one span ${start} but ${named(start).length}`)
    return span
  }
  return { spans, tracer, named, one }
}

/** A body that a tracer listens to; it keeps every span. */
const traced = (body: (recorder: Recorder) => ReturnType<Body>, layer = layerTest) =>
  Effect.suspend(() => {
    const recorder = record()
    return run(layer, function* () {
      yield* Effect.provideService(
        Effect.gen(() => body(recorder)),
        Tracer.Tracer,
        recorder.tracer
      )
    })
  })

const parentOf = ({ parent }: Tracer.Span) => Option.getOrUndefined(Option.map(parent, ({ spanId }) => spanId))
const linksOf = ({ links }: Tracer.Span) => links.map(({ span }) => span.spanId)
const attributesOf = ({ attributes }: Tracer.Span) => Object.fromEntries(attributes)
const errorTypeOf = ({ attributes }: Tracer.Span) => attributes.get("error.type")

describe("Tracing", () => {
  it.effect(
    "send {topic} is a PRODUCER span, process {topic} a CONSUMER span and its child, settle a CLIENT span linked to it",
    () =>
      traced(function* ({ one, spans }) {
        const seen = yield* probe()
        const subscription = Subscription.make("s", Texts, seen.handler())
        yield* open(subscription)
        const { id, traceparent } = yield* Topic.publish(Texts, "x")
        yield* Subscription.awaitIdle(subscription)
        yield* settled
        const [send, process, settle] = [one("send"), one("process"), one("settle")]
        assert.deepStrictEqual(
          spans.map(({ name }) => name),
          ["send texts", "process texts", "settle"]
        )
        assert.deepStrictEqual([send.kind, process.kind, settle.kind], ["producer", "consumer", "client"])
        assert.strictEqual(traceparent, `00-${send.traceId}-${send.spanId}-01`)
        assert.deepStrictEqual([process.traceId, parentOf(process)], [send.traceId, send.spanId])
        assert.strictEqual(parentOf(settle), undefined)
        assert.deepStrictEqual(linksOf(settle), [send.spanId])
        for (const span of spans) assert.isTrue(span.status._tag === "Ended" && Exit.isSuccess(span.status.exit))
        assert.deepStrictEqual(attributesOf(send), {
          "messaging.system": "memory",
          "messaging.operation.name": "send",
          "messaging.operation.type": "send",
          "messaging.destination.name": "texts",
          "messaging.message.id": id,
          "messaging.message.body.size": 3
        })
        const { "messaging.message.body.size": size, ...others } = attributesOf(process)
        assert.isAbove(Number(size), 0)
        assert.include(others, {
          "messaging.system": "memory",
          "messaging.operation.name": "process",
          "messaging.operation.type": "process",
          "messaging.destination.name": "texts",
          "messaging.consumer.group.name": "s",
          "messaging.message.id": id
        })
        assert.include(attributesOf(settle), {
          "messaging.system": "memory",
          "messaging.operation.name": "settle",
          "messaging.operation.type": "settle",
          "messaging.destination.name": "texts",
          "messaging.consumer.group.name": "s"
        })
      })
  )

  it.effect(
    "one trace from publish through every retry to the dead letter; retry spans carry the retry log's name",
    () =>
      traced(function* ({ named, one }) {
        class Declined extends Schema.TaggedError<Declined>()("Declined", {}) {}
        const seen = yield* probe()
        const letters = yield* Queue.unbounded<string | undefined>()
        const subscription = Subscription.make(
          "s",
          Texts,
          seen.handler(() => Effect.fail(new Declined({}))),
          {
            retry: { maxRetries: 3, base: "1 hour" },
            onDeadLetter: () => Effect.flatMap(Effect.currentParentSpan, (span) => Queue.offer(letters, span.traceId))
          }
        )
        yield* open(subscription)
        yield* Topic.publish(Texts, "x")
        yield* passing("10 minutes")(Subscription.awaitIdle(subscription))
        yield* settled
        const send = one("send")
        const processes = named("process")
        const transport = yield* Transport
        assert.strictEqual(processes.length, 4)
        for (const span of processes) {
          assert.deepStrictEqual([span.traceId, parentOf(span)], [send.traceId, send.spanId])
          assert.strictEqual(errorTypeOf(span), "Declined")
          assert.isTrue(span.status._tag === "Ended" && Exit.isFailure(span.status.exit))
        }
        const names = processes.map(({ attributes }) => attributes.get("messaging.destination.name"))
        assert.deepStrictEqual(
          names,
          seen.calls.map(({ delivery }) => delivery.stream)
        )
        assert.strictEqual(names[0], transport.stream({ topic: "texts", partition: 0 }))
        assert.notInclude(names.slice(1), names[0])
        const groups = processes.map(({ attributes }) => attributes.get("messaging.consumer.group.name"))
        assert.deepStrictEqual(groups, ["s", "s-retry", "s-retry", "s-retry"])
        for (const span of named("settle")) assert.deepStrictEqual(linksOf(span), [send.spanId])
        const [letter] = yield* Stream.runCollect(DeadLetters.list(subscription))
        const kept = Option.getOrThrow(Tracing.producer(Result.getOrThrow(letter?.message ?? assert.fail("no letter"))))
        assert.strictEqual(kept.traceId, send.traceId)
        assert.strictEqual(yield* Queue.take(letters), send.traceId)
      })
  )

  class OutOfStock extends TypeError {
    readonly _tag = "OutOfStock"
  }
  const failures: ReadonlyArray<readonly [string, Effect.Effect<never, unknown>, string]> = [
    ["a tagged error", Effect.fail({ _tag: "Declined" }), "Declined"],
    ["a tagged Error", Effect.fail(new OutOfStock("no")), "OutOfStock"],
    ["a text", Effect.fail("no"), "_OTHER"],
    ["a defect", Effect.die(new RangeError("bug")), "RangeError"]
  ]
  it.effect.each(failures)("error.type of %s", ([, failure, type]) =>
    traced(function* ({ one }) {
      const subscription = Subscription.make("s", Texts, () => failure, { retry: { maxRetries: 0 } })
      yield* open(subscription)
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(subscription)
      assert.strictEqual(errorTypeOf(one("process")), type)
    })
  )

  it.effect("what a handler publishes and the spans that it opens belong to its own span, and go on from there", () =>
    traced(function* ({ named, one }) {
      const Second = Topic.make("second", { schema: Schema.String })
      const first = Subscription.make("s", Texts, ({ data }) =>
        Effect.asVoid(Effect.withSpan(Topic.publish(Second, data), "inside"))
      )
      const second = Subscription.make("s", Second, () => Effect.void)
      yield* open(first)
      yield* open(second)
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(first)
      yield* Subscription.awaitIdle(second)
      assert.strictEqual(parentOf(one("inside")), one("process texts").spanId)
      assert.strictEqual(parentOf(one("send second")), one("inside").spanId)
      assert.strictEqual(parentOf(one("process second")), one("send second").spanId)
      assert.strictEqual(new Set([...named("send"), ...named("process")].map((span) => span.traceId)).size, 1)
    })
  )

  it.effect("the span around subscribing is not the parent of what is handled", () =>
    traced(function* ({ one }) {
      const subscription = Subscription.make("s", Texts, () => Effect.void)
      const transport = yield* Transport
      yield* Effect.withSpan(open(subscription), "startup")
      yield* transport.publish({ topic: "texts", partition: 0 }, [{ data: '"x"', attributes: undefined }], {
        maxLength: undefined,
        maxAge: undefined
      })
      yield* Subscription.awaitIdle(subscription)
      assert.strictEqual(parentOf(one("process")), undefined)
      assert.notStrictEqual(one("process").traceId, one("startup").traceId)
    })
  )

  it.effect('"link": a handler begins a trace of its own and links to the publisher', () =>
    traced(function* ({ one }) {
      const subscription = Subscription.make("s", Texts, () => Effect.void)
      yield* Effect.provideService(open(subscription), Tracing.ProcessSpan, "link")
      yield* Topic.publish(Texts, "x")
      yield* Subscription.awaitIdle(subscription)
      const [send, process] = [one("send"), one("process")]
      assert.strictEqual(parentOf(process), undefined)
      assert.notStrictEqual(process.traceId, send.traceId)
      assert.deepStrictEqual(linksOf(process), [send.spanId])
    })
  )

  it.effect.each([1, 3])(
    "a batch of %d links to each publisher, and counts its messages where they are several",
    (size) =>
      traced(function* ({ named, one }) {
        const subscription = Subscription.batch("s", Texts, () => Effect.void, { size, within: 0, from: "beginning" })
        for (let i = 0; i < size; i++) yield* Topic.publish(Texts, `m${i}`)
        yield* open(subscription)
        yield* Subscription.awaitIdle(subscription)
        const process = one("process")
        assert.deepStrictEqual(
          linksOf(process),
          named("send").map((span) => span.spanId)
        )
        assert.strictEqual(parentOf(process), undefined)
        assert.strictEqual(process.attributes.get("messaging.batch.message_count"), size === 1 ? undefined : size)
        assert.strictEqual(process.attributes.has("messaging.message.id"), size === 1)
      })
  )

  it.effect("settlements that go together share one span, with a link to each publisher", () => {
    const slow = withConsumers(({ settle }) => ({
      settle: (all) => Effect.andThen(Effect.sleep("1 second"), settle(all))
    }))
    return traced(function* ({ named }) {
      const gate = yield* Latch.make()
      const subscription = Subscription.make("s", Texts, () => gate.await, { concurrency: 10, from: "beginning" })
      for (let i = 0; i < 10; i++) yield* Topic.publish(Texts, `m${i}`)
      yield* open(subscription)
      yield* settled
      yield* gate.open
      yield* passing("1 second")(Subscription.awaitIdle(subscription))
      yield* settled
      assert.deepStrictEqual(
        named("settle").map(({ links }) => links.length),
        [10]
      )
      assert.deepStrictEqual(
        named("settle").map(({ attributes }) => attributes.get("messaging.batch.message_count")),
        [10]
      )
      assert.sameMembers(
        named("settle").flatMap(linksOf),
        named("send").map((span) => span.spanId)
      )
    }, layerWith(slow))
  })

  it.effect("publishAll is one span, which counts its messages", () =>
    traced(function* ({ one }) {
      const messages = yield* Topic.publishAll(Texts, ["a", "b", "c"])
      const send = one("send")
      assert.strictEqual(send.attributes.get("messaging.batch.message_count"), 3)
      assert.isFalse(send.attributes.has("messaging.message.id"))
      for (const { traceparent } of messages) assert.include(traceparent, send.spanId)
    })
  )

  it.effect("a publish that fails ends its span with the reason as error.type", () =>
    traced(
      function* ({ one }) {
        yield* Effect.flip(Topic.publish(Texts, "x"))
        const { status } = one("send")
        assert.strictEqual(errorTypeOf(one("send")), "Unknown")
        assert.isTrue(status._tag === "Ended" && Exit.isFailure(status.exit))
      },
      layerWith((self) => ({ ...self, publish: () => Effect.fail(unknown("publish")) }))
    )
  )
})
