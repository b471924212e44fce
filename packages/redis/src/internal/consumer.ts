/**
 * Joining a group, and what a member can do.
 */
import type { Consumer, Entry, JoinOptions, Settlement } from "@clutch/core/Transport"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scripts from "../Scripts.ts"
import * as Blocking from "./blocking.ts"
import { enter } from "./enter.ts"
import { isGone } from "./errors.ts"
import { extend } from "./extend.ts"
import { leave, patience } from "./member.ts"
import type { Member } from "./member.ts"
import * as Reader from "./reader.ts"
import { settle } from "./settle.ts"
import type { Shared } from "./shared.ts"
import { pause } from "./time.ts"

/** Releases what is held from memory: of what was trimmed, the server has nothing to give back. */
const giveUp = (member: Member): Effect.Effect<void> =>
  Effect.suspend(() => {
    const release = (entry: Entry) => ({ entry, outcome: { _tag: "Release" }, repeated: false }) as const
    const [first, ...rest] = member.held.all().map(release)
    if (first === undefined) return Effect.void
    return Effect.asVoid(Effect.timeoutOption(Effect.ignore(settle(member, [first, ...rest])), patience))
  })

const isRelease = ({ outcome }: Settlement) => outcome._tag === "Release"

const backoff = (times: number) => Math.min(100 * 2 ** times, 5000)

/** Until the pending lists were compared once since the last connect; a fetch compares them before it reads. */
const recovering = (member: Member, reader: Reader.Reader, times = 0): Effect.Effect<void> =>
  Effect.catch(reader.review, (error) =>
    // the next connect begins anew, and a group that is gone has nothing to compare
    error.reason._tag === "Refused" || isGone(error) || !member.client.isReady()
      ? Effect.void
      : Effect.andThen(pause(backoff(times)), recovering(member, reader, times + 1))
  )

export const join = Effect.fnUntraced(function* (shared: Shared, options: JoinOptions) {
  const { keep, member } = yield* enter(shared, options, {
    ordered: false,
    exit: (member) => Effect.andThen(giveUp(member), leave(member))
  })
  const { client, keys } = member

  const blocking = options.ownConnection
    ? yield* Blocking.open(shared.client, { client, key: keys.main, recent: Infinity })
    : shared.blocking
  const reader = Reader.make(member, blocking, shared.looks)
  const fork = Effect.runForkWith(yield* Effect.context<never>())
  const scope = yield* Effect.scope
  const reconnected = () => {
    reader.suspect()
    reader.ring("listening")
    Fiber.runIn(fork(recovering(member, reader)), scope)
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => client.onReady(reconnected)),
    (stop) => Effect.sync(stop)
  )
  yield* Effect.addFinalizer(() => Effect.timeoutOption(reader.close, patience))
  yield* shared.bell.register(keys.bell, reader.ring, reader.heeds)
  yield* shared.enlist(member)

  return {
    name: member.consumer,
    keep,
    fetch: reader.fetch,
    settle: (settlements) => {
      // a reader that gave something back finds it before what is new
      if (settlements.some(isRelease)) reader.expect()
      return settle(member, settlements)
    },
    extend: (entries) => extend(member, entries),
    mark: (origin, id) =>
      Effect.asVoid(client.run(Scripts.mark, { keys, consumer: member.consumer, origin, started: id }))
  } satisfies Consumer
})
