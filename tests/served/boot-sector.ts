// A disk that boots: its first sector is code that SeaBIOS runs. It prints a line to the first serial port, reads the
// second sector through INT 13h, that is through SeaBIOS's own driver of the disk, prints the text in it, writes the
// third sector the same way and says so. Assembled by hand: 16-bit x86, loaded at 0x7c00, DL = the boot drive.

const SECTOR = 512;
const LOAD = 0x7c00;
/** Where the second sector is read to, and the third written from. */
const BUFFER = 0x7e00;

/** What the code says once it runs; the text of sector 1 follows, and `WRITTEN` at the end. */
export const RUNNING = "boot sector runs";
export const WRITTEN = "third sector written";
export const FAILED = "disk error";

/** A disk image of `size` bytes that boots and carries `text` (shorter than a sector) in its second sector. */
export function bootableDisk(size: number, text: string): Uint8Array {
  const image = new Uint8Array(size);
  image.set(bootSector());
  image.set(new TextEncoder().encode(`${text}\r\n\0`), SECTOR);
  return image;
}

/** The third sector as the boot code leaves it: what it read from the second. */
export function writtenSector(image: Uint8Array): Uint8Array {
  return image.subarray(2 * SECTOR, 3 * SECTOR);
}

function bootSector(): Uint8Array {
  const code: number[] = [];
  const fixups: { readonly at: number; readonly label: string; readonly relative: boolean }[] = [];
  const labels = new Map<string, number>();
  const emit = (...bytes: readonly number[]): void => void code.push(...bytes);
  const label = (name: string): void => void labels.set(name, code.length);
  const address = (name: string): void => {
    fixups.push({ at: code.length, label: name, relative: false });
    emit(0, 0);
  };
  const call = (name: string): void => {
    emit(0xe8);
    fixups.push({ at: code.length, label: name, relative: true });
    emit(0, 0);
  };
  /** mov si, text; call print */
  const print = (name: string): void => {
    emit(0xbe);
    address(name);
    call("print");
  };
  /** One extended read or write of the sector that the packet names; on carry to `failed`. */
  const disk = (operation: number, packet: string): void => {
    emit(0xbe);
    address(packet);
    emit(0xb8, 0x00, operation); // mov ax, operation << 8
    emit(0x8a, 0x16); // mov dl, [drive]
    address("drive");
    emit(0xcd, 0x13); // int 0x13
    emit(0x0f, 0x82); // jc failed
    fixups.push({ at: code.length, label: "failed", relative: true });
    emit(0, 0);
  };

  emit(0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfb); // cli; ds = es = ss = 0; sp; sti
  emit(0x88, 0x16); // mov [drive], dl
  address("drive");
  print("running");
  disk(0x42, "readPacket");
  emit(0xbe, BUFFER & 0xff, BUFFER >> 8); // mov si, BUFFER
  call("print");
  disk(0x43, "writePacket");
  print("written");
  label("halt");
  emit(0xf4, 0xeb, 0xfd); // hlt; jmp halt
  label("failed");
  print("failure");
  emit(0xeb, (labels.get("halt") ?? 0) - (code.length + 2));
  // print: lodsb; test al, al; jz done; push ax; wait for the transmitter; pop ax; out; jmp print
  label("print");
  emit(
    0xac,
    0x84,
    0xc0,
    0x74,
    0x10,
    0x50,
    0xba,
    0xfd,
    0x03,
    0xec,
    0xa8,
    0x20,
    0x74,
    0xfb,
    0x58,
    0xba,
    0xf8,
    0x03,
    0xee,
  );
  emit(0xeb, 0xeb, 0xc3);
  const text = (name: string, value: string): void => {
    label(name);
    emit(...new TextEncoder().encode(value), 13, 10, 0);
  };
  text("running", RUNNING);
  text("written", WRITTEN);
  text("failure", FAILED);
  label("drive");
  emit(0);
  // Disk address packets: size, count, buffer, block (BIOS Enhanced Disk Drive specification 3.0).
  while (code.length % 4 !== 0) emit(0);
  label("readPacket");
  emit(16, 0, 1, 0, BUFFER & 0xff, BUFFER >> 8, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0);
  label("writePacket");
  emit(16, 0, 1, 0, BUFFER & 0xff, BUFFER >> 8, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0);
  if (code.length > SECTOR - 2) throw new RangeError(`the boot code takes ${code.length} bytes`);

  for (const { at, label: name, relative } of fixups) {
    const target = labels.get(name);
    if (target === undefined) throw new RangeError(`no label ${name}`);
    const value = relative ? target - (at + 2) : LOAD + target;
    code[at] = value & 0xff;
    code[at + 1] = (value >> 8) & 0xff;
  }
  const sector = new Uint8Array(SECTOR);
  sector.set(code);
  sector.set([0x55, 0xaa], SECTOR - 2);
  return sector;
}
