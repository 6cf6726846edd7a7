// POSIX access lists of device nodes, in the kernel's binary form (acl(5), include/uapi/linux/posix_acl_xattr.h): how a
// second user gets at a node that has one owner. What is easily forgotten: named entries count only through the mask, and
// chmod writes the mask where it seems to write the group's bits.
import type { User } from "./users.ts";

/** The extended attribute that holds a file's list. */
export const ACCESS_LIST_ATTRIBUTE = "system.posix_acl_access";

const VERSION = 2;
const ENTRY_BYTES = 8;
const NO_ID = 0xffff_ffff;
const READ_WRITE = 0o6;

/** Kinds of entries, in the order in which the kernel wants them. */
const TAG = { OWNER: 0x01, USER: 0x02, OWNING_GROUP: 0x04, GROUP: 0x08, MASK: 0x10, OTHER: 0x20 } as const;

interface AccessEntry {
  readonly tag: number;
  /** uid or gid of a named entry. */
  readonly id: number;
  /** 4 read, 2 write, 1 execute. */
  readonly permissions: number;
}

/** The list of a file, its owner's entry first. */
export type AccessList = readonly AccessEntry[];

/** `undefined` for bytes that are no access list. */
export function decodeAccessList(bytes: Uint8Array): AccessList | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 4 || (bytes.length - 4) % ENTRY_BYTES !== 0 || view.getUint32(0, true) !== VERSION)
    return undefined;
  const entries: AccessEntry[] = [];
  for (let at = 4; at < bytes.length; at += ENTRY_BYTES) {
    const permissions = view.getUint16(at + 2, true);
    entries.push({ tag: view.getUint16(at, true), permissions, id: view.getUint32(at + 4, true) });
  }
  return entries;
}

export function encodeAccessList(list: AccessList): Uint8Array {
  const bytes = new Uint8Array(4 + list.length * ENTRY_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, VERSION, true);
  for (const [index, { tag, permissions, id }] of list.entries()) {
    const at = 4 + index * ENTRY_BYTES;
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, permissions, true);
    view.setUint32(at + 4, id, true);
  }
  return bytes;
}

/** The list (or what a file of `mode` without one has) with `uid` allowed to read and write. */
export function withUser(list: AccessList | undefined, mode: number, uid: number): AccessList {
  const others = (list ?? fromMode(mode)).filter(
    ({ tag, id }) => tag !== TAG.MASK && !(tag === TAG.USER && id === uid),
  );
  // A mask that was narrower would be widened for everybody: what it hid is taken away first.
  const mask = (list ?? []).find(({ tag }) => tag === TAG.MASK)?.permissions ?? 0o7;
  const visible = others.map((entry) => (masked(entry) ? { ...entry, permissions: entry.permissions & mask } : entry));
  const entries = [...visible, { tag: TAG.USER, id: uid, permissions: READ_WRITE }];
  const widest = entries.filter(masked).reduce((all, { permissions }) => all | permissions, 0);
  return [...entries, { tag: TAG.MASK, id: NO_ID, permissions: widest }].sort((a, b) => a.tag - b.tag || a.id - b.id);
}

/** The list without `uid`'s entry; `undefined` where no named entry is left, so that the file needs no list. */
export function withoutUser(list: AccessList, uid: number): AccessList | undefined {
  const left = list.filter(({ tag, id }) => !(tag === TAG.USER && id === uid));
  return left.some(({ tag }) => tag === TAG.USER || tag === TAG.GROUP) ? left : undefined;
}

/** Uids that the list names. */
export function namedUsers(list: AccessList): number[] {
  return list.filter(({ tag }) => tag === TAG.USER).map(({ id }) => id);
}

/** Whether `user` may read and write, by the algorithm of acl(5). */
export function listAllows(
  list: AccessList,
  owner: { readonly uid: number; readonly gid: number },
  user: User,
): boolean {
  const mask = list.find(({ tag }) => tag === TAG.MASK)?.permissions ?? 0o7;
  const enough = ({ permissions }: AccessEntry, through: number): boolean =>
    (permissions & through & READ_WRITE) === READ_WRITE;
  const find = (wanted: number, id?: number): AccessEntry | undefined =>
    list.find((entry) => entry.tag === wanted && (id === undefined || entry.id === id));
  const own = user.uid === owner.uid ? find(TAG.OWNER) : undefined;
  if (own !== undefined) return enough(own, 0o7);
  const named = find(TAG.USER, user.uid);
  if (named !== undefined) return enough(named, mask);
  const groups = list.filter(({ tag, id }) => {
    return (tag === TAG.OWNING_GROUP && user.gids.includes(owner.gid)) || (tag === TAG.GROUP && user.gids.includes(id));
  });
  if (groups.length > 0) return groups.some((entry) => enough(entry, mask));
  const other = find(TAG.OTHER);
  return other !== undefined && enough(other, 0o7);
}

/** Entries that the mask limits. */
function masked({ tag }: AccessEntry): boolean {
  return tag === TAG.USER || tag === TAG.OWNING_GROUP || tag === TAG.GROUP;
}

function fromMode(mode: number): AccessEntry[] {
  const entry = (tag: number, shift: number): AccessEntry => ({ tag, id: NO_ID, permissions: (mode >> shift) & 0o7 });
  return [entry(TAG.OWNER, 6), entry(TAG.OWNING_GROUP, 3), entry(TAG.OTHER, 0)];
}
