/** Breaks of the runtime, which is the same over every log. */
import type { Guard, Mutation } from "./mutation.ts"

const conformance = (test: string): Guard => ({ project: "unit", file: "test/conformance/memory.test.ts", test })
const unit = (file: string, test: string): Guard => ({
  project: "unit",
  file: `test/core/internal/${file}.test.ts`,
  test
})

const order = (test: string): Guard => ({ project: "unit", file: "test/core/Subscription.order.test.ts", test })

const edit = (file: string, find: string, replace: string) => ({ file: `packages/core/src/${file}`, find, replace })

export const runtime: ReadonlyArray<Mutation> = [
  {
    name: "ack-before-handler",
    edits: [edit("internal/handlers.ts", `policy.ack === "onReceive" ?`, `policy.ack !== "manual" ?`)],
    killedBy: conformance("1. onExit acks after the handler: nothing is lost when its worker dies meanwhile")
  },
  {
    name: "ack-of-a-failure",
    edits: [
      edit(
        "internal/lane.ts",
        `if (how._tag === "Failed") verdict.failed(handling, how.cause)`,
        `if (how._tag === "Failed") settle(handling, acked)`
      )
    ],
    killedBy: conformance("4. with maxRetries = n there are exactly n + 1 calls")
  },
  {
    name: "one-attempt-too-many",
    edits: [edit("internal/failure.ts", `attempt < maxAttempts(policy)`, `attempt <= maxAttempts(policy)`)],
    killedBy: conformance("4. with maxRetries = n there are exactly n + 1 calls")
  },
  {
    name: "worn-out-handled",
    edits: [
      edit(
        "internal/lane.ts",
        `else if (entry.attempt > maxAttempts(policy)) verdict.worn(handling)`,
        `else if (entry.attempt > 1000) verdict.worn(handling)`
      )
    ],
    killedBy: conformance("4. a message whose worker dies every time is dead-lettered after n + 1 attempts")
  },
  {
    name: "closing-is-a-failure",
    edits: [
      edit(
        "internal/handlers.ts",
        `return handlings[0].closing && isInterrupted(exit)`,
        `return handlings.length === 0 && isInterrupted(exit)`
      )
    ],
    killedBy: conformance("1. interruption by the closing subscription is neither a failure nor an ack")
  },
  {
    name: "own-end-not-noted",
    edits: [edit("internal/handlers.ts", `Effect.timeoutOrElse(noted, {`, `Effect.timeoutOrElse(handler, {`)],
    killedBy: {
      project: "unit",
      file: "test/core/Subscription.closing.test.ts",
      test: "a handler that fails though closing has interrupted it has failed, with"
    }
  },
  {
    name: "goes-on-out-of-order",
    edits: [edit("internal/keyOrder.ts", `        this.isAstray = true\n`, ``)],
    killedBy: order("9. where the group disappears, what is published next waits for what comes again before it")
  },
  {
    name: "closing-waits-for-nobody",
    edits: [
      edit(
        "internal/lane.ts",
        `Effect.raceFirst(Effect.andThen(nothingRuns.await, hook.idle), over.await),`,
        `Effect.void,`
      )
    ],
    killedBy: conformance("1. closing waits for the handlers in flight, and their success is acked")
  },
  {
    name: "lost-partition-waited-for",
    edits: [edit("internal/lane.ts", `    over.openUnsafe()\n`, ``)],
    killedBy: order("7. a handler past maxLease stops the other keys of its partition for no drainTimeout")
  },
  {
    name: "jitter-downward",
    edits: [edit("RetryPolicy.ts", `grown * (1 + self.jitter * random)`, `grown * (1 - self.jitter * random)`)],
    killedBy: conformance("5. jitter only ever adds, up to its share, and is capped last")
  },
  {
    name: "do-not-retry-retried",
    edits: [
      edit(
        "internal/failure.ts",
        `if (error.value instanceof DoNotRetry) {`,
        `if (error.value instanceof DoNotRetry && attempt > 1000) {`
      )
    ],
    killedBy: conformance("5. a failure may say that retrying is pointless: it is dead-lettered at once")
  },
  {
    name: "poison-is-a-failure",
    edits: [
      edit(
        "internal/lane.ts",
        `verdict.poison(handling, reading.problem)`,
        `verdict.failed(handling, Cause.fail(reading.problem))`
      )
    ],
    killedBy: conformance("6. poison is dead-lettered under every ack policy")
  },
  {
    name: "filtered-left-pending",
    edits: [edit("internal/lane.ts", `observer.filtered()\n        settle(handling, acked)`, `observer.filtered()`)],
    killedBy: conformance("12. filter: what the predicate refuses is acked and not delivered again")
  },
  {
    name: "dead-letter-dropped",
    edits: [
      edit(
        "internal/verdicts.ts",
        `settle(handling, kept ? letter : { _tag: "Ack" })`,
        `settle(handling, { _tag: "Ack" })`
      )
    ],
    killedBy: conformance("4. with maxRetries = n there are exactly n + 1 calls")
  },
  {
    name: "settled-twice",
    edits: [
      edit(
        "internal/handling.ts",
        `if (this.outcome !== undefined) {`,
        `if (this.outcome !== undefined && this.lost) {`
      )
    ],
    killedBy: conformance("1. manual: a second settle is refused with AlreadySettled; the first stands")
  },
  {
    name: "settlement-lost-in-outage",
    edits: [
      edit(
        "internal/settlements.ts",
        `return later(repeated, error, failures, () => {})`,
        `return health.failed("settling", error)`
      )
    ],
    killedBy: conformance("1. a settlement that cannot be stored is tried again until it is")
  },
  {
    name: "repetition-not-said",
    edits: [edit("internal/settlements.ts", `repeated: repeated || error.reason._tag === "Unknown"`, `repeated`)],
    killedBy: conformance("1. a settlement whose reply is lost is sent again")
  },
  {
    name: "lease-not-extended",
    edits: [edit("internal/leases.ts", `Effect.andThen(extend(now), options.beat(now))`, `options.beat(now)`)],
    killedBy: conformance("7. a slow handler is not reclaimed as long as its worker lives")
  },
  {
    name: "lease-without-end",
    edits: [edit("internal/leases.ts", `now - begun < maxLease`, `now - begun < Infinity`)],
    killedBy: conformance("7. maxLease ends the extension of a lease")
  },
  {
    name: "lost-lease-told-as-settled",
    edits: [
      edit(
        "internal/lane.ts",
        `handling.tell(how === "lost" || doubtful ? "lost" : "settled")`,
        `handling.tell("settled")`
      )
    ],
    killedBy: conformance("8. a handler whose worker was cut off settles in vain")
  },
  {
    name: "mark-written-late",
    edits: [
      edit(
        "internal/marks.ts",
        `if (mark.writing === undefined) want(entry.origin, next(entry.origin))\n      return false`,
        `if (mark.writing === undefined) want(entry.origin, next(entry.origin))\n      return true`
      )
    ],
    killedBy: unit("marks", "7. what has waited for a while is marked; a handler behind the mark starts only after")
  },
  {
    name: "mark-never-written",
    edits: [
      edit(
        "internal/marks.ts",
        `waits[origin] > 0 && marks[origin].written`,
        `waits[origin] > 1000 && marks[origin].written`
      )
    ],
    killedBy: conformance("7. what a worker had prefetched and not started costs no attempt when the worker dies")
  },
  {
    name: "resumed-before-given-back",
    edits: [edit("internal/lane.ts", `order === undefined ? Effect.void : unsettled`, `Effect.void`)],
    killedBy: order("10. a resumed worker reads nothing before the log has what it gave back")
  },
  {
    name: "paused-worker-keeps-its-share",
    edits: [edit("internal/ownership.ts", `Effect.ignore(worker.rest)`, `Effect.asVoid(Effect.succeed(worker))`)],
    killedBy: conformance("10. what a paused worker owned goes to the others at once, and back when it is resumed")
  },
  {
    name: "mark-of-keys-by-id",
    edits: [edit("internal/seat.ts", `unstarted: new Only()`, `unstarted: new UpTo()`)],
    killedBy: conformance("4. what waited for its key costs no attempt when its worker dies, whatever began behind it")
  },
  {
    name: "mark-of-a-lost-claim-heeded",
    edits: [edit("internal/marks.ts", `if (answer === "lost") {`, `if (answer !== "done" && answer !== "lost") {`)],
    killedBy: order(
      "10. what was about to start when the log took the partition back starts under the next claim alone"
    )
  },
  {
    name: "mark-forgotten-on-failure",
    edits: [
      edit(
        "internal/marks.ts",
        `Effect.andThen(Effect.sleep(Health.backoff(failures, error)), attempt)`,
        `Effect.sleep(Health.backoff(failures, error))`
      )
    ],
    killedBy: unit("marks", "a mark that cannot be written holds handlers behind it back")
  },
  {
    name: "one-handler-too-many",
    edits: [
      edit("internal/dispatcher.ts", `return this.jobs >= this.concurrency`, `return this.jobs > this.concurrency`)
    ],
    killedBy: conformance("11. never more than concurrency handlers run, and as many do")
  },
  {
    name: "rollback-left-to-the-caller",
    edits: [
      edit(
        "internal/subscribe.ts",
        `(Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void)`,
        `(Exit.isFailure(exit) ? Effect.void : Effect.void)`
      )
    ],
    killedBy: conformance("2. a Transport that ")
  },
  {
    name: "duplicate-accepted",
    edits: [edit("internal/registry.ts", `if (places().has(place)) {`, `if (places().has("")) {`)],
    killedBy: conformance("2. a duplicate of a live subscription is refused with DuplicateSubscription")
  },
  {
    name: "unknown-publish-repeated",
    edits: [
      edit(
        "internal/sending.ts",
        `if (error.reason._tag !== "Unavailable" || rest <= 0)`,
        `if ((error.reason._tag !== "Unavailable" && error.reason._tag !== "Unknown") || rest <= 0)`
      )
    ],
    killedBy: conformance("13. a publish whose reply was lost fails with reason Unknown, and is not sent again")
  },
  {
    name: "key-order-not-kept",
    edits: [
      edit(
        "internal/keyOrder.ts",
        `if (key.head === undefined) return this.lead(key, handling)`,
        `if (key.parking === 0) return this.lead(key, handling)`
      )
    ],
    killedBy: conformance("10. messages of one key are handled one after the other")
  },
  {
    name: "failed-key-not-held-back",
    edits: [
      edit(
        "internal/lane.ts",
        `if (outcome._tag === "Retry" || given !== outcome) order.hold(handling)`,
        `if (given !== outcome) order.hold(handling)`
      )
    ],
    killedBy: conformance("10. order holds through retries")
  },
  {
    name: "released-loses-its-place",
    edits: [
      edit(
        "internal/lane.ts",
        `outcome._tag === "Release" && key !== undefined && !isRetry && state === "running" ? parked : outcome`,
        `outcome`
      )
    ],
    killedBy: conformance("10. a released message keeps its place before those of its key")
  },
  {
    name: "reading-beyond-max-waiting",
    edits: [edit("internal/lane.ts", `unread: mayRead.isOpen()`, `unread: true`)],
    killedBy: conformance("10. beyond maxWaiting the partition reads nothing new")
  },
  {
    name: "settled-told-as-lost-lease",
    edits: [
      edit("internal/leases.ts", `gone.has(entry) && outcome === undefined`, `gone.has(entry) && outcome !== null`)
    ],
    killedBy: order("what is being settled when a lease is extended is no lost lease")
  },
  {
    name: "full-until-the-next-retry",
    edits: [
      edit(
        "internal/fetching.ts",
        `limit().unread ? take(false) : Effect.raceFirst(take(false), Effect.as(unread, false))`,
        `take(false)`
      )
    ],
    killedBy: order("a full partition reads on when it has heard that nothing waits any more")
  },
  {
    name: "pausing-keeps-prefetched",
    edits: [edit("internal/lane.ts", `release(given)`, ``)],
    killedBy: conformance("1. pausing gives back what was prefetched and not started, to workers that are free")
  },
  {
    name: "suspect-beside-others",
    edits: [
      edit(
        "internal/dispatcher.ts",
        `const whole = Effect.andThen(until, nothingRuns).pipe(`,
        `const whole = Effect.void.pipe(`
      )
    ],
    killedBy: conformance("7. what may have killed its process waits for the handlers that run")
  },
  {
    name: "suspect-beside-the-next-suspect",
    edits: [edit("internal/dispatcher.ts", `this.nothingLingers.closeUnsafe()`, `this.nothingLingers.openUnsafe()`)],
    killedBy: {
      project: "unit",
      file: "test/core/internal/dispatcher.test.ts",
      test: "7. what runs alone runs alone to its end, also where another lane is next to run something alone"
    }
  },
  {
    name: "next-of-a-key-before-the-settlement",
    edits: [edit("internal/keyOrder.ts", `|| !key.settled || !key.ended) return`, `|| !key.ended) return`)],
    killedBy: conformance("10. the next of a key starts after the log has the settlement of the one before it")
  },
  {
    name: "next-of-a-key-beside-its-handler",
    edits: [edit("internal/keyOrder.ts", `|| !key.settled || !key.ended) return`, `|| !key.settled) return`)],
    killedBy: conformance("10. the next of a key starts after the handler before it has ended")
  },
  {
    name: "owner-goes-on-after-its-lease",
    edits: [
      edit(
        "internal/lane.ts",
        `return order === undefined || now - Math.min(lease.renewed(), leased) < visibility`,
        `return true`
      )
    ],
    killedBy: conformance(
      "10. a worker that was frozen past its lease starts nothing more before the log has renewed it"
    )
  },
  {
    name: "delivery-heard-of-late-not-extended",
    edits: [edit("internal/lane.ts", `Math.min(lease.renewed(), leased)`, `lease.renewed()`)],
    killedBy: unit("leases", "10. an owner that hears late of a delivery starts it when the log has extended it")
  },
  {
    name: "lease-from-when-the-claim-is-heard",
    edits: [
      edit(
        "internal/leases.ts",
        `let renewed = seat.order?.claimed ?? clock.currentTimeMillisUnsafe()`,
        `let renewed = clock.currentTimeMillisUnsafe()`
      )
    ],
    killedBy: conformance("10. a worker that was frozen before it heard of its claim starts nothing")
  }
]
