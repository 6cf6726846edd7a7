// INTx, MSI and MSI-X over the kernel's eventfds. The kernel enables a kind with its first eventfds, and answers with a
// positive number where fewer vectors are available than asked for: then none is on.
import { Ring3Error } from "../binary/error.ts";
import { errnoName } from "../linux/errno.ts";
import { EventFd } from "../linux/event-fd.ts";
import { checkDescriptors } from "../linux/limits.ts";
import { watch } from "../linux/poller.ts";
import type { SignalSource } from "../pci/counted-interrupt.ts";
import { type InterruptControl, type InterruptKind, SwitchedInterrupts } from "../pci/switched-interrupts.ts";
import type { DeviceFile } from "./device-file.ts";
import { IrqIndex, IrqSet } from "./uapi.ts";

/** An eventfd as a source of signals. */
export function eventFdSource(eventFd: EventFd): SignalSource {
  return { take: () => eventFd.read(), watch: (wake) => watch(eventFd.fd, wake) };
}

const indexes = { intx: IrqIndex.INTX, msi: IrqIndex.MSI, msix: IrqIndex.MSIX } as const;
const actions = {
  mask: IrqSet.ACTION_MASK,
  unmask: IrqSet.ACTION_UNMASK,
  raise: IrqSet.ACTION_TRIGGER,
} as const;

export class VfioInterrupts extends SwitchedInterrupts<EventFd> {
  constructor(device: DeviceFile, onListenerError: (error: unknown) => void) {
    super(new KernelInterrupts(device), onListenerError);
  }

  /** Gives a vector to another thread: the number of a new descriptor of its eventfd, which belongs to that thread. */
  lend(vector: number): number {
    return this.lendWire(vector).fd.duplicate().number;
  }
}

class KernelInterrupts implements InterruptControl<EventFd> {
  readonly counts: { readonly intx: number; readonly msi: number; readonly msix: number };
  readonly growable: boolean;
  readonly automasked: boolean;
  readonly #device: DeviceFile;

  constructor(device: DeviceFile) {
    this.#device = device;
    const intx = device.irq(IrqIndex.INTX);
    const msix = device.irq(IrqIndex.MSIX);
    this.counts = { intx: intx.count, msi: device.irq(IrqIndex.MSI).count, msix: msix.count };
    this.automasked = intx.automasked;
    this.growable = msix.count > 0 && !msix.fixedSize;
  }

  checkRoom(count: number): void {
    checkDescriptors(count);
  }

  open(): EventFd {
    return new EventFd();
  }

  source(eventFd: EventFd): SignalSource {
    return eventFdSource(eventFd);
  }

  wake(eventFd: EventFd): void {
    eventFd.write();
  }

  connect(kind: InterruptKind, first: number, eventFds: readonly EventFd[]): number {
    const numbers = eventFds.map(({ fd }) => fd.number);
    return this.#device.setEventfds(indexes[kind], first, numbers);
  }

  attach(kind: InterruptKind, first: number, descriptors: readonly (number | undefined)[]): number {
    const numbers = descriptors.map((descriptor) => descriptor ?? -1);
    return this.#device.setEventfds(indexes[kind], first, numbers);
  }

  disconnect(kind: InterruptKind): void {
    this.#device.disableIrqs(indexes[kind]);
  }

  act(kind: InterruptKind, vector: number, action: "mask" | "unmask" | "raise"): void {
    const result = this.#device.tryActOnVector(indexes[kind], actions[action], vector);
    if (result >= 0) return;
    throw new Ring3Error("NOT_SUPPORTED", `the kernel does not ${action} this interrupt`, {
      errno: errnoName(-result),
      call: "ioctl VFIO_DEVICE_SET_IRQS",
    });
  }
}
