/**
 * How many entries make so many bytes, as far as the entries of the past tell. It begins with few, since nothing is known
 * then, and an entry may have a megabyte.
 */

/** The largest number of entries that one read asks for. */
const maxCount = 10_000

export class Sizes {
  private mean = 0
  private window = 32

  count(limit: number, bytes: number): number {
    const fitting = this.mean === 0 ? this.window : Math.floor(bytes / this.mean)
    return Math.max(1, Math.min(limit, fitting, this.window, maxCount))
  }

  learn(asked: number, entries: number, bytes: number): void {
    if (entries === 0) return
    const mean = bytes / entries
    // larger ones are believed at once, smaller ones by and by
    this.mean = mean > this.mean ? mean : this.mean * 0.8 + mean * 0.2
    if (entries === asked && asked >= this.window) this.window = Math.min(this.window * 4, maxCount)
  }
}
