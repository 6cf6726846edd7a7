// Notices with replies, with two registered users of two uids behind ring3d: unplugging, errors of the platform, and the
// machine's sleep, by a logind that is not one on a message bus that is.
// kernels: any
// seconds: 106
// packages: dbus
// timeout: 900
import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import { FakeLogind, TestBus } from "../../../packages/cli/src/ring3d/fake-logind.ts";
import type { ErrorVote, Notice, NoticeKind } from "../../../packages/ring3/src/mediation/notices/index.ts";
import { ServiceUser } from "../../../packages/ring3/src/ring3d-user.ts";
import { connect, type VfioUserFunction } from "../../../packages/ring3/src/vfio-user/index.ts";
import { asRoot, awaitFunction, bind, bindStandard, monitor, packageProgram, qmp, rootOutput } from "../inside.ts";
import { FUNCTIONS, HOTPLUG } from "../machine.ts";
import { type RunningService, startService } from "../running-service.ts";

const PLACE = "/tmp/notices";
const USERS = `${PLACE}/users.sock`;
const script = new URL("./notices-user.ts", import.meta.url).pathname;
const [slot] = HOTPLUG;

/** The guest is slow, and the function may be being reset. */
const PATIENT = { timeoutMs: 60_000 };

const CONFIGURATION = `control: ${PLACE}/control.sock
users-socket: ${USERS}
traces: ${PLACE}
functions:
  block: { address: "${FUNCTIONS.virtioBlk.address}", socket: ${PLACE}/block.sock, users: user }
  edu: { address: "${FUNCTIONS.edu.address}", socket: ${PLACE}/edu.sock, users: other }
  plugged: { address: "${slot.address}", socket: ${PLACE}/plugged.sock, users: other, removal-seconds: 60 }
  forced: { address: "${HOTPLUG[1].address}", socket: ${PLACE}/forced.sock, users: other, removal-seconds: 1 }
`;

let bus: TestBus;
let logind: FakeLogind;
let service: RunningService;

before(async () => {
  await asRoot("echo 0 > /sys/bus/pci/drivers_autoprobe");
  for (const { address } of [FUNCTIONS.virtioBlk, FUNCTIONS.edu]) await bind(address, "none");
  bus = await TestBus.start(packageProgram("dbus", "/usr/bin/dbus-daemon"));
  logind = await FakeLogind.start(bus);
  service = await startService(PLACE, CONFIGURATION, `DBUS_SYSTEM_BUS_ADDRESS=unix:path=${bus.socket}`);
  await service.says(/(block|edu): ready/);
  await service.says(/(block|edu): ready/);
});
after(async () => {
  await service.end("TERM");
  await service[Symbol.asyncDispose]();
  logind[Symbol.dispose]();
  await bus[Symbol.asyncDispose]();
  await rootOutput(`rm -rf ${PLACE}`);
  await bindStandard();
});

/** What this process, uid 1000, does at the notices for `block`. */
interface Own {
  readonly fn: VfioUserFunction;
  readonly heard: NoticeKind[];
  /** Resolves once it has heard it. */
  readonly hears: (kind: NoticeKind) => Promise<void>;
  readonly replied: Promise<void>[];
}

async function own(
  t: TestContext,
  reply: (user: ServiceUser, notice: Notice) => Promise<void> | undefined,
): Promise<Own> {
  const fn = await connect(`${PLACE}/block.sock`, PATIENT);
  const heard: NoticeKind[] = [];
  const replied: Promise<void>[] = [];
  let wake = (): void => undefined;
  const user = new ServiceUser(USERS, {
    onNotice: (notice) => {
      heard.push(notice.kind);
      wake();
      const said = reply(user, notice);
      if (said === undefined) return;
      replied.push(said);
      // A consent may come after somebody else's refusal: whoever wants to know awaits it.
      said.catch(() => undefined);
    },
  });
  t.after(async () => {
    user[Symbol.dispose]();
    await fn[Symbol.asyncDispose]();
  });
  await user.register("block", [
    "error-detected",
    "mmio-enabled",
    "link-reset",
    "slot-reset",
    "error-resume",
    "suspend",
    "power-resume",
  ]);
  const hears = async (kind: NoticeKind): Promise<void> => {
    while (!heard.includes(kind)) await new Promise<void>((resolve) => (wake = resolve));
  };
  return { fn, heard, hears, replied };
}

interface Other extends AsyncDisposable {
  readonly pid: number;
  /** Resolves once it has said it. */
  says(words: string): Promise<void>;
}

let others = 0;

/** A process of uid 1001 that uses `name` and does `doing` at its notices. */
async function other(
  t: TestContext,
  name: string,
  doing: Readonly<Partial<Record<NoticeKind, string>>>,
): Promise<Other> {
  const out = `${PLACE}/other-${others++}`;
  const words = `node ${script} ${USERS} ${name} ${PLACE}/${name}.sock '\\''${JSON.stringify(doing)}'\\''`;
  await rootOutput(
    `touch ${out}; chown other ${out}; su other -c '${words} > ${out} 2>&1 < /dev/null & echo $!' > ${out}.pid`,
  );
  const shell = Number(await rootOutput(`cat ${out}.pid`));
  t.after(() => asRoot(`kill ${shell}`));
  const says = async (pattern: string): Promise<void> => {
    const found = await asRoot(
      `timeout 60 sh -c 'until grep -q "${pattern}" ${out}; do usleep 50000; done'; cat ${out}`,
    );
    assert.match(found.stdout, new RegExp(pattern, "m"));
  };
  await says("^ready");
  return { pid: shell, says, [Symbol.asyncDispose]: async () => void (await asRoot(`kill ${shell}`)) };
}

/** The platform's error, the stages of the way back with the vote at each, and the function works on. */
function recovers(error: string, ...stages: readonly (readonly [kind: NoticeKind, vote: ErrorVote])[]): void {
  const way = stages.map(([kind, vote]) => `${kind} (${vote})`).join(", ");
  test(`the platform's error ${error}: ${way}`, async (t) => {
    let stage = 0;
    const { fn, heard, hears, replied } = await own(t, (user, { notice }) => {
      const vote = stages[stage++]?.[1];
      return vote === undefined ? undefined : user.reply(notice, vote, "my queues");
    });
    await monitor(`pcie_aer_inject_error ${FUNCTIONS.virtioBlk.id} ${error}`);
    for (const [kind, vote] of stages) {
      const mine = `${vote} from process ${process.pid} of uid 1000`;
      await service.says(new RegExp(`block: notice .*${kind}.*outcome ${vote}; ${mine}`));
    }
    await Promise.all(replied);
    await hears("error-resume");
    assert.deepEqual(heard, [...stages.map(([kind]) => kind), "error-resume"]);
    assert.equal(fn.config.read16(0), fn.identity.vendorId);
  });
}

recovers("COMP_TIME", ["error-detected", "need-reset"], ["slot-reset", "recovered"]);
recovers("COMP_TIME", ["error-detected", "can-recover"], ["mmio-enabled", "recovered"]);
// A fatal error: the kernel resets the link, and errors after it are reported all the same.
recovers("DLP", ["error-detected", "need-reset"], ["link-reset", "can-recover"], ["slot-reset", "recovered"]);
recovers("DLP", ["error-detected", "can-recover"], ["link-reset", "recovered"]);
recovers(
  "COMP_TIME",
  ["error-detected", "need-reset"],
  ["slot-reset", "need-reset"],
  // Its own reset was not enough: the bus is reset.
  ["link-reset", "can-recover"],
  ["slot-reset", "recovered"],
);

test("silence at an error is no opinion, and is named", async (t) => {
  await own(t, () => undefined);
  await monitor(`pcie_aer_inject_error ${FUNCTIONS.virtioBlk.id} COMP_TIME`);
  await service.says(new RegExp(`error-detected.*outcome none; no answer: process ${process.pid} of uid 1000`));
});

test("a user that cannot go on after an error is disconnected", async (t) => {
  const { fn } = await own(t, (user, { notice, kind }) =>
    kind === "error-detected" ? user.reply(notice, "disconnect") : undefined,
  );
  const gone = new Promise<void>((resolve) => fn.gone.addEventListener("abort", () => resolve()));
  await monitor(`pcie_aer_inject_error ${FUNCTIONS.virtioBlk.id} COMP_TIME`);
  await service.says(/error-detected.*outcome disconnect/);
  await gone;
  await service.says(/block: closed/);
});

test("both users consent to a sleep; afterwards both hear that it is over", async (t) => {
  const second = await other(t, "edu", { suspend: "consent", "power-resume": "" });
  const { heard } = await own(t, (user, { notice, kind }) =>
    kind === "suspend" ? user.reply(notice, "consent") : undefined,
  );
  await logind.until((modes) => String(modes) === "delay");
  logind.prepareForSleep(true);
  await service.says(/notice suspend, outcome allowed/);
  await logind.until((modes) => modes.length === 0);
  logind.prepareForSleep(false);
  await second.says("heard power-resume");
  await logind.until((modes) => String(modes) === "delay");
  assert.equal(heard[0], "suspend");
});

test("one refusal vetoes a sleep, and whoever refused is named", async (t) => {
  const second = await other(t, "edu", { suspend: "refuse", "power-resume": "" });
  await own(t, (user, { notice, kind }) => (kind === "suspend" ? user.reply(notice, "consent") : undefined));
  await logind.until((modes) => String(modes) === "delay");
  logind.prepareForSleep(true);
  await service.says(/outcome vetoed; refused by process \d+ of uid 1001 at edu \(because\)/);
  await second.says("heard power-resume");
  logind.prepareForSleep(false);
});

test("silence vetoes a sleep after 5 s, and whoever was silent is named", async (t) => {
  await other(t, "edu", { suspend: "" });
  await own(t, (user, { notice, kind }) => (kind === "suspend" ? user.reply(notice, "consent") : undefined));
  await logind.until((modes) => String(modes) === "delay");
  logind.prepareForSleep(true);
  await service.says(/outcome vetoed; no answer: process \d+ of uid 1001 at edu/);
  logind.prepareForSleep(false);
});

test("a user that is not registered for it forbids sleep beforehand, as long as it has its function", async (t) => {
  const second = await other(t, "edu", { remove: "" });
  await logind.until((modes) => String(modes) === "block,delay");
  const [block] = Array.from(logind.locks).filter(({ mode }) => mode === "block");
  assert.match(block?.why ?? "", /^process \d+ drives edu and cannot be asked$/);
  await second[Symbol.asyncDispose]();
  await logind.until((modes) => String(modes) === "delay");
});

test("unplugged: the user is told, lets go, and the machine has it long before the grace time is over", async (t) => {
  await qmp("device_add", { driver: "edu", bus: slot.port, id: "plugged" });
  await awaitFunction(slot.address, true);
  await service.says(/plugged: ready/);
  const user = await other(t, "plugged", { remove: "close" });
  await qmp("device_del", { id: "plugged" });
  await user.says("heard remove");
  await service.says(/plugged: notice .*remove.*outcome closed by all users/);
  await awaitFunction(slot.address, false);
  await service.says(/plugged: removed/);
});

test("unplugged: from a user that stays it is taken when the grace time is over", async (t) => {
  await qmp("device_add", { driver: "edu", bus: HOTPLUG[1].port, id: "forced" });
  await awaitFunction(HOTPLUG[1].address, true);
  await service.says(/forced: ready/);
  const user = await other(t, "forced", { remove: "" });
  await qmp("device_del", { id: "forced" });
  await user.says("heard remove");
  await service.says(/forced: notice .*remove.*outcome taken by force: process \d+ of uid 1001 at forced/);
  await user.says("^gone");
  await awaitFunction(HOTPLUG[1].address, false);
});
