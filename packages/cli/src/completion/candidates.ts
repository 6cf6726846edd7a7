// Where words to offer come from: sysfs, files, users, the registers' declarations. Reading only; what cannot be read gives
// nothing, since a shell has no place for errors while somebody types.
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import type { Candidate } from "./complete-words.ts";

export interface CandidateSources {
  addresses(): Candidate[];
  users(): Candidate[];
  /** Files and directories that a path may go on with; a directory ends in `/`. */
  files(current: string): Promise<Candidate[]>;
  directories(current: string): Promise<Candidate[]>;
  /** setpci's names, and GROUP.REGISTER.FIELD as far as it was typed. */
  registers(current: string): Promise<Candidate[]>;
  /** Where peek may look on a function: its BARs, registers of its header. */
  places(address: string | undefined): Promise<Candidate[]>;
}

/** Those of the machine below `root`. */
export function machineCandidates(root: string): CandidateSources {
  const devices = join(root, "sys/bus/pci/devices");
  return {
    addresses: () =>
      listed(devices).map((word) => {
        const driver = attempt(() => basename(readlinkSync(join(devices, word, "driver"))));
        return { word, text: driver };
      }),
    users: () =>
      lines(join(root, "etc/passwd")).flatMap((line) => {
        const [word = "", , uid] = line.split(":");
        return word === "" ? [] : [{ word, text: `uid ${uid}` }];
      }),
    files: (current) => Promise.resolve(paths(current, false)),
    directories: (current) => Promise.resolve(paths(current, true)),
    registers,
    places: async (address) => await places(address, devices),
  };
}

function paths(current: string, directoriesOnly: boolean): Candidate[] {
  const slash = current.lastIndexOf("/") + 1;
  const [directory, beginning] = [current.slice(0, slash), current.slice(slash)];
  return listed(directory === "" ? "." : directory)
    .filter((name) => name.startsWith(beginning) && (beginning !== "" || !name.startsWith(".")))
    .flatMap((name) => {
      const path = `${directory}${name}`;
      const isDirectory = attempt(() => statSync(path).isDirectory()) === true;
      if (directoriesOnly && !isDirectory) return [];
      return [{ word: isDirectory ? `${path}/` : path }];
    });
}

async function registers(current: string): Promise<Candidate[]> {
  const { capabilityGroups, headerGroups, registerNames } = await import("ring3/pci");
  const [group, register] = current.split(".");
  if (!current.includes(".")) {
    const names = registerNames.map(({ name, kind }) => ({
      word: name,
      text: kind === "header" ? "header" : "capability",
    }));
    const groups = capabilityGroups.map(({ name }) => ({ word: `${name}.`, text: "registers by name" }));
    return [...names, ...groups];
  }
  const same = (a: string, b: string | undefined): boolean => a.toLowerCase() === b?.toLowerCase();
  const found = [...capabilityGroups, ...headerGroups].filter(({ name }) => same(name, group));
  const all = found.flatMap(({ name, registers: own }) => Object.values(own).map((item) => ({ group: name, item })));
  const depth = current.split(".").length;
  if (depth === 2) return all.map(({ group: name, item }) => ({ word: `${name}.${item.name}` }));
  return all
    .filter(({ item }) => same(item.name, register))
    .flatMap(({ group: name, item }) =>
      Object.entries(item.fields).map(([field, { kind }]) => ({ word: `${name}.${item.name}.${field}`, text: kind })),
    );
}

async function places(address: string | undefined, devices: string): Promise<Candidate[]> {
  const { registerNames } = await import("ring3/pci");
  const full = address === undefined || /^[0-9a-f]+:[0-9a-f]+:/i.test(address) ? address : `0000:${address}`;
  const known = full === undefined ? [] : lines(join(devices, full, "resource")).slice(0, 6);
  const bars = Array.from({ length: 6 }, (_, index) => index).filter((index) =>
    known.length === 0 ? true : known[index] !== undefined && !/^0x0+ 0x0+ /.test(known[index]),
  );
  const widths = { 0: ".l", 1: ".b", 2: ".w", 4: ".l" } as const;
  return [
    ...bars.map((index) => ({ word: `bar${index}+`, text: `BAR ${index}` })),
    { word: "rom+", text: "expansion ROM" },
    ...registerNames
      .filter(({ kind, headerTypes }) => kind === "header" && (headerTypes.length === 0 || headerTypes.includes(0)))
      .map(({ name, offset, width }) => ({ word: `config+0x${offset.toString(16)}${widths[width]}`, text: name })),
  ];
}

function listed(directory: string): string[] {
  return attempt(() => readdirSync(directory).sort()) ?? [];
}

function lines(path: string): string[] {
  const text = attempt(() => readFileSync(path, "utf8")) ?? "";
  return text.split("\n").filter((line) => line !== "");
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
