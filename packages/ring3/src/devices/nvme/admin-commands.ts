// The admin commands: NVMe base 2.0, section 5. Each either has a status at once or, where something has to end first,
// completes later.
import {
  AbortCdw10,
  AdminOpcode,
  Cdw0,
  CommandWord,
  CreateCompletionCdw11,
  CreateQueueCdw10,
  CreateSubmissionCdw11,
  LogCdw10,
} from "../../specs/nvme/commands.ts";
import {
  Feature,
  FeatureSelect,
  GetFeaturesCdw10,
  SetFeaturesCdw10,
  TIMESTAMP_SIZE,
} from "../../specs/nvme/features.ts";
import { Status } from "../../specs/nvme/status.ts";
import type { GuestMemory } from "../../virtual/guest-memory.ts";
import { CompletionQueue } from "./completion-queue.ts";
import { DataPointer, faultStatus } from "./data-pointer.ts";
import type { Doorbells } from "./doorbells.ts";
import type { Events } from "./events.ts";
import type { Features } from "./features.ts";
import type { Flights } from "./flights.ts";
import { identifyData } from "./identify.ts";
import type { LogPages } from "./log-pages.ts";
import type { DeviceNamespace } from "./namespace.ts";
import { NAMESPACES_MAX, type NvmeSettings } from "./options.ts";
import { PENDING, type QueueSet } from "./queue-set.ts";
import { SubmissionQueue } from "./submission-queue.ts";
import { Transfers } from "./transfers.ts";

const HIGH = 2 ** 32;
const NOT_ABORTED = 1;
const ALL_NAMESPACES = 0xffff_ffff;

export interface AdminParts {
  readonly settings: NvmeSettings;
  readonly subsystem: { readonly vendorId: number; readonly id: number };
  readonly memory: GuestMemory;
  readonly namespaces: readonly (DeviceNamespace | undefined)[];
  readonly features: Features;
  readonly events: Events;
  readonly logs: LogPages;
  readonly flights: Flights;
  readonly doorbells: Doorbells;
  readonly queues: () => QueueSet;
  /** How many interrupt vectors a queue may name at present. */
  readonly vectors: () => number;
  /** CC.IOSQES and CC.IOCQES have the values that the controller takes. */
  readonly entrySizes: () => { readonly submission: boolean; readonly completion: boolean };
}

export class AdminCommands {
  pageSize = 4096;
  readonly #parts: AdminParts;
  readonly #pointer: DataPointer;
  readonly #transfers: Transfers;

  constructor(parts: AdminParts) {
    this.#parts = parts;
    this.#pointer = new DataPointer(parts.memory);
    this.#transfers = new Transfers(parts.memory);
  }

  execute(words: Uint32Array): number {
    const cdw0 = words[CommandWord.CDW0] as number;
    // Over PCI Express admin commands take PRPs only (base section 3.3.3.1.1), and none of them is fused.
    if ((cdw0 & (Cdw0.FUSE.mask | Cdw0.PSDT.mask)) !== 0) return Status.INVALID_FIELD;
    switch (cdw0 & 0xff) {
      case AdminOpcode.DELETE_IO_SUBMISSION_QUEUE:
        return this.#deleteSubmission(words);
      case AdminOpcode.CREATE_IO_SUBMISSION_QUEUE:
        return this.#createSubmission(words);
      case AdminOpcode.GET_LOG_PAGE:
        return this.#getLogPage(words);
      case AdminOpcode.DELETE_IO_COMPLETION_QUEUE:
        return this.#deleteCompletion(words);
      case AdminOpcode.CREATE_IO_COMPLETION_QUEUE:
        return this.#createCompletion(words);
      case AdminOpcode.IDENTIFY:
        return this.#identify(words);
      case AdminOpcode.ABORT:
        return this.#abort(words);
      case AdminOpcode.SET_FEATURES:
        return this.#setFeatures(words);
      case AdminOpcode.GET_FEATURES:
        return this.#getFeatures(words);
      case AdminOpcode.ASYNCHRONOUS_EVENT_REQUEST:
        return this.#parts.events.request(cdw0 >>> 16);
      case AdminOpcode.DOORBELL_BUFFER_CONFIG:
        return this.#parts.settings.shadowDoorbells ? this.#doorbellBuffer(words) : Status.INVALID_OPCODE;
      default:
        return Status.INVALID_OPCODE;
    }
  }

  // --- Queues -----------------------------------------------------------------------------------------------------

  #createCompletion(words: Uint32Array): number {
    const queues = this.#parts.queues();
    const cdw10 = words[CommandWord.CDW10] as number;
    const cdw11 = words[CommandWord.CDW11] as number;
    const id = CreateQueueCdw10.QID.get(cdw10);
    const place = this.#place(words, id, queues.completion[id] !== undefined, this.#parts.entrySizes().completion);
    if (typeof place === "number") return place;
    if (!CreateCompletionCdw11.PC.test(cdw11)) return Status.INVALID_FIELD;
    const vector = CreateCompletionCdw11.IEN.test(cdw11) ? CreateCompletionCdw11.IV.get(cdw11) : undefined;
    if (vector !== undefined && vector >= this.#parts.vectors()) return Status.INVALID_INTERRUPT_VECTOR;
    queues.addCompletion(new CompletionQueue(this.#parts.memory, id, place.iova, place.entries, vector));
    return Status.SUCCESS;
  }

  #createSubmission(words: Uint32Array): number {
    const queues = this.#parts.queues();
    const cdw11 = words[CommandWord.CDW11] as number;
    const id = CreateQueueCdw10.QID.get(words[CommandWord.CDW10] as number);
    const completionId = CreateSubmissionCdw11.CQID.get(cdw11);
    if (completionId === 0 || completionId > this.#parts.settings.ioQueues) return Status.INVALID_QUEUE_ID;
    const completion = queues.completion[completionId];
    if (completion === undefined) return Status.COMPLETION_QUEUE_INVALID;
    const place = this.#place(words, id, queues.submission[id] !== undefined, this.#parts.entrySizes().submission);
    if (typeof place === "number") return place;
    if (!CreateSubmissionCdw11.PC.test(cdw11)) return Status.INVALID_FIELD;
    queues.addSubmission(new SubmissionQueue(this.#parts.memory, id, place.iova, place.entries, completion));
    return Status.SUCCESS;
  }

  /** What both kinds of queue have in common: id, size, address. */
  #place(
    words: Uint32Array,
    id: number,
    exists: boolean,
    entrySize: boolean,
  ): { readonly iova: number; readonly entries: number } | number {
    if (id === 0 || id > this.#parts.settings.ioQueues || exists) return Status.INVALID_QUEUE_ID;
    const entries = CreateQueueCdw10.QSIZE.get(words[CommandWord.CDW10] as number) + 1;
    if (entries < 2 || entries > this.#parts.settings.maxQueueEntries || !entrySize) return Status.INVALID_QUEUE_SIZE;
    const low = words[CommandWord.PRP1_LOW] as number;
    if ((low & (this.pageSize - 1)) !== 0) return Status.INVALID_PRP_OFFSET;
    return { iova: low + (words[CommandWord.PRP1_HIGH] as number) * HIGH, entries };
  }

  /** Ends when the last command of the queue has: a write under way cannot be called back. */
  #deleteSubmission(words: Uint32Array): number {
    const { flights } = this.#parts;
    const queues = this.#parts.queues();
    const id = CreateQueueCdw10.QID.get(words[CommandWord.CDW10] as number);
    const queue = queues.submission[id];
    if (id === 0 || queue === undefined || queue.deletedBy !== undefined) return Status.INVALID_QUEUE_ID;
    queue.deletedBy = (words[CommandWord.CDW0] as number) >>> 16;
    for (const flight of [...flights]) {
      if (flight.queue !== queue || !flight.abortable) continue;
      flights.abandon(flight);
      queues.complete(queue, flight.identifier, Status.ABORTED_QUEUE_DELETION, 0);
    }
    if (queue.inFlight === 0) {
      queues.removeSubmission(queue);
      return Status.SUCCESS;
    }
    this.removeWhenIdle(queue);
    return PENDING;
  }

  /** Ends the deletion of a queue once its last command has been completed. */
  removeWhenIdle(queue: SubmissionQueue): void {
    queue.onIdle = () => {
      const queues = this.#parts.queues();
      queues.removeSubmission(queue);
      const admin = queues.submission[0];
      if (admin !== undefined) queues.complete(admin, queue.deletedBy ?? 0, Status.SUCCESS, 0);
    };
  }

  #deleteCompletion(words: Uint32Array): number {
    const queues = this.#parts.queues();
    const id = CreateQueueCdw10.QID.get(words[CommandWord.CDW10] as number);
    const queue = queues.completion[id];
    if (id === 0 || queue === undefined) return Status.INVALID_QUEUE_ID;
    if (queue.users > 0) return Status.INVALID_QUEUE_DELETION;
    queues.removeCompletion(queue);
    return Status.SUCCESS;
  }

  #doorbellBuffer(words: Uint32Array): number {
    const at = (low: number): number => (words[low] as number) + (words[low + 1] as number) * HIGH;
    const misaligned =
      ((words[CommandWord.PRP1_LOW] as number) | (words[CommandWord.PRP2_LOW] as number)) & (this.pageSize - 1);
    if (misaligned !== 0) return Status.INVALID_FIELD;
    const used = this.#parts.doorbells.useShadow(at(CommandWord.PRP1_LOW), at(CommandWord.PRP2_LOW), this.pageSize);
    return used ? Status.SUCCESS : Status.DATA_TRANSFER_ERROR;
  }

  // --- What the controller says of itself -------------------------------------------------------------------------

  #identify(words: Uint32Array): number {
    const { settings, subsystem, namespaces } = this.#parts;
    const fields = {
      nsid: words[CommandWord.NSID] as number,
      cdw10: words[CommandWord.CDW10] as number,
      cdw11: words[CommandWord.CDW11] as number,
    };
    return this.#answer(words, identifyData(fields, settings, subsystem, namespaces));
  }

  #getLogPage(words: Uint32Array): number {
    const { logs, events } = this.#parts;
    const cdw10 = words[CommandWord.CDW10] as number;
    const data = logs.read({
      nsid: words[CommandWord.NSID] as number,
      cdw10,
      cdw11: words[CommandWord.CDW11] as number,
      cdw12: words[CommandWord.CDW12] as number,
      cdw13: words[CommandWord.CDW13] as number,
      cdw14: words[CommandWord.CDW14] as number,
    });
    const status = this.#answer(words, data);
    if (status === Status.SUCCESS && !LogCdw10.RAE.test(cdw10)) {
      logs.taken(LogCdw10.LID.get(cdw10));
      events.pageRead(LogCdw10.LID.get(cdw10));
    }
    return status;
  }

  /** Sends data to the host, or hands the status on. */
  #answer(words: Uint32Array, data: Uint8Array | number): number {
    if (typeof data === "number") return data;
    const status = this.#pointer.resolve(words, data.length, this.pageSize, true);
    if (status !== Status.SUCCESS) return status;
    try {
      this.#transfers.toGuest(this.#pointer.segments, data);
      return Status.SUCCESS;
    } catch (error) {
      return faultStatus(error);
    }
  }

  #abort(words: Uint32Array): number {
    const { events, flights } = this.#parts;
    const queues = this.#parts.queues();
    const cdw10 = words[CommandWord.CDW10] as number;
    const queueId = AbortCdw10.SQID.get(cdw10);
    const identifier = AbortCdw10.CID.get(cdw10);
    queues.dw0 = NOT_ABORTED;
    if (queues.submission[queueId] === undefined) return Status.INVALID_FIELD;
    if (queueId === 0) {
      if (events.abort(identifier)) queues.dw0 = 0;
      return Status.SUCCESS;
    }
    const flight = flights.find(queueId, identifier);
    if (flight?.abortable !== true) return Status.SUCCESS;
    flights.abandon(flight);
    queues.complete(flight.queue, identifier, Status.ABORT_REQUESTED, 0);
    queues.dw0 = 0;
    return Status.SUCCESS;
  }

  // --- Features ---------------------------------------------------------------------------------------------------

  #setFeatures(words: Uint32Array): number {
    const { features, events, logs } = this.#parts;
    const queues = this.#parts.queues();
    const cdw10 = words[CommandWord.CDW10] as number;
    const fid = SetFeaturesCdw10.FID.get(cdw10);
    const nsid = words[CommandWord.NSID] as number;
    if (!features.ids.includes(fid)) return Status.INVALID_FIELD;
    if (SetFeaturesCdw10.SV.test(cdw10)) return Status.FEATURE_NOT_SAVEABLE;
    const scope = this.#checkScope(fid, nsid);
    if (scope !== Status.SUCCESS) return scope;
    if (fid === Feature.TIMESTAMP) return this.#setTimestamp(words);
    const value = words[CommandWord.CDW11] as number;
    const answer = features.set({ fid, value, nsid, ioQueues: queues.hasIoQueues });
    queues.dw0 = answer.dw0;
    if (answer.status !== Status.SUCCESS) return answer.status;
    if (fid === Feature.ASYNCHRONOUS_EVENTS) events.configuration = features.value(fid);
    if (fid === Feature.TEMPERATURE_THRESHOLD) {
      const { over, under } = features.thresholds;
      if (logs.temperature >= over || logs.temperature <= under) events.temperature();
    }
    return Status.SUCCESS;
  }

  #setTimestamp(words: Uint32Array): number {
    const status = this.#pointer.resolve(words, TIMESTAMP_SIZE, this.pageSize, false);
    if (status !== Status.SUCCESS) return status;
    const bytes = new Uint8Array(TIMESTAMP_SIZE);
    try {
      this.#transfers.fromGuest(this.#pointer.segments, bytes);
    } catch (error) {
      return faultStatus(error);
    }
    this.#parts.features.setTimestamp(bytes);
    return Status.SUCCESS;
  }

  #getFeatures(words: Uint32Array): number {
    const { features } = this.#parts;
    const queues = this.#parts.queues();
    const cdw10 = words[CommandWord.CDW10] as number;
    const fid = GetFeaturesCdw10.FID.get(cdw10);
    const select = GetFeaturesCdw10.SEL.get(cdw10);
    const nsid = words[CommandWord.NSID] as number;
    if (nsid !== ALL_NAMESPACES && nsid > NAMESPACES_MAX) return Status.INVALID_NAMESPACE;
    if (features.namespaceSpecific(fid) && select !== FeatureSelect.CAPABILITIES) {
      if (this.#parts.namespaces[nsid] === undefined) return Status.INVALID_NAMESPACE;
    }
    const answer = features.get(fid, select, words[CommandWord.CDW11] as number);
    if (answer.status !== Status.SUCCESS) return answer.status;
    queues.dw0 = answer.dw0;
    if (fid !== Feature.TIMESTAMP || select === FeatureSelect.CAPABILITIES) return Status.SUCCESS;
    return this.#answer(words, features.timestamp(select === FeatureSelect.CURRENT));
  }

  /** A feature of the controller takes no namespace, one of a namespace takes one that is there, or all. */
  #checkScope(fid: number, nsid: number): number {
    const all = nsid === ALL_NAMESPACES;
    const active = this.#parts.namespaces[nsid] !== undefined;
    if (this.#parts.features.namespaceSpecific(fid)) return all || active ? Status.SUCCESS : Status.INVALID_NAMESPACE;
    if (nsid === 0 || all) return Status.SUCCESS;
    if (nsid > NAMESPACES_MAX) return Status.INVALID_NAMESPACE;
    return active ? Status.FEATURE_NOT_NAMESPACE_SPECIFIC : Status.INVALID_FIELD;
  }
}
