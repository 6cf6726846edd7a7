// The bursts of a gigabit queue as code for emitted functions.
import type { BurstCode } from "../net/burst-emitted.ts";
import type { QueuePlace } from "./queue-place.ts";
import { RECEIVING, type Receiving, receive } from "./receive-emitted.ts";
import { cleanUp, load, room, SENDING, type Sending, transmit } from "./transmit-emitted.ts";

/** `receiveTail` and `transmitTail`: arena offsets of the tail registers. */
export function gigabitBurstCode(place: QueuePlace, receiveTail: number, transmitTail: number): BurstCode {
  return {
    pool: place.pool,
    receiving: RECEIVING,
    sending: SENDING,
    receive: (body, locals) => receive(body, place, receiveTail, locals as Receiving),
    prepare: (body, locals) => {
      const sending = locals as Sending;
      load(body, place, sending);
      body.if(sending.free.lt(place.entries / 2), () => {
        cleanUp(body, place, sending);
        room(body, place, sending);
      });
    },
    transmit: (body, locals) => transmit(body, place, transmitTail, locals as Sending),
  };
}
