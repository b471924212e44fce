import { Redis } from "ioredis"
import { once } from "node:events"
import { existsSync } from "node:fs"
import { connect } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest"
import { type Proxy, startProxy } from "./proxy.ts"
import { type RedisServer, startRedis } from "./redis.ts"
import { Splitter, words } from "./resp.ts"

/** One attempt at everything: what fails, fails at once, and no command is sent twice. */
const client = (url: string): Redis => {
  const redis = new Redis(url, { retryStrategy: null, maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false })
  redis.on("error", () => {})
  return redis
}

describe("a private server", () => {
  it("keeps its port and folder through kill and restart, and stop removes the folder", async () => {
    const server = await startRedis({ args: ["--appendonly", "yes", "--appendfsync", "always"] })
    const first = client(server.url)
    await first.set("key", "value")
    const pid = server.pid()
    await server.kill()
    await server.restart()
    expect(server.pid()).not.toBe(pid)
    const second = client(server.url)
    expect(await second.get("key")).toBe("value")
    second.disconnect()
    first.disconnect()
    await server.stop()
    expect(existsSync(server.dir)).toBe(false)
  })

  it("is shared by the files of a project", async () => {
    const redis = client(inject("redisUrl"))
    expect(await redis.ping()).toBe("PONG")
    redis.disconnect()
  })
})

describe("the proxy", () => {
  let server: RedisServer
  let proxy: Proxy
  beforeAll(async () => {
    server = await startRedis()
    proxy = await startProxy(server.url)
  })
  afterAll(async () => {
    await proxy.close()
    await server.stop()
  })

  it("passes bytes through unchanged, however they are cut into packets", async () => {
    const redis = client(proxy.url)
    const bytes = Buffer.from(Array.from({ length: 1_000_000 }, (_, i) => (i * 7) % 256))
    await redis.set("bytes", bytes)
    expect((await redis.getBuffer("bytes"))?.equals(bytes)).toBe(true)
    redis.disconnect()
  })

  it("loses one reply: the command took effect, its client sees a closed connection, the next one works", async () => {
    const redis = client(proxy.url)
    const cut = proxy.cutReply((command) => command.startsWith("incr counter"))
    const before = redis.set("before", "1")
    const lost = redis.incr("counter").then(
      () => "replied",
      () => "lost"
    )
    expect(await before).toBe("OK")
    expect(await lost).toBe("lost")
    expect(await cut).toBe("incr counter")
    const next = client(proxy.url)
    expect(await next.get("counter")).toBe("1")
    expect(await next.incr("counter")).toBe(2)
    next.disconnect()
  })

  it("cuts, refuses, delays and counts connections", async () => {
    const accepted = proxy.accepted()
    const redis = client(proxy.url)
    await redis.ping()
    expect(proxy.accepted()).toBe(accepted + 1)
    proxy.delayReplies(100)
    const start = Date.now()
    await redis.ping()
    expect(Date.now() - start).toBeGreaterThanOrEqual(95)
    proxy.delayReplies(0)
    const closed = new Promise((resolve) => redis.once("end", resolve))
    proxy.cutAll()
    await closed
    await sleep(10)
    expect(proxy.open()).toBe(0)
    proxy.refuse(true)
    const refused = client(proxy.url)
    await expect(refused.ping()).rejects.toThrow()
    proxy.refuse(false)
    expect(proxy.accepted()).toBe(accepted + 1)
  })

  it("half closes: a client reads the end and what it writes still arrives, or the server reads the end", async () => {
    const redis = client(server.url)
    const open = async () => {
      const socket = connect({ port: proxy.port, host: "127.0.0.1", allowHalfOpen: true })
      socket.on("error", () => {}).write("*1\r\n$4\r\nPING\r\n")
      await once(socket, "data")
      return socket
    }
    const replies = await open()
    proxy.halfCloseAll("replies")
    await once(replies, "end")
    replies.write("*2\r\n$4\r\nINCR\r\n$7\r\nwritten\r\n")
    await expect.poll(() => redis.get("written")).toBe("1")
    replies.destroy()
    await expect.poll(() => proxy.open()).toBe(0)
    const requests = await open()
    proxy.halfCloseAll("requests")
    requests.write("*2\r\n$4\r\nINCR\r\n$7\r\nwritten\r\n")
    await once(requests, "end")
    requests.destroy()
    expect(await redis.get("written")).toBe("1")
    expect(proxy.open()).toBe(0)
    redis.disconnect()
  })

  it("keeps replies paired while pushes and nested replies come between", async () => {
    const subscriber = client(proxy.url)
    await subscriber.subscribe("news", "more")
    const message = new Promise((resolve) => subscriber.once("message", (_, text) => resolve(text)))
    const redis = client(proxy.url)
    await redis.multi().xadd("s", "1-1", "f", "a\r\nb").publish("news", "$3\r\n").exec()
    expect(await message).toBe("$3\r\n")
    expect(await redis.xrange("s", "-", "+")).toEqual([["1-1", ["f", "a\r\nb"]]])
    redis.disconnect()
    subscriber.disconnect()
  })
})

describe("the protocol reader", () => {
  const request = Buffer.from("*2\r\n$3\r\nGET\r\n$4\r\n\r\n\xff\x00\r\n", "latin1")

  it("finds the same requests whatever the pieces", () => {
    const two = Buffer.concat([request, request])
    for (let size = 1; size <= two.length; size++) {
      const splitter = new Splitter()
      const found: Array<Buffer> = []
      for (let at = 0; at < two.length; at += size) found.push(...splitter.push(two.subarray(at, at + size)))
      expect(found.map(words)).toEqual([
        ["GET", "\r\n\xff\x00"],
        ["GET", "\r\n\xff\x00"]
      ])
    }
  })

  it.each([
    ["+OK\r\n"],
    ["$-1\r\n"],
    ["*-1\r\n"],
    ["*0\r\n"],
    ["%1\r\n$1\r\na\r\n*2\r\n:1\r\n_\r\n"],
    ["|1\r\n+k\r\n+v\r\n:5\r\n"],
    [">2\r\n+a\r\n$2\r\n\r\n\r\n"]
  ])("reads %j as one value", (text) => {
    expect(new Splitter().push(Buffer.from(`${text}+next\r\n`)).map(String)).toEqual([text, "+next\r\n"])
  })
})
