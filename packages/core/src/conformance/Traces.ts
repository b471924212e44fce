/**
 * One trace from publish through every retry to the dead letter, and none where nobody listens.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Tracer from "effect/Tracer"
import { DeadLetters, Subscription, Topic, Transport } from "../index.ts"
import { Failure, onlyDeadLetter, texts } from "./Collect.ts"
import { type Category, type Kit, probe } from "./Kit.ts"

/** A tracer that keeps its spans. */
const recorder = () => {
  const spans: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return {
    named: (start: string) => spans.filter((span) => span.name.startsWith(start)),
    recording: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.provideService(self, Tracer.Tracer, tracer)
  }
}

const ended = (kit: Kit, what: string, spans: () => ReadonlyArray<Tracer.Span>, count: number) =>
  kit.eventually(
    `${count} spans ${what} have ended`,
    Effect.sync(() => spans().filter((span) => span.status._tag === "Ended").length >= count)
  )

const parentId = (span: Tracer.Span | undefined) =>
  span === undefined ? undefined : Option.getOrUndefined(Option.map(span.parent, (parent) => parent.spanId))

export const traces: Category = (kit) => {
  kit.test("12. publish is a producer span send {topic}, handling a consumer span process {topic}, its child", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const { named, recording } = recorder()
      const subscription = Subscription.make("s", topic, seen.handler())
      yield* recording(kit.open(subscription))
      const published = yield* recording(Topic.publish(topic, "x"))
      const call = yield* kit.next(seen)
      yield* kit.idle(subscription)
      yield* ended(kit, "process", () => named("process"), 1)
      const [send] = named("send")
      const [process] = named("process")
      if (send === undefined || process === undefined) return assert.fail("spans of both")
      assert.strictEqual(send.name, `send ${topic.topic}`)
      assert.strictEqual(process.name, `process ${topic.topic}`)
      assert.strictEqual(send.kind, "producer")
      assert.strictEqual(process.kind, "consumer")
      assert.strictEqual(process.traceId, send.traceId)
      assert.strictEqual(parentId(process), send.spanId)
      assert.strictEqual(process.attributes.get("messaging.destination.name"), call.stream)
      assert.strictEqual(process.attributes.get("messaging.consumer.group.name"), "s")
      assert.strictEqual(process.attributes.get("messaging.message.id"), published.id)
      assert.strictEqual(process.attributes.get("messaging.system"), (yield* Transport).system)
      assert.strictEqual(published.traceparent, `00-${send.traceId}-${send.spanId}-01`)
    })
  )

  kit.test("12. retries are spans of the first trace, at the retry log's name; failures carry error.type", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const { named, recording } = recorder()
      const handler = seen.handler(() => Effect.fail(new Failure({ message: "no" })))
      const subscription = Subscription.make("s", topic, handler, {
        retry: { maxRetries: 2, base: kit.ticks(1), jitter: 0 }
      })
      yield* recording(kit.open(subscription))
      yield* recording(Topic.publish(topic, "x"))
      const calls = yield* kit.take(seen, 3)
      yield* kit.idle(subscription)
      yield* ended(kit, "process", () => named("process"), 3)
      const spans = named("process")
      assert.strictEqual(spans.length, 3)
      assert.deepStrictEqual([...new Set(spans.map((span) => span.traceId))], [named("send")[0]?.traceId])
      const names = spans.map((span) => span.attributes.get("messaging.destination.name"))
      assert.deepStrictEqual(names.slice(1), [calls[1]?.stream, calls[2]?.stream])
      for (const span of spans) {
        assert.strictEqual(span.attributes.get("error.type"), "Failure")
        assert.isTrue(span.status._tag === "Ended" && Exit.isFailure(span.status.exit))
      }
      const letter = yield* onlyDeadLetter(subscription)
      assert.include(Result.getOrThrow(letter.message).traceparent ?? "", spans[0]?.traceId ?? "no trace")
    })
  )

  kit.test("12. a redriven message keeps its trace", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const { named, recording } = recorder()
      const handler = seen.handler(() => (seen.calls.length === 1 ? Effect.fail("no") : Effect.void))
      const subscription = Subscription.make("s", topic, handler, { retry: { maxRetries: 0 } })
      yield* recording(kit.open(subscription))
      yield* recording(Topic.publish(topic, "x"))
      yield* kit.idle(subscription)
      yield* DeadLetters.redrive(subscription)
      yield* kit.idle(subscription)
      yield* ended(kit, "process", () => named("process"), 2)
      assert.strictEqual(new Set(named("process").map((span) => span.traceId)).size, 1)
      assert.strictEqual(seen.calls[1]?.message.traceparent, seen.calls[0]?.message.traceparent)
    })
  )

  kit.test("12. a message published inside a handler belongs to that handler's trace", () =>
    Effect.gen(function* () {
      const first = kit.topic()
      const second = kit.topic()
      const seen = yield* probe()
      const { named, recording } = recorder()
      yield* recording(kit.open(Subscription.make("end", second, seen.handler())))
      yield* recording(
        kit.open(Subscription.make("s", first, ({ data }) => Effect.asVoid(Topic.publish(second, data))))
      )
      yield* recording(Topic.publish(first, "x"))
      yield* kit.next(seen)
      yield* ended(kit, "process", () => named("process"), 2)
      const [send1, send2] = named("send")
      const process1 = named(`process ${first.topic}`)[0]
      assert.strictEqual(send2?.traceId, send1?.traceId)
      assert.strictEqual(parentId(send2), process1?.spanId)
      assert.strictEqual(parentId(named(`process ${second.topic}`)[0]), send2?.spanId)
    })
  )

  kit.test("12. what is published inside a caller's span is its child", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const { named, recording } = recorder()
      yield* recording(Effect.withSpan(Topic.publishAll(topic, texts(3)), "checkout"))
      const [checkout] = named("checkout")
      for (const send of named("send")) assert.strictEqual(parentId(send), checkout?.spanId)
      assert.isAtLeast(named("send").length, 1)
    })
  )

  kit.test("12. a settlement is a span, linked to what it settles", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const seen = yield* probe()
      const { named, recording } = recorder()
      const subscription = Subscription.make("s", topic, seen.handler())
      yield* recording(kit.open(subscription))
      yield* recording(Topic.publish(topic, "x"))
      yield* kit.idle(subscription)
      yield* ended(kit, "settle", () => named("settle"), 1)
      const links = named("settle").flatMap((span) => span.links.map((link) => link.span.traceId))
      assert.include(links, named("send")[0]?.traceId)
    })
  )

  kit.test("12. a batch is one span, linked to each producer's", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const { named, recording } = recorder()
      const subscription = Subscription.batch("s", topic, () => Effect.void, {
        size: 3,
        within: kit.ticks(1),
        concurrency: 1
      })
      yield* recording(kit.open(subscription))
      for (const data of texts(3)) yield* recording(Topic.publish(topic, data))
      yield* kit.idle(subscription)
      yield* ended(kit, "process", () => named("process"), 1)
      const linked = named("process").flatMap((span) => span.links.map((link) => link.span.spanId))
      for (const send of named("send")) assert.include(linked, send.spanId)
      // they may come apart, and a batch of one names its message instead
      const countOf = ({ attributes }: Tracer.Span) =>
        Number(
          attributes.get("messaging.batch.message_count") ?? (attributes.has("messaging.message.id") ? 1 : Number.NaN)
        )
      const counts = named("process").map(countOf)
      assert.strictEqual(
        counts.reduce((sum, count) => sum + count, 0),
        3
      )
    })
  )

  kit.test("12. while the tracer is Effect's default one, no span is made", () =>
    Effect.gen(function* () {
      const topic = kit.topic()
      const spans: Array<boolean> = []
      const seen = yield* probe()
      const handler = seen.handler(() =>
        Effect.map(Effect.exit(Effect.currentSpan), (exit) => void spans.push(Exit.isSuccess(exit)))
      )
      const subscription = Subscription.make("s", topic, handler)
      yield* kit.open(subscription)
      const published = yield* Topic.publish(topic, "x")
      yield* kit.idle(subscription)
      assert.deepStrictEqual(spans, [false])
      assert.isUndefined(published.traceparent)
      assert.isUndefined(seen.calls[0]?.message.traceparent)
    })
  )
}
