/** A transport that writes into the ledger what was taken, and how the log answered each settlement. */
import { Transport } from "@clutch/core"
import type { Entry, Settled } from "@clutch/core/Transport"
import { TransportError } from "@clutch/core/Errors"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
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
          return {
            ...consumer,
            fetch: (limit) =>
              Effect.tap(consumer.fetch(limit), ({ entries }) =>
                Effect.sync(() => {
                  if (entries.length > 0) ledger.write({ is: "fetched", sub, entries: entries.map(delivered) })
                })
              ),
            settle: (settlements) =>
              Effect.suspend(() => {
                const from = now()
                const write = (answers: ReadonlyArray<Settled>) =>
                  Effect.sync(() =>
                    ledger.write({
                      is: "settled",
                      sub,
                      from,
                      entries: settlements.map(({ entry, outcome }, i) => ({
                        ...delivered(entry),
                        outcome: outcome._tag,
                        how: answer(answers[i])
                      }))
                    })
                  )
                return consumer.settle(settlements).pipe(
                  Effect.tap(write),
                  Effect.tapError(() => write([]))
                )
              })
          }
        })
    }))
  )
