// The controller's state as plain values, for migration and for coming back after a crash: registers, queues, features,
// logs, and the commands on their way, which are executed again where the state is restored (all of them may be).
import { Ring3Error } from "../../binary/error.ts";
import { Aqa, Cc } from "../../specs/nvme/registers.ts";
import type { GuestMemory } from "../../virtual/guest-memory.ts";
import type { StateRecord } from "../../virtual/state.ts";
import { StateFields } from "../../virtual/state-fields.ts";
import { CompletionQueue } from "./completion-queue.ts";
import type { NvmeController } from "./controller.ts";
import { EVENT_REQUESTS_MAX } from "./events.ts";
import { ERROR_LOG_ENTRIES } from "./identify.ts";
import type { DeviceNamespace } from "./namespace.ts";
import type { NvmeSettings } from "./options.ts";
import { SubmissionQueue } from "./submission-queue.ts";

const WORD_MAX = 0xffff_ffff;
const COMMAND_BYTES = 64;
const ERROR_ENTRY_BYTES = 64;
const WAITING_MAX = 65_536;
const COMMANDS_MAX = 65_536;

export function saveController(
  controller: NvmeController,
  namespaces: readonly (DeviceNamespace | undefined)[],
): StateRecord {
  const { adminQueue, queues, doorbells, io, logs } = controller;
  return {
    namespaces: namespaces.flatMap((entry) =>
      entry === undefined ? [] : [{ id: entry.id, blocks: entry.blocks, blockSize: entry.blockSize }],
    ),
    registers: {
      ...adminQueue,
      cc: controller.cc,
      ready: controller.ready && Cc.EN.test(controller.cc),
      fatal: controller.fatal,
      shutdownStatus: controller.shutdownStatus,
      subsystemReset: controller.subsystemReset,
      interruptMask: controller.lines.mask,
    },
    completionQueues: queues.completion.flatMap((queue) =>
      queue === undefined
        ? []
        : [
            {
              id: queue.id,
              iova: queue.iova,
              entries: queue.entries,
              ...(queue.vector === undefined ? {} : { vector: queue.vector }),
              head: queue.head,
              tail: queue.tail,
              phase: queue.phase !== 0,
              waiting: queue.waiting.flatMap(({ dw0, dw2, dw3 }) => [dw0 >>> 0, dw2 >>> 0, dw3 >>> 0]),
            },
          ],
    ),
    submissionQueues: queues.submission.flatMap((queue) =>
      queue === undefined
        ? []
        : [
            {
              id: queue.id,
              iova: queue.iova,
              entries: queue.entries,
              completion: queue.completion.id,
              head: queue.head,
              tail: queue.tail,
              ...(queue.deletedBy === undefined ? {} : { deletedBy: queue.deletedBy }),
            },
          ],
    ),
    commands: controller.flights.commands().map(({ queue, words }) => ({
      queue: queue.id,
      words: new Uint8Array(words.buffer, words.byteOffset, COMMAND_BYTES).slice(),
    })),
    ...(doorbells.place === undefined ? {} : { shadow: { ...doorbells.place } }),
    features: controller.features.save(),
    events: { ...controller.events.save(), configuration: controller.events.configuration },
    logs: { ...logs.save(), temperature: logs.temperature, unsafeShutdowns: logs.unsafeShutdowns },
    counters: { ...io.counters },
  };
}

/** Takes a state over. Throws `STATE_INVALID` or `STATE_MISMATCH` before anything is changed. */
export function restoreController(
  controller: NvmeController,
  record: StateRecord,
  context: {
    readonly memory: GuestMemory;
    readonly settings: NvmeSettings;
    readonly namespaces: readonly (DeviceNamespace | undefined)[];
  },
): void {
  const state = new StateFields(record, "nvme");
  checkNamespaces(state, context.namespaces);
  const registers = state.record("registers");
  const word = (fields: StateFields, key: string): number => fields.number(key, { maximum: WORD_MAX });
  const cc = word(registers, "cc");
  const admin = {
    aqa: word(registers, "aqa"),
    asqLow: word(registers, "asqLow"),
    asqHigh: word(registers, "asqHigh"),
    acqLow: word(registers, "acqLow"),
    acqHigh: word(registers, "acqHigh"),
  };
  const flags = {
    ready: registers.boolean("ready"),
    fatal: registers.boolean("fatal"),
    subsystemReset: registers.boolean("subsystemReset"),
    shutdownStatus: registers.number("shutdownStatus", { maximum: 2 }),
  };
  const mask = word(registers, "interruptMask");
  const completion = state.records("completionQueues", 65).map((fields) => readCompletion(fields, context));
  const submission = state.records("submissionQueues", 65).map((fields) => readSubmission(fields, context, completion));
  const commands = state.records("commands", COMMANDS_MAX).map((fields) => {
    const queueId = fields.number("queue");
    const queue = submission.find(({ id }) => id === queueId);
    if (queue === undefined) throw invalid(`a command belongs to queue ${queueId}, which is not there`);
    return { queue, words: new Uint32Array(fields.bytes("words", COMMAND_BYTES).slice().buffer) };
  });
  const shadowFields = state.has("shadow") ? state.record("shadow") : undefined;
  const shadow = shadowFields && { doorbells: shadowFields.number("doorbells"), events: shadowFields.number("events") };
  const features = state.record("features");
  const featureState = {
    values: features.numbers("values", WORD_MAX, 512),
    thresholds: features.numbers("thresholds", WORD_MAX, 16),
    uncoalesced: features.numbers("uncoalesced", 0xffff, 65_536),
    timestamp: features.bytes("timestamp", 8),
  };
  const events = state.record("events");
  const eventState = {
    requests: events.numbers("requests", 0xffff, EVENT_REQUESTS_MAX),
    waiting: events.numbers("waiting", WORD_MAX, 64),
    silenced: events.numbers("silenced", 7, 8),
  };
  const configuration = word(events, "configuration");
  const logs = state.record("logs");
  const logState = {
    errorCount: logs.number("errorCount"),
    errors: logs.list("errors", ERROR_LOG_ENTRIES).map((entry) => {
      if (entry instanceof Uint8Array && entry.length === ERROR_ENTRY_BYTES) return entry;
      throw invalid("an entry of the error log has not 64 bytes");
    }),
    changed: logs.numbers("changed", WORD_MAX, 1024),
    everyChanged: logs.boolean("everyChanged"),
  };
  const temperature = logs.number("temperature", { maximum: 0xffff });
  const unsafeShutdowns = logs.number("unsafeShutdowns");
  const counters = state.record("counters");
  const counted = Object.keys(controller.io.counters).map((key) => [key, counters.number(key)] as const);

  controller.reset();
  Object.assign(controller, flags, { cc });
  Object.assign(controller.adminQueue, admin);
  controller.io.pageSize = controller.pageSize;
  controller.admin.pageSize = controller.pageSize;
  Object.assign(controller.io.counters, Object.fromEntries(counted));
  Object.assign(controller.logs, { temperature, unsafeShutdowns });
  controller.logs.restore(logState);
  controller.features.restore(featureState);
  controller.events.restore(eventState);
  controller.events.configuration = configuration;
  for (const queue of completion) controller.queues.restoreCompletion(queue);
  for (const queue of submission) controller.queues.restoreSubmission(queue);
  for (const queue of submission) if (queue.deletedBy !== undefined) controller.admin.removeWhenIdle(queue);
  if (shadow !== undefined) controller.doorbells.restoreShadow(shadow, controller.pageSize);
  for (const { queue, words } of commands) controller.flights.hold(queue, words);
  controller.queues.running = flags.ready && !flags.fatal;
  controller.lines.mask = mask;
  controller.continue();
  if (context.memory.busMaster) controller.setReach(true);
}

function readCompletion(
  fields: StateFields,
  { memory, settings }: { readonly memory: GuestMemory; readonly settings: NvmeSettings },
): CompletionQueue {
  const { id, entries } = readPlace(fields, settings);
  const vector = fields.has("vector") ? fields.number("vector", { maximum: settings.ioQueues }) : undefined;
  const queue = new CompletionQueue(memory, id, fields.number("iova"), entries, vector);
  queue.head = fields.number("head", { maximum: entries - 1 });
  queue.tail = fields.number("tail", { maximum: entries - 1 });
  if (!fields.boolean("phase")) queue.phase = 0;
  const waiting = fields.numbers("waiting", WORD_MAX, 3 * WAITING_MAX);
  for (let i = 0; i + 2 < waiting.length; i += 3) {
    const [dw0, dw2, dw3] = waiting.slice(i, i + 3) as [number, number, number];
    queue.waiting.push({ dw0, dw2, dw3 });
  }
  return queue;
}

function readSubmission(
  fields: StateFields,
  { memory, settings }: { readonly memory: GuestMemory; readonly settings: NvmeSettings },
  completion: readonly CompletionQueue[],
): SubmissionQueue {
  const { id, entries } = readPlace(fields, settings);
  const completionId = fields.number("completion");
  const target = completion.find((queue) => queue.id === completionId);
  if (target === undefined) throw invalid(`queue ${id} completes in queue ${completionId}, which is not there`);
  const queue = new SubmissionQueue(memory, id, fields.number("iova"), entries, target);
  queue.head = fields.number("head", { maximum: entries - 1 });
  queue.tail = fields.number("tail", { maximum: entries - 1 });
  if (fields.has("deletedBy")) queue.deletedBy = fields.number("deletedBy", { maximum: 0xffff });
  return queue;
}

function readPlace(fields: StateFields, settings: NvmeSettings): { readonly id: number; readonly entries: number } {
  const id = fields.number("id", { maximum: settings.ioQueues });
  const most = id === 0 ? Aqa.ASQS.mask + 1 : settings.maxQueueEntries;
  return { id, entries: fields.number("entries", { minimum: 2, maximum: most }) };
}

/** A state belongs to disks of the same shape; their content is the user's to bring along. */
function checkNamespaces(state: StateFields, namespaces: readonly (DeviceNamespace | undefined)[]): void {
  const text = (entries: readonly { id: number; blocks: number; blockSize: number }[]): string =>
    entries.map(({ id, blocks, blockSize }) => `${id}: ${blocks} x ${blockSize}`).join(", ") || "none";
  const saved = state.records("namespaces", 1024).map((fields) => ({
    id: fields.number("id"),
    blocks: fields.number("blocks"),
    blockSize: fields.number("blockSize"),
  }));
  const here = namespaces.filter((entry) => entry !== undefined);
  if (text(saved) === text(here)) return;
  throw new Ring3Error(
    "STATE_MISMATCH",
    `the state is of a disk with namespaces ${text(saved)}; this one has ${text(here)}: open the same images`,
  );
}

function invalid(what: string): Ring3Error {
  return new Ring3Error("STATE_INVALID", `nvme: ${what}`);
}
