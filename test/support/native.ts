/** A client of ioredis as `RedisClient.layerFactory` takes it, whose commands a test can delay, lose or watch. */
import type { Native } from "@clutch/redis/RedisClient"
import { Redis } from "ioredis"

export type Call = Native["callBuffer"]

/** `around` is given what sends a command, and makes what is called instead. */
export const wrapped = (url: string, connectionName: string, around: (call: Call) => Call): Native => {
  const redis = new Redis(url, {
    lazyConnect: true,
    protocol: 2,
    connectionName,
    autoResendUnfulfilledCommands: false,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0
  })
  return {
    get status() {
      return redis.status
    },
    connect: () => redis.connect(),
    disconnect: (again) => redis.disconnect(again),
    on: (event, listener) => redis.on(event, listener),
    callBuffer: around(redis.callBuffer.bind(redis) as Call) // of many overloads
  }
}
