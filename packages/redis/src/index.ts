/**
 * Clutch on Redis Streams.
 *
 * @since 0.1.0
 */
export * as Codec from "./Codec.ts"
export { RedisClient } from "./RedisClient.ts"
export * as RedisKeys from "./RedisKeys.ts"
export * as RedisTransport from "./RedisTransport.ts"
