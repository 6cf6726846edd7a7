// A newc cpio archive, the format of an initramfs (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;

export class Cpio {
  readonly #parts: Buffer[] = [];
  readonly #directories = new Set<string>();
  readonly #files = new Set<string>();
  #inode = 1;

  /** Adds a regular file and the directories above it. */
  file(path: string, contents: Uint8Array | string, mode = 0o644): void {
    this.#parents(path);
    this.#files.add(path);
    this.#entry(path, S_IFREG | mode, Buffer.from(contents));
  }

  /** Whether a regular file lies at `path` already. */
  has(path: string): boolean {
    return this.#files.has(path);
  }

  symlink(path: string, target: string): void {
    this.#parents(path);
    this.#entry(path, S_IFLNK | 0o777, Buffer.from(target));
  }

  directory(path: string, mode = 0o755): void {
    if (path === "" || path === "." || this.#directories.has(path)) return;
    this.#parents(path);
    this.#directories.add(path);
    this.#entry(path, S_IFDIR | mode, Buffer.alloc(0));
  }

  /** A character device node, such as /dev/console, which the kernel opens before anything is mounted. */
  device(path: string, major: number, minor: number): void {
    this.#parents(path);
    this.#entry(path, S_IFCHR | 0o600, Buffer.alloc(0), major, minor);
  }

  /** Adds a directory of the host with everything below it for which `keep` holds. */
  tree(path: string, source: string, keep: (relative: string) => boolean = () => true, relative = ""): void {
    for (const name of readdirSync(join(source, relative)).sort()) {
      const inner = join(relative, name);
      if (!keep(inner)) continue;
      const stat = lstatSync(join(source, inner));
      if (stat.isDirectory()) {
        this.directory(join(path, inner));
        this.tree(path, source, keep, inner);
      } else if (stat.isSymbolicLink()) {
        this.symlink(join(path, inner), readlinkSync(join(source, inner)));
      } else {
        this.file(join(path, inner), readFileSync(join(source, inner)), stat.mode & 0o777);
      }
    }
  }

  /** The whole archive. */
  finish(): Buffer {
    this.#entry("TRAILER!!!", 0, Buffer.alloc(0));
    return Buffer.concat(this.#parts);
  }

  #parents(path: string): void {
    const end = path.lastIndexOf("/");
    if (end > 0) this.directory(path.slice(0, end));
  }

  #entry(path: string, mode: number, data: Buffer, major = 0, minor = 0): void {
    const name = Buffer.from(`${path}\0`);
    // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    const fields = [this.#inode++, mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, name.length, 0];
    const header = `070701${fields.map((value) => value.toString(16).padStart(8, "0")).join("")}`;
    this.#parts.push(
      Buffer.from(header, "latin1"),
      name,
      padding(header.length + name.length),
      data,
      padding(data.length),
    );
  }
}

function padding(length: number): Buffer {
  return Buffer.alloc(-length & 3);
}
