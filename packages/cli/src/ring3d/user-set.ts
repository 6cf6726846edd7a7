// Who may use a function: users by name or uid, and groups as @NAME.
import { messageOf } from "ring3/binary";
import { lookUpGroup, lookUpUser, userName } from "ring3/host";
import { type SettingKind, scalar } from "./setting-kinds.ts";

/** Where names are looked up: the machine's user database, or a test's. */
export interface UserDirectory {
  /** Throws what is wrong with the name. */
  uid(name: string): number;
  gid(name: string): number;
  /** Groups of a user, as the database has them; empty for a uid that it does not know. */
  groups(uid: number): readonly number[];
  name(uid: number): string | undefined;
}

export const machineDirectory: UserDirectory = {
  uid: (name) => lookUpUser(name).uid,
  gid: (name) => lookUpGroup(name),
  groups: (uid) => {
    try {
      return lookUpUser(String(uid)).gids;
    } catch {
      return [];
    }
  },
  name: (uid) => userName(uid),
};

/** A user or group as a file says it. */
export const userWord: SettingKind<string> = scalar({ type: ["string", "integer"] }, (value) => {
  if ((typeof value === "string" && value !== "" && value !== "@") || Number.isInteger(value)) return String(value);
  throw new RangeError(`a user's name or uid, or @GROUP, is wanted, not ${JSON.stringify(value)}`);
});

/** Users and groups, as numbers. */
export class UserSet {
  readonly uids: readonly number[];
  readonly gids: readonly number[];
  readonly #directory: UserDirectory;

  constructor(uids: readonly number[], gids: readonly number[], directory: UserDirectory) {
    this.uids = [...new Set(uids)];
    this.gids = [...new Set(gids)];
    this.#directory = directory;
  }

  /** Looks up what a file says; `report` gets what nobody is called, with its index. */
  static read(
    words: readonly string[],
    directory: UserDirectory,
    report: (message: string, index: number) => void,
  ): UserSet {
    const uids: number[] = [];
    const gids: number[] = [];
    for (const [index, word] of words.entries()) {
      try {
        if (word.startsWith("@")) gids.push(directory.gid(word.slice(1)));
        else uids.push(directory.uid(word));
      } catch (error) {
        report(messageOf(error), index);
      }
    }
    return new UserSet(uids, gids, directory);
  }

  /** Whether a process may come in that runs as this user, with this group and these `further` ones. */
  has(uid: number, gid: number, further: readonly number[] = []): boolean {
    if (this.uids.includes(uid)) return true;
    if (this.gids.length === 0) return false;
    return [gid, ...further, ...this.#directory.groups(uid)].some((group) => this.gids.includes(group));
  }

  /** As a file has it, with names where they are known. */
  toString(): string {
    const names = this.uids.map((uid) => this.#directory.name(uid) ?? String(uid));
    return [...names, ...this.gids.map((gid) => `@${gid}`)].join(", ");
  }

  equals(other: UserSet): boolean {
    return String(this.uids) === String(other.uids) && String(this.gids) === String(other.gids);
  }
}
