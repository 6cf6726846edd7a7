// What every command of `ring3 ctl` has: the socket where the service is, and its words for who has a function.
import type { Context } from "../../context.ts";
import type { ControlClient } from "../../ring3d/control-client.ts";
import { DEFAULT_CONTROL_PATH, type NamedSession } from "../../ring3d/control-protocol.ts";

export const SERVICE_OPTIONS: {
  readonly socket: {
    readonly kind: "text";
    readonly short: string;
    readonly value: string;
    readonly description: string;
  };
} = {
  socket: {
    kind: "text",
    short: "s",
    value: "PATH",
    description: `control socket of the service; ${DEFAULT_CONTROL_PATH} by default`,
  },
};

export const FUNCTION_NAME = "as the configuration calls it";

/** Connects to the service; whoever gets the client disposes it. */
export async function connectService(socket: string | undefined, context: Context): Promise<ControlClient> {
  const { ControlClient: Client } = await import("../../ring3d/control-client.ts");
  return await Client.connect(socket ?? DEFAULT_CONTROL_PATH, context.signal);
}

/** `alice (pid 4711)`, or `uid 1000 (pid 4711)` for one without a name. */
export function personText({
  user,
  uid,
  pid,
}: Pick<NamedSession, "uid" | "pid"> & { user?: string | null | undefined }): string {
  return `${user ?? `uid ${uid}`} (pid ${pid})`;
}
