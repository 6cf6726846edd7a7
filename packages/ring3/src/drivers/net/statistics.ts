// Counters of queues and devices, where none has counted yet, and added up.
import type { NetQueueStatistics, NetStatistics } from "./device.ts";

/** A device that has counted nothing. */
export const NO_STATISTICS: NetStatistics = {
  rx_packets: 0,
  tx_packets: 0,
  rx_bytes: 0,
  tx_bytes: 0,
  rx_errors: 0,
  tx_errors: 0,
  rx_dropped: 0,
  tx_dropped: 0,
  multicast: 0,
  collisions: 0,
  rx_length_errors: 0,
  rx_crc_errors: 0,
  rx_missed_errors: 0,
  device: {},
};

/** What several queues counted together. */
export function queueTotals(queues: readonly { statistics(): NetQueueStatistics }[]): NetQueueStatistics {
  const counted = queues.map((queue) => queue.statistics());
  const total = (name: keyof NetQueueStatistics): number => counted.reduce((sum, queue) => sum + queue[name], 0);
  return {
    rx_packets: total("rx_packets"),
    rx_bytes: total("rx_bytes"),
    tx_packets: total("tx_packets"),
    tx_bytes: total("tx_bytes"),
    rx_errors: total("rx_errors"),
    rx_length_errors: total("rx_length_errors"),
    rx_no_buffer: total("rx_no_buffer"),
    tx_errors: total("tx_errors"),
  };
}
