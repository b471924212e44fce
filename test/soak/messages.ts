/** What the processes of the soak have to agree on. */
import { Topic } from "@clutch/core"
import * as Schema from "effect/Schema"

export const namespace = "soak"

/** What a topic keeps: more than is ever in flight, and little beside ten million. */
const kept = 30_000

export const topicOf = () =>
  Topic.make("numbers", {
    schema: Schema.Struct({ n: Schema.Int, text: Schema.String }),
    maxLength: kept
  })

/** One in a hundred fails first; one in a hundred thousand always, and is a dead letter. */
export const outcomeOf = (n: number) => ({
  dies: n % 100_000 === 77,
  succeeds: (attempt: number): boolean => n % 100_000 !== 77 && (n % 100 !== 7 || attempt > 1)
})

/** `dump` writes which messages were done to the file. */
export type Question =
  | { readonly ask: "progress" }
  | { readonly ask: "sample" }
  | { readonly ask: "dump"; readonly file: string }

export interface Sample {
  /** Messages that were done, each once. */
  readonly handled: number
  /** Messages that were done once more. */
  readonly repeated: number
  /** Bytes, where asked for. */
  readonly rss?: number
  /** Bytes that are used after a collection, where asked for. */
  readonly heap?: number
  /** Open file descriptors, where asked for. */
  readonly files?: number
}
