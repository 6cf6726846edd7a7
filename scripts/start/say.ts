// One line at a time, each with the seconds since the demonstration began.
const startedAt = performance.now();

export function say(line: string): void {
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(6);
  for (const part of line.trimEnd().split("\n")) console.log(`${seconds} s  ${part}`);
}

/** Collects chunks of output and gives whole lines to `show`; call the result with what came. */
export function byLine(show: (line: string) => void): (chunk: string) => void {
  let rest = "";
  return (chunk) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) show(line);
  };
}
