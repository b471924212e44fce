/**
 * Real records and what is known about them: US flights, FAA bird strikes, a week of earthquakes.
 *
 * A feed publishes rows as it got them; a subscription reads the same topic through a strict schema. So each topic has two
 * values here, one for each side, and a row that the strict one refuses is poison for its readers. The files
 * come with the npm package `vega-datasets`, with the dirt that the agencies left in them: damage codes outside of the
 * code book, empty speeds, quarry blasts among the earthquakes, airports whose state is "NA".
 */
import { Topic } from "@clutch/core"
import {
  Array,
  Context,
  Effect,
  FileSystem,
  Layer,
  Option,
  type PlatformError,
  Schema,
  SchemaTransformation,
  Stream
} from "effect"
import { Csv } from "effect/encoding"

// -----------------------------------------------------------------------------
// flights: Bureau of Transportation Statistics, first quarter of 2001
// -----------------------------------------------------------------------------

/** `2001/01/31 23:05`, in the time of the airport. The zone is not recorded; it is read as if it were UTC. */
const LocalTime = Schema.String.pipe(
  Schema.decodeTo(
    Schema.DateTimeUtcFromString,
    SchemaTransformation.transform({
      decode: (text) => `${text.replaceAll("/", "-").replace(" ", "T")}Z`,
      encode: (iso) => iso.slice(0, 16).replaceAll("-", "/").replace("T", " ")
    })
  )
)

const Iata = Schema.String.check(Schema.isPattern(/^[A-Z0-9]{3}$/))

/** One flight; a negative delay is an early arrival. */
export const Flight = Schema.Struct({
  date: LocalTime,
  origin: Iata,
  destination: Iata,
  delay: Schema.Int.annotate({ description: "minutes" }),
  distance: Schema.Int.check(Schema.isGreaterThan(0)).annotate({ description: "statute miles" })
})
export type Flight = typeof Flight.Type

/** A flight whose airports are known, as `legs` publishes it. */
export const Leg = Schema.Struct({
  from: Schema.String,
  to: Schema.String,
  delay: Schema.Int,
  miles: Schema.Int
})
export type Leg = typeof Leg.Type

// -----------------------------------------------------------------------------
// strikes: FAA Wildlife Strike Database, 1990 to 2002
// -----------------------------------------------------------------------------

/** A number in a CSV cell, where an empty cell means that nobody wrote one down. */
const OptionalInt = Schema.String.pipe(
  Schema.decodeTo(
    Schema.Option(Schema.Int),
    SchemaTransformation.transform({
      decode: (text) => (text === "" ? Option.none() : Option.some(Number(text))),
      encode: Option.match({ onNone: () => "", onSome: String })
    })
  )
)

/** The FAA marks operators that merged since with an asterisk: `US AIRWAYS*`. */
const Operator = Schema.String.pipe(
  Schema.decodeTo(
    Schema.NonEmptyString,
    SchemaTransformation.transform({ decode: (text) => text.replace(/\*$/, ""), encode: (name) => name })
  )
)

/** One strike. Fifteen rows have the damage "B" or "C", which the code book does not know: they do not decode. */
export const Strike = Schema.Struct({
  airport: Schema.NonEmptyString,
  aircraft: Schema.NonEmptyString,
  operator: Operator,
  date: Schema.String.check(Schema.isPattern(/^\d{4}-\d\d-\d\d$/)),
  phase: Schema.NonEmptyString,
  species: Schema.NonEmptyString,
  damage: Schema.Literals(["None", "Minor", "Medium", "Substantial"]),
  cost: Schema.FiniteFromString.annotate({ description: "US dollars" }),
  speed: OptionalInt.annotate({ description: "knots" })
}).pipe(
  Schema.encodeKeys({
    airport: "Airport Name",
    aircraft: "Aircraft Make Model",
    operator: "Aircraft Airline Operator",
    date: "Flight Date",
    phase: "Phase of flight",
    species: "Wildlife Species",
    damage: "Effect Amount of damage",
    cost: "Cost Total $",
    speed: "Speed IAS in knots"
  })
)
export type Strike = typeof Strike.Type

// -----------------------------------------------------------------------------
// quakes: USGS, all earthquakes of one week in 2018
// -----------------------------------------------------------------------------

/** One event as a GeoJSON feature. The magnitude is logarithmic: -0.8 is a small one, and not an error. */
export const Quake = Schema.Struct({
  id: Schema.NonEmptyString,
  properties: Schema.Struct({
    mag: Schema.Finite,
    place: Schema.NonEmptyString,
    time: Schema.DateTimeUtcFromMillis,
    /** Not always "earthquake": the network hears quarry blasts and explosions too. */
    type: Schema.String,
    status: Schema.Literals(["automatic", "reviewed"]),
    /** How many stations heard it; often not recorded. */
    nst: Schema.OptionFromNullOr(Schema.Int)
  }),
  geometry: Schema.Struct({
    coordinates: Schema.Tuple([
      Schema.Finite.check(Schema.isBetween({ minimum: -180, maximum: 180 })),
      Schema.Finite.check(Schema.isBetween({ minimum: -90, maximum: 90 })),
      Schema.Finite.annotate({ description: "depth in kilometres; negative above sea level" })
    ])
  })
})
export type Quake = typeof Quake.Type

// -----------------------------------------------------------------------------
// topics
// -----------------------------------------------------------------------------

/** What the feeds publish to: anything that is JSON. */
export const Feeds = {
  flights: Topic.make("flights", { schema: Schema.JsonObject }),
  strikes: Topic.make("strikes", { schema: Schema.JsonObject }),
  quakes: Topic.make("quakes", { schema: Schema.JsonObject })
}

/** What the subscriptions read: the same topics, strictly. */
export const Flights = Topic.make("flights", { schema: Flight })
export const Strikes = Topic.make("strikes", { schema: Strike })
export const Quakes = Topic.make("quakes", { schema: Quake })
/** Written by one subscription, read by another. */
export const Legs = Topic.make("legs", { schema: Leg })

// -----------------------------------------------------------------------------
// loading
// -----------------------------------------------------------------------------

/** An airport of the reference table. A dozen have the state "NA", which is no state. */
const Airport = Schema.Struct({
  iata: Schema.NonEmptyString,
  name: Schema.String,
  state: Schema.String,
  latitude: Schema.FiniteFromString,
  longitude: Schema.FiniteFromString
})
export type Airport = typeof Airport.Type

const decodeAirport = Schema.decodeUnknownEffect(Airport)

/** A record as its agency published it. */
export type Row = Schema.JsonObject

const Rows = Schema.fromJsonString(Schema.Array(Schema.JsonObject))
const Features = Schema.fromJsonString(Schema.Struct({ features: Schema.Array(Schema.JsonObject) }))

const csv = (text: string) => Stream.make(text).pipe(Stream.pipeThroughChannel(Csv.decodeString({ headers: true })))

/** The records, read once. */
export class Datasets extends Context.Service<
  Datasets,
  {
    readonly flights: ReadonlyArray<Row>
    readonly strikes: ReadonlyArray<Row>
    readonly quakes: ReadonlyArray<Row>
    readonly airports: ReadonlyMap<string, Airport>
  }
>()("examples/Datasets") {
  static readonly layer: Layer.Layer<
    Datasets,
    PlatformError.PlatformError | Schema.SchemaError | Csv.CsvError,
    FileSystem.FileSystem
  > = Layer.effect(
    Datasets,
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      // the package's entry point is build/index.js, and its files are not exported
      const folder = new URL("../data/", import.meta.resolve("vega-datasets"))
      const read = (file: string) => fs.readFileString(new URL(file, folder).pathname)
      const flights = yield* Effect.flatMap(read("flights-10k.json"), Schema.decodeEffect(Rows))
      const strikes = yield* Effect.flatMap(read("birdstrikes.csv"), (text) => Stream.runCollect(csv(text)))
      const { features } = yield* Effect.flatMap(read("earthquakes.json"), Schema.decodeEffect(Features))
      const airports = yield* Effect.flatMap(read("airports.csv"), (text) =>
        csv(text).pipe(
          Stream.mapEffect((row) => decodeAirport(row)),
          Stream.runCollect
        )
      )
      return Datasets.of({
        flights,
        strikes,
        quakes: features,
        airports: new Map(Array.map(airports, (airport) => [airport.iata, airport]))
      })
    })
  )
}
