// A namespace of the device: blocks over a backing, and what identify says of them. NVM command set 1.0, section 4.1.5.
import { Ring3Error } from "../../binary/error.ts";
import { CommandSet } from "../../specs/nvme/commands.ts";
import {
  IdentifyNamespace,
  IndependentNamespace,
  LbaFormat,
  NamespaceDescriptor,
  NamespaceDescriptorKind,
} from "../../specs/nvme/structs.ts";
import { type BlockBacking, checkBacking } from "../block-backing.ts";

export interface NamespaceOptions {
  readonly backing: BlockBacking;
  /** 512 (default) or 4096 bytes. What the backing holds beyond whole blocks is not used. */
  readonly blockSize?: 512 | 4096;
  /** Refuses writes even where the backing takes them. */
  readonly readOnly?: boolean;
}

/** Bits of identify namespace. */
const THIN_PROVISIONING = 0x01;
const WRITE_PROTECTED = 0x01;
/** DLFEAT: deallocated blocks read as zeros, and write zeroes may deallocate. */
const READS_ZERO_AND_DEALLOCATES = 0x09;
const READY = 0x01;

export class DeviceNamespace {
  readonly id: number;
  readonly blockSize: number;
  /** log2 of `blockSize`. */
  readonly shift: number;
  readonly blocks: number;
  readonly backing: BlockBacking;
  readonly readOnly: boolean;
  readonly #uniqueId: Uint8Array;

  /** `uniqueId`: 16 bytes that no other namespace has. Throws `BACKING_INVALID`, `NVME_OPTION`. */
  constructor(id: number, options: NamespaceOptions, uniqueId: Uint8Array) {
    const blockSize: number = options.blockSize ?? 512;
    if (blockSize !== 512 && blockSize !== 4096) {
      throw new Ring3Error("NVME_OPTION", `blocks have 512 or 4096 bytes, not ${blockSize}`);
    }
    checkBacking(options.backing, blockSize);
    this.id = id;
    this.blockSize = blockSize;
    this.shift = Math.log2(blockSize);
    this.blocks = Math.floor(options.backing.sizeBytes / blockSize);
    this.backing = options.backing;
    this.readOnly = options.readOnly === true || options.backing.readOnly === true;
    this.#uniqueId = uniqueId;
  }

  identify(): Uint8Array {
    const { backing } = this;
    const size = BigInt(this.blocks);
    return IdentifyNamespace.bytes({
      NSZE: size,
      NCAP: size,
      NUSE: size,
      NSFEAT: backing.discard === undefined ? 0 : THIN_PROVISIONING,
      DLFEAT: backing.discard === undefined ? 0 : READS_ZERO_AND_DEALLOCATES,
      NVMCAP: size * BigInt(this.blockSize),
      NSATTR: this.readOnly ? WRITE_PROTECTED : 0,
      NGUID: this.#uniqueId,
      LBAF: [LbaFormat.LBADS.of(this.shift)],
    });
  }

  /** The same as far as it does not depend on the command set (CNS 08h). */
  identifyIndependent(): Uint8Array {
    return IndependentNamespace.bytes({
      NSFEAT: this.backing.discard === undefined ? 0 : THIN_PROVISIONING,
      NSATTR: this.readOnly ? WRITE_PROTECTED : 0,
      NSTAT: READY,
    });
  }

  /** Namespace identification descriptors (CNS 03h): NGUID, UUID, command set. */
  descriptors(): Uint8Array {
    const bytes = new Uint8Array(4096);
    let at = 0;
    for (const [NIDT, value] of [
      [NamespaceDescriptorKind.NGUID, this.#uniqueId],
      [NamespaceDescriptorKind.UUID, this.#uniqueId],
      [NamespaceDescriptorKind.COMMAND_SET, Uint8Array.of(CommandSet.NVM)],
    ] as const) {
      bytes.set(NamespaceDescriptor.bytes({ NIDT, NIDL: value.length }), at);
      bytes.set(value, at + NamespaceDescriptor.size);
      at += NamespaceDescriptor.size + value.length;
    }
    return bytes;
  }
}

/** 16 bytes that follow from a serial number and a namespace id, with the marks of a random UUID (RFC 9562, version 4). */
export function uniqueIdOf(serial: string, id: number): Uint8Array {
  const bytes = new Uint8Array(16);
  for (let i = 0; i < 4; i++) new DataView(bytes.buffer).setUint32(4 * i, hash(`${serial}:${id}:${i}`));
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return bytes;
}

/** FNV-1a with a final mix, so that texts that differ in their last letter differ everywhere. */
function hash(text: string): number {
  let value = 0x811c_9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x0100_0193);
  value = Math.imul(value ^ (value >>> 16), 0x85eb_ca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2_ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
