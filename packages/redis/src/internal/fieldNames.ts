/**
 * The names of fields that nearly all entries have are one for all: to make one more takes longer than to compare, and each
 * entry would hold its own for as long as it is held itself.
 */
const data = Buffer.from("data")
const ce = Buffer.from("ce")

/** The name that these bytes are, where it is one of them. */
export const nameAt = (bytes: Buffer, at: number, length: number): Buffer | undefined => {
  if (length === 2) return bytes[at] === 0x63 && bytes[at + 1] === 0x65 ? ce : undefined
  return length === 4 &&
    bytes[at] === 0x64 &&
    bytes[at + 1] === 0x61 &&
    bytes[at + 2] === 0x74 &&
    bytes[at + 3] === 0x61
    ? data
    : undefined
}
