// The audit log of the service: a line of JSON for each of its events, as docs/ring3d-audit.schema.json says. A full disk costs
// lines, which are counted and told of, never the service.
import type { Writable } from "node:stream";
import { userName } from "ring3/host";
import { openEventLog } from "../serve/event-log.ts";
import { type EventLinesOptions, eventLines } from "./event-lines.ts";
import type { Service } from "./service-interface.ts";

export interface AuditLogOptions extends Partial<EventLinesOptions> {
  readonly stderr: Writable;
  readonly now?: () => Date;
}

/** What a rotation causes. */
const RELOADS: ReadonlySet<string> = new Set(["reloaded", "reload-refused"]);

/**
 * Appends the events of `service` to the file `target` (`-` is `stderr`) until disposed: of each function and kind a hundred
 * at once, then one a second, and how many were left out. When the service was told to reload, by SIGHUP or by an
 * administrator, the file is opened anew: a rotation renames it and then has the service reload. Throws where the file cannot
 * be opened.
 */
export function openAuditLog(
  service: Pick<Service, "functions" | "on">,
  target: string,
  { stderr, now, nameOf = userName, budget }: AuditLogOptions,
): Disposable {
  const resources = new DisposableStack();
  const log = resources.use(openEventLog(target, stderr, now));
  // In front of the lines, so that the line about the reload is in the new file.
  resources.use(
    service.on(({ type }) => {
      if (RELOADS.has(type)) log.reopen();
    }),
  );
  resources.use(eventLines(service, (event, facts) => log.write(event, facts), { nameOf, budget }));
  return resources;
}
