// What the administrator of a running ring3d sees of a function, by its control socket, its metrics, and the machine.
import { readdirSync } from "node:fs";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { ControlClient } from "../../../packages/cli/src/ring3d/control-client.ts";
import type { ControlRequest } from "../../../packages/cli/src/ring3d/control-protocol.ts";
import type { FunctionStatus } from "../../../packages/cli/src/ring3d/service-interface.ts";
import type { OwnerView } from "./attack.ts";

const PATIENCE_MS = 60_000;

export interface ServicePlace {
  readonly control: string;
  readonly metrics: string;
  readonly pid: number;
}

export class ServiceOwner {
  readonly #place: ServicePlace;

  constructor(place: ServicePlace) {
    this.#place = place;
  }

  async view(name: string): Promise<Omit<OwnerView, "config" | "tableEntry">> {
    const { functions } = await this.#ask<{ functions: readonly FunctionStatus[] }>({ request: "status" });
    const status = functions.find((fn) => fn.name === name);
    if (status === undefined) throw new Error(`the service has no function ${name}`);
    const { state, reason, lockedBytes, statistics } = status;
    return {
      state,
      reason,
      lockedBytes,
      maps: statistics?.dmaMaps ?? 0,
      hits: await this.#hits(name),
      descriptors: readdirSync(`/proc/${this.#place.pid}/fd`).length,
    };
  }

  async kick(name: string): Promise<void> {
    await this.#ask({ request: "kick", function: name, reason: "the test wants it" });
  }

  /** By a connection for each: one that says nothing for a while is hung up on. */
  async #ask<Answer>(request: ControlRequest): Promise<Answer> {
    using client = await ControlClient.connect(this.#place.control, AbortSignal.timeout(PATIENCE_MS));
    return await client.ask<Answer>(request);
  }

  async #hits(name: string): Promise<Readonly<Record<string, number>>> {
    // Saying at once that nothing will be asked: the server would wait a moment for that.
    const all = await text(connect({ path: this.#place.metrics, allowHalfOpen: true }).end());
    const lines = all.matchAll(/^ring3d_rule_hits_total\{(.*)\} (\d+)$/gm);
    const found = Array.from(lines).flatMap(([, labels = "", count]) => {
      const values = Object.fromEntries(
        Array.from(labels.matchAll(/(\w+)="([^"]*)"/g), ([, key, value]) => [key, value]),
      );
      return values["function"] === name ? [[values["rule"], Number(count)] as const] : [];
    });
    return Object.fromEntries(found);
  }
}
