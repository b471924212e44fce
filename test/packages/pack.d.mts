export interface Tarballs {
  readonly core: string
  readonly redis: string
}
export const run: (cwd: string, command: string, ...args: ReadonlyArray<string>) => string
export const build: () => string
export const pack: (folder: string) => Tarballs
