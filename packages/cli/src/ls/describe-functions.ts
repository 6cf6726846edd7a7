// What `ring3 ls` says of each function. What it needs of the library is named one by one, so that the published command
// loads that and nothing else: a listing takes little longer than starting Node.
import {
  currentUser,
  FunctionNames,
  functionAccess,
  type HostFunction,
  hostPaths,
  isVfioDriver,
  listFunctions,
  lookUpUser,
  readFunction,
  readGroup,
  userName,
} from "ring3/host";
import type { Context } from "../context.ts";

/** A function as `ls --json` prints it. */
export type DescribedFunction = HostFunction & {
  readonly className: string;
  readonly vendorName: string | undefined;
  readonly deviceName: string | undefined;
  readonly bound: boolean;
  readonly group:
    | {
        readonly id: number;
        readonly type: string | undefined;
        readonly viable: boolean;
        readonly members: readonly string[];
      }
    | undefined;
  readonly access: {
    readonly user: { readonly name: string | undefined; readonly uid: number };
    readonly open: boolean;
    readonly owners: readonly { readonly uid: number; readonly name: string | undefined }[];
    readonly reason: string | undefined;
    readonly interfaces: readonly {
      readonly interface: string;
      readonly open: boolean;
      readonly nodes: readonly string[];
    }[];
  };
};

/** The functions at `addresses`, by default all; access is judged for `asked`, by default the calling user. */
export function describeFunctions(
  context: Context,
  addresses: readonly string[],
  asked: string | undefined,
): DescribedFunction[] {
  const paths = hostPaths(context.root);
  const user = asked === undefined ? currentUser(paths) : lookUpUser(asked, paths);
  const names = new FunctionNames();
  const functions =
    addresses.length === 0 ? listFunctions(paths) : addresses.map((address) => readFunction(address, paths));
  return functions.map((fn) => {
    const access = functionAccess(fn, user, paths);
    const group = fn.iommuGroup === undefined ? undefined : readGroup(fn.iommuGroup, paths);
    return {
      ...fn,
      className: names.class(fn.classCode),
      vendorName: names.vendor(fn.vendorId),
      deviceName: names.device(fn.vendorId, fn.deviceId),
      bound: fn.driver !== undefined && (isVfioDriver(fn.driver) || fn.vfioDevice !== undefined),
      group:
        group === undefined
          ? undefined
          : { id: group.id, type: group.type, viable: group.viable, members: group.members.map(({ name }) => name) },
      access: {
        user: { name: user.name, uid: user.uid },
        open: access.open,
        owners: access.owners.map((uid) => ({ uid, name: userName(uid, paths) })),
        reason: access.reason,
        interfaces: access.paths.map((path) => {
          return { interface: path.interface, open: path.open, nodes: path.nodes.map((node) => node.path) };
        }),
      },
    };
  });
}
