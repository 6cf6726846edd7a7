// The messages that come a million times: reads and writes of 1, 2 or 4 aligned bytes of a BAR or of config space. They
// are recognised and answered in place, word by word; whatever is unusual about one is left to the general way.
import type { BarIndex } from "../pci/function.ts";
import type { Connection } from "./connection.ts";
import { Command, HeaderFlag, Region } from "./messages.ts";
import type { Counters } from "./server-statistics.ts";
import type { RegisterBus } from "./server-watch.ts";

const { REGION_READ, REGION_WRITE } = Command;
/** Words of a message: its header, then offset (two words), region and count, then data. */
const SIZE = 1;
const FLAGS = 2;
const OFFSET = 4;
const OFFSET_HIGH = 5;
const REGION = 6;
const COUNT = 7;
const DATA = 8;
const FIXED_BYTES = 32;

export interface RegisterHost {
  /** The function was written to: called before the write is answered. */
  changed(): void;
  /** Whether the client is still to be answered: an access may have found out that it is not. */
  readonly answers: boolean;
}

export class RegisterAccesses {
  readonly #connection: Connection;
  readonly #fn: RegisterBus;
  readonly #counters: Counters;
  readonly #host: RegisterHost;

  constructor(connection: Connection, fn: RegisterBus, counters: Counters, host: RegisterHost) {
    this.#connection = connection;
    this.#fn = fn;
    this.#counters = counters;
    this.#host = host;
  }

  /** Serves the message at word `at` of the input, if it is such an access; otherwise nothing was done. */
  serve(at: number): boolean {
    const { words } = this.#connection.channel.input;
    const command = (words[at] as number) >>> 16;
    if (command !== REGION_READ && command !== REGION_WRITE) return false;
    const region = words[at + REGION] as number;
    const offset = words[at + OFFSET] as number;
    const count = words[at + COUNT] as number;
    if ((count !== 4 && count !== 2 && count !== 1) || (offset & (count - 1)) !== 0) return false;
    if (words[at + OFFSET_HIGH] !== 0) return false;
    if (region <= Region.BAR5) {
      if (offset + count > (this.#fn.bars[region] as { readonly size: number }).size) return false;
    } else if (region !== Region.CONFIG || offset + count > this.#fn.config.size) return false;
    return command === REGION_READ
      ? this.#read(words, at, region, offset, count)
      : this.#write(words, at, region, offset, count);
  }

  #read(words: Uint32Array, at: number, region: number, offset: number, count: 1 | 2 | 4): boolean {
    if (words[at + SIZE] !== FIXED_BYTES || words[at + FLAGS] !== 0) return false;
    const id = (words[at] as number) & 0xffff;
    const value =
      region === Region.CONFIG
        ? this.#fn.config.read(offset, count)
        : this.#fn.barRead(region as BarIndex, offset, count);
    this.#counters.countReceived(REGION_READ, FIXED_BYTES);
    this.#connection.channel.output.words[DATA] = value;
    this.#reply(id, REGION_READ, region, offset, count, FIXED_BYTES + count);
    return true;
  }

  #write(words: Uint32Array, at: number, region: number, offset: number, count: 1 | 2 | 4): boolean {
    const flags = words[at + FLAGS] as number;
    if (words[at + SIZE] !== FIXED_BYTES + count || (flags & ~HeaderFlag.NO_REPLY) !== 0) return false;
    const id = (words[at] as number) & 0xffff;
    const word = words[at + DATA] as number;
    const value = count === 4 ? word : word & (count === 2 ? 0xffff : 0xff);
    if (region === Region.CONFIG) this.#fn.config.write(offset, count, value);
    else this.#fn.barWrite(region as BarIndex, offset, count, value);
    this.#counters.countReceived(REGION_WRITE, FIXED_BYTES + count);
    this.#host.changed();
    if (flags === 0) this.#reply(id, REGION_WRITE, region, offset, count, FIXED_BYTES);
    return true;
  }

  #reply(id: number, command: number, region: number, offset: number, count: number, size: number): void {
    if (!this.#host.answers) return;
    const { words } = this.#connection.channel.output;
    words[OFFSET] = offset;
    words[OFFSET_HIGH] = 0;
    words[REGION] = region;
    words[COUNT] = count;
    this.#connection.reply(id, command, size - 16);
    this.#counters.bytesSent += size;
  }
}
