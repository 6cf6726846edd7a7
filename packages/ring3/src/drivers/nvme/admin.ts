// Admin commands as calls: NVMe base 2.0, section 5. Whatever comes back is data of a device: sizes and counts are checked
// before they are used.
import {
  AbortCdw10,
  AdminOpcode,
  Cns,
  CreateCompletionCdw11,
  CreateQueueCdw10,
  CreateSubmissionCdw11,
  IdentifyCdw10,
  LogCdw10,
  LogCdw11,
  LogPage,
} from "../../specs/nvme/commands.ts";
import {
  Feature,
  type FeatureSelect,
  GetFeaturesCdw10,
  NumberOfQueues,
  SetFeaturesCdw10,
} from "../../specs/nvme/features.ts";
import {
  ErrorLogEntry,
  FirmwareLog,
  HealthLog,
  IdentifyController,
  IdentifyNamespace,
  NamespaceDescriptor,
  NamespaceList,
} from "../../specs/nvme/structs.ts";
import type { Command } from "./command.ts";
import { protocolError } from "./errors.ts";
import type { QueuePair } from "./queue-pair.ts";
import type { TransferPool } from "./transfer-pool.ts";

/** Most namespaces that the driver takes on. */
const NAMESPACES_LIMIT = 1024;
const BROADCAST_NAMESPACE = 0xffff_ffff;

/** A namespace identification descriptor: its kind (`NamespaceDescriptorKind`) and its bytes. */
export interface NamespaceIdentifier {
  readonly kind: number;
  readonly bytes: Uint8Array;
}

export class Admin {
  readonly queue: QueuePair;
  readonly #pool: TransferPool;
  readonly #address: string;

  constructor(queue: QueuePair, pool: TransferPool, address: string) {
    this.queue = queue;
    this.#pool = pool;
    this.#address = address;
  }

  /** Runs a command that transfers `size` bytes to us and returns them. */
  async read(command: Omit<Command, "data">, size: number): Promise<Uint8Array> {
    const taken = this.#pool.take(size);
    const transfer = taken instanceof Promise ? await taken : taken;
    try {
      // What the controller does not write must not be what an earlier command left.
      transfer.bytes.fill(0, 0, size);
      await this.queue.execute({ ...command, data: transfer.segment(size) });
      return transfer.bytes.slice(0, size);
    } finally {
      this.#pool.give(transfer);
    }
  }

  #identify(what: string, cns: number, nsid: number, commandSet = 0): Promise<Uint8Array> {
    const cdw10 = IdentifyCdw10.CNS.of(cns);
    const command = { what, opcode: AdminOpcode.IDENTIFY, nsid, cdw10, cdw11: commandSet * 2 ** 24, repeatable: true };
    return this.read(command, 4096);
  }

  async identifyController(): Promise<IdentifyController> {
    return IdentifyController.from(await this.#identify("identify controller", Cns.CONTROLLER, 0));
  }

  async identifyNamespace(nsid: number): Promise<IdentifyNamespace> {
    return IdentifyNamespace.from(await this.#identify(`identify namespace ${nsid}`, Cns.NAMESPACE, nsid));
  }

  /** The I/O command set specific controller data of the NVM command set; 4096 bytes. */
  identifyCommandSet(): Promise<Uint8Array> {
    return this.#identify("identify NVM command set", Cns.IO_COMMAND_SET_CONTROLLER, 0);
  }

  /** Ids of the active namespaces, ascending. Throws `NVME_PROTOCOL` for a list that does not ascend or does not end. */
  async activeNamespaces(): Promise<readonly number[]> {
    const found: number[] = [];
    for (let after = 0; ; ) {
      const page = await this.#identify("identify active namespaces", Cns.ACTIVE_NAMESPACES, after);
      const ids = NamespaceList.from(page).NSID;
      const end = ids.indexOf(0);
      for (const id of end < 0 ? ids : ids.slice(0, end)) {
        if (id <= after || id >= 0xffff_fffe) {
          throw protocolError(this.#address, `lists namespace ${id} behind ${after}, but the list ascends`);
        }
        found.push(id);
        after = id;
      }
      if (end >= 0) return found;
      if (found.length >= NAMESPACES_LIMIT) {
        throw protocolError(this.#address, `lists more than ${NAMESPACES_LIMIT} namespaces`);
      }
    }
  }

  /** The namespace's identifiers: EUI64, NGUID, UUID. */
  async namespaceIdentifiers(nsid: number): Promise<readonly NamespaceIdentifier[]> {
    const bytes = await this.#identify(`identifiers of namespace ${nsid}`, Cns.NAMESPACE_DESCRIPTORS, nsid);
    const found: NamespaceIdentifier[] = [];
    for (let at = 0; at + NamespaceDescriptor.size <= bytes.length; ) {
      const { NIDT, NIDL } = NamespaceDescriptor.from(bytes, at);
      at += NamespaceDescriptor.size;
      if (NIDT === 0 || NIDL === 0 || at + NIDL > bytes.length) break;
      found.push({ kind: NIDT, bytes: bytes.slice(at, at + NIDL) });
      at += NIDL;
    }
    return found;
  }

  /** Dword 0 of get features. */
  getFeature(
    feature: number,
    select: (typeof FeatureSelect)[keyof typeof FeatureSelect] = 0,
    nsid = 0,
  ): Promise<number> {
    const cdw10 = GetFeaturesCdw10.FID.of(feature) | GetFeaturesCdw10.SEL.of(select);
    const what = `get feature 0x${feature.toString(16)}`;
    return this.queue.execute({ what, opcode: AdminOpcode.GET_FEATURES, nsid, cdw10, repeatable: true });
  }

  /** Sets a feature's dword 11 and returns dword 0 of the answer. `save`: keep it over resets, where the feature can. */
  setFeature(
    feature: number,
    value: number,
    options: { readonly nsid?: number; readonly save?: boolean } = {},
  ): Promise<number> {
    const cdw10 = (SetFeaturesCdw10.FID.of(feature) | SetFeaturesCdw10.SV.of(options.save === true ? 1 : 0)) >>> 0;
    const what = `set feature 0x${feature.toString(16)}`;
    const command = { what, opcode: AdminOpcode.SET_FEATURES, cdw10, cdw11: value, repeatable: true };
    return this.queue.execute({ ...command, nsid: options.nsid ?? 0 });
  }

  /** Asks for `wanted` I/O queues of each kind and returns how many there may be. */
  async negotiateQueues(wanted: number): Promise<number> {
    const value = NumberOfQueues.SUBMISSION.of(wanted - 1) | NumberOfQueues.COMPLETION.of(wanted - 1);
    const answer = await this.setFeature(Feature.NUMBER_OF_QUEUES, value >>> 0);
    return Math.min(NumberOfQueues.SUBMISSION.get(answer), NumberOfQueues.COMPLETION.get(answer), wanted - 1) + 1;
  }

  /**
   * `size` bytes of a log page. Reading with `retainEvent` leaves the event that points to it standing.
   */
  log(
    page: number,
    size: number,
    options: { readonly nsid?: number; readonly retainEvent?: boolean } = {},
  ): Promise<Uint8Array> {
    const dwords = Math.ceil(size / 4) - 1;
    const cdw10 = LogCdw10.LID.of(page) | LogCdw10.RAE.of(options.retainEvent === false ? 0 : 1);
    return this.read(
      {
        what: `get log page 0x${page.toString(16)}`,
        opcode: AdminOpcode.GET_LOG_PAGE,
        nsid: options.nsid ?? BROADCAST_NAMESPACE,
        cdw10: (cdw10 | LogCdw10.NUMDL.of(dwords % 65536)) >>> 0,
        cdw11: LogCdw11.NUMDU.of(Math.floor(dwords / 65536)),
        repeatable: options.retainEvent !== false,
      },
      size,
    );
  }

  async smart(): Promise<HealthLog> {
    return HealthLog.from(await this.log(LogPage.HEALTH, HealthLog.size));
  }

  /** Entries of the error log that are in use, newest first. `entries`: ELPE + 1 of identify controller. */
  async errorLog(entries: number): Promise<readonly ErrorLogEntry[]> {
    const bytes = await this.log(LogPage.ERROR_INFORMATION, entries * ErrorLogEntry.size);
    const all = Array.from({ length: entries }, (_, i) => ErrorLogEntry.from(bytes, i * ErrorLogEntry.size));
    return all.filter((entry) => entry.ERROR_COUNT !== 0n);
  }

  async firmwareLog(): Promise<FirmwareLog> {
    return FirmwareLog.from(await this.log(LogPage.FIRMWARE_SLOT, FirmwareLog.size));
  }

  async createCompletionQueue(
    queueId: number,
    entries: number,
    iova: number,
    vector: number | undefined,
  ): Promise<void> {
    const cdw10 = (CreateQueueCdw10.QID.of(queueId) | CreateQueueCdw10.QSIZE.of(entries - 1)) >>> 0;
    const interrupt = vector === undefined ? 0 : CreateCompletionCdw11.IEN.mask | CreateCompletionCdw11.IV.of(vector);
    const cdw11 = (CreateCompletionCdw11.PC.mask | interrupt) >>> 0;
    const data = [{ iova, size: entries * 16 }];
    await this.#createQueue("completion", AdminOpcode.CREATE_IO_COMPLETION_QUEUE, queueId, cdw10, cdw11, data);
  }

  async createSubmissionQueue(queueId: number, entries: number, iova: number): Promise<void> {
    const cdw10 = (CreateQueueCdw10.QID.of(queueId) | CreateQueueCdw10.QSIZE.of(entries - 1)) >>> 0;
    const cdw11 = (CreateSubmissionCdw11.PC.mask | CreateSubmissionCdw11.CQID.of(queueId)) >>> 0;
    const data = [{ iova, size: entries * 64 }];
    await this.#createQueue("submission", AdminOpcode.CREATE_IO_SUBMISSION_QUEUE, queueId, cdw10, cdw11, data);
  }

  async #createQueue(
    kind: string,
    opcode: number,
    queueId: number,
    cdw10: number,
    cdw11: number,
    [place]: readonly { readonly iova: number; readonly size: number }[],
  ): Promise<void> {
    // PRP1 is the queue itself (PC is set), so it is one segment inside one page as far as the data pointer goes.
    const data = place === undefined ? [] : [{ iova: place.iova, size: Math.min(place.size, 4096) }];
    await this.queue.execute({
      what: `create I/O ${kind} queue ${queueId}`,
      opcode,
      cdw10,
      cdw11,
      data,
      repeatable: false,
    });
  }

  /** Deletes an I/O queue pair, submission queue first; tries both before it reports what failed. */
  async deleteQueue(queueId: number, timeoutMs?: number): Promise<void> {
    const cdw10 = CreateQueueCdw10.QID.of(queueId);
    const rest = { cdw10, repeatable: false, ...(timeoutMs === undefined ? {} : { timeoutMs }) };
    const submission = {
      what: `delete I/O submission queue ${queueId}`,
      opcode: AdminOpcode.DELETE_IO_SUBMISSION_QUEUE,
    };
    const completion = {
      what: `delete I/O completion queue ${queueId}`,
      opcode: AdminOpcode.DELETE_IO_COMPLETION_QUEUE,
    };
    try {
      await this.queue.execute({ ...submission, ...rest });
    } finally {
      await this.queue.execute({ ...completion, ...rest });
    }
  }

  /** Asks the controller to give up a command. Resolves with whether it says that it did. */
  async abort(queueId: number, identifier: number, timeoutMs: number): Promise<boolean> {
    const cdw10 = (AbortCdw10.SQID.of(queueId) | AbortCdw10.CID.of(identifier)) >>> 0;
    const what = `abort of command ${identifier} in queue ${queueId}`;
    const result = await this.queue.execute({ what, opcode: AdminOpcode.ABORT, cdw10, repeatable: false, timeoutMs });
    return (result & 1) === 0;
  }

  /** Resolves with dword 0 when the controller has something to tell. */
  asynchronousEvent(): Promise<number> {
    const opcode = AdminOpcode.ASYNCHRONOUS_EVENT_REQUEST;
    return this.queue.execute({
      what: "asynchronous event request",
      opcode,
      repeatable: false,
      timeoutMs: Number.POSITIVE_INFINITY,
    });
  }
}
