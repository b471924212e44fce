/** What the simulator holds against a worker, told to its ledger step by step. */
import { Subscription, Topic } from "@clutch/core"
import type { Entry } from "@clutch/core/Transport"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as policies from "../../packages/core/src/internal/policy.ts"
import { Dice } from "../../packages/core/src/testing/simulator/Dice.ts"
import { Ledger } from "../../packages/core/src/testing/simulator/Ledger.ts"
import type { Worker } from "../../packages/core/src/testing/simulator/Network.ts"
import { Process, World } from "../../packages/core/src/testing/simulator/World.ts"

const Orders = Topic.make("orders", { schema: Schema.String, key: () => "one" })
const billing = Subscription.make("billing", Orders, () => Effect.void, { ack: "onReceive", from: "beginning" })
const at = { topic: "orders", partition: 0, subscription: "billing" }

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

/** A worker acks a message as its owner, and another one owns the partition before the handler starts. */
const startedBehindAClaim = (befalls: (ledger: Ledger, worker: Worker) => void) => {
  const world = new World(new Dice("rules"))
  const workerOf = (index: number): Worker => ({
    index,
    process: new Process(world, `worker ${index}`),
    waiting: new Set(),
    watches: new Set(),
    isClosing: false,
    calmSince: world.now
  })
  const definition = Subscription.definitionOf(billing)
  const ledger = new Ledger({
    world,
    definitions: [{ definition, policy: Result.getOrThrow(policies.make(definition.options, definition.kind)) }],
    messages: 1,
    poison: new Set(),
    recording: false,
    onKept: () => {}
  })
  const [first, second] = [workerOf(1), workerOf(2)]
  ledger.published(workerOf(0), at, [{ data: `"a"`, attributes: { partitionkey: "one" } }], ["1-0"])
  ledger.claimed(first, at, 1)
  ledger.taken(first, at, [entry], { count: 1, bytes: 1, maxAttempts: 1, alone: false }, world.now, 1)
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
