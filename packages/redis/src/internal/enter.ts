/**
 * Entering a group, which is undone as if it had never been unless it is kept.
 */
import { InvalidOption, TransportError } from "@clutch/core/Errors"
import type { EnrollOptions } from "@clutch/core/Transport"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Keys from "../RedisKeys.ts"
import { duplicate, Member, rollback } from "./member.ts"
import { recordAgain } from "./partitions.ts"
import type { Shared } from "./shared.ts"

/** `exit` is how a place that was kept is left, when the scope closes. */
export const enter = Effect.fnUntraced(function* (
  shared: Shared,
  options: EnrollOptions,
  how: { readonly ordered: boolean; readonly exit: (member: Member) => Effect.Effect<void> }
) {
  const { from } = options
  if (typeof from === "object" && "id" in from && !/^\d{1,20}(-\d{1,20})?$/.test(from.id)) {
    const problem = `${JSON.stringify(from)} holds no entry id: give one of the form "1700000000000-0"`
    return yield* new TransportError({ operation: "join", reason: new InvalidOption({ option: "from", problem }) })
  }
  const keys = Keys.group(shared.namespace, options.group)
  const client = shared.client.at(keys.main)
  if (!client.isReady()) return yield* client.unavailable("join")
  const member = new Member({
    client,
    clock: yield* shared.clockOf(client),
    codec: shared.codec,
    group: options.group,
    keys,
    consumer: options.consumer ?? shared.nextConsumer(),
    visibilityTimeout: Duration.toMillis(options.visibilityTimeout),
    from: options.from,
    ordered: how.ordered,
    leaving: shared.leaving,
    // the next one finds a group, and nothing to record: what cannot be done now is left
    recreated: () => recordAgain(shared, options.group.topic).catch(() => {})
  })
  let state: "outside" | "uncertain" | "joined" | "kept" = "outside"

  yield* Effect.addFinalizer(() => {
    if (state === "outside") return Effect.void
    return state === "kept" ? how.exit(member) : rollback(member)
  })
  const { taken } = yield* client
    .attempt("join", () => {
      state = "uncertain"
      return member.first()
    })
    .pipe(
      // refused or not possible: the script changed nothing
      Effect.tapError((error) =>
        Effect.sync(() => {
          if (error.reason._tag !== "Unknown") state = "outside"
        })
      )
    )
  if (taken) {
    state = "outside"
    return yield* duplicate(member)
  }
  state = "joined"
  return {
    member,
    keep: () => {
      state = "kept"
    }
  }
})
