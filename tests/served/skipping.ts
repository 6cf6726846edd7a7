// Tests that need a guest skip, with the reason, where this machine cannot have one; everything else is a failure.
import type { TestContext } from "node:test";
import { GuestUnavailable } from "../guest/cache.ts";

export async function skipping(t: TestContext, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    if (!(error instanceof GuestUnavailable)) throw error;
    t.skip(error.message);
  }
}
