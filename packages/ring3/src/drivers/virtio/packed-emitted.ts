// A packed virtqueue in emitted loops; packed-ring.ts has the reference.
import { DESCRIPTOR_BYTES, DescriptorFlag, DescriptorWord, EVENT_WRAP, EventFlags } from "../../specs/virtio/rings.ts";
import { word } from "../net/emitted-words.ts";
import { FIRST_TURN, OWNERS, packedAreas } from "./packed-ring.ts";
import { type RingPlace, RingWord } from "./queue-place.ts";
import { accept, identify, passed, type RingCode, ringWord, wanted } from "./ring-emitted.ts";

const SHIFT = Math.log2(DESCRIPTOR_BYTES);
const FLAGS_SHIFT = 16;

/** `writes`: whether the device writes to the buffers. */
export function packedCode(place: RingPlace, writes: boolean): RingCode {
  const { size, memory } = place;
  const deviceEvent = memory + packedAreas(size).device;
  const flags = writes ? DescriptorFlag.WRITE << FLAGS_SHIFT : 0;
  return {
    load(body, { free, next, taken, seen, turn, limit, fresh }) {
      body.set(free, body.own32(ringWord(place, RingWord.FREE)));
      body.set(next, body.own32(ringWord(place, RingWord.NEXT)));
      body.set(taken, body.own32(ringWord(place, RingWord.TAKEN)));
      body.set(turn, body.own32(ringWord(place, RingWord.NEXT_TURN)));
      body.set(seen, body.own32(ringWord(place, RingWord.TAKEN_TURN)));
      if (writes) body.set(limit, body.own32(ringWord(place, RingWord.LIMIT)));
      body.set(fresh, 0);
    },
    fetch() {
      // Measured: it gains nothing, where the driver has just read what lies beside.
    },
    store(body, { free, next, taken, seen, turn }) {
      body.store32(ringWord(place, RingWord.FREE), free);
      body.store32(ringWord(place, RingWord.NEXT), next);
      body.store32(ringWord(place, RingWord.TAKEN), taken);
      body.store32(ringWord(place, RingWord.NEXT_TURN), turn);
      body.store32(ringWord(place, RingWord.TAKEN_TURN), seen);
    },
    take(body, ring, loop) {
      const { free, taken, seen, at, id, length, entry } = ring;
      body.leave(loop, free.eq(size));
      body.set(at, taken.shl(SHIFT).add(memory));
      if (writes) {
        // The word that says that the others are written, and in the same access the one with the length.
        body.set(entry, body.load64(at, word(DescriptorWord.LENGTH)));
        body.set(id, entry.shr(32).low());
        body.set(length, entry.low());
      } else body.set(id, body.load32(at, word(DescriptorWord.LAST)));
      body.leave(loop, id.and(OWNERS).ne(seen));
      body.set(id, id.and(0xffff));
      accept(body, place, writes, ring, () => body.leave(loop));
      body.set(taken, taken.add(1));
      body.if(taken.eq(size), () => {
        body.set(taken, 0);
        body.set(seen, seen.xor(OWNERS));
      });
    },
    put(body, ring, iova, length) {
      const { id, at, next, turn, fresh, firstAt, firstWord } = ring;
      identify(body, place, ring);
      body.set(at, next.shl(SHIFT).add(memory));
      body.store64(at, iova, word(DescriptorWord.ADDRESS_LOW));
      const last = id.or(turn).or(flags);
      body.if(
        fresh,
        () => body.store64(at, length.wide().or(last.wide().shl(32)), word(DescriptorWord.LENGTH)),
        () => {
          body.store32(at, length, word(DescriptorWord.LENGTH));
          body.set(firstAt, at);
          body.set(firstWord, last);
        },
      );
      body.set(fresh, fresh.add(1));
      body.set(next, next.add(1));
      body.if(next.eq(size), () => {
        body.set(next, 0);
        body.set(turn, turn.xor(OWNERS));
      });
    },
    publish(body, ring) {
      const { fresh, firstAt, firstWord, turn, event, id } = ring;
      body.if(fresh, () => {
        body.publish32(firstAt, firstWord, word(DescriptorWord.LAST));
        body.set(event, body.load32(deviceEvent));
        body.set(id, event.shr(FLAGS_SHIFT).and(3));
        const asksForOne = id.eq(EventFlags.DESCRIPTOR);
        body.if(
          asksForOne.and(body.own32(ringWord(place, RingWord.EVENT_INDEX))),
          () => {
            // Counted from this round's start, so that the last round's offsets are negative.
            const otherRound = event.shr(Math.log2(EVENT_WRAP)).and(1).xor(turn.eq(FIRST_TURN));
            body.set(event, event.and(EVENT_WRAP - 1).sub(otherRound.mul(size)));
            body.if(passed(event, ring), () => wanted(body, place));
          },
          () => body.if(id.ne(EventFlags.DISABLE), () => wanted(body, place)),
        );
      });
    },
  };
}
