/**
 * Reads the Redis protocol (RESP) only as far as the proxy needs it: where a request or a reply ends.
 *
 * Binary-safe and incremental: bytes come in any pieces, and lengths, not line ends, say where a string stops.
 */

/** A length or count field is a short number; the line that holds it ends with CRLF. */
const lineEnd = (bytes: Buffer, from: number): number => bytes.indexOf("\r\n", from, "latin1")

/**
 * The offset just after the value that starts at `from`, or `undefined` when the buffer does not hold all of it.
 *
 * Knows RESP2 and RESP3, nested to any depth.
 */
export const valueEnd = (bytes: Buffer, from: number): number | undefined => {
  const stop = lineEnd(bytes, from)
  if (stop < 0) return undefined
  const type = String.fromCharCode(bytes[from] ?? 0)
  const after = stop + 2
  const count = Number(bytes.toString("latin1", from + 1, stop))
  switch (type) {
    case "$": // bulk string
    case "!": // bulk error
    case "=": {
      // verbatim string
      const end = count < 0 ? after : after + count + 2
      return end <= bytes.length ? end : undefined
    }
    case "*": // array
    case "~": // set
    case ">": // push
      return valuesEnd(bytes, after, count)
    case "%": // map
      return valuesEnd(bytes, after, count * 2)
    case "|": // attributes, which belong to the value after them
      return valuesEnd(bytes, after, count * 2 + 1)
    default: // simple string, error, number, boolean, null, double, big number; or an inline command
      return after
  }
}

const valuesEnd = (bytes: Buffer, from: number, count: number): number | undefined => {
  let at: number | undefined = from
  for (let i = 0; i < count && at !== undefined; i++) at = valueEnd(bytes, at)
  return at
}

/** The words of one complete request; each argument as latin1, so that no byte is lost. */
export const words = (request: Buffer): ReadonlyArray<string> => {
  const result: Array<string> = []
  if (request[0] !== 0x2a) return request.toString("latin1").trim().split(/\s+/)
  let at = lineEnd(request, 0) + 2
  while (at < request.length) {
    const stop = lineEnd(request, at)
    const length = Number(request.toString("latin1", at + 1, stop))
    result.push(request.toString("latin1", stop + 2, stop + 2 + length))
    at = stop + 2 + length + 2
  }
  return result
}

/** Collects bytes and gives back complete values. */
export class Splitter {
  private rest: Buffer = Buffer.alloc(0)

  /** The complete values that are now there, in order. What is incomplete waits for the next call. */
  push(chunk: Buffer): ReadonlyArray<Buffer> {
    this.rest = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk])
    const values: Array<Buffer> = []
    let at = 0
    for (;;) {
      const next = at < this.rest.length ? valueEnd(this.rest, at) : undefined
      if (next === undefined) break
      values.push(this.rest.subarray(at, next))
      at = next
    }
    this.rest = this.rest.subarray(at)
    return values
  }
}
