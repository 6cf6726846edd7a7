// What happens to PCI functions and VFIO nodes, as the kernel announces it: hotplug, binding, errors and recovery. Needs no
// privilege. The socket's code is loaded at the first use, since most programs that look at the machine never listen.
import { basename } from "node:path";
import type { Uevent, UeventNotice } from "../linux/uevents.ts";
import { PciAddress } from "../pci/address.ts";

export type HostEvent =
  | { readonly type: "added" | "removed" | "unbound"; readonly address: string }
  | { readonly type: "bound"; readonly address: string; readonly driver: string | undefined }
  /** The kernel's error handling works on the function: `BEGIN_RECOVERY`, `SUCCESSFUL_RECOVERY`, `FAILED_RECOVERY`. */
  | { readonly type: "error"; readonly address: string; readonly phase: string }
  /** A node below /dev came or went, as root's and before udev saw it; `address` is known for iommufd devices. */
  | { readonly type: "node-added" | "node-removed"; readonly node: string; readonly address: string | undefined }
  /** The kernel dropped events: read the state anew. */
  | { readonly type: "overflow" };

/** The kernel's notices: what `UeventStream` gives. */
export type UeventSource = AsyncIterable<UeventNotice> & Disposable;

/** The events from the moment of {@link watchHost} on, each once. Disposal, or leaving the loop, ends it. */
export class HostEvents implements AsyncIterableIterator<HostEvent, undefined>, Disposable {
  readonly #source: UeventSource;
  readonly #notices: AsyncIterator<UeventNotice>;

  constructor(source: UeventSource) {
    this.#source = source;
    this.#notices = source[Symbol.asyncIterator]();
  }

  async next(): Promise<IteratorResult<HostEvent, undefined>> {
    for (;;) {
      const { done, value } = await this.#notices.next();
      if (done === true) return { done: true, value: undefined };
      const event = value.type === "overflow" ? value : hostEvent(value.event);
      if (event !== undefined) return { done: false, value: event };
    }
  }

  async return(): Promise<IteratorResult<HostEvent, undefined>> {
    this[Symbol.dispose]();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.dispose](): void {
    this.#source[Symbol.dispose]();
  }
}

/** Starts listening; resolves once nothing can be missed any more. `keepsAlive` keeps the process alive meanwhile. */
export async function watchHost(options: { readonly keepsAlive?: boolean } = {}): Promise<HostEvents> {
  const { UeventStream } = await import("../linux/uevents.ts");
  return new HostEvents(new UeventStream(options));
}

/** What a kernel event means here; `undefined` for what is about something else. */
export function hostEvent({ action, subsystem, devpath, properties }: Uevent): HostEvent | undefined {
  if (subsystem === "vfio" || subsystem === "vfio-dev") {
    const type = action === "add" ? "node-added" : action === "remove" ? "node-removed" : undefined;
    const node = properties["DEVNAME"];
    if (type === undefined || node === undefined) return undefined;
    const address = devpath.split("/").findLast((part) => PciAddress.accepts(part));
    return { type, node: node.startsWith("/") ? node : `/dev/${node}`, address };
  }
  const address = properties["PCI_SLOT_NAME"] ?? basename(devpath);
  if (subsystem !== "pci" || !PciAddress.accepts(address)) return undefined;
  switch (action) {
    case "add":
      return { type: "added", address };
    case "remove":
      return { type: "removed", address };
    case "bind":
      return { type: "bound", address, driver: properties["DRIVER"] };
    case "unbind":
      return { type: "unbound", address };
    case "change": {
      const phase = properties["ERROR_EVENT"];
      return phase === undefined ? undefined : { type: "error", address, phase };
    }
    default:
      return undefined;
  }
}
