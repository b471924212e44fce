/** Whether closing waits. Tests under virtual time turn it off: nobody moves the clock while a scope closes. */
import * as Context from "effect/Context"

export const DrainAtOnce: Context.Reference<boolean> = Context.Reference<boolean>("@clutch/core/internal/DrainAtOnce", {
  defaultValue: () => false
})
