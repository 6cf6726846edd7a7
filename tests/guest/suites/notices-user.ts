// A user of one function behind ring3d. Words: the users' socket, the function's name and socket, and as JSON what it does at each
// notice that it wants: an answer, `close`, or nothing. It prints `ready`, and what it hears.
import { ServiceUser } from "../../../packages/ring3/src/ring3d-user.ts";
import type { NoticeAnswer, NoticeKind } from "../../../packages/ring3/src/mediation/notices/index.ts";
import { connect } from "../../../packages/ring3/src/vfio-user/index.ts";

const [users = "", name = "", socket = "", given = "{}"] = process.argv.slice(2);
const doing = JSON.parse(given) as Readonly<Partial<Record<NoticeKind, NoticeAnswer | "close" | "">>>;
const fn = await connect(socket, { timeoutMs: 60_000 });
const user = new ServiceUser(users, {
  onNotice: ({ notice, kind }) => {
    console.log(`heard ${kind}`);
    const action = doing[kind] ?? "";
    if (action === "close") void fn[Symbol.asyncDispose]();
    else if (action !== "") void user.reply(notice, action, "because").catch(console.log);
  },
});
// Whoever is disconnected by force goes on listening.
fn.gone.addEventListener("abort", () => console.log(`gone ${String(fn.gone.reason)}`));
await user.register(name, Object.keys(doing) as NoticeKind[]);
console.log(`ready ${process.pid}`);
