// The disk image of the demonstrations: every word holds its own index, so that whatever changes is seen.
import { openSync, readSync, writeFileSync } from "node:fs";

export const DISK_BYTES: number = 64 * 1024 * 1024;
const BLOCK_BYTES = 512;
/** What `examples/first-light.ts` writes. */
export const WRITTEN = { firstBlock: 8, blocks: 8 } as const;

/** Makes the image and returns its bytes. */
export function makeImage(path: string): Uint8Array {
  const bytes = new Uint8Array(DISK_BYTES);
  new Uint32Array(bytes.buffer).forEach((_, i, words) => {
    words[i] = i;
  });
  writeFileSync(path, bytes);
  return bytes;
}

/** Throws unless the image holds the text, again and again, in the written blocks, and around them what was there. */
export function checkImage(path: string, text: string, former: Uint8Array): void {
  const image = new Uint8Array(DISK_BYTES);
  const fd = openSync(path, "r");
  for (let at = 0; at < image.length; ) {
    const count = readSync(fd, image, at, image.length - at, at);
    if (count === 0) throw new Error(`the image ends at byte ${at}`);
    at += count;
  }
  const wanted = former.slice();
  const words = new TextEncoder().encode(`${text}\n`);
  const start = WRITTEN.firstBlock * BLOCK_BYTES;
  for (let i = 0; i < WRITTEN.blocks * BLOCK_BYTES; i++) wanted[start + i] = words[i % words.length] ?? 0;
  if (Buffer.compare(image, wanted) === 0) return;
  const wrong = image.findIndex((byte, i) => byte !== wanted[i]);
  throw new Error(`byte ${wrong} of the image is ${image[wrong]}, expected ${wanted[wrong]}`);
}
