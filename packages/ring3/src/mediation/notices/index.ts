export type { Notice } from "./book.ts";
export { NoticeBroker, type NoticeBrokerOptions, type NoticeConnection, type NoticeTimers } from "./broker.ts";
export {
  type ErrorStage,
  type ErrorVote,
  NOTICE_KINDS,
  type NoticeAnswer,
  type NoticeKind,
  type SuspendAnswer,
  worstVote,
} from "./kinds.ts";
export { LineReader } from "./lines.ts";
export {
  isNoticeMessage,
  MESSAGE_BYTES,
  parseMessage,
  parseRequest,
  REQUEST_BYTES,
  requestId,
  type ServiceMessage,
  type UserRequest,
} from "./messages.ts";
export {
  type ErrorOutcome,
  type FunctionUser,
  type NoticeOutcome,
  type NoticeUser,
  outcomeText,
  type RemovalOutcome,
  type SuspendOutcome,
} from "./outcome.ts";
