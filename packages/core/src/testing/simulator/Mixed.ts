/**
 * The scenario that proves the runtime: subscriptions of every kind and policy, handlers that do what they like, and now
 * and then a message that nobody can read. All by chance.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import { type Delivered, Delivery } from "../../Delivery.ts"
import { DoNotRetry, RetryAfter } from "../../Errors.ts"
import { TypeId } from "../../Source.ts"
import * as Subscription from "../../Subscription.ts"
import * as Topic from "../../Topic.ts"
import { Dice } from "./Dice.ts"
import type { Publication, Scenario } from "./Scenario.ts"

const Data = Schema.Struct({ n: Schema.Number })
type Data = typeof Data.Type

// made once: a topic's codecs are compiled at first use
const kept = Topic.make("numbers", { schema: Data })
const trimmed = Topic.make("numbers", { schema: Data, retention: "acknowledged" })
const isEven = ({ n }: Data) => n % 2 === 0
const topics = [
  { topic: kept, even: Topic.filter(kept, isEven), partitions: 1 },
  { topic: trimmed, even: Topic.filter(trimmed, isEven), partitions: 1 }
] as const
/** With a few keys each, over one to four partitions. */
const ordered = [1, 2, 3, 4].map((partitions) => {
  const key = ({ n }: Data) => `key ${n % (partitions + 1)}`
  const topic = Topic.make("numbers", { schema: Data, key, partitions })
  return { topic, even: Topic.filter(topic, isEven), partitions }
})

/** How a subscription treats a message. */
interface Behaviour {
  /** How many attempts fail. */
  readonly failures: number
  readonly how: "fails" | "dies" | "interrupts itself" | "asks for later" | "gives up"
  /** How long one of its attempts takes, in milliseconds; the others take none. */
  readonly millis: number
  readonly slow: number
  /** What it does where it settles by hand. */
  readonly manual: "acks" | "retries" | "releases" | "rejects" | "forgets"
}

const behaviourOf = (dice: Dice, lease: number): Behaviour => ({
  failures: dice.pick(0, 0, 0, 0, 1, 1, 2, 3, 5),
  how: dice.pick("fails", "fails", "fails", "dies", "interrupts itself", "asks for later", "gives up"),
  millis: dice.pick(0, 0, 0, 1, 5, 20, lease / 2, lease * 1.5),
  slow: dice.pick(1, 1, 2, 3),
  manual: dice.pick("acks", "acks", "acks", "retries", "releases", "rejects", "forgets")
})

const fail = (behaviour: Behaviour): Effect.Effect<void, string | RetryAfter | DoNotRetry> => {
  switch (behaviour.how) {
    case "dies":
      return Effect.die(new Error("a bug"))
    case "interrupts itself":
      return Effect.interrupt
    case "asks for later":
      return Effect.fail(new RetryAfter({ delay: 70, cause: "busy" }))
    case "gives up":
      return Effect.fail(new DoNotRetry({ reason: "pointless" }))
    default:
      return Effect.fail("no")
  }
}

const behave = (behaviour: Behaviour, attempt: number) =>
  Effect.suspend(() => {
    const end = attempt <= behaviour.failures ? fail(behaviour) : Effect.void
    const isSlow = attempt === behaviour.slow && behaviour.millis > 0
    return isSlow ? Effect.andThen(Effect.sleep(behaviour.millis), end) : end
  })

/** Settles by hand; whatever is left is a failure. */
const settle = (
  behaviour: Behaviour,
  delivery: Delivery["Service"],
  isFirst: boolean
): Effect.Effect<void, unknown> => {
  const { attempt } = delivery
  if (attempt > behaviour.failures) return delivery.ack
  switch (behaviour.manual) {
    case "acks":
      // a second settlement is refused
      return Effect.andThen(delivery.ack, Effect.ignore(delivery.ack))
    case "retries":
      return delivery.retry({ after: 30 })
    case "releases":
      return isFirst ? delivery.release : delivery.ack
    case "rejects":
      return delivery.deadLetter("unwanted")
    case "forgets":
      return Effect.void
  }
}

const subscription = (
  name: string,
  { even, partitions, topic }: (typeof ordered)[number],
  dice: Dice,
  seed: string,
  longest: number
): Subscription.Any => {
  const lease = dice.pick(longest, longest, longest, longest / 2)
  const behaviours = new Map<number, Behaviour>()
  const behaviour = (n: number) => {
    let known = behaviours.get(n)
    if (known === undefined) behaviours.set(n, (known = behaviourOf(new Dice(`${seed}/${name}/${n}`), lease)))
    return known
  }
  const prefetch = dice.pick(undefined, undefined, 1, 3, 8)
  const common = {
    concurrency: dice.pick(1, 1, 2, 3, 8),
    prefetch: prefetch === undefined ? undefined : Math.max(prefetch, partitions),
    visibilityTimeout: lease,
    drainTimeout: dice.pick(0, 20, 500),
    timeout: dice.pick(undefined, undefined, undefined, 60),
    from: dice.pick("beginning", "new"),
    // without a key nothing waits for its turn
    maxWaiting: topic[TypeId].ordered ? new Dice(`${seed}/${name}`).pick(undefined, undefined, 1, 3) : undefined
  } as const
  const retry = {
    maxRetries: dice.pick(0, 1, 2, 3),
    base: dice.pick(1, 20, 60),
    factor: dice.pick(1, 2),
    maxDelay: dice.pick(50, 200),
    jitter: dice.pick(0, 0.5)
  }
  const source = dice.chance(0.1) ? even : topic
  const each = ({ data: { n } }: { readonly data: Data }) =>
    Effect.flatMap(Delivery, ({ attempt }) => behave(behaviour(n), attempt))
  const kind = dice.below(10)
  if (kind === 0) return Subscription.make(name, source, each, { ...common, ack: "onExit" })
  if (kind === 1) return Subscription.make(name, source, each, { ...common, ack: "onReceive" })
  const deadLetters = dice.chance(0.9)
  if (kind === 2) {
    // what is released costs no attempt: it is a wish to be granted once
    const met = new Set<number>()
    const manual = ({ data: { n } }: { readonly data: Data }) =>
      Effect.flatMap(Delivery, (delivery) => {
        const isFirst = !met.has(n)
        met.add(n)
        return Effect.andThen(Effect.sleep(behaviour(n).millis), settle(behaviour(n), delivery, isFirst))
      })
    return Subscription.make(name, source, manual, { ...common, ack: "manual", retry, deadLetters })
  }
  if (kind <= 4) {
    const batch = (deliveries: NonEmptyReadonlyArray<Delivered<Data>>) => {
      const [{ attempt, message }] = deliveries
      return behave(behaviour(message.data.n), attempt)
    }
    const size = dice.pick(2, 3, 5)
    return Subscription.batch(name, source, batch, { ...common, retry, deadLetters, size, within: dice.pick(0, 10) })
  }
  return Subscription.make(name, source, each, { ...common, retry, deadLetters })
}

const poisons = ["{", `"text"`, `{"n":"one"}`] as const

/** Two or three subscriptions, a dozen messages. */
export const mixed: Effect.Effect<Scenario> = Effect.map(Random.nextInt, (number) => {
  const seed = `${number}`
  const dice = new Dice(seed)
  const names = ["a", "b", "c"].slice(0, dice.pick(2, 2, 2, 3))
  const numbers = dice.chance(0.3)
    ? (ordered[dice.below(ordered.length)] ?? topics[0])
    : dice.pick(...topics, topics[0])
  const topic = numbers.topic as Topic.Topic<unknown> // what is published is data of it
  const hasPoison = dice.chance(0.3)
  const messages = Array.from({ length: dice.between(11, 13) }, (_, n): Publication =>
    hasPoison && dice.chance(0.1)
      ? { _tag: "Raw", topic, text: dice.pick(...poisons) }
      : { _tag: "Message", topic, data: { n } }
  )
  // alike, as who waits for another that takes many times as long has little to do but heartbeats
  const lease = dice.pick(100, 200, 400)
  const subscriptions = names.map((name) => subscription(name, numbers, dice, seed, lease))
  return { subscriptions, messages, services: Layer.empty, atRest: Effect.void }
})
