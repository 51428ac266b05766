/** Functions of the libraries that Node has inside, which it keeps for addons, through koffi. */
import koffi from 'koffi'

export type NativeCall = ReturnType<ReturnType<typeof koffi.load>['func']>

/** What `load` looks up in this program; undefined where it was built without one of them. */
export function ownFunctions<T>(load: (find: (signature: string) => NativeCall) => T): T | undefined {
  const own = koffi.load(null)
  try {
    return load((signature) => own.func(signature))
  } catch {
    return undefined // koffi says so by an Error without a code
  }
}

/** The caller must use the memory that is worked on afterwards, or the collector may take it meanwhile. */
export function inPool(call: NativeCall, ...args: unknown[]): Promise<number | bigint> {
  return new Promise((resolve, reject) => {
    call.async(...args, (error: unknown, result: number | bigint) => (error ? reject(error) : resolve(result)))
  })
}
