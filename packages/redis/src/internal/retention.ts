/**
 * Dropping what every group has settled, seeing who holds that back, and removing such a group.
 */
import { Refused, TransportError } from "@clutch/core/Errors"
import type { Group, GroupStanding, Inspection, Log, Trimmed } from "@clutch/core/Transport"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Keys from "../RedisKeys.ts"
import type { Reply } from "../Script.ts"
import * as Scripts from "../Scripts.ts"
import { hasFollowers, maybe, millisOf, rows, table, textOf, upTo } from "./asking.ts"
import type { Shared } from "./shared.ts"

/** A group that is seen alive is noted so, where the last note is older than this, in milliseconds. */
const noteAfter = 1000

/** The id of the first entry of a range, or of a row of a pending list. */
const firstId = (reply: Reply): string | undefined => {
  const [first] = Array.isArray(reply) ? reply : []
  return Array.isArray(first) ? textOf(first[0]) : undefined
}

export const make = (
  { client, namespace }: Shared,
  inspect: (group: Group) => Effect.Effect<Inspection, TransportError>
) => {
  const stateOf = (log: Log, name: string): string => Keys.group(namespace, { ...log, subscription: name }).state

  const trim = (log: Log): Effect.Effect<Trimmed, TransportError> => {
    const keys = Keys.log(namespace, log)
    const go = (names: ReadonlyArray<string>): Effect.Effect<Trimmed, TransportError> =>
      Effect.flatMap(
        client.run(Scripts.trim, { keys, missing: names.map((name) => ({ name, state: stateOf(log, name) })) }),
        ({ more, trimmed, unnamed }) =>
          unnamed.length > 0 ? go([...names, ...unnamed]) : Effect.succeed({ trimmed, more })
      )
    return Effect.suspend(() => go([]))
  }

  const groups = (log: Log): Effect.Effect<ReadonlyArray<GroupStanding>, TransportError> =>
    client.attempt("groups", async () => {
      const keys = Keys.log(namespace, log)
      const { submit } = client.at(keys.main)
      const [found, noted, time] = await Promise.all([
        maybe(submit, "XINFO", ["GROUPS", keys.main]).then(rows),
        submit("HGETALL", [keys.groups]).then(table),
        submit("TIME", [])
      ])
      const now = Math.floor(millisOf(time))
      const present = new Map(found.map((group) => [textOf(group.get("name")), group]))
      const fresh: Array<string> = []

      const standing = async (name: string): Promise<GroupStanding | undefined> => {
        const group = present.get(name)
        const pending = Number(group?.get("pending") ?? 0)
        const [state, consumers, held] = await Promise.all([
          submit("HGETALL", [stateOf(log, name)]).then(table),
          group === undefined ? [] : maybe(submit, "XINFO", ["CONSUMERS", keys.main, name]).then(rows),
          pending === 0 ? null : maybe(submit, "XPENDING", [keys.main, name, "-", "+", "1"])
        ])
        // one that has disappeared holds back what it remembers; where it remembers nothing, it is none any more
        const position = group === undefined ? state.get("position") : group.get("last-delivered-id")
        if (position === undefined || position === null) return undefined
        const unread = hasFollowers(textOf(position))
          ? await maybe(submit, "XRANGE", [keys.main, `(${textOf(position)}`, "+", "COUNT", "1"])
          : null
        const holds = [firstId(held), firstId(unread)].reduce((a, b) =>
          a === undefined || (b !== undefined && upTo(b, a)) ? b : a
        )
        const workers = consumers.filter((one) => textOf(one.get("name")) !== Keys.released)
        const note = Number(textOf(noted.get(name)) || Number.NaN)
        const signs = [
          note,
          ...workers.map((one) => now - Number(one.get("idle") ?? Infinity)),
          ...Array.from(state, ([field, value]) => (field.startsWith("h:") ? Number(textOf(value)) : Number.NaN))
        ].filter((at) => !Number.isNaN(at))
        const seen = Math.max(...signs)
        if (noted.has(name) && seen > note + noteAfter) fresh.push(name, String(seen))
        return {
          name,
          missing: group === undefined,
          consumers: workers.length,
          pending,
          holds: Option.fromUndefinedOr(holds),
          // of whom nothing at all is known, nothing bad is known either
          silent: Duration.millis(Number.isFinite(seen) ? Math.max(0, now - seen) : 0)
        }
      }

      const names = Array.from(new Set([...present.keys(), ...noted.keys()])).toSorted()
      const standings = await Promise.all(names.map(standing))
      // a member that leaves takes its signs of life with it
      if (fresh.length > 0) await submit("HSET", [keys.groups, ...fresh])
      return standings.filter((one) => one !== undefined)
    })

  const removeGroup = (group: Group): Effect.Effect<Option.Option<Inspection>, TransportError> => {
    const keys = Keys.group(namespace, group)
    const go: Effect.Effect<boolean, TransportError> = Effect.flatMap(
      client.run(Scripts.remove, { keys }),
      ({ living, more, removed }) => {
        if (living === 0) return more ? Effect.as(go, true) : Effect.succeed(removed)
        const detail = `group "${group.subscription}" on ${keys.main} has ${living} living consumers: stop them first`
        return Effect.fail(new TransportError({ operation: "removeGroup", reason: new Refused({ detail }) }))
      }
    )
    return Effect.flatMap(inspect(group), (numbers) =>
      Effect.map(go, (removed) => (removed ? Option.some(numbers) : Option.none()))
    )
  }

  return { trim, groups, removeGroup }
}
