/** What a subscription is made of, as the runtime sees it. Types are the public module's business. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Effect from "effect/Effect"
import type { Source } from "../Source.ts"
import type { Handling } from "./handling.ts"
import type { Kind, RawOptions } from "./policy.ts"

export interface Definition {
  readonly name: string
  readonly source: Source<unknown>
  /** One delivery at a time is found in the handler's context; the handler of a stream hands over. */
  readonly kind: Kind
  readonly handler: (handlings: NonEmptyReadonlyArray<Handling>) => Effect.Effect<void, unknown, unknown>
  readonly options: RawOptions
}
