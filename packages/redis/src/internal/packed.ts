/**
 * What a script packed with `cmsgpack`: one string, which a client hands over as it is, where it would make a list and
 * bytes of their own of each part of a reply, at several times the cost.
 */
import type { Reply } from "../Script.ts"
import { nameAt } from "./fieldNames.ts"

/**
 * Up to so many bytes, parts are views of the whole, as clients make them of what came in one piece. Of more they are
 * copies: one delivery that is held for long would keep all that were read with it in memory.
 */
const atMostHeld = 65_536

/** Lists and texts, as MessagePack has them: a script packs nothing else, as numbers would come in many kinds. */
class Unpacking {
  private at = 0
  private readonly packed: Buffer

  constructor(packed: Buffer) {
    this.packed = packed
  }

  next(): Reply {
    const kind = this.byte()
    if (kind >= 0x90 && kind <= 0x9f) return this.list(kind - 0x90)
    if (kind >= 0xa0 && kind <= 0xbf) return this.bytes(kind - 0xa0)
    switch (kind) {
      case 0xd9:
        return this.bytes(this.byte())
      case 0xda:
        return this.bytes(this.number(2))
      case 0xdb:
        return this.bytes(this.number(4))
      case 0xdc:
        return this.list(this.number(2))
      case 0xdd:
        return this.list(this.number(4))
      default:
        throw new TypeError(`a script packed something of kind ${kind}`)
    }
  }

  private byte(): number {
    const byte = this.packed[this.at]
    if (byte === undefined) throw endless()
    this.at += 1
    return byte
  }

  private number(bytes: 2 | 4): number {
    const from = this.at
    this.at += bytes
    if (this.at > this.packed.length) throw endless()
    return this.packed.readUIntBE(from, bytes)
  }

  private bytes(length: number): Buffer {
    const from = this.at
    this.at += length
    if (this.at > this.packed.length) throw endless()
    const name = nameAt(this.packed, from, length)
    if (name !== undefined) return name
    const part = this.packed.subarray(from, this.at)
    return this.packed.length > atMostHeld ? Buffer.from(part) : part
  }

  private list(length: number): ReadonlyArray<Reply> {
    const items: Array<Reply> = []
    for (let i = 0; i < length; i++) items.push(this.next())
    return items
  }
}

const endless = () => new TypeError("what a script packed has no end")

export const unpack = (packed: Buffer): Reply => new Unpacking(packed).next()
