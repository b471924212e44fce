/**
 * Typed errors decide retries: what a handler fails with says whether, and when, it is worth another attempt.
 *
 * Five orders meet a card service that answers each of them differently. `while` is asked about the handler's own errors
 * only, and the compiler knows which: a misspelt field of `CardDeclined` does not compile.
 */
import {
  Agent,
  DeadLetters,
  Delivery,
  DoNotRetry,
  MemoryTransport,
  RetryAfter,
  Subscription,
  Topic
} from "@clutch/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Context, Effect, Layer, Logger, Result, Schema, Stream } from "effect"

class Order extends Schema.Class<Order>("Order")({ id: Schema.String, card: Schema.String }) {}

class CardDeclined extends Schema.TaggedError<CardDeclined>()("CardDeclined", { code: Schema.Number }) {
  override get message() {
    return `card service answered ${this.code}`
  }
}

class Cards extends Context.Service<
  Cards,
  { readonly charge: (card: string, attempt: number) => Effect.Effect<void, CardDeclined> }
>()("examples/Cards") {
  /** The card's number says what the service answers; "shaky" answers 503 once. */
  static readonly layer: Layer.Layer<Cards> = Layer.succeed(Cards, {
    charge: (card, attempt) => {
      if (card === "shaky" && attempt === 1) return Effect.fail(new CardDeclined({ code: 503 }))
      if (card === "down") return Effect.fail(new CardDeclined({ code: 500 }))
      if (card === "busy" && attempt === 1) return Effect.fail(new CardDeclined({ code: 429 }))
      if (card === "expired") return Effect.fail(new CardDeclined({ code: 402 }))
      return Effect.void
    }
  })
}

const Orders = Topic.make("orders", { schema: Order })

const billing = Subscription.make(
  "billing",
  Orders,
  Effect.fn(function* ({ data }) {
    const cards = yield* Cards
    const { attempt } = yield* Delivery
    if (data.card === "stolen") return yield* new DoNotRetry({ reason: "the card is stolen" })
    yield* cards.charge(data.card, attempt).pipe(
      Effect.tapError((error) => Console.log(`${data.id} attempt ${attempt}: ${error.message}`)),
      // its own delay, whatever the policy's next one would be
      Effect.catchIf(
        ({ code }) => code === 429,
        (busy) => Effect.fail(new RetryAfter({ delay: "50 millis", cause: busy }))
      )
    )
    yield* Console.log(`${data.id} attempt ${attempt}: charged`)
  }),
  // 5xx is worth a retry, 402 is not: it is dead-lettered at once as notRetryable
  { retry: { maxRetries: 2, base: "20 millis", while: (error) => error.code >= 500 } }
)

const program = Effect.gen(function* () {
  yield* Topic.publishAll(
    Orders,
    ["good", "shaky", "busy", "down", "expired", "stolen"].map((card) => new Order({ id: `order-${card}`, card }))
  )
  yield* Subscription.awaitIdle(billing)
  yield* DeadLetters.list(billing).pipe(
    Stream.runForEach((letter) => {
      const id = Result.match(letter.message, { onSuccess: ({ data }) => data.id, onFailure: () => "undecodable" })
      return Console.log(`dead letter ${id}: ${letter.reason} after ${letter.attempts} attempt(s)`)
    })
  )
})

const Shop = Agent.layer("shop", [billing]).pipe(Layer.provide(Cards.layer), Layer.provideMerge(MemoryTransport.layer))

// the runtime's own line for each failure would say it a second time
const Quiet = Logger.layer([])

program.pipe(Effect.provide(Shop.pipe(Layer.provide(Quiet))), NodeRuntime.runMain)
