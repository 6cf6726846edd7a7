// An NVMe controller as a PCI function: NVMe base 2.0 with the NVM command set, over PCI Express. Registers and interrupts
// here; what they do is in `controller.ts`.
import { Ring3Error } from "../../binary/error.ts";
import type { BarIndex } from "../../pci/function.ts";
import { NVME_CLASS_CODE, Nvme } from "../../specs/nvme/registers.ts";
import {
  aer,
  dsn,
  type FunctionDeclaration,
  type MemoryMap,
  msi,
  msix,
  pcie,
  pm,
  type ResetKind,
  type StateRecord,
  VirtualFunction,
} from "../../virtual/index.ts";
import { NvmeController } from "./controller.ts";
import { readRegister, writeRegister } from "./controller-registers.ts";
import { DeviceNamespace, type NamespaceOptions, uniqueIdOf } from "./namespace.ts";
import { NAMESPACES_MAX, type NvmeDeviceOptions, type NvmeSettings, settingsOf } from "./options.ts";
import { restoreController, saveController } from "./state.ts";

const PAGE = 4096;
/** Vectors of MSI, for hosts without MSI-X. */
const MSI_VECTORS = 32;
const SUBSYSTEM_ID = 0x0001;

/** What the device has done since it was made. */
export interface NvmeStatistics {
  readonly readCommands: number;
  readonly writeCommands: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly errors: number;
}

/**
 * An NVMe controller in software. Drivers bind to it by its class; its ids belong to no vendor, so that no driver applies a
 * quirk to it (1b36:0010, QEMU's, would switch write zeroes and namespace identifiers off in Linux).
 *
 * @example run
 * import { memoryBacking, NvmeDevice } from "ring3/devices/nvme";
 * import { NvmeDriver } from "ring3/nvme";
 * import { inProcess } from "ring3/virtual";
 * const disk = new NvmeDevice({ namespaces: [{ backing: memoryBacking(2 ** 20) }] });
 * await using fn = inProcess(disk);
 * await using nvme = await NvmeDriver.start(fn);
 * await nvme.namespace(1).write(0n, new Uint8Array(512).fill(7));
 */
export class NvmeDevice extends VirtualFunction {
  readonly #settings: NvmeSettings;
  readonly #namespaces: (DeviceNamespace | undefined)[] = [];
  readonly #controller: NvmeController;

  /** Throws `NVME_OPTION` or `BACKING_INVALID` for what cannot be. */
  constructor(options: NvmeDeviceOptions) {
    const settings = settingsOf(options);
    super(declarationOf(settings, options));
    this.#settings = settings;
    for (const [i, namespace] of options.namespaces.entries()) this.#put(i + 1, namespace);
    this.#controller = new NvmeController({
      settings,
      subsystem: { vendorId: this.identity.subsystemVendorId, id: this.identity.subsystemId },
      memory: this.memory,
      interrupts: this.interrupts,
      namespaces: this.#namespaces,
      doorbells: this.bars[0]?.areas[0]?.range,
      fail: (error) => this.fail(error),
    });
  }

  get statistics(): NvmeStatistics {
    const { readCommands, writeCommands, bytesRead, bytesWritten } = this.#controller.io.counters;
    return { readCommands, writeCommands, bytesRead, bytesWritten, errors: this.#controller.logs.errorCount };
  }

  /** Composite temperature in kelvin, as the health log tells it; crossing a threshold raises an event. */
  get temperature(): number {
    return this.#controller.logs.temperature;
  }

  set temperature(kelvin: number) {
    if (!(Number.isInteger(kelvin) && kelvin >= 1 && kelvin <= 0xffff)) {
      throw new Ring3Error("NVME_OPTION", `a temperature is 1 to 65535 kelvin, not ${kelvin}`);
    }
    this.#controller.setTemperature(kelvin);
  }

  /** Adds a namespace while the device runs, or replaces one, for example by a larger one; the host is told. */
  setNamespace(id: number, options: NamespaceOptions): void {
    this.#put(id, options);
    this.#controller.namespaceChanged(id);
  }

  /** Takes a namespace away; commands for it fail from now on. */
  removeNamespace(id: number): void {
    if (this.#namespaces[id] === undefined) throw new Ring3Error("NVME_OPTION", `there is no namespace ${id}`);
    this.#namespaces[id] = undefined;
    this.#controller.namespaceChanged(id);
  }

  #put(id: number, options: NamespaceOptions): void {
    if (!(Number.isInteger(id) && id >= 1 && id <= NAMESPACES_MAX)) {
      throw new Ring3Error("NVME_OPTION", `namespace ids go from 1 to ${NAMESPACES_MAX}, not ${id}`);
    }
    this.#namespaces[id] = new DeviceNamespace(id, options, uniqueIdOf(this.#settings.serialNumber, id));
  }

  // --- The function's side ----------------------------------------------------------------------------------------

  protected override read32(_bar: BarIndex, offset: number): number {
    // What a doorbell reads as is up to the controller (PCIe transport 1.0, section 3.1.2.1).
    return offset < Nvme.DOORBELLS ? readRegister(this.#controller, this.#settings, offset) : 0;
  }

  protected override write32(_bar: BarIndex, offset: number, value: number): void {
    if (offset < Nvme.DOORBELLS) {
      writeRegister(this.#controller, offset, value);
      return;
    }
    const stride = 4 * 2 ** this.#settings.doorbellStride;
    const at = offset - Nvme.DOORBELLS;
    if (at % stride === 0) this.#controller.queues.ring(at / stride, value);
  }

  /** With doorbells in memory nothing calls us when they are written. */
  override get polled(): boolean {
    return this.#settings.mappableDoorbells;
  }

  protected override poll(): number {
    return this.#controller.queues.poll();
  }

  protected override onReset(_kind: ResetKind): void {
    this.#controller.reset();
  }

  protected override onBusMaster(on: boolean): void {
    this.#controller.setReach(on);
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#controller.lane?.[Symbol.dispose]();
  }

  protected override onUnmap(map: MemoryMap): void {
    this.#controller.forget(map);
  }

  protected override onSuspend(): Promise<void> {
    return this.#controller.suspend();
  }

  protected override onResume(): void {
    this.#controller.resume();
  }

  protected override saveDevice(): StateRecord {
    return saveController(this.#controller, this.#namespaces);
  }

  protected override onStale(): void {
    this.#controller.giveUp();
  }

  protected override restoreDevice(state: StateRecord): void {
    const { memory } = this;
    restoreController(this.#controller, state, { memory, settings: this.#settings, namespaces: this.#namespaces });
  }
}

/** BAR0: registers, the doorbells on pages of their own, the MSI-X table and its pending bits on one each. */
function declarationOf(settings: NvmeSettings, options: NvmeDeviceOptions): FunctionDeclaration {
  const queues = settings.ioQueues + 1;
  const doorbellBytes = Math.ceil((queues * 2 * 4 * 2 ** settings.doorbellStride) / PAGE) * PAGE;
  const table = Nvme.DOORBELLS + doorbellBytes;
  const messages = new Set(options.interrupts ?? ["msi", "msix"]);
  const serial = Array.from(uniqueIdOf(settings.serialNumber, 0).subarray(0, 8), (byte) =>
    byte.toString(16).padStart(2, "0"),
  );
  return {
    name: settings.name,
    modelVersion: 1,
    vendorId: settings.vendorId,
    deviceId: settings.deviceId,
    subsystemVendorId: settings.vendorId,
    subsystemId: SUBSYSTEM_ID,
    revision: 1,
    classCode: NVME_CLASS_CODE,
    interruptPin: "A",
    ...(options.arena === undefined ? {} : { arena: options.arena }),
    bars: {
      0: {
        size: 2 ** Math.ceil(Math.log2(table + 2 * PAGE)),
        kind: "memory64",
        ...(settings.mappableDoorbells ? { memory: [{ offset: Nvme.DOORBELLS, size: doorbellBytes }] } : {}),
      },
    },
    capabilities: [
      pm({ noSoftReset: true }),
      ...(messages.has("msi") ? [msi({ vectors: MSI_VECTORS, address64: true, perVectorMasking: true })] : []),
      pcie({ functionLevelReset: true, maxPayloadBytes: 256, link: { speed: 8, width: 4 } }),
      ...(messages.has("msix")
        ? [msix({ vectors: queues, table: { bar: 0, offset: table }, pendingBits: { bar: 0, offset: table + PAGE } })]
        : []),
      aer(),
      dsn({ serialNumber: serial.join("-") }),
    ],
  };
}
