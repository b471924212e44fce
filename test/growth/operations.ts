/** The calls whose cost must not grow, each with what of the log may grow around it. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Redis } from "ioredis"
import {
  backlog,
  batch,
  fetch,
  group,
  type Lab,
  letters,
  type Operation,
  overdue,
  pending,
  publish,
  released,
  scheduled,
  scheduledLater,
  settle
} from "./lab.ts"

const run = <A, E>(effect: Effect.Effect<A, E>): Promise<A> => Effect.runPromise(effect)

const operation = <A, B>(
  name: string,
  prepare: (lab: Lab) => Promise<A>,
  call: (lab: Lab, prepared: A) => Promise<B>,
  after?: (lab: Lab, prepared: A, result: B) => Promise<unknown>
): Operation => ({ name, prepare, call, after }) as Operation // what is prepared comes back to who asked for it

const nothing = async () => {}

/** What takes microseconds is done so often, one after the other, that they can be told apart. */
const times = 20
const often =
  <A>(call: (lab: Lab, prepared: A) => Promise<unknown>) =>
  async (lab: Lab, prepared: A) => {
    for (let i = 0; i < times; i++) await call(lab, prepared)
  }
const ack = { _tag: "Ack" } as const
const release = { _tag: "Release" } as const
const retry = { _tag: "Retry", delay: Duration.hours(1), cause: "no" } as const
const dead = { _tag: "DeadLetter", reason: "exhausted", cause: "no", attempts: 6 } as const

const some = (count: number) => async (lab: Lab) => {
  const page = await run(lab.transport.deadLetters.page(group, { after: undefined, limit: count }))
  return page.map(({ id }) => id)
}

/** Behind a call that takes dead letters away: else a small server runs out of them. */
const refilled = (lab: Lab, { length }: ReadonlyArray<string>) => letters(lab.redis, length)

const taken = async (lab: Lab) => {
  await publish(lab)
  return fetch(lab)
}

const operations = {
  publish: operation("publish", nothing, (lab) => publish(lab)),
  fetch: operation(
    "fetch",
    (lab) => publish(lab),
    (lab) => fetch(lab).then((entries) => settle(lab, entries, ack))
  ),
  ack: operation("ack", taken, (lab, entries) => settle(lab, entries, ack)),
  retry: operation("fail: retry", taken, (lab, entries) => settle(lab, entries, retry)),
  dead: operation("fail: dead letter", taken, (lab, entries) => settle(lab, entries, dead)),
  release: operation(
    "release",
    taken,
    (lab, entries) => settle(lab, entries, release),
    async (lab) => settle(lab, await fetch(lab), ack)
  ),
  take: operation(
    "take what was released",
    async (lab) => settle(lab, await taken(lab), release),
    (lab) => fetch(lab).then((entries) => settle(lab, entries, ack))
  ),
  takeMany: operation(
    "take",
    nothing,
    (lab) => fetch(lab),
    (lab, _, entries) => settle(lab, entries, release)
  ),
  extend: operation(
    "extend",
    taken,
    async (lab, [first, ...rest]) => {
      if (first === undefined) throw new Error("nothing is held")
      const lost = await run(lab.consumer.extend([first, ...rest]))
      if (lost.length > 0) throw new Error(`${lost.length} leases were lost`)
    },
    (lab, entries) => settle(lab, entries, ack)
  ),
  tend: operation(
    "tend",
    nothing,
    (lab) => run(lab.transport.tend(group)),
    (lab, _, { moved }) => {
      if (moved === 0) throw new Error("nothing was due")
      return overdue(lab.redis, moved)
    }
  ),
  tends: operation(
    `tend, ${times} times`,
    nothing,
    often((lab) => run(lab.transport.tend(group)))
  ),
  scan: operation(
    "tend: scan",
    (lab) => lab.another(),
    (_, transport) => run(transport.tend(group))
  ),
  inspect: operation(
    `stats, ${times} times`,
    nothing,
    often((lab) => run(lab.transport.inspect(group)))
  ),
  lastId: operation(
    `lastId, ${times} times`,
    nothing,
    often((lab) => run(lab.transport.lastId(group)))
  ),
  idle: operation(
    `awaitIdle: ${times} looks`,
    nothing,
    often((lab) =>
      run(
        Effect.flatMap(lab.transport.lastId(group), (through) =>
          lab.transport.outstanding(group, { through, due: "wait" })
        )
      )
    )
  ),
  /** Asked for what is older than everything that is left: all of it has to be read. */
  idleBefore: operation("awaitIdle: nothing older", nothing, async (lab) => {
    if (await run(lab.transport.outstanding(group, { through: "0-5", due: "wait" }))) throw new Error("it is not idle")
  }),
  join: operation(
    `join, ${times} times`,
    nothing,
    often((lab) => lab.join().then(({ leave }) => leave()))
  ),
  page: operation(`dead letters: page, ${times} times`, nothing, often(some(batch))),
  get: operation(
    `dead letters: get, ${times} times`,
    some(1),
    often((lab, [id]) =>
      run(lab.transport.deadLetters.get(group, id ?? "")).then((found) => {
        if (Option.isNone(found)) throw new Error("no such dead letter")
      })
    )
  ),
  count: operation(
    `dead letters: count, ${times} times`,
    nothing,
    often((lab) => run(lab.transport.deadLetters.count(group)))
  ),
  redrive: operation(
    "dead letters: redrive",
    some(batch),
    (lab, ids) => run(lab.transport.deadLetters.redrive(group, ids, Duration.hours(1))),
    refilled
  ),
  discard: operation(
    "dead letters: discard",
    some(batch),
    (lab, ids) => run(lab.transport.deadLetters.discard(group, ids)),
    refilled
  )
}

export interface Dimension {
  /** What there is more and more of. */
  readonly name: string
  readonly fill: (redis: Redis, size: number) => Promise<void>
  readonly operations: ReadonlyArray<Operation>
  /** The cost is told for each thousand of what there is: it cannot be flat. */
  readonly perThousand?: boolean | undefined
}

const o = operations
const work = [o.publish, o.fetch, o.ack, o.retry, o.dead, o.release, o.take, o.extend]
const looks = [o.scan, o.inspect, o.lastId, o.idle, o.join]

export const dimensions: ReadonlyArray<Dimension> = [
  // what is taken from a backlog are its oldest entries
  { name: "backlog", fill: backlog, operations: [...work, o.tends, ...looks] },
  { name: "pending of another", fill: (redis, size) => pending(redis, size), operations: [...work, ...looks] },
  { name: "released", fill: released, operations: [o.takeMany, ...looks] },
  { name: "retries due later", fill: scheduled, operations: [o.retry, o.tends, ...looks] },
  { name: "retries due now", fill: overdue, operations: [o.tend, o.retry, o.inspect, o.idle] },
  {
    name: "retries of later messages",
    fill: scheduledLater,
    operations: [o.idleBefore],
    perThousand: true
  },
  {
    name: "dead letters",
    fill: letters,
    operations: [o.dead, o.page, o.get, o.count, o.redrive, o.discard, o.inspect, o.join]
  }
]
