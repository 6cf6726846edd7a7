// Interrupts over eventfds that the server writes to. Servers take their word from SET_IRQS; some look at config space as
// well (SPDK's target at MSI-X enable and INTx-disable), so both say the same.
import { Ring3Error } from "../binary/error.ts";
import { errnoName } from "../linux/errno.ts";
import { EventFd } from "../linux/event-fd.ts";
import { checkDescriptors } from "../linux/limits.ts";
import { watch } from "../linux/poller.ts";
import { Msi } from "../pci/capabilities/msi.ts";
import { MsiX } from "../pci/capabilities/msi-x.ts";
import type { ConfigSpace } from "../pci/config-space.ts";
import type { SignalSource } from "../pci/counted-interrupt.ts";
import { Header } from "../pci/header.ts";
import { type InterruptControl, type InterruptKind, SwitchedInterrupts } from "../pci/switched-interrupts.ts";
import type { IrqDescription, ServedDevice } from "./client-device.ts";
import { Irq, IrqSetFlag } from "./messages.ts";

const indexes = { intx: Irq.INTX, msi: Irq.MSI, msix: Irq.MSIX } as const;
const actions = {
  mask: IrqSetFlag.ACTION_MASK,
  unmask: IrqSetFlag.ACTION_UNMASK,
  raise: IrqSetFlag.ACTION_TRIGGER,
} as const;

export function eventFdSource(eventFd: EventFd): SignalSource {
  return { take: () => eventFd.read(), watch: (wake) => watch(eventFd.fd, wake) };
}

export class VfioUserInterrupts extends SwitchedInterrupts<EventFd> {
  readonly #control: ServedInterrupts;

  constructor(device: ServedDevice, config: ConfigSpace, onListenerError: (error: unknown) => void) {
    const control = new ServedInterrupts(device, config);
    super(control, onListenerError);
    this.#control = control;
  }

  /** Gives a vector to another thread: the number of a new descriptor of its eventfd, which belongs to that thread. */
  lend(vector: number): number {
    return this.lendWire(vector).fd.duplicate().number;
  }

  /** Config space says that no message interrupt and no line is on, as nobody has asked for one. */
  silence(): void {
    this.#control.announce("none");
  }
}

class ServedInterrupts implements InterruptControl<EventFd> {
  readonly device: ServedDevice;
  readonly counts: { readonly intx: number; readonly msi: number; readonly msix: number };
  readonly growable: boolean;
  readonly automasked: boolean;
  readonly #config: ConfigSpace;

  constructor(device: ServedDevice, config: ConfigSpace) {
    this.device = device;
    this.#config = config;
    const usable = (irq: IrqDescription): number => (irq.eventfd ? irq.count : 0);
    const intx = device.irq(Irq.INTX);
    const msix = device.irq(Irq.MSIX);
    this.counts = {
      intx: Math.min(usable(intx), 1),
      msi: Math.min(usable(device.irq(Irq.MSI)), 32),
      msix: usable(msix),
    };
    this.automasked = intx.automasked;
    this.growable = this.counts.msix > 0 && !msix.fixedSize;
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
    try {
      this.device.setEventfds(
        indexes[kind],
        first,
        eventFds.map(({ fd }) => fd),
      );
      this.announce(kind, eventFds.length);
    } catch (error) {
      // Of several messages the first may have been obeyed.
      if (first === 0 && this.device.channel.dead === undefined) this.#switchOff(kind);
      throw error;
    }
    return 0;
  }

  disconnect(kind: InterruptKind): void {
    if (this.device.channel.dead !== undefined) return;
    this.device.disableIrqs(indexes[kind]);
    // Another client's interrupts may be on: the server knows.
    if (this.device.negotiated.openings === 0) this.announce("none");
  }

  act(kind: InterruptKind, vector: number, action: "mask" | "unmask" | "raise"): void {
    const result = this.device.tryActOnVector(indexes[kind], actions[action], vector);
    if (result >= 0) return;
    throw new Ring3Error("NOT_SUPPORTED", `the vfio-user server does not ${action} this interrupt`, {
      errno: errnoName(-result),
      call: "DEVICE_SET_IRQS",
    });
  }

  /** Writes what is on to config space, where that says something else. */
  announce(kind: InterruptKind | "none", count = 0): void {
    const config = this.#config;
    if (config.find(MsiX) !== undefined) {
      const { MSIX_ENABLE, FUNCTION_MASK } = config.read(MsiX.CONTROL);
      const on = kind === "msix" ? 1 : 0;
      if (MSIX_ENABLE !== on || FUNCTION_MASK !== 0) {
        config.write(MsiX.CONTROL, { MSIX_ENABLE: on, FUNCTION_MASK: 0 });
      }
    }
    if (config.find(Msi) !== undefined) {
      const on = kind === "msi" ? 1 : 0;
      const { MSI_ENABLE, MULTIPLE_MESSAGE_ENABLE } = config.read(Msi.CONTROL);
      const wanted = on === 1 ? Math.ceil(Math.log2(Math.max(count, 1))) : 0;
      // Other clients' vectors stay.
      const kept = this.device.negotiated.openings > 0 && on === 1 && MSI_ENABLE === 1 ? MULTIPLE_MESSAGE_ENABLE : 0;
      const vectors = Math.max(wanted, kept);
      if (MSI_ENABLE !== on || (on === 1 && MULTIPLE_MESSAGE_ENABLE !== vectors)) {
        config.write(Msi.CONTROL, { MSI_ENABLE: on, MULTIPLE_MESSAGE_ENABLE: vectors });
      }
    }
    const disabled = kind === "intx" ? 0 : 1;
    if (this.counts.intx > 0 && config.read(Header.COMMAND).INTX_DISABLE !== disabled) {
      config.write(Header.COMMAND, { INTX_DISABLE: disabled });
    }
  }

  #switchOff(kind: InterruptKind): void {
    try {
      this.device.disableIrqs(indexes[kind]);
    } catch (error) {
      if (!(error instanceof Ring3Error)) throw error;
    }
  }
}
