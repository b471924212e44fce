/**
 * A server whose wall clock jumps: a small library, compiled here and loaded before the server's own, adds to its clock
 * what a file says.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawnSync } from "node:child_process"
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { type RedisServer, startRedis } from "../support/redis.ts"

const compilers = ["cc", "gcc", "clang"]

const works = (compiler: string): boolean => spawnSync(compiler, ["--version"], { stdio: "ignore" }).status === 0

/** Why no clock can be shifted here; `undefined` where one can. */
export const missing = (): string | undefined =>
  process.platform !== "linux"
    ? "a library is loaded before others on Linux only"
    : compilers.some(works)
      ? undefined
      : "there is no C compiler: install one, such as Debian's package gcc with libc6-dev"

export interface ShiftedServer {
  readonly server: RedisServer
  /** From now on its clock is off by so many milliseconds. */
  readonly shift: (millis: number) => void
}

export const shiftedServer: Effect.Effect<ShiftedServer, never, Scope.Scope> = Effect.gen(function* () {
  const dir = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "clutch-clock-"))),
    (dir) => Effect.sync(() => rmSync(dir, { recursive: true, force: true }))
  )
  const library = join(dir, "clock.so")
  const path = join(dir, "shift")
  const file = yield* Effect.acquireRelease(
    Effect.sync(() => openSync(path, "w")),
    (file) => Effect.sync(() => closeSync(file))
  )
  const shift = (millis: number) => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigInt64LE(BigInt(Math.round(millis)))
    writeSync(file, bytes, 0, 8, 0)
  }
  const compiler = compilers.find(works)
  if (compiler === undefined) return yield* Effect.die(new Error(missing()))
  const source = fileURLToPath(new URL("./clock.c", import.meta.url))
  const compiled = spawnSync(compiler, ["-O1", "-shared", "-fPIC", "-o", library, source], { encoding: "utf8" })
  if (compiled.status !== 0) return yield* Effect.die(new Error(`${compiler} failed: ${compiled.stderr}`))
  shift(0)
  const server = yield* Effect.acquireRelease(
    Effect.promise(() => startRedis({ env: { LD_PRELOAD: library, CLUTCH_CLOCK: path } })),
    (server) => Effect.promise(() => server.stop())
  )
  return { server, shift }
})
