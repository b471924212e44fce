/**
 * A handler that is worth a test: it reminds a customer, and gives up after the mail server has failed for hours.
 *
 * `test/examples/testing.test.ts` runs it with `layerTest` of `@clutch/core/testing`: hours of backoff pass in milliseconds,
 * under Effect's TestClock, with the same runtime that runs on Redis.
 */
import { DoNotRetry, Subscription, Topic } from "@clutch/core"
import { Context, Effect, Schema } from "effect"

export class Invoice extends Schema.Class<Invoice>("Invoice")({ number: Schema.String, email: Schema.String }) {}

export class MailFailed extends Schema.TaggedError<MailFailed>()("MailFailed", { code: Schema.Number }) {}

export class Mail extends Context.Service<
  Mail,
  { readonly send: (to: string, text: string) => Effect.Effect<void, MailFailed> }
>()("examples/Mail") {}

export const Invoices = Topic.make("invoices", { schema: Invoice })

export const reminder = Subscription.make(
  "reminder",
  Invoices,
  Effect.fn(function* ({ data }) {
    if (!data.email.includes("@")) return yield* new DoNotRetry({ reason: `no address on invoice ${data.number}` })
    const mail = yield* Mail
    yield* mail.send(data.email, `Invoice ${data.number} is due`)
  }),
  { retry: { maxRetries: 3, base: "1 hour", factor: 2, maxDelay: "3 hours", jitter: 0 } }
)
