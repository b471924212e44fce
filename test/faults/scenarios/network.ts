/** Faults of the network, by a proxy that everything goes through. */
import * as Effect from "effect/Effect"
import { proxyTo } from "../../cases/kit.ts"
import type { Proxy } from "../../support/proxy.ts"
import { scenario } from "../scenario.ts"
import { alone, any, pause, repeat, single } from "./kit.ts"

/** Milliseconds that clients wait for a reply. */
const commandTimeout = 1000

const behindProxy = Effect.gen(function* () {
  const { redis, server } = yield* single()
  const proxy = yield* proxyTo(server.url)
  return { proxy, ...alone(redis), direct: { url: server.url }, target: { url: proxy.url, commandTimeout } }
})

/** Loses the next reply to such a command; where none comes for a while, it is left to hit a later one. */
const cut = (proxy: Proxy, command: RegExp) =>
  Effect.promise(() => proxy.cutReply((text) => command.test(text))).pipe(Effect.timeoutOption(500), Effect.asVoid)

const slow = (proxy: Proxy, millis: number, lasting: number) =>
  Effect.gen(function* () {
    proxy.delayReplies(millis)
    yield* Effect.sleep(lasting)
    proxy.delayReplies(0)
  })

const faults: Readonly<Record<string, (proxy: Proxy) => Effect.Effect<void>>> = {
  "a reply to a script is lost": (proxy) => cut(proxy, /^evalsha/i),
  "a reply to a read is lost": (proxy) => cut(proxy, /^xreadgroup/i),
  "a reply to publishing is lost": (proxy) => cut(proxy, /^evalsha.*"key":/i),
  "all connections are cut": (proxy) => Effect.sync(() => proxy.cutAll()),
  "no reply comes any more": (proxy) => Effect.sync(() => proxy.halfCloseAll("replies")),
  "no request arrives any more": (proxy) => Effect.sync(() => proxy.halfCloseAll("requests")),
  "replies are slow": (proxy) => slow(proxy, Math.random() * 300, 600),
  "replies come after the client has given up": (proxy) => slow(proxy, commandTimeout * 1.5, 800),
  "connections are refused": (proxy) =>
    Effect.gen(function* () {
      proxy.refuse(true)
      proxy.cutAll()
      yield* Effect.sleep(500)
      proxy.refuse(false)
    })
}
const names = Object.keys(faults)

export const network = scenario({
  name: "network",
  what: "replies lost or late, connections cut, refused or half closed",
  times: 300,
  place: behindProxy,
  // who is cut off for longer than its lease is as good as dead
  rules: { deaths: true },
  chaos: ({ proxy }, rig, run) =>
    repeat(run, (i) =>
      Effect.gen(function* () {
        // each once, then any
        const what = names[i] ?? any(names) ?? ""
        yield* rig.fault({ what }, faults[what]?.(proxy) ?? Effect.void)
        yield* i % 10 === 9 ? rig.untilHealed : pause(300)
      })
    )
})
