// Who somebody is: uid and groups, for "may open" questions and for handing nodes over. /etc/passwd and /etc/group are
// read first; a user of a directory service is asked for through getent.
import { join } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import { type HostPaths, thisMachine } from "./paths.ts";
import { readText } from "./sysfs.ts";

export interface User {
  /** `undefined` for a uid that has no name. */
  readonly name: string | undefined;
  readonly uid: number;
  /** Primary group first. */
  readonly gids: readonly number[];
}

/** The user that this process runs as, with its effective ids. */
export function currentUser(paths: HostPaths = thisMachine): User {
  const uid = process.geteuid?.() ?? 0;
  const gids = new Set([process.getegid?.() ?? 0, ...(process.getgroups?.() ?? [])]);
  return { name: userName(uid, paths), uid, gids: [...gids] };
}

/** The name of `uid`, where it has one. */
export function userName(uid: number, paths: HostPaths = thisMachine): string | undefined {
  return entries(paths, "passwd").find((fields) => Number(fields[2]) === uid)?.[0];
}

/** The name of `gid`, where it has one. */
export function groupName(gid: number, paths: HostPaths = thisMachine): string | undefined {
  return entries(paths, "group").find((fields) => Number(fields[2]) === gid)?.[0];
}

/** Looks a user up by name or uid. Throws `USER_UNKNOWN`. */
export function lookUpUser(nameOrUid: string, paths: HostPaths = thisMachine): User {
  const numeric = /^\d{1,10}$/.test(nameOrUid);
  const matches = (fields: readonly string[]): boolean => fields[numeric ? 2 : 0] === nameOrUid;
  const found = entries(paths, "passwd").find(matches) ?? fromDirectoryService(nameOrUid, paths);
  if (found === undefined) {
    // A uid needs no name to own a node.
    if (numeric && Number(nameOrUid) < 0xffff_ffff) {
      return { name: undefined, uid: Number(nameOrUid), gids: [Number(nameOrUid)] };
    }
    throw new Ring3Error("USER_UNKNOWN", `there is no user "${nameOrUid}": give a name of /etc/passwd or a uid`);
  }
  const [name = "", , uid = "", gid = ""] = found;
  const further = entries(paths, "group").filter((fields) => (fields[3] ?? "").split(",").includes(name));
  const gids = new Set([Number(gid), ...further.map((fields) => Number(fields[2]))]);
  return { name, uid: Number(uid), gids: [...gids] };
}

/** Looks a group up by name or gid. Throws `GROUP_UNKNOWN`. */
export function lookUpGroup(nameOrGid: string, paths: HostPaths = thisMachine): number {
  if (/^\d{1,10}$/.test(nameOrGid) && Number(nameOrGid) < 0xffff_ffff) return Number(nameOrGid);
  const found = entries(paths, "group").find(([name]) => name === nameOrGid);
  if (found !== undefined) return Number(found[2]);
  throw new Ring3Error("GROUP_UNKNOWN", `there is no group "${nameOrGid}": give a name of /etc/group or a gid`);
}

function entries(paths: HostPaths, file: "passwd" | "group"): string[][] {
  const lines = (readText(join(paths.etcRoot, file)) ?? "").split("\n");
  return lines.map((line) => line.split(":")).filter((fields) => fields.length >= 4);
}

function fromDirectoryService(name: string, paths: HostPaths): string[] | undefined {
  if (paths.etcRoot !== thisMachine.etcRoot || !/^[A-Za-z0-9_.@\\-]+$/.test(name) || name.startsWith("-")) {
    return undefined;
  }
  try {
    const { execFileSync } = process.getBuiltinModule("node:child_process");
    const fields = execFileSync("/usr/bin/getent", ["passwd", name], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      timeout: 10_000,
    })
      .trim()
      .split(":");
    return fields.length >= 4 ? fields : undefined;
  } catch {
    return undefined;
  }
}
