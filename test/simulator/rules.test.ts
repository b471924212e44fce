/** What the simulator holds against a worker, told to its ledger step by step. */
import { Subscription, Topic } from "@clutch/core"
import type { Entry } from "@clutch/core/Transport"
import { assert, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as policies from "../../packages/core/src/internal/policy.ts"
import { Dice } from "../../packages/core/src/testing/simulator/Dice.ts"
import { Ledger } from "../../packages/core/src/testing/simulator/Ledger.ts"
import type { Worker } from "../../packages/core/src/testing/simulator/Network.ts"
import { Process, World } from "../../packages/core/src/testing/simulator/World.ts"

const entry: Entry = {
  origin: "main",
  stream: "orders",
  id: "1-0",
  originalId: "1-0",
  attempt: 1,
  reclaims: 0,
  firstDelivered: 1,
  size: 1,
  content: Result.fail("nobody reads it here")
}

const at = { topic: "orders", partition: 0, subscription: "billing" }

/** A ledger of one subscription and one message, and workers. */
const setup = (subscription: Subscription.Any) => {
  const world = new World(new Dice("rules"))
  const definition = Subscription.definitionOf(subscription)
  const ledger = new Ledger({
    world,
    definitions: [{ definition, policy: Result.getOrThrow(policies.make(definition.options, definition.kind)) }],
    messages: 1,
    poison: new Set(),
    recording: false,
    onKept: () => {}
  })
  const workerOf = (index: number): Worker => ({
    index,
    process: new Process(world, `worker ${index}`),
    waiting: new Set(),
    watches: new Set(),
    isClosing: false,
    isPaused: false,
    calmSince: world.now
  })
  return { ledger, workerOf, world }
}

const Plain = Topic.make("orders", { schema: Schema.String })
const limit = { count: 1, bytes: 1, maxAttempts: 1, alone: false }

/** The same, and a worker that was delivered the message; without a key. */
const delivered = (
  options: { readonly timeout?: number; readonly retry?: { readonly base: number; readonly jitter: number } } = {}
) => {
  const all = setup(Subscription.make("billing", Plain, () => Effect.void, { from: "beginning", ...options }))
  const { ledger, workerOf, world } = all
  const worker = workerOf(1)
  ledger.joined(worker, at, { name: "one" })
  ledger.published(workerOf(0), at, [{ data: `"a"`, attributes: undefined }], ["1-0"])
  ledger.taken(worker, at, [entry], limit, world.now)
  ledger.heard(worker, at, [entry])
  return { ...all, worker }
}

const Orders = Topic.make("orders", { schema: Schema.String, key: () => "one" })
const billing = Subscription.make("billing", Orders, () => Effect.void, { ack: "onReceive", from: "beginning" })

/** A worker acks a message as its owner, and another one owns the partition before the handler starts. */
const startedBehindAClaim = (befalls: (ledger: Ledger, worker: Worker) => void) => {
  const { ledger, workerOf, world } = setup(billing)
  const [first, second] = [workerOf(1), workerOf(2)]
  ledger.published(workerOf(0), at, [{ data: `"a"`, attributes: { partitionkey: "one" } }], ["1-0"])
  ledger.claimed(first, at, 1)
  ledger.taken(first, at, [entry], limit, world.now, 1)
  ledger.heard(first, at, [entry])
  ledger.settled(first, at, [{ entry, outcome: { _tag: "Ack" }, repeated: false }], ["done"])
  befalls(ledger, first)
  ledger.ceded(first, at, 1)
  ledger.claimed(second, at, 2)
  ledger.started(first, ledger.group(at), [{ entry, isByHand: false }])
  return ledger.violation
}

it('10. under "onReceive" too, a handler starts under the last fence', () => {
  assert.deepStrictEqual(
    startedBehindAClaim(() => {}),
    {
      promise: "contract 10",
      problem: "the handler of message 2 starts under fence 1, and another one has claimed"
    }
  )
})

it("10. but where its worker stood still behind the ack, nobody could know", () => {
  assert.isUndefined(startedBehindAClaim((ledger, worker) => ledger.disturbed(worker, 100)))
})

it("1. what a handler had succeeded at is not given back, also not by who closes", () => {
  const { ledger, worker } = delivered()
  const deliveries = ledger.started(worker, ledger.group(at), [{ entry, isByHand: false }])
  worker.isClosing = true
  ledger.ended(worker, ledger.group(at), deliveries, Exit.void)
  ledger.settled(worker, at, [{ entry, outcome: { _tag: "Release" }, repeated: false }], ["done"])
  assert.deepStrictEqual(ledger.violation, {
    promise: "contract 1",
    problem: "message 2, attempt 1 of 6 is released, though its handler succeeded"
  })
})

/** A group settles the first of two messages, number 2, is delivered the other, and disappears. */
const lost = () => {
  const { ledger, worker, workerOf, world } = delivered()
  const group = ledger.group(at)
  const second: Entry = { ...entry, id: "2-0", originalId: "2-0" }
  const take = (entry: Entry) => {
    ledger.taken(worker, at, [entry], limit, world.now)
    ledger.heard(worker, at, [entry])
  }
  const settle = (entry: Entry) => {
    ledger.ended(worker, group, ledger.started(worker, group, [{ entry, isByHand: false }]), Exit.void)
    ledger.settled(worker, at, [{ entry, outcome: { _tag: "Ack" }, repeated: false }], ["done"])
  }
  ledger.published(workerOf(0), at, [{ data: `"b"`, attributes: undefined }], ["2-0"])
  take(second)
  settle(entry)
  assert.strictEqual(ledger.open, 1)
  ledger.vanished(at, ["2-0"])
  return { ledger, second, settle, take }
}

it("9. what a group that disappeared had not settled comes again, as never delivered", () => {
  const { ledger, second, settle, take } = lost()
  assert.strictEqual(ledger.open, 1)
  const again = { ...second }
  take(again)
  settle(again)
  assert.deepStrictEqual([ledger.open, ledger.violation], [0, undefined])
})

it("9. and what it was delivered before is settled by nobody", () => {
  const { ledger, second, settle } = lost()
  settle(second)
  assert.deepStrictEqual(ledger.violation, {
    promise: "contract 1",
    problem: "message 3, attempt 1: Ack is stored, though the delivery had ended"
  })
})

it("9. what it had settled does not come again", () => {
  const { ledger, take } = lost()
  take({ ...entry })
  assert.deepStrictEqual(ledger.violation, {
    promise: "contract 1",
    problem: 'message 2 was acked for "billing", and is delivered again'
  })
})

/** Of one key, a second message is published and starts, while the first has neither been settled nor come again. */
const overtaking = (loses: (ledger: Ledger) => void) => {
  const { ledger, workerOf, world } = setup(
    Subscription.make("billing", Orders, () => Effect.void, { from: "beginning", concurrency: 2 })
  )
  const worker = workerOf(1)
  const take = (entry: Entry) => {
    ledger.taken(worker, at, [entry], limit, world.now, 1)
    ledger.heard(worker, at, [entry])
    ledger.started(worker, ledger.group(at), [{ entry, isByHand: false }])
  }
  const publish = (id: string) =>
    ledger.published(workerOf(0), at, [{ data: `"a"`, attributes: { partitionkey: "one" } }], [id])
  ledger.claimed(worker, at, 1)
  publish("1-0")
  take(entry)
  loses(ledger)
  publish("2-0")
  take({ ...entry, id: "2-0", originalId: "2-0" })
  return ledger.violation
}

it("10. what is published after a loss starts behind what comes again by it", () => {
  const violation = {
    promise: "contract 10",
    problem: "the handler of message 3 starts, and message 2 of its key is not settled"
  }
  assert.deepStrictEqual(
    overtaking(() => {}),
    violation
  )
  assert.deepStrictEqual(
    overtaking((ledger) => ledger.vanished(at, ["1-0"])),
    violation
  )
})

it("no handler starts in a worker whose subscriptions are paused", () => {
  const { ledger, worker } = delivered()
  worker.isPaused = true
  ledger.started(worker, ledger.group(at), [{ entry, isByHand: false }])
  assert.deepStrictEqual(ledger.violation, {
    promise: "runtime",
    problem: '"billing" is paused, and starts a handler'
  })
})

/** A handler with a time limit succeeds, and its message is retried all the same. */
const retriedThoughDone = (stoodStill: number) => {
  const { ledger, worker } = delivered({ timeout: 60, retry: { base: 1, jitter: 0 } })
  const deliveries = ledger.started(worker, ledger.group(at), [{ entry, isByHand: false }])
  ledger.ended(worker, ledger.group(at), deliveries, Exit.void)
  ledger.disturbed(worker, stoodStill)
  const outcome = { _tag: "Retry", delay: Duration.millis(1), cause: "too slow" } as const
  ledger.settled(worker, at, [{ entry, outcome, repeated: false }], ["done"])
  return ledger.violation
}

it("1. what a handler had succeeded at in time is not retried", () => {
  for (const stoodStill of [0, 59]) {
    assert.deepStrictEqual(retriedThoughDone(stoodStill), {
      promise: "contract 1",
      problem: "message 2, attempt 1 of 6: Retry, though its handler succeeded"
    })
  }
})

it("1. but where its worker stood still behind the handler's end, for as long as the timeout", () => {
  assert.isUndefined(retriedThoughDone(60))
})
