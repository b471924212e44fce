/**
 * A worker of an ordered group: who else is there, and how one of them comes to own the log.
 */
import type { TransportError } from "@clutch/core/Errors"
import type { EnrollOptions, Owner, Roster, Worker } from "@clutch/core/Transport"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import * as Scripts from "../Scripts.ts"
import { Claim } from "./claim.ts"
import { enter } from "./enter.ts"
import { reported } from "./errors.ts"
import { heal, insist, leave, patience, tellTrimmed } from "./member.ts"
import type { Member } from "./member.ts"
import * as Owners from "./owner.ts"
import type { Shared } from "./shared.ts"

/** How many keys that are held back are read at once. */
const page = 1000

/** How often a group is created again before an operation gives up. */
const maxHealed = 3

const vanishing = (operation: string) => reported(operation, "NOGROUP the group disappears again and again")

/** A worker, and the nonce of the claim that it lives by, if any. */
interface Standing {
  readonly member: Member
  claim: string | undefined
}

const roster = (worker: Standing, healed = 0): Effect.Effect<Roster, TransportError> => {
  const { claim, member } = worker
  const { consumer, keys } = member
  return Effect.flatMap(
    member.client.run(Scripts.roster, { keys, consumer, nonce: claim ?? "", holder: member.firstNonce }),
    (found) => {
      if (found === undefined) {
        if (healed === maxHealed) return Effect.fail(vanishing("roster"))
        return Effect.andThen(
          heal(member),
          Effect.suspend(() => roster(worker, healed + 1))
        )
      }
      member.seen = performance.now()
      return Effect.succeed({
        workers: found.workers,
        owner: Option.fromUndefinedOr(found.owner?.name),
        expires: Option.map(Option.fromUndefinedOr(found.owner?.expires), (left) => Duration.millis(left))
      })
    }
  )
}

/** Until nobody else holds anything; the fence, or none where another owns the log. */
const take = (claim: Claim, healed = 0): Effect.Effect<number | undefined, TransportError> =>
  Effect.flatMap(
    claim.member.client.run(Scripts.claim, { ...claim.proof, holder: claim.member.firstNonce }),
    (claimed) => {
      if (claimed === "taken") return Effect.succeed(undefined)
      if (claimed === "gone") {
        if (healed === maxHealed) return Effect.fail(vanishing("claim"))
        return Effect.andThen(heal(claim.member), take(claim, healed + 1))
      }
      const next = claimed.more ? take(claim, healed) : Effect.succeed(claimed.fence)
      return Effect.andThen(tellTrimmed(claim.member, claimed.trimmed), next)
    }
  )

/** What the log shows to its new owner: nobody but the owner changes it. */
const look = (member: Member): Effect.Effect<Pick<Owner, "heldBack" | "parked">, TransportError> =>
  member.client.attempt("claim", async () => {
    const heldBack: Array<{ readonly key: string; readonly since: number }> = []
    for (;;) {
      const from = heldBack.length
      const args = [member.keys.blocked, `${from}`, `${from + page - 1}`, "WITHSCORES"]
      const found = await member.client.submit("ZRANGE", args)
      const flat = Array.isArray(found) ? found : []
      for (let i = 0; i + 1 < flat.length; i += 2) heldBack.push({ key: String(flat[i]), since: Number(flat[i + 1]) })
      if (heldBack.length < from + page) break
    }
    return { heldBack, parked: Number(await member.client.submit("ZCARD", [member.keys.parked])) }
  })

/** Gives everything back, and the log. Where that cannot be done, the next look at who is there does it. */
const cede = (worker: Standing, claim: Claim): Effect.Effect<void> => {
  const { member } = claim
  const step: Effect.Effect<void, TransportError> = Effect.flatMap(
    member.client.run(Scripts.cede, claim.proof),
    ({ more, trimmed }) => Effect.andThen(tellTrimmed(member, trimmed), more ? step : Effect.void)
  )
  return Effect.map(insist(member, "cede", step), () => {
    if (worker.claim === claim.nonce) worker.claim = undefined
  })
}

const claiming = (shared: Shared, worker: Standing): Effect.Effect<Option.Option<Owner>, TransportError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const { member } = worker
      const claim = new Claim(member, randomUUID())
      worker.claim = claim.nonce
      const found = yield* restore(
        Effect.flatMap(take(claim), (fence) =>
          fence === undefined ? Effect.succeed(undefined) : Effect.map(look(member), (shown) => ({ ...shown, fence }))
        )
        // a claim whose reply was lost may stand
      ).pipe(
        Effect.onExit((exit) =>
          Exit.isFailure(exit)
            ? Effect.ensuring(
                cede(worker, claim),
                Effect.sync(() => member.doubt())
              )
            : Effect.void
        )
      )
      if (found === undefined) {
        if (worker.claim === claim.nonce) worker.claim = undefined
        return Option.none()
      }
      // by which the worker leaves
      member.nonce = claim.nonce
      const owner = Owners.make(claim, shared.looks)
      yield* Effect.addFinalizer(() => Effect.andThen(Effect.timeoutOption(owner.close, patience), cede(worker, claim)))
      const stop = member.client.onReady(() => void owner.ring("listening"))
      yield* Effect.addFinalizer(() => Effect.sync(stop))
      yield* shared.attend
      yield* shared.bell.register(member.keys.bell, owner.ring, owner.heeds)
      const { extend, fetch, mark, settle } = owner
      return Option.some({ ...found, fetch, settle, extend, mark })
    })
  )

export const enroll = Effect.fnUntraced(function* (shared: Shared, options: EnrollOptions) {
  const { keep, member } = yield* enter(shared, options, { ordered: true, exit: leave })
  const worker: Standing = { member, claim: undefined }
  return {
    name: member.consumer,
    keep,
    roster: Effect.suspend(() => roster(worker)),
    rest: member.client.run(Scripts.rest, { keys: member.keys, consumer: member.consumer, holder: member.firstNonce }),
    watch: (changed) =>
      shared.bell.register(member.keys.owners, () => {
        changed()
        return false
      }),
    claim: claiming(shared, worker)
  } satisfies Worker
})
