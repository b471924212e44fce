/**
 * Effect's PersistedQueue on Redis, with the client of `@effect/platform-node`: as many fibers take as the row's
 * concurrency, and the store has its default options.
 */
import * as NodeRedis from "@effect/platform-node/NodeRedis"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { PersistedQueue } from "effect/persistence"
import { type Figures, type Job, type Program, url } from "../job.ts"
import { Order, main, orders, warm } from "../message.ts"
import { countdown, meter } from "../meter.ts"

const layer = (job: Job) =>
  PersistedQueue.layer.pipe(
    Layer.provide(PersistedQueue.layerStoreRedis()),
    Layer.provide(NodeRedis.layer({ url: url(job) }))
  )

const queueOf = (name: string) => PersistedQueue.make({ name, schema: Order })

const offer = (queue: PersistedQueue.PersistedQueue<Order>, data: ReadonlyArray<Order>, width: number) =>
  Effect.forEach(data, (one) => queue.offer(one), { concurrency: width, discard: true })

const consume = (job: Job, concurrency: number) =>
  Effect.gen(function* () {
    const clock = yield* Effect.promise(() => meter(job))
    const work = (name: string, count: number) =>
      Effect.gen(function* () {
        const queue = yield* queueOf(name)
        const counted = countdown(count)
        const handled = Effect.sync(counted.one)
        const taking = Effect.forever(queue.take(() => handled))
        yield* Effect.raceFirst(
          Effect.promise(() => counted.all),
          Effect.all(
            Array.from({ length: concurrency }, () => taking),
            { concurrency: "unbounded", discard: true }
          )
        )
      })
    yield* offer(yield* queueOf(warm), orders(job.warmup), 256)
    yield* offer(yield* queueOf(main), orders(job.messages), 256)
    yield* work(warm, job.warmup)
    yield* Effect.promise(clock.begin)
    yield* work(main, job.messages)
    return yield* Effect.promise(() => clock.end(job.messages))
  })

const publish = (job: Job, width: number) =>
  Effect.gen(function* () {
    const clock = yield* Effect.promise(() => meter(job))
    const data = orders(job.messages)
    yield* offer(yield* queueOf(warm), data.slice(0, job.warmup), width)
    const queue = yield* queueOf(main)
    yield* Effect.promise(clock.begin)
    yield* offer(queue, data, width)
    return yield* Effect.promise(() => clock.end(job.messages))
  })

const run = (job: Job, body: Effect.Effect<Figures, unknown, PersistedQueue.PersistedQueueFactory>): Promise<Figures> =>
  Effect.runPromise(Effect.provide(body, layer(job)))

export const program: Program = {
  consume: (job) => run(job, consume(job, job.task.concurrency)),
  "publish-batches": (job) => run(job, publish(job, job.task.batch)),
  "publish-single": (job) => run(job, publish(job, job.task.fibers))
}
