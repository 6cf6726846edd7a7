// What a configuration may say, what it says where it is silent, and how mistakes are told.
// seconds: 1
import assert from "node:assert/strict";
import { test } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { parse } from "yaml";
import { UsageError } from "../usage-error.ts";
import { type Configuration, configurationSchema, parseConfiguration } from "./configuration.ts";
import type { UserDirectory } from "./user-set.ts";

const IDS: Readonly<Record<string, number>> = { alice: 1000, bob: 1001, disks: 6 };

const directory: UserDirectory = {
  uid: (name) => number(name, "user"),
  gid: (name) => number(name, "group"),
  groups: (uid) => (uid === 1001 ? [6] : []),
  name: (uid) => Object.keys(IDS).find((name) => IDS[name] === uid),
};

function number(name: string, what: string): number {
  const id = /^\d+$/.test(name) ? Number(name) : IDS[name];
  if (id === undefined) throw new RangeError(`there is no ${what} ${name}`);
  return id;
}

function read(text: string): Configuration {
  return parseConfiguration(text, "ring3d.yaml", directory);
}

function problems(text: string): string[] {
  try {
    read(text);
  } catch (error) {
    assert.ok(error instanceof UsageError, String(error));
    return error.message.split("\n  ").slice(1);
  }
  return [];
}

test("the least that a configuration says, and what holds then", () => {
  const { control, metrics, traces, functions } = read(
    'functions:\n  disk:\n    address: "01:00.0"\n    users: [alice, 1001, "@disks"]\n',
  );
  assert.deepEqual([control, metrics, traces], ["/run/ring3/control.sock", undefined, "/var/log/ring3"]);
  const [disk] = functions;
  assert.ok(disk !== undefined && functions.length === 1);
  const { users, handOver, ...rest } = disk;
  assert.deepEqual([handOver.uids, handOver.gids], [[], []]);
  assert.deepEqual(rest, {
    name: "disk",
    address: "0000:01:00.0",
    bind: true,
    socket: "/run/ring3/disk.sock",
    rules: "strict",
    hide: [],
    trap: false,
    ranges: [],
    lockLimit: undefined,
    maps: 65_535,
    openings: 1,
    queue: 0,
    queueSeconds: 30,
    allowWithoutReset: false,
    trace: undefined,
    removalSeconds: 10,
  });
  assert.deepEqual([users.uids, users.gids, users.toString()], [[1000, 1001], [6], "alice, bob, @6"]);
  assert.ok(users.has(1000, 1000) && users.has(7, 6) && users.has(7, 7, [5, 6]) && users.has(1001, 1001));
  assert.ok(!users.has(7, 7, [5]));
});

test("everything that a function may say", () => {
  const [nic] = read(`
functions:
  nic:
    address: vfio-user:/run/other.sock
    socket: /run/nic.sock
    users: bob
    rules: vfio-2010
    hide: [VPD, msi-x]
    trap: [bar0, 2]
    ranges: bar0+0x1000+0x100=limited:50
    lock-limit: 1G
    maps: 16
    allow-without-reset: true
    trace: /var/log/nic.jsonl
    removal-seconds: 0
`).functions;
  assert.ok(nic !== undefined);
  assert.deepEqual([nic.bind, nic.rules, nic.trap, nic.lockLimit, nic.maps], [false, "vfio-2010", [0, 2], 2 ** 30, 16]);
  assert.deepEqual(nic.ranges, [{ bar: 0, offset: 0x1000, size: 0x100, access: "limited", writesPerSecond: 50 }]);
  assert.ok(nic.hide.length >= 2);
  assert.deepEqual([nic.allowWithoutReset, nic.trace, nic.removalSeconds], [true, "/var/log/nic.jsonl", 0]);
});

test("all mistakes are told at once, with line and column and what would be right", () => {
  const said = problems(`control: run/control.sock
audits: /var/log/audit
functions:
  disk:
    address: 01:00.9
    users: [carol, "@"]
    rules: strikt
    maps: 0
    lock-limit: 12X
    trap: bar7
    ranges: [bar0=hidden]
    hide: [NOPE]
  "a b":
    adress: "02:00.0"
`);
  const expected: readonly [place: string, words: RegExp][] = [
    ["1:10", /an absolute path is wanted/],
    ["2:9", /no setting "audits"; did you mean audit\?/],
    ["5:14", /a function is wanted/],
    ["6:13", /there is no user carol/],
    ["6:20", /@GROUP/],
    ["7:12", /did you mean strict\?/],
    ["8:11", /from 1 to 65535/],
    ["9:17", /4096, 64K or 1G/],
    ["10:11", /bar0 to bar5/],
    ["11:14", /bar0\+OFFSET\+SIZE/],
    ["12:12", /no capability is called "NOPE"/],
    ["14:5", /is no name for a function/],
    ["14:5", /"address" is missing/],
    ["14:5", /"users" is missing/],
    ["14:13", /did you mean address\?/],
  ];
  for (const [place, words] of expected) {
    const found = said.some((line) => line.startsWith(`ring3d.yaml:${place}: `) && words.test(line));
    assert.ok(found, `${place} ${words} is not in\n${said.join("\n")}`);
  }
  assert.equal(said.length, expected.length, said.join("\n"));
});

test("two functions at one socket, and one function twice, are refused", () => {
  const said = problems(`
metrics: /run/ring3/control.sock
functions:
  one: { address: "01:00.0", users: 0, socket: /run/x.sock }
  two: { address: "0000:01:00.0", users: 0, socket: /run/x.sock }
  three: { address: vfio-user:/run/y.sock, users: 0, socket: /run/ring3/control.sock, bind: true, hand-over: bob }
`).join("\n");
  assert.match(said, /2:10: this is the control socket's path/);
  assert.match(said, /\/run\/x\.sock is the socket of one/);
  assert.match(said, /0000:01:00\.0 is served as one already/);
  assert.match(said, /\/run\/ring3\/control\.sock is the socket of metrics|control/);
  assert.match(said, /has no driver to take it from/);
  assert.match(said, /has no descriptors of the kernel/);
});

test("what the schema refuses is refused, and what is taken conforms to it", () => {
  const validate = new Ajv2020({ strict: false }).compile(configurationSchema());
  const setting = fc.record(
    {
      address: fc.constantFrom("01:00.0", "vfio-user:/a", 5),
      users: fc.constantFrom("alice", [1000], ["@disks"], true),
      rules: fc.constantFrom("strict", "linux", "lax"),
      maps: fc.constantFrom(1, 70_000, "1"),
      "lock-limit": fc.constantFrom(4096, "64K", "1G", -1, "G"),
      "allow-without-reset": fc.constantFrom(true, false, "yes"),
      "removal-seconds": fc.constantFrom(0, 10, 3601),
      nonsense: fc.constant(1),
    },
    { requiredKeys: ["address", "users"] },
  );
  let taken = 0;
  fc.assert(
    fc.property(setting, (given) => {
      const text = JSON.stringify({ functions: { fn: given } });
      if (problems(text).length > 0) return;
      taken++;
      assert.ok(validate(parse(text)), `${text}: ${JSON.stringify(validate.errors)}`);
    }),
    { numRuns: 500 },
  );
  assert.ok(taken > 0);
});

test("no text does anything but be read or be refused", () => {
  fc.assert(fc.property(fc.string(), (text) => void problems(text)));
  fc.assert(fc.property(fc.jsonValue(), (value) => void problems(JSON.stringify(value))));
  fc.assert(fc.property(fc.jsonValue(), (value) => void problems(JSON.stringify({ functions: { fn: value } }))));
});
