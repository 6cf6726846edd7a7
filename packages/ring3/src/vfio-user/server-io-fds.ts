// GET_REGION_IO_FDS: descriptors that a client's accelerator signals instead of sending a write. Each signal becomes that
// write here; several may have become one, as with real doorbells it makes no difference.
import { createMemoryFile, EventFd, type FileDescriptor, MappedMemory, pageSize, type Watch } from "../linux/index.ts";
import type { BarIndex } from "../pci/function.ts";
import type { IoEventFd } from "../virtual/declaration.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import { IoEventFdFlag, IoFdType, REGION_COUNT, Region, RegionIoFds, SubRegionIoEventFdShadow } from "./messages.ts";
import { checkPayload, refusal } from "./server-refusal.ts";
import type { RegionReply } from "./server-regions.ts";

interface Signal {
  readonly about: IoEventFd;
  readonly event: EventFd;
  readonly watch: Watch;
}

interface BarSignals {
  readonly signals: readonly Signal[];
  /** Where clients leave the values of shadowed writes: as large as the BAR. */
  readonly shadow: { readonly fd: FileDescriptor; readonly memory: MappedMemory } | undefined;
}

export type BarIoEventFd = IoEventFd & { readonly bar: BarIndex };

export class ServerIoFds implements Disposable {
  readonly #fn: VirtualFunction;
  readonly #more: readonly BarIoEventFd[];
  readonly #afterWrite: () => void;
  readonly #bars = new Map<number, BarSignals>();

  /** `afterWrite` is called when a signal's write was done. */
  constructor(fn: VirtualFunction, more: readonly BarIoEventFd[], afterWrite: () => void) {
    this.#fn = fn;
    this.#more = more;
    this.#afterWrite = afterWrite;
  }

  /** At most `maximumFds` descriptors go out; what does not fit into `argsz` or into them is not sent, only counted. */
  reply(payload: Uint8Array, maximumFds: number): RegionReply {
    checkPayload(payload, RegionIoFds.size, "GET_REGION_IO_FDS");
    const { argsz, flags, index, count } = RegionIoFds.from(payload);
    if (argsz < RegionIoFds.size) throw refusal("EINVAL", `argsz ${argsz} is less than ${RegionIoFds.size}`);
    if (flags !== 0 || count !== 0) throw refusal("EINVAL", "flags and count must be 0 in the request");
    if (index >= REGION_COUNT) throw refusal("EINVAL", `there is no region ${index}`);
    const wanted = index <= Region.BAR5 ? this.#wanted(index as BarIndex) : [];
    const needed = RegionIoFds.size + wanted.length * SubRegionIoEventFdShadow.size;
    const fdsNeeded = wanted.length + (wanted.some(({ shadow }) => shadow === true) ? 1 : 0);
    if (wanted.length === 0 || argsz < needed || fdsNeeded > maximumFds) {
      return { payload: RegionIoFds.bytes({ argsz: needed, flags: 0, index, count: 0 }), fds: [] };
    }
    const { signals, shadow } = this.#signals(index as BarIndex, wanted);
    const fds = signals.map(({ event }) => event.fd);
    if (shadow !== undefined) fds.push(shadow.fd);
    const reply = new Uint8Array(needed);
    reply.set(RegionIoFds.bytes({ argsz: needed, flags: 0, index, count: signals.length }));
    const pio = this.#fn.bars[index]?.kind === "io" ? IoEventFdFlag.PIO : 0;
    for (const [i, { about }] of signals.entries()) {
      const match = about.match ?? 0n;
      const shadowed = about.shadow === true;
      reply.set(
        SubRegionIoEventFdShadow.bytes({
          offset: BigInt(about.offset),
          size: BigInt(about.size),
          fd_index: i,
          type: shadowed ? IoFdType.IOEVENTFD_SHADOW : IoFdType.IOEVENTFD,
          flags: pio | (about.match === undefined ? 0 : IoEventFdFlag.DATAMATCH),
          shadow_mem_fd_index: shadowed ? fds.length - 1 : 0,
          shadow_offset: shadowed ? BigInt(about.offset) : match,
          datamatch: match,
        }),
        RegionIoFds.size + i * SubRegionIoEventFdShadow.size,
      );
    }
    return { payload: reply, fds };
  }

  [Symbol.dispose](): void {
    for (const { signals, shadow } of this.#bars.values()) {
      for (const { watch, event } of signals) {
        watch[Symbol.dispose]();
        event[Symbol.dispose]();
      }
      shadow?.memory[Symbol.dispose]();
      shadow?.fd.close();
    }
    this.#bars.clear();
  }

  #wanted(bar: BarIndex): readonly IoEventFd[] {
    const declared = this.#fn.declaration.bars?.[bar]?.ioEventFds ?? [];
    const more = this.#more.filter((entry) => entry.bar === bar);
    const size = this.#fn.bars[bar]?.size ?? 0;
    return [...declared, ...more].filter((entry) => entry.offset + Math.max(entry.size, 1) <= size);
  }

  #signals(bar: BarIndex, wanted: readonly IoEventFd[]): BarSignals {
    const known = this.#bars.get(bar);
    if (known !== undefined) return known;
    const shadow = wanted.some((entry) => entry.shadow === true) ? this.#shadow(bar) : undefined;
    const signals = wanted.map((about): Signal => {
      const event = new EventFd();
      const width = about.size === 0 ? 4 : about.size;
      const bytes = new Uint8Array(8);
      const view = new DataView(bytes.buffer);
      const watch = event.watch(
        () => {
          if (about.shadow === true && shadow !== undefined) {
            bytes.set(shadow.memory.bytes.subarray(about.offset, about.offset + width));
          } else view.setBigUint64(0, BigInt.asUintN(64, about.match ?? about.value ?? 0n), true);
          this.#fn.writeBar(bar, about.offset, bytes.subarray(0, width));
          this.#afterWrite();
        },
        { keepsAlive: false },
      );
      return { about, event, watch };
    });
    const made = { signals, shadow };
    this.#bars.set(bar, made);
    return made;
  }

  #shadow(bar: BarIndex): { fd: FileDescriptor; memory: MappedMemory } {
    const size = Math.ceil((this.#fn.bars[bar]?.size ?? 1) / pageSize) * pageSize;
    const fd = createMemoryFile(size, { name: "ring3-shadow" });
    return { fd, memory: MappedMemory.file(fd, 0, size) };
  }
}
