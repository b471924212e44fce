/** What the cases on several servers share: a worker whose log lines are kept, and a publisher that remembers what was confirmed. */
import { Topic, type Transport } from "@clutch/core"
import type { RedisTransport } from "@clutch/redis"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Redis } from "ioredis"
import { as, clients, collecting, type Line, recorder, type Recorder, until, worker } from "../cases/kit.ts"
import type { Member } from "../support/cluster.ts"

export interface Running {
  readonly run: ReturnType<typeof as>
  readonly seen: Recorder
  readonly lines: ReadonlyArray<Line>
}

/** A worker and what it logged, from the layer on. */
export const logged = (options: RedisTransport.Options): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { layer, lines } = collecting()
    const logging = yield* Layer.build(layer)
    const context = yield* Effect.provide(worker(options), logging)
    const provided = as(context)
    return { run: (self) => Effect.provide(provided(self), logging), seen: recorder(), lines }
  })

/** Lines about the state of loops, in order: what fails, and what works again. */
export const changes = (lines: ReadonlyArray<Line>): ReadonlyArray<string> =>
  lines.flatMap(({ text }) => /^(.*?) (?:is failing and goes on trying|works again)/.exec(text)?.[0] ?? [])

/** Publishes one after the other until it is told to stop; what was confirmed, by its data. */
export const publishing = (
  topics: ReadonlyArray<Topic.Topic<string>>,
  options: Topic.PublishOptions,
  run: Running["run"]
): Effect.Effect<
  { readonly confirmed: ReadonlyArray<string>; readonly failed: ReadonlyArray<string>; readonly stop: () => void },
  never,
  Scope.Scope
> =>
  Effect.gen(function* () {
    const confirmed: Array<string> = []
    const failed: Array<string> = []
    let stopped = false
    const go = (topic: Topic.Topic<string>, n: number): Effect.Effect<void, never, Transport> =>
      Effect.suspend(() => {
        if (stopped) return Effect.void
        const data = `${topic.topic}-${n}`
        return Topic.publish(topic, data, options).pipe(
          Effect.matchEffect({
            onSuccess: () => Effect.sync(() => void confirmed.push(data)),
            onFailure: (error) => Effect.sync(() => void failed.push(error.reason._tag))
          }),
          Effect.andThen(Effect.sleep(2)),
          Effect.andThen(Effect.suspend(() => go(topic, n + 1)))
        )
      })
    for (const topic of topics) yield* Effect.forkScoped(run(go(topic, 0)))
    return { confirmed, failed, stop: () => void (stopped = true) }
  })

/** Until each of these was handled. */
export const handled = (seen: Recorder, all: ReadonlyArray<string>) => {
  const missing = () => {
    const had = new Set(seen.data())
    return all.filter((data) => !had.has(data))
  }
  return until(
    () => `handled: ${missing().length} of ${all.length} are missing, such as ${missing().slice(0, 3).join()}`,
    () => missing().length === 0,
    30_000
  )
}

/** The names of the connections that each server has of a client. */
export const connections = (members: ReadonlyArray<Member>, name: string) =>
  Effect.promise(() =>
    Promise.all(
      members
        .filter(({ server }) => server.isRunning())
        .map(async ({ redis }: { readonly redis: Redis }) =>
          (await clients(redis, name)).map((client) => (client["name"] ?? "").slice(name.length + 1)).toSorted()
        )
    )
  )
