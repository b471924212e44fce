/**
 * A raw program that makes the moves of a failure: from the topic to a set of due retries, from there to a retry stream,
 * from there gone. Every move is one script a batch, and the next read is under way meanwhile. It counts no attempts
 * beyond the second, fences nothing, and polls the set instead of sleeping until something is due.
 */
import type { Figures, Job, Program } from "../job.ts"
import { group, keyOf, main, warm } from "../message.ts"
import { meter } from "../meter.ts"
import { type Client, type Rows, connect, join, read } from "./raw.ts"

/** ARGV: group, when it is due, then id, data and what is known of the failure. A member is the last two, a line each. */
const fail = `
local ids, members = {}, {}
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #ARGV, 3 do
  ids[#ids + 1] = ARGV[i]
  members[#members + 1] = now
  members[#members + 1] = ARGV[i + 2] .. "\\n" .. ARGV[i + 1]
end
redis.call("ZADD", KEYS[2], unpack(members))
redis.call("XACK", KEYS[1], ARGV[1], unpack(ids))
return #ids
`
const move = `
local time = redis.call("TIME")
local due = redis.call("ZRANGE", KEYS[1], "-inf", time[1] * 1000 + math.floor(time[2] / 1000), "BYSCORE", "LIMIT", 0, 1000)
for _, member in ipairs(due) do
  local line = string.find(member, "\\n", 1, true)
  redis.call("XADD", KEYS[2], "*", "data", string.sub(member, line + 1), "clutch", string.sub(member, 1, line - 1))
end
if #due > 0 then redis.call("ZREM", KEYS[1], unpack(due)) end
return #due
`
const settle = `
redis.call("XACK", KEYS[1], ARGV[1], unpack(ARGV, 2))
return redis.call("XDEL", KEYS[1], unpack(ARGV, 2))
`

const dataOf = (fields: ReadonlyArray<Buffer>): Buffer => {
  const data = fields[1]
  if (data === undefined) throw new Error("an entry has no data")
  JSON.parse(data.toString())
  return data
}

const load = async (client: Client, lua: string) => {
  const sha = String(await client.call("SCRIPT", ["LOAD", lua]))
  return (keys: ReadonlyArray<string>, args: Array<string | Buffer>) =>
    client.call("EVALSHA", [sha, String(keys.length), ...keys, ...args])
}

/** Reads until so many have come; the next read is under way while a batch is worked on. */
const each = async (client: Client, key: string, count: number, work: (rows: Rows) => Promise<unknown>) => {
  let seen = 0
  let next = read(client, key, group)
  const works: Array<Promise<unknown>> = []
  while (seen < count) {
    const rows = await next
    next = read(client, key, group)
    seen += rows.length
    if (rows.length > 0) works.push(work(rows))
  }
  await Promise.all([next, ...works])
}

const drain = async (client: Client, topic: string, count: number) => {
  const [runFail, runMove, runSettle] = await Promise.all([
    load(client, fail),
    load(client, move),
    load(client, settle)
  ])
  const key = keyOf(topic)
  const due = `${key}.${group}.due`
  const retry = `${key}.${group}.retry`
  await Promise.all([join(client, key), join(client, retry)])
  const failing = each(client, key, count, (rows) => {
    const args: Array<string | Buffer> = [group]
    for (const [id, fields] of rows) {
      args.push(id, dataOf(fields), `{"original":"${id.toString()}","attempt":1,"cause":"the first try fails"}`)
    }
    return runFail([key, due], args)
  })
  const moving = (async () => {
    for (let moved = 0; moved < count;) moved += Number(await runMove([due, retry], []))
  })()
  const retrying = each(client, retry, count, (rows) => {
    for (const [, fields] of rows) dataOf(fields)
    return runSettle([retry], [group, ...rows.map(([id]) => id)])
  })
  await Promise.all([failing, moving, retrying])
}

export const program: Program = {
  "fail-once": async (job: Job): Promise<Figures> => {
    const clock = await meter(job)
    const client = await connect(job)
    await drain(client, warm, job.warmup)
    await clock.begin()
    await drain(client, main, job.messages)
    const figures = await clock.end(job.messages)
    client.disconnect()
    return figures
  }
}
