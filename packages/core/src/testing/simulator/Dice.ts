/** Chance that can be repeated: the same text gives the same throws. Small and quick, as a history throws thousands. */
import type * as Random from "effect/Random"

/** 32 bits of a text (FNV-1a), spread so that "1" and "2" have nothing in common. */
const hash = (text: string): number => {
  let bits = 0x811c9dc5
  for (let i = 0; i < text.length; i++) bits = Math.imul(bits ^ text.charCodeAt(i), 0x01000193)
  return mix(bits)
}

const mix = (bits: number): number => {
  let mixed = Math.imul(bits ^ (bits >>> 16), 0x21f0aaad)
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
  return (mixed ^ (mixed >>> 15)) >>> 0
}

/** A stream of throws; it stands in for Effect's `Random` as well. */
export class Dice implements Random.Random {
  private state: number
  private readonly step: number

  constructor(seed: string) {
    this.state = hash(seed)
    // odd, so that every state comes before one comes twice
    this.step = hash(`${seed}/`) | 1
  }

  /** A whole number from 0 to 2³² − 1. */
  next(): number {
    this.state = (this.state + this.step) >>> 0
    return mix(this.state)
  }

  /** A whole number from 0, below `n`. */
  below(n: number): number {
    return Math.floor((this.next() / 0x1_0000_0000) * n)
  }

  between(min: number, max: number): number {
    return min + this.below(max - min + 1)
  }

  chance(share: number): boolean {
    return this.next() < share * 0x1_0000_0000
  }

  pick<A>(...of: readonly [A, ...ReadonlyArray<A>]): A {
    return of[this.below(of.length)] ?? of[0]
  }

  nextDoubleUnsafe(): number {
    return this.next() / 0x1_0000_0000
  }

  nextIntUnsafe(): number {
    return (this.next() - 0x8000_0000) * 0x20_0000 + (this.next() >>> 11)
  }
}
