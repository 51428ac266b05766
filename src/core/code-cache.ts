/** Keeps compiled code from one start to the next. Called before anything heavy is imported. */
import { enableCompileCache } from 'node:module'

export function keepCode(): void {
  enableCompileCache(process.env.NODE_COMPILE_CACHE || ownCodeFolder())
}

/** Where only its owner can write: a cache in a shared folder could be filled by somebody else. */
export function ownCodeFolder(): string {
  const { env } = process
  if (process.geteuid?.() === 0) return '/var/cache/darner/code'
  return `${env.XDG_CACHE_HOME || `${env.HOME || process.getBuiltinModule('node:os').homedir()}/.cache`}/darner/code`
}
