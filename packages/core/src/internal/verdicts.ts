/** What becomes of a delivery, said once: the outcome, the count and the log line of it. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Random from "effect/Random"
import * as RetryPolicy from "../RetryPolicy.ts"
import type { Outcome } from "../Transport.ts"
import * as failure from "./failure.ts"
import type { Handling } from "./handling.ts"
import type { Log, Observer } from "./observe.ts"
import type { Policy } from "./policy.ts"

export interface Options {
  readonly policy: Policy
  readonly observer: Observer
  readonly context: Context.Context<never>
  readonly settle: (handling: Handling, outcome: Outcome) => void
  readonly log: Log
}

export interface Verdicts {
  readonly failed: (handling: Handling, cause: Cause.Cause<unknown>) => void
  readonly poison: (handling: Handling, problem: string) => void
  /** Its consumers died so often that no attempt is left. */
  readonly worn: (handling: Handling) => void
  /** The handler chose the outcome itself. */
  readonly chosen: (handling: Handling, outcome: Outcome) => void
  /** What `Delivery.retry` means. It was asked for, so no policy is asked whether it is worth it. */
  readonly retry: (
    handling: Handling,
    after: Duration.Duration | undefined,
    cause: Cause.Cause<unknown> | undefined
  ) => Outcome
}

export const make = ({ context, log, observer, policy, settle }: Options): Verdicts => {
  const random = Context.get(context, Random.Random)

  /** Without dead letters, what would become one is acked, loudly. */
  const bury = (
    handling: Handling,
    letter: Outcome & { readonly _tag: "DeadLetter" },
    cause?: Cause.Cause<unknown>
  ) => {
    const kept = policy.deadLetters
    const end = kept ? "dead-lettered" : "dropped, as the subscription keeps no dead letters"
    log(handling, "Error", `message ${end}: ${letter.reason}`, cause ?? letter.cause)
    if (!kept) observer.dropped()
    settle(handling, kept ? letter : { _tag: "Ack" })
  }

  const backoff = (attempt: number) => RetryPolicy.delay(policy.retry, attempt, random.nextDoubleUnsafe())

  const decide = (handling: Handling, cause: Cause.Cause<unknown>): Outcome => {
    try {
      return failure.decide(policy, cause, handling.attempt, random.nextDoubleUnsafe())
    } catch (thrown) {
      // a predicate that throws, or an error that cannot even be looked at, says nothing: it is a failure like any other
      const text = `${failure.describe(cause)}\n${failure.describe(Cause.die(thrown))}`
      return failure.retryOrExhausted(policy, handling.attempt, backoff(handling.attempt), text)
    }
  }

  return {
    failed: (handling, cause) => {
      if (handling.outcome !== undefined) {
        log(handling, "Warn", "the handler failed after it had settled, which changes nothing", cause)
        return
      }
      if (policy.ack === "onExit") {
        log(handling, "Error", `the handler failed; ack "onExit" acks it all the same`, cause)
        return settle(handling, { _tag: "Ack" })
      }
      const outcome = decide(handling, cause)
      if (outcome._tag === "DeadLetter") return bury(handling, outcome, cause)
      log(handling, "Warn", "the handler failed; the message will be tried again", cause)
      settle(handling, outcome)
    },
    poison: (handling, problem) => {
      observer.poison()
      bury(handling, { _tag: "DeadLetter", reason: "poison", cause: problem, attempts: handling.attempt })
    },
    worn: (handling) => {
      const cause = `its consumer died ${handling.entry.reclaims} times while it held this message`
      // this delivery is no attempt, and neither were those whose workers died before they could say so here
      const counted = handling.attempt - 1
      const others = counted - handling.entry.reclaims
      const attempts = Math.min(counted, Math.max(failure.maxAttempts(policy), others))
      bury(handling, { _tag: "DeadLetter", reason: "exhausted", cause, attempts })
    },
    chosen: (handling, outcome) =>
      outcome._tag === "DeadLetter" ? bury(handling, outcome) : settle(handling, outcome),
    retry: ({ attempt }, after, cause) => {
      const delay = after ?? backoff(attempt)
      const why = cause === undefined ? "the handler asked for a retry" : failure.describe(cause)
      return failure.retryOrExhausted(policy, attempt, delay, why)
    }
  }
}
