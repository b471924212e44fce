/**
 * The demo's subscriptions: on every topic one that never fails, and beside it one whose downstream does.
 *
 * flights  legs (validate, enrich, publish) · claims (filter, flaky downstream)
 * legs     delays-by-state (aggregate, in batches)
 * strikes  strikes-by-species (aggregate, in batches) · repairs (filter, validate, flaky downstream)
 * quakes   catalogue (validate, each of a batch settled by itself) · alerts (filter, flaky downstream)
 */
import { type Delivered, Delivery, DoNotRetry, RetryAfter, Subscription, Topic } from "@clutch/core"
import { Effect } from "effect"
import { type Airport, Datasets, Flights, Legs, Quakes, Strikes } from "./data.ts"
import { Downstream } from "./downstream.ts"
import { Findings } from "./findings.ts"
import { Ledger } from "./ledger.ts"

// -----------------------------------------------------------------------------
// what they share
// -----------------------------------------------------------------------------

/** Notes in the ledger what a handler is given, and what it finishes. */
const counted =
  (name: string) =>
  <E, R>(handler: Effect.Effect<void, E, R>): Effect.Effect<void, E, R | Delivery | Ledger> =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const { attempt } = yield* Delivery
      yield* ledger.delivered(name, [attempt])
      yield* handler
      yield* ledger.handled(name, 1)
    })

/** The same for a batch, whose handler says how many it finished. */
const countedBatch =
  (name: string) =>
  <E, R>(
    handler: Effect.Effect<number, E, R>,
    batch: ReadonlyArray<Delivered<unknown>>
  ): Effect.Effect<void, E, R | Ledger> =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      yield* ledger.delivered(
        name,
        batch.map(({ attempt }) => attempt)
      )
      yield* ledger.handled(name, yield* handler)
    })

/** Calls the downstream and turns what it answers into what the runtime understands; an outage is left to `retry`. */
const send = (key: string) =>
  Effect.flatMap(Downstream, (downstream) => downstream.send(key)).pipe(
    Effect.catchTags({
      Busy: (busy) => Effect.fail(new RetryAfter({ delay: busy.retryAfter, cause: busy })),
      Refused: (refused) => Effect.fail(new DoNotRetry({ reason: refused.message, cause: refused }))
    })
  )

/** Short, so that the demo sees exhausted messages within seconds; the default starts at one second, five times. */
const backoff = { maxRetries: 3, base: "100 millis", factor: 2 } as const

/** Ends a demo that is interrupted: what is unfinished after that is given back. */
const drainTimeout = "3 seconds"

// -----------------------------------------------------------------------------
// flights
// -----------------------------------------------------------------------------

/** Statute miles along a great circle. */
const greatCircle = (a: Airport, b: Airport): number => {
  const rad = (degrees: number) => (degrees * Math.PI) / 180
  const h =
    Math.sin(rad(b.latitude - a.latitude) / 2) ** 2 +
    Math.cos(rad(a.latitude)) * Math.cos(rad(b.latitude)) * Math.sin(rad(b.longitude - a.longitude) / 2) ** 2
  return 3958.8 * 2 * Math.asin(Math.sqrt(h))
}

const airport = Effect.fnUntraced(function* (iata: string) {
  const { airports } = yield* Datasets
  const found = airports.get(iata)
  if (found === undefined) return yield* new DoNotRetry({ reason: `no airport ${iata}` })
  if (found.state === "NA") return yield* new DoNotRetry({ reason: `airport ${iata} (${found.name}) has no state` })
  return found
})

/** Looks up both airports, checks the distance against the map, and publishes a leg. */
export const legs = Subscription.make(
  "legs",
  Flights,
  Effect.fnUntraced(function* ({ data }) {
    const from = yield* airport(data.origin)
    const to = yield* airport(data.destination)
    const miles = greatCircle(from, to)
    if (Math.abs(miles - data.distance) > 10) {
      return yield* new DoNotRetry({ reason: `${data.distance} miles flown, ${Math.round(miles)} on the map` })
    }
    yield* Topic.publish(Legs, { from: from.state, to: to.state, delay: data.delay, miles: data.distance })
    yield* Effect.flatMap(Ledger, (ledger) => ledger.published(Legs.topic, 1))
  }, counted("legs")),
  { concurrency: 64, drainTimeout }
)

/** Flights an hour late or more: one claim each, at a desk that has bad days. */
export const claims = Subscription.make(
  "claims",
  Topic.filter(Flights, (flight) => flight.delay >= 60),
  ({ data }) => send(`claim ${data.date.epochMilliseconds} ${data.origin}-${data.destination}`).pipe(counted("claims")),
  { concurrency: 16, retry: { ...backoff, while: (outage) => outage.status >= 500 }, drainTimeout }
)

/** Sums the delays by state of departure. */
export const delaysByState = Subscription.batch(
  "delays-by-state",
  Legs,
  Effect.fnUntraced(function* (batch) {
    const findings = yield* Findings
    yield* findings.add(
      "delays",
      batch.map(({ message: { data } }) => [data.from, data.delay])
    )
    return batch.length
  }, countedBatch("delays-by-state")),
  { size: 500, within: "50 millis", drainTimeout }
)

// -----------------------------------------------------------------------------
// bird strikes
// -----------------------------------------------------------------------------

/** Sums the cost by species. What does not decode never gets here, and holds up nobody. */
export const strikesBySpecies = Subscription.batch(
  "strikes-by-species",
  Strikes,
  Effect.fnUntraced(function* (batch) {
    const findings = yield* Findings
    yield* findings.add(
      "species",
      batch.map(({ message: { data } }) => [data.species, data.cost])
    )
    return batch.length
  }, countedBatch("strikes-by-species")),
  { size: 500, within: "50 millis", drainTimeout }
)

/** Strikes that cost something: one request to the insurer each, unless the report contradicts itself. */
export const repairs = Subscription.make(
  "repairs",
  Topic.filter(Strikes, (strike) => strike.damage !== "None" || strike.cost > 0),
  Effect.fnUntraced(function* ({ data }) {
    if (data.damage === "None") {
      return yield* new DoNotRetry({ reason: `no damage, yet it cost $${data.cost.toLocaleString("en")}` })
    }
    yield* send(`repair ${data.date} ${data.airport} ${data.aircraft} ${data.species} ${data.cost}`)
  }, counted("repairs")),
  { concurrency: 16, retry: { ...backoff, while: (outage) => outage.status >= 500 }, drainTimeout }
)

// -----------------------------------------------------------------------------
// earthquakes
// -----------------------------------------------------------------------------

/** Lists earthquakes, and nothing else that shakes the ground: each of a batch is settled by itself. */
export const catalogue = Subscription.batch(
  "catalogue",
  Quakes,
  Effect.fnUntraced(function* (batch) {
    const findings = yield* Findings
    const [others, quakes] = [
      batch.filter(({ message }) => message.data.properties.type !== "earthquake"),
      batch.filter(({ message }) => message.data.properties.type === "earthquake")
    ]
    yield* Effect.forEach(others, (one) => {
      const { place, type } = one.message.data.properties
      return one.deadLetter(`${type}, not an earthquake: ${place}`)
    })
    yield* findings.add(
      "quakes",
      quakes.map(({ message: { data } }) => [data.properties.place, data.properties.mag])
    )
    return quakes.length
  }, countedBatch("catalogue")),
  { size: 100, within: "50 millis", drainTimeout }
)

/** What people may have felt goes to a pager. */
export const alerts = Subscription.make(
  "alerts",
  Topic.filter(Quakes, ({ properties }) => properties.mag >= 2.5),
  ({ data }) => send(`alert ${data.id}`).pipe(counted("alerts")),
  { concurrency: 16, retry: { ...backoff, while: (outage) => outage.status >= 500 }, drainTimeout }
)

/** In the order of the report. */
export const all = [legs, claims, delaysByState, strikesBySpecies, repairs, catalogue, alerts] as const
