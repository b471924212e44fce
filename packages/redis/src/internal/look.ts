/**
 * Looking at a log without changing it: numbers, ids, and whether anything is left to do.
 */
import { NoSubscription, TransportError } from "@clutch/core/Errors"
import type { Group, Inspection, Log } from "@clutch/core/Transport"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Codec from "../Codec.ts"
import type { Connection } from "../RedisClient.ts"
import * as Keys from "../RedisKeys.ts"
import type { Reply } from "../Script.ts"
import { maybe, millisOf, rows, table, textOf, upTo } from "./asking.ts"
import { forRow } from "./entry.ts"
import type { Shared } from "./shared.ts"

/** How many entries one step of a search reads. */
const page = 100

export const make = ({ client, namespace }: Shared) => {
  type Submit = Connection["submit"]

  const groupOf = async (
    submit: Submit,
    key: string,
    name: string
  ): Promise<ReadonlyMap<string, Reply> | undefined> => {
    const groups = rows(await maybe(submit, "XINFO", ["GROUPS", key]))
    return groups.find((one) => textOf(one.get("name")) === name)
  }

  const streamOf = async (submit: Submit, key: string) => {
    const stream = table(await maybe(submit, "XINFO", ["STREAM", key]))
    const first = stream.get("first-entry")
    return {
      lastId: textOf(stream.get("last-generated-id")) || "0-0",
      firstId: Array.isArray(first) ? textOf(first[0]) : undefined,
      length: Number(stream.get("length") ?? 0),
      /** Entries ever added, where the server counts them (Redis 7). */
      added: stream.get("entries-added")
    }
  }

  /** How many entries a group has not read: what ids show, and the server's `lag` only where nothing was ever dropped. */
  const unread = (
    { added, firstId, lastId, length }: Awaited<ReturnType<typeof streamOf>>,
    group: ReadonlyMap<string, Reply>
  ): Option.Option<number> => {
    const lag = group.get("lag")
    const delivered = textOf(group.get("last-delivered-id"))
    if (length === 0 || upTo(lastId, delivered)) return Option.some(0)
    if (firstId !== undefined && !upTo(firstId, delivered)) return Option.some(length)
    // trimmed or deleted unread, entries stay in the lag for ever
    return added === length && typeof lag === "number" ? Option.some(lag) : Option.none()
  }

  const inspect = (group: Group): Effect.Effect<Inspection, TransportError> =>
    client.attempt("inspect", async () => {
      const keys = Keys.group(namespace, group)
      const { submit } = client.at(keys.main)
      const [main, stream, retry, retries, due, deadLetters, heldBack, parked, oldest] = await Promise.all([
        groupOf(submit, keys.main, keys.mainGroup),
        streamOf(submit, keys.main),
        groupOf(submit, keys.retry, keys.retryGroup),
        submit("XLEN", [keys.retry]),
        submit("ZCARD", [keys.due]),
        submit("XLEN", [keys.deadLetters]),
        submit("ZCARD", [keys.blocked]),
        submit("ZCARD", [keys.parked]),
        submit("ZRANGE", [keys.blocked, "0", "0", "WITHSCORES"])
      ])
      const waiting = main === undefined ? Option.none<number>() : unread(stream, main)
      const pendingRetries = Number(retry?.get("pending") ?? 0)
      return {
        waiting,
        pending: Number(main?.get("pending") ?? 0) + pendingRetries,
        due: Number(due) + Math.max(0, Number(retries) - pendingRetries),
        deadLetters: Number(deadLetters),
        heldBack: Number(heldBack),
        parked: Number(parked),
        oldestHeldBack:
          Array.isArray(oldest) && oldest.length === 2 ? Option.some(Number(textOf(oldest[1]))) : Option.none()
      }
    })

  const lastId = (log: Log): Effect.Effect<string, TransportError> =>
    client.attempt("lastId", async () => {
      const { main } = Keys.log(namespace, log)
      return (await streamOf(client.at(main).submit, main)).lastId
    })

  /** Whether an entry of the retry stream began as one up to `through`. */
  const retrying = async (submit: Submit, key: string, through: string): Promise<boolean> => {
    let start = "-"
    for (;;) {
      const rows = await submit("XRANGE", [key, start, "+", "COUNT", String(page)])
      let found = false
      let count = 0
      for (const row of Array.isArray(rows) ? rows : []) {
        forRow(row, (id, fields) => {
          count += 1
          start = `(${id}`
          const meta = Codec.retryMeta(fields)
          // what cannot be read may be anything
          if (Result.isFailure(meta) || upTo(meta.success.original, through)) found = true
        })
      }
      if (found || count < page) return found
    }
  }

  /**
   * Whether a member of the due set, whose time is at most `until`, began as an entry up to `through`. It goes on from the
   * last score, as an offset costs the server what it leaves out; of one score there are as many as failed together.
   */
  const scheduled = async (submit: Submit, key: string, through: string, until: string): Promise<boolean> => {
    let from = "-inf"
    let offset = 0
    for (;;) {
      const args = [key, from, until, "WITHSCORES", "LIMIT", String(offset), String(page)]
      const reply = await submit("ZRANGEBYSCORE", args)
      const list = Array.isArray(reply) ? reply : []
      for (let i = 0; i < list.length; i += 2) {
        const member = list[i]
        const fields = Buffer.isBuffer(member) ? Codec.parseNetstrings(member) : Result.fail("no bytes")
        const meta = Result.flatMap(fields, Codec.retryMeta)
        if (Result.isFailure(meta) || upTo(meta.success.original, through)) return true
      }
      if (list.length < 2 * page) return false
      const last = textOf(list.at(-1))
      // from the beginning of that score, where it began in this page: what was read before may be gone by now
      offset = textOf(list[1]) === last ? offset + page : 0
      from = last
    }
  }

  /** Whether a message older than `through` holds its key back; of those of the same millisecond, its retry tells. */
  const heldBefore = async (submit: Submit, key: string, through: string): Promise<boolean> => {
    const [ms = "0"] = through.split("-")
    return Number(await submit("ZCOUNT", [key, "-inf", `(${ms}`])) > 0
  }

  /** Of those of the same millisecond, without a retry: whether a message up to `through` is parked behind one. */
  const parkedBehind = async (submit: Submit, blocked: string, parked: string, through: string): Promise<boolean> => {
    const [ms = "0"] = through.split("-")
    if (Number(await submit("ZCOUNT", [blocked, ms, ms])) === 0) return false
    for (let start = 0; ; start += page) {
      const members = await submit("ZRANGE", [parked, String(start), String(start + page - 1)])
      if (!Array.isArray(members)) return false
      // what cannot be read may be anything
      const originals = members.map((member) => originalOf(textOf(member)))
      if (originals.some((original) => original === undefined || upTo(original, through))) return true
      if (members.length < page) return false
    }
  }

  const outstanding = (
    group: Group,
    options: { readonly through: string; readonly due: "wait" | "ignore" }
  ): Effect.Effect<boolean, TransportError> =>
    client.attempt("outstanding", async () => {
      const { due, through } = options
      const keys = Keys.group(namespace, group)
      const { submit } = client.at(keys.main)
      const [found, pending, time] = await Promise.all([
        groupOf(submit, keys.main, keys.mainGroup),
        maybe(submit, "XPENDING", [keys.main, keys.mainGroup, "-", through, "1"]),
        submit("TIME", [])
      ])
      if (found === undefined) {
        // it has disappeared, and is created again from what it remembers
        if (textOf(await submit("HGET", [keys.state, "position"])) !== "") return true
        throw new TransportError({
          operation: "outstanding",
          reason: new NoSubscription({ topic: group.topic, subscription: group.subscription })
        })
      }
      if (Array.isArray(pending) && pending.length > 0) return true
      const delivered = textOf(found.get("last-delivered-id"))
      if (!upTo(through, delivered)) {
        const waiting = await submit("XRANGE", [keys.main, `(${delivered}`, through, "COUNT", "1"])
        if (Array.isArray(waiting) && waiting.length > 0) return true
      }
      // a key is held back from its first retry until nothing of it is left, whatever moves meanwhile
      const behind = due === "wait" ? await heldBefore(submit, keys.blocked, through) : false
      if (behind) return true
      const until = due === "wait" ? "+inf" : String(Math.floor(millisOf(time)))
      // along the way that a failure goes, and its beginning once more: a retry that fails meanwhile is back there
      return (
        (await scheduled(submit, keys.due, through, until)) ||
        (await retrying(submit, keys.retry, through)) ||
        (await scheduled(submit, keys.due, through, until)) ||
        // whoever settles without knowing of keys, as the topic has none any more, lets nothing come at once
        (due === "wait" && (await parkedBehind(submit, keys.blocked, keys.parked, through)))
      )
    })

  return { inspect, lastId, outstanding }
}

/** Of a parked message: `{key}:{original}:{fields}`, where the id in the topic is written in hexadecimal. */
const originalOf = (member: string): string | undefined => {
  const match = /^[0-9a-f]*:([0-9a-f]{16})-([0-9a-f]{16}):/.exec(member)
  return match === null ? undefined : `${BigInt(`0x${match[1]}`)}-${BigInt(`0x${match[2]}`)}`
}
