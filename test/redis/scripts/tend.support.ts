/** The words of the tests of tend. */
import * as Scripts from "@clutch/redis/Scripts"
import { idle, keys, now, redis, run } from "./harness.ts"

export const tend = (options: Partial<Scripts.Tend> = {}) =>
  run(Scripts.tend, { keys, scan: true, cursor: undefined, ...options })

export const quiet = {
  moved: 0,
  reclaimed: 0,
  trimmed: 0,
  poison: 0,
  removed: 0,
  next: undefined,
  more: false,
  cursor: undefined,
  problem: undefined,
  mended: 0
}

/** A consumer that died: `silent` ms without a sign of life, its deliveries idle as long. */
export const dies = async (
  consumer: string,
  silent: number,
  main: ReadonlyArray<string>,
  retries: ReadonlyArray<string> = []
) => {
  await redis.hset(keys.state, `h:${consumer}`, (await now()) - silent)
  await idle("main", consumer, silent, ...main)
  await idle("retry", consumer, silent, ...retries)
}
