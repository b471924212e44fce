import * as Message from "@clutch/core/Message"
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"

const entry = (json: unknown, attributes?: Message.Attributes) =>
  Message.fromEntry({ namespace: "shop", topic: "orders", originalId: "1700000000123-4", json, attributes })

describe("Message", () => {
  it("derives id, source, type and time where no attribute says otherwise", () => {
    const message = entry({ total: 1 })
    assert.strictEqual(message.id, "1700000000123-4")
    assert.strictEqual(message.source, "/shop/orders")
    assert.strictEqual(message.type, "orders")
    assert.strictEqual(DateTime.toEpochMillis(message.time), 1_700_000_000_123)
    assert.deepStrictEqual(message.headers, {})
    assert.deepStrictEqual(message.data, { total: 1 })
    for (const name of ["subject", "partitionkey", "traceparent", "tracestate"]) assert.notProperty(message, name)
  })

  it("attributes that are there win over what is derived", () => {
    const attributes = {
      id: "o-1",
      source: "urn:elsewhere",
      type: "order.placed",
      time: "2024-02-29T12:00:00.5Z",
      subject: "o",
      partitionkey: "k",
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      tracestate: "vendor=1",
      headers: { tenant: "a" }
    }
    const { time, ...message } = entry({ _tag: "Placed" }, attributes)
    const { time: given, ...others } = attributes
    assert.deepStrictEqual(message, { ...others, data: { _tag: "Placed" } })
    assert.strictEqual(DateTime.toEpochMillis(time), Date.parse(given))
  })

  it("a time that is none is as if it were not there", () => {
    assert.strictEqual(DateTime.toEpochMillis(entry(1, { time: "yesterday" }).time), 1_700_000_000_123)
  })

  it("attributes given as undefined do not hide what is derived", () => {
    const attributes = { id: undefined, source: undefined, type: undefined, time: undefined, headers: undefined }
    const message = entry({ _tag: "Placed" }, attributes)
    assert.strictEqual(message.id, "1700000000123-4")
    assert.strictEqual(message.source, "/shop/orders")
    assert.strictEqual(message.type, "Placed")
    assert.deepStrictEqual(message.headers, {})
  })

  it.each([
    [{ _tag: "Placed", total: 1 }, "Placed"],
    [{ _tag: "" }, ""],
    [{ _tag: 7 }, "orders"],
    [{}, "orders"],
    [null, "orders"],
    ["Placed", "orders"],
    [["_tag"], "orders"],
    [undefined, "orders"]
  ])("the type of %o is its _tag, else the topic's name: %s", (json, type) => {
    assert.strictEqual(Message.typeOf("orders", json), type)
    assert.strictEqual(entry(json).type, type)
  })

  it.each([
    ["0-1", 0],
    ["1700000000123-4", 1_700_000_000_123],
    ["9007199254740991-18446744073709551615", Number.MAX_SAFE_INTEGER]
  ])("the millisecond part of %s is %i", (id, expected) => {
    assert.strictEqual(Message.millisOf(id), expected)
  })
})
