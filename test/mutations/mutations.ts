/** Every mutation. A guarantee that no mutation breaks may be held by nothing: add one with the test that sees it. */
import { backend } from "./backend.ts"
import type { Mutation } from "./mutation.ts"
import { runtime } from "./runtime.ts"
import { scripts } from "./scripts.ts"

export const mutations: ReadonlyArray<Mutation> = [...runtime, ...backend, ...scripts]
