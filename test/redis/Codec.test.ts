import * as Codec from "@clutch/redis/Codec"
import * as Result from "effect/Result"
import { assert, describe, test } from "vitest"

const fields = (...parts: ReadonlyArray<string | Buffer>): Codec.Fields =>
  parts.map((part) => (typeof part === "string" ? Buffer.from(part) : part))

describe("Codec.native", () => {
  test("a plain message is one field, readable as it is", () => {
    assert.deepStrictEqual(Codec.native.encode({ data: '{"n":1}', attributes: undefined }), ["data", '{"n":1}'])
  })

  test("attributes that cannot be derived are a second one, and come back", () => {
    const attributes = { id: "ü", headers: { a: "\u0000" } }
    const encoded = Codec.native.encode({ data: "1", attributes })
    assert.deepStrictEqual(encoded.slice(0, 3), ["data", "1", "ce"])
    const content = Result.getOrThrow(Codec.native.decode(fields(...encoded)))
    assert.deepStrictEqual(content.attributes, attributes)
    assert.strictEqual(String(content.data), "1")
  })

  test.each([
    "",
    "a",
    "ü",
    "\u{1f600}",
    '"',
    "\\",
    '","id":"b',
    "\\u0041",
    "\n",
    "\u0000",
    "\u007f",
    "\ud800",
    "\uffff",
    "}"
  ])("a key alone comes back as it was: %j", (partitionkey) => {
    const encoded = Codec.native.encode({ data: "1", attributes: { partitionkey } })
    const content = Result.getOrThrow(Codec.native.decode(fields(...encoded)))
    assert.deepStrictEqual(content.attributes, { partitionkey })
  })

  test("attributes that it does not know are left out", () => {
    const content = Codec.native.decode(
      fields("data", "1", "ce", '{"id":"a","headers":{"b":"c"},"__proto__":"d","e":1}')
    )
    assert.deepStrictEqual(Result.getOrThrow(content).attributes, { id: "a", headers: { b: "c" } })
  })

  test("fields of others are passed over, in any order", () => {
    const content = Codec.native.decode(fields("clutch", "{}", "data!", "no", "data", "7"))
    assert.strictEqual(String(Result.getOrThrow(content).data), "7")
  })

  test.each([
    [[], "data"],
    [["date", "1"], "data"],
    [["data", "1", "ce", "{"], "ce"],
    [["data", "1", "ce", "[]"], "ce"],
    [["data", "1", "ce", "null"], "ce"],
    [["data", "1", "ce", '{"id":7}'], "ce"],
    [["data", "1", "ce", '{"id":null}'], "ce"],
    [["data", "1", "ce", '{"partitionkey":"a\n"}'], "ce"],
    [["data", "1", "ce", '{"partitionkey":"a"b"}'], "ce"],
    [["data", "1", "ce", '{"partitionkey":"a\\"}'], "ce"],
    [["data", "1", "ce", '{"headers":"a"}'], "ce"],
    [["data", "1", "ce", '{"headers":["a"]}'], "ce"],
    [["data", "1", "ce", '{"headers":{"a":1}}'], "ce"]
  ] as const)("what it cannot read is a sentence that names the field: %j", (parts, name) => {
    const content = Codec.native.decode(fields(...parts))
    assert.isTrue(Result.isFailure(content) && content.failure.includes(`"${name}"`))
  })
})

describe("Codec.netstrings", () => {
  const bytes = Buffer.from([0, 255, 44, 58, 10, 13])

  test.each([[["data", "1"]], [["data", ""]], [["", bytes]], [["ü", "snow ☃", bytes, bytes]]])(
    "%j comes back",
    (parts) => {
      const parsed = Result.getOrThrow(Codec.parseNetstrings(Codec.netstrings(parts)))
      assert.isTrue(Buffer.concat(parsed).equals(Buffer.concat(fields(...parts))))
      assert.strictEqual(parsed.length, parts.length)
    }
  )

  test.each(["", "x", "1:a", "1:a,", "1:a;1:b,", "01:a,1:b,", "99999999999:a,1:b,", "-1:a,1:b,", "5:a,1:b,"])(
    "%j is none",
    (text) => {
      assert.isTrue(Result.isFailure(Codec.parseNetstrings(Buffer.from(text))))
    }
  )
})

describe("Codec: the field clutch", () => {
  const meta = { original: "1-0", attempt: 2, cause: 'said "no"\n', redriven: undefined }
  const closed = (open: Codec.OpenMeta) => [
    ...Result.getOrThrow(Codec.parseNetstrings(Buffer.from(open.fields))),
    Buffer.from("clutch"),
    Buffer.from(`${open.clutch},"first":1,"failed":2}`)
  ]

  test("what a script closes with times can be read", () => {
    const read = Codec.retryMeta(closed(Codec.openRetry("main", fields("data", "1"), meta)))
    assert.deepStrictEqual(Result.getOrThrow(read), { ...meta, first: 1, failed: 2, key: undefined })
    const keyed = { ...meta, key: "k\ud800:\u0000" }
    const readKeyed = Codec.retryMeta(closed(Codec.openRetry("main", fields("data", "1"), keyed)))
    assert.deepStrictEqual(Result.getOrThrow(readKeyed), { ...keyed, first: 1, failed: 2 })
    const dead = { original: "1-0", reason: "poison", cause: "", attempts: 1, from: "k", redriven: "9-0" } as const
    const readDead = Codec.deadMeta(closed(Codec.openDead("retry", fields("data", "1"), dead)))
    assert.deepStrictEqual(Result.getOrThrow(readDead), { ...dead, first: 1, failed: 2 })
  })

  test.each([
    ["data", "snow ☃ \u{1F600}\uFEFF"],
    ["data", Buffer.from([0, 255, 44, 58])],
    ["ü", Buffer.from([0xed, 0xa0, 0x80])]
  ])("%s: %j is kept byte for byte", (name, value) => {
    const kept = closed(Codec.openRetry("main", fields(name, value), meta))
    assert.deepStrictEqual(kept.slice(0, 2), [...fields(name, value)])
  })

  test("our own clutch is replaced; a corrupt one, and a publisher's, is kept under another name", () => {
    const ours = fields("data", "1", "clutch", '{"original":"1-0","attempt":1}')
    const kept = (origin: "main" | "retry", from: Codec.Fields) => {
      const value = Codec.field(closed(Codec.openRetry(origin, from, meta)), "clutch.original")
      return value === undefined ? undefined : String(value)
    }
    assert.isUndefined(kept("retry", ours))
    assert.strictEqual(kept("main", ours), '{"original":"1-0","attempt":1}')
    assert.strictEqual(kept("retry", fields("data", "1", "clutch", "{")), "{")
  })

  test.each([
    "",
    "{",
    "[]",
    "{}",
    '{"original":"1-0"}',
    '{"original":"text","attempt":1}',
    '{"original":"1-0","attempt":-1}',
    "null",
    '{"original":"1-0","attempt":"1"}',
    '{"original":"1-0","attempt":1.5}',
    '{"original":"1-0","attempt":1,"first":"5"}',
    '{"original":"1-0","attempt":1,"first":1e999}',
    '{"original":"1-0","attempt":1,"failed":null}',
    '{"original":"1-0","attempt":1,"cause":5}',
    '{"original":"1-0","attempt":1,"redriven":{}}',
    '{"original":"1-0","attempt":1,"key":[]}'
  ])("%j is no clutch of a retry", (text) => {
    assert.isTrue(Result.isFailure(Codec.retryMeta(fields("clutch", text))))
  })

  test("raw is the data's bytes, else everything", () => {
    assert.strictEqual(String(Codec.raw(fields("ce", "x", "data", "1"))), "1")
    assert.strictEqual(String(Codec.raw(fields("a", "b"))), "1:a,1:b,")
  })
})
