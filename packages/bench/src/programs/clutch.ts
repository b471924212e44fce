/**
 * Clutch, as its users write it: default options, Schema decode, metrics on, fenced acks, no tracer.
 */
// oxlint-disable-next-line import/no-unassigned-import -- it is a switch
import "effect/schema/SchemaJITCompiler/enable"
import { Delivery, Subscription, Topic } from "@clutch/core"
import { Reclaimer } from "@clutch/core/Reclaimer"
import type { Transport } from "@clutch/core/Transport"
import { RedisClient, RedisTransport } from "@clutch/redis"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { type Figures, type Job, type Program, type TaskOf, url } from "../job.ts"
import { type Order, Order as OrderSchema, group, main, namespace, orders, warm } from "../message.ts"
import { countdown, meter } from "../meter.ts"

export const topicOf = (name: string): Topic.Topic<Order> => Topic.make(name, { schema: OrderSchema })

type Clutch = Layer.Layer<Transport | Reclaimer, unknown>

export const layer = async (job: Job): Promise<Clutch> => {
  if (job.contestant === "clutch") return RedisTransport.layer({ url: url(job), namespace })
  const { Redis } = await import("iovalkey")
  const client = RedisClient.layerFactory(
    () =>
      new Redis({
        host: "127.0.0.1",
        port: job.port,
        lazyConnect: true,
        maxRetriesPerRequest: 0,
        autoResendUnfulfilledCommands: false,
        enableOfflineQueue: false,
        autoResubscribe: false
      })
  )
  return Reclaimer.layer.pipe(Layer.provideMerge(RedisTransport.layerClient({ namespace })), Layer.provide(client))
}

/**
 * Runs an effect with Clutch around it, and closes all of it. A failure is a line in the log, which nobody else here
 * writes: it is left out, or writing it would be what is measured.
 */
export const run = async <A>(
  job: Job,
  body: Effect.Effect<A, unknown, Transport | Reclaimer | Scope.Scope>,
  around: (layer: Clutch) => Clutch = (layer) => layer
): Promise<A> => {
  const provided = around(await layer(job)).pipe(Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Fatal")))
  return Effect.runPromise(body.pipe(Effect.scoped, Effect.provide(provided)))
}

/** Subscribes and waits for what the handler is counted for. `close` ends it; what is left then is a mistake. */
export const subscribed = <E, R>(subscription: Subscription.Subscription<Order, E, R>, until: Promise<unknown>) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const handle = yield* Scope.provide(Subscription.subscribe(subscription), scope)
    yield* Effect.raceFirst(
      Effect.promise(() => until),
      handle.join
    )
    const close = Effect.gen(function* () {
      yield* Scope.close(scope, Exit.void)
      const { due, pending } = yield* Subscription.stats(subscription)
      if (pending + due > 0) return yield* Effect.die(`${pending} deliveries and ${due} retries were left`)
    })
    return { close }
  })

/** The same subscription on two topics: one that warms up, one that is measured. `next` begins either. */
export const measured = <E>(
  job: Job,
  subscribe: (topic: string, one: () => void) => Subscription.Subscription<Order, E, never>,
  options: { readonly around?: (layer: Clutch) => Clutch; readonly next?: () => Promise<void> } = {}
): Promise<Figures> =>
  run(
    job,
    Effect.gen(function* () {
      const clock = yield* Effect.promise(() => meter(job))
      const next = options.next ?? (() => Promise.resolve())
      const before = countdown(job.warmup)
      yield* Effect.promise(next)
      const first = yield* subscribed(subscribe(warm, before.one), before.all)
      yield* first.close
      const counted = countdown(job.messages)
      const subscription = subscribe(main, counted.one)
      yield* Effect.promise(clock.begin)
      yield* Effect.promise(next)
      const second = yield* subscribed(subscription, counted.all)
      const figures = yield* Effect.promise(() => clock.end(job.messages))
      yield* second.close
      return figures
    }),
    options.around
  )

/** What a handler does: nothing, or one promise. */
const work = (handler: "noop" | "hop", one: () => void) => {
  const noop = Effect.sync(one)
  const hop = Effect.promise(async () => {
    await Promise.resolve()
    one()
  })
  return () => (handler === "noop" ? noop : hop)
}

/** A tracer that keeps nothing: what is left is the cost of making spans. */
const traced = Layer.succeed(Tracer.Tracer, Tracer.make({ span: (options) => new Tracer.NativeSpan(options) }))

const consume = (job: Job<TaskOf<"consume">>) =>
  measured(
    job,
    (topic, one) =>
      Subscription.make(group, topicOf(topic), work(job.task.handler, one), {
        concurrency: job.task.concurrency,
        from: "beginning"
      }),
    job.task.traced === true ? { around: (layer) => layer.pipe(Layer.provideMerge(traced)) } : {}
  )

const failOnce = (job: Job<TaskOf<"fail-once">>) =>
  measured(job, (topic, one) =>
    Subscription.make(
      group,
      topicOf(topic),
      () =>
        Effect.flatMap(Delivery, ({ attempt }) =>
          attempt === 1 ? Effect.fail("the first try fails") : Effect.sync(one)
        ),
      { concurrency: job.task.concurrency, from: "beginning", retry: { base: 0, jitter: 0 } }
    )
  )

const dead = (job: Job<TaskOf<"dead">>) => {
  const { attempts, concurrency, share } = job.task
  const every = Math.round(1 / share)
  return measured(job, (topic, one) => {
    const handled = Effect.sync(one)
    const failing = Effect.flatMap(Delivery, ({ attempt }) => {
      if (attempt === attempts) one()
      return Effect.fail("this one always fails")
    })
    return Subscription.make(group, topicOf(topic), ({ data }) => (data.number % every === 0 ? failing : handled), {
      concurrency,
      from: "beginning",
      retry: { maxRetries: attempts - 1, base: 0, jitter: 0 }
    })
  })
}

const chunks = (all: ReadonlyArray<Order>, size: number): Array<ReadonlyArray<Order>> =>
  Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.slice(i * size, (i + 1) * size))

/** Publishes to one topic to warm up, and to another to be measured. */
const publishing = (
  job: Job,
  publish: (topic: Topic.Topic<Order>, data: ReadonlyArray<Order>) => Effect.Effect<void, unknown, Transport>
): Promise<Figures> =>
  run(
    job,
    Effect.gen(function* () {
      const clock = yield* Effect.promise(() => meter(job))
      const data = orders(job.messages)
      yield* publish(topicOf(warm), data.slice(0, job.warmup))
      yield* Effect.promise(clock.begin)
      yield* publish(topicOf(main), data)
      return yield* Effect.promise(() => clock.end(job.messages))
    })
  )

export const publishBatches =
  (batch: number, inFlight: number) => (topic: Topic.Topic<Order>, data: ReadonlyArray<Order>) =>
    Effect.forEach(chunks(data, batch), (some) => Topic.publishAll(topic, some), {
      concurrency: inFlight,
      discard: true
    })

export const program: Program = {
  consume,
  "fail-once": failOnce,
  dead,
  "publish-batches": (job) => publishing(job, publishBatches(job.task.batch, job.task.inFlight)),
  "publish-single": (job) =>
    publishing(job, (topic, data) => {
      // each takes the next one, as the other programs do: all walk through memory alike
      const next = data.values()
      const fiber = Effect.forEach(next, (one) => Topic.publish(topic, one), { discard: true })
      return Effect.all(
        Array.from({ length: job.task.fibers }, () => fiber),
        { concurrency: "unbounded", discard: true }
      )
    })
}
