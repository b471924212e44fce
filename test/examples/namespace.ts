/**
 * Namespaces of a test's own on a Redis that is shared, removed by their keys alone.
 */
import { randomUUID } from "node:crypto"
import { Redis } from "ioredis"

export const randomNamespace = (): string => `examples-${randomUUID().slice(0, 8)}`

/** Every key of a namespace. */
export const keysOf = async (url: string, namespace: string): Promise<ReadonlyArray<string>> => {
  const redis = new Redis(url)
  const keys: Array<string> = []
  for await (const page of redis.scanStream({ match: `${namespace}.*`, count: 1000 })) keys.push(...page)
  redis.disconnect()
  return keys.toSorted()
}

export const removeNamespace = async (url: string, namespace: string): Promise<void> => {
  const keys = await keysOf(url, namespace)
  if (keys.length === 0) return
  const redis = new Redis(url)
  await redis.unlink(...keys)
  redis.disconnect()
}
