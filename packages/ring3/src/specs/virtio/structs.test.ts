import assert from "node:assert/strict";
import test from "node:test";
import {
  availBytes,
  BlockConfig,
  BlockFeature,
  BlockRange,
  BlockRequestHeader,
  eventPassed,
  Feature,
  FeatureSet,
  NET_FEATURE_NEEDS,
  NetConfig,
  NetFeature,
  NetHeader,
  usedBytes,
  VIRTIO_COMMON_SIZE,
  VirtioCommon,
} from "./index.ts";

test("structures lie as include/uapi/linux/virtio_blk.h and virtio_net.h have them", () => {
  assert.deepEqual([BlockRequestHeader.size, BlockRange.size, NetHeader.size], [16, 16, 12]);
  assert.deepEqual([availBytes(256), usedBytes(256)], [518, 2054]);
  const { capacity, seg_max, blk_size, writeback, num_queues, max_discard_sectors, write_zeroes_may_unmap } =
    BlockConfig.offsets;
  assert.deepEqual(
    [capacity, seg_max, blk_size, writeback, num_queues, max_discard_sectors, write_zeroes_may_unmap],
    [0, 12, 20, 32, 34, 36, 56],
  );
  const { status, max_virtqueue_pairs, mtu, speed, duplex } = NetConfig.offsets;
  assert.deepEqual([status, max_virtqueue_pairs, mtu, speed, duplex], [6, 8, 10, 12, 16]);
  // Section 5.1.6.2: TCP over IPv4, its checksum 16 bytes into a header that begins at 34.
  assert.deepEqual(
    [...NetHeader.bytes({ flags: 1, csum_start: 34, csum_offset: 16 })],
    [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0],
  );
  assert.deepEqual(
    [...BlockRequestHeader.bytes({ type: 1, sector: 0x0102_0304_0506n })],
    [1, 0, 0, 0, 0, 0, 0, 0, 6, 5, 4, 3, 2, 1, 0, 0],
  );
  assert.equal(VirtioCommon.ADMIN_QUEUE_NUM + 2, VIRTIO_COMMON_SIZE);
});

test("events: the first buffer and the 65,536th for an event of 0, as section 2.7.7.2 has it", () => {
  assert.equal(eventPassed(0, 1, 0), true);
  assert.equal(eventPassed(0, 2, 1), false);
  assert.equal(eventPassed(0, 0, 0xffff), false);
  assert.equal(eventPassed(0, 1, 0xfff0), true);
  assert.equal(eventPassed(0xffff, 0, 0xffff), true);
});

test("feature sets: two words of 32 bits", () => {
  const features = new FeatureSet([0, 31, Feature.VERSION_1, 63]);
  assert.deepEqual([features.word(0), features.word(1), features.word(2)], [0x8000_0001, 0x8000_0001, 0]);
  assert.ok(features.has(63) && !features.has(62) && !features.has(Feature.RING_PACKED));
  assert.ok(new FeatureSet([31]).within(features));
  assert.ok(!new FeatureSet([30]).within(features));
  assert.throws(() => features.add(64), RangeError);
  assert.equal(BlockFeature.MQ, 12);
  for (const [feature, oneOf] of NET_FEATURE_NEEDS) assert.ok(!oneOf.includes(feature));
  assert.ok(NET_FEATURE_NEEDS.some(([feature]) => feature === NetFeature.MQ));
});
