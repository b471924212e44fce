/** `onDeadLetter`: told of a dead letter after the log has it. Whatever becomes of the telling, the letter stays. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Source } from "../Source.ts"
import type { Group, Transport } from "../Transport.ts"
import { anEffect } from "./anEffect.ts"
import type { Handling } from "./handling.ts"
import { letter } from "./letter.ts"
import { type Log, traceContext } from "./observe.ts"
import type { Policy } from "./policy.ts"

export interface Options {
  readonly policy: Policy
  readonly source: Source<unknown>
  readonly group: Group
  readonly transport: Transport["Service"]
  readonly context: Context.Context<never>
  readonly log: Log
}

export interface Hooks {
  readonly deadLettered: (handling: Handling, id: string) => void
  /** Waits until all have been told. */
  readonly idle: Effect.Effect<void>
  readonly close: Effect.Effect<void>
}

const patience = Schedule.exponential("100 millis").pipe(Schedule.upTo({ times: 5 }))

export const make = ({ context, group, log, policy, source, transport }: Options): Hooks => {
  const running = new Set<Fiber.Fiber<void>>()
  const tell = policy.onDeadLetter
  if (tell === undefined) return { deadLettered: () => {}, idle: Effect.void, close: Effect.void }
  return {
    deadLettered: (handling, id) => {
      const told = transport.deadLetters.get(group, id).pipe(
        Effect.retry(patience),
        Effect.flatMap(
          Option.match({
            // redriven or discarded before anybody could be told
            onNone: () => Effect.void,
            onSome: (entry) =>
              Effect.asVoid(
                Effect.suspend(() =>
                  anEffect("onDeadLetter", tell(letter(source, { namespace: transport.namespace, group }, entry)))
                )
              )
          })
        ),
        Effect.scoped,
        Effect.catchCause((cause) =>
          Effect.sync(() => log(handling, "Error", "onDeadLetter failed; the dead letter stays", cause))
        )
      ) as Effect.Effect<void> // what it requires is in the context that was captured where the subscription was started
      const fiber = Effect.runForkWith(traceContext(context, handling.message))(told)
      running.add(fiber)
      fiber.addObserver(() => running.delete(fiber))
    },
    idle: Effect.suspend(() => Effect.asVoid(Fiber.awaitAll([...running]))),
    close: Effect.suspend(() => Fiber.interruptAll([...running]))
  }
}
