/**
 * What every contestant carries: a struct of six fields, 200 bytes as JSON.
 */
import * as Schema from "effect/Schema"

export const Order = Schema.Struct({
  number: Schema.Int,
  customer: Schema.String,
  total: Schema.Number,
  paid: Schema.Boolean,
  /** When it was published, in nanoseconds of the machine's monotonic clock, where that matters. */
  at: Schema.Number,
  note: Schema.String
})

export type Order = typeof Order.Type

const bytes = 200

export const order = (number: number, at = 0): Order => {
  const bare = { number, customer: `customer-${number % 10_000}`, total: 17.25, paid: true, at, note: "" }
  return { ...bare, note: "x".repeat(Math.max(0, bytes - JSON.stringify(bare).length)) }
}

/** Of what is published, which nobody tells apart: a million would be garbage's business more than the publisher's. */
const different = 10_000

/** So many to publish, the same again and again. */
export const orders = (count: number): Array<Order> => {
  const some = Array.from({ length: Math.min(count, different) }, (_, i) => order(i))
  return Array.from({ length: count }, (_, i) => some[i % different] ?? order(i))
}

/** The monotonic clock that all processes of a machine share, in nanoseconds; exact below 104 days of uptime. */
export const nanos = (): number => Number(process.hrtime.bigint())

/** Every topic is named by what it is for, so that raw programs know its key. */
export const namespace = "bench"
export const main = "main"
export const warm = "warm"
export const group = "group"
export const keyOf = (topic: string): string => `${namespace}.{${topic}}`
