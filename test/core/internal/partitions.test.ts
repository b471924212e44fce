import { assert, describe, it } from "@effect/vitest"
import { murmur3, partitionOf } from "../../../packages/core/src/internal/partitions.ts"

const hash = (text: string) => murmur3(new TextEncoder().encode(text))

describe("partitions", () => {
  // published vectors of MurmurHash3_x86_32 with seed 0
  it.each([
    ["", 0],
    ["test", 0xba6bd213],
    ["Hello, world!", 0xc0363e43],
    ["The quick brown fox jumps over the lazy dog", 0x2e4ff723]
  ] as const)("the hash of %j is MurmurHash3", (text, expected) => {
    assert.strictEqual(hash(text), expected)
  })

  // what is stored lies where these say: they never change
  it.each([
    ["order-1", 4, 1],
    ["order-2", 4, 3],
    ["customer-42", 16, 5],
    ["ключ", 16, 2],
    ["😀", 1024, 762],
    ["", 16, 0]
  ] as const)("the key %j of %i partitions is in %i", (key, partitions, expected) => {
    assert.strictEqual(partitionOf(key, partitions), expected)
  })

  it("one partition takes all", () => {
    assert.strictEqual(partitionOf("anything", 1), 0)
  })

  it("keys that count up are spread evenly", () => {
    const counts = Array.from({ length: 16 }, () => 0)
    for (let i = 0; i < 16_000; i++) {
      const at = partitionOf(`order-${i}`, 16)
      counts[at] = (counts[at] ?? 0) + 1
    }
    for (const count of counts) assert.approximately(count, 1000, 150)
  })
})
