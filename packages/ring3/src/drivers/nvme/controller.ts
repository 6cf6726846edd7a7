// The controller's registers: reset, enable, health, shutdown. NVMe base 2.0, sections 3.1.3, 3.5 (initialisation) and
// 3.6 (shutdown). Hard about it: a controller may answer all ones, never become ready, or stop with CSTS.CFS at any time,
// so every wait has an end.
import { Ring3Error } from "../../binary/error.ts";
import type { Registers } from "../../memory/registers.ts";
import {
  Aqa,
  CapHigh,
  CapLow,
  Cc,
  Crto,
  Csts,
  Nvme,
  ShutdownNotification,
  ShutdownStatus,
  Vs,
} from "../../specs/nvme/registers.ts";
import { type Clock, sleep } from "../clock.ts";

/** What CAP and VS say, checked. */
export interface ControllerCapabilities {
  /** Entries of an I/O queue at most. */
  readonly maxQueueEntries: number;
  /** CAP.DSTRD: doorbells are `4 << doorbellStride` bytes apart. */
  readonly doorbellStride: number;
  /** Longest time until CSTS.RDY follows CC.EN. */
  readonly readyTimeoutMs: number;
  /** Memory page size that the driver sets, in bytes: the smallest. */
  readonly pageSize: number;
  readonly contiguousQueuesRequired: boolean;
  readonly subsystemReset: boolean;
  readonly version: { readonly major: number; readonly minor: number; readonly tertiary: number };
}

/** `absent`: registers read all ones. `fatal`: CSTS.CFS. `disabled`: CC.EN was lost, by a reset or the machine's sleep. */
export type ControllerHealth = "ready" | "disabled" | "fatal" | "absent" | "starting";

const ALL_ONES = 0xffff_ffff;
const POLL_MS = 2;

/** The controller's registers, as actions. */
export class Controller {
  readonly capabilities: ControllerCapabilities;
  readonly #registers: Registers;
  readonly #clock: Clock;
  readonly #gone: AbortSignal;
  readonly #address: string;
  #interruptions = 0;

  /** Reads CAP and VS. Throws `NVME_ABSENT`, `NVME_PROTOCOL`, `NVME_UNSUPPORTED`. */
  constructor(registers: Registers, address: string, clock: Clock, gone: AbortSignal) {
    this.#registers = registers;
    this.#address = address;
    this.#clock = clock;
    this.#gone = gone;
    this.capabilities = this.#readCapabilities();
  }

  #readCapabilities(): ControllerCapabilities {
    const registers = this.#registers;
    const low = registers.read32(Nvme.CAP_LOW);
    const high = registers.read32(Nvme.CAP_HIGH);
    const vs = registers.read32(Nvme.VS);
    if (low === ALL_ONES && high === ALL_ONES) throw this.#absent();
    if (!CapHigh.CSS_NVM.test(high) && !CapHigh.CSS_IO_SETS.test(high)) {
      throw new Ring3Error(
        "NVME_UNSUPPORTED",
        `${this.#address} offers no NVM command set (CAP.CSS); it cannot do block I/O`,
      );
    }
    if (CapLow.MQES.get(low) === 0) {
      throw new Ring3Error(
        "NVME_PROTOCOL",
        `${this.#address} says that its queues hold one entry (CAP.MQES 0); two are the least`,
      );
    }
    const minimum = CapHigh.MPSMIN.get(high);
    if (minimum > CapHigh.MPSMAX.get(high) || minimum > 8) {
      const pages = `2^${12 + minimum} to 2^${12 + CapHigh.MPSMAX.get(high)} bytes`;
      throw new Ring3Error(
        "NVME_PROTOCOL",
        `${this.#address} takes memory pages of ${pages} (CAP.MPSMIN, MPSMAX); no host has them`,
      );
    }
    let readyTimeoutMs = Math.max(1, CapLow.TO.get(low)) * 500;
    if (CapHigh.CRMS.get(high) !== 0) {
      readyTimeoutMs = Math.max(readyTimeoutMs, Crto.CRWMT.get(registers.read32(Nvme.CRTO)) * 500);
    }
    return {
      maxQueueEntries: CapLow.MQES.get(low) + 1,
      doorbellStride: CapHigh.DSTRD.get(high),
      // Two minutes are more than CAP.TO can say, and less than CRTO can.
      readyTimeoutMs: Math.min(readyTimeoutMs, 128_000),
      pageSize: 2 ** (12 + minimum),
      contiguousQueuesRequired: CapLow.CQR.test(low),
      subsystemReset: CapHigh.NSSRS.test(high),
      version: { major: Vs.MJR.get(vs), minor: Vs.MNR.get(vs), tertiary: Vs.TER.get(vs) },
    };
  }

  /** Two register reads. */
  health(): ControllerHealth {
    const csts = this.#registers.read32(Nvme.CSTS);
    if (csts === ALL_ONES) return "absent";
    if (Csts.CFS.test(csts)) return "fatal";
    if (!Cc.EN.test(this.#registers.read32(Nvme.CC))) return "disabled";
    return Csts.RDY.test(csts) ? "ready" : "starting";
  }

  /** Clears CC.EN and waits until the controller has stopped: it owns no memory afterwards. */
  async disable(): Promise<void> {
    const registers = this.#registers;
    let cc = registers.read32(Nvme.CC);
    if (cc === ALL_ONES) throw this.#absent();
    if (Cc.EN.test(cc)) {
      // Section 3.5.3: EN is not cleared while RDY has not followed it yet; a controller in CFS is past that.
      const starting = (csts: number): boolean => Csts.RDY.test(csts) || Csts.CFS.test(csts);
      await this.#until(starting, "to finish starting").catch((error: unknown) => {
        if (!(error instanceof Ring3Error && error.code === "NVME_NOT_READY")) throw error;
      });
      cc = Cc.SHN.set(Cc.EN.set(registers.read32(Nvme.CC), 0), ShutdownNotification.NONE);
      registers.write32(Nvme.CC, cc);
    }
    await this.#until((csts) => !Csts.RDY.test(csts), "to stop");
  }

  /** Gives the controller its admin queues and sets CC.EN; resolves when CSTS.RDY follows. */
  async enable(admin: {
    readonly entries: number;
    readonly submission: number;
    readonly completion: number;
  }): Promise<void> {
    const registers = this.#registers;
    const size = admin.entries - 1;
    registers.write32(Nvme.AQA, Aqa.ASQS.of(size) | Aqa.ACQS.of(size));
    registers.write32(Nvme.ASQ_LOW, admin.submission % 2 ** 32);
    registers.write32(Nvme.ASQ_HIGH, Math.floor(admin.submission / 2 ** 32));
    registers.write32(Nvme.ACQ_LOW, admin.completion % 2 ** 32);
    registers.write32(Nvme.ACQ_HIGH, Math.floor(admin.completion / 2 ** 32));
    const cc = Cc.MPS.of(Math.log2(this.capabilities.pageSize) - 12) | Cc.IOSQES.of(6) | Cc.IOCQES.of(4);
    registers.write32(Nvme.CC, cc);
    registers.write32(Nvme.CC, (cc | Cc.EN.mask) >>> 0);
    await this.#until((csts) => {
      if (Csts.CFS.test(csts)) throw this.#fatal();
      return Csts.RDY.test(csts);
    }, "to become ready");
  }

  /**
   * Tells the controller to write down what it holds (CC.SHN) and waits at most `timeoutMs`. Resolves with whether it
   * said that it is done.
   */
  async shutDown(timeoutMs: number): Promise<boolean> {
    const registers = this.#registers;
    const cc = registers.read32(Nvme.CC);
    if (cc === ALL_ONES || !Cc.EN.test(cc)) return false;
    registers.write32(Nvme.CC, Cc.SHN.set(cc, ShutdownNotification.NORMAL));
    try {
      await this.#until(
        (csts) => {
          if (Csts.CFS.test(csts)) throw this.#fatal();
          return Csts.SHST.get(csts) === ShutdownStatus.COMPLETE;
        },
        "to shut down",
        timeoutMs,
      );
      return true;
    } catch (error) {
      if (error instanceof Ring3Error) return false;
      throw error;
    }
  }

  /** Ends what is being waited for: what this controller was told, the function has forgotten. */
  interrupt(): void {
    this.#interruptions++;
  }

  async #until(done: (csts: number) => boolean, what: string, timeoutMs?: number): Promise<void> {
    const limitMs = timeoutMs ?? this.capabilities.readyTimeoutMs;
    const deadline = this.#clock.now() + limitMs;
    const interruptions = this.#interruptions;
    for (;;) {
      if (this.#interruptions !== interruptions) {
        throw new Ring3Error("NVME_NOT_READY", `${this.#address} lost its state while it was awaited ${what}`);
      }
      const csts = this.#registers.read32(Nvme.CSTS);
      if (csts === ALL_ONES) throw this.#absent();
      if (done(csts)) return;
      if (this.#clock.now() >= deadline) {
        const hex = csts.toString(16).padStart(8, "0");
        const advice = "reset the function, or power the device off and on";
        throw new Ring3Error(
          "NVME_NOT_READY",
          `${this.#address} took more than ${limitMs} ms ${what} (CSTS ${hex}); ${advice}`,
        );
      }
      await sleep(this.#clock, POLL_MS, this.#gone);
    }
  }

  #absent(): Ring3Error {
    const advice = "it was removed, sleeps, or its memory decoding is off";
    return new Ring3Error("NVME_ABSENT", `registers of ${this.#address} read all ones: ${advice}`);
  }

  #fatal(): Ring3Error {
    return new Ring3Error("NVME_FATAL", `${this.#address} reports a fatal status (CSTS.CFS); only a reset helps`);
  }
}
