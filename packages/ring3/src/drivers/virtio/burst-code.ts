// The bursts of a pair of virtqueues as code for emitted functions.
import type { BurstCode } from "../net/burst-emitted.ts";
import { packedCode } from "./packed-emitted.ts";
import type { RingPlace, VirtioQueuePlace } from "./queue-place.ts";
import { RECEIVING, type Receiving, receive } from "./receive-emitted.ts";
import type { RingCode } from "./ring-emitted.ts";
import { splitCode } from "./split-emitted.ts";
import { prepare, SENDING, type Sending, transmit } from "./transmit-emitted.ts";

export function virtioBurstCode(place: VirtioQueuePlace): BurstCode {
  const receiving = ringCode(place.receive, true);
  const sending = ringCode(place.transmit, false);
  return {
    pool: place.pool,
    receiving: RECEIVING,
    sending: SENDING,
    receive: (body, locals) => receive(body, place, receiving, locals as Receiving),
    prepare: (body, locals) => prepare(body, place, sending, locals as Sending),
    transmit: (body, locals) => transmit(body, place, sending, locals as Sending),
  };
}

function ringCode(place: RingPlace, deviceWrites: boolean): RingCode {
  return place.kind === "packed" ? packedCode(place, deviceWrites) : splitCode(place, deviceWrites);
}
