import * as CloudEvent from "@clutch/core/CloudEvent"
import type { Message } from "@clutch/core/Message"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as DateTime from "effect/DateTime"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

const Order = Schema.Struct({ orderId: Schema.String, total: Schema.Number, at: Schema.DateTimeUtcFromString })
type Order = typeof Order.Type
const order: Order = { orderId: "o-1", total: 42, at: DateTime.makeUnsafe("2024-01-02T03:04:05.006Z") }

const encode = CloudEvent.encode(Order)
const decode = CloudEvent.decode(Order)

const message = (more: Partial<Message<Order>> = {}): Message<Order> => ({
  id: "1-0",
  source: "/clutch/orders",
  type: "orders",
  time: DateTime.makeUnsafe("2024-05-06T07:08:09.010Z"),
  data: order,
  headers: {},
  ...more
})

const foreign = { specversion: "1.0", id: "A234", source: "/sensors", type: "com.example", data: "warm" }
const decodeText = CloudEvent.decode(Schema.String)

/** As another system would: over the wire. */
const wire = (event: CloudEvent.CloudEvent): unknown => JSON.parse(JSON.stringify(event))

describe("CloudEvent", () => {
  it("writes the attributes of the JSON event format, and the data by its JSON codec", () => {
    const event = Result.getOrThrow(
      encode(message({ subject: "s", partitionkey: "k", traceparent: "00-a-b-01", tracestate: "v=1" }))
    )
    assert.deepStrictEqual(event, {
      specversion: "1.0",
      id: "1-0",
      source: "/clutch/orders",
      type: "orders",
      time: "2024-05-06T07:08:09.010Z",
      subject: "s",
      partitionkey: "k",
      traceparent: "00-a-b-01",
      tracestate: "v=1",
      datacontenttype: "application/json",
      data: { orderId: "o-1", total: 42, at: "2024-01-02T03:04:05.006Z" }
    })
  })

  it("leaves out what is not there", () => {
    const event = Result.getOrThrow(encode(message()))
    for (const name of ["subject", "partitionkey", "traceparent", "tracestate", "clutchheaders"]) {
      assert.notProperty(event, name)
    }
  })

  it("a header that CloudEvents allows as an extension is one; the others travel together", () => {
    const headers = { tenant: "a", "x-request-id": "r", Upper: "u", ü: "ü" }
    const event = Result.getOrThrow(encode(message({ headers })))
    assert.strictEqual(event["tenant"], "a")
    for (const name of ["x-request-id", "Upper", "ü"]) assert.notProperty(event, name)
    assert.deepStrictEqual(JSON.parse(String(event["clutchheaders"])), { "x-request-id": "r", Upper: "u", ü: "ü" })
  })

  it.each(["id", "source", "type", "time", "data", "specversion", "datacontenttype", "dataschema", "clutchheaders"])(
    "a header called %s does not overwrite the attribute, and comes back",
    (name) => {
      const headers = { [name]: "mine" }
      const event = Result.getOrThrow(encode(message({ headers })))
      if (name !== "dataschema" && name !== "clutchheaders") assert.notStrictEqual(event[name], "mine")
      const read = Result.getOrThrow(decode(wire(event)))
      assert.deepStrictEqual(read, message({ headers }))
    }
  )

  const unicode = Arbitrary.schema(Schema.String)
  const nonEmpty = Arbitrary.schema(Schema.NonEmptyString)
  // without what JSON escapes: V8 (seen in 13.6) at times parses the key "\u0000" of a text beyond Latin-1 as a backslash
  const printable = Schema.NonEmptyString.check(Schema.isPattern(/^[^\p{Cc}\p{Cs}"\\]+$/u))
  const names = Arbitrary.schema(
    Schema.Union([printable, Schema.Literals(["id", "data", "tenant", "x-y", "🥚", "time", "__proto__"])])
  )
  it.prop(
    "what is written is read again as it was, whatever the headers, ids and texts hold",
    {
      id: nonEmpty,
      source: nonEmpty,
      type: nonEmpty,
      subject: unicode,
      key: unicode,
      orderId: unicode,
      total: Arbitrary.schema(Schema.Int),
      keys: Arbitrary.array(names),
      value: unicode
    },
    ({ id, key, keys, orderId, source, subject, total, type, value }) => {
      const headers = Object.fromEntries(keys.map((name, i) => [name, `${value}${i}`]))
      const data = { ...order, orderId, total: total + 0 }
      const given = message({ id, source, type, subject, partitionkey: key, headers, data })
      const read = Result.getOrThrow(decode(wire(Result.getOrThrow(encode(given)))))
      assert.deepStrictEqual(read, given)
    },
    { arbitrary: { runs: 500 } }
  )

  it("reads a foreign event: extensions become headers, as text", () => {
    const event = { ...foreign, time: "2018-04-05T17:31:00Z", comexampleext: "v", number: 5, flag: true, nothing: null }
    const read = Result.getOrThrow(decodeText(event))
    assert.deepStrictEqual(read.headers, { comexampleext: "v", number: "5", flag: "true" })
    assert.strictEqual(DateTime.toEpochMillis(read.time), Date.parse("2018-04-05T17:31:00Z"))
    assert.strictEqual(read.data, "warm")
  })

  it("an extension whose name is longer than the 20 characters that are only advised is not lost", () => {
    const event = { ...foreign, averylongextensionattributename: "v" }
    assert.deepStrictEqual(Result.getOrThrow(decodeText(event)).headers, { averylongextensionattributename: "v" })
  })

  it("a foreign event's time keeps its moment, whatever its offset", () => {
    const read = Result.getOrThrow(decodeText({ ...foreign, time: "2018-04-05T19:31:00+02:00" }))
    assert.strictEqual(DateTime.toEpochMillis(read.time), Date.parse("2018-04-05T17:31:00Z"))
  })

  it("an event without time gets the epoch", () => {
    assert.strictEqual(DateTime.toEpochMillis(Result.getOrThrow(decodeText(foreign)).time), 0)
  })

  it("extensions read from a foreign event are written again under their names", () => {
    const read = Result.getOrThrow(decodeText({ ...foreign, comexampleext: "v" }))
    const again = Result.getOrThrow(CloudEvent.encode(Schema.String)(read))
    assert.strictEqual(again["comexampleext"], "v")
  })

  it.each([
    ["is no object", "text"],
    ["is null", null],
    ["is undefined", undefined],
    ["is an array", []],
    ["has no id", { ...foreign, id: undefined }],
    ["has an empty id", { ...foreign, id: "" }],
    ["has no source", { ...foreign, source: undefined }],
    ["has no type", { ...foreign, type: "" }],
    ["is of another version", { ...foreign, specversion: "0.3" }],
    ["has a time that is none", { ...foreign, time: "noon" }],
    ["has data that do not fit", { ...foreign, data: 7 }],
    ["has no data", { ...foreign, data: undefined }]
  ])("an event that %s is a failure, never an exception", (_, event) => {
    const read = decodeText(event)
    assert.isTrue(Result.isFailure(read) && Schema.isSchemaError(read.failure))
  })

  it("data that does not fit is a failure of writing, never an exception", () => {
    // what a caller from JavaScript could pass
    const written = encode(message({ data: { orderId: 7 } as unknown as Order }))
    assert.isTrue(Result.isFailure(written) && Schema.isSchemaError(written.failure))
  })
})
