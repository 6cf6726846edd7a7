// The words that the real lspci can print, from the constants of its program: what no generated config space brings out is
// a part of it that nobody has compared. ELF: System V ABI, chapter 4.

const CONVERSION = /%(?:[0-9]+\$)?[-+ #0]*[0-9*]*(?:\.[0-9*]+)?(?:hh|h|ll|l|z)?[a-zA-Z%]/;

/** Pieces of text between the conversions of its formats, of three characters or more. */
export function wordsOf(program: Uint8Array): ReadonlySet<string> {
  const text = Buffer.from(section(program, ".rodata")).toString("latin1");
  const strings = text.match(/[\t\n\x20-\x7e]+(?=\0)/g) ?? [];
  const pieces = strings.flatMap((one) => one.split(CONVERSION));
  return new Set(pieces.filter((piece) => piece.trim().length > 2));
}

function section(program: Uint8Array, name: string): Uint8Array {
  const view = new DataView(program.buffer, program.byteOffset, program.length);
  const table = Number(view.getBigUint64(0x28, true));
  const [size, count, namesAt] = [view.getUint16(0x3a, true), view.getUint16(0x3c, true), view.getUint16(0x3e, true)];
  const entry = (index: number): { readonly name: number; readonly bytes: Uint8Array } => {
    const at = table + index * size;
    const start = Number(view.getBigUint64(at + 0x18, true));
    const length = Number(view.getBigUint64(at + 0x20, true));
    return { name: view.getUint32(at, true), bytes: program.subarray(start, start + length) };
  };
  const names = Buffer.from(entry(namesAt).bytes).toString("latin1");
  for (let index = 0; index < count; index++) {
    const { name: at, bytes } = entry(index);
    if (names.slice(at, names.indexOf("\0", at)) === name) return bytes;
  }
  throw new Error(`the program has no section ${name}`);
}
