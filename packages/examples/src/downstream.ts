/**
 * A service that the handlers call, and that fails as real ones do: now and then, for a while, or for good.
 *
 * What becomes of a request is decided by its key alone, so every run of the demo fails the same requests. Of a hundred
 * keys about ten meet an outage and recover, three never get through, three are told to come back later, two are refused.
 * A request that is sent twice is done once: retries make duplicates, and a downstream must be able to take them.
 */
import { Context, Duration, Effect, Layer, Schema } from "effect"

/** It does not answer properly. From 500 up it may be better next time. */
export class Outage extends Schema.TaggedError<Outage>()("Outage", { status: Schema.Number, key: Schema.String }) {
  override get message() {
    return `downstream answered ${this.status} to ${this.key}`
  }
}

/** It wants to be left alone for a while. */
export class Busy extends Schema.TaggedError<Busy>()("Busy", { retryAfter: Schema.Duration }) {
  override get message() {
    return `downstream is busy for ${Duration.format(this.retryAfter)}`
  }
}

/** It understood, and will never do this. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", { key: Schema.String }) {
  override get message() {
    return `downstream refused ${this.key}`
  }
}

/** How a request ends, whenever it is sent. */
export type Fate =
  | { readonly _tag: "Done" }
  | { readonly _tag: "Outage"; readonly calls: number }
  | { readonly _tag: "Busy"; readonly retryAfter: Duration.Duration }
  | { readonly _tag: "Refused" }

/** FNV-1a: spreads keys that differ in one letter, and is the same on every machine. */
const hash = (text: string): number => {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  return h >>> 0
}

/** The fate of a key: a pure function, so that a test can say what must come out. */
export const fate = (key: string): Fate => {
  const h = hash(key)
  const percent = h % 100
  if (percent < 10) return { _tag: "Outage", calls: 1 + (h % 2) }
  if (percent < 13) return { _tag: "Outage", calls: Infinity }
  if (percent < 16) return { _tag: "Busy", retryAfter: Duration.millis(250) }
  if (percent < 18) return { _tag: "Refused" }
  return { _tag: "Done" }
}

export class Downstream extends Context.Service<
  Downstream,
  {
    /** Sends one request. The same key is the same request, however often it is sent. */
    readonly send: (key: string) => Effect.Effect<void, Outage | Busy | Refused>
  }
>()("examples/Downstream") {
  /** Takes a millisecond a call, and fails as `fate` says. */
  static readonly layerFlaky: Layer.Layer<Downstream> = Layer.sync(Downstream, () => {
    const calls = new Map<string, number>()
    return Downstream.of({
      send: Effect.fnUntraced(function* (key) {
        yield* Effect.sleep("1 millis")
        const call = (calls.get(key) ?? 0) + 1
        calls.set(key, call)
        const end = fate(key)
        if (end._tag === "Outage" && call <= end.calls) return yield* new Outage({ status: 503, key })
        if (end._tag === "Busy" && call === 1) return yield* new Busy({ retryAfter: end.retryAfter })
        if (end._tag === "Refused") return yield* new Refused({ key })
      })
    })
  })
}
