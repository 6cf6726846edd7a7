// The registers of a modern virtio function, as actions: reset, negotiation, queues, notification, configuration. Virtio 1.3,
// sections 3.1 and 4.1.5. Hard about it: a device may answer all ones, never finish a reset or refuse what it offered, so
// every wait has an end and everything that it says is checked.
import { Ring3Error } from "../../binary/error.ts";
import type { Registers } from "../../memory/registers.ts";
import type { PciFunction } from "../../pci/function.ts";
import { Feature, FeatureSet } from "../../specs/virtio/features.ts";
import { DeviceStatus, VIRTIO_NO_VECTOR, VirtioCommon } from "../../specs/virtio/registers.ts";
import { type Clock, sleep } from "../clock.ts";
import { findStructures, type VirtioStructures } from "./structures.ts";

const ABSENT = 0xff;
const RESET_TIMEOUT_MS = 5000;
const GENERATION_TRIES = 100;
const ACKNOWLEDGED: number = DeviceStatus.ACKNOWLEDGE.mask | DeviceStatus.DRIVER.mask;

/** Where the three areas of a queue lie for the device. */
export interface QueueAddresses {
  readonly descriptor: number;
  readonly driver: number;
  readonly device: number;
}

/** `needs-reset`: the device says so. `reset`: it lost what it was told. `absent`: its registers read all ones. */
export type VirtioHealth = "well" | "needs-reset" | "reset" | "absent";

export class VirtioTransport {
  readonly negotiated: FeatureSet = new FeatureSet();
  readonly #structures: VirtioStructures;
  readonly #common: Registers;
  readonly #fn: PciFunction;
  readonly #clock: Clock;

  /** Throws `VIRTIO_LEGACY`, `VIRTIO_PROTOCOL`. */
  constructor(fn: PciFunction, clock: Clock) {
    this.#fn = fn;
    this.#clock = clock;
    this.#structures = findStructures(fn);
    this.#common = this.#structures.common;
  }

  get address(): string {
    return this.#fn.identity.address;
  }

  /** Resets the device and waits until it says that it has: section 4.1.4.3.2. Rejects with `TIMEOUT`, `VIRTIO_ABSENT`. */
  async reset(): Promise<void> {
    const common = this.#common;
    common.write8(VirtioCommon.DEVICE_STATUS, 0);
    const deadline = this.#clock.now() + RESET_TIMEOUT_MS;
    for (;;) {
      const status = common.read8(VirtioCommon.DEVICE_STATUS);
      if (status === 0) return;
      if (status === ABSENT && common.read32(VirtioCommon.DEVICE_FEATURE) === 0xffff_ffff) {
        throw new Ring3Error("VIRTIO_ABSENT", `the registers of ${this.address} read all ones; is the device gone?`);
      }
      if (this.#clock.now() >= deadline) {
        throw new Ring3Error("TIMEOUT", `${this.address} did not finish its reset within ${RESET_TIMEOUT_MS} ms`);
      }
      await sleep(this.#clock, 1, this.#fn.gone);
    }
  }

  /** What the device offers. */
  offered(): FeatureSet {
    const features = new FeatureSet();
    for (const select of [0, 1]) {
      this.#common.write32(VirtioCommon.DEVICE_FEATURE_SELECT, select);
      features.setWord(select, this.#common.read32(VirtioCommon.DEVICE_FEATURE));
    }
    return features;
  }

  /**
   * Takes over a device that was reset, with those of the wanted features that it offers. Throws `VIRTIO_LEGACY`,
   * `VIRTIO_NO_IOMMU` where the device would reach memory past the IOMMU that we map for, and `VIRTIO_REFUSED`.
   */
  negotiate(wanted: Iterable<number>): void {
    const common = this.#common;
    common.write8(VirtioCommon.DEVICE_STATUS, DeviceStatus.ACKNOWLEDGE.mask);
    common.write8(VirtioCommon.DEVICE_STATUS, ACKNOWLEDGED);
    const offered = this.offered();
    if (!offered.has(Feature.VERSION_1)) {
      throw new Ring3Error("VIRTIO_LEGACY", `${this.address} does not offer virtio 1; QEMU: disable-legacy=on`);
    }
    // Without it a device of the machine takes our addresses for physical ones: it would read and write anybody's memory.
    if (!offered.has(Feature.ACCESS_PLATFORM) && /^vfio-(?!user)/.test(this.#fn.identity.backend)) {
      throw new Ring3Error(
        "VIRTIO_NO_IOMMU",
        `${this.address} does not keep to the IOMMU (it lacks ACCESS_PLATFORM); QEMU: iommu_platform=on`,
      );
    }
    this.negotiated.clear();
    for (const feature of [Feature.VERSION_1, Feature.ACCESS_PLATFORM, Feature.ORDER_PLATFORM, ...wanted]) {
      if (offered.has(feature)) this.negotiated.add(feature);
    }
    for (const select of [0, 1]) {
      common.write32(VirtioCommon.DRIVER_FEATURE_SELECT, select);
      common.write32(VirtioCommon.DRIVER_FEATURE, this.negotiated.word(select));
    }
    common.write8(VirtioCommon.DEVICE_STATUS, ACKNOWLEDGED | DeviceStatus.FEATURES_OK.mask);
    if (!DeviceStatus.FEATURES_OK.test(common.read8(VirtioCommon.DEVICE_STATUS))) {
      throw new Ring3Error("VIRTIO_REFUSED", `${this.address} does not accept features that it offers itself`);
    }
  }

  get queueCount(): number {
    return this.#common.read16(VirtioCommon.NUM_QUEUES);
  }

  /** Entries that the device's queue can have; 0 for a queue that is not there. */
  queueSize(index: number): number {
    this.#common.write16(VirtioCommon.QUEUE_SELECT, index);
    return this.#common.read16(VirtioCommon.QUEUE_SIZE);
  }

  /** Tells the device a queue, and enables it. `vector`: `undefined` for no interrupt. Throws `VIRTIO_REFUSED`. */
  enableQueue(index: number, size: number, addresses: QueueAddresses, vector: number | undefined): void {
    const common = this.#common;
    common.write16(VirtioCommon.QUEUE_SELECT, index);
    common.write16(VirtioCommon.QUEUE_SIZE, size);
    this.#writeVector(VirtioCommon.QUEUE_MSIX_VECTOR, vector, `queue ${index}`);
    const put = (offset: number, iova: number): void => {
      common.write32(offset, iova % 2 ** 32);
      common.write32(offset + 4, Math.floor(iova / 2 ** 32));
    };
    put(VirtioCommon.QUEUE_DESC_LOW, addresses.descriptor);
    put(VirtioCommon.QUEUE_DRIVER_LOW, addresses.driver);
    put(VirtioCommon.QUEUE_DEVICE_LOW, addresses.device);
    common.write16(VirtioCommon.QUEUE_ENABLE, 1);
    if (common.read16(VirtioCommon.QUEUE_ENABLE) !== 1) {
      throw new Ring3Error("VIRTIO_REFUSED", `${this.address} does not enable its queue ${index}`);
    }
  }

  /** The vector of configuration changes. */
  configVector(vector: number | undefined): void {
    this.#writeVector(VirtioCommon.CONFIG_MSIX_VECTOR, vector, "configuration changes");
  }

  #writeVector(offset: number, vector: number | undefined, what: string): void {
    const value = vector ?? VIRTIO_NO_VECTOR;
    this.#common.write16(offset, value);
    // The device says "no vector" where it could not take it, section 4.1.5.1.2.
    if (vector !== undefined && this.#common.read16(offset) !== value) {
      throw new Ring3Error("VIRTIO_REFUSED", `${this.address} does not take vector ${vector} for ${what}`);
    }
  }

  /** Where a queue's notifications go: an offset in {@link notifyRegisters}. Throws `VIRTIO_PROTOCOL`. */
  notifyOffset(index: number): number {
    this.#common.write16(VirtioCommon.QUEUE_SELECT, index);
    const offset = this.#common.read16(VirtioCommon.QUEUE_NOTIFY_OFF) * this.#structures.notifyMultiplier;
    if (offset % 2 !== 0 || offset + 2 > this.#structures.notify.size) {
      throw new Ring3Error(
        "VIRTIO_PROTOCOL",
        `${this.address} wants notifications of queue ${index} at ${offset}, outside of the ${this.#structures.notify.size} bytes for them`,
      );
    }
    return offset;
  }

  get notifyRegisters(): Registers {
    return this.#structures.notify;
  }

  /** The device may use its queues from now on. */
  driverOk(): void {
    const bits = ACKNOWLEDGED | DeviceStatus.FEATURES_OK.mask | DeviceStatus.DRIVER_OK.mask;
    this.#common.write8(VirtioCommon.DEVICE_STATUS, bits);
  }

  /** Ends everything that the device does with memory, without waiting for it to say so. */
  stop(): void {
    this.#common.write8(VirtioCommon.DEVICE_STATUS, 0);
  }

  health(): VirtioHealth {
    const status = this.#common.read8(VirtioCommon.DEVICE_STATUS);
    if (status === ABSENT) return "absent";
    if (DeviceStatus.DEVICE_NEEDS_RESET.test(status)) return "needs-reset";
    return DeviceStatus.DRIVER_OK.test(status) ? "well" : "reset";
  }

  /** Reads and clears the interrupt status; the line goes down. */
  takeInterruptStatus(): number {
    return this.#structures.isr.read8(0);
  }

  /** Bytes of the device's configuration. */
  get configSize(): number {
    return this.#structures.device?.size ?? 0;
  }

  /**
   * Reads of the device's configuration that belong together: `read` is called until the configuration did not change
   * meanwhile, section 2.5.1. Throws `VIRTIO_PROTOCOL` where it never stands still.
   */
  readConfig<T>(read: (registers: Registers) => T): T {
    const { device } = this.#structures;
    if (device === undefined) throw new Ring3Error("VIRTIO_PROTOCOL", `${this.address} has no device configuration`);
    for (let tries = 0; tries < GENERATION_TRIES; tries++) {
      const before = this.#common.read8(VirtioCommon.CONFIG_GENERATION);
      const value = read(device);
      if (this.#common.read8(VirtioCommon.CONFIG_GENERATION) === before) return value;
    }
    throw new Ring3Error("VIRTIO_PROTOCOL", `the configuration of ${this.address} changes at every look`);
  }
}
