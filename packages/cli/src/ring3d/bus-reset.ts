// A reset of a whole bus for one of its functions. Hard about it: it takes down what is somebody else's, so that its users go
// through the stages of an error, too, and every function is stopped before the reset and shows one afterwards.
import { type ResetMethod, Ring3Error } from "ring3";
import type { Hardware } from "./function-needs.ts";
import type { FunctionNotices } from "./function-notices.ts";
import type { ServedFunction } from "./served-function.ts";

/** A function of the service, as its neighbours on a bus see it. */
export interface BusMember {
  readonly address: string;
  /** What is served of it now. */
  readonly served: ServedFunction | undefined;
  readonly notices: FunctionNotices;
}

/**
 * Resets the bus of `asking`, and with it its link. Resolves once that function has been reset; its neighbours' users are told
 * before, and go on at their own pace. Throws `NOT_SUPPORTED` where the bus cannot be reset, and `BUS_SHARED` where
 * somebody on it is not served by this service.
 */
export async function resetBus(
  asking: BusMember,
  members: Iterable<BusMember>,
  hardware: Hardware,
  reason: string,
): Promise<ResetMethod> {
  const { address, served } = asking;
  const addresses = served === undefined ? undefined : hardware.sharedBus(served.real);
  if (served === undefined || addresses === undefined) {
    throw new Ring3Error("NOT_SUPPORTED", `the bus of ${address} cannot be reset`);
  }
  const all = [...members];
  const neighbours = addresses
    .filter((one) => one !== address)
    .map((one) => {
      const member = all.find((other) => other.address === one);
      if (member?.served === undefined) {
        throw new Ring3Error("BUS_SHARED", `${one} is on the bus of ${address} and not served: it would be reset, too`);
      }
      return { notices: member.notices, served: member.served };
    });
  const description = `the bus of ${address} is reset: ${reason}`;
  await Promise.all(neighbours.map(({ notices }) => notices.beforeBusReset(description)));
  const reset = Promise.withResolvers<ResetMethod>();
  const own = served.mediated.resetBy(() => reset.promise);
  for (const { notices, served: neighbour } of neighbours) {
    // It is stopped already: where the bus is not reset after all, it is reset alone.
    const settled = neighbour.mediated.resetBy(() => reset.promise.catch(() => neighbour.real.reset()));
    void notices.afterBusReset(settled, description);
  }
  const others = neighbours.map(({ served: neighbour }) => neighbour.real);
  hardware.resetBus(served.real, others).then(reset.resolve, reset.reject);
  return await own;
}
