/**
 * Which slot of a cluster a key belongs to, as the Redis Cluster specification says: CRC-16 (XMODEM) of its hash tag, or
 * of all of it where it has none.
 *
 * The package that ioredis uses for this ships no types that a strict compiler accepts.
 */

/** How many slots a cluster has. */
export const slotCount = 16384

const table = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8
  for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ 0x1021
  return crc
})

/** What stands between the first brace and the next closing one; the whole key, where that is nothing. */
const tagOf = (key: string): string => {
  const open = key.indexOf("{")
  const close = key.indexOf("}", open + 1)
  return open < 0 || close <= open + 1 ? key : key.slice(open + 1, close)
}

export const slotOf = (key: string): number => {
  let crc = 0
  for (const byte of Buffer.from(tagOf(key))) crc = ((crc << 8) ^ (table[(crc >> 8) ^ byte] ?? 0)) & 0xffff
  return crc % slotCount
}
