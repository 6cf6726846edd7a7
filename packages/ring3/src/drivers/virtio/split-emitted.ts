// A split virtqueue in emitted loops; split-ring.ts has the reference.
import {
  AvailHalfword,
  DESCRIPTOR_BYTES,
  DescriptorFlag,
  DescriptorWord,
  UsedHalfword,
  UsedWord,
} from "../../specs/virtio/rings.ts";
import { word } from "../net/emitted-words.ts";
import { type RingPlace, RingWord } from "./queue-place.ts";
import { accept, identify, passed, type RingCode, refuseIndex, ringWord, wanted } from "./ring-emitted.ts";
import { splitAreas, USED_NO_NOTIFY } from "./split-ring.ts";

const SHIFT = Math.log2(DESCRIPTOR_BYTES);
/** Of the available ring, from where a burst begins to what it fetches early. */
const ENTRIES_AHEAD = 7;
const half = (index: number): number => 2 * index;

/** `writes`: whether the device writes to the buffers. */
export function splitCode(place: RingPlace, writes: boolean): RingCode {
  const { size, memory } = place;
  const areas = splitAreas(size);
  const [avail, used] = [memory + areas.avail, memory + areas.used];
  const usedRing = used + word(UsedWord.RING);
  /** The last word of a descriptor, as the upper half of 64 bits. */
  const last = writes ? DescriptorFlag.WRITE * 2 ** 32 : 0;
  return {
    load(body, { free, next, taken, seen, limit, fresh }) {
      body.set(free, body.own32(ringWord(place, RingWord.FREE)));
      body.set(next, body.own32(ringWord(place, RingWord.NEXT)));
      body.set(taken, body.own32(ringWord(place, RingWord.TAKEN)));
      body.set(seen, body.own32(ringWord(place, RingWord.SEEN)));
      if (writes) body.set(limit, body.own32(ringWord(place, RingWord.LIMIT)));
      body.set(fresh, 0);
    },
    fetch(body, { next }) {
      const entry = next
        .add(ENTRIES_AHEAD)
        .and(size - 1)
        .shl(1)
        .add(avail);
      body.store16(entry, body.load16(entry, half(AvailHalfword.RING)), half(AvailHalfword.RING));
    },
    store(body, { free, next, taken, seen }) {
      body.store32(ringWord(place, RingWord.FREE), free);
      body.store32(ringWord(place, RingWord.NEXT), next);
      body.store32(ringWord(place, RingWord.TAKEN), taken);
      body.store32(ringWord(place, RingWord.SEEN), seen);
    },
    take(body, ring, loop) {
      const { taken, seen, free, id, at, length } = ring;
      body.if(taken.eq(seen), () => {
        body.set(id, body.load16(used, half(UsedHalfword.INDEX)));
        body.set(length, id.sub(taken).and(0xffff));
        // More than the device has.
        body.if(length.add(free).gt(size), () => {
          refuseIndex(body, place, ring, length);
          body.leave(loop);
        });
        body.set(seen, id);
        body.leave(loop, length.not());
      });
      body.set(
        at,
        taken
          .and(size - 1)
          .shl(Math.log2(word(UsedWord.ENTRY)))
          .add(usedRing),
      );
      body.set(id, body.load32(at, word(UsedWord.ID)));
      if (writes) body.set(length, body.load32(at, word(UsedWord.LENGTH)));
      accept(body, place, writes, ring, () => {
        body.set(seen, taken);
        body.leave(loop);
      });
      // Fetched for the next `put`: these are the flags that the descriptor has had all along.
      body.store32(id.shl(SHIFT).add(memory), writes ? DescriptorFlag.WRITE : 0, word(DescriptorWord.LAST));
      body.set(taken, taken.add(1).and(0xffff));
    },
    put(body, ring, iova, length) {
      const { id, at, next, fresh } = ring;
      identify(body, place, ring);
      body.set(at, id.shl(SHIFT).add(memory));
      body.store64(at, iova, word(DescriptorWord.ADDRESS_LOW));
      body.store64(at, length.wide().or(last), word(DescriptorWord.LENGTH));
      body.store16(
        next
          .and(size - 1)
          .shl(1)
          .add(avail),
        id,
        half(AvailHalfword.RING),
      );
      body.set(next, next.add(1).and(0xffff));
      body.set(fresh, fresh.add(1));
    },
    publish(body, ring) {
      const { fresh, next, event } = ring;
      body.if(fresh, () => {
        body.publish16(avail, next, half(AvailHalfword.INDEX));
        body.if(
          body.own32(ringWord(place, RingWord.EVENT_INDEX)),
          () => {
            body.set(event, body.load16(usedRing + word(UsedWord.ENTRY) * size));
            body.if(passed(event, ring), () => wanted(body, place));
          },
          () => {
            const flags = body.load16(used, half(UsedHalfword.FLAGS));
            body.if(flags.and(USED_NO_NOTIFY).not(), () => wanted(body, place));
          },
        );
      });
    },
  };
}
