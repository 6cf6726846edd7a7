// INTx, MSI and MSI-X over eventfds. The kernel enables a kind with its first eventfds, and answers with a positive number
// where fewer vectors are available than asked for: then none is on.
import { Ring3Error } from "../binary/error.ts";
import { errnoName } from "../linux/errno.ts";
import { EventFd } from "../linux/event-fd.ts";
import { openFilesCount, openFilesLimit } from "../linux/limits.ts";
import { watch } from "../linux/poller.ts";
import { CountedInterrupt, type SignalSource } from "../pci/counted-interrupt.ts";
import type { Interrupt, Interrupts, LineInterrupt } from "../pci/function.ts";
import type { DeviceFile, IrqDescription } from "./device-file.ts";
import { IrqIndex, IrqSet } from "./uapi.ts";

/** An eventfd as a source of signals. */
export function eventFdSource(eventFd: EventFd): SignalSource {
  return { take: () => eventFd.read(), watch: (wake) => watch(eventFd.fd, wake) };
}

interface Vector {
  readonly eventFd: EventFd;
  readonly interrupt: CountedInterrupt;
}

/** Descriptors that are left to the rest of the program when many vectors are asked for. */
const spareDescriptors = 8;

export class VfioInterrupts implements Interrupts {
  readonly available: { readonly intx: number; readonly msi: number; readonly msix: number };
  readonly growable: boolean;
  readonly #device: DeviceFile;
  readonly #intx: IrqDescription;
  readonly #onListenerError: (error: unknown) => void;
  #vectors: Map<number, Vector> = new Map();
  /** Eventfds of vectors that other threads wait for: kept open until those were told of the end. */
  readonly #lent: EventFd[] = [];
  #active: "none" | "intx" | "msi" | "msix" = "none";
  #ended: Ring3Error | undefined;

  constructor(device: DeviceFile, onListenerError: (error: unknown) => void) {
    this.#device = device;
    this.#onListenerError = onListenerError;
    this.#intx = device.irq(IrqIndex.INTX);
    const msix = device.irq(IrqIndex.MSIX);
    this.available = { intx: this.#intx.count, msi: device.irq(IrqIndex.MSI).count, msix: msix.count };
    this.growable = msix.count > 0 && !msix.fixedSize;
  }

  get active(): "none" | "intx" | "msi" | "msix" {
    return this.#active;
  }

  intx(): LineInterrupt {
    this.#checkFree();
    if (this.available.intx === 0)
      throw new Ring3Error("NOT_SUPPORTED", "the function has no line interrupt; use MSI or MSI-X");
    const eventFd = new EventFd();
    const line = new VfioLine(this.#device, this.#intx.automasked, eventFd, this.#onListenerError);
    const vectors = new Map([[0, { eventFd, interrupt: line }]]);
    this.#arm("intx", IrqIndex.INTX, 0, vectors);
    return line;
  }

  msi(count = 1): readonly Interrupt[] {
    this.#checkFree();
    if (!(count >= 1 && count <= 32 && Number.isInteger(Math.log2(count)))) {
      throw new Ring3Error("INTERRUPT_INVALID", `MSI takes 1, 2, 4, 8, 16 or 32 vectors, not ${count}`);
    }
    return this.#switchOn("msi", IrqIndex.MSI, 0, count, this.available.msi);
  }

  msix(count = 1): readonly Interrupt[] {
    this.#checkFree();
    return this.#switchOn("msix", IrqIndex.MSIX, 0, checkedCount(count), this.available.msix);
  }

  addMsix(first: number, count: number): readonly Interrupt[] {
    this.#checkOpen();
    if (!this.growable) {
      throw new Ring3Error(
        "NOT_SUPPORTED",
        "this kernel cannot add MSI-X vectors (Linux 6.5 can): ask for all at once",
      );
    }
    if (this.#active !== "msix")
      throw new Ring3Error("INTERRUPTS_BUSY", `MSI-X is not on (${this.#active} is): call msix first`);
    if (!(Number.isInteger(first) && first >= 0)) throw new Ring3Error("INTERRUPT_INVALID", `not a vector: ${first}`);
    for (let vector = first; vector < first + checkedCount(count); vector++) {
      if (this.#vectors.has(vector)) throw new Ring3Error("INTERRUPTS_BUSY", `MSI-X vector ${vector} is on already`);
    }
    return this.#switchOn("msix", IrqIndex.MSIX, first, count, this.available.msix);
  }

  disable(): void {
    this.#checkOpen();
    this.#disable(new Ring3Error("INTERRUPT_CLOSED", "the function's interrupts were switched off"));
  }

  /** Switches off and stays off: whoever waits gets `toWaiters`, later calls `reason`. */
  end(reason: Ring3Error, toWaiters: Ring3Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    this.#disable(toWaiters);
  }

  /**
   * Gives a vector to another thread: the number of a new descriptor of its eventfd, which belongs to that thread. Here the
   * vector throws `INTERRUPT_LENT` from now on. Throws `INTERRUPTS_BUSY` while somebody waits for it here.
   */
  lend(vector: number): number {
    this.#checkOpen();
    const found = this.#vectors.get(vector);
    if (found === undefined)
      throw new Ring3Error("INTERRUPT_INVALID", `vector ${vector} is not on; switch it on before lending it`);
    found.interrupt.lend();
    this.#lent.push(found.eventFd);
    return found.eventFd.fd.duplicate().number;
  }

  /** Wakes the threads that borrowed vectors, so that they see what became of the function. */
  wakeBorrowers(): void {
    for (const eventFd of this.#lent.splice(0)) {
      eventFd.write();
      eventFd[Symbol.dispose]();
    }
  }

  #switchOn(
    kind: "msi" | "msix",
    index: IrqIndex,
    first: number,
    count: number,
    available: number,
  ): readonly Interrupt[] {
    if (first + count > available) throw tooMany(kind, first + count, available);
    checkDescriptors(count);
    const vectors: Map<number, Vector> = new Map();
    for (let vector = first; vector < first + count; vector++) {
      const eventFd = new EventFd();
      const raise = (): void => raiseBySoftware(this.#device, index, vector);
      vectors.set(vector, {
        eventFd,
        interrupt: new CountedInterrupt(vector, eventFdSource(eventFd), raise, this.#onListenerError),
      });
    }
    this.#arm(kind, index, first, vectors);
    return Array.from(vectors.values(), ({ interrupt }) => interrupt);
  }

  #arm(kind: "intx" | "msi" | "msix", index: IrqIndex, first: number, vectors: Map<number, Vector>): void {
    try {
      const eventfds = Array.from(vectors.values(), ({ eventFd }) => eventFd.fd.number);
      const granted = this.#device.setEventfds(index, first, eventfds);
      if (granted > 0) throw tooMany(kind, first + vectors.size, granted);
    } catch (error) {
      for (const { eventFd } of vectors.values()) eventFd[Symbol.dispose]();
      throw error;
    }
    this.#active = kind;
    for (const [vector, entry] of vectors) this.#vectors.set(vector, entry);
  }

  #disable(reason: Ring3Error): void {
    if (this.#active === "none") return;
    const index = { intx: IrqIndex.INTX, msi: IrqIndex.MSI, msix: IrqIndex.MSIX }[this.#active];
    this.#active = "none";
    const vectors = this.#vectors;
    this.#vectors = new Map();
    try {
      this.#device.disableIrqs(index);
    } finally {
      for (const { interrupt, eventFd } of vectors.values()) {
        interrupt.close(reason);
        if (!this.#lent.includes(eventFd)) eventFd[Symbol.dispose]();
      }
    }
  }

  #checkFree(): void {
    this.#checkOpen();
    if (this.#active !== "none") {
      throw new Ring3Error("INTERRUPTS_BUSY", `${this.#active} is on; call disable() before switching on another kind`);
    }
  }

  #checkOpen(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }
}

/** The line interrupt: level-triggered, so the kernel masks it at each delivery and somebody has to unmask it. */
class VfioLine extends CountedInterrupt implements LineInterrupt {
  readonly automasked: boolean;
  readonly #device: DeviceFile;
  #on = true;

  constructor(device: DeviceFile, automasked: boolean, eventFd: EventFd, onListenerError: (error: unknown) => void) {
    const raise = (): void => raiseBySoftware(device, IrqIndex.INTX, 0);
    super(0, eventFdSource(eventFd), raise, onListenerError);
    this.#device = device;
    this.automasked = automasked;
  }

  mask(): void {
    this.#act(IrqSet.ACTION_MASK, "mask");
  }

  unmask(): void {
    this.#act(IrqSet.ACTION_UNMASK, "unmask");
  }

  override close(error: Ring3Error): void {
    this.#on = false;
    super.close(error);
  }

  #act(action: number, name: string): void {
    if (!this.#on) throw new Ring3Error("INTERRUPT_CLOSED", "the line interrupt was switched off");
    const result = this.#device.tryActOnVector(IrqIndex.INTX, action, 0);
    if (result < 0) throw refused(name, -result);
  }
}

function raiseBySoftware(device: DeviceFile, index: IrqIndex, vector: number): void {
  const result = device.tryActOnVector(index, IrqSet.ACTION_TRIGGER, vector);
  if (result < 0) throw refused("raise", -result);
}

function refused(what: string, errno: number): Ring3Error {
  return new Ring3Error("NOT_SUPPORTED", `the kernel does not ${what} this interrupt`, {
    errno: errnoName(errno),
    call: "ioctl VFIO_DEVICE_SET_IRQS",
  });
}

function checkedCount(count: number): number {
  if (Number.isInteger(count) && count >= 1) return count;
  throw new Ring3Error("INTERRUPT_INVALID", `not a number of vectors: ${count}`);
}

function tooMany(kind: string, wanted: number, available: number): Ring3Error {
  return new Ring3Error(
    "TOO_MANY_VECTORS",
    `${wanted} ${kind.toUpperCase()} vectors were asked for, ${available} are available`,
  );
}

/** Each vector takes a descriptor; running out of them half-way would leave others without. */
function checkDescriptors(count: number): void {
  const limit = openFilesLimit().current;
  if (limit === undefined || count < spareDescriptors) return;
  const used = openFilesCount();
  if (used + count + spareDescriptors <= limit) return;
  throw new Ring3Error(
    "NOFILE_LIMIT",
    `${count} vectors take a descriptor each, and ${used} of RLIMIT_NOFILE's ${limit} are in use; ` +
      `raise it with \`ulimit -n ${used + count + 64}\` or LimitNOFILE=, or use fewer vectors`,
    { errno: "EMFILE" },
  );
}
