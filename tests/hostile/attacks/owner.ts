// What the owner of the attacked function comes to see. Hard about it: a service does what a user caused after the user was answered.
import assert from "node:assert/strict";
import { turn } from "../../../packages/ring3/src/vfio-user/fake-client.ts";
import type { OwnerView, Scene } from "./attack.ts";
import { PATIENCE_MS } from "./wire.ts";

/** What the owner sees, once it sees that. */
export async function seen(scene: Scene, wanted: (view: OwnerView) => boolean): Promise<OwnerView> {
  for (const until = performance.now() + PATIENCE_MS; ; await turn()) {
    const now = await scene.view();
    if (wanted(now)) return now;
    assert.ok(performance.now() < until, `the service never comes to it: ${JSON.stringify({ ...now, config: [] })}`);
  }
}

/** Waits until the service has no more descriptors than `before`; it opens and closes some of its own all the while. */
export async function descriptorsReturn(scene: Scene, before: number): Promise<void> {
  await seen(scene, ({ descriptors }) => descriptors <= before);
}
