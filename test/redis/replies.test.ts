/** Lists are decoded beside the client, in whatever pieces they come; all else reaches the client as it is. */
import { assert, describe, it } from "@effect/vitest"
import { RedisClient } from "@clutch/redis/RedisClient"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Redis } from "ioredis"
import { randomBytes, randomUUID } from "node:crypto"
import { once } from "node:events"
import { createServer } from "node:net"
import { inject } from "vitest"
import { Decoder, decoding } from "../../packages/redis/src/internal/replies.ts"
import { whenReady } from "../../packages/redis/src/internal/connection.ts"
import { Splitter, words } from "../support/resp.ts"

type Value = string | number | null | ReadonlyArray<Value>

const encoded = (value: Value): Buffer => {
  if (value === null) return Buffer.from("$-1\r\n")
  if (typeof value === "number") return Buffer.from(`:${value}\r\n`)
  if (typeof value === "string") {
    return Buffer.concat([Buffer.from(`$${Buffer.byteLength(value)}\r\n`), Buffer.from(value), Buffer.from("\r\n")])
  }
  return Buffer.concat([Buffer.from(`*${value.length}\r\n`), ...value.map(encoded)])
}

/** The same with bytes as text; half of a character is no UTF-8, and there is no zero below zero. */
const readable = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(readable)
  if (value === 0) return 0
  return Buffer.isBuffer(value) ? value.toString() : typeof value === "string" ? value.toWellFormed() : value
}

/** What whoever sent commands gets, of bytes that come in these pieces. */
const received = (pieces: ReadonlyArray<Buffer>): ReadonlyArray<unknown> => {
  const splitter = new Splitter()
  const passed: Array<Buffer> = []
  const decoder = new Decoder((bytes) => passed.push(...splitter.push(bytes)))
  for (const piece of pieces) decoder.write(piece)
  return passed.map((reply) => {
    const ticket = /^\*1\r\n:(\d+)\r\n$/.exec(reply.toString("latin1"))
    return ticket === null ? reply.toString() : readable(decoder.claim([Number(ticket[1])]))
  })
}

/** Cut behind every so many bytes, by turns. */
const cut = (bytes: Buffer, sizes: ReadonlyArray<number>): ReadonlyArray<Buffer> => {
  const pieces: Array<Buffer> = []
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? bytes.length
    pieces.push(bytes.subarray(at, at + size))
    at += size
  }
  return pieces
}

const Leaf = Schema.Union([
  Schema.String,
  Schema.Int,
  Schema.Null,
  Schema.Literal("data"),
  Schema.Literal("a\r\n$3\r\n")
])
const Replies = Schema.Array(Schema.Union([Leaf, Schema.Array(Schema.Union([Leaf, Schema.Array(Leaf)]))]))
const Sizes = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 12 })))

describe("replies", () => {
  it.prop(
    "a list is itself, whatever pieces it comes in, and all else is passed as it came",
    [Arbitrary.schema(Replies), Arbitrary.schema(Sizes)],
    ([replies, sizes]) => {
      const bytes = replies.map(encoded)
      const expected = replies.map((reply, i) => (Array.isArray(reply) ? readable(reply) : bytes[i]?.toString()))
      assert.deepStrictEqual(received(cut(Buffer.concat(bytes), sizes)), expected)
      assert.deepStrictEqual(received(bytes), expected)
    },
    { arbitrary: { runs: 500 } }
  )

  it("every place to cut, of replies of every kind", () => {
    const bytes = Buffer.from(
      "+OK\r\n-ERR no\r\n:-12\r\n$4\r\na\r\nb\r\n*-1\r\n*0\r\n$-1\r\n*4\r\n:-7\r\n+fine\r\n*2\r\n$0\r\n\r\n$4\r\ndata\r\n*-1\r\n+last\r\n"
    )
    const expected = [
      "+OK\r\n",
      "-ERR no\r\n",
      ":-12\r\n",
      "$4\r\na\r\nb\r\n",
      "*-1\r\n",
      [],
      "$-1\r\n",
      [-7, "fine", ["", "data"], null],
      "+last\r\n"
    ]
    for (let at = 0; at <= bytes.length; at++) {
      assert.deepStrictEqual(received([bytes.subarray(0, at), bytes.subarray(at)]), expected, `cut at ${at}`)
    }
    assert.deepStrictEqual(received(cut(bytes, [1])), expected)
  })

  it("an error within a list is an error, with its words", () => {
    const decoder = new Decoder(() => {})
    decoder.write(Buffer.from("*2\r\n-WRONGTYPE of a key\r\n:1\r\n"))
    const list = decoder.claim([1])
    assert.isTrue(Array.isArray(list) && list[0] instanceof Error && list[0].message === "WRONGTYPE of a key")
  })

  it("what comes behind a long text does not hold on to it", () => {
    const decoder = new Decoder(() => {})
    const long = "a".repeat(1_000_000)
    for (const piece of cut(Buffer.concat([[long, "b"], ["c"]].map(encoded)), [65_536]))
      decoder.write(Buffer.from(piece))
    const lists = [decoder.claim([1]), decoder.claim([2])]
    assert.deepStrictEqual(readable(lists), [[long, "b"], ["c"]])
    for (const short of [(lists[0] as Array<Buffer>)[1], (lists[1] as Array<Buffer>)[0]]) {
      assert.isAtMost(short?.buffer.byteLength ?? Infinity, 65_536)
    }
  })

  it("a list is handed out once", () => {
    const decoder = new Decoder(() => {})
    decoder.write(Buffer.from("*1\r\n:5\r\n"))
    assert.deepStrictEqual(decoder.claim([1]), [5])
    assert.throws(() => decoder.claim([1]), "there is no list for ticket 1")
  })

  it("what is no reply is the client's to complain of, also within a list", () => {
    const passed: Array<string> = []
    const decoder = new Decoder((bytes) => passed.push(bytes.toString()))
    decoder.write(Buffer.from("*2\r\n:1\r\nHTTP/1.1 400 Bad Request\r\n"))
    decoder.write(Buffer.from("+OK\r\n"))
    assert.deepStrictEqual(passed, ["HTTP/1.1 400 Bad Request\r\n", "+OK\r\n"])
  })
})

describe("a client whose lists are decoded here", () => {
  const url = inject("redisUrl")

  it.live("gets what the client gets by itself: bytes, numbers, nothing and errors, small and large", () =>
    Effect.gen(function* () {
      const plain = new Redis(url, { protocol: 2, lazyConnect: true })
      const decoded = decoding(new Redis(url, { protocol: 2, lazyConnect: true }))
      yield* Effect.addFinalizer(() => Effect.sync(() => [plain, decoded].forEach((one) => one.disconnect())))
      yield* Effect.promise(() => Promise.all([plain.connect(), decoded.connect()]))
      const key = `replies.{${randomUUID()}}`
      const large = randomBytes(3_000_000)
      const sent: ReadonlyArray<readonly [string, ReadonlyArray<string | Buffer>]> = [
        ["RPUSH", [key, "data", "", Buffer.from([0, 13, 10, 255]), large, "one"]],
        ["LRANGE", [key, "0", "-1"]],
        ["LINDEX", [key, "3"]],
        ["LINDEX", [key, "99"]],
        ["LRANGE", [`${key}.none`, "0", "-1"]],
        ["BLPOP", [`${key}.none`, "0.01"]],
        ["EVAL", ["return {1, {'a', false, {ok = 'fine'}}, {}}", "0"]],
        ["HSET", [`${key}.hash`, "field", "value"]],
        ["HGETALL", [`${key}.hash`]],
        ["DEL", [key, `${key}.hash`]]
      ]
      const answers = (ask: typeof decoded.callBuffer) =>
        Effect.promise(() => Promise.all(sent.map(([command, args]) => ask(command, [...args]))))
      const expected = yield* answers((command, args) => plain.callBuffer(command, args))
      assert.deepStrictEqual(yield* answers((command, args) => decoded.callBuffer(command, args)), expected)
      // of which the client itself makes an object, as it does not of the same in capitals
      yield* Effect.promise(() => decoded.callBuffer("HSET", [key, "field", "value"]))
      const fields = yield* Effect.promise(() => decoded.callBuffer("hgetall", [key]))
      assert.deepStrictEqual(readable(fields), ["field", "value"])
      yield* Effect.promise(() => decoded.callBuffer("DEL", [key]))
      const refused = yield* Effect.promise(() => decoded.callBuffer("LRANGE", [key]).catch(String))
      assert.include(String(refused), "wrong number of arguments")
    }).pipe(Effect.scoped)
  )

  it.live("goes on after its connection was lost in the middle of a list", () =>
    Effect.gen(function* () {
      const list = "*2\r\n$1\r\na\r\n$1\r\nb\r\n"
      let connections = 0
      const server = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const answering = createServer((socket) => {
            connections += 1
            const isFirst = connections === 1
            const splitter = new Splitter()
            socket.on("error", () => {})
            socket.on("data", (chunk) => {
              for (const request of splitter.push(chunk)) {
                const [command] = words(request)
                if (command !== "LRANGE") socket.write(command === "info" ? "$0\r\n\r\n" : "+OK\r\n")
                else if (isFirst) socket.end(list.slice(0, 12))
                else socket.write(list)
              }
            })
          }).listen(0, "127.0.0.1")
          await once(answering, "listening")
          return answering
        }),
        (answering) => Effect.sync(() => answering.close())
      )
      const address = server.address()
      const port = typeof address === "object" ? address?.port : undefined
      const client = yield* RedisClient.make({ url: `redis://127.0.0.1:${port}` })
      const lost = yield* Effect.flip(client.command("LRANGE", ["list", "0", "-1"]))
      assert.strictEqual(lost.reason._tag, "Unknown")
      yield* whenReady(client, "connect")
      assert.deepStrictEqual(readable(yield* client.command("LRANGE", ["list", "0", "-1"])), ["a", "b"])
    }).pipe(Effect.scoped)
  )
})
