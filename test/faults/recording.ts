/** A transport that writes into the ledger what was taken, and how the log answered each settlement. */
import { Transport } from "@clutch/core"
import type { Consumer, Entry, Fetched, Settled } from "@clutch/core/Transport"
import { TransportError } from "@clutch/core/Errors"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { type Delivered, type Ledger, now } from "./ledger.ts"

const numberOf = ({ content }: Entry): number =>
  Result.match(content, {
    onFailure: () => -1,
    onSuccess: ({ data }) => Number((JSON.parse(Buffer.from(data).toString()) as { readonly n?: unknown }).n ?? -1) // whatever it is, it becomes a number
  })

const delivered = (entry: Entry): Delivered => ({
  n: numberOf(entry),
  entry: `${entry.stream} ${entry.id}`,
  attempt: entry.attempt
})

const answer = (settled: Settled | undefined): "done" | "lost" | "unknown" | "error" =>
  settled === undefined || settled instanceof TransportError
    ? "error"
    : settled === "lost" || settled === "unknown"
      ? settled
      : "done"

/** What a consumer and an owner have in common. */
interface Taking<Limit, Fetched> {
  readonly fetch: (limit: Limit) => Effect.Effect<Fetched, TransportError>
  readonly settle: Consumer["settle"]
}

const recorded = <Limit, Got extends Fetched | "lost", T extends Taking<Limit, Got>>(
  ledger: Ledger,
  sub: string,
  taking: T & Taking<Limit, Got>,
  fence?: number
): T => ({
  ...taking,
  fetch: (limit: Limit) =>
    Effect.tap(taking.fetch(limit), (fetched) =>
      Effect.sync(() => {
        if (fetched === "lost" || fetched.entries.length === 0) return
        ledger.write({ is: "fetched", sub, entries: fetched.entries.map(delivered) })
      })
    ),
  settle: (settlements: Parameters<Consumer["settle"]>[0]) =>
    Effect.suspend(() => {
      const from = now()
      const write = (answers: ReadonlyArray<Settled>) =>
        Effect.sync(() =>
          ledger.write({
            is: "settled",
            sub,
            from,
            fence,
            entries: settlements.map(({ entry, outcome }, i) => ({
              ...delivered(entry),
              outcome: outcome._tag,
              how: answer(answers[i])
            }))
          })
        )
      return taking.settle(settlements).pipe(
        Effect.tap(write),
        Effect.tapError(() => write([]))
      )
    })
})

/** Everything that goes through the transport below is recorded before the runtime hears of it. */
export const layer = (ledger: Ledger): Layer.Layer<Transport, never, Transport> =>
  Layer.effect(
    Transport,
    Effect.map(Transport, (transport) => ({
      ...transport,
      join: (options) =>
        Effect.map(transport.join(options), (consumer) => {
          const sub = options.group.subscription
          ledger.write({ is: "joined", sub, consumer: consumer.name })
          return recorded(ledger, sub, consumer)
        }),
      enroll: (options) =>
        Effect.map(transport.enroll(options), (worker) => {
          const sub = options.group.subscription
          ledger.write({ is: "joined", sub, consumer: worker.name })
          return {
            ...worker,
            claim: Effect.map(
              worker.claim,
              Option.map((owner) => recorded(ledger, sub, owner, owner.fence))
            )
          }
        })
    }))
  )
