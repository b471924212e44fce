/**
 * A Lua script as a typed value: what goes in, what comes out, and its text.
 *
 * A script is one atomic step on one slot. Its file, `scripts/{name}.lua`, begins with a header that is its contract; the
 * value here says the same to the compiler, and a test compares the two. Nothing else calls `EVAL`.
 *
 * @since 0.1.0
 */
import { createHash } from "node:crypto"

/**
 * What a script is given: text, or bytes as they are.
 *
 * @category models
 * @since 0.1.0
 */
export type Arg = string | Buffer

/**
 * What a script answers, as a client reads it when it is asked for bytes (`callBuffer` on ioredis).
 *
 * @category models
 * @since 0.1.0
 */
export type Reply = string | number | Buffer | null | ReadonlyArray<Reply>

/**
 * A script.
 *
 * @category models
 * @since 0.1.0
 */
export interface Script<in Input, out Result> {
  /** Its file is `scripts/{name}.lua`. */
  readonly name: string
  /** Its text, every `--@include` in place. */
  readonly lua: string
  /** SHA-1 of `lua` in hexadecimal, for `EVALSHA`. */
  readonly sha: string
  /** The header's words for KEYS, in order. */
  readonly keyNames: ReadonlyArray<string>
  /** The header's words for ARGV, in order; the last ones may repeat. */
  readonly argNames: ReadonlyArray<string>
  /** Keys of one hash tag, as many as `keyNames`. */
  readonly keys: (input: Input) => ReadonlyArray<string>
  /** As many as `argNames`, the last ones repeated. */
  readonly args: (input: Input) => ReadonlyArray<Arg>
  /** Throws a `TypeError` where the reply is none of the script's: a bug, not a failure. */
  readonly decode: (reply: Reply, input: Input) => Result
}

/**
 * Makes a script of its text and its header's words.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <Input, Result>(options: Omit<Script<Input, Result>, "sha">): Script<Input, Result> => ({
  ...options,
  sha: createHash("sha1").update(options.lua).digest("hex")
})

// -----------------------------------------------------------------------------
// reading replies
// -----------------------------------------------------------------------------

const unexpected = (expected: string, reply: Reply | undefined): TypeError =>
  new TypeError(`a script answered ${JSON.stringify(reply)} where ${expected} was due`)

/**
 * The items of a list. Like all that reads replies, it throws a `TypeError` where the reply is something else.
 *
 * @category decoding
 * @since 0.1.0
 */
export const list = (reply: Reply | undefined): ReadonlyArray<Reply> => {
  if (Array.isArray(reply)) return reply
  throw unexpected("a list", reply)
}

/**
 * Text, from a string or from bytes of UTF-8.
 *
 * @category decoding
 * @since 0.1.0
 */
export const text = (reply: Reply | undefined): string => {
  if (typeof reply === "string") return reply
  if (Buffer.isBuffer(reply)) return reply.toString()
  throw unexpected("text", reply)
}

/**
 * A number, or its digits: Lua's integers come as either.
 *
 * @category decoding
 * @since 0.1.0
 */
export const number = (reply: Reply | undefined): number => {
  if (typeof reply === "number") return reply
  const value = Number(text(reply))
  if (Number.isNaN(value)) throw unexpected("a number", reply)
  return value
}

/**
 * Bytes as they are; a string becomes UTF-8.
 *
 * @category decoding
 * @since 0.1.0
 */
export const bytes = (reply: Reply | undefined): Buffer => {
  if (Buffer.isBuffer(reply)) return reply
  if (typeof reply === "string") return Buffer.from(reply)
  throw unexpected("bytes", reply)
}

/**
 * Whether the number is 1, which is how the scripts say yes.
 *
 * @category decoding
 * @since 0.1.0
 */
export const bool = (reply: Reply | undefined): boolean => number(reply) === 1

/**
 * One of `words`, by the number the script uses for it, from 0.
 *
 * @category decoding
 * @since 0.1.0
 */
export const word = <const Word extends string>(words: ReadonlyArray<Word>, reply: Reply | undefined): Word => {
  const found = words[number(reply)]
  if (found === undefined) throw unexpected(`a number below ${words.length}`, reply)
  return found
}
