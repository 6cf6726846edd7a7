// The mailbox between a virtual function and its physical function: 82576 datasheet 2.63, section 7.10.2.9 for the
// registers; the messages are an agreement of the drivers, here as the igb and igbvf drivers of Linux have it.
import { type Fields, fields } from "../../binary/layout.ts";

const mailboxBits = { REQ: [0], ACK: [1], VFU: [2], PFU: [3], PFSTS: [4], PFACK: [5], RSTI: [6], RSTD: [7] } as const;
/** V2PMAILBOX, section 8.26.3. A read clears PFSTS, PFACK and RSTD. */
export const V2pMailbox: Fields<typeof mailboxBits> = fields(mailboxBits);
export const MAILBOX_WORDS = 16;

/** The first word of a message: what is asked in 15:0, more about it in 23:16. */
export const MailboxMessage = {
  RESET: 0x01,
  SET_MAC: 0x02,
  SET_MULTICAST: 0x03,
  SET_VLAN: 0x04,
  SET_LPE: 0x05,
  SET_PROMISCUOUS: 0x06,
  /** From the physical function: it was reset, or the link changed. */
  PF_CONTROL: 0x0100,
  INFO_SHIFT: 16,
  /** In SET_PROMISCUOUS: all multicast frames. */
  PROMISCUOUS_MULTICAST: 0x2_0000,
} as const;
/** What the answer joins to the first word: done, refused, and that the two still understand each other. */
export const MailboxAnswer = { ACK: 0x8000_0000, NACK: 0x4000_0000, CTS: 0x2000_0000 } as const;
/** Hashes of multicast addresses that one message holds. */
export const MAILBOX_MULTICAST = 30;
