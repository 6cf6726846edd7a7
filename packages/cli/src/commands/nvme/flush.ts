// ring3 nvme flush: makes durable what was written.
import { type Command, command } from "../../command.ts";
import { OPEN_OPTIONS } from "../../open-function.ts";
import { CONTROLLER, NAMESPACE_OPTION, startNvme } from "./session.ts";

export const flush: Command = command({
  summary: "make everything durable that was written to a namespace",
  operands: [CONTROLLER],
  options: { ...NAMESPACE_OPTION, ...OPEN_OPTIONS },
  examples: [{ command: "ring3 nvme flush 01:00.0 --namespace 1", text: "empty the volatile write cache" }],
  run: async ({ operands, options }, context) => {
    await using session = await startNvme(operands[0] ?? "", options, context);
    const namespace = session.driver.namespace(Number(options.namespace));
    const start = performance.now();
    await context.unlessAborted(namespace.flush());
    const tookMs = performance.now() - start;
    context.result({ address: session.address, namespace: namespace.id, tookMs }, () => {
      return `namespace ${namespace.id} of ${session.address} is flushed (${tookMs.toFixed(1)} ms)`;
    });
  },
});
