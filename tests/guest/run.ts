// The bridge from suites in the guest to ordinary node:test results: one guest for all suites of a kernel and machine,
// booted anew when a suite breaks it, and every test inside reported under its own name on the host.
import { type TestContext, test } from "node:test";
import { messageOf } from "ring3/binary";
import { GuestUnavailable } from "./cache.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { iommufdKernel, type KernelName, NO_IOMMUFD_KERNEL } from "./kernels.ts";
import { HOTPLUG, VARIATIONS, type VariationName } from "./machine.ts";
import { GROUPS, packageRoot } from "./packages.ts";
import { Replay } from "./replay.ts";
import { findSuites, type Suite } from "./suites.ts";

/** Registers the suites for one kernel with node:test. */
export function runGuestSuites(kernel: KernelName): void {
  const suites = findSuites().filter(({ kernels }) => kernels.includes(kernel));
  for (const [machine, group] of Map.groupBy(suites, (suite) => suite.machine)) {
    const name = `guest, ${kernel} kernel, ${machine} machine`;
    const skip = kernel === "iommufd" && iommufdKernel() === undefined ? NO_IOMMUFD_KERNEL : false;
    void test(name, { skip }, (context) => runGroup(context, kernel, machine, group));
  }
}

async function runGroup(
  context: TestContext,
  kernel: KernelName,
  machine: VariationName,
  suites: readonly Suite[],
): Promise<void> {
  const boot = (): Promise<Guest> =>
    bootGuest({ kernel, machine: VARIATIONS[machine], progress: (line) => context.diagnostic(line) });
  let guest: Guest;
  try {
    guest = await boot();
  } catch (error) {
    if (error instanceof GuestUnavailable) return context.skip(error.message);
    throw error;
  }
  try {
    context.diagnostic(`Linux ${guest.release}, up after ${(guest.bootTimes.readyMs / 1000).toFixed(1)} s`);
    let spoiled = false;
    for (const suite of suites) {
      const fresh = !spoiled && (await isUsable(guest));
      spoiled = suite.spoils;
      if (!fresh) {
        await guest[Symbol.asyncDispose]();
        guest = await boot();
      }
      await context.test(suite.name, async (inner) => {
        if (await hasPackages(inner, guest, suite)) await runSuite(inner, guest, kernel, suite);
      });
    }
  } finally {
    await guest[Symbol.asyncDispose]();
  }
}

/** Puts the packages that a suite wants into the guest's share; skips it where they cannot be had. */
async function hasPackages(context: TestContext, guest: Guest, { packages }: Suite): Promise<boolean> {
  try {
    for (const name of packages) {
      await guest.share(name, await packageRoot(GROUPS[name], (line) => context.diagnostic(line)));
    }
    return true;
  } catch (error) {
    if (!(error instanceof GuestUnavailable)) throw error;
    context.skip(error.message);
    return false;
  }
}

/** Whether the guest is as it was after boot: alive, with all functions there and bound, and nothing in ports for hotplug. */
async function isUsable(guest: Guest): Promise<boolean> {
  try {
    await guest.bindStandard();
    const places = HOTPLUG.map(({ address }) => `/sys/bus/pci/devices/${address}`);
    const { stdout } = await guest.run(["sh", "-c", `ls -d ${places.join(" ")} 2> /dev/null`], { timeoutMs: 60_000 });
    return stdout === "";
  } catch {
    return false;
  }
}

/** Runs one file of tests in the guest and reports them as subtests of `context`. */
export async function runSuite(
  context: TestContext,
  guest: Guest,
  kernel: KernelName,
  suite: Pick<Suite, "name" | "path" | "timeoutMs">,
): Promise<void> {
  const replay = new Replay(context);
  const reporter = [
    "--import=/ring3/tests/guest/preload.js",
    "--test-reporter=/ring3/tests/guest/reporter.js",
    "--test-reporter-destination=stdout",
  ];
  let stderr = "";
  const ended = guest.run(["node", ...reporter, suite.path], {
    cwd: "/ring3",
    env: {
      RING3_GUEST: kernel,
      RING3_GUEST_FULL: process.env["RING3_GUEST_FULL"] ?? "",
      // Without KVM half of what a process does until its first test is compiling, the same in each.
      NODE_COMPILE_CACHE: "/tmp/compiled",
    },
    timeoutMs: suite.timeoutMs,
    onOutput: (text, stream) => {
      if (stream === "stdout") replay.push(text);
      else stderr += text;
    },
  });
  let reason: string;
  try {
    const { code, signal, timedOut } = await ended;
    const time = `${suite.timeoutMs / 1000} s`;
    reason = timedOut ? `killed after ${time}` : signal === null ? `exit code ${code}` : `killed by ${signal}`;
    if (code === 0 && replay.counts.ended > 0) return await replay.finish("it never reported its end");
    if (code === 0) reason = "ended without a single test";
    else if (code !== 1 && replay.entered !== "") reason += ` in "${replay.entered}"`;
  } catch (error) {
    reason = messageOf(error);
  }
  const failedByItself = replay.counts.failed > 0 && reason === "exit code 1";
  await replay.finish(`the test process: ${reason}`);
  const story = [replay.output, stderr].filter((text) => text.trim() !== "").join("\n");
  if (failedByItself) {
    if (story !== "") context.diagnostic(story);
    return;
  }
  throw new Error(`${suite.name}: the test process: ${reason}\n${story}\n${guest.consoleTail()}`);
}
