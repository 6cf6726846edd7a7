// The controller over a file: what is reported is in the file, a flush is waited for, and what a file cannot do has its
// status. A full disk is a small tmpfs or, without the right to mount one, left out.
// seconds: 1
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { NvmeDriver } from "../../drivers/nvme/index.ts";
import { fileBacking } from "../../linux/file-backing.ts";
import { inProcess } from "../../virtual/in-process.ts";
import { NvmeDevice } from "./index.ts";

const MIB = 2 ** 20;
const [MOUNT, UNMOUNT] = ["/bin/mount", "/bin/umount"];

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "ring3-nvme-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function over(
  path: string,
  body: (nvme: NvmeDriver) => Promise<void>,
  options: { readonly readOnly?: boolean; readonly createBytes?: number; readonly blockSize?: 512 | 4096 } = {},
): Promise<void> {
  const { blockSize, ...how } = options;
  await using backing = fileBacking(path, how);
  const device = new NvmeDevice({ namespaces: [{ backing, ...(blockSize && { blockSize }) }] });
  await using fn = inProcess(device);
  await using nvme = await NvmeDriver.start(fn);
  await body(nvme);
}

for (const dataPointers of ["aligned", "scattered"] as const) {
  test(`what a write reported is in the file at once (${dataPointers} memory)`, async (t) => {
    const path = join(folder(t), "disk.img");
    await over(
      path,
      async (nvme) => {
        const namespace = nvme.namespace(1);
        const buffer = nvme.allocate(MIB);
        for (const [lba, count] of [
          [0, 1],
          [7, 16],
          [100, 512],
        ] as const) {
          const offset = dataPointers === "aligned" ? 0 : 512;
          for (let i = 0; i < count * 512; i++) buffer.bytes[offset + i] = lba + i * 3;
          await namespace.writeFrom(buffer, lba, count, offset);
          const expected = buffer.bytes.slice(offset, offset + count * 512);
          assert.ok(
            readFileSync(path)
              .subarray(lba * 512, (lba + count) * 512)
              .equals(expected),
          );
          buffer.bytes.fill(0);
          await namespace.readInto(buffer, lba, count, offset);
          assert.ok(Buffer.from(buffer.bytes.subarray(offset, offset + count * 512)).equals(expected));
        }
        await namespace.write(0n, new Uint8Array(512).fill(1), { forceUnitAccess: true });
        await namespace.flush();
        await namespace.writeZeroes(100, 512);
        assert.ok(
          readFileSync(path)
            .subarray(51_200, 51_200 + 512 * 512)
            .every((byte) => byte === 0),
        );
      },
      { createBytes: MIB },
    );
  });
}

test("a sparse file stays sparse, and deallocated blocks are given back", async (t) => {
  const path = join(folder(t), "disk.img");
  await over(
    path,
    async (nvme) => {
      const namespace = nvme.namespace(1);
      assert.equal(namespace.blocks, 2n ** 28n);
      await namespace.write(2n ** 28n - 8n, new Uint8Array(8 * 4096).fill(9));
      assert.equal((await namespace.read(2n ** 27n, 1))[0], 0);
      await namespace.flush();
      assert.ok(statSync(path).blocks < 1000);
      await namespace.deallocate([{ first: 0, count: 2 ** 28 }]);
      assert.equal((await namespace.read(2n ** 28n - 1n, 1))[0], 0);
    },
    { createBytes: 2 ** 40, blockSize: 4096 },
  );
});

test("a file that is no multiple of a block, read only, and shortened behind our back", async (t) => {
  const path = join(folder(t), "disk.img");
  writeFileSync(path, new Uint8Array(10_000).fill(4));
  await over(
    path,
    async (nvme) => {
      const namespace = nvme.namespace(1);
      assert.equal(namespace.blocks, 19n);
      assert.equal((await namespace.read(18n, 1))[511], 4);
      await assert.rejects(namespace.write(0n, new Uint8Array(512)), /NAMESPACE_WRITE_PROTECTED/);
      await assert.rejects(namespace.deallocate([{ first: 0, count: 1 }]), /NAMESPACE_WRITE_PROTECTED/);
      await namespace.flush();
      const fd = openSync(path, "r+");
      ftruncateSync(fd, 4096);
      closeSync(fd);
      await assert.rejects(namespace.read(18n, 1), /UNRECOVERED_READ/);
      assert.equal((await namespace.read(0n, 1))[0], 4);
    },
    { readOnly: true },
  );
});

test("a full disk", async (t) => {
  const path = folder(t);
  try {
    execFileSync(MOUNT, ["-t", "tmpfs", "-o", "size=1m", "ring3-test", path], { stdio: "ignore" });
  } catch {
    t.skip("only root may mount a small file system");
    return;
  }
  using _mounted = { [Symbol.dispose]: () => execFileSync(UNMOUNT, [path]) };
  await over(
    join(path, "disk.img"),
    async (nvme) => {
      const namespace = nvme.namespace(1);
      const failures: string[] = [];
      for (let i = 0; i < 8; i++) {
        await namespace
          .write(i * 512, new Uint8Array(MIB / 4).fill(7))
          .catch((error: unknown) => failures.push(String(error)));
      }
      assert.ok(failures.length >= 4);
      for (const failure of failures) assert.match(failure, /CAPACITY_EXCEEDED/);
      assert.equal((await namespace.read(0, 1))[0], 7, "what was there is there");
    },
    { createBytes: 4 * MIB },
  );
});
