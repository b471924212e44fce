/**
 * Keyed messages, and a record of their handling that is checked against the order of each key.
 *
 * @since 0.1.0
 */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { Delivery, type Message, Topic } from "../index.ts"
import { range } from "./Collect.ts"
import type { Kit } from "./Kit.ts"

export const Keyed = Schema.Struct({ key: Schema.String, n: Schema.Number })

/** The nth message of its key. */
export type Keyed = typeof Keyed.Type

/** A topic with a key and a name of its own. */
export const keyedTopic = (kit: Kit, partitions = 1, name = kit.fresh("keyed")): Topic.Topic<Keyed> =>
  Topic.make(name, { schema: Keyed, key: ({ key }) => key, partitions })

/** So many messages of each key, the keys in turn. */
export const inTurn = (keys: ReadonlyArray<string>, each: number): ReadonlyArray<Keyed> =>
  range(each).flatMap((n) => keys.map((key) => ({ key, n })))

/** What happened to a message: a call began, or ended. */
export interface Event extends Keyed {
  readonly what: "start" | "success" | "failure" | "interrupted"
  readonly attempt: number
  readonly consumer: string
  readonly partition: number
  readonly fence: number | undefined
}

/** Records calls, and knows what must not follow on what. */
export class Ledger {
  readonly events: Array<Event> = []
  private readonly attempts: number

  constructor(
    /** After so many a failing message is over. */
    attempts: number
  ) {
    this.attempts = attempts
  }

  /** A handler that records, then does as told. */
  handler<E = never, R = never>(
    then: (data: Keyed, attempt: number) => Effect.Effect<void, E, R> = () => Effect.void
  ): (message: Message<Keyed>) => Effect.Effect<void, E, R | Delivery> {
    return ({ data }) =>
      Effect.gen({ self: this }, function* () {
        const { attempt, consumer, fence, partition } = yield* Delivery
        const add = (what: Event["what"]) => this.events.push({ ...data, what, attempt, consumer, partition, fence })
        add("start")
        yield* then(data, attempt).pipe(
          Effect.onExit((exit) =>
            Effect.sync(() => add(exit._tag === "Success" ? "success" : isInterrupt(exit) ? "interrupted" : "failure"))
          )
        )
      })
  }

  /** Starts of a key, in order. */
  starts(key: string): ReadonlyArray<number> {
    return this.events.filter((event) => event.what === "start" && event.key === key).map(({ n }) => n)
  }

  isOver({ key, n }: Keyed): boolean {
    return this.events.some(
      (event) =>
        event.key === key &&
        event.n === n &&
        (event.what === "success" || (event.what === "failure" && event.attempt >= this.attempts))
    )
  }

  /** Each message of a key is started after the one before it is over, and no two of a key run at once. */
  assertOrder(): void {
    const reached = new Map<string, number>()
    const running = new Map<string, number>()
    for (const event of this.events) {
      const told = `${event.key}/${event.n}, attempt ${event.attempt} at ${event.consumer}`
      if (event.what !== "start") {
        running.set(event.key, (running.get(event.key) ?? 1) - 1)
        const ends = event.what === "success" || (event.what === "failure" && event.attempt >= this.attempts)
        if (ends) reached.set(event.key, Math.max(reached.get(event.key) ?? 0, event.n + 1))
        continue
      }
      assert.strictEqual(running.get(event.key) ?? 0, 0, `${told} began beside another of its key`)
      running.set(event.key, 1)
      assert.strictEqual(event.n, reached.get(event.key) ?? 0, `${told} began before the one before it was over`)
    }
  }
}

const isInterrupt = (exit: Exit.Exit<unknown, unknown>) => Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
