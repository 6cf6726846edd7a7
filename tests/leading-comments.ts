// What a test file says about itself, as `// key: words` in its leading comments: for whoever has to know it before the file is run.

/** The words of `key`, where a file's `source` says them. */
export function leadingWords(source: string, key: string): string | undefined {
  const comments = /^(?:(?:\/\/.*)?\n)*/.exec(source)?.[0] ?? "";
  return new RegExp(`^// ${key}: (.*)$`, "m").exec(comments)?.[1]?.trim();
}
