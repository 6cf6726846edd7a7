// Log pages: NVMe base 2.0, section 5.16. Counters are those of what really happened; what a real disk would measure
// (wear, spare) has the values of a disk that is new.
import {
  AdminOpcode,
  CommandEffects,
  CommandSet,
  FeatureEffects,
  IoOpcode,
  LogCdw10,
  LogCdw11,
  LogCdw14,
  LogPage,
} from "../../specs/nvme/commands.ts";
import { Status, StatusFlag } from "../../specs/nvme/status.ts";
import { ErrorLogEntry, FirmwareLog, HealthLog } from "../../specs/nvme/structs.ts";
import type { DeviceClock } from "../clock.ts";
import { type Features, Temperature } from "./features.ts";
import { ERROR_LOG_ENTRIES, FIRMWARE_REVISION } from "./identify.ts";
import type { NvmeSettings } from "./options.ts";
import type { IoCounters } from "./range-commands.ts";
import { statusField } from "./status-field.ts";

const DATA_UNIT_BYTES = 512_000;
const HOUR_MS = 3_600_000;
const CHANGED_NAMESPACES_MAX = 1024;
/** FSP: the feature's scope is the controller, or a namespace. */
const Scope = { NAMESPACE: 0x01, CONTROLLER: 0x02 } as const;

export interface FailedCommand {
  readonly submissionId: number;
  readonly identifier: number;
  readonly status: number;
  readonly lba: number;
  readonly nsid: number;
}

export class LogPages {
  /** Kelvin, as the health log tells it. */
  temperature: number = Temperature.NORMAL;
  /** Resets without a shutdown before. */
  unsafeShutdowns = 0;
  readonly #settings: NvmeSettings;
  readonly #counters: IoCounters;
  readonly #features: Features;
  readonly #clock: DeviceClock;
  readonly #sinceMs: number;
  readonly #errors: Uint8Array[] = [];
  #errorCount = 0;
  #changed: number[] | undefined = [];

  constructor(settings: NvmeSettings, counters: IoCounters, features: Features) {
    this.#settings = settings;
    this.#counters = counters;
    this.#features = features;
    this.#clock = settings.clock;
    this.#sinceMs = settings.clock.now();
  }

  get errorCount(): number {
    return this.#errorCount;
  }

  /** Notes a failed command in the error log, newest first. */
  recordError({ submissionId, identifier, status, lba, nsid }: FailedCommand): void {
    this.#errorCount++;
    const entry = ErrorLogEntry.bytes({
      ERROR_COUNT: BigInt(this.#errorCount),
      SQID: submissionId,
      CID: identifier,
      STATUS_FIELD: ((statusField(status) | StatusFlag.MORE) << 1) & 0xffff,
      PARAMETER_LOCATION: 0xffff,
      LBA: BigInt(Math.min(lba, Number.MAX_SAFE_INTEGER)),
      NSID: nsid,
    });
    this.#errors.unshift(entry);
    if (this.#errors.length > ERROR_LOG_ENTRIES) this.#errors.pop();
  }

  namespaceChanged(id: number): void {
    if (this.#changed === undefined || this.#changed.includes(id)) return;
    this.#changed.push(id);
    this.#changed.sort((a, b) => a - b);
    // More than the page holds is told as "all of them".
    if (this.#changed.length > CHANGED_NAMESPACES_MAX) this.#changed = undefined;
  }

  /** The bytes that a get log page command asks for, or the status with which it fails. */
  read(words: {
    readonly nsid: number;
    readonly cdw10: number;
    readonly cdw11: number;
    readonly cdw12: number;
    readonly cdw13: number;
    readonly cdw14: number;
  }): Uint8Array | number {
    const size = 4 * (LogCdw10.NUMDL.get(words.cdw10) + LogCdw11.NUMDU.get(words.cdw11) * 65_536 + 1);
    const offset = words.cdw12 + words.cdw13 * 2 ** 32;
    const kind = LogCdw10.LID.get(words.cdw10);
    const commandSet = LogCdw14.CSI.get(words.cdw14);
    if (offset % 4 !== 0 || LogCdw14.OT.test(words.cdw14)) return Status.INVALID_FIELD;
    if (size > this.#settings.maxTransferBytes) return Status.INVALID_FIELD;
    if (kind === LogPage.HEALTH && words.nsid !== 0 && words.nsid !== 0xffff_ffff) return Status.INVALID_FIELD;
    const page = this.#page(kind, commandSet);
    if (page === undefined) return Status.INVALID_LOG_PAGE;
    if (offset > page.length) return Status.INVALID_FIELD;
    // Beyond a page's end there is nothing: zeros.
    const bytes = new Uint8Array(size);
    bytes.set(page.subarray(offset, offset + size));
    return bytes;
  }

  /** The host has seen a page and does not retain it. */
  taken(page: number): void {
    if (page === LogPage.CHANGED_NAMESPACES) this.#changed = [];
  }

  #page(kind: number, commandSet: number): Uint8Array | undefined {
    switch (kind) {
      case LogPage.SUPPORTED_LOG_PAGES:
        return supportedPages();
      case LogPage.ERROR_INFORMATION:
        return this.#errorPage();
      case LogPage.HEALTH:
        return this.#health();
      case LogPage.FIRMWARE_SLOT:
        return FirmwareLog.bytes({ AFI: 1, FRS: asciiSlot(FIRMWARE_REVISION) });
      case LogPage.CHANGED_NAMESPACES:
        return this.#changedPage();
      case LogPage.COMMANDS_SUPPORTED:
        return commandEffects(this.#settings.shadowDoorbells, commandSet);
      case LogPage.FEATURE_EFFECTS:
        return this.#featureEffects();
      default:
        return undefined;
    }
  }

  #errorPage(): Uint8Array {
    const bytes = new Uint8Array(ERROR_LOG_ENTRIES * ErrorLogEntry.size);
    for (const [i, entry] of this.#errors.entries()) bytes.set(entry, i * ErrorLogEntry.size);
    return bytes;
  }

  #changedPage(): Uint8Array {
    const bytes = new Uint8Array(4 * CHANGED_NAMESPACES_MAX);
    const view = new DataView(bytes.buffer);
    if (this.#changed === undefined) view.setUint32(0, 0xffff_ffff, true);
    else for (const [i, id] of this.#changed.entries()) view.setUint32(4 * i, id, true);
    return bytes;
  }

  #health(): Uint8Array {
    const counters = this.#counters;
    const { over, under } = this.#features.thresholds;
    const units = (bytes: number): bigint => BigInt(Math.ceil(bytes / DATA_UNIT_BYTES));
    return HealthLog.bytes({
      CRITICAL_WARNING: this.temperature >= over || this.temperature <= under ? 0x02 : 0,
      COMPOSITE_TEMPERATURE: this.temperature,
      AVAILABLE_SPARE: 100,
      AVAILABLE_SPARE_THRESHOLD: 10,
      DATA_UNITS_READ: units(counters.bytesRead),
      DATA_UNITS_WRITTEN: units(counters.bytesWritten),
      HOST_READ_COMMANDS: BigInt(counters.readCommands),
      HOST_WRITE_COMMANDS: BigInt(counters.writeCommands),
      POWER_CYCLES: 1n,
      POWER_ON_HOURS: BigInt(Math.floor((this.#clock.now() - this.#sinceMs) / HOUR_MS)),
      UNSAFE_SHUTDOWNS: BigInt(this.unsafeShutdowns),
      MEDIA_ERRORS: BigInt(counters.mediaErrors),
      ERROR_LOG_ENTRIES: BigInt(this.#errorCount),
    });
  }

  #featureEffects(): Uint8Array {
    const bytes = new Uint8Array(1024);
    const view = new DataView(bytes.buffer);
    for (const fid of this.#features.ids) {
      const scope = this.#features.namespaceSpecific(fid) ? Scope.NAMESPACE : Scope.CONTROLLER;
      view.setUint32(4 * fid, FeatureEffects.FSUPP.mask | FeatureEffects.FSP.of(scope), true);
    }
    return bytes;
  }

  save(): { errorCount: number; errors: Uint8Array[]; changed: number[]; everyChanged: boolean } {
    const everyChanged = this.#changed === undefined;
    return {
      errorCount: this.#errorCount,
      errors: [...this.#errors],
      changed: [...(this.#changed ?? [])],
      everyChanged,
    };
  }

  restore(state: {
    readonly errorCount: number;
    readonly errors: readonly Uint8Array[];
    readonly changed: readonly number[];
    readonly everyChanged: boolean;
  }): void {
    this.#errorCount = state.errorCount;
    this.#errors.splice(0, this.#errors.length, ...state.errors.map((entry) => entry.slice()));
    this.#changed = state.everyChanged ? undefined : [...state.changed];
  }
}

function supportedPages(): Uint8Array {
  const bytes = new Uint8Array(1024);
  const view = new DataView(bytes.buffer);
  for (const page of Object.values(LogPage)) view.setUint32(4 * page, 1, true);
  return bytes;
}

/** Admin commands first, then the I/O commands of the set that is asked for. */
function commandEffects(shadowDoorbells: boolean, commandSet: number): Uint8Array {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  const supported = CommandEffects.CSUPP.mask;
  for (const opcode of ADMIN_COMMANDS) view.setUint32(4 * opcode, supported, true);
  if (shadowDoorbells) view.setUint32(4 * AdminOpcode.DOORBELL_BUFFER_CONFIG, supported, true);
  if (commandSet !== CommandSet.NVM) return bytes;
  const changes = supported | CommandEffects.LBCC.mask;
  for (const opcode of [IoOpcode.WRITE, IoOpcode.WRITE_ZEROES, IoOpcode.DATASET_MANAGEMENT]) {
    view.setUint32(1024 + 4 * opcode, changes, true);
  }
  for (const opcode of [IoOpcode.FLUSH, IoOpcode.READ, IoOpcode.COMPARE, IoOpcode.VERIFY]) {
    view.setUint32(1024 + 4 * opcode, supported, true);
  }
  return bytes;
}

/** What the controller executes beside Doorbell Buffer Config. */
const ADMIN_COMMANDS: readonly number[] = [
  AdminOpcode.DELETE_IO_SUBMISSION_QUEUE,
  AdminOpcode.CREATE_IO_SUBMISSION_QUEUE,
  AdminOpcode.GET_LOG_PAGE,
  AdminOpcode.DELETE_IO_COMPLETION_QUEUE,
  AdminOpcode.CREATE_IO_COMPLETION_QUEUE,
  AdminOpcode.IDENTIFY,
  AdminOpcode.ABORT,
  AdminOpcode.SET_FEATURES,
  AdminOpcode.GET_FEATURES,
  AdminOpcode.ASYNCHRONOUS_EVENT_REQUEST,
];

function asciiSlot(text: string): Uint8Array {
  return Uint8Array.from(text.padEnd(8), (letter) => letter.charCodeAt(0));
}
