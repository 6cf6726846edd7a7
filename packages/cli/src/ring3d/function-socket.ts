// Who gets at a function's socket at all, by the file system.
import type { ServeOptions } from "ring3/vfio-user";
import type { UserSet } from "./user-set.ts";

/** The socket's permissions, as narrow as the file system can say it; everybody is asked who they are besides. */
export function socketAccess({ uids, gids }: UserSet): Pick<ServeOptions, "mode" | "owner"> {
  const self = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
  const [uid] = uids;
  const [gid] = gids;
  if (uid !== undefined && uids.length === 1 && gids.length === 0 && (uid === self.uid || self.uid === 0)) {
    return { mode: 0o600, ...(uid === self.uid ? {} : { owner: { uid, gid: self.gid } }) };
  }
  if (gid !== undefined && gids.length === 1 && uids.length === 0 && self.uid === 0) {
    return { mode: 0o660, owner: { uid: self.uid, gid } };
  }
  return { mode: 0o666 };
}
