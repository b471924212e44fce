/**
 * Text to bytes, for the in-memory log.
 *
 * Small texts share a buffer, for which the engine then keeps the books once: half the cost of publishing.
 *
 * @since 0.1.0
 */

const encoder = /* @__PURE__ */ new TextEncoder()
const slabSize = 16_384

let slab = new Uint8Array(0)
let used = 0

/** A view of its own; its `buffer` may hold other texts too. */
export const encode = (text: string): Uint8Array => {
  // a character is at most three bytes
  const most = text.length * 3
  if (most > slabSize / 4) return encoder.encode(text)
  if (most > slab.length - used) {
    slab = new Uint8Array(slabSize)
    used = 0
  }
  const { written } = encoder.encodeInto(text, slab.subarray(used))
  const bytes = slab.subarray(used, used + written)
  used += written
  return bytes
}
