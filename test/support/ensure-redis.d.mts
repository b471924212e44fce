export const redisBinaries: () => ReadonlyArray<string>
export const ensureRedis: () => void
