/**
 * The code in README.md, docs/*.md and docstrings, as programs for the compiler.
 *
 * A program's lines stand where they stand in the file it comes from (the lines before are left blank), so that a
 * position that the compiler reports needs only the file's name exchanged.
 */

export interface Snippet {
  /** The file it comes from, relative to the workspace. */
  readonly source: string
  /** Line of its first line of code, from 1. */
  readonly line: number
  /** Code, preceded by `line - 1` blank lines. */
  readonly program: string
}

const place = (source: string, line: number, code: ReadonlyArray<string>): Snippet => ({
  source,
  line,
  program: `${"\n".repeat(line - 1)}${code.join("\n")}\n`
})

const opening = /^(\s*)```ts(?<words>\s.*)?$/
const closing = /^\s*```\s*$/

/**
 * Every block fenced as `ts` in `lines`. A fence of `typescript`, or `ts no-check`, is text and not a program: what is
 * shown as wrong, or as another library's.
 */
const fenced = (source: string, lines: ReadonlyArray<string>, firstLine: number): ReadonlyArray<Snippet> => {
  const found: Array<Snippet> = []
  for (let i = 0; i < lines.length; i++) {
    const words = opening.exec(lines[i] ?? "")
    if (words === null) continue
    const start = i + 1
    while (i + 1 < lines.length && !closing.test(lines[i + 1] ?? "")) i++
    if (/\bno-check\b/.test(words.groups?.["words"] ?? "")) continue
    found.push(place(source, firstLine + start, lines.slice(start, i + 1)))
  }
  return found
}

/** The programs of a Markdown file. */
export const fromMarkdown = (source: string, text: string): ReadonlyArray<Snippet> =>
  fenced(source, text.split(/\r?\n/), 1)

/** The programs of a TypeScript file's docstrings: fenced blocks, and the bare code that follows an `@example`. */
export const fromDocstrings = (source: string, text: string): ReadonlyArray<Snippet> => {
  const found: Array<Snippet> = []
  for (const comment of text.matchAll(/^[ \t]*\/\*\*[\s\S]*?\*\//gm)) {
    const firstLine = text.slice(0, comment.index).split("\n").length
    const lines = comment[0].split(/\r?\n/).map((line) =>
      line
        .replace(/\s*\*\/\s*$/, "")
        .replace(/^\s*\/\*\*/, "")
        .replace(/^\s*\* ?/, "")
    )
    const blocks = fenced(source, lines, firstLine)
    found.push(...blocks, ...bareExamples(source, lines, firstLine))
  }
  return found
}

/** An `@example` without a fence: its code ends at the next tag. A title on the line of the tag is not code. */
const bareExamples = (source: string, lines: ReadonlyArray<string>, firstLine: number): ReadonlyArray<Snippet> => {
  const found: Array<Snippet> = []
  lines.forEach((line, index) => {
    if (!/^\s*@example\b/.test(line)) return
    const start = index + 1
    const length = lines.slice(start).findIndex((next) => /^\s*@[a-z]+/i.test(next))
    const code = lines.slice(start, length < 0 ? undefined : start + length)
    if (code.some((next) => next.trim().startsWith("```")) || code.every((next) => next.trim() === "")) return
    found.push(place(source, firstLine + start, code))
  })
  return found
}

/** The name of the file that holds a snippet, and back. */
export const fileName = ({ line, source }: Snippet): string => `${source.replaceAll("/", "__")}__${line}.ts`

/** The compiler's output with the positions of the sources in place of those of the programs. */
export const translate = (output: string, snippets: ReadonlyArray<Snippet>): string =>
  snippets.reduce((text, snippet) => {
    // whatever folders come before the name go too
    const name = fileName(snippet).replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")
    return text.replaceAll(new RegExp(`(?:[^\\s()]*/)?${name}\\((\\d+),\\d+\\)`, "g"), `${snippet.source}:$1`)
  }, output)
